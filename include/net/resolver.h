/*
 * One loop's questions to name servers, asked by c-ares, whose only home this is.
 *
 * /etc/hosts comes first, as c-ares does it. Name servers are those of a file like resolv.conf,
 * which is read once, when the resolver is made. What is found goes into the cache of all loops
 * (net/dns.h). While a name is being asked for, nobody asks for it again on the same loop.
 */
#ifndef WEIR_NET_RESOLVER_H
#define WEIR_NET_RESOLVER_H

#include "core/list.h"

#include <stdint.h>

struct dns;
struct loop;
struct resolver;

/* That of c-ares: "1.18.1". */
const char *resolver_version(void);

/* A resolver for a loop, which finds it by loop_resolver from then on. `resolv_conf` empty: the
 * system's own file; one that cannot be read is as if it were empty. NULL if c-ares cannot be set
 * up, with its reason, a literal, in `error`. To be made and closed while there is one thread. */
struct resolver *resolver_new(struct loop *loop, struct dns *dns, const char *resolv_conf,
                              const char **error);

/* Nobody who still waits is told; *resolver becomes NULL. To be called before loop_free. */
void resolver_close(struct resolver **resolver);

struct dns *resolver_dns(const struct resolver *resolver);

/* Whoever waits for the answer to a question. `done` is called once, at the end of a turn, when the
 * cache has the answer. Zeroed links are of nobody who waits. */
struct resolver_wait {
    struct link link;
    struct list *list;
    void (*done)(struct resolver_wait *wait);
};

/* Asks for the addresses of a name; `wait` NULL: for the cache alone. */
void resolver_ask(struct resolver *resolver, const char *host, struct resolver_wait *wait);

/* Waits no more; the question goes on for the cache. Idempotent. */
void resolver_leave(struct resolver_wait *wait);

/* Asks for the serial of a zone. `done` gets it, or NULL if it could not be had, maybe from within
 * the call. */
void resolver_ask_serial(struct resolver *resolver, const char *zone,
                         void (*done)(void *owner, const uint32_t *serial), void *owner);

#endif
