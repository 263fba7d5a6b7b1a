/* The saturation alert, second by second. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/alert.h"
#include "core/check.h"
#include "core/clock.h"

#define START 1000u

/* One judgement: when, with which rule and value, and what it leads to. */
struct step {
    unsigned second;
    unsigned threshold;
    unsigned for_s;
    unsigned value;
    enum alert_state state;
    enum alert_change change;
    unsigned since; /* second; 0: not above */
};

static void play(const struct step *steps, size_t count) {
    struct alert alert = {0};
    for (size_t i = 0; i < count; i++) {
        struct alert_rule rule = {steps[i].threshold, (uint64_t)steps[i].for_s * US_PER_S};
        struct alert_time now = {(uint64_t)(START + steps[i].second) * US_PER_S,
                                 (int64_t)steps[i].second * US_PER_S};
        enum alert_change change = alert_judge(&alert, &rule, steps[i].value, now);
        uint64_t since_us = steps[i].since == 0 ? 0 : (uint64_t)(START + steps[i].since) * US_PER_S;
        if (alert.state != steps[i].state || change != steps[i].change ||
            alert.since_us != since_us || alert.value != steps[i].value)
            fail_msg("step %zu: state %s, change %d, since %lu", i, alert_state_text(alert.state),
                     (int)change, alert.since_us);
    }
}

static void it_starts_and_ends(void **unused) {
    (void)unused;
    static const struct step steps[] = {
        {1, 45, 60, 0, ALERT_OK, ALERT_SAME, 0},
        {2, 45, 60, 45, ALERT_OK, ALERT_SAME, 0}, /* as many as the threshold are not above it */
        {3, 45, 60, 46, ALERT_PENDING, ALERT_SAME, 3},
        {62, 45, 60, 46, ALERT_PENDING, ALERT_SAME, 3},
        {63, 45, 60, 50, ALERT_FIRING, ALERT_STARTED, 3},
        {64, 45, 60, 46, ALERT_FIRING, ALERT_SAME, 3},
        {65, 45, 60, 45, ALERT_OK, ALERT_ENDED, 0},
        {66, 45, 60, 45, ALERT_OK, ALERT_SAME, 0},
    };
    play(steps, COUNT(steps));
}

static void a_short_peak_is_none(void **unused) {
    (void)unused;
    static const struct step steps[] = {
        {1, 45, 60, 100, ALERT_PENDING, ALERT_SAME, 1},
        {60, 45, 60, 10, ALERT_OK, ALERT_SAME, 0},
        {61, 45, 60, 100, ALERT_PENDING, ALERT_SAME, 61}, /* the time counts anew */
        {100, 45, 60, 100, ALERT_PENDING, ALERT_SAME, 61},
        {121, 45, 60, 100, ALERT_FIRING, ALERT_STARTED, 61},
    };
    play(steps, COUNT(steps));
}

static void its_rule_may_change(void **unused) {
    (void)unused;
    static const struct step steps[] = {
        {1, 0, 60, 100, ALERT_OK, ALERT_SAME, 0},
        {2, 10, 0, 11, ALERT_FIRING, ALERT_STARTED, 2}, /* no time: at once */
        {3, 20, 0, 11, ALERT_OK, ALERT_ENDED, 0},
        {4, 10, 60, 11, ALERT_PENDING, ALERT_SAME, 4},
        {5, 10, 1, 11, ALERT_FIRING, ALERT_STARTED, 4},
        {6, 10, 60, 11, ALERT_FIRING, ALERT_SAME, 4}, /* what fires goes on */
        {7, 0, 60, 11, ALERT_OK, ALERT_ENDED, 0},
    };
    play(steps, COUNT(steps));
}

static void it_keeps_the_highest_value(void **unused) {
    (void)unused;
    struct alert alert = {0};
    const struct alert_rule rule = {5, US_PER_S};
    const unsigned values[] = {6, 9, 7};
    for (unsigned i = 0; i < COUNT(values); i++)
        (void)alert_judge(&alert, &rule, values[i], (struct alert_time){(i + 1) * US_PER_S, 1});
    assert_int_equal(alert.highest, 9);
    (void)alert_judge(&alert, &rule, 0, (struct alert_time){9 * US_PER_S, 1});
    (void)alert_judge(&alert, &rule, 6, (struct alert_time){10 * US_PER_S, 1});
    assert_int_equal(alert.highest, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_starts_and_ends),
        cmocka_unit_test(a_short_peak_is_none),
        cmocka_unit_test(its_rule_may_change),
        cmocka_unit_test(it_keeps_the_highest_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
