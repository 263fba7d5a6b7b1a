/*
 * The registry of databases in use; see pool/database.h. One lock guards the map and the cluster
 * pointers; flags and generation are atomics that workers read without it.
 */
#include "pool/database.h"

#include "cluster/fitness.h"
#include "cluster/freshness.h"
#include "config/load.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

#include <pthread.h>
#include <stdlib.h>

/* Some message or view of worker 0's may still name a database that was just dropped. */
#define GONE_US (60 * (uint64_t)US_PER_S)

struct databases {
    pthread_mutex_t lock;
    struct list gone;
    struct map map;
    struct databases_ops ops;
};

uint32_t connection_next_id(void) {
    static _Atomic uint32_t last;
    return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

struct databases *databases_new(const struct databases_ops *ops) {
    struct databases *databases = memory_new(sizeof *databases);
    CHECK(pthread_mutex_init(&databases->lock, NULL) == 0);
    databases->ops = *ops;
    list_init(&databases->gone);
    return databases;
}

static void database_free(struct database *database) {
    cluster_free(&database->cluster);
    memory_free(database->name);
    memory_free(database);
}

void databases_free(struct databases **databases_at) {
    struct databases *databases = *databases_at;
    if (databases == NULL) return;
    *databases_at = NULL;
    struct map_node *node = map_next(&databases->map, NULL);
    while (node != NULL) {
        struct database *database = MAP_OWNER(node, struct database, node);
        node = map_next(&databases->map, node);
        map_remove(&databases->map, &database->node);
        database_free(database);
    }
    struct link *l;
    while ((l = list_pop(&databases->gone)) != NULL)
        database_free(LIST_OWNER(l, struct database, gone));
    map_release(&databases->map);
    CHECK(pthread_mutex_destroy(&databases->lock) == 0);
    memory_free(databases);
}

static bool entry_is_routed(const struct config *config, const struct config_database *entry) {
    return config_routing(config, entry, NULL) != ROUTING_OFF;
}

static struct cluster_member member_of(const struct config *config,
                                       const struct config_host *host) {
    return (struct cluster_member){.host = host->name,
                                   .port = (unsigned)host->port,
                                   .weight =
                                       (unsigned)config_node_weight(config, host->name, host->port),
                                   .zone = config_node_zone(config, host->name, host->port),
                                   .is_far = config_node_is_far(config, host->name, host->port)};
}

/* Without routing a list of hosts is one pool whose connections go round; with it each host is a
 * node. Either way the cluster has a node for each host; see pool_node_of_turn. */
static struct cluster *make_cluster(const char *name, const struct config *config,
                                    const struct config_database *entry) {
    struct cluster_member members[CONFIG_HOSTS_MAX];
    size_t count = entry->hosts_count;
    for (size_t i = 0; i < count; i++) members[i] = member_of(config, &entry->hosts[i]);
    return cluster_new(name, members, count, entry_is_routed(config, entry));
}

/* The same nodes may have other weights and zones. */
static void weigh_nodes(struct cluster *cluster, const struct config *config,
                        const struct config_database *entry) {
    for (size_t i = 0; i < entry->hosts_count; i++) {
        struct cluster_member member = member_of(config, &entry->hosts[i]);
        node_weigh(cluster_node(cluster, i), &member);
    }
}

static int compare_hosts(const void *a, const void *b) {
    const struct config_host *one = a, *other = b;
    int order = strcmp(one->name, other->name);
    return order != 0 ? order : (one->port > other->port) - (one->port < other->port);
}

/* What names the floors: the nodes, in whatever order, and the database's name on them. Entries
 * that lead to the same database share its floors, so that a read through one sees what was
 * written through another. */
static uint64_t hash_floors(const struct config_database *entry, struct bytes name) {
    struct config_host hosts[CONFIG_HOSTS_MAX];
    struct buf text = {0};
    memcpy(hosts, entry->hosts, entry->hosts_count * sizeof *hosts);
    qsort(hosts, entry->hosts_count, sizeof *hosts, compare_hosts);
    buf_append_bytes(&text, config_dbname(entry, name));
    for (size_t i = 0; i < entry->hosts_count; i++)
        buf_append_format(&text, "\n%s:%d", hosts[i].name, hosts[i].port);
    uint64_t hash = bytes_hash(buf_content(&text));
    buf_release(&text);
    return hash;
}

static bool is_auto_entry(const struct config_database *entry) {
    return strcmp(entry->entry.name, "*") == 0;
}

static struct database *make(struct databases *databases, const struct config *config,
                             const struct config_database *entry, struct bytes name) {
    struct database *database = memory_new(sizeof *database);
    database->name = memory_copy(name.at, name.len);
    database->hash = hash_floors(entry, name);
    database->cluster = make_cluster(database->name, config, entry);
    atomic_store(&database->is_auto, is_auto_entry(entry));
    atomic_store(&database->used_us, clock_monotonic_us());
    map_add(&databases->map, &database->node, bytes_of(database->name, name.len));
    databases->ops.cluster_made(databases->ops.owner, database, entry);
    return database;
}

static struct database *get_locked(struct databases *databases, const struct config *config,
                                   struct bytes name) {
    const struct config_database *entry = config_database(config, name);
    struct map_node *node = map_find(&databases->map, name);
    if (entry == NULL) return NULL;
    if (node != NULL) return MAP_OWNER(node, struct database, node);
    return make(databases, config, entry, name);
}

struct database *databases_get(struct databases *databases, const struct config *config,
                               struct bytes name) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct database *database = get_locked(databases, config, name);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
    return database;
}

