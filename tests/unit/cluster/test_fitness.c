/*
 * Fitness: a scenario a row, judged second by second.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/fitness.h"
#include "core/check.h"
#include "core/clock.h"

#include <stdio.h>

#define START_US (100u * (uint64_t)US_PER_S)

static const struct fitness_limits limits = {.lag_bytes = 100,
                                             .lag_ms = 1000,
                                             .slow_start_us = 4 * US_PER_S,
                                             .error_window_us = 2 * US_PER_S,
                                             .error_limit = 3};

/* Lag: 100 bytes and 1000 ms are allowed. */
static const struct {
    bool has_lag;
    uint64_t bytes, ms;
    enum fitness_state state;
} lags[] = {
    {true, 0, 0, FITNESS_FINE},
    {true, 100, 1000, FITNESS_FINE},
    {true, 101, 0, FITNESS_LAGS_BYTES},
    {true, 1, 1001, FITNESS_LAGS_TIME},
    {true, 101, 1001, FITNESS_LAGS_BYTES},
    {false, 101, 1001, FITNESS_FINE},
};

static void lag_is_limited(void **unused) {
    (void)unused;
    static const struct fitness_limits none;
    for (size_t i = 0; i < COUNT(lags); i++) {
        struct fitness fitness = {0};
        struct fitness_view view = {.now_us = START_US,
                                    .has_lag = lags[i].has_lag,
                                    .lag_bytes = lags[i].bytes,
                                    .lag_ms = lags[i].ms,
                                    .is_needed = true}; /* lag counts all the same */
        if (fitness_judge(&fitness, &limits, &view) != lags[i].state)
            fail_msg("row %zu: %d", i, fitness.state);
        assert_int_equal(fitness.ramp, NODE_RAMP_FULL);
        assert_int_equal(fitness_judge(&fitness, &none, &view), FITNESS_FINE);
    }
}

/* Failures in each second, whether another replica serves (n: not), and what comes of it:
 * `.` serves, `x` is left out, `t` is on trial. The window has two seconds, the limit is 3. */
static const struct {
    const char *errors;
    const char *needed;
    const char *states;
} runs[] = {
    {"00000000000", "", "..........."},
    {"30000000000", "", "..........."},
    {"40000000000", "", "xxtt......."},
    {"22000000000", "", ".xxtt......"},
    {"20200000000", "", "..........."}, /* the window is over before the third */
    {"11110000000", "", "..........."},
    {"49900000000", "", "xxtt......."}, /* what still fails while it is left out is not counted */
    {"40100000000000", "", "xxtt.........."},
    {"40010000000000", "", "xxtxxxxtt....."},
    {"4001000010000000000", "", "xxtxxxxtxxxxxxxxtt."},
    {"40010000040000", "", "xxtxxxxttxxtt."}, /* having served well it is left out briefly */
    {"40000000000", "n", "..........."},
    {"44440000000", "nnn", "...xxtt...."},
};

static char state_of(const struct fitness *fitness) {
    if (fitness->state == FITNESS_FAILS) return 'x';
    return fitness->trial_until_us != 0 ? 't' : '.';
}

static void failures_are_limited(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(runs); i++) {
        struct fitness fitness = {0};
        struct fitness_view view = {.now_us = START_US};
        char states[32] = "";
        for (size_t second = 0; runs[i].errors[second] != '\0'; second++) {
            view.errors += (uint32_t)(runs[i].errors[second] - '0');
            view.is_needed = second < strlen(runs[i].needed);
            (void)fitness_judge(&fitness, &limits, &view);
            states[second] = state_of(&fitness);
            if (states[second] == 't') assert_int_equal(fitness.ramp, NODE_RAMP_FULL / 16);
            view.now_us += US_PER_S;
        }
        if (strcmp(states, runs[i].states) != 0) fail_msg("row %zu: %s", i, states);
    }
}

static void who_returns_starts_slowly(void **unused) {
    (void)unused;
    static const unsigned ramps[] = {16, 64, 128, 192, 256, 256};
    struct fitness fitness = {0};
    struct fitness_view view = {.now_us = START_US, .errors = 50};
    fitness_return(&fitness, view.now_us, view.errors);
    for (size_t second = 0; second < COUNT(ramps); second++) {
        assert_int_equal(fitness_judge(&fitness, &limits, &view), FITNESS_FINE);
        assert_int_equal(fitness.ramp, ramps[second]);
        view.now_us += US_PER_S;
    }
    struct fitness_limits at_once = limits;
    at_once.slow_start_us = 0;
    fitness_return(&fitness, view.now_us, view.errors);
    (void)fitness_judge(&fitness, &at_once, &view);
    assert_int_equal(fitness.ramp, NODE_RAMP_FULL);
}

static void nodes_have_ranks_and_shares(void **unused) {
    (void)unused;
    static const struct {
        unsigned weight;
        bool is_far, is_out;
        unsigned ramp;
        enum node_rank rank;
        uint32_t share;
    } rows[] = {
        {1, false, false, 256, NODE_RANK_NEAR, 256}, {2, false, false, 64, NODE_RANK_NEAR, 128},
        {3, true, false, 256, NODE_RANK_FAR, 768},   {0, true, false, 256, NODE_RANK_SPARE, 256},
        {0, false, true, 1, NODE_RANK_OUT, 1},       {5, true, true, 256, NODE_RANK_OUT, 1280},
    };
    static const struct cluster_member member = {"h", 1, 1, NULL, false};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct cluster *cluster = cluster_new("app", &member, 1, true);
        struct node *node = cluster_node(cluster, 0);
        struct cluster_member now = {
            .weight = rows[i].weight, .zone = "z", .is_far = rows[i].is_far};
        assert_int_equal(node_fit(node, rows[i].is_out, rows[i].ramp), rows[i].is_out);
        assert_false(node_fit(node, rows[i].is_out, rows[i].ramp));
        node_weigh(node, &now);
        assert_string_equal(node->zone, "z");
        assert_int_equal(node_rank(node), rows[i].rank);
        assert_int_equal(node_share(node), rows[i].share);
        cluster_free(&cluster);
    }
}

static void lags_and_latencies(void **unused) {
    (void)unused;
    static const struct {
        uint64_t seen_us, age_ms, lag_ms;
    } rows[] = {
        {5000, 9, 5},  {9000, 5, 5},       {5000, 0, 5},       {UINT64_MAX, 7, 7},
        {900, 100, 0}, {3000, 3600000, 3}, {UINT64_MAX, 0, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(fitness_lag_ms(rows[i].seen_us, rows[i].age_ms), rows[i].lag_ms);
    struct node node = {.index = 0};
    node_note_latency(&node, 8000);
    assert_int_equal(atomic_load(&node.latency_us), 8000);
    node_note_latency(&node, 16000);
    assert_int_equal(atomic_load(&node.latency_us), 9000);
    node_note_latency(&node, UINT64_MAX);
    assert_int_equal(atomic_load(&node.latency_us), 9000 - 1125 + 2000000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lag_is_limited),
        cmocka_unit_test(failures_are_limited),
        cmocka_unit_test(who_returns_starts_slowly),
        cmocka_unit_test(nodes_have_ranks_and_shares),
        cmocka_unit_test(lags_and_latencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
