/*
 * Where a group may run. A group is written as messages divided by bars:
 *
 *      Q:text    P:name:text    B:name    C:name    E  F  H  S  d
 *
 * The world is a primary pg0 and a replica pg1 that has replayed everything; the client has
 * prepared `reads` and `writes` before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "client/parts.h"
#include "config/load.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/facts.h"

/* ---- groups */

static void close_message(struct buf *out, size_t start) {
    size_t length = buf_length(out) - start - 1;
    bytes_put_u32(out->memory + out->start + start + 1, (uint32_t)length);
}

static void append_message(struct buf *out, struct bytes part) {
    size_t start = buf_length(out);
    char type = part.at[0];
    buf_append_u8(out, (unsigned char)type);
    buf_append_u32(out, 0);
    if (type == 'C') buf_append_u8(out, 'S');
    if (type == 'B') buf_append_u8(out, 0); /* the unnamed portal */
    for (size_t i = 2; i < part.len; i++) {
        bool ends_name =
            type == 'P' && part.at[i] == ':' && memchr(part.at + 2, ':', i - 2) == NULL;
        buf_append_u8(out, ends_name ? 0 : (unsigned char)part.at[i]);
    }
    if (part.len >= 2) buf_append_u8(out, 0);
    if (type == 'P') buf_append_u16(out, 0);
    if (type == 'B') buf_append(out, "\0\0\0\0\0\0", 6);
    if (type == 'E') buf_append(out, "\0\0\0\0\0", 5);
    if (type == 'F') buf_append(out, "\0\0\0\1\0\0\0\0\0\0", 10);
    close_message(out, start);
}

static void append_group(struct buf *out, const char *group) {
    while (*group != '\0') {
        size_t len = strcspn(group, "|");
        append_message(out, bytes_of(group, len));
        group += len + (group[len] == '|');
    }
}

/* ---- how long a group is */

static const struct {
    const char *group;
    const char *more; /* what follows it */
    bool has_flush;
} complete[] = {
    {"Q:SELECT 1", "", false},
    {"Q:", "Q:SELECT 2", false},
    {"S", "", false},
    {"F", "S", false},
    {"P::SELECT 1|B:|E|S", "", false},
    {"P::SELECT 1|B:|E|S", "P::SELECT 2", false},
    {"P::SELECT 1|H|B:|E|S", "", true},
    {"P::SELECT 1|B:|E|Q:SELECT 2", "S", false},
    {"d|d|S", "", false},
    {"B:|E|S", "H", false}, /* a Flush behind it is not its own */
};

static void groups_end_where_they_end(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(complete); i++) {
        struct buf all = {0};
        append_group(&all, complete[i].group);
        size_t length = buf_length(&all);
        append_group(&all, complete[i].more);
        for (size_t cut = 0; cut <= buf_length(&all); cut++) {
            bool has_flush = true;
            /* A copy of its own, so that the address sanitizer sees a read behind the end. */
            char *exact = memory_copy(buf_content(&all).at, cut);
            exact = memory_resize(exact, cut);
            size_t given = judge_group_length(bytes_of(exact, cut), &has_flush);
            memory_free(exact);
            if (given != (cut < length ? 0 : length)) fail_msg("row %zu cut at %zu", i, cut);
            if (cut >= length) assert_int_equal(has_flush, complete[i].has_flush);
        }
        buf_release(&all);
    }
}

static const struct {
    const char *bytes;
    size_t len;
} endless[] = {
    {"S\0\0\0\3", 5},   {"S\0\0\0\0", 5},           {"S\xFF\xFF\xFF\xFF", 5},
    {"S\x40\0\0\1", 5}, {"H\0\0\0\4S\0\0\0\0", 10}, {"\0\0\0\0\4", 5},
};

static void what_is_no_message_ends_nothing(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(endless); i++) {
        bool has_flush;
        struct bytes bytes = bytes_of(endless[i].bytes, endless[i].len);
        assert_int_equal(judge_group_length(bytes, &has_flush), 0);
        assert_int_equal(has_flush, endless[i].bytes[0] == 'H');
    }
}

/* ---- the world */

struct world {
    struct client_set set;
    struct pool_set pools;
    struct texts texts;
    struct database database;
    struct pool pool;
    struct pool_node node;
    struct pool_node *nodes[1];
    struct client client;
};

