/*
 * Time. Durations and points in time are microseconds: uint64_t from a monotonic clock for all
 * decisions, int64_t since 1970 (UTC) for what people read.
 */
#ifndef WEIR_CORE_CLOCK_H
#define WEIR_CORE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define US_PER_S  1000000u
#define US_PER_MS 1000u

/* Monotonic microseconds; never 0. */
uint64_t clock_monotonic_us(void);

/* Microseconds since 1970-01-01 00:00 UTC. */
int64_t clock_wall_us(void);

/* What the wall clock would have said at a point in monotonic time. */
int64_t clock_wall_of(uint64_t monotonic_us);

#define CLOCK_TEXT_SIZE 40

/* Writes "2026-11-22 08:25:55" or, with milliseconds, "2026-11-22 08:25:55.846", in UTC. */
void clock_format(char text[CLOCK_TEXT_SIZE], int64_t wall_us, int with_ms);

#endif
