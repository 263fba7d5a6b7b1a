/* What is sent to bring a server to a client's settings, and what a client learns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/memory.h"
#include "session/bind.h"
#include "session/question.h"

#define ID     7u
#define SERVER 9u

struct world {
    struct texts texts;
    struct statements statements;
    struct pool_set set;
    struct pool pool;
    struct server server;
    struct parameters parameters;
    struct session *session;
};

/* "a=1 b=2" as settings. */
static void settings_of(struct buf *settings, const char *text) {
    while (*text != '\0') {
        size_t name_len = strcspn(text, "=");
        const char *value = text + name_len + 1;
        size_t value_len = strcspn(value, " ");
        settings_put(settings, bytes_of(text, name_len), bytes_of(value, value_len));
        text = value + value_len + strspn(value + value_len, " ");
    }
}

static struct text *text_of(struct world *world, const char *text) {
    struct buf settings = {0};
    if (*text == '\0') return NULL;
    settings_of(&settings, text);
    struct text *made = text_get(&world->texts, buf_content(&settings));
    buf_release(&settings);
    return made;
}

/* The other way round, into a buffer of the caller's. */
static void print(const struct text *settings, struct buf *out) {
    struct bytes rest = settings == NULL ? bytes_of("", 0) : bytes_of(settings->at, settings->len);
    struct bytes name, value;
    while (settings_next(&rest, &name, &value)) {
        if (buf_length(out) > 0) buf_append_u8(out, ' ');
        buf_append_bytes(out, name);
        buf_append_u8(out, '=');
        buf_append_bytes(out, value);
    }
}

static void world_init(struct world *world, const char *client, const char *server) {
    *world = (struct world){
        .set = {.tracked_count = TRACKED_SESSION_AUTHORIZATION + 1},
        .pool = {.set = &world->set},
        .server = {.pool = &world->pool},
    };
    world->set.texts = &world->texts;
    for (unsigned i = 0; i < world->set.tracked_count; i++) world->set.tracked[i] = "other";
    world->set.tracked[TRACKED_TIMEZONE] = "TimeZone";
    world->set.tracked[TRACKED_SESSION_AUTHORIZATION] = "session_authorization";
    struct text **reported = world->server.parameters;
    reported[TRACKED_TIMEZONE] = text_get(&world->texts, bytes_of_text("UTC"));
    reported[TRACKED_SESSION_AUTHORIZATION] = text_get(&world->texts, bytes_of_text("me"));
    struct server_memory *memory = server_memory_new(&world->server);
    world->server.memory = memory;
    memory->settings = text_of(world, server);
    world->session = session_new();
    world->session->settings = text_of(world, client);
}

static void world_release(struct world *world) {
    struct server_memory *memory = world->server.memory;
    session_free(&world->session, &world->texts);
    server_memory_free(&memory, &world->statements, &world->texts);
    parameters_release(&world->parameters, &world->texts);
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++)
        text_unref(&world->texts, &world->server.parameters[i]);
    statements_release(&world->statements);
    texts_release(&world->texts);
}

#define CONFIG(name, value) "SELECT pg_catalog.set_config('" name "','" value "',false);"

