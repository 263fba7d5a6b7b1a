/*
 * Counting pools, clients and servers; see census.h.
 *
 * A worker walks its servers, and of its clients those that have or want a server; how many are
 * idle follows from the pool's own count. So the cost grows with pools and servers, not with the
 * thousands of idle clients.
 */
#include "census.h"

#include "client/shadow.h"
#include "core/memory.h"
#include "pool/ended.h"

#include <stdlib.h>

/* The state's name in SHOW SERVERS, and ours. */
static const struct {
    const char *state;
    const char *text;
} server_texts[CENSUS_SERVER_COUNT] = {
    [CENSUS_ACTIVE] = {"active", "active"},
    [CENSUS_ACTIVE_CANCEL] = {"active_cancel", "active_cancel"},
    [CENSUS_BEING_CANCELED] = {"being_canceled", "being_canceled"},
    [CENSUS_IDLE] = {"idle", "idle"},
    [CENSUS_USED] = {"used", "used"},
    [CENSUS_TESTED] = {"tested", "tested"},
    [CENSUS_LOGIN] = {"new", "login"},
};

const char *census_server_text(enum census_server kind) {
    return server_texts[kind].text;
}

uint32_t census_sum(const uint32_t servers[CENSUS_SERVER_COUNT]) {
    uint32_t sum = 0;
    for (unsigned i = 0; i < CENSUS_SERVER_COUNT; i++) sum += servers[i];
    return sum;
}

void stats_values_add(struct stats_values *sum, const struct stats_values *from) {
#define ADD(name, metric, help) sum->name += from->name;
    STATS_COUNTERS(ADD)
#undef ADD
}

static struct census_pool *pool_new(struct census *census, struct bytes key) {
    struct census_pool *pool = memory_new(sizeof *pool);
    pool->key = memory_copy(key.at, key.len);
    pool->database_name = pool->key;
    pool->user = pool->key + strlen(pool->key) + 1;
    if (census->count == census->size) {
        census->size = census->size == 0 ? 16 : census->size * 2;
        census->pools = memory_resize(census->pools, census->size * sizeof(struct census_pool *));
    }
    census->pools[census->count++] = pool;
    map_add(&census->map, &pool->node, bytes_of(pool->key, key.len));
    return pool;
}

static void pool_free(struct census_pool *pool) {
    for (size_t i = 0; i < pool->nodes_count; i++) memory_free(pool->nodes[i].error);
    memory_free(pool->nodes);
    cluster_free(&pool->cluster);
    memory_free(pool->key);
    memory_free(pool);
}

static void add_user(struct census *census, struct bytes name, uint64_t clients) {
    struct map_node *node = map_find(&census->users, name);
    if (node == NULL) {
        struct census_user *user = memory_new(sizeof *user + name.len);
        memcpy(user->name, name.at, name.len);
        node = &user->node;
        map_add(&census->users, node, bytes_of(user->name, name.len));
    }
    MAP_OWNER(node, struct census_user, node)->clients += clients;
}

uint64_t census_user_clients(const struct census *census, struct bytes name) {
    struct map_node *node = map_find(&census->users, name);
    return node == NULL ? 0 : MAP_OWNER(node, struct census_user, node)->clients;
}

static void add_counts(struct census *census, const char *name, const struct stats_values *stats) {
    struct bytes key = bytes_of_text(name);
    struct map_node *node = map_find(&census->counts, key);
    if (node == NULL) {
        struct census_database *database = memory_new(sizeof *database + key.len + 1);
        memcpy(database->name, name, key.len);
        node = &database->node;
        map_add(&census->counts, node, bytes_of(database->name, key.len));
    }
    stats_values_add(&MAP_OWNER(node, struct census_database, node)->stats, stats);
}

static void release_counts(struct map *counts) {
    struct map_node *node = map_next(counts, NULL);
    while (node != NULL) {
        struct census_database *database = MAP_OWNER(node, struct census_database, node);
        node = map_next(counts, node);
        memory_free(database);
    }
    map_release(counts);
}

static void release_users(struct map *users) {
    struct map_node *node = map_next(users, NULL);
    while (node != NULL) {
        struct census_user *user = MAP_OWNER(node, struct census_user, node);
        node = map_next(users, node);
        memory_free(user);
    }
    map_release(users);
}

