/*
 * What host names stood for when they were looked up last: one cache for all loops of a process,
 * and the zones that its names belong to.
 *
 * An answer is believed for dns_max_ttl and a failure for dns_nxdomain_ttl, whatever DNS says about
 * it, as by PgBouncer. Of a name with several addresses each new connection takes the next one. The
 * lock is held for a look into a map, when a connection begins, never longer.
 */
#ifndef WEIR_NET_DNS_H
#define WEIR_NET_DNS_H

#include "core/buf.h"

#define DNS_ADDRESSES_MAX 64 /* of one name; further ones are passed over */
#define DNS_ADDRESS_SIZE  64 /* of one as text */
#define DNS_NAME_SIZE     256 /* of a name; the longest has 253 bytes as people write it (RFC 1035) */

struct dns;

/* An empty cache that believes everything for 0 seconds. */
struct dns *dns_new(void);
void dns_free(struct dns **dns);

/* How long answers and failures are believed from now on, those that are there too. */
void dns_set_ttls(struct dns *dns, uint64_t max_us, uint64_t nxdomain_us);

enum dns_result {
    DNS_UNKNOWN, /* it has to be asked for */
    DNS_FOUND,   /* `address` was written */
    DNS_FAILED   /* it was asked for in vain; `why` was set */
};

struct dns_found {
    char address[DNS_ADDRESS_SIZE];
    const char *why; /* a literal */
};

/* As the time of dns_take: the last answer counts, however old it is. */
#define DNS_ANY_AGE 0

/* An address of `host`: with `takes_turns` the next of several, else the first. */
enum dns_result dns_take(struct dns *dns, const char *host, uint64_t now_us, bool takes_turns,
                         struct dns_found *found);

/* A question for the name is about to be asked: the views show it from now on. */
void dns_note(struct dns *dns, const char *host);

/* What a question has found: addresses, or with a count of 0 the reason, a literal. */
struct dns_answer {
    const char (*addresses)[DNS_ADDRESS_SIZE];
    unsigned count;
    const char *why;
};
void dns_put(struct dns *dns, const char *host, uint64_t now_us, const struct dns_answer *answer);

/* Counts questions under way. */
void dns_asking(struct dns *dns, int change);

/* Counts answers that lack an address of the answer before. Any thread, without the lock. */
uint32_t dns_changes(const struct dns *dns);

/* Whether the address is none of a name whose addresses are known: it has moved away. */
bool dns_has_left(struct dns *dns, const char *host, const char *address);

/* The zone (what follows the first dot of a name) with that number, counted from 0 in their order;
 * false behind the last one. */
bool dns_zone_at(struct dns *dns, size_t index, char zone[DNS_NAME_SIZE]);

/* Notes a zone's serial. True if it is news: the first one, or a later one in the order of RFC
 * 1982; `old` is then the one before, at first 0. */
bool dns_zone_note(struct dns *dns, const char *zone, uint32_t serial, uint32_t *old);

/* Appends the names of a zone, each with a NUL behind it. */
void dns_zone_hosts(struct dns *dns, const char *zone, struct buf *hosts);

/* One name; `ttl_us` is how long it is still believed, 0 if it is not. */
struct dns_view {
    const char *host;
    uint64_t ttl_us;
    const char (*addresses)[DNS_ADDRESS_SIZE];
    unsigned count;
};

/* Calls `visit` for each name in their order, with the lock held. */
void dns_each(struct dns *dns, uint64_t now_us,
              void (*visit)(void *owner, const struct dns_view *view), void *owner);

struct dns_zone_view {
    const char *zone;
    uint32_t serial; /* 0: never told */
    unsigned hosts;
};
void dns_each_zone(struct dns *dns, void (*visit)(void *owner, const struct dns_zone_view *view),
                   void *owner);

struct dns_counts {
    size_t names;
    size_t zones;
    int asking;
};
struct dns_counts dns_count(struct dns *dns);

#endif