static const struct gap_row {
    const char *client, *server;
    const char *zone, *authorization; /* the client's parameters; NULL: never said */
    bool is_unknown;
    bool is_scrubbed;
    enum parameters_step step;
    const char *query;
} gaps[] = {
    {"", "", NULL, NULL, false, false, PARAMETERS_SAME, ""},
    {"a=1", "a=1", "UTC", "me", false, false, PARAMETERS_SAME, ""},
    {"a=1", "", NULL, NULL, false, false, PARAMETERS_FIRST, CONFIG("a", "1")},
    {"a=1 b=2", "a=1", NULL, NULL, false, false, PARAMETERS_FIRST, CONFIG("b", "2")},
    {"a=1 b=2", "a=1 b=3", NULL, NULL, false, false, PARAMETERS_FIRST, CONFIG("b", "2")},
    /* What the client has not set goes, and with it all else. */
    {"", "a=1", NULL, NULL, false, true, PARAMETERS_TOGETHER, ""},
    {"b=2", "a=1", NULL, NULL, false, true, PARAMETERS_FIRST, CONFIG("b", "2")},
    {"a=1", "a=1", NULL, NULL, true, true, PARAMETERS_FIRST, CONFIG("a", "1")},
    {"", "", NULL, NULL, true, true, PARAMETERS_TOGETHER, ""},
    /* A role comes last, and nothing is set with its rights. */
    {"a=1 role=r z=2", "", "Asia/Tokyo", NULL, false, false, PARAMETERS_FIRST,
     CONFIG("a", "1") CONFIG("z", "2") "SET TimeZone='Asia/Tokyo';" CONFIG("role", "r")},
    {"a=1 role=r", "role=r", NULL, NULL, false, true, PARAMETERS_FIRST,
     CONFIG("a", "1") CONFIG("role", "r")},
    {"role=r", "role=q", NULL, NULL, false, true, PARAMETERS_FIRST, CONFIG("role", "r")},
    {"", "role=q", NULL, NULL, false, true, PARAMETERS_TOGETHER, ""},
    {"a=1", "", NULL, "other", false, true, PARAMETERS_FIRST,
     CONFIG("a", "1") "SET session_authorization='other';"},
    /* Quoting */
    {"a=it's", "", NULL, NULL, false, false, PARAMETERS_FIRST, CONFIG("a", "it''s")},
    {"a=\\351", "", NULL, NULL, false, false, PARAMETERS_FIRST,
     "SELECT "
     "pg_catalog.set_config('a',pg_catalog.convert_from(pg_catalog.decode(E'\\\\351','escape'),"
     "pg_catalog.getdatabaseencoding()),false) IS NULL;"},
};

static void set_parameter(struct world *world, enum pool_tracked index, const char *value) {
    if (value == NULL) return;
    parameters_set(&world->parameters, &world->texts, (int)index, bytes_of_text(value));
}

static void gaps_are_closed(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(gaps); i++) {
        const struct gap_row *row = &gaps[i];
        struct world world;
        struct settings_gap gap;
        world_init(&world, row->client, row->server);
        set_parameter(&world, TRACKED_TIMEZONE, row->zone);
        set_parameter(&world, TRACKED_SESSION_AUTHORIZATION, row->authorization);
        struct server_memory *memory = world.server.memory;
        memory->is_unknown = row->is_unknown;
        memory->unknown_by = ID + 1;
        settings_find_gap(&gap, &world.parameters, world.session, ID, &world.server);
        if (strcmp(buf_text(&gap.query), row->query) != 0 || gap.step != row->step ||
            gap.is_scrubbed != row->is_scrubbed)
            fail_msg("%s <- %s\n  step %d, scrubbed %d, %s", row->server, row->client, gap.step,
                     gap.is_scrubbed, buf_text(&gap.query));
        assert_ptr_equal(memory->settings, world.session->settings);
        assert_false(memory->is_unknown);
        buf_release(&gap.query);
        world_release(&world);
    }
}

/* Once it was accepted a value goes with the statement; a role never does. */
static void what_was_accepted(void **unused) {
    (void)unused;
    struct world world;
    struct settings_gap gap;
    for (unsigned is_role = 0; is_role < 2; is_role++) {
        world_init(&world, is_role ? "a=1 role=r" : "a=1", "");
        settings_accepted(&world.parameters, world.session, &world.server);
        settings_find_gap(&gap, &world.parameters, world.session, ID, &world.server);
        assert_int_equal(gap.step, is_role ? PARAMETERS_FIRST : PARAMETERS_TOGETHER);
        buf_release(&gap.query);
        buf_release(&gap.query);
        world_release(&world);
    }
}

/* What a client did itself is as it was left, while it has used no other server and nobody else has
 * this one. */
