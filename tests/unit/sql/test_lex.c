/* The lexer: what shapes look like, what is refused, and that the bounds hold. */
#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/lex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct shape_row {
    const char *text;
    const char *shape;
};

static const struct shape_row shapes[] = {
    /* Words, blanks, comments */
    {"", ""},
    {" \t\r\n\f", ""},
    {"SELECT", "select"},
    {"select\n\ta  ,  b", "select a,b"},
    {"SELECT \"A b\", \"a\"\"b\" FROM \"T\"", "select \"A b\",\"a\"\"b\" from \"T\""},
    {"SELECT caf\xc3\xa9 FROM t$1", "select caf\xc3\xa9 from t$1"},
    {"SELECT a -- b\nFROM t", "select a from t"},
    {"SELECT a -- b\rFROM t", "select a from t"},
    {"SELECT a /* b */ FROM t", "select a from t"},
    {"SELECT a/* /* b */ c */FROM t", "select a from t"},
    {"SELECT 1 --", "select 0"},
    {"SELECT 1 /**/", "select 0"},
    /* Constants by kind */
    {"SELECT 1, 23, 0, 007", "select 0,0,0,0"},
    {"SELECT 2147483647, 2147483648", "select 0,0."},
    {"SELECT 0000000000002147483647", "select 0"},
    {"SELECT 99999999999999999999", "select 0."},
    {"SELECT 1.5, .5, 1., 1e3, 1.5e-3, 1.e+3", "select 0.,0.,0.,0.,0.,0."},
    {"SELECT 1 .5", "select 0 0."},
    {"SELECT a.b, a . b, a.*, a. \"b\"", "select a.b,a.b,a. *,a.\"b\""},
    {"SELECT 'a', 'it''s', ''", "select '','',''"},
    {"SELECT 'a\\'", "select ''"},
    {"SELECT E'a\\'b', e'\\\\', E'\\n'", "select '','',''"},
    {"SELECT E'\\u0061', E'\\x41', E'\\101'", "select E'\\u0061',E'\\x41',E'\\101'"},
    {"SELECT $$a$$, $x$ $$ $y$ $x$, $x$$x$", "select '','',''"},
    {"SELECT $1, $22", "select $1,$1"},
    {"SELECT $1.a", "select $1 .a"},
    {"SELECT b'01', B'1', x'1F', X'a'", "select b'',b'',x'',x''"},
    {"SELECT E'\\\xc3\xa9', E'\xc3\xa9'", "select E'\\\xc3\xa9',''"},
    {"SELECT b'0''1', x'1'\n'2'", "select b'' '',x''"},
    {"SELECT N'a', N'b''c'", "select n'',n''"},
    {"SELECT n 'a', e 'a', x 'a', u & 'a'", "select n '',e '',x '',u & ''"},
    {"SELECT U&'\\0061', u&'b'", "select U&'\\0061',u&'b'"},
    {"SELECT NULL, TRUE, false", "select null,true,false"},
    {"SELECT 'a'b", "select '' b"},
    {"SELECT date '2020-01-01', interval '1 day'", "select date '',interval ''"},
    /* Strings that go on over a line's end, and those that do not */
    {"SELECT 'a'\n'b'", "select ''"},
    {"SELECT 'a' -- x\n, 'b'", "select '',''"},
    {"SELECT E'a\\''\n'b\\''", "select ''"},
    {"SELECT 'a' 'b'", "select '' ''"},
    {"SELECT 'a' /* x\n */ 'b'", "select '' ''"},
    {"SELECT $$a$$\n'b'", "select '' ''"},
    {"SELECT \"a\"\n\"b\"", "select \"a\" \"b\""},
    /* Operators */
    {"SELECT a=-1, a=- 1, a = -1", "select a = - 0,a = - 0,a = - 0"},
    {"SELECT a@-1, a @- 1", "select a @- 0,a @- 0"},
    {"SELECT a<=b, a<>b, a->>'x', a#>>'{}'", "select a <= b,a <> b,a ->> '',a #>> ''"},
    {"SELECT 1--2", "select 0"},
    {"SELECT 1- -2", "select 0 - - 0"},
    {"SELECT 1+/* x */2", "select 0 + 0"},
    {"SELECT 2*-3", "select 0 * - 0"},
    {"SELECT a::int, a :: int, 'x'::text", "select a::int,a::int,''::text"},
    {"SELECT a[1:2], a[:2]", "select a[0 : 0],a[: 0]"},
    {"SELECT f(a => 1, b := 2)", "select f(a => 0,b := 0)"},
    {"SELECT 1..2", "select 0 .. 0"},
    /* Lists */
    {"SELECT a IN (1)", "select a in(0)"},
    {"SELECT a IN (1, 2)", "select a in(0,0)"},
    {"SELECT a IN (1, -2, 'c', NULL, true, $4, 1.5)", "select a in(0,0)"},
    {"SELECT a NOT IN ('x','y','z') AND b IN (3)", "select a not in(0,0)and b in(0)"},
    {"SELECT a IN (1, b, 2)", "select a in(0,b,0)"},
    {"SELECT a IN (1, 2+3)", "select a in(0,0 + 0)"},
    {"SELECT a IN (1, - -2)", "select a in(0,- - 0)"},
    {"SELECT a IN ('x'::text, 'y')", "select a in(''::text,'')"},
    {"SELECT a IN (SELECT 1)", "select a in(select 0)"},
    {"SELECT a IN ((1), 2)", "select a in((0),0)"},
    {"SELECT a IN (1, (2), b IN (3, 4))", "select a in(0,(0),b in(0,0))"},
    {"SELECT a IN (1, E'\\u0061')", "select a in(0,E'\\u0061')"},
    {"SELECT a IN (1, /* weir:primary */ 2)", "select a in(0,/*weir:primary*/0)"},
    {"SELECT a IN (1, 2", "select a in(0,0"},
    {"SELECT \"in\"(1, 2, 3), f(1, 2, 3)", "select \"in\"(0,0,0),f(0,0,0)"},
    {"SELECT ARRAY[1,2,3], ARRAY[1], a[1]", "select array[0,0],array[0],a[0]"},
    {"SELECT ARRAY[1,a], ARRAY[[1,2],[3,4]]", "select array[0,a],array[[0,0],[0,0]]"},
    {"SELECT ARRAY[]", "select array[]"},
    {"INSERT INTO t VALUES (1, 'a')", "insert into t values(0,'')"},
    {"INSERT INTO t VALUES (1, 'a'), (2, NULL)", "insert into t values(0,0),(0,0)"},
    {"INSERT INTO t VALUES (1), (2), (3);", "insert into t values(0),(0)"},
    {"INSERT INTO t VALUES (1,2,3),(4,5,6) RETURNING a",
     "insert into t values(0,0,0),(0,0,0)returning a"},
    {"INSERT INTO t VALUES (1,2),(3)", "insert into t values(0,0),(0)"},
    {"INSERT INTO t VALUES (1,2),(3,f(4))", "insert into t values(0,0),(0,f(0))"},
    {"INSERT INTO t VALUES (1),(DEFAULT)", "insert into t values(0),(default)"},
    {"SELECT * FROM (VALUES (1,2),(3,4)) AS v", "select * from(values(0,0),(0,0))as v"},
    {"VALUES (1),(2), SELECT", "values(0),(0),select"},
    /* What stays verbatim: other statements, */
    {"SET a = 'x'", "set a = 'x'"},
    {"EXPLAIN (ANALYZE 0) SELECT 1", "explain(analyze 0)select 1"},
    {"COPY (SELECT 1) TO STDOUT", "copy(select 1)to stdout"},
    {"DECLARE c CURSOR FOR SELECT 'x' IN (1, 2)", "declare c cursor for select 'x' in(1,2)"},
    {"(SELECT 1)", "(select 0)"},
    {"(((TABLE t LIMIT 5)))", "(((table t limit 0)))"},
    {"WITH a AS (SELECT 1) MERGE INTO t", "with a as(select 0)merge into t"},
    {"FETCH 5 FROM c; SELECT 5", "fetch 5 from c;select 0"},
    {"SELECT 5; FETCH 5 FROM c", "select 0;fetch 5 from c"},
    /* arguments that matter, */
    {"SELECT set_config('a', 'b', false)", "select set_config('a','b',false)"},
    {"SELECT pg_catalog.SET_CONFIG ('a', 'b', false), 'c'",
     "select pg_catalog.set_config('a','b',false),''"},
    {"SELECT \"set_config\"('a')", "select \"set_config\"('a')"},
    {"SELECT nextval('s'), lower(current_setting('x') || 'y'), 1",
     "select nextval('s'),lower(current_setting('x')|| ''),0"},
    {"SELECT nextval(lower('S')), 'x'", "select nextval(lower('S')),''"},
    {"SELECT set_config_2('a')", "select set_config_2('')"},
    {"SELECT 1::float(53), 1::numeric(5)", "select 0::float(53),0::numeric(0)"},
    {"SELECT dblink('a', 'b') IN (1,2)", "select dblink('a','b')in(0,0)"},
    /* and reg types. */
    {"SELECT 'x'::regclass, 'y'::text", "select 'x'::regclass,''::text"},
    {"SELECT 'x'::text::REGCLASS", "select 'x'::text::regclass"},
    {"SELECT 'x'::pg_catalog.regproc", "select 'x'::pg_catalog.regproc"},
    {"SELECT CAST('x' AS regclass), CAST(('y') AS regtype)",
     "select cast('x' as regclass),cast(('y')as regtype)"},
    {"SELECT regclass 'x', text 'y'", "select regclass 'x',text ''"},
    {"SELECT 12345::regclass", "select 12345::regclass"},
    {"SELECT $2::regclass", "select $2::regclass"},
    {"SELECT 'x' || 'y'::regclass", "select '' || 'y'::regclass"},
    /* Hints */
    {"/* weir:primary */ SELECT 1", "/*weir:primary*/select 0"},
    {"/*weir:replica*/SELECT 1", "/*weir:replica*/select 0"},
    {"SELECT 1 -- weir:primary", "select 0/*weir:primary*/"},
    {"SELECT 1 -- weir:primary \nFROM t", "select 0/*weir:primary*/ from t"},
    {"/*\tWEIR:Replica\n*/SELECT 1", "/*weir:replica*/select 0"},
    {"/* weir:primary, a */ SELECT /* weir */ 1", "select 0"},
    {"/* /* weir:primary */ */ SELECT 1", "select 0"},
    {"SELECT '/* weir:primary */'", "select ''"},
    /* Several statements */
    {"SELECT 1;", "select 0"},
    {";;SELECT 1;; SELECT 2;", "select 0;select 0"},
    {"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
     "create rule r as on insert to t do(select 1 ; select 2)"},
};