static struct cluster *make_cluster(void) {
    static const struct cluster_member members[] = {{"pg0", 5432, 1, NULL, false},
                                                    {"pg1", 5432, 1, NULL, false}};
    struct cluster *cluster = cluster_new("app", members, COUNT(members), true);
    node_become(cluster_node(cluster, 0), NODE_PRIMARY, NODE_UP);
    node_become(cluster_node(cluster, 1), NODE_REPLICA, NODE_UP);
    cluster_set_primary(cluster, 0);
    while (freshness_now() < 20) (void)freshness_next();
    node_sample(cluster_node(cluster, 1), 20, 20);
    return cluster;
}

static struct facts *make_facts(void) {
    struct facts_builder *builder = facts_builder_new(77, NULL);
    facts_builder_add(builder, &(struct facts_row){'r', 1259, 0, "rp", "pg_catalog", "pg_class"});
    facts_builder_add(builder, &(struct facts_row){'r', 20000, 0, "rp", "public", "t"});
    return facts_builder_end(&builder, 2, freshness_schema(77));
}

static struct config *make_config(void) {
    struct config_errors errors = {0};
    struct config *config = config_load_text(
        "f.ini", bytes_of_text("[pgbouncer]\nauth_type = trust\ngather_bytes = 256\n"), &errors);
    if (config == NULL) fail_msg("%s", buf_text(&errors.text));
    config_errors_release(&errors);
    return config;
}

static struct statement *make_statement(struct world *world, const char *text) {
    struct traits_context context = parameters_context(&world->client.parameters);
    bool is_new;
    struct statement *statement =
        statement_get(&world->set.statements, bytes_of(NULL, 0), bytes_of_text(text), &is_new);
    if (is_new) statement->traits = *traits_of(world->set.traits, bytes_of_text(text), &context, 1);
    return statement;
}

static struct world *world_new(void) {
    struct world *world = memory_new(sizeof *world);
    world->pools = (struct pool_set){.config = make_config(),
                                     .texts = &world->texts,
                                     .tracked = {[TRACKED_CLIENT_ENCODING] = "client_encoding",
                                                 [TRACKED_DATESTYLE] = "DateStyle",
                                                 [TRACKED_TIMEZONE] = "TimeZone"},
                                     .tracked_count = 3};
    world->set.loop = loop_new();
    world->set.pools = &world->pools;
    world->set.texts = &world->texts;
    world->set.traits = traits_cache_new(1000, 200, NULL);
    client_set_init(&world->set);
    world->database.hash = 77;
    world->node.cluster = make_cluster();
    world->nodes[0] = &world->node;
    world->pool.database = &world->database;
    world->pool.facts = make_facts();
    world->pool.nodes = world->nodes;
    world->pool.nodes_count = 1;
    world->pool.routing = ROUTING_READ_WRITE;
    world->pool.choice.replica_fallback = REPLICA_FALLBACK_ON;
    world->pool.consistency = READ_CONSISTENCY_DATABASE;
    world->client.set = &world->set;
    world->client.pool = &world->pool;
    world->client.state = CLIENT_IDLE;
    world->client.route_request.need.stick_node = -1;
    /* Servers report it; DateStyle, here, they do not. */
    world->client.reported = UINT32_C(1) << TRACKED_TIMEZONE;
    parameters_set(&world->client.parameters, &world->texts, TRACKED_TIMEZONE,
                   bytes_of_text("GMT"));
    struct prepared_names *names = &world->client.names;
    (void)prepared_add(names, bytes_of_text("reads"), make_statement(world, "SELECT 'r'"));
    (void)prepared_add(names, bytes_of_text("writes"), make_statement(world, "DELETE FROM t"));
    return world;
}

static void world_free(struct world *world) {
    facts_free(&world->pool.facts);
    parameters_release(&world->client.parameters, &world->texts);
    struct client *client = &world->client;
    prepared_clear(&client->names, &world->set.statements);
    statement_unref(&world->set.statements, &client->unnamed);
    statements_release(&world->set.statements);
    text_unref(&world->texts, &client->sticky);
    texts_release(&world->texts);
    buf_release(&client->retry.request);
    traits_cache_free(&world->set.traits);
    cluster_free(&world->node.cluster);
    config_unref(&world->pools.config);
    loop_free(&world->set.loop);
    memory_free(world);
}