static void its_own_doing(void **unused) {
    (void)unused;
    static const struct {
        uint32_t by, on;
        bool is_scrubbed;
    } rows[] = {{ID, SERVER, false}, {ID, 0, true}, {ID, SERVER + 1, true}, {ID + 1, SERVER, true}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world world;
        struct settings_gap gap;
        world_init(&world, "", "");
        struct server_memory *memory = world.server.memory;
        world.server.id = SERVER;
        world.session->is_unknown = true;
        session_learned(world.session, &world.server, ID);
        assert_true(memory->is_unknown);
        assert_int_equal(world.session->unknown_on, SERVER);
        memory->unknown_by = rows[i].by;
        world.session->unknown_on = rows[i].on;
        settings_find_gap(&gap, &world.parameters, world.session, ID, &world.server);
        assert_int_equal(gap.is_scrubbed, rows[i].is_scrubbed);
        buf_release(&gap.query);
        world_release(&world);
    }
}

/* A DataRow's body with two columns; value NULL is a null. */
static void append_row(struct buf *out, const char *name, const char *value) {
    buf_append_u16(out, 2);
    buf_append_u32(out, (uint32_t)strlen(name));
    buf_append_text(out, name);
    buf_append_u32(out, value == NULL ? UINT32_MAX : (uint32_t)strlen(value));
    if (value != NULL) buf_append_text(out, value);
}

static const struct learn_row {
    const char *client, *startup, *names; /* of the traits, with a blank for each NUL */
    uint32_t flags;
    const char *rows;           /* what the server answers; `-` is NULL */
    const char *after, *server; /* settings; server NULL: nothing is asked */
} lessons[] = {
    {"", "", "sa ", TRAITS_SETS, "a=1", "a=1", "a=1"},
    {"a=1 c=3", "", "sb sa ", TRAITS_SETS, "a=2 b=x", "a=2 b=x c=3", "a=2 b=x c=3"},
    {"a=1 c=3", "", "da sa ", TRAITS_SETS, "a=-", "c=3", "c=3"},
    {"a=1 c=3", "a=0", "da sa ", TRAITS_SETS, "a=-", "a=0 c=3", "c=3"},
    {"a=1 c=3", "c=9", "", TRAITS_RESETS_ALL, "a=- c=-", "c=9", ""},
    {"role=r", "", "drole srole ", TRAITS_SETS, "role=none", "", ""},
    {"role=r", "", "ssession_authorization ", TRAITS_SETS, "role=none", "", ""},
    /* A custom one that was reset is empty there, and its client's of after the login. */
    {"a.b=1", "a.b=0", "da.b sa.b ", TRAITS_SETS, "a.b=", "a.b=0", "a.b="},
    {"a.b=1", "a.b=0", "sa.b ", TRAITS_SETS, "a.b=", "a.b=", "a.b="},
    {"a.b=1", "a.b=0", "", TRAITS_RESETS_ALL, "a.b=", "a.b=0", "a.b="},
    /* NONE is not what RESET gives to who logged in with a role; RESET ALL does nothing to it. */
    {"role=r", "role=q", "srole ", TRAITS_SETS, "role=none", "", ""},
    {"role=r", "role=q", "drole srole ", TRAITS_SETS, "role=none", "role=q", ""},
    {"role=r", "role=q", "dsession_authorization ", TRAITS_SETS, "role=none", "role=q", ""},
    {"role=r", "role=q", "", TRAITS_RESETS_ALL, "role=r", "role=r", "role=r"},
    /* Something may have set what the client has. */
    {"a=1", "", "", TRAITS_RUNS_UNKNOWN, "a=2", "a=2", "a=2"},
    {"a=1", "", "sb ", TRAITS_SETS | TRAITS_RUNS_UNKNOWN, "a=2 b=3", "a=2 b=3", "a=2 b=3"},
    {"", "", "", TRAITS_RUNS_UNKNOWN, "", "", NULL},
    /* Reported parameters tell themselves; functions and relations are no settings. */
    {"a=1", "", "stimezone ff rt ", TRAITS_SETS, "", "a=1", NULL},
    {"a=1", "", "ff ", 0, "", "a=1", NULL},
};

static void note(struct world *world, const struct learn_row *row) {
    char names[64];
    size_t len = strlen(row->names);
    for (size_t i = 0; i < len; i++) names[i] = row->names[i] == ' ' ? '\0' : row->names[i];
    struct traits traits = {
        .flags = row->flags, .names = bytes_of(names, len), .names_complete = true};
    session_note(world->session, &traits, &world->server);
}

