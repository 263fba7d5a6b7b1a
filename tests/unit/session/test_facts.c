/* Which functions may leave something in a session; see session/facts.h. */
#include "core/check.h"
#include "session/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct row {
    const char *names; /* as traits tell them, with a blank for each NUL */
    bool is_complete, concerns;
} rows[] = {
    {"", true, false},
    {"flock ", true, true},
    {"fpublic.lock rlock ", true, true},
    {"rt rlock slock flocks fblock fLock ", true, false},
    {"flocks ", false, true}, /* there are more that are not told */
    {"ra fmake_table ", true, true},
};

static void test_what_concerns(void **state) {
    (void)state;
    struct map all = {0};
    struct facts *facts = facts_of(&all, bytes_of_text("app"));
    assert_ptr_equal(facts_of(&all, bytes_of_text("app")), facts);
    assert_ptr_not_equal(facts_of(&all, bytes_of_text("other")), facts);
    facts_add(facts, bytes_of_text("lock"));
    facts_add(facts, bytes_of_text("make_table"));
    struct traits any = {.names_complete = true};
    assert_true(facts_concern(facts, &any)); /* nothing is known yet */
    facts_learned(facts, 3, 1000);
    for (size_t i = 0; i < COUNT(rows); i++) {
        char names[100];
        size_t len = strlen(rows[i].names);
        for (size_t at = 0; at < len; at++)
            names[at] = rows[i].names[at] == ' ' ? '\0' : rows[i].names[at];
        struct traits traits = {.names = bytes_of(names, len),
                                .names_complete = rows[i].is_complete};
        if (facts_concern(facts, &traits) != rows[i].concerns) fail_msg("row %zu", i);
    }
    facts_release_all(&all);
}

static void test_when_they_are_due(void **state) {
    (void)state;
    struct map all = {0};
    struct facts *facts = facts_of(&all, bytes_of_text("app"));
    struct traits any = {.names_complete = true};
    assert_true(facts_are_due(facts, 0, 1));
    facts_learned(facts, 3, 1000);
    assert_false(facts_are_due(facts, 3, UINT64_C(599) * 1000000));
    assert_true(facts_are_due(facts, 3, UINT64_C(601) * 1000000));
    assert_true(facts_are_due(facts, 4, 2000));
    assert_false(facts_concern(facts, &any));
    facts_add(facts, bytes_of_text("cut off"));
    facts_failed(facts, 4, 2000);
    assert_false(facts_are_due(facts, 4, 3000));
    assert_true(facts_concern(facts, &any));
    for (int i = 0; i < 1000; i++) facts_add(facts, bytes_of_text("one of many"));
    facts_learned(facts, 5, 3000);
    assert_true(facts_concern(facts, &any)); /* there may be more than were told */
    facts_learned(facts, 5, 4000);
    assert_false(facts_concern(facts, &any));
    facts_release_all(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_concerns),
        cmocka_unit_test(test_when_they_are_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
