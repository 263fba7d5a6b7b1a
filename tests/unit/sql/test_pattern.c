/* Patterns: which texts fit, and that the lexer gives those the same shape. */
#include "../../../src/sql/pattern.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/lex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool fits(const char *of, const char *text) {
    struct pattern *pattern = pattern_new(bytes_of_text(of));
    bool does = pattern_fits(pattern, bytes_of_text(text));
    if (does) assert_int_equal(pattern_key(bytes_of_text(of)), pattern_key(bytes_of_text(text)));
    memory_free(pattern);
    return does;
}

static void test_integers_may_differ(void **state) {
    (void)state;
    assert_true(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = 4"));
    assert_true(fits("SELECT a FROM t WHERE b = 17;", "SELECT a FROM t WHERE b = 123456789;"));
    assert_true(fits("SELECT 1, (2), 3::int", "SELECT 10, (20), 30::int"));
    assert_true(fits("SELECT '12'", "SELECT '3'"));
    assert_true(fits("SELECT a", "SELECT a"));
}

static void test_nothing_else_may(void **state) {
    (void)state;
    assert_false(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE c = 17"));
    assert_false(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = 17 "));
    assert_false(fits("SELECT a FROM t WHERE b = 17 ", "SELECT a FROM t WHERE b = 17"));
    assert_false(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = "));
    assert_false(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = 1.7"));
    assert_false(fits("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = 1234567890"));
    assert_false(fits("SELECT 1234567890", "SELECT 1234567891"));
    assert_false(fits("SELECT 1", ""));
}

static void test_digits_inside_words_may_not(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"SELECT c1", "SELECT c2"},
        {"SELECT 1.5", "SELECT 2.5"},
        {"SELECT 1.5", "SELECT 1.6"},
        {"SELECT 1e5", "SELECT 1e6"},
        {"SELECT $1", "SELECT $2"},
        {"SELECT E'\\1'", "SELECT E'\\2'"},
        {"SELECT $a1$ x $a1$", "SELECT $a2$ x $a1$"},
        {"SELECT 1_000", "SELECT 2_000"},
        {"SELECT t.1", "SELECT t.2"},
    };
    for (size_t i = 0; i < COUNT(pairs); i++) assert_false(fits(pairs[i][0], pairs[i][1]));
}

/* Texts that play with every way in which digits can be part of something. */
static const char *const corpus[] = {
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    "select 1 - 2 --3\n, 4",
    "select 5--5",
    "select /* 1 */ 2 /* a /* 3 */ 4 */",
    "select x'12', b'01', E'12', U&'12', n'5', $$ 6 $$, $q$7$q$",
    "select \"1\", \"a 2\" from t limit 3 offset 4",
    "select a from t where b in (1, 2, 3) and c in ('1', '2')",
    "select array[1,2], a[3], a[4:5]",
    "values (1, 2), (3, 4)",
    "insert into t values (1, '2'), (3, '4')",
    "select nextval('5'), setval('s', 6), pg_advisory_lock(7)",
    "select 16384::regclass, '16384'::regclass, 1::int, cast(2 as numeric(10,2))",
    "set work_mem = 64",
    "create table t (a varchar(10))",
    "select 1..2",
    "select 1 .5, 3 from t",
    "select interval '1' day, date '2020-01-02'",
    "select 'it''s 5' || '6'\n'7'",
    "select e'\\\\ 5', e'\\\\5'",
    "select 1;select 2;",
    "select f(1)/2*3%4+5-6<7>8=9",
    "select a from t where b = 007 and c = 000000001",
    "/* weir:primary */ select 1",
    "update t set a = 1, b = b + 2 where c = '3'",
    "declare c cursor for select 1",
    "select 1 uescape 2, U&'1' uescape '2'",
    "copy (select 1) to stdout",
    "begin; select 1",
};

/* As the cache of traits uses them: what varies must not change the shape, or nothing may vary. */
static void test_what_fits_has_the_same_shape(void **state) {
    (void)state;
    static char shape[LEX_SHAPE_BYTES(PATTERN_TEXT_MAX)], other_shape[sizeof shape];
    char varied[PATTERN_TEXT_MAX];
    unsigned checked = 0;
    srandom(1);
    for (size_t i = 0; i < COUNT(corpus); i++) {
        struct lex_result lexed, other;
        if (!lex_text(bytes_of_text(corpus[i]), shape, &lexed)) continue;
        struct pattern *pattern = pattern_new(bytes_of_text(corpus[i]));
        bool is_same = lex_text(pattern_vary(pattern, varied), other_shape, &other) &&
                       bytes_equal(lexed.shape, other.shape);
        for (unsigned turn = 0; is_same && turn < 500; turn++) {
            char text[PATTERN_TEXT_MAX];
            size_t len = 0, from = 0;
            for (size_t hole = 0; hole < pattern->holes_count; hole++) {
                size_t run = pattern->holes[hole].at - from;
                memcpy(text + len, pattern->text + from, run);
                len += run;
                for (long digits = 1 + random() % 9; digits > 0; digits--)
                    text[len++] = (char)('0' + random() % 10);
                from = (size_t)pattern->holes[hole].at + pattern->holes[hole].len;
            }
            memcpy(text + len, pattern->text + from, pattern->len - from);
            len += pattern->len - from;
            assert_true(pattern_fits(pattern, bytes_of(text, len)));
            assert_true(lex_text(bytes_of(text, len), other_shape, &other));
            assert_true(bytes_equal(lexed.shape, other.shape));
            assert_int_equal(lexed.hint_primary, other.hint_primary);
            checked++;
        }
        memory_free(pattern);
    }
    assert_true(checked > 5000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_may_differ),
        cmocka_unit_test(test_nothing_else_may),
        cmocka_unit_test(test_digits_inside_words_may_not),
        cmocka_unit_test(test_what_fits_has_the_same_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
