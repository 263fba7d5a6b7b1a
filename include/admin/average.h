/*
 * Averages for SHOW STATS and the line of statistics, over a window as PgBouncer has it: from the
 * beginning of the last whole stats_period until now. Right after the start it is what there was
 * since. Pure.
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

/* The readings at the two latest ends of a period, by database; zeroed memory is empty. The name ""
 * is all together. */
struct averages {
    struct map map;
    uint64_t older_us; /* when they were taken; at first when the process started */
    uint64_t newer_us;
};
void averages_release(struct averages *averages);

/* A period ends: the readings that averages_note brings now are the newer ones. */
void averages_turn(struct averages *averages, uint64_t now_us);
void averages_note(struct averages *averages, const char *name, const struct stats_values *now);

/* The averages of the window that ends with the reading `now`. */
struct stats_values averages_get(const struct averages *averages, const char *name,
                                 const struct stats_values *now, uint64_t now_us);

#endif