void census_release(struct census *census) {
    memory_free(census->peers);
    for (size_t i = 0; i < census->count; i++) pool_free(census->pools[i]);
    memory_free(census->pools);
    memory_free(census->databases);
    release_counts(&census->counts);
    release_users(&census->users);
    shadow_clear(&census->shadow);
    map_release(&census->map);
    *census = (struct census){0};
}

/* ---- on the worker's thread */

static enum census_server kind_of(const struct server *server) {
    const char *state = server_state_text(server);
    for (unsigned i = 0; i < CENSUS_SERVER_COUNT; i++)
        if (strcmp(state, server_texts[i].state) == 0) return (enum census_server)i;
    return CENSUS_LOGIN;
}

/* Servers of one node, or of all hosts where nothing is routed; `is_old` ones belong to a cluster
 * that is no more, and only the pool's own figures count them. */
static void take_servers(struct census_pool *pool, const struct pool_node *from) {
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        if (state == SERVER_LISTENING) continue; /* beyond the pool */
        LIST_EACH (&from->servers[state], l) {
            const struct server *server = LIST_OWNER(l, struct server, link);
            enum census_server kind = kind_of(server);
            pool->servers[kind]++;
            if (!from->is_old) pool->nodes[server->host].servers[kind]++;
        }
    }
    stats_sum(&pool->stats, &from->stats);
}

static void take_node(struct census_pool *pool, const struct pool_node *from) {
    struct census_node *node = &pool->nodes[from->index];
    take_servers(pool, from);
    node->used = (uint32_t)atomic_load(&from->permit->used);
    node->limit = (uint32_t)atomic_load(&from->permit->limit);
    node->has_failed = from->has_failed;
    if (from->has_failed) node->error = memory_copy_text(from->last_error);
    stats_sum(&node->stats, &from->stats);
}

static void take_peers(struct census *census, const struct pool_set *pools) {
    const struct config_entries *peers = &pools->config->entries[SETTING_SCOPE_PEER];
    if (peers->count == 0) return;
    census->peers_count = peers->count;
    census->peers = memory_new(peers->count * sizeof *census->peers);
    for (size_t i = 0; i < peers->count; i++)
        census->peers[i] = cancel_count(pools, NULL, config_peer_id(peers->at[i]));
}

static void add_cancels(struct cancel_count *to, struct cancel_count from) {
    to->active += from.active;
    to->waiting += from.waiting;
}

static void take_pool(struct census *census, const struct pool *from, uint64_t now_us) {
    struct census_pool *pool = pool_new(census, from->node.key);
    pool->cancels = cancel_count(from->set, from, 0);
    pool->database = from->database;
    pool->mode = from->mode;
    pool->tracks_sessions = from->tracks_sessions;
    for (unsigned i = 0; i < POOL_PINS_MAX; i++) pool->pinned[i] = from->pinned[i];
    pool->clients[CENSUS_CLIENT_ACTIVE] = from->active;
    pool->clients[CENSUS_CLIENT_IDLE] = from->clients - from->active;
    pool->cluster = cluster_share(from->nodes[0]->cluster);
    pool->nodes_count = cluster_count(pool->cluster);
    pool->nodes = memory_new(pool->nodes_count * sizeof *pool->nodes);
    stats_sum(&pool->stats, &from->stats);
    uint64_t oldest_us = pool_oldest_us(from);
    if (oldest_us != 0 && oldest_us < now_us) pool->wait_us = now_us - oldest_us;
    for (size_t i = 0; i < from->nodes_count; i++) take_node(pool, from->nodes[i]);
    LIST_EACH (&from->old_nodes, l) {
        take_servers(pool, LIST_OWNER(l, struct pool_node, old));
    }
    census->servers += census_sum(pool->servers);
}

static void take_waiters(struct census *census, const struct list *clients) {
    LIST_EACH (clients, l) {
        const struct client *client = LIST_OWNER(l, struct client, link);
        if (client->pool == NULL) continue;
        struct map_node *node = map_find(&census->map, client->pool->node.key);
        if (node == NULL) continue;
        struct census_pool *pool = MAP_OWNER(node, struct census_pool, node);
        pool->clients[CENSUS_CLIENT_WAITING]++;
        if (client->state != CLIENT_WELCOME && pool->clients[CENSUS_CLIENT_IDLE] > 0)
            pool->clients[CENSUS_CLIENT_IDLE]--;
    }
}

