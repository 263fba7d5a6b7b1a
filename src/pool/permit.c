/*
 * Permits and the published heads of the lines; see pool/permit.h for the protocol between the
 * workers. The heads and counts use sequentially consistent operations throughout: the argument
 * that no waiter is overlooked needs a store before a load to stay in that order.
 */
#include "pool/permit.h"

#include "core/check.h"
#include "core/memory.h"
#include "pool/limit.h"

#include <pthread.h>

struct permits {
    pthread_mutex_t lock;
    struct map map;
    struct limits *limits;
    unsigned workers;
};

struct permits *permits_new(unsigned workers) {
    CHECK(workers > 0 && workers <= WORKERS_MAX);
    struct permits *permits = memory_new(sizeof *permits);
    CHECK(pthread_mutex_init(&permits->lock, NULL) == 0);
    permits->workers = workers;
    permits->limits = limits_new();
    return permits;
}

void permits_free(struct permits **permits_at) {
    struct permits *permits = *permits_at;
    if (permits == NULL) return;
    *permits_at = NULL;
    CHECK(permits->map.count == 0);
    map_release(&permits->map);
    limits_free(&permits->limits);
    CHECK(pthread_mutex_destroy(&permits->lock) == 0);
    memory_free(permits);
}

struct limits *permits_limits(struct permits *permits) {
    return permits->limits;
}

struct pool_shared *permits_get(struct permits *permits, struct bytes key) {
    CHECK(pthread_mutex_lock(&permits->lock) == 0);
    struct map_node *node = map_find(&permits->map, key);
    struct pool_shared *shared;
    if (node != NULL) {
        shared = MAP_OWNER(node, struct pool_shared, node);
        atomic_fetch_add(&shared->references, 1);
    } else {
        shared = memory_new(sizeof *shared);
        atomic_store(&shared->references, 1);
        shared->key = memory_copy(key.at, key.len);
        map_add(&permits->map, &shared->node, bytes_of(shared->key, key.len));
    }
    CHECK(pthread_mutex_unlock(&permits->lock) == 0);
    return shared;
}

struct pool_shared *pool_shared_ref(struct pool_shared *shared) {
    (void)atomic_fetch_add(&shared->references, 1);
    return shared;
}

void permits_put(struct permits *permits, struct pool_shared **shared_at) {
    struct pool_shared *shared = *shared_at;
    *shared_at = NULL;
    CHECK(pthread_mutex_lock(&permits->lock) == 0);
    bool is_last = atomic_fetch_sub(&shared->references, 1) == 1;
    if (is_last) map_remove(&permits->map, &shared->node);
    CHECK(pthread_mutex_unlock(&permits->lock) == 0);
    if (!is_last) return;
    for (struct greeting *g = atomic_load(&shared->greetings), *older; g != NULL; g = older) {
        older = g->older;
        memory_free(g);
    }
    memory_free(shared->key);
    memory_free(shared);
}

bool permit_take(struct permit *permit) {
    return permit_take_within(permit, atomic_load(&permit->limit));
}

bool permit_take_within(struct permit *permit, int limit) {
    int used = atomic_load(&permit->used);
    do {
        if (limit > 0 && used >= limit) return false;
    } while (!atomic_compare_exchange_weak(&permit->used, &used, used + 1));
    return true;
}

void permit_release(struct permit *permit) {
    int before = atomic_fetch_sub(&permit->used, 1);
    CHECK(before > 0);
}

bool permit_take_cancel(struct permit *permit) {
    int cancels = atomic_load(&permit->cancels);
    do {
        int limit = atomic_load(&permit->limit);
        if (limit > 0 && (int64_t)cancels + atomic_load(&permit->used) >= 2 * (int64_t)limit)
            return false;
    } while (!atomic_compare_exchange_weak(&permit->cancels, &cancels, cancels + 1));
    return true;
}

void permit_release_cancel(struct permit *permit) {
    int before = atomic_fetch_sub(&permit->cancels, 1);
    CHECK(before > 0);
}

bool permit_is_full(const struct permit *permit) {
    int limit = atomic_load(&permit->limit);
    return limit > 0 && atomic_load(&permit->used) >= limit;
}

void pool_shared_publish(struct pool_shared *shared, unsigned worker, enum pool_line line,
                         uint64_t since_us) {
    atomic_store(&shared->heads[worker][line], since_us);
}

int pool_shared_older(const struct pool_shared *shared, const struct permits *permits,
                      unsigned worker, enum pool_line line, uint64_t since_us) {
    int oldest = -1;
    uint64_t oldest_us = since_us == 0 ? UINT64_MAX : since_us;
    for (unsigned i = 0; i < permits->workers; i++) {
        if (i == worker) continue;
        uint64_t head = atomic_load(&shared->heads[i][line]);
        if (head == 0 || head >= oldest_us) continue;
        oldest = (int)i;
        oldest_us = head;
    }
    return oldest;
}

bool pool_shared_may_end(struct pool_shared *shared, uint64_t now_us, uint64_t gap_us) {
    uint64_t ended_us = atomic_load(&shared->ended_us);
    if (ended_us != 0 && now_us - ended_us < gap_us) return false;
    return atomic_compare_exchange_strong(&shared->ended_us, &ended_us, now_us);
}

int pool_shared_idle_holder(const struct pool_shared *shared, const struct permits *permits,
                            unsigned worker) {
    for (unsigned i = 0; i < permits->workers; i++) {
        if (i != worker && atomic_load(&shared->idle[i]) > 0) return (int)i;
    }
    return -1;
}

/* Wraps around, as RECONNECTs are counted in 32 bits. */
static bool is_older(const struct greeting *greeting, uint32_t epoch) {
    return greeting == NULL || (int32_t)(atomic_load(&greeting->epoch) - epoch) < 0;
}

/* The greeting with these messages, from the list of all or new in it. */
static struct greeting *greeting_of(struct pool_shared *shared, struct bytes messages,
                                    uint32_t epoch) {
    struct greeting *newest = atomic_load(&shared->greetings);
    for (struct greeting *g = newest; g != NULL; g = g->older) {
        if (bytes_equal(bytes_of(g->messages, g->len), messages)) return g;
    }
    struct greeting *greeting = memory_new(sizeof *greeting + messages.len);
    atomic_store(&greeting->epoch, epoch);
    greeting->len = messages.len;
    memcpy(greeting->messages, messages.at, messages.len);
    do {
        greeting->older = newest;
    } while (!atomic_compare_exchange_weak(&shared->greetings, &newest, greeting));
    return greeting;
}

void pool_shared_greet(struct pool_shared *shared, struct bytes messages, uint32_t epoch) {
    struct greeting *current = atomic_load(&shared->greeting);
    if (!is_older(current, epoch)) return;
    struct greeting *greeting = greeting_of(shared, messages, epoch);
    if (is_older(greeting, epoch)) atomic_store(&greeting->epoch, epoch);
    /* Where another worker's server was faster, its greeting stays. */
    while (is_older(current, epoch) &&
           !atomic_compare_exchange_weak(&shared->greeting, &current, greeting))
        continue;
}

const struct greeting *pool_shared_greeting(const struct pool_shared *shared) {
    return atomic_load(&shared->greeting);
}
