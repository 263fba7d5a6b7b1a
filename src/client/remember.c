/*
 * What a client's statements leave in its session; see client/remember.h.
 *
 *      statement -> traits: the names that it may set    transaction ends -> question to the server
 *      answer -> the client's settings                    next server -> the gap is closed ahead
 *
 * Only who sets something pays: a question at the end of that transaction, and later what differs
 * where the client meets a server that was set otherwise.
 */
#include "client/remember.h"

#include "client/names.h"
#include "client/parts.h"
#include "client/subscribe.h"
#include "client/vacate.h"
#include "core/log.h"
#include "session/bind.h"
#include "session/traces.h"
#include "sql/cut.h"

#define SETTING_FLAGS                                                                              \
    (TRAITS_SETS | TRAITS_SETS_LOCAL | TRAITS_SETS_ALIKE | TRAITS_RESETS_ALL |                     \
     TRAITS_RUNS_UNKNOWN | TRAITS_ANYTHING)

/* Whether the traits say anything about the session. */
static bool is_relevant(const struct traits *traits) {
    return traits->flags & (SETTING_FLAGS | NAMES_FLAGS | pins_flags);
}

/* ---- functions of which nothing is known */

static struct traces *traces_at(struct client *client) {
    return traces_of(&client->set->traces, bytes_of_text(client->pool->database->name));
}

static uint32_t schema_of(const struct client *client) {
    return statements_schema(client->pool->database->hash);
}

/* Something ran of which the traits tell nothing but names. A program tells by its text, too. */
static void note_functions(struct client *client, const struct traits *traits, struct bytes text) {
    struct session *session = client->session;
    struct bytes rest = traits->names, entry;
    while (message_text(rest, &entry, &rest)) {
        if (entry.len > 0 && entry.at[0] == 'f')
            session_note_ran(session, bytes_of(entry.at + 1, entry.len - 1));
    }
    if (text.at == NULL) return;
    if (traits->flags & TRAITS_ANYTHING || !traits->names_complete)
        buf_append_bytes(&session->programs, text);
    if (!(traits->flags & TRAITS_RUNS_CODE)) return;
    while (cut_next_constant(&text, &entry)) { /* one of them is the program */
        buf_append_u8(&session->programs, ';');
        buf_append_bytes(&session->programs, entry);
    }
}

/* Kinds of functions that any statement with a name may run. */
static unsigned hidden_kinds(struct client *client) {
    struct session *session = client->session;
    if (session->traces == NULL) session->traces = traces_at(client);
    return session->traces->hidden;
}

/* What the functions that ran may have left is asked about, or keeps the server. */
static void apply_traces(struct client *client) {
    struct session *session = client->session;
    const struct traces *traces = traces_at(client);
    struct bytes rest = buf_content(&session->ran), name;
    bool is_pinning = client->pool->on_session_state == ON_STATE_PIN;
    unsigned left = traces_of_program(traces, buf_content(&session->programs));
    if (session->runs_hidden) left |= traces->hidden & ~(unsigned)TRACE_SETS_UNKNOWN;
    session->runs_hidden = false; /* unknown ones would pin everybody */
    while (message_text(rest, &name, &rest)) left |= traces_of_function(traces, name);
    buf_release(&session->ran);
    buf_release(&session->programs);
    if (left & TRACE_LASTS && is_pinning) session->seen |= TRAITS_RUNS_CODE;
    if (left & TRACE_SETS_UNKNOWN && is_pinning) session->pins |= 1u << PIN_PROGRAM;
    if (!(left & TRACE_SETS)) return;
    session_touch(session, bytes_of_text("role"));
    rest = buf_content(&traces->told);
    while (traces_next_parameter(&rest, &name)) session_touch(session, name);
}

/* The transaction has ended: what is known of its functions counts, or is asked along. */
static void judge_functions(struct client *client) {
    struct session *session = client->session;
    const struct traces *traces = traces_at(client);
    session->checks_traces = false;
    if (traces_are_due(traces, schema_of(client), loop_now_us(client->set->loop))) {
        session->asks_traces = true;
        session_touch(session, bytes_of_text("role")); /* so that there is a question */
        if (client->pool->on_session_state == ON_STATE_PIN) session->seen |= TRAITS_RUNS_CODE;
    } else {
        apply_traces(client);
    }
}