static void take_ended(struct census *census, const struct pool_set *pools) {
    const struct map_node *node = map_next(&pools->ended, NULL);
    for (; node != NULL; node = map_next(&pools->ended, node)) {
        const struct pool_ended *ended = MAP_OWNER(node, struct pool_ended, node);
        add_counts(census, ended->database->name, &ended->stats);
    }
}

void census_take(struct census *census, const struct admin_worker *worker) {
    const struct client_set *clients = worker->clients;
    if (worker->pools->config == NULL) return; /* the process is ending, and the worker has ended */
    uint64_t now_us = loop_now_us(worker->loop);
    LIST_EACH (&worker->pools->all, l) {
        take_pool(census, LIST_OWNER(l, struct pool, link), now_us);
    }
    take_ended(census, worker->pools);
    take_peers(census, worker->pools);
    take_waiters(census, &clients->clients[CLIENT_WAITING]);
    take_waiters(census, &clients->clients[CLIENT_WELCOME]);
    for (unsigned i = 0; i < CLIENT_STATE_COUNT; i++)
        census->clients[i] = clients->clients[i].count;
    LIST_EACH (&worker->pools->all, l) {
        unsigned active = LIST_OWNER(l, struct pool, link)->active;
        census->clients[CLIENT_IDLE] -= active;
        census->clients[CLIENT_ACTIVE] += active;
    }
    for (unsigned i = 0; i < FAULT_COUNTER_COUNT; i++) census->faults[i] = clients->faults[i];
    if (clients->traits != NULL) census->traits = traits_cache_stats(clients->traits);
    census->statements = clients->statements.map.count;
    census->statement_bytes = clients->statements.bytes;
}

void census_take_users(struct census *census, const struct admin_worker *worker) {
    for (unsigned state = CLIENT_LOGIN; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&worker->clients->clients[state], l) {
            const struct text *user = LIST_OWNER(l, struct client, link)->user;
            if (user != NULL) add_user(census, bytes_of(user->at, user->len), 1);
        }
    }
}

void census_take_shadow(struct census *census, const struct admin_worker *worker) {
    shadow_merge(&census->shadow, &worker->clients->shadow);
}

/* ---- on worker 0 */

static void merge_node(struct census_node *node, struct census_node *from) {
    for (unsigned i = 0; i < CENSUS_SERVER_COUNT; i++) node->servers[i] += from->servers[i];
    if (from->used > node->used) node->used = from->used;
    if (from->limit > node->limit) node->limit = from->limit;
    node->has_failed = node->has_failed || from->has_failed;
    if (node->error == NULL) {
        node->error = from->error;
        from->error = NULL;
    }
    stats_values_add(&node->stats, &from->stats);
}

static void merge_pool(struct census_pool *pool, struct census_pool *from) {
    for (unsigned i = 0; i < CENSUS_CLIENT_COUNT; i++) pool->clients[i] += from->clients[i];
    for (unsigned i = 0; i < POOL_PINS_MAX; i++) pool->pinned[i] += from->pinned[i];
    pool->tracks_sessions |= from->tracks_sessions;
    for (unsigned i = 0; i < CENSUS_SERVER_COUNT; i++) pool->servers[i] += from->servers[i];
    add_cancels(&pool->cancels, from->cancels);
    if (from->wait_us > pool->wait_us) pool->wait_us = from->wait_us;
    stats_values_add(&pool->stats, &from->stats);
    /* In the middle of a reload two workers may have different clusters; the sums are right. */
    if (pool->cluster != from->cluster) return;
    for (size_t i = 0; i < pool->nodes_count; i++) merge_node(&pool->nodes[i], &from->nodes[i]);
}

/* Takes over a pool that `census` does not have yet. */
static void move_pool(struct census *census, struct census_pool *from) {
    struct census_pool *pool = pool_new(census, from->node.key);
    struct map_node node = pool->node;
    char *key = pool->key;
    const char *user = pool->user;
    char *old_key = from->key;
    *pool = *from;
    pool->node = node;
    pool->key = key;
    pool->database_name = key;
    pool->user = user;
    memory_free(old_key);
    memory_free(from);
}

