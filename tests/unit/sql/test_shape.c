/*
 * The property that the cache rests on: texts of one shape do the same.
 *
 * Statements are made from a small grammar with two streams of random numbers. One decides on the
 * structure, the other on everything that a shape may leave out: constants and how they are
 * written, the lengths of lists, case, blanks and comments. Two texts with the same first stream
 * are a pair; wherever their shapes are equal a full parse of both must find the same, and so
 * must a parse of the shape itself.
 */
#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/lex.h"
#include "sql/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PAIRS 10000

/* Both streams; `open` holds what is still to be written, so that nothing recurses too far. */
struct maker {
    struct buf *text;
    uint64_t structure;
    uint64_t detail;
    unsigned depth;
};

/* xorshift64*, from Marsaglia's "Xorshift RNGs". */
static unsigned next(uint64_t *stream, unsigned below) {
    *stream ^= *stream >> 12;
    *stream ^= *stream << 25;
    *stream ^= *stream >> 27;
    return (unsigned)((*stream * 2685821657736338717u) >> 33) % below;
}

static unsigned choose(struct maker *maker, unsigned below) {
    return next(&maker->structure, below);
}

static unsigned vary(struct maker *maker, unsigned below) {
    return next(&maker->detail, below);
}

#define PICK(maker, list) list[choose(maker, COUNT(list))]
#define VARY(maker, list) list[vary(maker, COUNT(list))]

static void blank(struct maker *maker) {
    static const char *const blanks[] = {
        " ", " ", " ", "\n", "\t ", " /* nextval('s') */ ", " -- DELETE\n", "  "};
    buf_append_text(maker->text, VARY(maker, blanks));
}

/* A word in any case, followed by a blank. */
static void word(struct maker *maker, const char *text) {
    unsigned style = vary(maker, 3);
    for (const char *p = text; *p != '\0'; p++) {
        bool is_upper = style == 1 || (style == 2 && vary(maker, 2) == 1);
        bool is_letter = *p >= 'a' && *p <= 'z';
        buf_append_u8(maker->text, (unsigned)(is_upper && is_letter ? *p - 32 : *p));
    }
    blank(maker);
}

static void constant(struct maker *maker) {
    static const char *const integers[] = {"0", "1", "42", "2147483647", "0000000000001", "777"};
    static const char *const numbers[] = {"1.5",  ".5",         "2.",
                                          "1e10", "2147483648", "99999999999999"};
    static const char *const strings[] = {
        "'a'",    "''",       "'it''s'",         "'nextval(''s'')'", "'; DELETE FROM t; --'",
        "'/*'",   "$$b$$",    "$x$ ' $x$",       "E'\\''",           "E'a\\\\'",
        "e'\\n'", "'a'\n'b'", "'a' -- c\n  'b'", "'pg_temp'"};
    static const char *const judged[] = {"E'\\u0061'", "E'\\x41'", "E'\\u12'", "U&'\\0061'",
                                         "U&'a'"};
    static const char *const bits[] = {"b'01'", "B'1'", "b''"};
    static const char *const hexes[] = {"x'1F'", "X'ab'"};
    static const char *const parameters[] = {"$1", "$2", "$17"};
    switch (choose(maker, 8)) {
    case 0:
    case 1:
        buf_append_text(maker->text, VARY(maker, integers));
        break;
    case 2:
        buf_append_text(maker->text, VARY(maker, numbers));
        break;
    case 3:
        buf_append_text(maker->text, VARY(maker, bits));
        break;
    case 4:
        buf_append_text(maker->text, VARY(maker, parameters));
        break;
    case 5:
        if (choose(maker, 4) == 0)
            buf_append_text(maker->text, VARY(maker, judged));
        else
            buf_append_text(maker->text, VARY(maker, hexes));
        break;
    default:
        buf_append_text(maker->text, VARY(maker, strings));
        break;
    }
    blank(maker);
}

/* Two to five constants, signed or not, whose kinds and number are details. */
static void constant_list(struct maker *maker) {
    static const char *const items[] = {"1", "-2", "'x'", "NULL", "true", "$3", "+ 4.5", "b'1'"};
    unsigned count = 2 + vary(maker, 4);
    for (unsigned i = 0; i < count; i++) {
        if (i > 0) buf_append_text(maker->text, ",");
        blank(maker);
        buf_append_text(maker->text, VARY(maker, items));
        blank(maker);
    }
}

