/* Names of prepared statements in SQL; see client/names.h. */
#include "client/names.h"

#include "client/effects.h"
#include "client/remember.h"
#include "core/log.h"
#include "sql/cut.h"

/* ---- what a statement speaks of */

static void note_context(struct client *client) {
    struct session *session = client->session;
    struct buf context = {0};
    client_parse_context(client, &context);
    bool is_first = buf_length(&session->prepared_context) == 0;
    if (is_first) {
        buf_append_bytes(&session->prepared_context, buf_content(&context));
    } else if (!bytes_equal(buf_content(&context), buf_content(&session->prepared_context))) {
        session->is_context_open = true;
    }
    buf_release(&context);
}

void names_note(struct client *client, const struct traits *traits) {
    struct session *session = client->session;
    struct bytes rest = traits->names, entry;
    /* A transaction that has failed changes nothing, and has not been brought the names. */
    bool is_void = client->transaction == 'E' && !(traits->flags & TRAITS_ENDS);
    bool is_change = traits->flags & (TRAITS_PREPARES | TRAITS_DEALLOCATES) && !is_void;
    buf_clear(&session->named);
    if (client_keeps_server(client)) return;
    while (message_text(rest, &entry, &rest)) {
        if (entry.len == 0 || entry.at[0] != 'p') continue;
        struct bytes name = bytes_of(entry.at + 1, entry.len - 1);
        buf_append_bytes(&session->named, name);
        buf_append_u8(&session->named, 0);
        if (is_change) session_touch_prepared(session, name);
    }
    if (traits->flags & TRAITS_PREPARES) note_context(client);
}

struct statement *names_executed(const struct client *client, const struct traits *traits) {
    const uint32_t execute =
        TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_RUNS_UNKNOWN | TRAITS_EXECUTES;
    struct bytes entry, rest;
    if (traits->flags & ~execute || !message_text(traits->names, &entry, &rest)) return NULL;
    /* Its arguments may call functions. */
    bool is_only = rest.len == 0 && entry.len > 0 && entry.at[0] == 'p' && traits->names_complete;
    if (!is_only) return NULL;
    const struct prepared_name *name =
        prepared_find(&client->names, bytes_of(entry.at + 1, entry.len - 1));
    bool is_known = name != NULL && !(name->statement->traits.flags & NAMES_FLAGS);
    return is_known ? name->statement : NULL;
}

/* ---- the server at hand */

static struct server_memory *memory_of(const struct request *request) {
    return request->server->memory;
}

static void send_close(const struct request *request, struct bytes name) {
    request_copy_head(request, 'C', 1 + name.len + 1);
    outgoing_copy(request->out, "S", 1);
    outgoing_copy(request->out, name.at, name.len);
    outgoing_copy(request->out, "", 1);
}

static void close_on_server(const struct request *request, struct named_on_server *there) {
    struct client *client = request->client;
    send_close(request, there->node.key);
    named_ref(there);
    named_unlist(&memory_of(request)->named, &client->set->statements, there);
    struct pipeline_entry *owed = request_owe(request, REQUEST_CLOSE, PIPELINE_SWALLOW);
    effects_note(client, owed, EFFECT_NAMED_CLOSED, there);
}

static void prepare_on_server(const struct request *request, struct bytes name,
                              struct statement *statement) {
    struct client *client = request->client;
    struct named *named = &memory_of(request)->named;
    struct named_on_server *surplus = named_surplus(named, client->set->max_prepared);
    struct buf after = {0};
    if (surplus != NULL) close_on_server(request, surplus);
    prepare_enter(request, statement, &after);
    request_copy_head(request, 'P', name.len + 1 + statement->body.len);
    outgoing_copy(request->out, name.at, name.len);
    outgoing_copy(request->out, "", 1);
    outgoing_copy(request->out, statement->body.at, statement->body.len);
    stats_add(&request->server->node->stats.server_parses, 1);
    struct named_on_server *there = named_add(named, name, statement);
    named_ref(there);
    struct pipeline_entry *owed = request_owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
    effects_note(client, owed, EFFECT_NAMED, there);
    prepare_leave(request, &after);
}

/* What the client means by a name; NULL: nothing. */
static struct statement *meant(const struct client *client, struct bytes name) {
    const struct prepared_name *entry = prepared_find(&client->names, name);
    return entry == NULL ? NULL : entry->statement;
}

static bool is_in_line(const struct request *request, struct bytes name) {
    if (prepare_find_own(request, name) != NULL) return false;
    const struct named_on_server *there = named_use(&memory_of(request)->named, name);
    return (there == NULL ? NULL : there->statement) == meant(request->client, name);
}

void names_bring_one(const struct request *request, struct bytes name) {
    struct statement *statement = meant(request->client, name);
    struct named_on_server *there = named_use(&memory_of(request)->named, name);
    struct prepared_on_server *own = prepare_find_own(request, name);
    if (is_in_line(request, name)) return;
    if (own != NULL) prepare_close_own(request, own);
    if (there != NULL) close_on_server(request, there);
    if (statement != NULL) prepare_on_server(request, name, statement);
}

/* Takes the names noted last, for one use; the caller releases them. */
static struct buf take_named(struct client *client) {
    struct buf named = client->session->named;
    client->session->named = (struct buf){0};
    return named;
}

