/*
 * What host names stood for when they were looked up last: one cache for all loops of a process.
 *
 * The system's resolver tells no time to live, so an answer is believed for dns_max_ttl and a
 * failure for dns_nxdomain_ttl. Of a name with several addresses each new connection takes the
 * next one. The lock is held for a look into a map, when a connection begins, never longer.
 */
#ifndef WEIR_NET_DNS_H
#define WEIR_NET_DNS_H

#include "core/buf.h"

#define DNS_ADDRESSES_MAX 64 /* of one name; further ones are passed over */
#define DNS_ADDRESS_SIZE  64 /* of one as text, with its scope */

struct dns;

/* An empty cache that believes everything for 0 seconds. */
struct dns *dns_new(void);
void dns_free(struct dns **dns);

/* How long answers and failures are believed from now on, those that are there too. */
void dns_set_ttls(struct dns *dns, uint64_t max_us, uint64_t nxdomain_us);

enum dns_result {
    DNS_UNKNOWN, /* it has to be asked for */
    DNS_FOUND,   /* `address` was written */
    DNS_FAILED   /* it was asked for a moment ago, in vain */
};

/* An address of `host`: with `takes_turns` the next of several, else the first. */
enum dns_result dns_take(struct dns *dns, const char *host, uint64_t now_us, bool takes_turns,
                         char address[DNS_ADDRESS_SIZE]);

/* What a question has found; with a count of 0 it has failed. */
void dns_put(struct dns *dns, const char *host, uint64_t now_us,
             const char (*addresses)[DNS_ADDRESS_SIZE], unsigned count);

/* Counts questions under way. */
void dns_asking(struct dns *dns, int change);

/* One name that is believed: `ttl_us` is what is left. */
struct dns_view {
    const char *host;
    uint64_t ttl_us;
    const char (*addresses)[DNS_ADDRESS_SIZE];
    unsigned count;
};

/* Calls `visit` for each name, in no particular order, with the lock held. */
void dns_each(struct dns *dns, uint64_t now_us,
              void (*visit)(void *owner, const struct dns_view *view), void *owner);

struct dns_counts {
    size_t names;
    int asking;
};
struct dns_counts dns_count(struct dns *dns, uint64_t now_us);

#endif
