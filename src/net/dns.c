/* The cache of host names; see net/dns.h. */
#include "net/dns.h"

#include "core/check.h"
#include "core/map.h"
#include "core/memory.h"

#include <pthread.h>
#include <stdio.h>

/* Names come from the configuration alone; one that is used no more goes with the next sweep. */
#define NAMES_SWEPT 64

struct name {
    struct map_node node; /* its key is the host */
    char *host;
    uint64_t asked_us;
    unsigned turn;
    unsigned count; /* 0: there was none */
    char (*addresses)[DNS_ADDRESS_SIZE];
};

struct dns {
    pthread_mutex_t lock;
    struct map names;
    uint64_t max_us;
    uint64_t nxdomain_us;
    int asking;
};

static void lock(struct dns *dns) {
    CHECK(pthread_mutex_lock(&dns->lock) == 0);
}

static void unlock(struct dns *dns) {
    CHECK(pthread_mutex_unlock(&dns->lock) == 0);
}

struct dns *dns_new(void) {
    struct dns *dns = memory_new(sizeof *dns);
    CHECK(pthread_mutex_init(&dns->lock, NULL) == 0);
    return dns;
}

static void name_free(struct dns *dns, struct name *name) {
    map_remove(&dns->names, &name->node);
    memory_free((void *)name->addresses);
    memory_free(name->host);
    memory_free(name);
}

/* What is left of the time for which a name is believed. */
static uint64_t ttl_us(const struct dns *dns, const struct name *name, uint64_t now_us) {
    uint64_t limit_us = name->count > 0 ? dns->max_us : dns->nxdomain_us;
    uint64_t age_us = now_us > name->asked_us ? now_us - name->asked_us : 0;
    return age_us < limit_us ? limit_us - age_us : 0;
}

static void each_name(struct dns *dns,
                      void (*visit)(struct dns *dns, struct name *name, void *context),
                      void *context) {
    const struct map_node *node = map_next(&dns->names, NULL);
    while (node != NULL) {
        struct name *name = MAP_OWNER(node, struct name, node);
        node = map_next(&dns->names, node);
        visit(dns, name, context);
    }
}

static void free_one(struct dns *dns, struct name *name, void *context) {
    (void)context;
    name_free(dns, name);
}

static void sweep_one(struct dns *dns, struct name *name, void *context) {
    if (ttl_us(dns, name, *(uint64_t *)context) == 0) name_free(dns, name);
}

void dns_free(struct dns **dns_at) {
    struct dns *dns = *dns_at;
    if (dns == NULL) return;
    *dns_at = NULL;
    each_name(dns, free_one, NULL);
    map_release(&dns->names);
    CHECK(pthread_mutex_destroy(&dns->lock) == 0);
    memory_free(dns);
}

void dns_set_ttls(struct dns *dns, uint64_t max_us, uint64_t nxdomain_us) {
    lock(dns);
    dns->max_us = max_us;
    dns->nxdomain_us = nxdomain_us;
    unlock(dns);
}

static struct name *find(const struct dns *dns, const char *host) {
    struct map_node *node = map_find(&dns->names, bytes_of_text(host));
    return node == NULL ? NULL : MAP_OWNER(node, struct name, node);
}

enum dns_result dns_take(struct dns *dns, const char *host, uint64_t now_us, bool takes_turns,
                         char address[DNS_ADDRESS_SIZE]) {
    enum dns_result result = DNS_UNKNOWN;
    lock(dns);
    struct name *name = find(dns, host);
    if (name != NULL && ttl_us(dns, name, now_us) > 0) {
        result = name->count > 0 ? DNS_FOUND : DNS_FAILED;
        if (name->count > 0)
            memcpy(address, name->addresses[takes_turns ? name->turn++ % name->count : 0],
                   DNS_ADDRESS_SIZE);
    }
    unlock(dns);
    return result;
}

void dns_put(struct dns *dns, const char *host, uint64_t now_us,
             const char (*addresses)[DNS_ADDRESS_SIZE], unsigned count) {
    CHECK(count <= DNS_ADDRESSES_MAX);
    lock(dns);
    struct name *name = find(dns, host);
    if (name == NULL) {
        if (dns->names.count % NAMES_SWEPT == NAMES_SWEPT - 1) each_name(dns, sweep_one, &now_us);
        name = memory_new(sizeof *name);
        name->host = memory_copy_text(host);
        map_add(&dns->names, &name->node, bytes_of_text(name->host));
    }
    name->asked_us = now_us;
    name->count = count;
    name->addresses = memory_resize((void *)name->addresses, (count + 1) * DNS_ADDRESS_SIZE);
    if (count > 0)
        memcpy((void *)name->addresses, (const void *)addresses, count * DNS_ADDRESS_SIZE);
    unlock(dns);
}

void dns_asking(struct dns *dns, int change) {
    lock(dns);
    dns->asking += change;
    unlock(dns);
}

void dns_each(struct dns *dns, uint64_t now_us,
              void (*visit)(void *owner, const struct dns_view *view), void *owner) {
    lock(dns);
    const struct map_node *node = map_next(&dns->names, NULL);
    for (; node != NULL; node = map_next(&dns->names, node)) {
        const struct name *name = MAP_OWNER(node, struct name, node);
        struct dns_view view = {.host = name->host,
                                .ttl_us = ttl_us(dns, name, now_us),
                                .addresses = (const char(*)[DNS_ADDRESS_SIZE])name->addresses,
                                .count = name->count};
        if (view.ttl_us > 0) visit(owner, &view);
    }
    unlock(dns);
}

static void count_one(void *owner, const struct dns_view *view) {
    (void)view;
    ((struct dns_counts *)owner)->names++;
}

struct dns_counts dns_count(struct dns *dns, uint64_t now_us) {
    struct dns_counts counts = {0};
    dns_each(dns, now_us, count_one, &counts);
    lock(dns);
    counts.asking = dns->asking;
    unlock(dns);
    return counts;
}