/* A row of the question: true if it is about a function. */
static bool take_trace(struct client *client, struct bytes body) {
    struct bytes mark, name;
    if (body.len < 2 || bytes_get_u16(body.at) != 2) return false;
    struct bytes rest = bytes_of(body.at + 2, body.len - 2);
    if (!message_column(&rest, &mark) || !message_column(&rest, &name)) return false;
    return mark.at != NULL && name.at != NULL && traces_row(traces_at(client), mark, name);
}

static void end_traces(struct client *client) {
    struct traces *traces = traces_at(client);
    uint64_t now_us = loop_now_us(client->set->loop);
    if (client->session->has_failed) {
        traces_failed(traces, schema_of(client), now_us);
    } else {
        traces_learned(traces, schema_of(client), now_us);
    }
    client->session->asks_traces = false;
}

/* ---- what a statement leaves */

/* Whether it asks for what a sequence has given this session last. */
static bool reads_sequence(const struct traits *traits) {
    struct bytes rest = traits->names, entry;
    while (message_text(rest, &entry, &rest)) {
        if (bytes_equal_text(entry, "fcurrval") || bytes_equal_text(entry, "flastval") ||
            bytes_equal_text(entry, "fpg_catalog.currval") ||
            bytes_equal_text(entry, "fpg_catalog.lastval"))
            return true;
    }
    return false;
}

/* Whether what it asks for may be another client's. */
static bool asks_a_stranger(const struct client *client, const struct traits *traits) {
    const struct session *session = client->session;
    bool is_own = session->has_written || session->is_at_same || session->pinned_us != 0 ||
                  traits->flags & TRAITS_MAY_WRITE;
    return traits->flags & TRAITS_SESSION_MEMORY && !is_own && reads_sequence(traits);
}

/* What the statement would leave that only its server can keep: NULL, or why it is refused. */
static const char *note_traits(struct client *client, const struct traits *traits,
                               struct bytes text) {
    struct session *session = client->session;
    unsigned shared = client->pool->shares_listen ? 1u << PIN_LISTEN : 0;
    const char *made = pins_text(pins_made(traits->flags) & ~session->pins & ~shared);
    enum on_state mode = client->pool->on_session_state;
    if (traits->flags & TRAITS_LISTENS) listeners_note_ear(client->set->pools->listeners);
    /* Who keeps a replica could not write any more. */
    bool is_replica = client->is_routed && client->route.target == ROUTE_REPLICA;
    session->refusal = FAULT_SESSION_STATE;
    if (made != NULL && (mode == ON_STATE_REJECT || (mode == ON_STATE_PIN && is_replica)))
        return made;
    if (mode == ON_STATE_PIN && asks_a_stranger(client, traits)) {
        session->pins |= 1u << PIN_MEMORY;
        session->refusal = FAULT_SEQUENCE_ELSEWHERE;
        return "";
    }
    if (made != NULL && mode == ON_STATE_LOG)
        client_log(client, LOG_LEVEL_WARNING,
                   "session state that its next transaction may not find: %s", made);
    if (traits->flags & TRAITS_CHANGES_SCHEMA) vacate_note(client, traits);
    session_note(session, traits, client->borrower.server);
    if (traits->flags & (TRAITS_RUNS_UNKNOWN | TRAITS_ANYTHING))
        note_functions(client, traits, text);
    if (mode != ON_STATE_PIN) session->seen &= shared == 0 ? 0 : TRAITS_LISTENS | TRAITS_UNLISTENS;
    return NULL;
}

/* Others are told of what it notifies. */
static void note_sender(const struct client *client, uint32_t flags) {
    if (flags & TRAITS_MAY_WRITE) client->session->has_written = true;
    struct listeners *listeners = client->set->pools->listeners;
    if (!(flags & TRAITS_MAY_WRITE) || !listeners_are_heard(listeners)) return;
    listeners_note_sender(listeners, client->borrower.server, bytes_get_u32(client->key));
}

/* A text with PREPARE, EXECUTE or DEALLOCATE. */
static const char *note_named(struct client *client, const struct traits *traits,
                              struct bytes text) {
    struct traits rest = *traits;
    const struct statement *executed = names_executed(client, traits);
    names_note(client, traits);
    if (executed != NULL) rest.flags &= ~(uint32_t)TRAITS_RUNS_UNKNOWN;
    const char *refused = note_traits(client, &rest, text);
    struct bytes inner, types;
    if (executed == NULL || refused != NULL || !message_text(executed->body, &inner, &types))
        return refused;
    traits = client_traits(client, inner);
    note_sender(client, traits->flags);
    return is_relevant(traits) ? note_traits(client, traits, inner) : NULL;
}

