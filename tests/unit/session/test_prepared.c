/* Prepared statements: interned by text and parse context, named by clients, kept by servers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "session/prepared.h"
#include "unit/dies.h"

#include <stdio.h>

#define TEXT(text) text, sizeof(text) - 1

/* ---- statements */

static const struct {
    const char *context;
    const char *body;
    size_t len;
    int same_as; /* an earlier row, or -1 */
} parses[] = {
    {"UTF8", TEXT("SELECT 1\0\0\0"), -1},
    {"UTF8", TEXT("SELECT 1\0\0\0"), 0},
    {"LATIN1", TEXT("SELECT 1\0\0\0"), -1}, /* a literal may mean another thing there */
    {"UTF8", TEXT("SELECT 2\0\0\0"), -1},
    {"UTF8", TEXT("SELECT 1\0\0\1\0\0\0\x17"), -1}, /* with a parameter type */
    {"UTF8", TEXT("SELECT 1\0\0"), -1},
    {"", TEXT("SELECT 1\0\0\0"), -1},
    {"", TEXT(""), -1},
    {"UTF8", TEXT(""), -1},
    {"LATIN1", TEXT("SELECT 1\0\0\0"), 2},
    {"", TEXT(""), 7},
};

static void statements_are_one_for_all(void **unused) {
    (void)unused;
    struct statements statements = {0};
    struct statement *made[COUNT(parses)];
    size_t distinct = 0;
    for (size_t i = 0; i < COUNT(parses); i++) {
        bool is_new;
        struct bytes body = bytes_of(parses[i].body, parses[i].len);
        made[i] = statement_get(&statements, bytes_of_text(parses[i].context), body, &is_new);
        assert_int_equal(is_new, parses[i].same_as < 0);
        distinct += is_new;
        assert_true(bytes_equal(made[i]->body, body));
        assert_ptr_not_equal(made[i]->body.at, body.at);
        char name[32];
        (void)snprintf(name, sizeof name, "PGBOUNCER_%u", made[i]->number);
        assert_string_equal(made[i]->name, name);
        for (size_t j = 0; j < i; j++) {
            bool is_same = parses[i].same_as == (int)j || parses[j].same_as == parses[i].same_as;
            if (parses[i].same_as < 0) is_same = false;
            assert_int_equal(made[i] == made[j], is_same);
            assert_int_equal(made[i]->number == made[j]->number, is_same);
        }
    }
    assert_int_equal(statements.map.count, distinct);
    for (size_t i = 0; i < COUNT(parses); i++) statement_unref(&statements, &made[i]);
    assert_null(made[0]);
    statement_unref(&statements, &made[0]);
    statements_release(&statements);
}

/* A statement that has gone comes back under another name: a server may still have the old one. */
static void numbers_are_never_used_again(void **unused) {
    (void)unused;
    struct statements statements = {0};
    uint32_t last = 0;
    for (int i = 0; i < 100; i++) {
        bool is_new;
        struct statement *statement =
            statement_get(&statements, bytes_of(NULL, 0), bytes_of_text("x"), &is_new);
        assert_true(is_new);
        assert_true(statement->number > last);
        last = statement->number;
        statement_unref(&statements, &statement);
    }
    statements_release(&statements);
}

/* ---- the world of the two scripts below: statements named by lower-case letters */

struct world {
    struct statements statements;
    struct statement *made['z' + 1];
};

static struct statement *statement_of(struct world *world, char letter) {
    bool is_new;
    struct statement **made = &world->made[(unsigned char)letter];
    if (*made == NULL)
        *made = statement_get(&world->statements, bytes_of(NULL, 0), bytes_of(&letter, 1), &is_new);
    return *made;
}

/* Only the world's own references are left. */
static void world_release(struct world *world) {
    for (int letter = 'a'; letter <= 'z'; letter++) {
        if (world->made[letter] != NULL) assert_int_equal(world->made[letter]->references, 1);
        statement_unref(&world->statements, &world->made[letter]);
    }
    statements_release(&world->statements);
}

/* ---- names */

