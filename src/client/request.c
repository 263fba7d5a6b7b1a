/*
 * What a client sends, message by message; see client/parts.h.
 *
 * One row for each kind of request names its handler. A handler takes what it can of the message
 * at the front of the bytes in hand and returns how much; 0 means that it needs more of it. Most
 * messages pass by their heads; Parse, Bind, Describe and Close are rewritten where they speak of
 * named statements, which servers know under names of the pooler's own (session/prepared.h).
 */
#include "client/parts.h"
#include "client/remember.h"

#include "core/log.h"
#include "core/memory.h"
#include "proto/startup.h"

#include <stdio.h>

/* A longer unnamed Parse streams; nobody can prepare it again on another server. */
#define PARSE_WHOLE_MAX (64u << 10)

/* A longer Query is no DEALLOCATE: names have at most 63 bytes. */
#define DEALLOCATE_BYTES_MAX 256u

/* What a client may have in hand unhandled before it is told that this is too much, unless it is a
 * Parse, whose statement is kept whole for other servers and whose bound is max_packet_size. */
#define GATHER_MAX (16u << 20)

/* The number of a Close in the pipeline whose effect is a client's name (struct prepared_name), not
 * a statement of the server (struct prepared_on_server). */
#define CLOSES_NAME 1u

/* Of a Parse: it is the unnamed statement's. */
#define PARSES_UNNAMED 2u

struct request {
    struct client *client;
    struct server *server;
    struct outgoing *out;
    struct bytes rest; /* from the message's head on */
    uint32_t length;   /* of the whole message */
    struct bytes body; /* as far as it is in hand */
    bool is_whole;
};

/* ---- passing on */

/* Passes the message on as it is, now or as it comes. */
static size_t pass(const struct request *request) {
    size_t n = request->rest.len < request->length ? request->rest.len : request->length;
    outgoing_add(request->out, request->rest.at, n);
    request->client->request_skip = (uint32_t)(request->length - n);
    return n;
}

/* Passes on what follows the first `taken` bytes of the body, behind a rewritten front. */
static size_t pass_rest(const struct request *request, size_t taken) {
    size_t from = MESSAGE_HEAD_BYTES + taken;
    size_t n = request->rest.len < request->length ? request->rest.len : request->length;
    outgoing_add(request->out, request->rest.at + from, n - from);
    request->client->request_skip = (uint32_t)(request->length - n);
    return n;
}

static struct pipeline_entry *owe(const struct request *request, enum message_request kind,
                                  enum pipeline_action action) {
    struct client *client = request->client;
    if (client->query_us == 0) client->query_us = loop_now_us(client->set->loop);
    if (client->transaction_us == 0) client->transaction_us = client->query_us;
    return pipeline_push(&client->pipeline, kind, action, NULL);
}

static void copy_head(const struct request *request, char type, size_t body_len) {
    char head[MESSAGE_HEAD_BYTES];
    head[0] = type;
    bytes_put_u32(head + 1, (uint32_t)(body_len + 4));
    outgoing_copy(request->out, head, sizeof head);
}

static void copy_text0(const struct request *request, const char *text) {
    outgoing_copy(request->out, text, strlen(text) + 1);
}

/* The statement must not run: what fails in its place is sent. 0: the message is not whole yet. */
static size_t refuse(const struct request *request, const char *what) {
    if (!request->is_whole) return 0;
    bool is_query = request->rest.at[0] == 'Q';
    remember_refuse(request->client, request->out, is_query, what);
    if (is_query) {
        owe(request, REQUEST_QUERY, PIPELINE_FORWARD)->number = request->client->copies;
    } else {
        (void)owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
        (void)owe(request, REQUEST_BIND, PIPELINE_SWALLOW);
        (void)owe(request, REQUEST_EXECUTE, PIPELINE_FORWARD);
    }
    return request->length;
}

/* Whether named statements are the pooler's business for this client. */
static bool is_tracking(const struct client *client) {
    return client->set->max_prepared > 0 && !client_keeps_server(client);
}

/* Whether it is a statement in a transaction that was not judged with its group. */
static bool must_judge_late(const struct client *client) {
    return client->is_routed && client->group_left == 0;
}

