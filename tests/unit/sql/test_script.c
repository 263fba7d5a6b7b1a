/* Scripts: a text a row, and the parts that it has. */
#include "sql/script.h"

#include "core/buf.h"
#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Parts are written as LINE, a letter for the kind, and the text. */
static const struct {
    const char *script;
    const char *parts;
} rows[] = {
    {"", ""},
    {" \n ; ;; -- nothing\n/* at all */", ""},
    {"SELECT 1", "1s<SELECT 1>"},
    {"SELECT 1;SELECT 2 ;\n\nSELECT 3;", "1s<SELECT 1>1s<SELECT 2 >3s<\n\nSELECT 3>"},
    {"-- why\n/* weir:primary */ SELECT 1;", "2s<-- why\n/* weir:primary */ SELECT 1>"},
    {"SELECT ';', \";\" ;x", "1s<SELECT ';', \";\" >1s<x>"},
    {"SELECT 'it''s;', E'\\';' ;x", "1s<SELECT 'it''s;', E'\\';' >1s<x>"},
    {"SELECT '\\' ;x", "1s<SELECT '\\' >1s<x>"},
    {"SELECT $$;$$, $a$ $$; $b$ $a$;x", "1s<SELECT $$;$$, $a$ $$; $b$ $a$>1s<x>"},
    {"SELECT $1;x$y$;z", "1s<SELECT $1>1s<x$y$>1s<z>"},
    {"SELECT 1 /* ; /* ; */ ; */ -- ;\n;x", "1s<SELECT 1 /* ; /* ; */ ; */ -- ;\n>2s<x>"},
    {"CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);x",
     "1s<CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)>1s<x>"},
    {"CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; "
     "SELECT 2; END;x",
     "1s<CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; "
     "SELECT 2; END>1s<x>"},
    {"BEGIN;SELECT 1;END;", "1s<BEGIN>1s<SELECT 1>1s<END>"},
    {"\\echo a;b\nSELECT 1;\n\\q", "1c<\\echo a;b>2s<\nSELECT 1>3c<\\q>"},
    {"SELECT 1 \\gset\nSELECT 2;", "1s<SELECT 1 >1c<\\gset>2s<\nSELECT 2>"},
    {"COPY t FROM STDIN;\n1;\n2\n\\.\nSELECT 1;",
     "1s<COPY t FROM STDIN>2d<1;\n2\n\\.\n>5s<SELECT 1>"},
    {"copy t (a) from stdin with csv; -- x\r\n\\.\r\nx",
     "1s<copy t (a) from stdin with csv>2d<\\.\r\n>3s<x>"},
    {"COPY t FROM STDIN;\nnever ends", "1s<COPY t FROM STDIN>2d<never ends>"},
    {"COPY t TO STDOUT;x", "1s<COPY t TO STDOUT>1s<x>"},
    {"SELECT 'never ends;", "1s<SELECT 'never ends;>"},
    {"SELECT $a$ never; $b$", "1s<SELECT $a$ never; $b$>"},
    {"SELECT 1 /* never;", "1s<SELECT 1 /* never;>"},
};

static void scripts_have_parts(void **unused) {
    (void)unused;
    static const char kinds[] = {
        [SCRIPT_STATEMENT] = 's', [SCRIPT_COMMAND] = 'c', [SCRIPT_DATA] = 'd'};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct script script;
        struct bytes text;
        struct buf found = {0};
        unsigned line;
        enum script_part part;
        script_begin(&script, bytes_of_text(rows[i].script));
        while ((part = script_next(&script, &text, &line)) != SCRIPT_END)
            buf_append_format(&found, "%u%c<%.*s>", line, kinds[part], (int)text.len, text.at);
        assert_string_equal(buf_text(&found), rows[i].parts);
        buf_release(&found);
    }
}

/* Cut anywhere, a script ends and gives nothing that is not in it. */
static void cut_scripts_end(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bytes whole = bytes_of_text(rows[i].script);
        for (size_t len = 0; len <= whole.len; len++) {
            struct script script;
            struct bytes text;
            unsigned line, count = 0;
            script_begin(&script, bytes_of(whole.at, len));
            while (script_next(&script, &text, &line) != SCRIPT_END) {
                assert_true(text.at >= whole.at && text.at + text.len <= whole.at + len);
                assert_true(++count <= len + 1);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_have_parts),
        cmocka_unit_test(cut_scripts_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