static void answer(struct world *world, const char *rows) {
    struct buf settings = {0};
    struct bytes name, value;
    settings_of(&settings, rows);
    struct bytes rest = buf_content(&settings);
    while (settings_next(&rest, &name, &value)) {
        struct buf body = {0};
        append_row(&body, name.at, bytes_equal_text(value, "-") ? NULL : value.at);
        assert_true(session_row(world->session, buf_content(&body)));
        buf_release(&body);
    }
    buf_release(&settings);
}

static void assert_settings(const struct text *settings, const char *expected) {
    struct buf found = {0};
    print(settings, &found);
    assert_string_equal(buf_text(&found), expected);
    buf_release(&found);
}

static void clients_learn(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(lessons); i++) {
        const struct learn_row *row = &lessons[i];
        struct world world;
        struct buf question = {0};
        world_init(&world, row->client, row->client);
        world.session->startup = text_of(&world, row->startup);
        note(&world, row);
        assert_int_equal(session_question(world.session, &question), row->server != NULL);
        if (row->server != NULL) {
            answer(&world, row->rows);
            session_learned(world.session, &world.server, ID);
            const struct server_memory *memory = world.server.memory;
            assert_settings(memory->settings, row->server);
        }
        assert_settings(world.session->settings, row->after);
        assert_int_equal(buf_length(&world.session->touched), 0);
        buf_release(&question);
        world_release(&world);
    }
}

/* What logs in with bytes has them written as the server writes them. */
static void start_up(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world, "", "");
    session_start_with(world.session, &world.texts, bytes_of_text("App.A"), bytes_of("\xe9\\", 2));
    session_start_with(world.session, &world.texts, bytes_of_text("b"), bytes_of_text(""));
    assert_settings(world.session->startup, "app.a=\\351\\\\ b=");
    session_begin(world.session);
    assert_settings(world.session->settings, "app.a=\\351\\\\ b=");
    world_release(&world);
}

/* The name is another one in another encoding; an undone RESET is none. */
static void special_notes(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world, "", "");
    struct learn_row row = {.names = "sa.\xe9 da.b sa.b ", .flags = TRAITS_SETS};
    note(&world, &row);
    assert_true(world.session->is_unknown);
    assert_int_equal(buf_length(&world.session->touched), 4);
    assert_int_equal(buf_length(&world.session->reset), 4);
    session_undone(world.session);
    assert_int_equal(buf_length(&world.session->reset), 0);
    row.names = "da.b sa.b da.c sa.c ";
    note(&world, &row);
    assert_int_equal(buf_length(&world.session->reset), 8);
    row.names = "sa.b "; /* what is set after it was reset */
    note(&world, &row);
    assert_int_equal(buf_length(&world.session->reset), 4);
    /* What was sent behind a DISCARD ALL, before its answer, is still to be asked about. */
    row = (struct learn_row){.names = "", .flags = TRAITS_RESETS_ALL | TRAITS_DISCARDS_ALL};
    struct learn_row next = {.names = "sx ", .flags = TRAITS_SETS};
    note(&world, &row);
    note(&world, &next);
    session_discarded(world.session, &world.server);
    assert_true(session_has_question(world.session));
    note(&world, &row);
    session_discarded(world.session, &world.server);
    assert_false(session_has_question(world.session));
    world_release(&world);
}

static void questions(void **unused) {
    (void)unused;
    struct world world;
    struct buf question = {0};
    world_init(&world, "", "");
    struct learn_row row = {.names = "sa sb.c ", .flags = TRAITS_SETS};
    note(&world, &row);
    note(&world, &row); /* each name once */
    assert_true(session_question(world.session, &question));
    assert_string_equal(buf_text(&question),
                        "SELECT n, pg_catalog.encode(pg_catalog.convert_to("
                        "pg_catalog.current_setting(n, true),"
                        "pg_catalog.getdatabaseencoding()),'escape') FROM"
                        " pg_catalog.unnest(ARRAY['a','b.c']::pg_catalog.text[]) n");
    for (unsigned tries = 1; tries < 5; tries++)
        assert_true(session_question(world.session, &question));
    assert_false(session_question(world.session, &question));
    buf_release(&question);
    world_release(&world);
}

