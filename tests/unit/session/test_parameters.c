/* Tracked parameters: what a server is told for a client, and what may go with the request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "session/parameters.h"

#include <stdio.h>

/* The places of a pool set with an extra parameter; a row gives one value for each. */
enum { PLACES = TRACKED_ALWAYS + 1 };

struct world {
    struct pool_set set;
    struct texts texts;
    struct statements statements;
    struct parameters client;
    struct server server;
};

static void set_values(struct world *world, struct text **values, const char *const *from) {
    for (unsigned i = 0; i < PLACES; i++) {
        text_unref(&world->texts, &values[i]);
        if (from[i] != NULL) values[i] = text_get(&world->texts, bytes_of_text(from[i]));
    }
}

static void world_init(struct world *world, const char *const *client, const char *const *server) {
    *world = (struct world){
        .set = {.texts = &world->texts,
                .tracked_count = PLACES,
                .tracked = {[TRACKED_CLIENT_ENCODING] = "client_encoding",
                            [TRACKED_DATESTYLE] = "DateStyle",
                            [TRACKED_TIMEZONE] = "TimeZone",
                            [TRACKED_STANDARD_CONFORMING_STRINGS] = "standard_conforming_strings",
                            [TRACKED_APPLICATION_NAME] = "application_name",
                            [TRACKED_INTERVALSTYLE] = "IntervalStyle",
                            [TRACKED_SEARCH_PATH] = "search_path",
                            [TRACKED_SESSION_AUTHORIZATION] = "session_authorization",
                            [TRACKED_DEFAULT_TRANSACTION_READ_ONLY] =
                                "default_transaction_read_only",
                            [TRACKED_SCRAM_ITERATIONS] = "scram_iterations",
                            [TRACKED_ALWAYS] = "extra.one"}},
    };
    world->server.memory = server_memory_new(&world->server);
    set_values(world, world->client.values, client);
    set_values(world, world->server.parameters, server);
}

static void world_release(struct world *world) {
    struct server_memory *memory = world->server.memory;
    server_memory_free(&memory, &world->statements, &world->texts);
    parameters_release(&world->client, &world->texts);
    for (unsigned i = 0; i < PLACES; i++) text_unref(&world->texts, &world->server.parameters[i]);
    statements_release(&world->statements);
    texts_release(&world->texts);
}

static const struct {
    const char *client[PLACES];
    const char *server[PLACES];
    enum parameters_step step;
    const char *query;
} differences[] = {
    {{NULL}, {NULL}, PARAMETERS_SAME, ""},
    {{"UTF8", "ISO, MDY", "UTC", "on", "psql"},
     {"UTF8", "ISO, MDY", "UTC", "on", "psql"},
     PARAMETERS_SAME,
     ""},
    {{"utf8", "iso, mdy"}, {"UTF8", "ISO, MDY"}, PARAMETERS_SAME, ""}, /* another spelling */
    {{NULL, "German"}, {"UTF8", NULL}, PARAMETERS_SAME, ""},           /* never reported */
    {{NULL}, {"UTF8", "ISO", "UTC", "on", "psql"}, PARAMETERS_SAME, ""},
    {{NULL, "German"}, {NULL, "ISO"}, PARAMETERS_FIRST, "SET DateStyle='German';"},
    {{"LATIN1", NULL, "UTC"},
     {"UTF8", NULL, "Asia/Tokyo"},
     PARAMETERS_FIRST,
     "SET client_encoding='LATIN1';SET TimeZone='UTC';"},
    {{NULL, NULL, NULL, NULL, "psql"},
     {NULL, NULL, NULL, NULL, "pgbench"},
     PARAMETERS_TOGETHER,
     "SET application_name='psql';"},
    {{NULL, NULL, NULL, NULL, ""},
     {NULL, NULL, NULL, NULL, "pgbench"},
     PARAMETERS_TOGETHER,
     "SET application_name='';"},
    {{NULL, NULL, "UTC", NULL, "psql"},
     {NULL, NULL, "GMT", NULL, "pgbench"},
     PARAMETERS_FIRST,
     "SET TimeZone='UTC';SET application_name='psql';"},
    {{NULL, NULL, NULL, NULL, "psql", "postgres", "tenant_1"},
     {NULL, NULL, NULL, NULL, "psql", "iso_8601", "public"},
     PARAMETERS_FIRST,
     "SET IntervalStyle='postgres';SELECT pg_catalog.set_config('search_path','tenant_1',false);"},
    /* a list of names is one as it was reported, and case counts in it */
    {{NULL, NULL, NULL, NULL, NULL, NULL, "\"Tenant\", public"},
     {NULL, NULL, NULL, NULL, NULL, NULL, "\"tenant\", public"},
     PARAMETERS_FIRST,
     "SELECT pg_catalog.set_config('search_path','\"Tenant\", public',false);"},
    /* names of roles differ by their case */
    {{NULL, NULL, NULL, NULL, NULL, NULL, NULL, "App"},
     {NULL, NULL, NULL, NULL, NULL, NULL, NULL, "app"},
     PARAMETERS_FIRST,
     "SET session_authorization='App';"},
    {{NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "on", "4096", "x"},
     {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "off", NULL, "y"},
     PARAMETERS_FIRST,
     "SET default_transaction_read_only='on';SET extra.one='x';"},
    /* a value cannot leave its quotes, whatever the server makes of backslashes */
    {{NULL, NULL, NULL, NULL, "it's"},
     {NULL, NULL, NULL, NULL, ""},
     PARAMETERS_TOGETHER,
     "SET application_name='it''s';"},
    {{NULL, NULL, NULL, NULL, "a\\"},
     {NULL, NULL, NULL, NULL, ""},
     PARAMETERS_TOGETHER,
     "SET application_name=E'a\\\\';"},
    {{NULL, NULL, NULL, NULL, "\\';DROP TABLE t;--"},
     {NULL, NULL, NULL, NULL, ""},
     PARAMETERS_TOGETHER,
     "SET application_name=E'\\\\'';DROP TABLE t;--';"},
};

