/*
 * What a client's statements leave in its session, with session_state = track; see client/parts.h.
 *
 *      statement -> traits: the names that it may set    transaction ends -> question to the server
 *      answer -> the client's settings                    next server -> the gap is closed ahead
 *
 * Only who sets something pays: a question at the end of that transaction, and later what differs
 * where the client meets a server that was set otherwise.
 */
#include "client/parts.h"
#include "core/log.h"

#define SESSION_FLAGS                                                                              \
    (TRAITS_SETS | TRAITS_SETS_ALIKE | TRAITS_RESETS_ALL | TRAITS_RUNS_UNKNOWN | TRAITS_ANYTHING)

void remember_text(struct client *client, struct bytes text) {
    struct client_set *set = client->set;
    if (text.at == NULL || set->traits == NULL) {
        session_note_unknown(client->session);
        return;
    }
    struct traits_context context = client_context(client);
    const struct traits *traits = traits_of(set->traits, text, &context, loop_now_us(set->loop));
    if (traits->flags & SESSION_FLAGS)
        session_note(client->session, traits, client->borrower.server);
}

void remember_statement(struct client *client, const struct statement *statement) {
    struct bytes text, rest;
    if (statement == NULL || !message_text(statement->body, &text, &rest)) {
        session_note_unknown(client->session);
    } else if (statement->traits.flags & SESSION_FLAGS) {
        remember_text(client, text); /* the names are not kept with the statement */
    }
}

/* Sends a Query of our own, whose answers the client does not see. */
static void send_query(struct client *client, struct bytes text, enum own_query kind) {
    struct buf out = {0};
    buf_append_u8(&out, 'Q');
    buf_append_u32(&out, (uint32_t)(4 + text.len + 1));
    buf_append_bytes(&out, text);
    buf_append_u8(&out, 0);
    stream_write_bytes(&client->borrower.server->stream, buf_content(&out));
    buf_release(&out);
    pipeline_push(&client->pipeline, REQUEST_QUERY, PIPELINE_SWALLOW, NULL)->number = kind;
}

/* ---- a server that was just lent */

static void follow_setting(struct client *client) {
    struct client_set *set = client->set;
    if (!client->pool->tracks_sessions) {
        session_free(&client->session, set->texts);
    } else if (client->session == NULL) {
        client->session = session_new();
    }
}

/* A scrubbed server is given what its database's connect_query sets at each login. */
static void send_scrub(struct client *client) {
    const struct pool *pool = client->pool;
    const struct config_database *entry =
        config_database(client->set->pools->config, bytes_of_text(pool->database->name));
    send_query(client, bytes_of_text(SETTINGS_SCRUB), OWN_QUERY_GAP);
    if (entry != NULL && entry->connect_query != NULL)
        send_query(client, bytes_of_text(entry->connect_query), OWN_QUERY_CONNECT);
}

void remember_lent(struct client *client) {
    struct server *server = client->borrower.server;
    struct settings_gap gap;
    if (client->session != NULL || client->pool->tracks_sessions) follow_setting(client);
    if (client->session == NULL) {
        gap = (struct settings_gap){0};
        gap.step =
            parameters_difference(&client->parameters, client->set->pools, server, &gap.query);
    } else {
        settings_find_gap(&gap, &client->parameters, client->session, client->id, server);
    }
    if (gap.is_scrubbed) send_scrub(client);
    if (buf_length(&gap.query) > 0) {
        if (log_is_on(LOG_LEVEL_DEBUG))
            server_log(server, LOG_LEVEL_DEBUG, "varcache_apply: %s", buf_text(&gap.query));
        send_query(client, buf_content(&gap.query), OWN_QUERY_GAP);
    }
    client->is_syncing = gap.step == PARAMETERS_FIRST;
    buf_release(&gap.query);
}

/* ---- the end of a transaction */

bool remember_end(struct client *client) {
    struct session *session = client->session;
    struct server *server = client->borrower.server;
    struct buf query = {0};
    if (session == NULL) return false;
    if (!session_question(session, &query)) {
        if (buf_length(&session->touched) > 0) {
            server_close(server, "settings of the session could not be read");
            return true;
        }
        if (session->is_unknown) session_learned(session, server, client->id);
        return false;
    }
    send_query(client, buf_content(&query), OWN_QUERY_QUESTION);
    client->is_syncing = true;
    buf_release(&query);
    return true;
}

void remember_row(struct client *client, struct bytes body, bool is_whole) {
    if (!is_whole || !session_row(client->session, body)) client->session->has_failed = true;
}

void remember_answered(struct client *client) {
    struct session *session = client->session;
    client->is_syncing = false;
    client->is_release_due = true; /* or asks once more */
    session->is_asking = false;
    if (!session->has_failed) session_learned(session, client->borrower.server, client->id);
    session->has_failed = false;
}