/* The text at the front of some of the body; at is NULL where it is not in hand. */
static struct bytes text_of(const struct request *request, struct bytes body) {
    struct bytes text, rest;
    bool is_in_hand = request->is_whole && message_text(body, &text, &rest);
    return is_in_hand ? text : bytes_of(NULL, 0);
}

/* ---- simple messages */

static size_t on_query(const struct request *request) {
    struct client *client = request->client;
    if (must_judge_late(client)) judge_text(client, text_of(request, request->body));
    const char *refused =
        client->session == NULL ? NULL : remember_text(client, text_of(request, request->body));
    if (refused != NULL) return refuse(request, refused);
    owe(request, REQUEST_QUERY, PIPELINE_FORWARD)->number = request->client->copies;
    return pass(request);
}

static size_t on_function(const struct request *request) {
    if (must_judge_late(request->client)) judge_text(request->client, bytes_of(NULL, 0));
    if (request->client->session != NULL) session_note_unknown(request->client->session);
    (void)owe(request, REQUEST_FUNCTION, PIPELINE_FORWARD);
    return pass(request);
}

static size_t on_execute(const struct request *request) {
    struct client *client = request->client;
    client->unsynced++;
    owe(request, REQUEST_EXECUTE, PIPELINE_FORWARD)->number = client->copies;
    return pass(request);
}

/* A Sync between the beginning of a COPY IN and its first data is not answered. */
static size_t on_sync(const struct request *request) {
    struct client *client = request->client;
    if (client->is_copying && client->copies == client->copy_began) return pass(request);
    client->unsynced = 0;
    client->effects_synced = client->effects;
    client->has_unnamed = client->is_failed = false;
    owe(request, REQUEST_SYNC, PIPELINE_FORWARD)->number = client->copies;
    return pass(request);
}

static size_t on_copy(const struct request *request) {
    request->client->copies++;
    if (request->rest.at[0] != 'd') request->client->is_copying = false;
    return pass(request);
}

static size_t on_terminate(const struct request *request) {
    client_close(request->client, "client close request");
    return request->length;
}

/* ---- statements on the server at hand */

static struct server_memory *memory_of(const struct request *request) {
    return request->server->memory;
}

/* A reply that says whether `effect` stands. */
static struct pipeline_entry *owe_effect(const struct request *request, enum message_request kind,
                                         enum pipeline_action action, void *effect) {
    struct pipeline_entry *entry = owe(request, kind, action);
    entry->effect = effect;
    request->client->effects++;
    return entry;
}

/* A Parse of the unnamed statement, the client's own or one that repeats it on this server. */
static void owe_unnamed(const struct request *request, enum pipeline_action action) {
    struct client *client = request->client;
    owe(request, REQUEST_PARSE, action)->number = PARSES_UNNAMED;
    client->unnamed_owed++;
    client->has_unnamed = true;
    if (action == PIPELINE_FORWARD) client->unnamed_number = ++client->set->unnamed_last;
    memory_of(request)->unnamed_owner = client->unnamed_number;
}

static void end_unnamed(struct client *client, const struct pipeline_entry *entry) {
    if (entry->request != REQUEST_PARSE || entry->number != PARSES_UNNAMED) return;
    CHECK(client->unnamed_owed > 0);
    client->unnamed_owed--;
}

/* Replies come in order, so that those of earlier groups are the first to end. */
static void end_effect(struct client *client) {
    CHECK(client->effects > 0);
    client->effects--;
    if (client->effects_synced > 0) client->effects_synced--;
}

/* Whether nobody knows yet which statements there are: had an earlier group failed, the server
 * would have skipped what it was to prepare and close, but not what this group builds upon it. */
static bool must_wait_for_effects(const struct request *request) {
    request->client->is_stuck = request->client->effects_synced > 0;
    return request->client->is_stuck;
}

/* The same for the unnamed statement: had the group failed that parsed it, the server would have a
 * stranger's. */
static bool must_wait_for_unnamed(const struct request *request) {
    struct client *client = request->client;
    client->is_stuck = client->unnamed_owed > 0 && !client->has_unnamed;
    return client->is_stuck;
}