static bool lex(const char *text, size_t len, struct lex_result *result, char **memory) {
    *memory = memory_new(LEX_SHAPE_BYTES(len));
    return lex_text(bytes_of(text, len), *memory, result);
}

static void expect_shape(const char *text, const char *shape) {
    struct lex_result result;
    char *memory;
    if (!lex(text, strlen(text), &result, &memory)) fail_msg("%s: %s", text, result.refused);
    if (!bytes_equal_text(result.shape, shape))
        fail_msg("%s\n  has the shape %.*s\n  expected      %s", text, (int)result.shape.len,
                 result.shape.at, shape);
    memory_free(memory);
}

static void test_shapes(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) expect_shape(shapes[i].text, shapes[i].shape);
}

static void test_a_shape_is_its_own_shape(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) expect_shape(shapes[i].shape, shapes[i].shape);
}

static void test_text_need_not_end_in_nul(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(shapes); i++) {
        size_t full = strlen(shapes[i].text);
        for (size_t len = 0; len <= full; len++) {
            /* A copy of exactly this size, so that the sanitizer sees any byte beyond it. */
            char *copy = memory_new(len);
            struct lex_result result;
            char *memory;
            memcpy(copy, shapes[i].text, len);
            bool is_read = lex(copy, len, &result, &memory);
            assert_int_equal(is_read, result.refused == NULL);
            memory_free(memory);
            memory_free(copy);
        }
    }
}

