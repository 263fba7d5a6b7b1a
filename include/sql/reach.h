/*
 * Reach: which relations of a database a statement reads, or writes, as a small set of keys. A key
 * stands for a relation with all its partitions and descendants; two relations may share one, which
 * only makes a reader wait for what it need not see.
 */
#ifndef WEIR_SQL_REACH_H
#define WEIR_SQL_REACH_H

#include <stdbool.h>
#include <stdint.h>

#define REACH_KEYS_MAX 16u

/* Zeroed memory reaches nothing. With is_all the keys mean nothing: it may reach anything. */
struct reach {
    uint32_t count;
    bool is_all;
    uint32_t keys[REACH_KEYS_MAX];
};

/* Adds a key, or everything where there is no room. */
static inline void reach_add(struct reach *reach, uint32_t key) {
    for (uint32_t i = 0; i < reach->count; i++) {
        if (reach->keys[i] == key) return;
    }
    if (reach->count == REACH_KEYS_MAX)
        reach->is_all = true;
    else
        reach->keys[reach->count++] = key;
}

/* Adds all that `more` reaches. */
static inline void reach_merge(struct reach *reach, const struct reach *more) {
    reach->is_all = reach->is_all || more->is_all;
    for (uint32_t i = 0; i < more->count && !reach->is_all; i++) reach_add(reach, more->keys[i]);
}

static inline void reach_clear(struct reach *reach) {
    reach->count = 0;
    reach->is_all = false;
}

#endif