static void malformed_rows(void **unused) {
    (void)unused;
    struct world world;
    struct buf body = {0};
    world_init(&world, "", "");
    append_row(&body, "name", "value");
    struct bytes whole = buf_content(&body);
    for (size_t len = 0; len < whole.len; len++) {
        char *cut = memory_copy(whole.at, len);
        assert_false(session_row(world.session, bytes_of(cut, len)));
        memory_free(cut);
    }
    assert_true(session_row(world.session, whole));
    buf_release(&body);
    world_release(&world);
}

#define BIT(pin) (1u << (pin))

static const struct pin_row {
    uint32_t flags;
    unsigned pinned, made, asked;
} pin_rows[] = {
    {0, 0, 0, 0},
    {TRAITS_TEMPORARY, 0, BIT(PIN_TEMPORARY), BIT(PIN_TEMPORARY)},
    {TRAITS_CHANGES_SCHEMA, 0, 0, 0},
    {TRAITS_CHANGES_SCHEMA, BIT(PIN_TEMPORARY) | BIT(PIN_LOCK), 0, BIT(PIN_TEMPORARY)},
    {TRAITS_SESSION_LOCK, BIT(PIN_LOCK), BIT(PIN_LOCK), BIT(PIN_LOCK)},
    {TRAITS_USES_CURSOR, BIT(PIN_LISTEN), 0, 0},
    {TRAITS_USES_CURSOR, BIT(PIN_CURSOR), 0, BIT(PIN_CURSOR)},
    {TRAITS_UNLISTENS | TRAITS_DEALLOCATES, BIT(PIN_LISTEN) | BIT(PIN_PREPARED), 0,
     BIT(PIN_LISTEN)},
    {TRAITS_PREPARES, 0, 0, 0},
    {TRAITS_RUNS_CODE, 0, 0,
     BIT(PIN_TEMPORARY) | BIT(PIN_LOCK) | BIT(PIN_CURSOR) | BIT(PIN_LISTEN)},
    {TRAITS_SESSION_MEMORY, 0, BIT(PIN_MEMORY), 0},
};

static void pins(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(pin_rows); i++) {
        const struct pin_row *row = &pin_rows[i];
        if (pins_made(row->flags) != row->made ||
            pins_to_ask(row->flags, row->pinned) != row->asked)
            fail_msg("row %zu: makes %x, asks %x", i, pins_made(row->flags),
                     pins_to_ask(row->flags, row->pinned));
    }
    assert_null(pins_text(0));
    assert_string_equal(pins_text(BIT(PIN_LOCK) | BIT(PIN_MEMORY)), "an advisory lock");
    assert_int_equal(pin_of_mark(bytes_of_text("role")), PIN_COUNT);
}

/* set_config($1, $2, false): what its Bind says, behind the two names, and the types of its Parse.
 */
#define ONE_TEXT(value) "\0\0\0\2\0\0\0" value "\0\0\0\1x\0\0"
static const struct bind_row {
    const char *values, *types;
    size_t values_len, types_len;
    const char *touched; /* NULL: the session is unknown */
} binds[] = {
#define ROW(values, types, touched)                                                                \
    { values, types, sizeof(values) - 1, sizeof(types) - 1, touched }
    ROW(ONE_TEXT("\5App.B"), "\0\0", "app.b"),
    ROW("\0\1\0\1\0\2\0\0\0\3a.b\377\377\377\377\0\0", "\0\0", "a.b"),
    ROW(ONE_TEXT("\3a.b"), "\0\1\0\0\0\31", "a.b"),
    ROW(ONE_TEXT("\3a.b"), "\0\1\0\0\0\27", NULL),     /* an integer */
    ROW(ONE_TEXT("\3a.b"), "\0\3\0\0\0\31", NULL),     /* fewer types than it says */
    ROW(ONE_TEXT("\4a.b "), "\0\0", NULL),             /* blanks may be cut */
    ROW(ONE_TEXT("\3a\303b"), "\0\0", NULL),           /* case is not known */
    ROW(ONE_TEXT("\0"), "\0\0", NULL),                 /* empty */
    ROW("\0\0\0\1\377\377\377\377\0\0", "\0\0", NULL), /* NULL */
    ROW("\0\0\0\0\0\0", "\0\0", NULL),                 /* no parameters */
    ROW("\0\0\0\1\177\377\377\377a.b", "\0\0", NULL),  /* longer than the message */
#undef ROW
};