struct database *databases_find(struct databases *databases, struct bytes name) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct map_node *node = map_find(&databases->map, name);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
    return node == NULL ? NULL : MAP_OWNER(node, struct database, node);
}

struct database *databases_hold(struct databases *databases, const struct config *config,
                                struct bytes name) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct database *database = get_locked(databases, config, name);
    if (database != NULL) {
        database_hold(database);
        atomic_store(&database->is_idle, false);
        atomic_store(&database->used_us, clock_monotonic_us());
    }
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
    return database;
}

void database_hold(struct database *database) {
    atomic_fetch_add(&database->holders, 1);
}

void database_release(struct database *database) {
    unsigned held = atomic_fetch_sub(&database->holders, 1);
    CHECK(held > 0);
}

struct cluster *database_cluster(struct databases *databases, struct database *database) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct cluster *cluster = cluster_share(database->cluster);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
    return cluster;
}

/* Whether the nodes of an entry are others in another snapshot. */
static bool hosts_differ(const struct config_database *a, const struct config_database *b) {
    if (a->hosts_count != b->hosts_count) return true;
    for (size_t i = 0; i < a->hosts_count; i++) {
        const struct config_host *old = &a->hosts[i];
        const struct config_host *new = &b->hosts[i];
        if (old->port != new->port || strcmp(old->name, new->name) != 0) return true;
    }
    return false;
}

static void log_dropping(const char *name) {
    log_line(LOG_LEVEL_WARNING,
             "dropping database '%s' as it does not exist anymore or inactive auto-database", name);
}

static void apply_one(struct databases *databases, struct database *database,
                      const struct config *from, const struct config *to) {
    struct bytes name = bytes_of_text(database->name);
    const struct config_database *old = config_database(from, name);
    const struct config_database *new = config_database(to, name);
    if (new == NULL) {
        if (atomic_exchange(&database->is_removed, true)) return;
        atomic_fetch_add(&database->generation, 1); /* its servers end when they are released */
        if (atomic_load(&database->is_auto)) log_dropping(database->name);
        return;
    }
    atomic_store(&database->is_auto, is_auto_entry(new));
    atomic_store(&database->is_removed, false);
    bool is_moved = old == NULL || hosts_differ(old, new) ||
                    entry_is_routed(from, old) != entry_is_routed(to, new);
    if (is_moved) {
        cluster_free(&database->cluster);
        database->cluster = make_cluster(database->name, to, new);
        databases->ops.cluster_made(databases->ops.owner, database, new);
    } else {
        weigh_nodes(database->cluster, to, new);
    }
    uint64_t hash = hash_floors(new, name);
    if (hash != database->hash) {
        /* What was written there before is not known: everything. */
        database->hash = hash;
        (void)freshness_raise(hash, NULL);
    }
    if (is_moved || config_is_reconnect_needed(old, new))
        atomic_fetch_add(&database->generation, 1);
}

