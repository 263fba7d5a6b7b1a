/* What functions may leave in a session; see session/facts.h. */
#include "core/check.h"
#include "session/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define LASTS   FACT_LASTS
#define SETS    FACT_SETS
#define UNKNOWN FACT_SETS_UNKNOWN

static void tell(struct facts *facts, const char *mark, const char *name) {
    assert_true(facts_row(facts, bytes_of_text(mark), bytes_of_text(name)));
}

static struct facts *some_facts(struct map *all) {
    struct facts *facts = facts_of(all, bytes_of_text("app"));
    tell(facts, "  l", "lock");
    tell(facts, "  s", "enter");
    tell(facts, "  v", "app.tenant");
    tell(facts, "  u", "set_any");
    tell(facts, "  l", "set_any");
    tell(facts, "  v", "work_mem");
    facts_learned(facts, 3, 1000);
    return facts;
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
    struct facts *facts = some_facts(&all);
    for (size_t i = 0; i < COUNT(functions); i++) {
        unsigned leaves = facts_of_function(facts, bytes_of_text(functions[i].name));
        if (leaves != functions[i].leaves) fail_msg("row %zu: %x", i, leaves);
    }
    struct bytes rest = buf_content(&facts->told), name;
    assert_true(facts_next_parameter(&rest, &name) && bytes_equal_text(name, "app.tenant"));
    assert_true(facts_next_parameter(&rest, &name) && bytes_equal_text(name, "work_mem"));
    assert_false(facts_next_parameter(&rest, &name));
    facts_release_all(&all);
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
    struct facts *facts = some_facts(&all);
    for (size_t i = 0; i < COUNT(programs); i++) {
        unsigned leaves = facts_of_program(facts, bytes_of_text(programs[i].text));
        if (leaves != programs[i].leaves) fail_msg("row %zu: %x", i, leaves);
    }
    facts_release_all(&all);
}

static void test_when_they_are_due(void **state) {
    (void)state;
    struct map all = {0};
    struct bytes any = bytes_of_text("any");
    struct facts *facts = facts_of(&all, bytes_of_text("app"));
    assert_ptr_equal(facts_of(&all, bytes_of_text("app")), facts);
    assert_ptr_not_equal(facts_of(&all, bytes_of_text("other")), facts);
    assert_true(facts_are_due(facts, 0, 1));
    assert_int_equal(facts_of_function(facts, any), LASTS); /* nothing is known yet */
    facts_learned(facts, 3, 1000);
    assert_int_equal(facts_of_function(facts, any), 0);
    assert_false(facts_are_due(facts, 3, UINT64_C(599) * 1000000));
    assert_true(facts_are_due(facts, 3, UINT64_C(601) * 1000000));
    assert_true(facts_are_due(facts, 4, 2000));
    tell(facts, "  l", "cut off");
    facts_failed(facts, 4, 2000);
    assert_false(facts_are_due(facts, 4, 3000));
    assert_int_equal(facts_of_function(facts, any), LASTS);
    for (int i = 0; i < 2000; i++) tell(facts, "  l", "one of many");
    facts_learned(facts, 5, 3000);
    assert_int_equal(facts_of_function(facts, any), LASTS); /* there may be more */
    facts_learned(facts, 5, 4000);
    assert_int_equal(facts_of_function(facts, any), 0);
    /* Rows of other questions. */
    assert_false(facts_row(facts, bytes_of_text(" l"), any));
    assert_false(facts_row(facts, bytes_of_text("  x"), any));
    assert_false(facts_row(facts, bytes_of_text("role"), any));
    facts_release_all(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_when_they_are_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
