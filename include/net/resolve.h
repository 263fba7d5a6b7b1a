/*
 * From a host, as it stands in a configuration, to an address: numbers and socket directories are
 * their own, names come from the cache of the process (net/dns.h) or from the loop's resolver.
 */
#ifndef WEIR_NET_RESOLVE_H
#define WEIR_NET_RESOLVE_H

#include <stdbool.h>

struct loop;
struct resolve;

/* `done` is called once, never from within the call, with an address (borrowed), or with NULL and
 * what went wrong, which starts with "server DNS lookup failed". With `takes_turns` it is the next
 * address of several, else the first. The loop must have a resolver. */
struct resolve *resolve_begin(struct loop *loop, const char *host, bool takes_turns,
                              void (*done)(void *owner, const char *address, const char *error),
                              void *owner);

/* Gives up a lookup whose `done` was not called; *resolve becomes NULL. Idempotent. */
void resolve_close(struct resolve **resolve);

#endif
