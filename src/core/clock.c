/* Reading and printing time; see core/clock.h. */
#include "core/clock.h"

#include "core/check.h"

#include <stdio.h>
#include <time.h>

uint64_t clock_monotonic_us(void) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * US_PER_S + (uint64_t)t.tv_nsec / 1000 + 1;
}

int64_t clock_wall_us(void) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

int64_t clock_wall_of(uint64_t monotonic_us) {
    return clock_wall_us() - (int64_t)(clock_monotonic_us() - monotonic_us);
}

void clock_format(char text[CLOCK_TEXT_SIZE], int64_t wall_us, int with_ms) {
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm parts;
    CHECK(gmtime_r(&seconds, &parts) != NULL);
    size_t len = strftime(text, CLOCK_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &parts);
    if (with_ms) {
        unsigned ms = (unsigned)(wall_us % US_PER_S / US_PER_MS);
        (void)snprintf(text + len, CLOCK_TEXT_SIZE - len, ".%03u", ms);
    }
}
