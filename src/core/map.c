/* Hash table with chained nodes; see core/map.h. */
#include "core/map.h"

#include "core/check.h"
#include "core/memory.h"

#define MAP_SLOTS_MIN 16u

void map_release(struct map *map) {
    memory_free(map->slots);
    *map = (struct map){0};
}

struct map_node *map_find_hashed(const struct map *map, struct bytes key, uint64_t hash) {
    if (map->count == 0) return NULL;
    struct map_node *node = map->slots[hash & (map->slots_count - 1)];
    while (node != NULL && (node->hash != hash || !bytes_equal(node->key, key))) node = node->next;
    return node;
}

struct map_node *map_find(const struct map *map, struct bytes key) {
    return map->count == 0 ? NULL : map_find_hashed(map, key, bytes_hash(key));
}

static void map_grow(struct map *map) {
    size_t count = map->slots_count == 0 ? MAP_SLOTS_MIN : map->slots_count * 2;
    struct map_node **slots = memory_new(count * sizeof *slots);
    for (size_t i = 0; i < map->slots_count; i++) {
        struct map_node *node = map->slots[i];
        while (node != NULL) {
            struct map_node *next = node->next;
            struct map_node **slot = &slots[node->hash & (count - 1)];
            node->next = *slot;
            *slot = node;
            node = next;
        }
    }
    memory_free(map->slots);
    map->slots = slots;
    map->slots_count = count;
}

void map_add(struct map *map, struct map_node *node, struct bytes key) {
    CHECK_SLOW(map_find(map, key) == NULL);
    if (map->count >= map->slots_count) map_grow(map);
    node->key = key;
    node->hash = bytes_hash(key);
    struct map_node **slot = &map->slots[node->hash & (map->slots_count - 1)];
    node->next = *slot;
    *slot = node;
    map->count++;
}

void map_remove(struct map *map, struct map_node *node) {
    CHECK(map->count > 0);
    struct map_node **place = &map->slots[node->hash & (map->slots_count - 1)];
    while (*place != NULL && *place != node) place = &(*place)->next;
    CHECK(*place == node);
    *place = node->next;
    node->next = NULL;
    map->count--;
}

struct map_node *map_next(const struct map *map, const struct map_node *node) {
    if (map->count == 0) return NULL;
    size_t slot = 0;
    if (node != NULL) {
        if (node->next != NULL) return node->next;
        slot = (node->hash & (map->slots_count - 1)) + 1;
    }
    while (slot < map->slots_count && map->slots[slot] == NULL) slot++;
    return slot < map->slots_count ? map->slots[slot] : NULL;
}
