/* Taking and making room; see pool/room.h, and pool/limit.h for the lists of wants. */
#include "pool/room.h"

#include "core/memory.h"
#include "pool/line.h"

/* ---- whose turn it is */

/* Whether the limit's first waiter, of whichever pool, came before `since_us`. */
static bool is_wanted_before(const struct limit *limit, uint64_t since_us) {
    uint64_t wanted_us = atomic_load(&limit->wanted_us);
    return wanted_us != 0 && wanted_us < since_us;
}

bool room_is_wanted(const struct pool *pool) {
    return room_is_owed(pool, UINT64_MAX);
}

bool room_is_owed(const struct pool *pool, uint64_t since_us) {
    for (unsigned i = 0; i < LIMIT_SERVER_KINDS; i++) {
        if (is_wanted_before(pool->limits[i], since_us - ROOM_PATIENCE_US) &&
            limit_is_full(pool->limits[i]))
            return true;
    }
    return false;
}

/* Has the pool whose waiter is first served. */
static void wake_first(struct pool_set *set, struct limit *limit) {
    unsigned worker;
    struct buf key = {0};
    if (limit_first_want(limit, &worker, &key)) {
        if (worker == set->worker) {
            pool_set_wake(set, buf_content(&key));
        } else {
            set->ops.wake(set->ops.owner, worker, buf_content(&key));
        }
    }
    buf_release(&key);
}

/* ---- eviction */

static bool counts_in(const struct pool *pool, const struct limit *limit) {
    for (unsigned i = 0; i < LIMIT_SERVER_KINDS; i++) {
        if (pool->limits[i] == limit) return true;
    }
    return false;
}

static struct server *longer_unused(struct server *a, struct link *l) {
    if (l == NULL) return a;
    struct server *b = LIST_OWNER(l, struct server, link);
    return a == NULL || b->state_us < a->state_us ? b : a;
}

/* The server of this worker that counts in the limit and was unused longest, or NULL. Idle ones
 * of a node with a waiter that came before are that waiter's; those of `own` do not suit the one
 * who wants room. */
static struct server *unused_longest(const struct pool_set *set, const struct limit *limit,
                                     const struct pool *own, uint64_t since_us) {
    struct server *found = NULL;
    LIST_EACH (&set->all, l) {
        const struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (!counts_in(pool, limit)) continue;
        uint64_t before_us = pool == own ? since_us : since_us + ROOM_PATIENCE_US;
        for (size_t i = 0; i < pool->nodes_count; i++) {
            uint64_t oldest_us = line_oldest_us(pool->nodes[i]);
            if (oldest_us != 0 && oldest_us < before_us) continue;
            const struct list *servers = pool->nodes[i]->servers;
            found = longer_unused(found, list_first(&servers[SERVER_IDLE]));
            found = longer_unused(found, list_last(&servers[SERVER_IDLE]));
            found = longer_unused(found, list_first(&servers[SERVER_USED]));
            found = longer_unused(found, list_last(&servers[SERVER_USED]));
        }
    }
    return found;
}

static bool evict(struct pool_set *set, const struct limit *limit, const struct pool *own,
                  uint64_t since_us) {
    struct server *server = unused_longest(set, limit, own, since_us);
    if (server == NULL) return false;
    server_close(server, "evicted");
    return true;
}

void room_wake(struct pool_set *set, struct bytes key) {
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (unsigned i = 0; i < LIMIT_SERVER_KINDS; i++) {
            struct limit *limit = pool->limits[i];
            if (!bytes_equal(limit->node.key, key)) continue;
            uint64_t wanted_us = atomic_load(&limit->wanted_us);
            if (wanted_us != 0 && limit_is_full(limit)) (void)evict(set, limit, NULL, wanted_us);
            if (!limit_is_full(limit)) wake_first(set, limit);
            return;
        }
    }
}

/* ---- taking and giving back */

