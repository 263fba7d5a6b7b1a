/*
 * Averages over the last stats_period, for SHOW STATS and the line of statistics. Pure.
 */
#ifndef WEIR_ADMIN_AVERAGE_H
#define WEIR_ADMIN_AVERAGE_H

#include "core/map.h"
#include "core/stats.h"

/* What happened between two readings: counts, bytes and waiting per second, the time of
 * transactions and queries for each of them, as PgBouncer has it. A counter that went back (its
 * pool is gone) counts as still. `period_us` of 0 gives zeros. */
void stats_average(struct stats_values *average, const struct stats_values *before,
                   const struct stats_values *now, uint64_t period_us);

/* The readings and averages by database; zeroed memory is empty. The name "" is all together. */
struct averages {
    struct map map;
};
void averages_release(struct averages *averages);

/* A new reading for a database, `period_us` after the one before. */
void averages_note(struct averages *averages, const char *name, const struct stats_values *now,
                   uint64_t period_us);

/* The averages over the last period; zeros where there was no reading. */
struct stats_values averages_get(const struct averages *averages, const char *name);

#endif
