/*
 * struct map: an intrusive hash table from bytes to things.
 *
 * A thing embeds a `struct map_node` and keeps its own key alive while it is in the map. Keys
 * are compared in full, never by hash alone. The table doubles when it is full and never
 * shrinks. Zeroed memory is an empty map.
 */
#ifndef WEIR_CORE_MAP_H
#define WEIR_CORE_MAP_H

#include "core/bytes.h"

struct map_node {
    struct map_node *next;
    uint64_t hash;
    struct bytes key;
};

struct map {
    struct map_node **slots;
    size_t slots_count; /* 0 or a power of two */
    size_t count;
};

/* Frees the table, not the things in it. */
void map_release(struct map *map);

/* The node with that key, or NULL. */
struct map_node *map_find(const struct map *map, struct bytes key);

/* As map_find, with a hash (bytes_hash of the key) that the caller has at hand. */
struct map_node *map_find_hashed(const struct map *map, struct bytes key, uint64_t hash);

/* Adds a node under `key`, which must not be in the map and must live as long as the node. */
void map_add(struct map *map, struct map_node *node, struct bytes key);

/* Takes a node out that is in the map. */
void map_remove(struct map *map, struct map_node *node);

/* Walks the nodes in no particular order: NULL starts, NULL ends. Nothing may be added; the
 * node that was returned last may be removed only after the next one was asked for. */
struct map_node *map_next(const struct map *map, const struct map_node *node);

#define MAP_OWNER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
