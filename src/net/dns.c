/*
 * The cache of host names; see net/dns.h.
 *
 * Names come from the configuration alone. They stay, believed or not, as they do in PgBouncer's
 * views, until there are so many that reloads must have brought them: then those that are not
 * believed go, and with its last name its zone.
 *
 * The addresses of a name are those of its last answer, also after a failure: only an answer can
 * tell that a name has moved away from one.
 */
#include "net/dns.h"

#include "core/check.h"
#include "core/list.h"
#include "core/map.h"
#include "core/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#define NAMES_KEPT 1024u

struct zone {
    struct link link; /* in their order */
    char *text;
    uint32_t serial;
    bool is_known; /* its serial was told */
    unsigned hosts;
};

struct name {
    struct map_node node; /* its key is the host */
    struct link link;     /* in their order */
    struct zone *zone;    /* or NULL */
    char *host;
    uint64_t asked_us;
    bool is_answered;
    const char *why; /* the last question has failed: the reason */
    unsigned turn;
    unsigned count; /* of the last answer that had any */
    char (*addresses)[DNS_ADDRESS_SIZE];
};

struct dns {
    pthread_mutex_t lock;
    struct map by_host;
    struct list names;
    struct list zones;
    uint64_t max_us;
    uint64_t nxdomain_us;
    int asking;
    _Atomic uint32_t changes;
};

static void lock(struct dns *dns) {
    CHECK(pthread_mutex_lock(&dns->lock) == 0);
}

static void unlock(struct dns *dns) {
    CHECK(pthread_mutex_unlock(&dns->lock) == 0);
}

struct dns *dns_new(void) {
    struct dns *dns = memory_new(sizeof *dns);
    list_init(&dns->names);
    list_init(&dns->zones);
    CHECK(pthread_mutex_init(&dns->lock, NULL) == 0);
    return dns;
}

/* ---- zones */

/* The first zone that does not come before `text`, or NULL. */
static struct zone *zone_from(const struct dns *dns, const char *text) {
    LIST_EACH (&dns->zones, l) {
        struct zone *zone = LIST_OWNER(l, struct zone, link);
        if (strcasecmp(zone->text, text) >= 0) return zone;
    }
    return NULL;
}

static struct zone *zone_find(const struct dns *dns, const char *text) {
    struct zone *zone = zone_from(dns, text);
    return zone != NULL && strcasecmp(zone->text, text) == 0 ? zone : NULL;
}

/* The zone of a name, made if need be; NULL if it has none. */
static struct zone *zone_of(struct dns *dns, const char *host) {
    const char *dot = strchr(host, '.');
    if (dot == NULL || dot[1] == '\0') return NULL;
    struct zone *next = zone_from(dns, dot + 1);
    if (next != NULL && strcasecmp(next->text, dot + 1) == 0) return next;
    struct zone *zone = memory_new(sizeof *zone);
    zone->text = memory_copy_text(dot + 1);
    list_insert_before(&dns->zones, next == NULL ? &dns->zones.head : &next->link, &zone->link);
    return zone;
}

static void zone_leave(struct dns *dns, struct zone *zone) {
    if (zone == NULL || --zone->hosts > 0) return;
    list_remove(&dns->zones, &zone->link);
    memory_free(zone->text);
    memory_free(zone);
}

bool dns_zone_at(struct dns *dns, size_t index, char zone[DNS_NAME_SIZE]) {
    lock(dns);
    bool is_there = index < dns->zones.count;
    struct link *l = list_first(&dns->zones);
    for (size_t i = 0; is_there && i < index; i++) l = l->next;
    if (is_there) (void)snprintf(zone, DNS_NAME_SIZE, "%s", LIST_OWNER(l, struct zone, link)->text);
    unlock(dns);
    return is_there;
}

bool dns_zone_note(struct dns *dns, const char *zone, uint32_t serial, uint32_t *old) {
    lock(dns);
    struct zone *found = zone_find(dns, zone);
    bool is_news = found != NULL && (!found->is_known || (int32_t)(serial - found->serial) > 0);
    if (is_news) {
        *old = found->serial;
        found->serial = serial;
        found->is_known = true;
    }
    unlock(dns);
    return is_news;
}

void dns_zone_hosts(struct dns *dns, const char *zone, struct buf *hosts) {
    lock(dns);
    const struct zone *found = zone_find(dns, zone);
    LIST_EACH (&dns->names, l) {
        const struct name *name = LIST_OWNER(l, struct name, link);
        if (found != NULL && name->zone == found)
            buf_append(hosts, name->host, strlen(name->host) + 1);
    }
    unlock(dns);
}

/* ---- names */

static void name_free(struct dns *dns, struct name *name) {
    map_remove(&dns->by_host, &name->node);
    list_remove(&dns->names, &name->link);
    zone_leave(dns, name->zone);
    memory_free((void *)name->addresses);
    memory_free(name->host);
    memory_free(name);
}

void dns_free(struct dns **dns_at) {
    struct dns *dns = *dns_at;
    if (dns == NULL) return;
    *dns_at = NULL;
    struct link *l;
    while ((l = list_first(&dns->names)) != NULL) name_free(dns, LIST_OWNER(l, struct name, link));
    map_release(&dns->by_host);
    CHECK(pthread_mutex_destroy(&dns->lock) == 0);
    memory_free(dns);
}

/* What is left of the time for which a name is believed. */
static uint64_t ttl_us(const struct dns *dns, const struct name *name, uint64_t now_us) {
    uint64_t limit_us = name->why == NULL ? dns->max_us : dns->nxdomain_us;
    uint64_t age_us = now_us > name->asked_us ? now_us - name->asked_us : 0;
    return name->is_answered && age_us < limit_us ? limit_us - age_us : 0;
}