/*
 * Steps of three characters: what to do, the name, the statement (. where there is none).
 *      +Ax  Parse x as A             -A.  Close it at once
 *      (A.  a Close is under way     )A.  the server has skipped it     /A.  it was done
 *      ?Ax  A is x                   ?A.  there is no A
 */
static const char *const names_scripts[] = {
    "?A.",
    "+Ax?Ax?B.",
    "+Ax+Bx?Bx-A.?A.?Bx",
    "+Ax-A.+Ay?Ay",
    "+Ax(A.?A.)A.?Ax",
    "+Ax(A./A.?A.",
    "+Ax(A.+Ay?Ay)A.?Ax", /* the newer one was skipped too */
    "+Ax(A.+Ay/A.?Ay",
    "+Ax(A.+Ax)A.?Ax",
    "+Ax+By(B.(A.)A.)B.?Ax?By",
    "+Ax+By+Cz",
};

struct names_run {
    struct world world;
    struct prepared_names names;
    struct prepared_name *detached['Z' + 1];
};

static void names_step(struct names_run *run, const char *step) {
    struct bytes name = bytes_of(step + 1, 1);
    struct prepared_name *entry = prepared_find(&run->names, name);
    struct prepared_name **detached = &run->detached[(unsigned char)step[1]];
    struct statement *statement = step[2] == '.' ? NULL : statement_of(&run->world, step[2]);
    switch (step[0]) {
    case '+':
        statement->references++;
        assert_ptr_equal(prepared_add(&run->names, name, statement)->statement, statement);
        break;
    case '-':
        prepared_remove(&run->names, &run->world.statements, entry);
        break;
    case '(':
        prepared_detach(&run->names, entry);
        *detached = entry;
        break;
    case ')':
        prepared_attach(&run->names, &run->world.statements, *detached);
        break;
    case '/':
        prepared_drop(&run->world.statements, *detached);
        break;
    default:
        assert_ptr_equal(entry == NULL ? NULL : entry->statement, statement);
        if (entry != NULL) assert_true(bytes_equal(entry->node.key, name));
        break;
    }
}

static void names_lead_to_statements(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(names_scripts); i++) {
        struct names_run run = {0};
        for (const char *step = names_scripts[i]; *step != '\0'; step += 3) names_step(&run, step);
        prepared_clear(&run.names, &run.world.statements);
        assert_int_equal(run.names.map.count, 0);
        assert_null(run.names.map.slots);
        world_release(&run.world);
    }
}

static void names_are_bytes_of_any_length(void **unused) {
    (void)unused;
    struct names_run run = {0};
    char name[70000];
    memset(name, 'n', sizeof name);
    for (size_t len = 1; len <= sizeof name; len *= 3) {
        struct statement *statement = statement_of(&run.world, 'x');
        statement->references++;
        (void)prepared_add(&run.names, bytes_of(name, len), statement);
        assert_non_null(prepared_find(&run.names, bytes_of(name, len)));
        assert_null(prepared_find(&run.names, bytes_of(name, len + 1)));
    }
    prepared_clear(&run.names, &run.world.statements);
    world_release(&run.world);
}

/* ---- what a server has */

/*
 * Steps of two characters: what to do with which statement.
 *      +x  sent to the server         !x  used again           ?x  the server lacks it
 *      -x  closed at once             (x  a Close is under way
 *      )x  skipped: it is there again ]x  skipped, but x has been sent anew meanwhile
 *      /x  closed
 * Then the order of what is left, the one unused longest first.
 */
static const struct {
    const char *script;
    const char *order;
} memory_scripts[] = {
    {"?x", ""},          {"+a+b+c", "abc"},      {"+a+b+c!a", "bca"},     {"+a+b+c!b", "acb"},
    {"+a+b+c!c", "abc"}, {"+a!a", "a"},          {"+a+b+c!a!b!c", "abc"}, {"+a+b-a?a", "b"},
    {"+a+b-a+a", "ba"},  {"+a+b(a?a)a", "ab"},   {"+a+b(b)b", "ba"}, /* what was to go goes first */
    {"+a+b(a/a?a", "b"}, {"+a+b(a+a]a!a", "ba"}, {"+a(a+a/a!a", "a"},     {"+a+b(a(b)b)a", "ab"},
};