static void differences_are_set(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(differences); i++) {
        struct world world;
        struct buf query = {0};
        world_init(&world, differences[i].client, differences[i].server);
        enum parameters_step step =
            parameters_difference(&world.client, &world.set, &world.server, &query);
        if (step != differences[i].step) print_error("row %zu\n", i);
        assert_string_equal(buf_text(&query), differences[i].query);
        assert_int_equal(step, differences[i].step);
        buf_release(&query);
        world_release(&world);
    }
}

static enum parameters_step step_of(struct world *world) {
    struct buf query = {0};
    enum parameters_step step =
        parameters_difference(&world->client, &world->set, &world->server, &query);
    buf_release(&query);
    return step;
}

/* What this very server has accepted once may go together with the request the next time. */
static void accepted_values_go_together(void **unused) {
    (void)unused;
    static const char *const client[PLACES] = {NULL, NULL, "UTC", NULL, "psql"};
    static const char *const other[PLACES] = {NULL, NULL, "utc", NULL, "psql"};
    static const char *const both[PLACES] = {"LATIN1", NULL, "UTC", NULL, "psql"};
    static const char *const server[PLACES] = {"UTF8", NULL, "GMT", NULL, "pgbench"};
    struct world world;
    world_init(&world, client, server);
    assert_int_equal(step_of(&world), PARAMETERS_FIRST);
    parameters_accepted(&world.client, &world.set, &world.server);
    assert_int_equal(step_of(&world), PARAMETERS_TOGETHER);
    set_values(&world, world.client.values, both);
    assert_int_equal(step_of(&world), PARAMETERS_FIRST);
    set_values(&world, world.client.values, other); /* accepted is what was sent, to the letter */
    assert_int_equal(step_of(&world), PARAMETERS_FIRST);
    void *memory = world.server.memory;
    world.server.memory = NULL; /* a server of which nothing is remembered yet */
    parameters_accepted(&world.client, &world.set, &world.server);
    assert_int_equal(step_of(&world), PARAMETERS_FIRST);
    world.server.memory = memory;
    world_release(&world);
}

/* But not another user: what was granted once may be refused today, and the request would run with
 * the rights of whoever was there before. */
static void another_user_is_waited_for(void **unused) {
    (void)unused;
    static const char *const client[PLACES] = {[TRACKED_SESSION_AUTHORIZATION] = "tenant"};
    static const char *const server[PLACES] = {[TRACKED_SESSION_AUTHORIZATION] = "app"};
    struct world world;
    world_init(&world, client, server);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(step_of(&world), PARAMETERS_FIRST);
        parameters_accepted(&world.client, &world.set, &world.server);
    }
    world_release(&world);
}

