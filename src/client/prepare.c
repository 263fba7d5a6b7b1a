/*
 * Requests that speak of prepared statements: Parse, Bind, Describe, Close; see client/request.h.
 *
 * They are rewritten where they name a statement, which servers know under a name of the pooler's
 * own (session/prepared.h). What the server at hand lacks is prepared ahead; what is noted of it
 * and of the client's names stands when the reply has come, and is taken back if it does not.
 */
#include "client/request.h"

#include "client/effects.h"
#include "client/names.h"
#include "client/remember.h"
#include "client/vacate.h"
#include "core/log.h"

#include <stdio.h>

/* A longer unnamed Parse streams; nobody can prepare it again on another server. */
#define PARSE_WHOLE_MAX (64u << 10)

/* Passes on what follows the first `taken` bytes of the body, behind a rewritten front. */
static size_t pass_rest(const struct request *request, size_t taken) {
    size_t from = MESSAGE_HEAD_BYTES + taken;
    size_t n = request->rest.len < request->length ? request->rest.len : request->length;
    outgoing_add(request->out, request->rest.at + from, n - from);
    request->client->request_skip = (uint32_t)(request->length - n);
    return n;
}

/* The server answers the message, which goes to it as it is. */
static size_t forward(const struct request *request, enum message_request kind) {
    (void)request_owe(request, kind, PIPELINE_FORWARD);
    return request_pass(request);
}

/* ---- statements on the server at hand */

static struct server_memory *memory_of(const struct request *request) {
    return request->server->memory;
}

/* A reply that says whether an effect stands. */
static struct pipeline_entry *owe_effect(const struct request *request, enum pipeline_action action,
                                         enum effect kind, void *effect) {
    bool is_parse = kind == EFFECT_UNNAMED || kind == EFFECT_PREPARED || kind == EFFECT_NAMED;
    struct pipeline_entry *entry =
        request_owe(request, is_parse ? REQUEST_PARSE : REQUEST_CLOSE, action);
    effects_note(request->client, entry, kind, effect);
    return entry;
}