static const char *note_text(struct client *client, struct bytes text, bool may_send) {
    if (text.at == NULL || client->set->traits == NULL) {
        session_note_unknown(client->session);
        return NULL;
    }
    const struct traits *traits = client_traits(client, text);
    note_sender(client, traits->flags);
    if (may_send && client->session->subscription != NULL) subscribe_note(client, traits);
    unsigned hidden = hidden_kinds(client);
    if (hidden != 0 && traits->names.len > 0) session_note_hidden(client->session, hidden);
    if (!is_relevant(traits)) return NULL;
    return traits->flags & NAMES_FLAGS ? note_named(client, traits, text)
                                       : note_traits(client, traits, text);
}

const char *remember_text(struct client *client, struct bytes text) {
    return note_text(client, text, true);
}

void remember_parsed(struct client *client, struct bytes text) {
    if (client->session->subscription == NULL || client->set->traits == NULL) return;
    subscribe_note(client, client_traits(client, text));
}

const char *remember_statement(struct client *client, const struct statement *statement) {
    struct bytes text, rest;
    if (statement == NULL || !message_text(statement->body, &text, &rest)) {
        session_note_unknown(client->session);
        return NULL;
    }
    note_sender(client, statement->traits.flags);
    /* The names are not kept with the statement. A Query ahead would end an unnamed one. */
    bool is_noted = is_relevant(&statement->traits) || client->session->subscription != NULL ||
                    hidden_kinds(client) != 0;
    return is_noted ? note_text(client, text, statement != client->unnamed) : NULL;
}

const char *remember_parse(struct client *client, struct bytes text) {
    struct session_bind later = {.is_later = true};
    client->session->bind = &later;
    const char *refused = remember_text(client, text);
    client->session->bind = NULL;
    return refused;
}

const char *remember_bind(struct client *client, const struct statement *statement,
                          struct bytes values) {
    struct session_bind bind = {.types = bytes_of("", 0), .values = values};
    struct bytes text;
    if (values.at == NULL) bind.values = bytes_of("", 0);
    if (statement != NULL) (void)message_text(statement->body, &text, &bind.types);
    client->session->bind = &bind;
    const char *refused = remember_statement(client, statement);
    client->session->bind = NULL;
    return refused;
}

/* ---- on_session_state = reject */

static void append_message(struct buf *out, char type, struct bytes body) {
    buf_append_u8(out, (unsigned char)type);
    buf_append_u32(out, (uint32_t)(4 + body.len));
    buf_append_bytes(out, body);
}

/* A program that fails as the refused statement should, so that its transaction fails with it. */
static void append_raise(struct buf *text, enum fault_id why, const char *what) {
    const struct fault *fault = fault_of(why);
    struct buf message = {0};
    fault_append_text(&message, why, what);
    buf_append_format(text,
                      "DO $weir$BEGIN RAISE EXCEPTION USING ERRCODE='%s',MESSAGE=$t$%s$t$,"
                      "DETAIL=$t$%s$t$,HINT=$t$%s$t$;END$weir$",
                      fault->sqlstate, buf_text(&message),
                      fault->detail == NULL ? "" : fault->detail, fault->hint);
    buf_append_u8(text, 0);
    buf_release(&message);
}

void remember_refuse(struct client *client, struct outgoing *out, bool is_query, enum fault_id why,
                     const char *what) {
    static const char bind[8], execute[5]; /* unnamed, and without parameters or formats */
    struct server_memory *memory = client->borrower.server->memory;
    struct buf text = {0}, messages = {0};
    if (!is_query) buf_append_u8(&text, 0); /* the unnamed statement */
    append_raise(&text, why, what);
    if (!is_query) buf_append_u16(&text, 0); /* no types */
    append_message(&messages, is_query ? 'Q' : 'P', buf_content(&text));
    if (!is_query) {
        append_message(&messages, 'B', bytes_of(bind, sizeof bind));
        append_message(&messages, 'E', bytes_of(execute, sizeof execute));
        memory->unnamed_owner = 0;
    }
    outgoing_copy(out, buf_content(&messages).at, buf_length(&messages));
    buf_release(&messages);
    buf_release(&text);
}

