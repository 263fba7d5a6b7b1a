/*
 * What pools that are gone had counted: SHOW STATS adds it to the totals of their database, which
 * are to grow only. Each worker keeps the sums of its own pools, with a hold of the database, until
 * that is dropped.
 */
#ifndef WEIR_POOL_ENDED_H
#define WEIR_POOL_ENDED_H

#include "core/map.h"
#include "core/stats.h"

struct database;
struct pool_set;

struct pool_ended {
    struct map_node node; /* in pool_set->ended; key: the pointer */
    struct database *database;
    struct stats_values stats;
};

/* Adds the counts of a pool that ends, those of its nodes included. */
void ended_keep(struct pool_set *set, struct database *database, const struct stats *stats);

/* Forgets the sums of databases that are to be dropped. */
void ended_tick(struct pool_set *set);

/* Forgets all. */
void ended_release(struct pool_set *set);

#endif
