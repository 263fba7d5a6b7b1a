/* Time: two clocks, and how a point in time is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/clock.h"

#include <stdlib.h>
#include <time.h>

static const struct {
    int64_t wall_us;
    int with_ms;
    const char *text;
} rows[] = {
    {0, 0, "1970-01-01 00:00:00"},
    {0, 1, "1970-01-01 00:00:00.000"},
    {999, 1, "1970-01-01 00:00:00.000"},
    {1000, 1, "1970-01-01 00:00:00.001"},
    {999999, 1, "1970-01-01 00:00:00.999"},
    {999999, 0, "1970-01-01 00:00:00"},
    {1000000, 1, "1970-01-01 00:00:01.000"},
    {INT64_C(951827696789000), 1, "2000-02-29 12:34:56.789"},
    {INT64_C(1795335955846123), 1, "2026-11-22 08:25:55.846"},
    {INT64_C(1795335955846123), 0, "2026-11-22 08:25:55"},
    {INT64_C(4294967296000000), 1, "2106-02-07 06:28:16.000"},
    {INT64_C(253402300799999999), 1, "9999-12-31 23:59:59.999"},
};

static void points_in_time_are_written_in_utc(void **unused) {
    (void)unused;
    assert_int_equal(setenv("TZ", "Asia/Tokyo", 1), 0);
    tzset();
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[CLOCK_TEXT_SIZE];
        clock_format(text, rows[i].wall_us, rows[i].with_ms);
        assert_string_equal(text, rows[i].text);
    }
}

static void the_monotonic_clock_goes_on(void **unused) {
    (void)unused;
    uint64_t before = clock_monotonic_us();
    assert_true(before > 0);
    struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    assert_int_equal(nanosleep(&pause, NULL), 0);
    uint64_t after = clock_monotonic_us();
    assert_in_range(after - before, 5 * US_PER_MS, 5 * US_PER_S);
    for (int i = 0; i < 1000; i++) {
        uint64_t next = clock_monotonic_us();
        assert_true(next >= after);
        after = next;
    }
}

static void the_wall_clock_is_the_systems(void **unused) {
    (void)unused;
    int64_t before = (int64_t)time(NULL);
    int64_t now = clock_wall_us() / US_PER_S;
    int64_t after = (int64_t)time(NULL);
    assert_true(now >= before && now <= after + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_in_time_are_written_in_utc),
        cmocka_unit_test(the_monotonic_clock_goes_on),
        cmocka_unit_test(the_wall_clock_is_the_systems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
