/* What stands behind AS in a PREPARE; see sql/prepared_text.h. */
#include "core/check.h"
#include "sql/prepared_text.h"

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
            prepared_text(bytes_of_text(rows[i].text), bytes_of_text(rows[i].name), &statement);
        assert_int_equal(found, rows[i].statement != NULL);
        if (!found) continue;
        assert_int_equal(statement.len, strlen(rows[i].statement));
        assert_memory_equal(statement.at, rows[i].statement, statement.len);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