void census_merge(struct census *census, struct census *from) {
    for (size_t i = 0; i < from->count; i++) {
        struct census_pool *pool = from->pools[i];
        struct map_node *found = map_find(&census->map, pool->node.key);
        if (found == NULL) {
            move_pool(census, pool);
        } else {
            merge_pool(MAP_OWNER(found, struct census_pool, node), pool);
            pool_free(pool);
        }
    }
    const struct map_node *user = map_next(&from->users, NULL);
    for (; user != NULL; user = map_next(&from->users, user))
        add_user(census, user->key, MAP_OWNER(user, struct census_user, node)->clients);
    shadow_merge(&census->shadow, &from->shadow);
    const struct map_node *counts = map_next(&from->counts, NULL);
    for (; counts != NULL; counts = map_next(&from->counts, counts)) {
        const struct census_database *database = MAP_OWNER(counts, struct census_database, node);
        add_counts(census, database->name, &database->stats);
    }
    for (unsigned i = 0; i < CLIENT_STATE_COUNT; i++) census->clients[i] += from->clients[i];
    for (unsigned i = 0; i < FAULT_COUNTER_COUNT; i++) census->faults[i] += from->faults[i];
    /* In the middle of a reload two workers may have different peers. */
    if (census->peers_count == 0) {
        census->peers = from->peers;
        census->peers_count = from->peers_count;
        from->peers = NULL;
    } else {
        for (size_t i = 0; i < census->peers_count && i < from->peers_count; i++)
            add_cancels(&census->peers[i], from->peers[i]);
    }
    census->servers += from->servers;
    census->statements += from->statements;
    census->statement_bytes += from->statement_bytes;
    census->traits.hits += from->traits.hits;
    census->traits.misses += from->traits.misses;
    census->traits.parsed_inline += from->traits.parsed_inline;
    census->traits.parsed_later += from->traits.parsed_later;
    census->traits.refused += from->traits.refused;
    census->traits.shapes += from->traits.shapes;
    from->count = 0;
    census_release(from);
}

static int compare(const void *a, const void *b) {
    const struct census_pool *x = *(const struct census_pool *const *)a;
    const struct census_pool *y = *(const struct census_pool *const *)b;
    int order = strcmp(x->database_name, y->database_name);
    return order != 0 ? order : strcmp(x->user, y->user);
}

static int compare_names(const void *a, const void *b) {
    const struct census_database *x = *(const struct census_database *const *)a;
    const struct census_database *y = *(const struct census_database *const *)b;
    return strcmp(x->name, y->name);
}

static void order_databases(struct census *census) {
    size_t count = 0;
    census->databases = memory_new(census->counts.count * sizeof(struct census_database *));
    struct map_node *node = map_next(&census->counts, NULL);
    for (; node != NULL; node = map_next(&census->counts, node))
        census->databases[count++] = MAP_OWNER(node, struct census_database, node);
    qsort(census->databases, count, sizeof(struct census_database *), compare_names);
}

void census_finish(struct census *census, const struct stats_values *console_stats) {
    static const char key[] = "pgbouncer\0pgbouncer";
    struct census_pool *console = pool_new(census, bytes_of(key, sizeof key - 1));
    console->clients[CENSUS_CLIENT_IDLE] = (uint32_t)census->clients[CLIENT_CONSOLE];
    console->stats = *console_stats;
    qsort(census->pools, census->count, sizeof(struct census_pool *), compare);
    for (size_t i = 0; i < census->count; i++)
        add_counts(census, census->pools[i]->database_name, &census->pools[i]->stats);
    order_databases(census);
}

struct census_pool *const *census_find(const struct census *census, const char *database_name,
                                       size_t *count) {
    size_t low = 0, high = census->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(census->pools[middle]->database_name, database_name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *count = 0;
    while (low + *count < census->count &&
           strcmp(census->pools[low + *count]->database_name, database_name) == 0)
        ++*count;
    return *count == 0 ? NULL : census->pools + low;
}