/* The memory of accepted values has a bound: the oldest is forgotten. */
static void accepted_values_are_bounded(void **unused) {
    (void)unused;
    static const char *const server[PLACES] = {NULL, NULL, "GMT"};
    static const char *const nothing[PLACES] = {NULL};
    struct world world;
    world_init(&world, nothing, server);
    for (int i = 0; i < MEMORY_ACCEPTED_MAX + 3; i++) {
        char zone[32];
        (void)snprintf(zone, sizeof zone, "Zone/%d", i);
        parameters_set(&world.client, &world.texts, TRACKED_TIMEZONE, bytes_of_text(zone));
        (void)step_of(&world);
        parameters_accepted(&world.client, &world.set, &world.server);
        parameters_accepted(&world.client, &world.set, &world.server); /* once is enough */
    }
    for (int i = 0; i < MEMORY_ACCEPTED_MAX + 3; i++) {
        char zone[32];
        (void)snprintf(zone, sizeof zone, "Zone/%d", i);
        parameters_set(&world.client, &world.texts, TRACKED_TIMEZONE, bytes_of_text(zone));
        assert_int_equal(step_of(&world), i < 3 ? PARAMETERS_FIRST : PARAMETERS_TOGETHER);
    }
    world_release(&world);
}

static void names_have_no_case(void **unused) {
    (void)unused;
    static const struct {
        const char *name;
        int index;
    } rows[] = {
        {"client_encoding", TRACKED_CLIENT_ENCODING},
        {"datestyle", TRACKED_DATESTYLE},
        {"DateStyle", TRACKED_DATESTYLE},
        {"TIMEZONE", TRACKED_TIMEZONE},
        {"search_path", TRACKED_SEARCH_PATH},
        {"Extra.One", TRACKED_ALWAYS},
        {"work_mem", -1},
        {"TimeZon", -1},
        {"TimeZone ", -1},
        {"", -1},
    };
    static const char *const nothing[PLACES] = {NULL};
    struct world world;
    world_init(&world, nothing, nothing);
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(parameters_index(&world.set, bytes_of_text(rows[i].name)), rows[i].index);
    world_release(&world);
}

/* A value may be set from itself, and from bytes that are no text. */
static void values_are_replaced(void **unused) {
    (void)unused;
    static const char *const client[PLACES] = {"UTF8"};
    static const char *const nothing[PLACES] = {NULL};
    struct world world;
    world_init(&world, client, nothing);
    struct text **value = &world.client.values[TRACKED_CLIENT_ENCODING];
    parameters_set(&world.client, &world.texts, 0, bytes_of((*value)->at, (*value)->len));
    assert_string_equal((*value)->at, "UTF8");
    assert_int_equal((*value)->references, 1);
    parameters_set(&world.client, &world.texts, 0, bytes_of((*value)->at, 3));
    assert_string_equal((*value)->at, "UTF");
    parameters_set(&world.client, &world.texts, 0, bytes_of("LATIN1more", 6));
    assert_string_equal((*value)->at, "LATIN1");
    assert_int_equal(world.texts.map.count, 1);
    world_release(&world);
}

static void texts_are_read_as_the_server_will(void **unused) {
    (void)unused;
    static const struct {
        const char *client[PLACES];
        const char *encoding; /* NULL: UTF8 */
        bool is_standard;
    } rows[] = {
        {{NULL}, NULL, true},
        {{"UTF8", NULL, NULL, "on"}, NULL, true},
        {{"LATIN1", NULL, NULL, "off"}, "LATIN1", false},
        {{"SJIS", NULL, NULL, "ON"}, "SJIS", true},
        /* PostgreSQL's spellings of a boolean; from a startup packet they come as they are */
        {{NULL, NULL, NULL, "true"}, NULL, true},
        {{NULL, NULL, NULL, "T"}, NULL, true},
        {{NULL, NULL, NULL, "yes"}, NULL, true},
        {{NULL, NULL, NULL, "1"}, NULL, true},
        {{NULL, NULL, NULL, "false"}, NULL, false},
        {{NULL, NULL, NULL, "no"}, NULL, false},
        {{NULL, NULL, NULL, "0"}, NULL, false},
        {{NULL, NULL, NULL, "Off"}, NULL, false},
    };
    static const char *const nothing[PLACES] = {NULL};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world world;
        world_init(&world, rows[i].client, nothing);
        struct traits_context context = parameters_context(&world.client);
        if (rows[i].encoding == NULL) {
            assert_null(context.client_encoding);
        } else {
            assert_string_equal(context.client_encoding, rows[i].encoding);
        }
        if (context.standard_conforming_strings != rows[i].is_standard) fail_msg("row %zu", i);
        assert_true(context.safe_backslash_quote);
        world_release(&world);
    }
}