/* Makes room for one more statement: the one unused longest is closed on the server. */
static void evict(const struct request *request) {
    struct server_memory *memory = memory_of(request);
    size_t max = request->client->set->max_prepared;
    struct prepared_on_server *surplus = server_memory_surplus(memory, max);
    if (surplus == NULL) return;
    const char *name = surplus->statement->name;
    copy_head(request, 'C', 1 + strlen(name) + 1);
    outgoing_copy(request->out, "S", 1);
    copy_text0(request, name);
    server_memory_detach(memory, surplus);
    (void)owe_effect(request, REQUEST_CLOSE, PIPELINE_SWALLOW, surplus);
}

/* Sends a Parse of the statement under the server's name for it. */
static void send_parse(const struct request *request, const char *name,
                       const struct statement *statement) {
    copy_head(request, 'P', strlen(name) + 1 + statement->body.len);
    copy_text0(request, name);
    outgoing_copy(request->out, statement->body.at, statement->body.len);
    stats_add(&request->server->node->stats.server_parses, 1);
}

/* Has the statement prepared on the server ahead of a message that uses it. */
static void ensure(const struct request *request, struct statement *statement) {
    if (server_memory_use(memory_of(request), statement) != NULL) return;
    evict(request);
    send_parse(request, statement->name, statement);
    (void)server_memory_add(memory_of(request), statement);
    statement->references++;
    (void)owe_effect(request, REQUEST_PARSE, PIPELINE_SWALLOW, statement);
}

void request_settle(struct client *client, const struct pipeline_entry *entry) {
    struct statements *statements = &client->set->statements;
    if (entry->effect == NULL) {
        end_unnamed(client, entry);
        return;
    }
    end_effect(client);
    if (entry->request == REQUEST_PARSE) {
        struct statement *statement = entry->effect;
        statement_unref(statements, &statement);
    } else if (entry->number == CLOSES_NAME) {
        prepared_drop(statements, entry->effect);
    } else {
        server_memory_drop(statements, entry->effect);
    }
}

static void undo_name(struct client *client, uint32_t sequence) {
    struct map_node *node = map_next(&client->names.map, NULL);
    for (; node != NULL; node = map_next(&client->names.map, node)) {
        struct prepared_name *name = MAP_OWNER(node, struct prepared_name, node);
        if (name->sequence != sequence) continue;
        prepared_remove(&client->names, &client->set->statements, name);
        return;
    }
}

/* Whose unnamed statement the server has now, nobody knows: it may be a stranger's. If another
 * Parse of it is under way, that one decides. */
static void undo_unnamed(struct client *client, struct server_memory *memory,
                         const struct pipeline_entry *entry) {
    bool is_parse = entry->request == REQUEST_PARSE && entry->number == PARSES_UNNAMED;
    bool is_own_close = entry->request == REQUEST_CLOSE && entry->action == PIPELINE_SWALLOW;
    if (client->unnamed_owed > 0) return;
    if (memory != NULL && (is_parse || is_own_close)) memory->unnamed_owner = 0;
    if (!is_parse || entry->action != PIPELINE_FORWARD) return;
    statement_unref(&client->set->statements, &client->unnamed);
    client->unnamed_number = 0;
}

void request_undo(struct client *client, const struct pipeline_entry *entry) {
    struct statements *statements = &client->set->statements;
    struct server *server = client->borrower.server;
    struct server_memory *memory = server == NULL ? NULL : server->memory;
    if (entry->effect == NULL) {
        end_unnamed(client, entry);
        undo_unnamed(client, memory, entry);
        return;
    }
    end_effect(client);
    if (entry->request == REQUEST_CLOSE) {
        if (entry->number == CLOSES_NAME) {
            prepared_attach(&client->names, statements, entry->effect);
        } else if (memory == NULL) {
            server_memory_drop(statements, entry->effect);
        } else if (!server_memory_attach(memory, statements, entry->effect)) {
            server->is_close_needed = true; /* which one the server has now, nobody knows */
        }
        return;
    }
    struct statement *statement = entry->effect;
    if (entry->action != PIPELINE_MAKE_UP && memory != NULL) {
        struct prepared_on_server *there = server_memory_use(memory, statement);
        if (there != NULL) server_memory_remove(memory, statements, there);
    }
    if (entry->action != PIPELINE_SWALLOW) undo_name(client, entry->number);
    statement_unref(statements, &statement);
}

