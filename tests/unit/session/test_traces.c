/* What functions may leave in a session; see session/traces.h. */
#include "core/check.h"
#include "session/traces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LASTS   TRACE_LASTS
#define SETS    TRACE_SETS
#define UNKNOWN TRACE_SETS_UNKNOWN

static void tell(struct traces *traces, const char *mark, const char *name) {
    assert_true(traces_row(traces, bytes_of_text(mark), bytes_of_text(name)));
}

static struct traces *some_traces(struct map *all) {
    struct traces *traces = traces_of(all, bytes_of_text("app"));
    tell(traces, "  l", "lock");
    tell(traces, "  s", "enter");
    tell(traces, "  v", "app.tenant");
    tell(traces, "  u", "set_any");
    tell(traces, "  l", "set_any");
    tell(traces, "  v", "work_mem");
    traces_learned(traces, 3, 1000);
    return traces;
}

static const struct function_row {
    const char *name;
    unsigned leaves;
} functions[] = {
    {"lock", LASTS},
    {"public.lock", LASTS},
    {"a.b.lock", LASTS},
    {"locks", 0},
    {"Lock", 0},
    {"enter", SETS},
    {"lock.enter", SETS},
    {"lock.other", 0},
    {"set_any", UNKNOWN | LASTS},
    {"app.tenant", 0},
    {"", 0},
};

static void test_functions(void **state) {
    (void)state;
    struct map all = {0};
    struct traces *traces = some_traces(&all);
    for (size_t i = 0; i < COUNT(functions); i++) {
        unsigned leaves = traces_of_function(traces, bytes_of_text(functions[i].name));
        if (leaves != functions[i].leaves) fail_msg("row %zu: %x", i, leaves);
    }
    struct bytes rest = buf_content(&traces->told), name;
    assert_true(traces_next_parameter(&rest, &name) && bytes_equal_text(name, "app.tenant"));
    assert_true(traces_next_parameter(&rest, &name) && bytes_equal_text(name, "work_mem"));
    assert_false(traces_next_parameter(&rest, &name));
    traces_release_all(&all);
}

static const struct program_row {
    const char *text;
    unsigned leaves;
} programs[] = {
    {"", 0},
    {" BEGIN PERFORM 1; END ", 0},
    {"BEGIN UPDATE t SET a = 1; END", 0},
    {"BEGIN INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE\nSET a = 1; END", 0},
    {"BEGIN SET app.v = 1; END", UNKNOWN},
    {"begin\n  if x then\n set app.v = 1; end if; end", UNKNOWN},
    {"BEGIN PERFORM 1;RESET ALL; END", UNKNOWN},
    {"SET ROLE x", UNKNOWN},
    {"BEGIN EXECUTE 'SET ROLE x'; END", UNKNOWN},
    {"BEGIN EXECUTE $q$ reset role $q$; END", UNKNOWN},
    {"BEGIN PERFORM pg_catalog.SET_CONFIG('a.b', 'c', false); END", UNKNOWN},
    {"BEGIN PERFORM enter(1); CALL s.lock(); END", SETS | LASTS},
    {"BEGIN PERFORM offset_config(locker); END", 0},
};

static void test_programs(void **state) {
    (void)state;
    struct map all = {0};
    struct traces *traces = some_traces(&all);
    for (size_t i = 0; i < COUNT(programs); i++) {
        unsigned leaves = traces_of_program(traces, bytes_of_text(programs[i].text));
        if (leaves != programs[i].leaves) fail_msg("row %zu: %x", i, leaves);
    }
    traces_release_all(&all);
}

static void test_when_they_are_due(void **state) {
    (void)state;
    struct map all = {0};
    struct bytes any = bytes_of_text("any");
    struct traces *traces = traces_of(&all, bytes_of_text("app"));
    assert_ptr_equal(traces_of(&all, bytes_of_text("app")), traces);
    assert_ptr_not_equal(traces_of(&all, bytes_of_text("other")), traces);
    assert_true(traces_are_due(traces, 0, 1));
    assert_int_equal(traces_of_function(traces, any), LASTS); /* nothing is known yet */
    traces_learned(traces, 3, 1000);
    assert_int_equal(traces_of_function(traces, any), 0);
    assert_false(traces_are_due(traces, 3, UINT64_C(599) * 1000000));
    assert_true(traces_are_due(traces, 3, UINT64_C(601) * 1000000));
    assert_true(traces_are_due(traces, 4, 2000));
    tell(traces, "  l", "cut off");
    traces_failed(traces, 4, 2000);
    assert_false(traces_are_due(traces, 4, 3000));
    assert_int_equal(traces_of_function(traces, any), LASTS);
    for (int i = 0; i < 2000; i++) tell(traces, "  l", "one of many");
    traces_learned(traces, 5, 3000);
    assert_int_equal(traces_of_function(traces, any), LASTS); /* there may be more */
    traces_learned(traces, 5, 4000);
    assert_int_equal(traces_of_function(traces, any), 0);
    /* Rows of other questions. */
    assert_false(traces_row(traces, bytes_of_text(" l"), any));
    assert_false(traces_row(traces, bytes_of_text("  x"), any));
    assert_false(traces_row(traces, bytes_of_text("role"), any));
    traces_release_all(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_when_they_are_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
