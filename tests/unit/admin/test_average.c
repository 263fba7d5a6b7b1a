/* Averages between two readings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/average.h"
#include "core/check.h"
#include "core/clock.h"

static const struct {
    struct stats_values before;
    struct stats_values now;
    uint64_t period_us;
    struct stats_values average;
} rows[] = {
    /* nothing happened */
    {{.queries = 5, .query_us = 7}, {.queries = 5, .query_us = 7}, US_PER_S, {0}},
    /* per second; times for each transaction or query, waiting per second */
    {{.queries = 100, .query_us = 1000, .transactions = 10, .transaction_us = 500, .wait_us = 4},
     {.queries = 300, .query_us = 3000, .transactions = 30, .transaction_us = 1500, .wait_us = 104},
     2 * US_PER_S,
     {.queries = 100, .query_us = 10, .transactions = 10, .transaction_us = 50, .wait_us = 50}},
    /* bytes of a fast line */
    {{.bytes_sent = 1},
     {.bytes_sent = 1 + (UINT64_C(1) << 50)},
     US_PER_S / 2,
     {.bytes_sent = UINT64_C(1) << 51}},
    /* less than one a second */
    {{0}, {.client_logins = 59}, 60 * US_PER_S, {0}},
    /* a counter that went back, and a query time without a query */
    {{.queries = 9, .query_us = 9}, {.queries = 3, .query_us = 100}, US_PER_S, {0}},
    /* no time */
    {{0}, {.queries = 5}, 0, {0}},
};

static void averages_are_right(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct stats_values average = {0};
        stats_average(&average, &rows[i].before, &rows[i].now, rows[i].period_us);
        if (memcmp(&average, &rows[i].average, sizeof average) != 0) fail_msg("row %zu", i);
    }
}

/* The window: since the start, then since the end of the period before the last. */
static void they_are_kept_by_name(void **unused) {
    (void)unused;
    struct averages averages = {0};
    const struct stats_values first = {.queries = 10}, second = {.queries = 30};
    averages_turn(&averages, 100 * US_PER_S); /* the start */
    averages.older_us = averages.newer_us;
    assert_int_equal(averages_get(&averages, "a", &first, 100 * US_PER_S).queries, 0);
    assert_int_equal(averages_get(&averages, "a", &first, 105 * US_PER_S).queries, 2);
    averages_turn(&averages, 110 * US_PER_S);
    averages_note(&averages, "a", &first);
    averages_note(&averages, "b", &second);
    assert_int_equal(averages_get(&averages, "a", &first, 110 * US_PER_S).queries, 1);
    assert_int_equal(averages_get(&averages, "b", &second, 110 * US_PER_S).queries, 3);
    assert_int_equal(averages_get(&averages, "a", &second, 115 * US_PER_S).queries, 2);
    averages_turn(&averages, 120 * US_PER_S);
    averages_note(&averages, "a", &second);
    assert_int_equal(averages_get(&averages, "a", &second, 120 * US_PER_S).queries, 2);
    assert_int_equal(averages_get(&averages, "a", &second, 130 * US_PER_S).queries, 1);
    averages_turn(&averages, 130 * US_PER_S);
    averages_note(&averages, "a", &second);
    assert_int_equal(averages_get(&averages, "a", &second, 131 * US_PER_S).queries, 0);
    assert_int_equal(averages_get(&averages, "new", &second, 135 * US_PER_S).queries, 2);
    averages_release(&averages);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(averages_are_right),
        cmocka_unit_test(they_are_kept_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