static void append_query(struct buf *out, struct bytes text) {
    buf_append_u8(out, 'Q');
    buf_append_u32(out, (uint32_t)(4 + text.len + 1));
    buf_append_bytes(out, text);
    buf_append_u8(out, 0);
}

static void owe(struct client *client, enum own_query kind) {
    struct server_memory *memory = client->borrower.server->memory;
    memory->unnamed_owner = 0; /* as after any Query */
    pipeline_push(&client->pipeline, REQUEST_QUERY, PIPELINE_SWALLOW, NULL)->number = kind;
}

void remember_send(struct client *client, struct bytes text, enum own_query kind) {
    struct buf out = {0};
    append_query(&out, text);
    stream_write_bytes(&client->borrower.server->stream, buf_content(&out));
    buf_release(&out);
    owe(client, kind);
}

void remember_send_ahead(struct client *client, struct bytes text, enum own_query kind) {
    struct buf out = {0};
    append_query(&out, text);
    outgoing_copy(client->sending, buf_content(&out).at, buf_length(&out));
    buf_release(&out);
    owe(client, kind);
}

/* ---- a server that was just lent */

static void follow_setting(struct client *client) {
    struct client_set *set = client->set;
    if (!client->pool->tracks_sessions) {
        subscribe_end(client);
        session_free(&client->session, set->texts);
    } else if (client->session == NULL) {
        client->session = session_new();
    }
}

/* One Query does it all, but where a scrubbed server has to be given in between what its database's
 * connect_query sets at each login. */
static void send_gap(struct client *client, const struct settings_gap *gap) {
    const struct pool *pool = client->pool;
    const struct config_database *entry = NULL;
    struct buf query = {0};
    if (gap->is_scrubbed) {
        entry = config_database(client->set->pools->config, bytes_of_text(pool->database->name));
        buf_append_text(&query, SETTINGS_SCRUB);
    }
    if (entry != NULL && entry->connect_query != NULL) {
        remember_send(client, buf_content(&query), OWN_QUERY_GAP);
        remember_send(client, bytes_of_text(entry->connect_query), OWN_QUERY_CONNECT);
        buf_clear(&query);
    }
    buf_append_bytes(&query, buf_content(&gap->query));
    if (buf_length(&query) > 0) {
        if (log_is_on(LOG_LEVEL_DEBUG))
            server_log(client->borrower.server, LOG_LEVEL_DEBUG, "varcache_apply: %s",
                       buf_text(&query));
        remember_send(client, buf_content(&query), OWN_QUERY_GAP);
    }
    buf_release(&query);
}

static void note_use(struct client *client, const struct server *server) {
    struct session *session = client->session;
    struct server_memory *memory = server->memory;
    session->is_at_same = memory->used_by == client->id && session->used == server->id;
    session->has_written = false;
    memory->used_by = client->id;
    session->used = server->id;
}

void remember_lent(struct client *client) {
    struct server *server = client->borrower.server;
    struct settings_gap gap;
    bool is_tracked = client->session != NULL;
    if (is_tracked != client->pool->tracks_sessions) follow_setting(client);
    if (client->session != NULL) note_use(client, server);
    if ((client->session == NULL || session_is_at_home(client->session, server)) &&
        parameters_are_same(&client->parameters, client->set->pools, server)) {
        client->is_syncing = false;
        return;
    }
    if (client->session == NULL) {
        gap = (struct settings_gap){0};
        gap.step =
            parameters_difference(&client->parameters, client->set->pools, server, &gap.query);
    } else {
        settings_find_gap(&gap, &client->parameters, client->session, client->id, server);
        if (client->session->unknown_on != server->id) client->session->unknown_on = 0;
    }
    send_gap(client, &gap);
    client->is_syncing = gap.step == PARAMETERS_FIRST;
    buf_release(&gap.query);
}

/* ---- the end of a transaction */

/* Counts the client among those of its pool that keep their servers; false if there are too many.
 */
static bool take_pin(struct client *client) {
    const struct pool *pool = client->pool;
    struct pool_node *node = client->borrower.server->node;
    int size = atomic_load(&node->permit->limit);
    int limit = pool->pin_limit > 0 ? pool->pin_limit : size > 1 ? size - 1 : size;
    int before = atomic_fetch_add(&node->shared->pins, 1);
    if (limit > 0 && before >= limit) {
        (void)atomic_fetch_sub(&node->shared->pins, 1);
        return false;
    }
    client->session->pinned_in = pool_shared_ref(node->shared);
    client->session->pinned_us = loop_now_us(client->set->loop);
    return true;
}