/* Takes a name of the client away, until the server turns out to have skipped the request. */
static void close_name(const struct request *request, struct prepared_name *entry,
                       enum pipeline_action action) {
    if (entry == NULL) {
        (void)owe(request, REQUEST_CLOSE, action);
        return;
    }
    prepared_detach(&request->client->names, entry);
    owe_effect(request, REQUEST_CLOSE, action, entry)->number = CLOSES_NAME;
}

/* ---- Parse */

/* `DEALLOCATE name` of a statement that only the pooler knows by that name; drivers that lack the
 * Close message say it so. Gives the name, or false. */
static bool read_deallocate(struct bytes text, struct bytes *name) {
    static const char word[] = "DEALLOCATE ";
    size_t len = sizeof word - 1;
    if (text.len <= len || !bytes_equal_nocase(bytes_of(text.at, len), word)) return false;
    *name = bytes_of(text.at + len, text.len - len);
    if (name->at[name->len - 1] == ';') name->len--;
    if (name->len > 2 && name->at[0] == '"' && name->at[name->len - 1] == '"')
        *name = bytes_of(name->at + 1, name->len - 2);
    return name->len > 0;
}

/* DEALLOCATE in the extended protocol: the server is given a statement to deallocate in place of
 * the client's own, which other clients may go on using under the pooler's name. */
static size_t parse_deallocate(const struct request *request, struct prepared_name *entry) {
    static const char close[] = "SweirX";
    static const char empty[] = "weirX\0\0\0";
    static const char text[] = "\0DEALLOCATE \"weirX\"\0\0";
    copy_head(request, 'C', sizeof close);
    outgoing_copy(request->out, close, sizeof close);
    close_name(request, entry, PIPELINE_SWALLOW);
    copy_head(request, 'P', sizeof empty);
    outgoing_copy(request->out, empty, sizeof empty);
    (void)owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
    copy_head(request, 'P', sizeof text);
    outgoing_copy(request->out, text, sizeof text);
    owe_unnamed(request, PIPELINE_FORWARD);
    return request->length;
}

/* An unnamed statement that is not bound at once may be needed on another server later. */
static bool is_bound_at_once(const struct request *request) {
    struct bytes rest = request->rest;
    return rest.len > request->length && rest.at[request->length] == 'B';
}

static void keep_unnamed(const struct request *request, struct bytes body) {
    struct client *client = request->client;
    struct buf context = {0};
    bool is_new;
    statement_unref(&client->set->statements, &client->unnamed);
    if (is_bound_at_once(request)) return;
    client_parse_context(client, &context);
    client->unnamed = statement_get(&client->set->statements, buf_content(&context), body, &is_new);
    buf_release(&context);
    struct bytes text, rest;
    if (!is_new || client->set->traits == NULL || !message_text(body, &text, &rest)) return;
    struct traits_context how = client_context(client);
    client->unnamed->traits =
        *traits_of(client->set->traits, text, &how, loop_now_us(client->set->loop));
}

static size_t parse_unnamed(const struct request *request, struct bytes body) {
    struct client *client = request->client;
    if (is_tracking(client)) keep_unnamed(request, body);
    owe_unnamed(request, PIPELINE_FORWARD);
    stats_add(&request->server->node->stats.server_parses, 1);
    return pass(request);
}

static struct statement *intern(const struct request *request, struct bytes body) {
    struct client *client = request->client;
    struct buf context = {0};
    bool is_new;
    client_parse_context(client, &context);
    struct statement *statement =
        statement_get(&client->set->statements, buf_content(&context), body, &is_new);
    buf_release(&context);
    struct bytes text, rest;
    if (is_new && client->set->traits != NULL && message_text(body, &text, &rest)) {
        struct traits_context how = client_context(client);
        statement->traits =
            *traits_of(client->set->traits, text, &how, loop_now_us(client->set->loop));
        statement->traits.names = bytes_of(NULL, 0);
    }
    return statement;
}

/* The same Parse again, because its group is being sent a second time. */
static bool is_repeated(const struct client *client, const struct prepared_name *name,
                        struct bytes body) {
    return client->retry.is_second && bytes_equal(name->statement->body, body);
}

