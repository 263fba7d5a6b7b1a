/* The hash table: against a plain array over a long random life, its borders, its misuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/map.h"
#include "unit/dies.h"

#define TEXT(text) text, sizeof(text) - 1

struct thing {
    int padding; /* so that the node is not at the start */
    struct map_node node;
    uint32_t key;
    bool is_in;
    bool is_seen;
};

static struct bytes key_of(const struct thing *thing) {
    return bytes_of((const char *)&thing->key, sizeof thing->key);
}

static void an_empty_map(void **unused) {
    (void)unused;
    struct map map = {0};
    assert_null(map_find(&map, bytes_of("a", 1)));
    assert_null(map_find(&map, bytes_of(NULL, 0)));
    assert_null(map_find_hashed(&map, bytes_of("a", 1), 7));
    assert_null(map_next(&map, NULL));
    map_release(&map);
    map_release(&map);
}

/* Keys are bytes: any length, any content, and nothing but equal is equal. */
static void keys_are_compared_in_full(void **unused) {
    (void)unused;
    static const struct {
        const char *at;
        size_t len;
    } rows[] = {
        {TEXT("")},   {TEXT("a")},    {TEXT("A")},    {TEXT("a\0")}, {TEXT("\0")},
        {TEXT("ab")}, {TEXT("a\0b")}, {TEXT("a\0c")}, {TEXT("b")},   {TEXT("\0\0")},
    };
    struct map map = {0};
    struct map_node nodes[COUNT(rows)] = {0};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bytes key = bytes_of(rows[i].at, rows[i].len);
        assert_null(map_find(&map, key));
        map_add(&map, &nodes[i], key);
        for (size_t j = 0; j <= i; j++)
            assert_ptr_equal(map_find(&map, bytes_of(rows[j].at, rows[j].len)), &nodes[j]);
    }
    assert_int_equal(map.count, COUNT(rows));
    struct bytes b = bytes_of("b", 1);
    assert_ptr_equal(map_find_hashed(&map, b, bytes_hash(b)), map_find(&map, b));
    assert_null(map_find_hashed(&map, b, bytes_hash(b) ^ 1));
    map_release(&map);
}

/* Nodes whose hashes are equal are told apart by their keys. */
static void equal_hashes(void **unused) {
    (void)unused;
    struct thing things[3] = {{.key = 1}, {.key = 2}, {.key = 3}};
    struct map map = {0};
    for (size_t i = 0; i < 3; i++) map_add(&map, &things[i].node, key_of(&things[i]));
    struct map_node chain[2] = {{.hash = 5, .key = key_of(&things[1])},
                                {.hash = 5, .key = key_of(&things[2])}};
    chain[0].next = &chain[1];
    struct map_node *slots[1] = {&chain[0]};
    struct map crowded = {.slots = slots, .slots_count = 1, .count = 2};
    assert_ptr_equal(map_find_hashed(&crowded, key_of(&things[2]), 5), &chain[1]);
    assert_ptr_equal(map_find_hashed(&crowded, key_of(&things[1]), 5), &chain[0]);
    assert_null(map_find_hashed(&crowded, key_of(&things[0]), 5));
    map_remove(&crowded, &chain[1]);
    assert_null(map_find_hashed(&crowded, key_of(&things[2]), 5));
    map_remove(&crowded, &chain[0]);
    assert_int_equal(crowded.count, 0);
    map_release(&map);
}

#define THINGS 3000u

static struct thing things[THINGS];

static size_t count_in(void) {
    size_t count = 0;
    for (size_t i = 0; i < THINGS; i++) count += things[i].is_in;
    return count;
}

/* A walk meets each node once, and may remove what it has left behind. */
static void assert_walk(struct map *map, bool removes) {
    size_t met = 0;
    for (size_t i = 0; i < THINGS; i++) things[i].is_seen = false;
    struct map_node *node = map_next(map, NULL);
    while (node != NULL) {
        struct thing *thing = MAP_OWNER(node, struct thing, node);
        assert_true(thing->is_in && !thing->is_seen);
        thing->is_seen = true;
        met++;
        node = map_next(map, node);
        if (!removes) continue;
        map_remove(map, &thing->node);
        thing->is_in = false;
    }
    assert_int_equal(met, removes ? met : map->count);
    assert_int_equal(count_in(), map->count);
}

static void a_random_life(void **unused) {
    (void)unused;
    struct map map = {0};
    uint32_t seed = 7;
    for (uint32_t i = 0; i < THINGS; i++) things[i] = (struct thing){.key = i * 77777u};
    for (unsigned step = 0; step < 30000; step++) {
        seed = seed * 1664525u + 1013904223u;
        struct thing *thing = &things[(seed >> 8) % THINGS];
        assert_ptr_equal(map_find(&map, key_of(thing)), thing->is_in ? &thing->node : NULL);
        if (thing->is_in) {
            map_remove(&map, &thing->node);
        } else {
            map_add(&map, &thing->node, key_of(thing));
        }
        thing->is_in = !thing->is_in;
        if (step % 5000 == 0) assert_walk(&map, false);
    }
    assert_int_equal(map.count, count_in());
    assert_int_equal(map.slots_count & (map.slots_count - 1), 0);
    assert_true(map.slots_count <= 2 * (size_t)THINGS);
    assert_walk(&map, true);
    assert_int_equal(map.count, 0);
    assert_null(map_next(&map, NULL));
    map_release(&map);
    assert_null(map.slots);
}

static struct map misused;
static struct thing stranger = {.key = 9};

static void remove_what_is_not_in(void) {
    map_remove(&misused, &stranger.node);
}

static void remove_from_an_empty_one(void) {
    struct map empty = {0};
    map_remove(&empty, &stranger.node);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    static struct thing thing = {.key = 1};
    map_add(&misused, &thing.node, key_of(&thing));
    assert_true(dies(remove_what_is_not_in));
    assert_true(dies(remove_from_an_empty_one));
    map_release(&misused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map),
        cmocka_unit_test(keys_are_compared_in_full),
        cmocka_unit_test(equal_hashes),
        cmocka_unit_test(a_random_life),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
