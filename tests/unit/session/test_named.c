/* Statements under clients' own names; see session/named.h. */
#include "core/check.h"
#include "core/text.h"
#include "session/prepared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct statements statements;

static struct statement *statement_of(const char *body) {
    bool is_new;
    return statement_get(&statements, bytes_of_text(""), bytes_of_text(body), &is_new);
}

static struct named_on_server *add(struct named *named, const char *name, const char *body) {
    struct statement *statement = statement_of(body);
    struct named_on_server *entry = named_add(named, bytes_of_text(name), statement);
    statement_unref(&statements, &statement);
    return entry;
}

static void test_names_and_their_order(void **state) {
    (void)state;
    struct named named = {0};
    list_init(&named.lru);
    struct named_on_server *a = add(&named, "a", "1");
    struct named_on_server *b = add(&named, "b", "1");
    assert_ptr_equal(a->statement, b->statement);
    assert_null(named_surplus(&named, 3));
    assert_ptr_equal(named_surplus(&named, 2), a);
    assert_ptr_equal(named_use(&named, bytes_of_text("a")), a);
    assert_ptr_equal(named_surplus(&named, 2), b);
    assert_null(named_use(&named, bytes_of_text("c")));
    named_clear(&named, &statements);
    assert_int_equal(named.lru.count, 0);
    statements_release(&statements);
}

/* Who awaits a reply for an entry has it, whatever becomes of the server's memory. */
static void test_entries_that_are_awaited(void **state) {
    (void)state;
    struct named named = {0};
    list_init(&named.lru);
    struct named_on_server *closed = add(&named, "a", "1");
    named_ref(closed);
    named_unlist(&named, &statements, closed);
    assert_null(named_use(&named, bytes_of_text("a")));
    named_unlist(&named, &statements, closed);
    assert_true(named_attach(&named, closed)); /* the server skipped the Close */
    assert_ptr_equal(named_use(&named, bytes_of_text("a")), closed);
    assert_false(named_attach(&named, closed));
    named_unlist(&named, &statements, closed);
    struct named_on_server *newer = add(&named, "a", "2");
    assert_false(named_attach(&named, closed));
    assert_ptr_equal(named_use(&named, bytes_of_text("a")), newer);
    named_unref(&statements, closed);
    named_ref(newer);
    named_clear(&named, &statements);
    assert_int_equal(statements.map.count, 1);
    named_unref(&statements, newer);
    statements_release(&statements);
}

/* A name that was given another statement, and how often it was used. */
static void test_names_of_a_client(void **state) {
    (void)state;
    struct prepared_names names = {0};
    struct prepared_name *name =
        prepared_add(&names, bytes_of_text("n"), statement_of("a longer one"));
    size_t bytes = names.bytes;
    assert_int_equal(names.unproven, 0);
    prepared_note_uses(&names, name, 0);
    prepared_note_uses(&names, name, 0);
    assert_int_equal(names.unproven, 1);
    prepared_detach(&names, name);
    assert_int_equal(names.unproven, 0);
    prepared_attach(&names, &statements, name);
    assert_int_equal(names.unproven, 1);
    prepared_note_uses(&names, name, 1);
    assert_int_equal(names.unproven, 0);
    prepared_replace(&names, &statements, name, statement_of("short"));
    assert_int_equal(names.bytes, bytes - strlen("a longer one") + strlen("short"));
    prepared_clear(&names, &statements);
    assert_int_equal(names.bytes, 0);
    statements_release(&statements);
}

static void test_schemas(void **state) {
    (void)state;
    uint32_t before = statements_schema(7);
    uint32_t other = statements_schema(8);
    statements_schema_changed(7);
    assert_int_not_equal(statements_schema(7), before);
    assert_int_equal(statements_schema(8), other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_their_order),
        cmocka_unit_test(test_entries_that_are_awaited),
        cmocka_unit_test(test_names_of_a_client),
        cmocka_unit_test(test_schemas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