/* One permit of a shared limit. The last one is for whoever has waited longest. */
static bool take_shared(struct pool *pool, unsigned kind, const struct borrower *waiter) {
    struct limit *limit = pool->limits[kind];
    int max = atomic_load(&limit->permit.limit);
    bool is_last = max > 0 && atomic_load(&limit->permit.used) + 1 >= max;
    uint64_t since_us = waiter == NULL ? UINT64_MAX : waiter->since_us;
    if (is_last && is_wanted_before(limit, since_us)) return false;
    while (!permit_take(&limit->permit)) {
        if (waiter == NULL || !evict(pool->set, limit, pool, since_us)) return false;
    }
    return true;
}

bool room_take(struct pool_node *node, int size, const struct borrower *waiter) {
    struct pool *pool = node->pool;
    if (!permit_take_within(node->permit, size)) return false;
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        if (take_shared(pool, kind, waiter)) continue;
        if (waiter != NULL) pool->lacking |= 1u << kind;
        while (kind-- > 0) permit_release(&pool->limits[kind]->permit);
        permit_release(node->permit);
        return false;
    }
    return true;
}

bool room_is_full(const struct pool_node *node) {
    if (permit_is_full(node->permit)) return true;
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        if (limit_is_full(node->pool->limits[kind])) return true;
    }
    return false;
}

void room_take_anyway(struct pool_node *node) {
    (void)permit_take_within(node->permit, 0);
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++)
        (void)permit_take_within(&node->pool->limits[kind]->permit, 0);
}

void room_release(struct pool_node *node) {
    struct pool *pool = node->pool;
    permit_release(node->permit);
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++)
        permit_release(&pool->limits[kind]->permit);
}

/* ---- wants */

/* Tells the other workers, each of which may have an idle server to give. */
static void tell_others(const struct pool_set *set, const struct limit *limit) {
    for (unsigned i = 0; i < set->workers; i++) {
        if (i != set->worker) set->ops.wake(set->ops.owner, i, limit->node.key);
    }
}

void room_settle(struct pool *pool) {
    struct pool_set *set = pool->set;
    uint64_t oldest_us = pool_oldest_us(pool);
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        struct limit *limit = pool->limits[kind];
        struct limit_want *want = &pool->wants[kind];
        bool is_lacking = pool->lacking & 1u << kind;
        bool is_news = limit_set_want(limit, want, is_lacking ? oldest_us : 0);
        uint64_t wanted_us = atomic_load(&limit->wanted_us);
        if (wanted_us == 0) continue;
        if (is_news && is_lacking && limit_is_full(limit)) tell_others(set, limit);
        bool has_idle = pool_count(pool, SERVER_IDLE) + pool_count(pool, SERVER_USED) > 0;
        if (limit_is_full(limit) && has_idle) (void)evict(set, limit, NULL, wanted_us);
        /* A permit that came free between our try and our want is seen here. */
        if (!limit_is_full(limit)) wake_first(set, limit);
    }
    pool->lacking = 0;
}

/* ---- the pool's part */

void room_begin(struct pool *pool) {
    struct limits *limits = permits_limits(pool->set->permits);
    const struct bytes names[LIMIT_SERVER_KINDS] = {
        [LIMIT_DATABASE_SERVERS] = bytes_of_text(pool->database->name),
        [LIMIT_USER_SERVERS] = bytes_of_text(pool->user)};
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        pool->limits[kind] = limit_get(limits, (enum limit_kind)kind, names[kind]);
        pool->wants[kind].worker = pool->set->worker;
        pool->wants[kind].pool = pool->node.key;
    }
}

void room_set_limits(struct pool *pool, const int limits[LIMIT_SERVER_KINDS]) {
    pool->has_limits = false;
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        atomic_store(&pool->limits[kind]->permit.limit, limits[kind]);
        if (limits[kind] > 0) pool->has_limits = true;
    }
    /* Nobody else withdraws the wants of a pool that looks at them no more. */
    if (!pool->has_limits) room_settle(pool);
}

void room_end(struct pool *pool) {
    for (unsigned kind = 0; kind < LIMIT_SERVER_KINDS; kind++) {
        (void)limit_set_want(pool->limits[kind], &pool->wants[kind], 0);
        limit_put(permits_limits(pool->set->permits), &pool->limits[kind]);
    }
}