/* A Parse of the unnamed statement, the client's own or one that repeats it on this server. */
static void owe_unnamed(const struct request *request, enum pipeline_action action) {
    struct client *client = request->client;
    (void)owe_effect(request, action, EFFECT_UNNAMED, NULL);
    client->unnamed_owed++;
    client->has_unnamed = true;
    if (action == PIPELINE_FORWARD) {
        client->unnamed_number = ++client->set->unnamed_last;
        client->is_unnamed_noted = true;
    }
    memory_of(request)->unnamed_owner = client->unnamed_number;
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

struct prepared_on_server *prepare_find_own(const struct request *request, struct bytes name) {
    static const char prefix[] = "PGBOUNCER_";
    size_t len = sizeof prefix - 1;
    if (name.len <= len || memcmp(name.at, prefix, len) != 0) return NULL;
    LIST_EACH (&memory_of(request)->lru, l) {
        struct prepared_on_server *entry = LIST_OWNER(l, struct prepared_on_server, lru);
        if (bytes_equal_text(name, entry->statement->name)) return entry;
    }
    return NULL;
}

void prepare_close_own(const struct request *request, struct prepared_on_server *entry) {
    const char *name = entry->statement->name;
    request_copy_head(request, 'C', 1 + strlen(name) + 1);
    outgoing_copy(request->out, "S", 1);
    request_copy_text0(request, name);
    server_memory_detach(memory_of(request), entry);
    (void)owe_effect(request, PIPELINE_SWALLOW, EFFECT_CLOSED, entry);
}

/* Makes room for one more statement: the one unused longest is closed on the server. */
static void evict(const struct request *request) {
    size_t max = request->client->set->max_prepared;
    struct prepared_on_server *surplus = server_memory_surplus(memory_of(request), max);
    if (surplus != NULL) prepare_close_own(request, surplus);
}

void prepare_forget_unnamed(const struct request *request) {
    struct client *client = request->client;
    memory_of(request)->unnamed_owner = 0;
    statement_unref(&client->set->statements, &client->unnamed);
    client->unnamed_number = 0;
}

/* Sends a Parse of the statement under the server's name for it. */
static void send_parse(const struct request *request, const char *name,
                       const struct statement *statement) {
    request_copy_head(request, 'P', strlen(name) + 1 + statement->body.len);
    request_copy_text0(request, name);
    outgoing_copy(request->out, statement->body.at, statement->body.len);
    stats_add(&request->server->node->stats.server_parses, 1);
}

/* A statement of our own that goes in line with the client's, and is not seen. */
static void run_unseen(const struct request *request, const struct buf *text) {
    static const char close[] = "SweirC", bind[] = "weirC\0weirC\0\0\0\0\0\0";
    static const char execute[] = "weirC\0\0\0\0", close_portal[] = "PweirC";
    request_copy_head(request, 'C', sizeof close);
    outgoing_copy(request->out, close, sizeof close);
    (void)request_owe(request, REQUEST_CLOSE, PIPELINE_SWALLOW);
    request_copy_head(request, 'P', 6 + buf_length(text) + 1 + 2);
    request_copy_text0(request, "weirC");
    outgoing_copy(request->out, buf_content(text).at, buf_length(text));
    outgoing_copy(request->out, "\0\0", 3);
    (void)request_owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
    request_copy_head(request, 'B', 18);
    outgoing_copy(request->out, bind, 18);
    (void)request_owe(request, REQUEST_BIND, PIPELINE_SWALLOW);
    request_copy_head(request, 'E', sizeof execute);
    outgoing_copy(request->out, execute, sizeof execute);
    request_owe(request, REQUEST_EXECUTE, PIPELINE_SWALLOW)->number = request->client->copies;
    request_copy_head(request, 'C', sizeof close_portal);
    outgoing_copy(request->out, close_portal, sizeof close_portal);
    (void)request_owe(request, REQUEST_CLOSE, PIPELINE_SWALLOW);
}

void prepare_enter(const struct request *request, const struct statement *statement,
                   struct buf *after) {
    const struct client *client = request->client;
    struct buf before = {0};
    bool has_literals = memchr(statement->body.at, '\'', statement->body.len) != NULL;
    if (has_literals && parameters_append_context(&client->parameters, client->set->pools,
                                                  statement->context, &before, after))
        run_unseen(request, &before);
    buf_release(&before);
}

void prepare_leave(const struct request *request, struct buf *after) {
    if (buf_length(after) > 0) run_unseen(request, after);
    buf_release(after);
}

/* Has the statement prepared on the server ahead of a message that uses it. */
static void ensure(const struct request *request, struct statement *statement) {
    struct buf after = {0};
    if (server_memory_use(memory_of(request), statement) != NULL) return;
    evict(request);
    prepare_enter(request, statement, &after);
    send_parse(request, statement->name, statement);
    (void)server_memory_add(memory_of(request), statement);
    statement->references++;
    (void)owe_effect(request, PIPELINE_SWALLOW, EFFECT_PREPARED, statement);
    prepare_leave(request, &after);
}

/* Whether a message about a name goes to the server as it is: the transaction may have changed what
 * the name stands for, or the message has to fail, for a name that is missing or taken. */
static bool is_left_to_server(const struct request *request, struct bytes name, bool is_bad) {
    const struct session *session = request->client->session;
    if (session == NULL) return false;
    if (session_has_touched_prepared(session, name)) return true;
    if (is_bad) names_bring_one(request, name);
    return is_bad;
}

/* What a statement with SQL's PREPARE, EXECUTE or DEALLOCATE speaks of, ahead of its Parse. */
static void bring_names(const struct request *request, const struct statement *statement) {
    if (request->client->session == NULL || !(statement->traits.flags & NAMES_FLAGS)) return;
    (void)remember_statement(request->client, statement);
    names_bring(request);
}

/* Takes a name of the client away, until the server turns out to have skipped the request. */
static void close_name(const struct request *request, struct prepared_name *entry,
                       enum pipeline_action action) {
    if (entry == NULL) {
        (void)request_owe(request, REQUEST_CLOSE, action);
        return;
    }
    prepared_detach(&request->client->names, entry);
    (void)owe_effect(request, action, EFFECT_NAME_CLOSED, entry);
}

/* ---- Parse */

/* Whether an unquoted name is the same before and after it is read. */
static bool is_folded(struct bytes name) {
    bool is_plain = !bytes_equal_text(name, "all") && !bytes_equal_text(name, "prepare");
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        is_plain =
            is_plain && ((c >= 'a' && c <= 'z') || c == '_' || (i > 0 && c >= '0' && c <= '9'));
    }
    return is_plain;
}

/* `DEALLOCATE name` of a statement that only the pooler knows by that name; drivers that lack the
 * Close message say it so. Gives the name, or false. */
