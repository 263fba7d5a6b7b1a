/* The registry of shared limits, and the lists of those who want what they lack; see
 * pool/limit.h. */
#include "pool/limit.h"

#include "core/check.h"
#include "core/memory.h"

struct limits {
    pthread_mutex_t lock;
    struct map map;
};

struct limits *limits_new(void) {
    struct limits *limits = memory_new(sizeof *limits);
    CHECK(pthread_mutex_init(&limits->lock, NULL) == 0);
    return limits;
}

void limits_free(struct limits **limits_at) {
    struct limits *limits = *limits_at;
    if (limits == NULL) return;
    *limits_at = NULL;
    CHECK(limits->map.count == 0);
    map_release(&limits->map);
    CHECK(pthread_mutex_destroy(&limits->lock) == 0);
    memory_free(limits);
}

static struct limit *limit_new(struct bytes key) {
    struct limit *limit = memory_new(sizeof *limit + key.len);
    CHECK(pthread_mutex_init(&limit->lock, NULL) == 0);
    list_init(&limit->wants);
    memcpy(limit->key, key.at, key.len);
    return limit;
}

struct limit *limit_get(struct limits *limits, enum limit_kind kind, struct bytes name) {
    struct buf key = {0};
    buf_append_u8(&key, '\0');
    buf_append_u8(&key, (unsigned char)('0' + kind));
    buf_append_bytes(&key, name);
    CHECK(pthread_mutex_lock(&limits->lock) == 0);
    struct map_node *node = map_find(&limits->map, buf_content(&key));
    struct limit *limit = node == NULL ? NULL : MAP_OWNER(node, struct limit, node);
    if (limit == NULL) {
        limit = limit_new(buf_content(&key));
        map_add(&limits->map, &limit->node, bytes_of(limit->key, buf_length(&key)));
    }
    limit->references++;
    CHECK(pthread_mutex_unlock(&limits->lock) == 0);
    buf_release(&key);
    return limit;
}

void limit_put(struct limits *limits, struct limit **limit_at) {
    struct limit *limit = *limit_at;
    if (limit == NULL) return;
    *limit_at = NULL;
    CHECK(pthread_mutex_lock(&limits->lock) == 0);
    bool is_last = --limit->references == 0;
    if (is_last) map_remove(&limits->map, &limit->node);
    CHECK(pthread_mutex_unlock(&limits->lock) == 0);
    if (!is_last) return;
    CHECK(limit->wants.count == 0 && atomic_load(&limit->permit.used) == 0);
    CHECK(pthread_mutex_destroy(&limit->lock) == 0);
    memory_free(limit);
}

bool limit_is_full(const struct limit *limit) {
    return permit_is_full(&limit->permit);
}

static void insert(struct list *wants, struct limit_want *want) {
    struct link *place = wants->head.prev;
    while (place != &wants->head &&
           LIST_OWNER(place, struct limit_want, link)->since_us > want->since_us)
        place = place->prev;
    list_insert_before(wants, place->next, &want->link);
}

bool limit_set_want(struct limit *limit, struct limit_want *want, uint64_t since_us) {
    /* Only the pool itself changes its want, so that it may look at it without the lock. */
    if (want->since_us == since_us) return false;
    CHECK(pthread_mutex_lock(&limit->lock) == 0);
    if (want->since_us != 0) list_remove(&limit->wants, &want->link);
    want->since_us = since_us;
    if (since_us != 0) insert(&limit->wants, want);
    struct link *first = list_first(&limit->wants);
    atomic_store(&limit->wanted_us,
                 first == NULL ? 0 : LIST_OWNER(first, struct limit_want, link)->since_us);
    CHECK(pthread_mutex_unlock(&limit->lock) == 0);
    return true;
}

bool limit_first_want(struct limit *limit, unsigned *worker, struct buf *pool) {
    if (atomic_load(&limit->wanted_us) == 0) return false;
    CHECK(pthread_mutex_lock(&limit->lock) == 0);
    struct link *first = list_first(&limit->wants);
    if (first != NULL) {
        const struct limit_want *want = LIST_OWNER(first, struct limit_want, link);
        *worker = want->worker;
        buf_append_bytes(pool, want->pool);
    }
    CHECK(pthread_mutex_unlock(&limit->lock) == 0);
    return first != NULL;
}