/* The pool counts these pins of the client, and no others. */
static void count_pins(struct client *client, unsigned pins) {
    struct session *session = client->session;
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (session->counted & 1u << i) client->pool->pinned[i]--;
        if (pins & 1u << i) client->pool->pinned[i]++;
    }
    session->counted = pins;
}

static void give_pin(struct client *client) {
    struct session *session = client->session;
    if (session->pinned_us == 0) return;
    count_pins(client, 0);
    session->pinned_us = 0;
    (void)atomic_fetch_sub(&session->pinned_in->pins, 1);
    permits_put(client->set->pools->permits, &session->pinned_in);
}

/* Whether the client keeps its server, or has ended since too many do. */
static bool is_kept(struct client *client) {
    struct session *session = client->session;
    if (session->pins == 0) {
        give_pin(client);
        return false;
    }
    if (session->pinned_us == 0 && !take_pin(client)) {
        client_fail(client, FAULT_PIN_LIMIT, pins_text(session->pins));
    } else {
        count_pins(client, session->pins);
    }
    return true;
}

void remember_schema(struct client *client) {
    if (client->session == NULL || !client->session->changes_schema) return;
    client->session->changes_schema = false;
    client->session->checks_traces = true;
    statements_schema_changed(client->pool->database->hash);
}

enum remember_end remember_end(struct client *client) {
    struct session *session = client->session;
    struct server *server = client->borrower.server;
    struct buf query = {0};
    bool ran_functions = buf_length(&session->ran) + buf_length(&session->programs) > 0;
    bool has_traces_to_judge = ran_functions || session->runs_hidden || session->checks_traces;
    if (has_traces_to_judge && session->tries == 0) judge_functions(client);
    if (session_question(session, &query)) {
        if (session->asks_traces) {
            buf_append_text(&query, " UNION ALL ");
            traces_append_question(&query);
        }
        remember_send(client, buf_content(&query), OWN_QUERY_QUESTION);
        client->is_syncing = true;
        buf_release(&query);
        return REMEMBER_ASKS;
    }
    if (session_has_question(session)) {
        server_close(server, "the state of the session could not be read");
        return REMEMBER_ASKS;
    }
    session->is_context_open = false;
    if (session->is_unknown || session->seen != 0) session_learned(session, server, client->id);
    if (session->pins == 1u << PIN_LISTEN) {
        enum subscribe_step step = subscribe_step(client);
        if (step == SUBSCRIBE_ASKS) return REMEMBER_ASKS;
        if (step == SUBSCRIBE_WAITS) return REMEMBER_KEEPS;
    }
    return is_kept(client) ? REMEMBER_KEEPS : REMEMBER_FREE;
}

bool remember_left(struct client *client) {
    struct session *session = client->session;
    if (session == NULL) return false;
    struct server *server = client->borrower.server;
    bool is_dirty = session->pins != 0 || pins_to_ask(session->seen, 0) != 0 ||
                    buf_length(&session->prepared) > 0 || buf_length(&session->ran) > 0;
    remember_schema(client);
    give_pin(client);
    session_left(session, server, client->id);
    return is_dirty;
}

void remember_lost(struct client *client) {
    if (client->session == NULL) return;
    remember_schema(client);
    give_pin(client);
    subscribe_lost(client);
    session_lost(client->session);
}

void remember_row(struct client *client, struct bytes body, bool is_whole) {
    if (is_whole && (names_row(client, body) || take_trace(client, body))) return;
    if (!is_whole || !session_row(client->session, body)) client->session->has_failed = true;
}

void remember_answered(struct client *client) {
    struct session *session = client->session;
    client->is_syncing = false;
    client->is_release_due = true; /* or asks once more */
    session->is_asking = false;
    bool has_channels = session->asked & 1u << PIN_LISTEN;
    bool had_traces = session->asks_traces;
    if (had_traces) end_traces(client);
    if (!session->has_failed) {
        session_learned(session, client->borrower.server, client->id);
        if (has_channels) subscribe_learned(client);
        unsigned hidden = had_traces ? hidden_kinds(client) : 0;
        if (hidden != 0) session_note_hidden(session, hidden); /* it may have run before */
        apply_traces(client);
    }
    buf_release(&session->channels);
    session->has_failed = false;
}