static bool read_deallocate(const struct client *client, struct bytes text, struct bytes *name) {
    static const char word[] = "DEALLOCATE ";
    size_t len = sizeof word - 1;
    if (text.len <= len || !bytes_equal_nocase(bytes_of(text.at, len), word)) return false;
    *name = bytes_of(text.at + len, text.len - len);
    if (name->at[name->len - 1] == ';') name->len--;
    if (name->len > 2 && name->at[0] == '"' && name->at[name->len - 1] == '"')
        *name = bytes_of(name->at + 1, name->len - 2);
    if (client->session == NULL || name->len == 0) return name->len > 0;
    bool is_quoted = name->at[-1] == '"';
    bool is_open =
        client->transaction == 'E' || session_has_touched_prepared(client->session, *name);
    return !is_open && (is_quoted ? memchr(name->at, '"', name->len) == NULL : is_folded(*name));
}

/* DEALLOCATE in the extended protocol: the server is given a statement to deallocate in place of
 * the client's own, which other clients may go on using under the pooler's name. */
static size_t parse_deallocate(const struct request *request, struct prepared_name *entry) {
    static const char close[] = "SweirX";
    static const char empty[] = "weirX\0\0\0";
    static const char text[] = "\0DEALLOCATE \"weirX\"\0\0";
    request_copy_head(request, 'C', sizeof close);
    outgoing_copy(request->out, close, sizeof close);
    close_name(request, entry, PIPELINE_SWALLOW);
    request_copy_head(request, 'P', sizeof empty);
    outgoing_copy(request->out, empty, sizeof empty);
    (void)request_owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
    request_copy_head(request, 'P', sizeof text);
    outgoing_copy(request->out, text, sizeof text);
    owe_unnamed(request, PIPELINE_FORWARD);
    return request->length;
}

/* The statement of a Parse body in a context, with a reference. */
static struct statement *intern(struct client *client, struct bytes body, struct bytes context) {
    bool is_new;
    struct statement *statement = statement_get(&client->set->statements, context, body, &is_new);
    struct bytes text, rest;
    if (is_new && client->set->traits != NULL && message_text(body, &text, &rest)) {
        statement->traits = *client_traits(client, text);
        statement->traits.names = bytes_of(NULL, 0);
    }
    return statement;
}

/* Whether nobody else may use the client's statement: it speaks of the client's own names, or what
 * decides its parse has been set by the transaction at hand. */
static bool is_private(struct client *client, struct bytes body) {
    struct bytes text, rest;
    if (client->session == NULL) return false;
    if (client->session->is_context_open || client->set->traits == NULL) return true;
    if (!message_text(body, &text, &rest)) return true;
    return client_traits(client, text)->flags & NAMES_FLAGS;
}

struct statement *prepare_intern_own(struct client *client, struct bytes body,
                                     struct bytes context) {
    struct buf own = {0};
    buf_append_bytes(&own, context);
    buf_append_format(&own, "own %llu", (unsigned long long)++client->set->unnamed_last);
    struct statement *statement = intern(client, body, buf_content(&own));
    buf_release(&own);
    return statement;
}

struct statement *prepare_intern(struct client *client, struct bytes body, struct bytes context) {
    struct buf current = {0};
    if (context.len == 0) {
        client_parse_context(client, &current);
        context = buf_content(&current);
    }
    struct statement *statement = is_private(client, body)
                                      ? prepare_intern_own(client, body, context)
                                      : intern(client, body, context);
    buf_release(&current);
    return statement;
}

/* An unnamed statement that is not bound at once may be needed on another server later. */
static bool is_bound_at_once(const struct request *request) {
    struct bytes rest = request->rest;
    return rest.len > request->length && rest.at[request->length] == 'B';
}

static void keep_unnamed(const struct request *request, struct bytes body) {
    struct client *client = request->client;
    if (client->unnamed != NULL && bytes_equal(client->unnamed->body, body)) return;
    statement_unref(&client->set->statements, &client->unnamed);
    if (client->session == NULL && is_bound_at_once(request)) return;
    client->unnamed = intern(client, body, bytes_of_text("unnamed"));
}