struct memory_run {
    struct world world;
    struct server_memory *memory;
    struct prepared_on_server *detached['z' + 1];
};

static void memory_step(struct memory_run *run, const char *step) {
    struct statement *statement = statement_of(&run->world, step[1]);
    struct statements *statements = &run->world.statements;
    struct prepared_on_server **detached = &run->detached[(unsigned char)step[1]];
    struct prepared_on_server *entry;
    switch (step[0]) {
    case '+':
        assert_ptr_equal(server_memory_add(run->memory, statement)->statement, statement);
        break;
    case '!':
        entry = server_memory_use(run->memory, statement);
        assert_non_null(entry);
        assert_ptr_equal(entry->statement, statement);
        break;
    case '?':
        assert_null(server_memory_use(run->memory, statement));
        break;
    case '-':
        server_memory_remove(run->memory, statements, server_memory_use(run->memory, statement));
        break;
    case '(':
        *detached = server_memory_use(run->memory, statement);
        server_memory_detach(run->memory, *detached);
        break;
    case ')':
        assert_true(server_memory_attach(run->memory, statements, *detached));
        break;
    case ']':
        assert_false(server_memory_attach(run->memory, statements, *detached));
        break;
    default:
        server_memory_drop(statements, *detached);
        break;
    }
}

static void assert_order(const struct server_memory *memory, const char *order) {
    char given[32] = "";
    size_t count = 0;
    LIST_EACH (&memory->lru, l) {
        given[count++] = LIST_OWNER(l, struct prepared_on_server, lru)->statement->body.at[0];
    }
    assert_string_equal(given, order);
    assert_int_equal(memory->statements.count, count);
}

static void assert_surplus(struct server_memory *memory, const char *order) {
    size_t count = strlen(order);
    for (size_t max = 0; max < count + 2; max++) {
        const struct prepared_on_server *surplus = server_memory_surplus(memory, max);
        if (count == 0 || count < max) {
            assert_null(surplus);
        } else {
            assert_non_null(surplus);
            assert_int_equal(surplus->statement->body.at[0], order[0]);
        }
    }
}

static const struct server fresh;

static void servers_remember(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(memory_scripts); i++) {
        struct memory_run run = {.memory = server_memory_new(&fresh)};
        struct texts texts = {0};
        for (const char *step = memory_scripts[i].script; *step != '\0'; step += 2)
            memory_step(&run, step);
        assert_order(run.memory, memory_scripts[i].order);
        assert_surplus(run.memory, memory_scripts[i].order);
        server_memory_free(&run.memory, &run.world.statements, &texts);
        assert_null(run.memory);
        server_memory_free(&run.memory, &run.world.statements, &texts);
        world_release(&run.world);
        texts_release(&texts);
    }
}

static void a_cleared_server_has_nothing(void **unused) {
    (void)unused;
    struct memory_run run = {.memory = server_memory_new(&fresh)};
    struct texts texts = {0};
    for (const char *step = "+a+b+c"; *step != '\0'; step += 2) memory_step(&run, step);
    run.memory->unnamed_owner = 7;
    run.memory->accepted[3] = text_get(&texts, bytes_of_text("TimeZone=UTC"));
    server_memory_clear(run.memory, &run.world.statements);
    assert_order(run.memory, "");
    assert_int_equal(run.memory->unnamed_owner, 0);
    assert_non_null(run.memory->accepted[3]); /* settings are not statements */
    memory_step(&run, "+b");
    assert_order(run.memory, "b");
    server_memory_free(&run.memory, &run.world.statements, &texts);
    world_release(&run.world);
    texts_release(&texts);
}

/* ---- misuse */

static struct world misused;

static void release_what_is_held(void) {
    statements_release(&misused.statements);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    (void)statement_of(&misused, 'x');
    assert_true(dies(release_what_is_held));
    world_release(&misused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_are_one_for_all),
        cmocka_unit_test(numbers_are_never_used_again),
        cmocka_unit_test(names_lead_to_statements),
        cmocka_unit_test(names_are_bytes_of_any_length),
        cmocka_unit_test(servers_remember),
        cmocka_unit_test(a_cleared_server_has_nothing),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
