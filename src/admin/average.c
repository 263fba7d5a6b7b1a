/* Averages; see admin/average.h. */
#include "admin/average.h"

#include "core/clock.h"
#include "core/memory.h"

struct average {
    struct map_node node;
    struct stats_values last; /* the latest reading */
    struct stats_values average;
    char name[];
};

static uint64_t difference(uint64_t before, uint64_t now) {
    return now > before ? now - before : 0;
}

static uint64_t divided(uint64_t n, uint64_t by) {
    return by == 0 ? 0 : n / by;
}

/* Per second; through a wider type, since bytes times a million may overflow. */
static uint64_t per_second(uint64_t n, uint64_t period_us) {
    return period_us == 0 ? 0 : (uint64_t)((long double)n * US_PER_S / (long double)period_us);
}

void stats_average(struct stats_values *average, const struct stats_values *before,
                   const struct stats_values *now, uint64_t period_us) {
#define PER_SECOND(name, metric, help)                                                             \
    average->name = per_second(difference(before->name, now->name), period_us);
    STATS_COUNTERS(PER_SECOND)
#undef PER_SECOND
    average->transaction_us = divided(difference(before->transaction_us, now->transaction_us),
                                      difference(before->transactions, now->transactions));
    average->query_us = divided(difference(before->query_us, now->query_us),
                                difference(before->queries, now->queries));
}

void averages_release(struct averages *averages) {
    struct map_node *node = map_next(&averages->map, NULL);
    while (node != NULL) {
        struct average *average = MAP_OWNER(node, struct average, node);
        node = map_next(&averages->map, node);
        memory_free(average);
    }
    map_release(&averages->map);
}

void averages_note(struct averages *averages, const char *name, const struct stats_values *now,
                   uint64_t period_us) {
    struct map_node *node = map_find(&averages->map, bytes_of_text(name));
    struct average *average;
    if (node != NULL) {
        average = MAP_OWNER(node, struct average, node);
    } else {
        size_t len = strlen(name);
        average = memory_new(sizeof *average + len + 1);
        memcpy(average->name, name, len);
        map_add(&averages->map, &average->node, bytes_of(average->name, len));
    }
    stats_average(&average->average, &average->last, now, period_us);
    average->last = *now;
}

struct stats_values averages_get(const struct averages *averages, const char *name) {
    struct map_node *node = map_find(&averages->map, bytes_of_text(name));
    if (node == NULL) return (struct stats_values){0};
    return MAP_OWNER(node, struct average, node)->average;
}