void prepare_made_up(struct client *client, const struct bytes *name, struct bytes body) {
    if (name != NULL && name->len > 0) {
        stats_add(&client->pool->stats.client_parses, 1);
        struct statement *statement = prepare_intern(client, body, bytes_of(NULL, 0));
        prepared_add(&client->names, *name, statement)->sequence = ++client->parses;
        return;
    }
    statement_unref(&client->set->statements, &client->unnamed);
    client->unnamed_number = 0;
    if (name == NULL || !request_is_tracking(client)) return;
    client->unnamed = intern(client, body, bytes_of_text("unnamed"));
    client->unnamed_number = ++client->set->unnamed_last;
}

static size_t parse_unnamed(const struct request *request, struct bytes body) {
    struct client *client = request->client;
    if (request_is_tracking(client)) keep_unnamed(request, body);
    owe_unnamed(request, PIPELINE_FORWARD);
    stats_add(&request->server->node->stats.server_parses, 1);
    return request_pass(request);
}

/* The same Parse again, because its group is being sent a second time. */
static bool is_repeated(const struct client *client, const struct prepared_name *name,
                        struct bytes body) {
    return client->retry.is_second && bytes_equal(name->statement->body, body);
}

/* Whether the server will refuse the Parse, since the transaction has failed. */
static bool is_in_vain(const struct client *client, struct bytes body) {
    struct bytes text, rest;
    bool has_failed = client->transaction == 'E' && pipeline_is_empty(&client->pipeline);
    if (client->session == NULL || !has_failed || client->set->traits == NULL) return false;
    if (!message_text(body, &text, &rest)) return false;
    uint32_t flags = client_traits(client, text)->flags;
    return !(flags & (TRAITS_ENDS | TRAITS_EMPTY | TRAITS_ANYTHING));
}

static size_t parse_named(const struct request *request, struct bytes name, struct bytes body) {
    struct client *client = request->client;
    struct prepared_name *entry = prepared_find(&client->names, name);
    bool is_taken = entry != NULL && !is_repeated(client, entry, body);
    if (is_left_to_server(request, name, is_taken)) {
        struct bytes text, rest;
        if (message_text(body, &text, &rest)) (void)remember_text(client, text);
        return forward(request, REQUEST_PARSE);
    }
    if (is_in_vain(client, body)) {
        return forward(request, REQUEST_PARSE);
    }
    if (is_taken) {
        client_log(client, LOG_LEVEL_ERROR, "prepared statement '%s' was already prepared",
                   entry->name);
        client_fail(client, FAULT_STATEMENT_EXISTS, entry->name);
        return request->length;
    }
    stats_add(&client->pool->stats.client_parses, 1);
    if (entry == NULL) {
        struct statement *statement = prepare_intern(client, body, bytes_of(NULL, 0));
        entry = prepared_add(&client->names, name, statement);
        entry->sequence = ++client->parses;
    }
    struct statement *statement = entry->statement;
    bring_names(request, statement);
    bool is_known = server_memory_use(memory_of(request), statement) != NULL;
    if (is_known && client->session != NULL) prepared_note_uses(&client->names, entry, 0);
    if (!is_known) {
        evict(request);
        send_parse(request, statement->name, statement);
        (void)server_memory_add(memory_of(request), statement);
    }
    statement->references++;
    owe_effect(request, is_known ? PIPELINE_MAKE_UP : PIPELINE_FORWARD, EFFECT_PREPARED, statement)
        ->number = entry->sequence;
    return request->length;
}

/* Whose Bind is not looked at must tell all at its Parse. */
static const char *note_parse(struct client *client, struct bytes text) {
    return request_is_tracking(client) ? remember_parse(client, text) : remember_text(client, text);
}

