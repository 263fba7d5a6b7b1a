/* Averages; see admin/average.h. */
#include "admin/average.h"

#include "core/clock.h"
#include "core/memory.h"

struct average {
    struct map_node node;
    struct stats_values older;
    struct stats_values newer;
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

void averages_turn(struct averages *averages, uint64_t now_us) {
    averages->older_us = averages->newer_us;
    averages->newer_us = now_us;
}

void averages_note(struct averages *averages, const char *name, const struct stats_values *now) {
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
    average->older = average->newer;
    average->newer = *now;
}

struct stats_values averages_get(const struct averages *averages, const char *name,
                                 const struct stats_values *now, uint64_t now_us) {
    static const struct stats_values nothing = {0};
    struct map_node *node = map_find(&averages->map, bytes_of_text(name));
    const struct stats_values *older =
        node == NULL ? &nothing : &MAP_OWNER(node, struct average, node)->older;
    struct stats_values average;
    stats_average(&average, older, now, difference(averages->older_us, now_us));
    return average;
}