static size_t parse_named(const struct request *request, struct bytes name, struct bytes body) {
    struct client *client = request->client;
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (entry != NULL && !is_repeated(client, entry, body)) {
        client_log(client, LOG_LEVEL_ERROR, "prepared statement '%s' was already prepared",
                   entry->name);
        client_fail(client, FAULT_STATEMENT_EXISTS, entry->name);
        return request->length;
    }
    stats_add(&client->pool->stats.client_parses, 1);
    if (entry == NULL) {
        entry = prepared_add(&client->names, name, intern(request, body));
        entry->sequence = ++client->parses;
    }
    struct statement *statement = entry->statement;
    bool is_known = server_memory_use(memory_of(request), statement) != NULL;
    if (!is_known) {
        evict(request);
        send_parse(request, statement->name, statement);
        (void)server_memory_add(memory_of(request), statement);
    }
    statement->references++;
    owe_effect(request, REQUEST_PARSE, is_known ? PIPELINE_MAKE_UP : PIPELINE_FORWARD, statement)
        ->number = entry->sequence;
    return request->length;
}

static size_t on_parse(const struct request *request) {
    struct client *client = request->client;
    struct bytes name, body, text, rest;
    if (!request->is_whole) {
        if (request->length <= PARSE_WHOLE_MAX) return 0;
        if (!message_text(request->body, &name, &body) || name.len > 0) return 0;
        client->unsynced++;
        if (must_judge_late(client)) judge_text(client, bytes_of(NULL, 0));
        if (client->session != NULL) session_note_unknown(client->session);
        statement_unref(&client->set->statements, &client->unnamed);
        owe_unnamed(request, PIPELINE_FORWARD);
        return pass(request); /* a huge unnamed text streams */
    }
    if (!message_text(request->body, &name, &body) || !message_text(body, &text, &rest)) {
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (is_tracking(client) && must_wait_for_effects(request)) return 0;
    client->unsynced++;
    if (must_judge_late(client)) judge_text(client, text);
    struct prepared_name *gone = NULL;
    if (name.len == 0 && is_tracking(client) && read_deallocate(text, &rest))
        gone = prepared_find(&client->names, rest);
    if (gone != NULL) return parse_deallocate(request, gone);
    bool is_noted_now = name.len == 0 || !is_tracking(client);
    const char *refused =
        client->session != NULL && is_noted_now ? remember_text(client, text) : NULL;
    if (refused != NULL) return refuse(request, refused);
    if (name.len == 0) return parse_unnamed(request, body);
    if (is_tracking(client)) return parse_named(request, name, body);
    (void)owe(request, REQUEST_PARSE, PIPELINE_FORWARD);
    return pass(request);
}

/* ---- Bind, Describe, Close */

/* The server's unnamed statement may be another client's. Where the text of this client's own is
 * known it is prepared again; else the stranger's is dropped, and the server says what is missing.
 */
static void ensure_unnamed(const struct request *request) {
    struct client *client = request->client;
    struct server_memory *memory = memory_of(request);
    bool is_there = client->unnamed_number > 0 && memory->unnamed_owner == client->unnamed_number;
    if (!is_tracking(client) || is_there) return;
    if (client->unnamed != NULL) {
        send_parse(request, "", client->unnamed);
        owe_unnamed(request, PIPELINE_SWALLOW);
        return;
    }
    memory->unnamed_owner = client->unnamed_number;
    copy_head(request, 'C', 2);
    outgoing_copy(request->out, "S", 2);
    (void)owe(request, REQUEST_CLOSE, PIPELINE_SWALLOW);
}

static struct statement *find_statement(const struct request *request, struct bytes name) {
    struct client *client = request->client;
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (entry != NULL) return entry->statement;
    char text[128];
    (void)snprintf(text, sizeof text, "%.*s", (int)name.len, name.at);
    client_log(client, LOG_LEVEL_ERROR, "prepared statement '%s' not found", text);
    client_fail(client, FAULT_STATEMENT_MISSING, text);
    return NULL;
}

static size_t on_bind(const struct request *request) {
    struct client *client = request->client;
    struct bytes portal, name, rest;
    if (!message_text(request->body, &portal, &rest) || !message_text(rest, &name, &rest)) {
        if (!request->is_whole) return 0;
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (is_tracking(client) && must_wait_for_effects(request)) return 0;
    if (is_tracking(client) && name.len == 0 && must_wait_for_unnamed(request)) return 0;
    client->unsynced++;
    if (name.len == 0 || !is_tracking(client)) {
        if (name.len == 0) ensure_unnamed(request);
        bool is_noted_now = client->session != NULL && name.len == 0 && !client->has_unnamed;
        const char *refused = is_noted_now ? remember_statement(client, client->unnamed) : NULL;
        if (refused != NULL) return refuse(request, refused);
        (void)owe(request, REQUEST_BIND, PIPELINE_FORWARD);
        return pass(request);
    }
    struct statement *statement = find_statement(request, name);
    if (statement == NULL) return request->length;
    if (client->is_routed && client->group_left == 0 && statement->traits.flags & TRAITS_MAY_WRITE)
        client->may_write = true;
    const char *refused = client->session == NULL ? NULL : remember_statement(client, statement);
    if (refused != NULL) return refuse(request, refused);
    stats_add(&client->pool->stats.binds, 1);
    ensure(request, statement);
    size_t taken = portal.len + 1 + name.len + 1;
    size_t name_len = strlen(statement->name);
    copy_head(request, 'B', request->length - MESSAGE_HEAD_BYTES - name.len + name_len);
    outgoing_copy(request->out, portal.at, portal.len + 1);
    copy_text0(request, statement->name);
    (void)owe(request, REQUEST_BIND, PIPELINE_FORWARD);
    return pass_rest(request, taken);
}

/* The kind ('S' or 'P') and name of a Describe or Close; false if it is malformed. */
static bool read_target(const struct request *request, char *kind, struct bytes *name) {
    struct bytes rest;
    *kind = request->body.at[0];
    return message_text(bytes_of(request->body.at + 1, request->body.len - 1), name, &rest);
}

static size_t on_describe(const struct request *request) {
    struct client *client = request->client;
    char kind;
    struct bytes name;
    if (!read_target(request, &kind, &name)) {
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (is_tracking(client) && must_wait_for_effects(request)) return 0;
    bool is_unnamed = kind == 'S' && name.len == 0;
    if (is_tracking(client) && is_unnamed && must_wait_for_unnamed(request)) return 0;
    client->unsynced++;
    if (is_unnamed) ensure_unnamed(request);
    if (kind != 'S' || name.len == 0 || !is_tracking(client)) {
        (void)owe(request, REQUEST_DESCRIBE, PIPELINE_FORWARD);
        return pass(request);
    }
    struct statement *statement = find_statement(request, name);
    if (statement == NULL) return request->length;
    ensure(request, statement);
    copy_head(request, 'D', 1 + strlen(statement->name) + 1);
    outgoing_copy(request->out, "S", 1);
    copy_text0(request, statement->name);
    (void)owe(request, REQUEST_DESCRIBE, PIPELINE_FORWARD);
    return request->length;
}

static size_t on_close(const struct request *request) {
    struct client *client = request->client;
    char kind;
    struct bytes name;
    if (!read_target(request, &kind, &name)) {
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (is_tracking(client) && must_wait_for_effects(request)) return 0;
    client->unsynced++;
    if (kind != 'S' || name.len == 0 || !is_tracking(client)) {
        (void)owe(request, REQUEST_CLOSE, PIPELINE_FORWARD);
        return pass(request);
    }
    struct prepared_name *entry = prepared_find(&client->names, name);
    close_name(request, entry, PIPELINE_MAKE_UP);
    return request->length;
}

static size_t (*const handlers[REQUEST_KINDS])(const struct request *request) = {
    [REQUEST_QUERY] = on_query,         [REQUEST_PARSE] = on_parse,
    [REQUEST_BIND] = on_bind,           [REQUEST_DESCRIBE] = on_describe,
    [REQUEST_EXECUTE] = on_execute,     [REQUEST_CLOSE] = on_close,
    [REQUEST_SYNC] = on_sync,           [REQUEST_FLUSH] = pass,
    [REQUEST_FUNCTION] = on_function,   [REQUEST_COPY] = on_copy,
    [REQUEST_TERMINATE] = on_terminate,
};

/* ---- the loop over messages */

void request_refuse_simple(struct client *client) {
    client_log(client, LOG_LEVEL_ERROR, "client used 'Q' packet type");
    client_fail(client, FAULT_PQEXEC, NULL);
}

/* Tells the client what is wrong with the head of a message. */
static void refuse_head(struct client *client, struct bytes rest, bool has_length) {
    const struct message_row *row = &message_requests[(unsigned char)rest.at[0]];
    const char type[2] = {rest.at[0] < ' ' ? '?' : rest.at[0], '\0'};
    char hex[STARTUP_HEX_SIZE];
    startup_header_hex(hex, rest);
    if (row->name == NULL || row->kind == REQUEST_PASSWORD) {
        client_fail(client, FAULT_MESSAGE_UNKNOWN, type);
    } else if (row->kind == REQUEST_QUERY && client->set->is_simple_refused) {
        request_refuse_simple(client);
    } else {
        client_fail(client, has_length ? FAULT_MESSAGE_TOO_LARGE : FAULT_MESSAGE_LENGTH, hex);
    }
}

/* Judges the head of the next message; false if the client was told what is wrong with it. The
 * lengths of a byte that is no type are 0, which is never true. */
static bool head_is_good(struct client *client, struct bytes rest) {
    const struct message_row *row = &message_requests[(unsigned char)rest.at[0]];
    uint32_t length = message_length(rest.at);
    bool has_length = length > row->length_min && length - 1 <= row->length_max;
    bool is_refused = row->kind == REQUEST_PASSWORD ||
                      (row->kind == REQUEST_QUERY && client->set->is_simple_refused);
    if (has_length && length <= client->set->max_packet_size && !is_refused) return true;
    refuse_head(client, rest, has_length);
    return false;
}

/* Requests that need no server: those of a cancelled group are dropped up to its end, COPY data
 * that comes too late, and Terminate. Returns how much was taken, 0 if a server is needed. */
static size_t without_server(struct client *client, struct bytes rest) {
    uint32_t length = message_length(rest.at);
    unsigned kind = message_requests[(unsigned char)rest.at[0]].kind;
    if (kind == REQUEST_TERMINATE) {
        client_close(client, "client close request");
        return length;
    }
    bool is_dropped = client->is_skipping || kind == REQUEST_COPY || kind == REQUEST_FLUSH;
    if (!is_dropped) return 0;
    bool is_end = kind == REQUEST_SYNC || kind == REQUEST_QUERY || kind == REQUEST_FUNCTION;
    if (client->is_skipping && is_end) {
        struct buf out = {0};
        client->is_skipping = false;
        message_write_ready_for_query(&out, 'I');
        stream_write_bytes(&client->stream, buf_content(&out));
        buf_release(&out);
    }
    size_t n = rest.len < length ? rest.len : length;
    client->request_skip = (uint32_t)(length - n);
    return n;
}

/* A query in pieces that may turn out to be one: no longer than a name can make it. */
static bool may_be_deallocate(struct bytes rest) {
    uint32_t length = message_length(rest.at);
    return rest.len < length && length <= DEALLOCATE_BYTES_MAX;
}

/* Answers it without a server, where the state of the transaction is known and no answer is owed.
 * Returns how much was taken, or 0. */
static size_t deallocate_here(struct client *client, struct bytes rest) {
    uint32_t length = message_length(rest.at);
    struct bytes text, name, tail;
    if (rest.len < length) return 0;
    bool is_owed = !pipeline_is_empty(&client->pipeline) || client->reply.skip > 0;
    if (is_owed || client->transaction == 'E') return 0;
    struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
    if (!message_text(body, &text, &tail) || !read_deallocate(text, &name)) return 0;
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (entry == NULL) return 0;
    static const char complete[] = "C\0\0\0\17DEALLOCATE";
    struct buf out = {0};
    prepared_remove(&client->names, &client->set->statements, entry);
    buf_append(&out, complete, sizeof complete);
    message_write_ready_for_query(&out, client->transaction);
    stream_write_bytes(&client->stream, buf_content(&out));
    buf_release(&out);
    return length;
}

/* With routing each group has a target of its own: the next one waits for the end of this one,
 * unless a transaction is known to be open on the primary. One on a replica may be ending, and
 * what follows it may be a write. */
static bool must_wait(const struct client *client) {
    if (pipeline_is_full(&client->pipeline)) return true;
    if (!client->is_routed || client->group_left > 0) return false;
    bool is_open = client->transaction != 'I' && client->route.target != ROUTE_REPLICA;
    return !is_open && client->unsynced == 0 && !pipeline_is_empty(&client->pipeline) &&
           !client->is_copying;
}

static size_t handle(struct client *client, struct bytes rest, struct outgoing *out) {
    struct request request = {.client = client,
                              .server = client->borrower.server,
                              .out = out,
                              .rest = rest,
                              .length = message_length(rest.at)};
    request.is_whole = rest.len >= request.length;
    size_t body_end = request.is_whole ? request.length : rest.len;
    request.body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, body_end - MESSAGE_HEAD_BYTES);
    const struct message_row *row = &message_requests[(unsigned char)rest.at[0]];
    bool is_needed_whole = row->is_whole && row->kind != REQUEST_PARSE;
    if (is_needed_whole && !request.is_whole) return 0;
    bool ends_group = row->kind == REQUEST_SYNC || row->kind == REQUEST_TERMINATE;
    if (client->is_failed && !ends_group) return pass(&request); /* nothing will answer it */
    size_t taken = handlers[row->kind](&request);
    bool may_come = rest.len <= GATHER_MAX || row->kind == REQUEST_PARSE;
    if (taken > 0 || client->is_stuck || may_come) return taken;
    refuse_head(client, rest, true); /* it can never be handled whole */
    return rest.len;
}

static size_t take_body(struct client *client, struct bytes rest, struct outgoing *out) {
    size_t n = rest.len < client->request_skip ? rest.len : client->request_skip;
    if (client->borrower.server != NULL) outgoing_add(out, rest.at, n);
    client->request_skip -= (uint32_t)n;
    return n;
}

/* One step: a body that goes through, a server that is borrowed, or a message. 0: not now. */
static size_t step(struct client *client, struct bytes rest, struct outgoing *out) {
    /* Who does not read its answers gets no further ones: each may come from another server. */
    client->is_stuck = stream_queued(&client->stream) > STREAM_HIGH_BYTES;
    if (client->is_stuck) return 0;
    if (client->request_skip > 0) return take_body(client, rest, out);
    if (rest.len < MESSAGE_HEAD_BYTES || !head_is_good(client, rest)) return 0;
    if (client->names.map.count > 0 && rest.at[0] == 'Q') {
        if (may_be_deallocate(rest)) return 0;
        size_t answered = deallocate_here(client, rest);
        if (answered > 0) return answered;
    }
    if (client->borrower.server == NULL) {
        size_t taken = without_server(client, rest);
        if (taken > 0 || client->state == CLIENT_CLOSED) return taken;
        if (judge_group(client, rest) == JUDGE_MORE || !relay_borrow(client)) return 0;
        outgoing_begin(out, client->set, &client->borrower.server->stream);
    }
    client->is_stuck = client->borrower.server->state == SERVER_CLOSED || must_wait(client);
    return client->is_stuck ? 0 : handle(client, rest, out);
}

static void note_sent(struct client *client, size_t taken) {
    client->group_left = client->group_left > taken ? client->group_left - (uint32_t)taken : 0;
}

/* A COPY failed while its data was still coming: the transaction ended inside of a request. */
static void release_late(struct client *client) {
    if (!client->is_release_late || client->request_skip > 0) return;
    client->is_release_late = false;
    bool is_at_rest = pipeline_is_empty(&client->pipeline);
    if (is_at_rest && client->borrower.server->state == SERVER_LENT) relay_end(client);
}

size_t request_process(struct client *client, struct bytes bytes) {
    struct outgoing out; /* too large to be cleared for each request */
    out.count = 0;
    struct server *server = client->borrower.server;
    size_t pos = 0;
    if (server != NULL) outgoing_begin(&out, client->set, &server->stream);
    client->sending = &out;
    while (pos < bytes.len) {
        size_t taken = step(client, bytes_of(bytes.at + pos, bytes.len - pos), &out);
        if (client->state == CLIENT_CLOSED) return bytes.len;
        if (taken == 0) break;
        note_sent(client, taken);
        pos += taken;
    }
    client->sending = NULL;
    server = client->borrower.server;
    if (server == NULL) return pos;
    if (client->may_write) server->may_have_written = true;
    outgoing_flush(&out);
    /* Answers that cost no server may be due already. */
    outgoing_begin(&out, client->set, &client->stream);
    reply_make_up(client, &out);
    outgoing_flush(&out);
    if (stream_queued(&server->stream) > STREAM_HIGH_BYTES) stream_stop(&client->stream);
    release_late(client);
    return pos;
}