size_t prepare_parse(const struct request *request) {
    struct client *client = request->client;
    struct bytes name, body, text, rest;
    if (!request->is_whole) {
        if (request->length <= PARSE_WHOLE_MAX) return 0;
        if (!message_text(request->body, &name, &body) || name.len > 0) return 0;
        client->unsynced++;
        if (request_must_judge_late(client)) judge_text(client, bytes_of(NULL, 0));
        if (client->session != NULL) session_note_unknown(client->session);
        statement_unref(&client->set->statements, &client->unnamed);
        owe_unnamed(request, PIPELINE_FORWARD);
        return request_pass(request); /* a huge unnamed text streams */
    }
    if (!message_text(request->body, &name, &body) || !message_text(body, &text, &rest)) {
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (request_is_tracking(client) && must_wait_for_effects(request)) return 0;
    client->unsynced++;
    if (request_must_judge_late(client)) judge_text(client, text);
    if (client->hint.is_wrong || hint_may_be_shown(text)) {
        size_t taken = request_heed_hint(request, text);
        if (taken > 0) return taken;
    }
    struct prepared_name *gone = NULL;
    if (name.len == 0 && request_is_tracking(client) && read_deallocate(client, text, &rest))
        gone = prepared_find(&client->names, rest);
    if (gone != NULL) return parse_deallocate(request, gone);
    bool is_noted_now = name.len == 0 || !request_is_tracking(client);
    if (client->pool->starts_servers) vacate_text(client, text);
    const char *refused = client->session != NULL && is_noted_now ? note_parse(client, text) : NULL;
    if (refused != NULL) return request_refuse(request, refused);
    if (is_noted_now) names_bring(request);
    if (!is_noted_now && client->session != NULL) remember_parsed(client, text);
    if (name.len == 0) return parse_unnamed(request, body);
    if (request_is_tracking(client)) return parse_named(request, name, body);
    return forward(request, REQUEST_PARSE);
}

/* ---- Bind, Describe, Close */

/* The server's unnamed statement may be another client's. Where the text of this client's own is
 * known it is prepared again; else the stranger's is dropped, and the server says what is missing.
 */
static void ensure_unnamed(const struct request *request) {
    struct client *client = request->client;
    struct server_memory *memory = memory_of(request);
    bool is_there = client->unnamed_number > 0 && memory->unnamed_owner == client->unnamed_number;
    if (!request_is_tracking(client) || is_there) return;
    if (client->unnamed != NULL) {
        send_parse(request, "", client->unnamed);
        owe_unnamed(request, PIPELINE_SWALLOW);
        return;
    }
    memory->unnamed_owner = client->unnamed_number;
    request_copy_head(request, 'C', 2);
    outgoing_copy(request->out, "S", 2);
    (void)owe_effect(request, PIPELINE_SWALLOW, EFFECT_UNNAMED_CLOSED, NULL);
}

static size_t fail_missing(const struct request *request, struct bytes name) {
    struct client *client = request->client;
    char text[128];
    (void)snprintf(text, sizeof text, "%.*s", (int)name.len, name.at);
    client_log(client, LOG_LEVEL_ERROR, "prepared statement '%s' not found", text);
    client_fail(client, FAULT_STATEMENT_MISSING, text);
    return request->length;
}

/* Whether the client's unnamed statement, parsed in this group, may set what its Bind names. */
static bool sets_by_bind(const struct client *client) {
    return request_is_tracking(client) && client->unnamed != NULL &&
           client->unnamed->traits.flags & (TRAITS_SETS | TRAITS_SETS_ALIKE);
}

/* Whether a Bind of a statement that may set something is not whole yet, and short enough to be. */
static bool lacks_values(const struct request *request, struct bytes name) {
    const struct client *client = request->client;
    if (client->session == NULL || request->is_whole) return false;
    const struct prepared_name *entry = prepared_find(&client->names, name);
    const struct statement *statement = entry == NULL ? client->unnamed : entry->statement;
    return statement != NULL && statement->traits.flags & (TRAITS_SETS | TRAITS_SETS_ALIKE) &&
           request->length <= client->set->gather_bytes;
}

static struct bytes values_of(const struct request *request, struct bytes rest) {
    return request->is_whole ? rest : bytes_of(NULL, 0);
}

size_t prepare_bind(const struct request *request) {
    struct client *client = request->client;
    struct bytes portal, name, rest;
    if (!message_text(request->body, &portal, &rest) || !message_text(rest, &name, &rest)) {
        if (!request->is_whole) return 0;
        client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        return request->length;
    }
    if (request_is_tracking(client) && must_wait_for_effects(request)) return 0;
    if (request_is_tracking(client) && name.len == 0 && must_wait_for_unnamed(request)) return 0;
    if (lacks_values(request, name)) return 0;
    client->unsynced++;
    if (name.len == 0 || !request_is_tracking(client)) {
        if (name.len == 0) ensure_unnamed(request);
        bool is_noted_now = client->session != NULL && name.len == 0 &&
                            (!client->is_unnamed_noted || sets_by_bind(client));
        const char *refused =
            is_noted_now ? remember_bind(client, client->unnamed, values_of(request, rest)) : NULL;
        if (refused != NULL) return request_refuse(request, refused);
        if (is_noted_now) names_bring(request);
        return forward(request, REQUEST_BIND);
    }
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (is_left_to_server(request, name, entry == NULL)) {
        if (entry != NULL) (void)remember_statement(client, entry->statement);
        return forward(request, REQUEST_BIND);
    }
    if (entry == NULL) return fail_missing(request, name);
    struct statement *statement = entry->statement;
    if (request_must_judge_late(client)) {
        uint32_t flags = statement->traits.flags;
        judge_note_reach(client, judge_traits(client, statement));
        if (flags & (TRAITS_ENDS | TRAITS_ANYTHING)) client->may_end = true;
    }
    const char *refused =
        client->session == NULL ? NULL : remember_bind(client, statement, values_of(request, rest));
    if (refused != NULL) return request_refuse(request, refused);
    names_bring(request);
    stats_add(&client->pool->stats.binds, 1);
    if (entry->uses < PREPARED_PROVEN) prepared_note_uses(&client->names, entry, entry->uses + 1u);
    ensure(request, statement);
    size_t taken = portal.len + 1 + name.len + 1;
    size_t name_len = strlen(statement->name);
    request_copy_head(request, 'B', request->length - MESSAGE_HEAD_BYTES - name.len + name_len);
    outgoing_copy(request->out, portal.at, portal.len + 1);
    request_copy_text0(request, statement->name);
    request_owe(request, REQUEST_BIND, PIPELINE_FORWARD)->number = entry->sequence;
    return pass_rest(request, taken);
}

/* The kind ('S' or 'P') and name of a Describe or Close; false if it is malformed, which the client
 * has then been told. */
static bool read_target(const struct request *request, char *kind, struct bytes *name) {
    struct bytes rest;
    *kind = request->body.at[0];
    if (message_text(bytes_of(request->body.at + 1, request->body.len - 1), name, &rest))
        return true;
    client_fail(request->client, FAULT_MESSAGE_MALFORMED, NULL);
    return false;
}

size_t prepare_describe(const struct request *request) {
    struct client *client = request->client;
    char kind;
    struct bytes name;
    if (!read_target(request, &kind, &name)) return request->length;
    if (request_is_tracking(client) && must_wait_for_effects(request)) return 0;
    bool is_unnamed = kind == 'S' && name.len == 0;
    if (request_is_tracking(client) && is_unnamed && must_wait_for_unnamed(request)) return 0;
    client->unsynced++;
    if (is_unnamed) ensure_unnamed(request);
    if (kind != 'S' || name.len == 0 || !request_is_tracking(client)) {
        return forward(request, REQUEST_DESCRIBE);
    }
    struct prepared_name *entry = prepared_find(&client->names, name);
    if (is_left_to_server(request, name, entry == NULL)) {
        return forward(request, REQUEST_DESCRIBE);
    }
    if (entry == NULL) return fail_missing(request, name);
    struct statement *statement = entry->statement;
    bring_names(request, statement);
    ensure(request, statement);
    request_copy_head(request, 'D', 1 + strlen(statement->name) + 1);
    outgoing_copy(request->out, "S", 1);
    request_copy_text0(request, statement->name);
    request_owe(request, REQUEST_DESCRIBE, PIPELINE_FORWARD)->number = entry->sequence;
    return request->length;
}

size_t prepare_close(const struct request *request) {
    struct client *client = request->client;
    char kind;
    struct bytes name;
    if (!read_target(request, &kind, &name)) return request->length;
    if (request_is_tracking(client) && must_wait_for_effects(request)) return 0;
    client->unsynced++;
    if (kind != 'S' || name.len == 0 || !request_is_tracking(client)) {
        return forward(request, REQUEST_CLOSE);
    }
    if (is_left_to_server(request, name, false)) {
        return forward(request, REQUEST_CLOSE);
    }
    struct prepared_name *entry = prepared_find(&client->names, name);
    close_name(request, entry, PIPELINE_MAKE_UP);
    return request->length;
}

/* ---- DEALLOCATE without a server */

/* Answers it without a server, where the state of the transaction is known and no answer is owed.
 * Returns how much was taken, or 0. */
size_t prepare_deallocate_here(struct client *client, struct bytes rest) {
    uint32_t length = message_length(rest.at);
    struct bytes text, name, tail;
    if (rest.len < length) return 0;
    bool is_owed = !pipeline_is_empty(&client->pipeline) || client->reply.skip > 0;
    if (is_owed || client->transaction == 'E') return 0;
    struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
    if (!message_text(body, &text, &tail) || !read_deallocate(client, text, &name)) return 0;
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