static enum judgement judge(struct world *world, const char *group) {
    struct buf bytes = {0};
    append_group(&bytes, group);
    enum judgement judgement = judge_group(&world->client, buf_content(&bytes));
    buf_release(&bytes);
    return judgement;
}

/* ---- groups and their nodes */

enum { WRITES = 1, REACHES_OUT = 2, UNKNOWN = WRITES | REACHES_OUT };

static const struct {
    const char *group;
    enum route_target target;
    unsigned effects;
    const char *sticky; /* NULL: nothing stays in the session */
} groups[] = {
    {"Q:SELECT 1", ROUTE_REPLICA, 0, NULL},
    {"Q:", ROUTE_REPLICA, 0, NULL},
    {"Q:INSERT INTO t VALUES (1)", ROUTE_PRIMARY, WRITES, NULL},
    {"Q:SELECT 1; INSERT INTO t VALUES (1)", ROUTE_PRIMARY, WRITES, NULL},
    {"Q:SELECT nextval('s')", ROUTE_PRIMARY, WRITES, NULL},
    {"Q:SELECT FROM WHERE", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"Q:BEGIN", ROUTE_PRIMARY, 0, NULL},
    {"Q:BEGIN READ ONLY", ROUTE_REPLICA, 0, NULL},
    {"P::SELECT 1|B:|E|S", ROUTE_REPLICA, 0, NULL},
    {"P::INSERT INTO t VALUES (1)|B:|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"P::SELECT 1|B:|E|P::INSERT INTO t VALUES (1)|B:|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"P::SELECT 1|B:|E|H|S", ROUTE_PRIMARY, UNKNOWN, NULL}, /* answered before its end */
    {"P::SELECT 1|B:|E|H", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"F", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"P::SELECT 1|F", ROUTE_PRIMARY, UNKNOWN, NULL},
    /* Binds of what was parsed before */
    {"B:reads|E|S", ROUTE_REPLICA, 0, NULL},
    {"B:writes|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"B:reads|E|B:writes|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"B:other|E|S", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"B:|E|S", ROUTE_PRIMARY, UNKNOWN, NULL},
    /* and of what is parsed here */
    {"P:new:SELECT 1|B:new|E|S", ROUTE_REPLICA, 0, NULL},
    {"P:new:DELETE FROM t|B:new|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"P::SELECT 1|B:writes|E|S", ROUTE_PRIMARY, WRITES, NULL},
    {"B:new|E|P:new:SELECT 1|S", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"P:new:SELECT 1|B:|E|S", ROUTE_PRIMARY, UNKNOWN, NULL},
    {"C:reads|P:reads:DELETE FROM t|B:reads|E|S", ROUTE_PRIMARY, WRITES, NULL},
    /* what stays in the session keeps its reads on the primary */
    {"Q:SET work_mem = '1MB'", ROUTE_PRIMARY, 0, "work_mem"},
    {"Q:SET Work_Mem TO '1MB'", ROUTE_PRIMARY, 0, "work_mem"},
    {"Q:SET ROLE joe", ROUTE_PRIMARY, 0, "role"},
    {"Q:SET TimeZone = 'UTC'", ROUTE_PRIMARY, 0, NULL},         /* replayed: nothing that sticks */
    {"Q:SET DateStyle = 'ISO'", ROUTE_PRIMARY, 0, "datestyle"}, /* tracked, but never reported */
    {"Q:SET LOCAL work_mem = '1MB'", ROUTE_REPLICA, 0, NULL},
    {"Q:LISTEN news", ROUTE_PRIMARY, 0, "LISTEN"},
    {"Q:PREPARE p AS SELECT 1", ROUTE_PRIMARY, 0, "PREPARE"},
    {"Q:SELECT pg_advisory_lock(1)", ROUTE_PRIMARY, 0, "an advisory lock"},
    {"Q:CREATE TEMP TABLE x (a int)", ROUTE_PRIMARY, WRITES, "a temporary object"},
    {"P::SET work_mem = '1MB'|B:|E|S", ROUTE_PRIMARY, 0, "work_mem"},
    {"Q:SET work_mem = '1MB'; LISTEN news", ROUTE_PRIMARY, 0, "work_mem"},
};

static void check_group(size_t row, const struct client *client, size_t length) {
    unsigned effects = (client->may_write ? WRITES : 0) | (client->may_reach_out ? REACHES_OUT : 0);
    bool is_in_hand = strstr(groups[row].group, "|H") == NULL;
    const char *sticky = client->sticky == NULL ? "none" : client->sticky->at;
    if (client->route.target != groups[row].target || effects != groups[row].effects)
        fail_msg("%s: target %d, effects %u, sticky %s", groups[row].group, client->route.target,
                 effects, sticky);
    assert_true(client->is_routed);
    assert_int_equal(client->group_left, is_in_hand ? length : 0);
    const char *expected = groups[row].sticky == NULL ? "none" : groups[row].sticky;
    if (strcmp(sticky, expected) != 0) fail_msg("%s: sticky %s", groups[row].group, sticky);
    /* Only what runs on a replica may be sent again, and all of it. */
    bool is_held = client->route.target == ROUTE_REPLICA && client->route.retryable;
    assert_int_equal(client->retry.is_holding, is_held);
    if (is_held) assert_int_equal(buf_length(&client->retry.request), length);
}

static void groups_find_their_node(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(groups); i++) {
        struct world *world = world_new();
        struct buf bytes = {0};
        append_group(&bytes, groups[i].group);
        assert_int_equal(judge_group(&world->client, buf_content(&bytes)), JUDGE_READY);
        check_group(i, &world->client, buf_length(&bytes));
        buf_release(&bytes);
        world_free(world);
    }
}