static void rows(struct maker *maker) {
    static const char *const items[] = {"1", "-2", "'x'", "NULL", "false", "$3"};
    unsigned width = 1 + choose(maker, 3);
    unsigned count = 2 + vary(maker, 3);
    for (unsigned row = 0; row < count; row++) {
        buf_append_text(maker->text, row == 0 ? "(" : ", (");
        for (unsigned i = 0; i < width; i++) {
            if (i > 0) buf_append_text(maker->text, ",");
            buf_append_text(maker->text, VARY(maker, items));
        }
        buf_append_text(maker->text, ")");
    }
    blank(maker);
}

static void select_from(struct maker *maker);

static void call(struct maker *maker) {
    static const char *const names[] = {"lower",
                                        "nextval",
                                        "set_config",
                                        "current_setting",
                                        "f",
                                        "pg_catalog.upper",
                                        "s.lower",
                                        "pg_advisory_lock",
                                        "\"set_config\"",
                                        "lo_open",
                                        "count",
                                        "coalesce"};
    word(maker, PICK(maker, names));
    buf_append_text(maker->text, "(");
    unsigned count = choose(maker, 4);
    for (unsigned i = 0; i < count; i++) {
        if (i > 0) buf_append_text(maker->text, ", ");
        if (choose(maker, 4) == 0)
            buf_append_text(maker->text, i == 2 ? "true" : "a");
        else
            constant(maker);
    }
    buf_append_text(maker->text, ")");
    blank(maker);
}

static void expression(struct maker *maker) {
    static const char *const columns[] = {"a", "t.b", "\"C d\"", "a", "c", "last_value"};
    static const char *const operators[] = {"+", "-", "=", "<>", "->>", "@>", "||", "and", "or"};
    static const char *const types[] = {
        "int", "text", "regclass", "pg_catalog.regtype", "numeric(5)", "float(5)", "text::regproc"};
    unsigned kind = maker->depth > 3 ? choose(maker, 3) : choose(maker, 11);
    maker->depth++;
    switch (kind) {
    case 0:
        word(maker, PICK(maker, columns));
        break;
    case 1:
    case 2:
        constant(maker);
        break;
    case 3:
        call(maker);
        break;
    case 4:
        expression(maker);
        word(maker, PICK(maker, operators));
        expression(maker);
        break;
    case 5:
        expression(maker);
        buf_append_text(maker->text, "::");
        word(maker, PICK(maker, types));
        break;
    case 6:
        word(maker, "cast(");
        expression(maker);
        word(maker, "as");
        word(maker, PICK(maker, types));
        buf_append_text(maker->text, ")");
        break;
    case 7:
        word(maker, choose(maker, 2) == 0 ? "a in" : "a not in");
        buf_append_text(maker->text, "(");
        if (choose(maker, 3) == 0)
            expression(maker);
        else
            constant_list(maker);
        buf_append_text(maker->text, ")");
        break;
    case 8:
        word(maker, "array");
        buf_append_text(maker->text, "[");
        constant_list(maker);
        buf_append_text(maker->text, "]");
        break;
    case 9:
        buf_append_text(maker->text, choose(maker, 2) == 0 ? "- (" : "(");
        expression(maker);
        buf_append_text(maker->text, ")");
        break;
    default:
        buf_append_text(maker->text, "(");
        select_from(maker);
        buf_append_text(maker->text, ")");
        break;
    }
    maker->depth--;
}

static void select_from(struct maker *maker) {
    static const char *const relations[] = {"t",     "s.t",       "pg_locks",
                                            "\"T\"", "pg_temp.t", "a join b using (c)"};
    static const char *const ends[] = {"", "", "",           "",          "",
                                       "", "", "for update", "for share", "into u"};
    maker->depth++;
    word(maker, "select");
    expression(maker);
    word(maker, "from");
    if (choose(maker, 4) == 0) {
        buf_append_text(maker->text, "(values ");
        rows(maker);
        buf_append_text(maker->text, ") v ");
    } else {
        word(maker, PICK(maker, relations));
    }
    if (choose(maker, 2) == 0) {
        word(maker, "where");
        expression(maker);
    }
    if (choose(maker, 4) == 0) {
        word(maker, "limit");
        constant(maker);
    }
    word(maker, PICK(maker, ends));
    maker->depth--;
}