void names_bring_noted(const struct request *request) {
    struct buf named = take_named(request->client);
    struct bytes rest = buf_content(&named), name;
    while (message_text(rest, &name, &rest)) names_bring_one(request, name);
    buf_release(&named);
}

bool names_make_ready(const struct request *request) {
    struct client *client = request->client;
    struct bytes rest = buf_content(&client->session->named), name;
    bool is_ready = true;
    while (message_text(rest, &name, &rest)) is_ready = is_ready && is_in_line(request, name);
    /* In a transaction that has failed the server will not look at it. */
    if (is_ready || client->transaction == 'E') {
        buf_release(&client->session->named);
        return true;
    }
    client->is_stuck = !pipeline_is_empty(&client->pipeline) && !begin_is_last(client);
    if (client->is_stuck) return false;
    client->session->has_failed_name = false;
    names_bring(request);
    request_copy_head(request, 'S', 0);
    request_owe(request, REQUEST_SYNC, PIPELINE_SWALLOW)->number = OWN_QUERY_NAMES;
    client->is_syncing = true;
    return false;
}

bool names_have_failed(struct client *client) {
    bool has_failed = client->session->has_failed_name;
    client->is_syncing = client->session->has_failed_name = false;
    relay_resume_later(client);
    if (!has_failed) return false;
    uint32_t length = message_length(buf_content(&client->kept).at);
    CHECK(length <= buf_length(&client->kept)); /* the Query was whole */
    buf_consume(&client->kept, length);
    client->group_left -= client->group_left < length ? client->group_left : length;
    return true;
}

/* ---- what became of a name */

/* A Parse body of what the server tells: 's' or 'p' for SQL's or the protocol's, "{OID,...}" and
 * the text. False if it cannot be told. */
static bool make_body(struct bytes name, struct bytes told, struct buf *body) {
    struct bytes text;
    struct buf types = {0};
    unsigned count = 0;
    size_t pos = 2;
    uint32_t type = 0;
    bool has_type = false;
    for (; pos < told.len; pos++) {
        char c = told.at[pos];
        if (c >= '0' && c <= '9') {
            type = type * 10 + (uint32_t)(c - '0');
            has_type = true;
            continue;
        }
        if (has_type) buf_append_u32(&types, type);
        if (has_type) count++;
        has_type = false;
        type = 0;
        if (c == '}') break;
    }
    bool is_told = pos < told.len && count <= UINT16_MAX;
    if (is_told) text = bytes_of(told.at + pos + 1, told.len - pos - 1);
    if (is_told && told.at[0] == 's') is_told = cut_prepared(text, name, &text);
    if (is_told) {
        buf_append_bytes(body, text);
        buf_append_u8(body, 0);
        buf_append_u16(body, (uint16_t)count);
        buf_append_bytes(body, buf_content(&types));
    }
    buf_release(&types);
    return is_told;
}

/* The client means that statement from now on, which its server has under the name. */
static void learn(struct client *client, struct bytes name, struct bytes body) {
    struct statements *statements = &client->set->statements;
    struct server_memory *memory = client->borrower.server->memory;
    struct prepared_name *entry = prepared_find(&client->names, name);
    struct named_on_server *there = named_use(&memory->named, name);
    bool is_known = entry != NULL && there != NULL && entry->statement == there->statement;
    if (is_known && bytes_equal(entry->statement->body, body)) return;
    struct statement *statement =
        prepare_intern(client, body, buf_content(&client->session->prepared_context));
    if (there != NULL) named_unlist(&memory->named, statements, there);
    (void)named_add(&memory->named, name, statement);
    if (entry == NULL) {
        prepared_add(&client->names, name, statement)->sequence = ++client->parses;
    } else {
        prepared_replace(&client->names, statements, entry, statement);
    }
}

static void forget(struct client *client, struct bytes name) {
    struct statements *statements = &client->set->statements;
    struct server_memory *memory = client->borrower.server->memory;
    struct prepared_name *entry = prepared_find(&client->names, name);
    struct named_on_server *there = named_use(&memory->named, name);
    if (entry != NULL) prepared_remove(&client->names, statements, entry);
    if (there != NULL) named_unlist(&memory->named, statements, there);
}

/* It is there, and cannot be prepared on another server. */
static void keep_here(struct client *client, struct bytes name) {
    forget(client, name);
    if (client->pool->on_session_state == ON_STATE_PIN) {
        client->session->found |= 1u << PIN_PREPARED;
        return;
    }
    client_log(client, LOG_LEVEL_WARNING,
               "session state that its next transaction may not find: %s", pin_text(PIN_PREPARED));
    client->borrower.server->is_close_needed = true;
}

bool names_row(struct client *client, struct bytes body) {
    struct bytes mark, told;
    struct buf made = {0};
    if (body.len < 2 || bytes_get_u16(body.at) != 2) return false;
    struct bytes rest = bytes_of(body.at + 2, body.len - 2);
    if (!message_column(&rest, &mark) || !message_column(&rest, &told)) return false;
    if (mark.at == NULL || mark.len < 2 || memcmp(mark.at, SESSION_PREPARED_MARK, 2) != 0)
        return false;
    struct bytes name = bytes_of(mark.at + 2, mark.len - 2);
    if (told.at == NULL) {
        forget(client, name);
    } else if (make_body(name, told, &made)) {
        learn(client, name, buf_content(&made));
    } else {
        keep_here(client, name);
    }
    buf_release(&made);
    return true;
}