static void bind_note(struct world *world, struct bytes values, struct bytes types) {
    static const char names[] = "s$1";
    struct session_bind bind = {.types = types, .values = values};
    struct traits traits = {
        .flags = TRAITS_SETS, .names = bytes_of(names, sizeof names), .names_complete = true};
    world->session->bind = &bind;
    session_note(world->session, &traits, &world->server);
    world->session->bind = NULL;
}

/* Names that a Bind gives; one that is cut anywhere is read to its end and no further. */
static void names_in_a_bind(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(binds); i++) {
        const struct bind_row *row = &binds[i];
        struct world world;
        world_init(&world, "", "");
        struct bytes types = bytes_of(row->types, row->types_len);
        bind_note(&world, bytes_of(row->values, row->values_len), types);
        assert_int_equal(world.session->is_unknown, row->touched == NULL);
        if (row->touched != NULL)
            assert_string_equal(buf_content(&world.session->touched).at, row->touched);
        for (size_t len = 0; len < row->values_len; len++) {
            char *cut = memory_copy(row->values, len);
            bind_note(&world, bytes_of(cut, len), types);
            memory_free(cut);
        }
        for (size_t len = 0; len < row->types_len; len++) {
            char *cut = memory_copy(row->types, len);
            bind_note(&world, bytes_of(row->values, row->values_len), bytes_of(cut, len));
            memory_free(cut);
        }
        world_release(&world);
    }
}

/* What the answer does not tell is gone; what nobody can be asked about stays. */
static void pins_come_and_go(void **unused) {
    (void)unused;
    struct world world;
    struct buf question = {0};
    struct traits lock = {.flags = TRAITS_SESSION_LOCK | TRAITS_SESSION_MEMORY};
    world_init(&world, "a=1", "a=1");
    struct session *session = world.session;
    session_note(session, &lock, &world.server);
    assert_true(session_question(session, &question));
    assert_null(strstr(buf_text(&question), "current_setting"));
    struct buf row = {0};
    append_row(&row, " l", "");
    assert_true(session_row(session, buf_content(&row)));
    session_learned(session, &world.server, ID);
    assert_int_equal(session->pins, BIT(PIN_LOCK) | BIT(PIN_MEMORY));
    session_note(session, &lock, &world.server);
    assert_true(session_question(session, &question));
    session_learned(session, &world.server, ID);
    assert_int_equal(session->pins, BIT(PIN_MEMORY));
    assert_settings(session->settings, "a=1");
    session_discarded(session, &world.server);
    assert_int_equal(session->pins, 0);
    buf_release(&row);
    buf_release(&question);
    world_release(&world);
}

/* Who goes before it is known what was set leaves a server that nobody knows. */
static void leaving(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world, "", "");
    struct server_memory *memory = world.server.memory;
    session_left(world.session, &world.server, ID);
    assert_false(memory->is_unknown);
    struct learn_row row = {.names = "sa ", .flags = TRAITS_SETS};
    note(&world, &row);
    session_left(world.session, &world.server, ID);
    assert_true(memory->is_unknown);
    assert_int_not_equal(memory->unknown_by, ID);
    world_release(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gaps_are_closed),  cmocka_unit_test(what_was_accepted),
        cmocka_unit_test(its_own_doing),    cmocka_unit_test(clients_learn),
        cmocka_unit_test(questions),        cmocka_unit_test(start_up),
        cmocka_unit_test(special_notes),    cmocka_unit_test(malformed_rows),
        cmocka_unit_test(leaving),          cmocka_unit_test(pins),
        cmocka_unit_test(pins_come_and_go), cmocka_unit_test(names_in_a_bind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