static void statement(struct maker *maker) {
    static const char *const others[] = {"set a.b =",        "execute p (",
                                         "notify c,",        "fetch",
                                         "explain (analyze", "set transaction_read_only ="};
    switch (choose(maker, 15)) {
    case 0:
        word(maker, "insert into t values");
        rows(maker);
        break;
    case 1:
        word(maker, "insert into t(a, b) values (");
        expression(maker);
        buf_append_text(maker->text, "), (1)");
        break;
    case 2:
        word(maker, "update t set a =");
        expression(maker);
        break;
    case 3:
        word(maker, "with x as (delete from t where");
        expression(maker);
        buf_append_text(maker->text, ")");
        select_from(maker);
        break;
    case 4:
        word(maker, PICK(maker, others));
        constant(maker);
        if (choose(maker, 2) == 0) buf_append_text(maker->text, ") select 1");
        break;
    default:
        select_from(maker);
        break;
    }
    if (vary(maker, 4) == 0) buf_append_text(maker->text, ";");
}

static void make(struct buf *text, uint64_t structure, uint64_t detail) {
    struct maker maker = {.text = text, .structure = structure, .detail = detail};
    buf_clear(text);
    statement(&maker);
    if (choose(&maker, 10) == 0) {
        buf_append_text(text, "; ");
        statement(&maker);
    }
}

/* What a parse of a text finds. */
struct outcome {
    struct findings findings;
    struct buf names;
};

static void parse(struct outcome *outcome, struct buf *text) {
    buf_clear(&outcome->names);
    outcome->findings = (struct findings){.names = &outcome->names};
    parse_text(buf_text(text), &outcome->findings);
}

static void expect_equal(const struct outcome *a, const struct outcome *b, struct buf *one,
                         struct buf *other) {
    /* The reason for a text that is not understood quotes that text. */
    bool is_understood = (a->findings.flags & TRAITS_ANYTHING) == 0;
    if (a->findings.flags != b->findings.flags ||
        strcmp(a->findings.parameter, b->findings.parameter) != 0 ||
        (is_understood && strcmp(a->findings.why, b->findings.why) != 0) ||
        !bytes_equal(buf_content(&a->names), buf_content(&b->names)))
        fail_msg("of one shape:\n%s\n  %08x %s\n%s\n  %08x %s", buf_text(one), a->findings.flags,
                 a->findings.why, buf_text(other), b->findings.flags, b->findings.why);
}

struct tally {
    unsigned pairs, understood, primary;
};

/* Makes two texts and compares what they do if they are of one shape. */
static void try_pair(uint64_t structure, struct buf texts[3], struct outcome outcomes[3],
                     struct tally *tally) {
    struct lex_result lexed[2];
    char *memory[2];
    bool is_lexed = true;
    for (unsigned i = 0; i < 2; i++) {
        make(&texts[i], structure, structure * 31 + i + 1);
        memory[i] = memory_new(LEX_SHAPE_BYTES(buf_length(&texts[i])));
        is_lexed = lex_text(buf_content(&texts[i]), memory[i], &lexed[i]) && is_lexed;
    }
    if (is_lexed && bytes_equal(lexed[0].shape, lexed[1].shape)) {
        buf_clear(&texts[2]);
        buf_append_bytes(&texts[2], lexed[0].shape);
        for (unsigned i = 0; i < 3; i++) parse(&outcomes[i], &texts[i]);
        expect_equal(&outcomes[0], &outcomes[1], &texts[0], &texts[1]);
        expect_equal(&outcomes[0], &outcomes[2], &texts[0], &texts[2]);
        tally->pairs++;
        if ((outcomes[0].findings.flags & TRAITS_ANYTHING) == 0) tally->understood++;
        if (outcomes[0].findings.flags & TRAITS_NEEDS_PRIMARY) tally->primary++;
    }
    memory_free(memory[0]);
    memory_free(memory[1]);
}

static void test_texts_of_one_shape_do_the_same(void **state) {
    (void)state;
    struct buf texts[3] = {{0}};
    struct outcome outcomes[3] = {{.names = {0}}};
    struct tally tally = {0};
    uint64_t structure = 1;
    for (; tally.pairs < PAIRS && structure < 20 * PAIRS; structure++)
        try_pair(structure * 0x9E3779B97F4A7C15u, texts, outcomes, &tally);
    print_message("%u pairs of %u, %u understood, %u need the primary\n", tally.pairs,
                  (unsigned)structure, tally.understood, tally.primary);
    /* The grammar must not make so little sense that the property says nothing. */
    assert_int_equal(tally.pairs, PAIRS);
    assert_true(tally.understood > PAIRS / 2);
    assert_true(tally.primary > PAIRS / 10 && tally.primary < PAIRS);
    for (unsigned i = 0; i < 3; i++) {
        buf_release(&texts[i]);
        buf_release(&outcomes[i].names);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts_of_one_shape_do_the_same)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