/* Whatever is missing of a group is waited for, unless it is too long to be gathered. */
static void half_a_group_waits(void **unused) {
    (void)unused;
    struct buf bytes = {0};
    append_group(&bytes, "P::SELECT 1|B:|E|S");
    for (size_t cut = 0; cut < buf_length(&bytes); cut++) {
        struct world *world = world_new();
        struct bytes head = bytes_of(buf_content(&bytes).at, cut);
        assert_int_equal(judge_group(&world->client, head), JUDGE_MORE);
        assert_false(world->client.may_write);
        world_free(world);
    }
    buf_release(&bytes);
}

static void what_is_too_long_is_not_read(void **unused) {
    (void)unused;
    static const struct {
        size_t blanks;  /* in a query of "SELECT 1" and blanks */
        size_t in_hand; /* bytes of it, 0: all */
        enum judgement judgement;
        enum route_target target;
    } rows[] = {
        {256 - 14, 0, JUDGE_READY, ROUTE_REPLICA}, /* 256 bytes, the limit in make_config */
        {257 - 14, 0, JUDGE_READY, ROUTE_PRIMARY}, {1000, 255, JUDGE_MORE, ROUTE_ANY},
        {1000, 256, JUDGE_READY, ROUTE_PRIMARY},   {1000, 0, JUDGE_READY, ROUTE_PRIMARY},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world *world = world_new();
        struct buf bytes = {0};
        struct buf text = {0};
        buf_append_format(&text, "Q:SELECT 1%*s", (int)rows[i].blanks, "");
        append_group(&bytes, buf_text(&text));
        if (rows[i].in_hand > 0) buf_truncate(&bytes, rows[i].in_hand);
        assert_int_equal(judge_group(&world->client, buf_content(&bytes)), rows[i].judgement);
        assert_int_equal(world->client.route.target, rows[i].target);
        if (rows[i].target == ROUTE_PRIMARY) assert_int_equal(world->client.group_left, 0);
        buf_release(&text);
        buf_release(&bytes);
        world_free(world);
    }
}

/* One session after another statement: what it keeps, and what takes it away. */
static void state_stays_until_it_is_reset(void **unused) {
    (void)unused;
    static const struct {
        const char *group;
        enum route_target target; /* of a read behind it */
    } rows[] = {
        {"Q:SELECT 1", ROUTE_REPLICA},
        {"F", ROUTE_REPLICA},
        {"Q:SET work_mem = '1MB'", ROUTE_PRIMARY},
        {"Q:SELECT 1", ROUTE_PRIMARY},
        {"Q:RESET work_mem", ROUTE_PRIMARY}, /* back to what? that is not known */
        {"Q:LISTEN news", ROUTE_PRIMARY},
        {"Q:RESET ALL", ROUTE_REPLICA},
        {"Q:SET ROLE joe", ROUTE_PRIMARY},
        {"Q:DISCARD ALL", ROUTE_REPLICA},
        {"Q:RESET ALL; SET work_mem = '1MB'", ROUTE_PRIMARY},
        {"P::DISCARD ALL|B:|E|S", ROUTE_REPLICA},
    };
    struct world *world = world_new();
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(judge(world, rows[i].group), JUDGE_READY);
        assert_int_equal(judge(world, "Q:SELECT 1"), JUDGE_READY);
        if (world->client.route.target != rows[i].target) fail_msg("row %zu", i);
        assert_false(world->client.may_reach_out); /* that was the group before */
    }
    world_free(world);
}

