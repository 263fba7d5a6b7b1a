/* Texts cut at their tokens; see sql/cut.h. */
#include "core/buf.h"
#include "core/check.h"
#include "sql/cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct row {
    const char *text, *name, *statement; /* NULL: not found */
} rows[] = {
    {"PREPARE p AS SELECT 1", "p", "SELECT 1"},
    {"prepare P as\n select 1 ; ", "p", "select 1"},
    {"PREPARE \"P q\" (int, numeric(10, 2), \"char\") AS SELECT $1, $2;", "P q", "SELECT $1, $2"},
    {"/* one /* in */ two */ -- PREPARE p AS SELECT 1\nPREPARE/**/p--\nAS/* x */SELECT 1 -- end",
     "p", "SELECT 1"},
    {"SELECT ';PREPARE p AS SELECT 1'; PREPARE p AS SELECT ';', \";\", $$;$$, $a$;$$;$a$, $1;"
     "SELECT 2",
     "p", "SELECT ';', \";\", $$;$$, $a$;$$;$a$, $1"},
    {"PREPARE q AS SELECT 1; PREPARE p AS SELECT 2", "p", "SELECT 2"},
    {"PREPARE p AS SELECT 'it''s'", "p", "SELECT 'it''s'"},
    /* Not to be told apart */
    {"PREPARE p AS SELECT 1; DEALLOCATE p; PREPARE p AS SELECT 2", "p", NULL},
    {"PREPARE p AS SELECT E'\\';'", "p", NULL},
    {"PREPARE \xc3\xa4 AS SELECT 1", "\xc3\xa4", NULL},
    {"PREPARE \"a\"\"b\" AS SELECT 1", "a\"b", NULL},
    /* Not there */
    {"PREPARE q AS SELECT 1", "p", NULL},
    {"PREPARE p", "p", NULL},
    {"PREPARE p (int", "p", NULL},
    {"PREPARE p AS", "p", NULL},
    {"SELECT 'PREPARE p AS SELECT 1", "p", NULL},
    {"SELECT $a$PREPARE p AS SELECT 1", "p", NULL},
    {"/* PREPARE p AS SELECT 1", "p", NULL},
    {"PREPARE TRANSACTION 'p'", "p", NULL},
    {"", "p", NULL},
};

static void test_rows(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bytes statement;
        bool found =
            cut_prepared(bytes_of_text(rows[i].text), bytes_of_text(rows[i].name), &statement);
        assert_int_equal(found, rows[i].statement != NULL);
        if (!found) continue;
        assert_int_equal(statement.len, strlen(rows[i].statement));
        assert_memory_equal(statement.at, rows[i].statement, statement.len);
    }
}

static const struct constants_row {
    const char *text, *constants; /* each with a | behind it */
} constants[] = {
    {"DO $$ BEGIN END $$", " BEGIN END |"},
    {"DO LANGUAGE plpgsql $a$ $$;$$ $a$; SET x = 'y'", " $$;$$ |y|"},
    {"SELECT 'it''s', \"'\", $1, a$b, '' -- 'no'", "it|s||"},
    {"SELECT $1 $ 2", ""},
    {"DO $a$ without an end", " without an end|"},
    {"SELECT 'a", "a|"},
    {"SELECT '", "|"},
    {"", ""},
};

static void test_constants(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(constants); i++) {
        struct buf found = {0};
        struct bytes rest = bytes_of_text(constants[i].text), constant;
        while (cut_next_constant(&rest, &constant)) {
            buf_append_bytes(&found, constant);
            buf_append_u8(&found, '|');
        }
        assert_string_equal(buf_text(&found), constants[i].constants);
        buf_release(&found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows),
                                       cmocka_unit_test(test_constants)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