static void sweep(struct dns *dns, uint64_t now_us) {
    LIST_EACH_SAFE (&dns->names, l, following) {
        struct name *name = LIST_OWNER(l, struct name, link);
        if (ttl_us(dns, name, now_us) == 0) name_free(dns, name);
    }
}

void dns_set_ttls(struct dns *dns, uint64_t max_us, uint64_t nxdomain_us) {
    lock(dns);
    dns->max_us = max_us;
    dns->nxdomain_us = nxdomain_us;
    unlock(dns);
}

static struct name *find(const struct dns *dns, const char *host) {
    struct map_node *node = map_find(&dns->by_host, bytes_of_text(host));
    return node == NULL ? NULL : MAP_OWNER(node, struct name, node);
}

/* The name, made if need be. */
static struct name *get(struct dns *dns, const char *host) {
    struct name *name = find(dns, host);
    if (name != NULL) return name;
    name = memory_new(sizeof *name);
    name->host = memory_copy_text(host);
    name->zone = zone_of(dns, name->host);
    if (name->zone != NULL) name->zone->hosts++;
    map_add(&dns->by_host, &name->node, bytes_of_text(name->host));
    struct link *place = dns->names.head.next;
    while (place != &dns->names.head &&
           strcmp(LIST_OWNER(place, struct name, link)->host, host) < 0)
        place = place->next;
    list_insert_before(&dns->names, place, &name->link);
    return name;
}

enum dns_result dns_take(struct dns *dns, const char *host, uint64_t now_us, bool takes_turns,
                         struct dns_found *found) {
    enum dns_result result = DNS_UNKNOWN;
    lock(dns);
    struct name *name = find(dns, host);
    if (name != NULL && name->is_answered &&
        (now_us == DNS_ANY_AGE || ttl_us(dns, name, now_us) > 0)) {
        result = name->why == NULL ? DNS_FOUND : DNS_FAILED;
        found->why = name->why;
        if (name->why == NULL)
            memcpy(found->address, name->addresses[takes_turns ? name->turn++ % name->count : 0],
                   DNS_ADDRESS_SIZE);
    }
    unlock(dns);
    return result;
}

void dns_note(struct dns *dns, const char *host) {
    lock(dns);
    (void)get(dns, host);
    unlock(dns);
}

static bool has(const char (*addresses)[DNS_ADDRESS_SIZE], unsigned count, const char *address) {
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(addresses[i], address) == 0) return true;
    }
    return false;
}

static void take_addresses(struct dns *dns, struct name *name, const struct dns_answer *answer) {
    bool has_left = false;
    for (unsigned i = 0; i < name->count; i++)
        has_left = has_left || !has(answer->addresses, answer->count, name->addresses[i]);
    name->count = answer->count;
    name->addresses = memory_resize((void *)name->addresses, answer->count * DNS_ADDRESS_SIZE);
    memcpy((void *)name->addresses, (const void *)answer->addresses,
           answer->count * DNS_ADDRESS_SIZE);
    if (has_left) atomic_fetch_add(&dns->changes, 1);
}

void dns_put(struct dns *dns, const char *host, uint64_t now_us, const struct dns_answer *answer) {
    CHECK(answer->count <= DNS_ADDRESSES_MAX);
    CHECK((answer->count == 0) == (answer->why != NULL));
    lock(dns);
    if (dns->names.count > NAMES_KEPT) sweep(dns, now_us);
    struct name *name = get(dns, host);
    name->asked_us = now_us;
    name->is_answered = true;
    name->why = answer->why;
    if (answer->count > 0) take_addresses(dns, name, answer);
    unlock(dns);
}

void dns_asking(struct dns *dns, int change) {
    lock(dns);
    dns->asking += change;
    unlock(dns);
}

uint32_t dns_changes(const struct dns *dns) {
    return atomic_load(&dns->changes);
}

bool dns_has_left(struct dns *dns, const char *host, const char *address) {
    lock(dns);
    const struct name *name = find(dns, host);
    bool is_known = name != NULL && name->is_answered && name->why == NULL;
    bool is_there =
        is_known && has((const char(*)[DNS_ADDRESS_SIZE])name->addresses, name->count, address);
    unlock(dns);
    return is_known && !is_there;
}

/* ---- views */

void dns_each(struct dns *dns, uint64_t now_us,
              void (*visit)(void *owner, const struct dns_view *view), void *owner) {
    lock(dns);
    LIST_EACH (&dns->names, l) {
        const struct name *name = LIST_OWNER(l, struct name, link);
        struct dns_view view = {.host = name->host,
                                .ttl_us = ttl_us(dns, name, now_us),
                                .addresses = (const char(*)[DNS_ADDRESS_SIZE])name->addresses,
                                .count = name->why == NULL ? name->count : 0};
        visit(owner, &view);
    }
    unlock(dns);
}

void dns_each_zone(struct dns *dns, void (*visit)(void *owner, const struct dns_zone_view *view),
                   void *owner) {
    lock(dns);
    LIST_EACH (&dns->zones, l) {
        const struct zone *zone = LIST_OWNER(l, struct zone, link);
        struct dns_zone_view view = {zone->text, zone->serial, zone->hosts};
        visit(owner, &view);
    }
    unlock(dns);
}

struct dns_counts dns_count(struct dns *dns) {
    lock(dns);
    struct dns_counts counts = {dns->names.count, dns->zones.count, dns->asking};
    unlock(dns);
    return counts;
}