static const char *const refused[] = {
    "SELECT 1a",
    "SELECT 1_000",
    "SELECT 0x1F",
    "SELECT 1e",
    "SELECT 1e+",
    "SELECT 1.5a",
    "SELECT 1.a",
    "SELECT $1a",
    "SELECT $1$2",
    "SELECT 1$2",
    "SELECT 1\xc3\xa9",
    "SELECT U&'a' UESCAPE '!'",
    "SELECT 'a' -- x\n  'b'",
    "SELECT U&\"a\"",
    "SELECT 'a",
    "SELECT 'a\n'\n'b",
    "SELECT E'a\\'",
    "SELECT \"a",
    "SELECT \"\"",
    "SELECT $a$ $b$",
    "SELECT $a",
    "SELECT $",
    "SELECT /* a",
    "SELECT /* /* */",
    "SELECT {a}",
    "SELECT a\\b",
    "SELECT \x01",
    "SELECT \v1",
    "SELECT B'1",
    "SELECT $1e1",
    "SELECT u&'a'uescape'!'",
    "SELECT 1 ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++ 2",
};

static void test_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct lex_result result;
        char *memory;
        if (lex(refused[i], strlen(refused[i]), &result, &memory))
            fail_msg("%s is not refused: %.*s", refused[i], (int)result.shape.len, result.shape.at);
        assert_non_null(result.refused);
        memory_free(memory);
    }
}