/* Two clients share a prepared statement only if their contexts are the same text. */
static const char *const contexts[][PLACES] = {
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "postgres", "public"},
    {"LATIN1", "ISO, MDY", "UTC", "on", "psql", "postgres", "public"},
    {"UTF8", "ISO, DMY", "UTC", "on", "psql", "postgres", "public"},
    {"UTF8", "ISO, MDY", "GMT", "on", "psql", "postgres", "public"},
    {"UTF8", "ISO, MDY", "UTC", "off", "psql", "postgres", "public"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "iso_8601", "public"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "postgres", "tenant_1"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "public", "postgres"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "postgres\n", "public"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "postgres", "\npublic"},
    {"UTF8", "ISO, MDY", "UTC", "on", "psql", "postgres", "public\n"},
};

static void append_context(const char *const *values, struct buf *context) {
    static const char *const nothing[PLACES] = {NULL};
    struct world world;
    world_init(&world, values, nothing);
    parameters_parse_context(&world.client, &world.set, context);
    world_release(&world);
}

static void parse_contexts_differ(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(contexts); i++) {
        for (size_t j = 0; j < COUNT(contexts); j++) {
            struct buf one = {0}, other = {0};
            append_context(contexts[i], &one);
            append_context(contexts[j], &other);
            if (bytes_equal(buf_content(&one), buf_content(&other)) != (i == j))
                fail_msg("contexts %zu and %zu", i, j);
            buf_release(&one);
            buf_release(&other);
        }
    }
    static const char *const renamed[PLACES] = {"UTF8",  "ISO, MDY", "UTC",   "on",
                                                "other", "postgres", "public"};
    struct buf one = {0}, other = {0};
    append_context(contexts[0], &one);
    append_context(renamed, &other);
    assert_true(bytes_equal(buf_content(&one), buf_content(&other))); /* its name is no context */
    buf_release(&one);
    buf_release(&other);
}

/* A client that was never told a value has the server's own, whatever another one has set. */
static void without_a_value(void **unused) {
    (void)unused;
    static const char *const client[PLACES] = {"UTF8"};
    static const char *const server[PLACES] = {"UTF8", [TRACKED_DEFAULT_TRANSACTION_READ_ONLY] =
                                                           "off"};
    struct world world;
    struct buf query = {0};
    world_init(&world, client, server);
    struct server_memory *before = world.server.memory; /* of a server without parameters */
    world.server.memory = server_memory_new(&world.server);
    server_memory_free(&before, &world.statements, &world.texts);
    struct text **value = &world.server.parameters[TRACKED_DEFAULT_TRANSACTION_READ_ONLY];
    assert_int_equal(parameters_difference(&world.client, &world.set, &world.server, &query),
                     PARAMETERS_SAME);
    text_unref(&world.texts, value);
    *value = text_get(&world.texts, bytes_of_text("on"));
    assert_int_equal(parameters_difference(&world.client, &world.set, &world.server, &query),
                     PARAMETERS_FIRST);
    assert_string_equal(buf_text(&query), "SET default_transaction_read_only='off';");
    buf_release(&query);
    world_release(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_set),
        cmocka_unit_test(accepted_values_go_together),
        cmocka_unit_test(another_user_is_waited_for),
        cmocka_unit_test(accepted_values_are_bounded),
        cmocka_unit_test(names_have_no_case),
        cmocka_unit_test(values_are_replaced),
        cmocka_unit_test(texts_are_read_as_the_server_will),
        cmocka_unit_test(parse_contexts_differ),
        cmocka_unit_test(without_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