/* What is not in hand, in a transaction that has its server, may do anything. */
static void texts_are_noted_one_by_one(void **unused) {
    (void)unused;
    static const struct {
        const char *text; /* NULL: not in hand */
        unsigned effects;
        const char *sticky;
    } rows[] = {
        {"SELECT 1", 0, NULL},
        {"UPDATE t SET a = 1", WRITES, NULL},
        {"SET work_mem = '1MB'", 0, "work_mem"},
        {NULL, UNKNOWN, NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world *world = world_new();
        const struct client *client = &world->client;
        judge_text(&world->client, bytes_of_text(rows[i].text));
        unsigned effects =
            (client->may_write ? WRITES : 0) | (client->may_reach_out ? REACHES_OUT : 0);
        assert_int_equal(effects, rows[i].effects);
        assert_string_equal(client->sticky == NULL ? "" : client->sticky->at,
                            rows[i].sticky == NULL ? "" : rows[i].sticky);
        world_free(world);
    }
}

/* A replica refused the group: its shape, or its statement, is for the primary from then on. */
static void refusals_are_learnt(void **unused) {
    (void)unused;
    static const char *const learnt[] = {"Q:SELECT 17", "P::SELECT 17|B:|E|S",
                                         "P:new:SELECT 17|B:new|E|S", "B:reads|E|S"};
    for (size_t i = 0; i < COUNT(learnt); i++) {
        struct world *world = world_new();
        struct buf bytes = {0};
        append_group(&bytes, learnt[i]);
        assert_int_equal(judge(world, learnt[i]), JUDGE_READY);
        assert_int_equal(world->client.route.target, ROUTE_REPLICA);
        judge_correct(&world->client, buf_content(&bytes));
        assert_int_equal(judge(world, learnt[i]), JUDGE_READY);
        assert_int_equal(world->client.route.target, ROUTE_PRIMARY);
        assert_int_equal(judge(world, "Q:SELECT 17 FROM pg_class"), JUDGE_READY);
        assert_int_equal(world->client.route.target, ROUTE_REPLICA);
        buf_release(&bytes);
        world_free(world);
    }
}

/* ---- settings and nodes */

enum world_is { NORMAL, OFF, FIXED, AVOIDED, REFUSED, STALE, STALE_EVENTUAL, OWN_STALE, SECOND };

static void change(struct world *world, enum world_is how) {
    struct client *client = &world->client;
    struct node *replica = cluster_node(world->node.cluster, 1);
    if (how == OFF) world->pool.routing = ROUTING_OFF;
    if (how == FIXED) world->pool.routing = ROUTING_PRIMARY;
    if (how == REFUSED) client->is_forced_primary = true;
    if (how == SECOND) client->retry.is_second = true;
    if (how >= STALE && how <= OWN_STALE) node_sample(replica, 1, 20);
    if (how == STALE_EVENTUAL) world->pool.consistency = READ_CONSISTENCY_EVENTUAL;
    if (how == OWN_STALE) world->pool.consistency = READ_CONSISTENCY_SESSION;
    client->own_floor = 0;
    if (how == AVOIDED) {
        assert_int_equal(judge(world, "Q:SELECT 1"), JUDGE_READY);
        client->borrower.avoid = 2; /* the replica would not have it */
        judge_again(client);
    } else {
        assert_int_equal(judge(world, "Q:SELECT 1"), JUDGE_READY);
    }
}

static void settings_and_nodes_have_their_say(void **unused) {
    (void)unused;
    static const struct {
        enum world_is how;
        enum route_target target;
        bool is_routed;
        bool is_holding;
        uint64_t stale_reads;
    } rows[] = {
        {NORMAL, ROUTE_REPLICA, true, true, 0},         {OFF, ROUTE_ANY, false, false, 0},
        {FIXED, ROUTE_PRIMARY, true, false, 0},         {AVOIDED, ROUTE_PRIMARY, true, true, 0},
        {REFUSED, ROUTE_PRIMARY, true, false, 0},       {STALE, ROUTE_PRIMARY, true, false, 1},
        {STALE_EVENTUAL, ROUTE_REPLICA, true, true, 0}, {OWN_STALE, ROUTE_REPLICA, true, true, 0},
        {SECOND, ROUTE_REPLICA, true, false, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world *world = world_new();
        const struct client *client = &world->client;
        change(world, rows[i].how);
        if (client->route.target != rows[i].target || client->is_routed != rows[i].is_routed ||
            client->retry.is_holding != rows[i].is_holding ||
            world->pool.stats.stale_reads != rows[i].stale_reads)
            fail_msg("row %zu: target %d", i, client->route.target);
        assert_int_equal(judge_is_on(client), rows[i].is_routed);
        world_free(world);
    }
}

/* ---- weir.route */

static void hints_are_read(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        bool has_next, is_wrong;
        enum route_hint next;
    } rows[] = {
        {"SET weir.route = 'primary'", true, false, ROUTE_HINT_PRIMARY},
        {"set session weir.route to REPLICA", true, false, ROUTE_HINT_REPLICA},
        {"SET \"weir\".\"route\"='auto'", true, false, ROUTE_HINT_NONE},
        {"SET weir.route TO DEFAULT", true, false, ROUTE_HINT_REPLICA}, /* as at login */
        {"RESET weir.route", true, false, ROUTE_HINT_REPLICA},
        {"RESET ALL", true, false, ROUTE_HINT_REPLICA},
        {"SELECT set_config('weir.route', 'primary', false)", true, false, ROUTE_HINT_PRIMARY},
        {"SET weir.route = 'nowhere'", false, true, ROUTE_HINT_REPLICA},
        {"SET weir.route = ''", false, true, ROUTE_HINT_REPLICA},
        {"SELECT set_config('weir.route', 'x', false)", false, true, ROUTE_HINT_REPLICA},
        {"SET LOCAL weir.route = 'primary'", false, false, ROUTE_HINT_NONE},
        {"SET work_mem = 'primary'", false, false, ROUTE_HINT_NONE},
        {"SELECT 'weir.route', 'primary'", false, false, ROUTE_HINT_NONE},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct world *world = world_new();
        struct client *client = &world->client;
        const struct hint *hint = &client->hint;
        assert_true(hint_start(client, bytes_of_text("Replica")));
        assert_false(hint_start(client, bytes_of_text("anywhere")));
        struct bytes text = bytes_of_text(rows[i].text);
        judge_text(client, text);
        if (hint->has_next != rows[i].has_next || hint->is_wrong != rows[i].is_wrong ||
            (hint->has_next && hint->next != rows[i].next))
            fail_msg("row %zu: %d %d %d", i, hint->has_next, hint->is_wrong, hint->next);
        char value[HINT_VALUE_SIZE];
        assert_int_equal(hint_refuses(client, text, value), rows[i].is_wrong);
        assert_int_equal(hint_of(client), ROUTE_HINT_REPLICA);
        hint_ended(&client->hint); /* without an answer nothing has changed */
        assert_int_equal(hint_of(client), ROUTE_HINT_REPLICA);
        judge_text(client, text);
        hint_answered(&client->hint);
        hint_ended(&client->hint);
        enum route_hint after = rows[i].has_next ? rows[i].next : ROUTE_HINT_REPLICA;
        assert_int_equal(hint_of(client), after);
        judge_text(client, text);
        hint_undone(&client->hint);
        hint_answered(&client->hint);
        hint_ended(&client->hint);
        assert_int_equal(hint_of(client), after);
        world_free(world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_end_where_they_end),
        cmocka_unit_test(what_is_no_message_ends_nothing),
        cmocka_unit_test(groups_find_their_node),
        cmocka_unit_test(half_a_group_waits),
        cmocka_unit_test(what_is_too_long_is_not_read),
        cmocka_unit_test(state_stays_until_it_is_reset),
        cmocka_unit_test(texts_are_noted_one_by_one),
        cmocka_unit_test(refusals_are_learnt),
        cmocka_unit_test(settings_and_nodes_have_their_say),
        cmocka_unit_test(hints_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