/* Tells of the entries that are gone, whether they were in use or not. */
static void log_removed(const struct config *from, const struct config *to) {
    for (size_t i = 0; i < from->entries[SETTING_SCOPE_DATABASE].count; i++) {
        const char *name = config_database_at(from, i)->entry.name;
        if (config_database(to, bytes_of_text(name)) == NULL && strcmp(name, "*") != 0)
            log_dropping(name);
    }
}

void databases_apply(struct databases *databases, const struct config *from,
                     const struct config *to) {
    log_removed(from, to);
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct map_node *node = map_next(&databases->map, NULL);
    for (; node != NULL; node = map_next(&databases->map, node))
        apply_one(databases, MAP_OWNER(node, struct database, node), from, to);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
}

static void drop(struct databases *databases, struct database *database, uint64_t now_us) {
    if (!atomic_load(&database->is_removed)) log_dropping(database->name);
    if (databases->ops.dropped != NULL) databases->ops.dropped(databases->ops.owner, database);
    map_remove(&databases->map, &database->node);
    database->gone_us = now_us;
    list_append(&databases->gone, &database->gone);
}

static void free_gone(struct databases *databases, uint64_t now_us) {
    struct link *l;
    while ((l = list_first(&databases->gone)) != NULL) {
        struct database *database = LIST_OWNER(l, struct database, gone);
        if (now_us - database->gone_us < GONE_US) break;
        list_remove(&databases->gone, l);
        database_free(database);
    }
}

void databases_sweep(struct databases *databases, uint64_t now_us, uint64_t autodb_idle_us) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct map_node *node = map_next(&databases->map, NULL);
    while (node != NULL) {
        struct database *database = MAP_OWNER(node, struct database, node);
        node = map_next(&databases->map, node);
        uint64_t used_us = atomic_load(&database->used_us);
        bool is_unused = atomic_load(&database->is_auto) && now_us >= used_us &&
                         now_us - used_us >= autodb_idle_us;
        bool is_idle = (is_unused || atomic_load(&database->is_removed)) &&
                       !atomic_load(&database->is_paused) && !atomic_load(&database->is_disabled);
        atomic_store(&database->is_idle, is_idle);
        if (is_idle && atomic_load(&database->holders) == 0) drop(databases, database, now_us);
    }
    free_gone(databases, now_us);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
}

void databases_recycle(struct databases *databases) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct map_node *node = map_next(&databases->map, NULL);
    for (; node != NULL; node = map_next(&databases->map, node))
        atomic_fetch_add(&MAP_OWNER(node, struct database, node)->generation, 1);
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
}

void databases_make_all(struct databases *databases, const struct config *config) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    const struct config_entries *entries = &config->entries[SETTING_SCOPE_DATABASE];
    for (size_t i = 0; i < entries->count; i++) {
        const struct config_database *entry = config_database_at(config, i);
        if (strcmp(entry->entry.name, "*") == 0 || !entry_is_routed(config, entry)) continue;
        (void)get_locked(databases, config, bytes_of_text(entry->entry.name));
    }
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
}

void databases_each(struct databases *databases,
                    void (*visit)(void *owner, struct database *database), void *owner) {
    CHECK(pthread_mutex_lock(&databases->lock) == 0);
    struct map_node *node = map_next(&databases->map, NULL);
    for (; node != NULL; node = map_next(&databases->map, node))
        visit(owner, MAP_OWNER(node, struct database, node));
    CHECK(pthread_mutex_unlock(&databases->lock) == 0);
}