static void test_zero_byte_is_refused(void **state) {
    (void)state;
    struct lex_result result;
    char *memory;
    assert_false(lex("SELECT 'a\0b'", 12, &result, &memory));
    assert_string_equal(result.refused, "a zero byte");
    memory_free(memory);
    assert_true(lex_text(bytes_of(NULL, 0), (char[64]){0}, &result));
}

static const struct count_row {
    const char *text;
    unsigned tokens, shape_tokens, depth, statements;
} counts[] = {
    {"", 0, 0, 0, 0},
    {" ; ;", 0, 0, 0, 0},
    {"SELECT 1", 2, 2, 0, 1},
    {"SELECT 1; SELECT 2;", 4, 4, 0, 2},
    {"SELECT ((a))", 6, 6, 2, 1},
    {"SELECT a[(1)]", 7, 7, 2, 1},
    {"SELECT a IN (1, 2, 3, 4)", 12, 8, 1, 1},
    {"SELECT a IN (1)", 6, 6, 1, 1},
    {"VALUES (1, 2), (3, 4), (5, 6)", 18, 12, 1, 1},
    {"VALUES (1, 2), (3, 4), (5, 6) LIMIT 1", 20, 14, 1, 1},
};

static void test_counts(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(counts); i++) {
        struct lex_result result;
        struct lex_result again;
        char *memory;
        char *memory_again;
        assert_true(lex(counts[i].text, strlen(counts[i].text), &result, &memory));
        assert_int_equal(result.tokens, counts[i].tokens);
        assert_int_equal(result.shape_tokens, counts[i].shape_tokens);
        assert_int_equal(result.depth, counts[i].depth);
        assert_int_equal(result.statements, counts[i].statements);
        assert_true(lex(result.shape.at, result.shape.len, &again, &memory_again));
        assert_int_equal(again.tokens, counts[i].shape_tokens);
        memory_free(memory);
        memory_free(memory_again);
    }
}

/* Texts made of a part that repeats: begin, part, times, end. */
static const struct bound_row {
    const char *begin, *part;
    unsigned times;
    const char *end;
    const char *refused; /* NULL: it is lexed */
} bounds[] = {
    {"SELECT 1", "+1", 3999, "", NULL},
    {"SELECT 1", "+1", 4001, "", "too many tokens"},
    {"SELECT ", "(", 500, "", NULL},
    {"SELECT ", "(", 501, "", "nested too deeply"},
    {"SELECT a", "[1", 501, "", "nested too deeply"},
    {"SELECT a IN (1", ",1", 9000, ")", NULL},
    {"SELECT a IN (1", ",1", 15000, ")", "too many tokens"},
    {"SELECT a IN (1", ",1", 9000, "", "too many tokens"},
    {"VALUES (1)", ",(1)", 4000, "", NULL},
    {"VALUES (1)", ",(1)", 4000, ",(a)", "too many tokens"},
    {"SELECT '", "x", 120000, "'", NULL},
    {"SELECT '", "x", 140000, "'", "too long"},
    {"SELECT 1", ";", 120000, "", NULL},
    {"SELECT '' ", "\n''", 40000, "", NULL},
    {"SELECT ", "a ", 7999, "", NULL},
};

static void test_bounds(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(bounds); i++) {
        struct buf text = {0};
        struct lex_result result;
        char *memory;
        buf_append_text(&text, bounds[i].begin);
        for (unsigned n = 0; n < bounds[i].times; n++) buf_append_text(&text, bounds[i].part);
        buf_append_text(&text, bounds[i].end);
        lex(buf_content(&text).at, buf_length(&text), &result, &memory);
        if (bounds[i].refused == NULL)
            assert_null(result.refused);
        else
            assert_string_equal(result.refused, bounds[i].refused);
        memory_free(memory);
        buf_release(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_a_shape_is_its_own_shape),
        cmocka_unit_test(test_text_need_not_end_in_nul),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_zero_byte_is_refused),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
