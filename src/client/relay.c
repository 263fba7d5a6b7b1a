/*
 * Lending a server to a client, and every way in which that ends; see client/relay.h.
 *
 *      request in hand -> judge -> borrow -+-> bound: parameters brought in line, request sent
 *                                          `-> WAITING: the request is kept aside
 *      ReadyForQuery 'I', nothing owed -> released: the server goes back, kept requests go on
 *
 * A client that leaves hands its server over to be cleaned. A server that is lost ends its client
 * too, unless the client was outside a transaction and every reply that it is owed can be an
 * error: then it goes on.
 */
#include "client/relay.h"

#include "client/effects.h"
#include "client/parts.h"
#include "client/remember.h"
#include "client/subscribe.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "proto/startup.h"

/* COPY data that was cut, of which more than this is missing, costs the server. */
#define COPY_REST_MAX (64u << 10)

/* ---- floors */

void relay_raise_floor(struct client *client) {
    if (!client->may_write || !judge_is_on(client)) return;
    const struct client_reach *reach = &client->reach;
    uint64_t hash = client->pool->database->hash;
    if (reach->changes_schema) freshness_schema_changed(hash);
    uint32_t now =
        reach->is_global ? freshness_raise_everywhere() : freshness_raise(hash, &reach->writes);
    if (reach->writes.is_all || reach->writes.count > 0) client->own_floor = now;
}

/* ---- binding */

/* A session of its own: whatever is notified there, it is this client's. */
static void note_session(struct client *client, struct server *server) {
    struct listeners *listeners = client->set->pools->listeners;
    if (client->pool->starts_servers && listeners != NULL)
        listeners_note_sender(listeners, server, bytes_get_u32(client->key));
}

static void bind_server(struct client *client, struct server *server) {
    client_become(client, CLIENT_ACTIVE);
    client->doing = "being served";
    note_session(client, server);
    client->reply.skip = 0;
    client->reply.is_dropping = false;
    client->query_us = loop_now_us(client->set->loop);
    if (client->begin.state == BEGIN_NONE) client->transaction_us = client->query_us;
    if (client->is_routed)
        client->sent_incarnation =
            node_incarnation(cluster_node_const(server->node->cluster, server->host));
    if (server->memory == NULL) server->memory = server_memory_new(server);
    remember_lent(client);
}

void relay_bind_own(struct client *client, struct server *server) {
    client_become(client, CLIENT_ACTIVE);
    client->doing = "being served";
    note_session(client, server);
    if (server->memory == NULL) server->memory = server_memory_new(server);
}

void relay_bind_check(struct client *client, struct server *server) {
    bind_server(client, server);
    client->is_syncing = !pipeline_is_empty(&client->pipeline);
}

void relay_resume_later(struct client *client) {
    struct client_set *set = client->set;
    if (!link_is_listed(&client->resume)) list_append(&set->released, &client->resume);
    loop_at_end(set->loop, &set->hook);
}

/* Whether what the client has sent cannot be handled before something else has happened. */
static bool has_to_wait(const struct client *client) {
    return client->state == CLIENT_WAITING || client->is_syncing || client->is_stuck;
}

void relay_resume(struct client *client) {
    if (client->state != CLIENT_IDLE && client->state != CLIENT_ACTIVE) return;
    if (client->is_syncing) return;
    if (client->is_greeting_due) {
        client_login_checked(client);
        return;
    }
    struct buf kept = client->kept;
    client->kept = (struct buf){0};
    client->is_stuck = false;
    size_t taken = request_process(client, buf_content(&kept));
    if (client->state == CLIENT_CLOSED) {
        buf_release(&kept);
        return;
    }
    buf_consume(&kept, taken);
    if (buf_length(&kept) == 0) {
        client_spare_give(client->set, &kept);
        if (client->state != CLIENT_WAITING) stream_start(&client->stream);
        return;
    }
    CHECK(client->kept.memory == NULL);
    client->kept = kept;
    if (has_to_wait(client)) {
        stream_stop(&client->stream);
    } else {
        stream_start(&client->stream);
    }
}

static void keep(struct client *client, const char *at, size_t len) {
    if (client->kept.memory == NULL) client->kept = client_spare_take(client->set);
    buf_append(&client->kept, at, len);
}

void relay_request(struct client *client, const char *at, size_t len) {
    stats_add(&client->pool->stats.bytes_received, len);
    if (has_to_wait(client) || link_is_listed(&client->resume)) {
        keep(client, at, len);
        stream_stop(&client->stream); /* relay_resume starts it again */
        return;
    }
    if (buf_length(&client->kept) > 0) {
        keep(client, at, len);
        relay_resume(client);
        return;
    }
    size_t taken = request_process(client, bytes_of(at, len));
    if (client->state == CLIENT_CLOSED) return;
    if (taken == len) return;
    keep(client, at + taken, len - taken);
    if (client->is_stuck) stream_stop(&client->stream);
}

static void on_made(struct borrower *borrower, struct server *server, struct bytes greeting) {
    (void)server;
    client_login_own(LIST_OWNER(borrower, struct client, borrower), greeting);
}

static void on_lent(struct borrower *borrower, struct server *server) {
    struct client *client = LIST_OWNER(borrower, struct client, borrower);
    if (client->state == CLIENT_WELCOME && server != NULL) {
        client_login_check(client, server);
        return;
    }
    if (client->state == CLIENT_WELCOME) {
        borrower->wants_greeting_only = false;
        client_login_welcome(client);
        return;
    }
    bind_server(client, server);
    relay_resume(client);
}

bool relay_borrow(struct client *client) {
    struct server *server = pool_borrow(client->pool, &client->borrower);
    client->request_us = loop_now_us(client->set->loop);
    if (server == NULL) {
        client_become(client, CLIENT_WAITING);
        client->is_wait_told = false;
        client->doing = "waiting for a server";
        return false;
    }
    bind_server(client, server);
    return !client->is_syncing;
}

/* ---- release */

static void note_stick(struct client *client, const struct server *server) {
    struct freshness_need *need = &client->route_request.need;
    if (client->route.target != ROUTE_REPLICA ||
        client->pool->consistency == READ_CONSISTENCY_EVENTUAL)
        return;
    need->stick_node = (int)server->host;
    need->stick_incarnation = client->sent_incarnation;
    need->stick_round = freshness_now();
}

/* The server will be read on from where the client's reading stopped. */
static void hand_over_reading(struct client *client, struct server *server) {
    struct reply_cursor *reply = &client->reply;
    server->skip = reply->skip;
    reply->skip = 0;
    if (buf_length(&reply->gather) > 0) {
        buf_append_bytes(&server->gather, buf_content(&reply->gather));
        buf_release(&reply->gather);
    }
}

void relay_release(struct client *client) {
    struct server *server = client->borrower.server;
    bool is_again = client->retry.is_discarding;
    if (client->is_routed && !is_again) note_stick(client, server);
    if (client->is_routed && !is_again)
        reach_answered(client, client->route.target == ROUTE_REPLICA);
    client->is_cancelled = false;
    client->may_write = client->may_end = false;
    server->may_have_written = false;
    client_become(client, CLIENT_IDLE);
    client->doing = "idle";
    client->query_us = 0;
    if (client->begin.state == BEGIN_NONE) client->transaction_us = 0;
    if (client->session != NULL) subscribe_deliver(client);
    stream_start(&server->stream);
    hand_over_reading(client, server);
    pool_return(server);
    if (is_again) {
        retry_send(client);
    } else {
        retry_end(client);
        client->is_forced_primary = false;
    }
    if (buf_length(&client->kept) > 0) {
        relay_resume_later(client);
    } else {
        stream_start(&client->stream);
    }
}

/* The client keeps its server, for what its session has there. */
static void stay(struct client *client) {
    client->may_write = client->may_end = false;
    client->is_cancelled = client->is_forced_primary = false;
    client->borrower.server->may_have_written = false;
    client->transaction_us = client->query_us = 0;
    client->doing = "idle";
    retry_end(client);
    subscribe_deliver(client);
    if (buf_length(&client->kept) > 0) {
        relay_resume_later(client);
    } else {
        stream_start(&client->stream);
    }
}

void relay_end(struct client *client) {
    const struct session *session = client->session;
    /* What a standby has refused changed nothing there, and it may refuse the question too. */
    bool is_refused = client->retry.is_discarding && !client->retry.is_repair;
    bool is_untouched = session == NULL || is_refused || session_is_untouched(session);
    enum remember_end end = is_untouched ? REMEMBER_FREE : remember_end(client);
    if (end == REMEMBER_FREE) relay_release(client);
    if (end == REMEMBER_KEEPS && client->state != CLIENT_CLOSED) stay(client);
}

/* ---- news about the server at hand */

static void on_server_bytes(struct borrower *borrower, const char *at, size_t len) {
    reply_process(LIST_OWNER(borrower, struct client, borrower), at, len);
}

static void on_server_drained(struct borrower *borrower) {
    struct client *client = LIST_OWNER(borrower, struct client, borrower);
    if (!has_to_wait(client)) stream_start(&client->stream);
    if (buf_length(&client->kept) > 0) relay_resume_later(client);
}

/* A routed client loses its transaction: it learns whether to repeat it, from the server's last
 * words where there are any. */
static void write_transaction_loss(struct client *client, const char *reason, struct buf *out) {
    bool may_be_over = client->may_end && client->may_write &&
                       !pipeline_is_empty(&client->pipeline) &&
                       buf_length(&client->last_words) == 0;
    enum fault_id id = may_be_over ? FAULT_SERVER_LOST_UNRESOLVED : FAULT_TRANSACTION_LOST;
    const struct fault *fault = fault_of(client->has_ended ? FAULT_SERVER_LOST : id);
    struct fault_fields fields = {.message = bytes_of_text(reason)};
    if (buf_length(&client->last_words) > 0)
        (void)fault_read(buf_content(&client->last_words), &fields);
    fields.severity = bytes_of_text("FATAL");
    if (fields.sqlstate.len == 0) fields.sqlstate = bytes_of_text(fault->sqlstate);
    if (fields.detail.len == 0) fields.detail = bytes_of_text(fault->detail);
    if (fields.hint.len == 0) fields.hint = bytes_of_text(fault->hint);
    fault_write_custom(out, &fields);
}

/* Appends the server's last words, or our own, as an error of the severity that fits. A client that
 * has to be closed is told as PgBouncer tells it, in a server's words as they are; one that goes on
 * learns whether to repeat. */
static void write_loss(struct client *client, const char *reason, bool is_kept, struct buf *out) {
    struct fault_fields fields;
    if (!is_kept && judge_is_on(client) && client->transaction != 'I') {
        write_transaction_loss(client, reason, out);
        return;
    }
    if (!is_kept && buf_length(&client->last_words) > 0) {
        buf_append_u8(out, 'E');
        buf_append_u32(out, (uint32_t)(4 + buf_length(&client->last_words)));
        buf_append_bytes(out, buf_content(&client->last_words));
        return;
    }
    const struct fault *fault =
        fault_of(client->may_write ? FAULT_SERVER_LOST_UNRESOLVED : FAULT_SERVER_LOST);
    fields = (struct fault_fields){.sqlstate = bytes_of_text(is_kept ? fault->sqlstate : "08P01"),
                                   .message = bytes_of_text(is_kept ? fault->text : reason),
                                   .detail = bytes_of_text(fault->detail),
                                   .hint = bytes_of_text(fault->hint)};
    if (buf_length(&client->last_words) > 0)
        (void)fault_read(buf_content(&client->last_words), &fields);
    fields.severity = bytes_of_text(is_kept ? "ERROR" : "FATAL");
    fault_write_custom(out, &fields);
}

/* Whether every reply that is owed can be an error, so that the client can go on. */
static bool can_go_on(const struct client *client) {
    unsigned pins = client->session == NULL ? 0 : client->session->pins;
    if (pins == 1u << PIN_LISTEN && !subscribe_needs_server(client)) pins = 0;
    bool is_pinned = pins != 0;
    if (client_keeps_server(client) || is_pinned || client->transaction != 'I') return false;
    if (pipeline_is_empty(&client->pipeline) || pipeline_lacks_sync(&client->pipeline))
        return false;
    bool is_in_message = client->is_syncing || client->reply.skip > 0 || client->request_skip > 0 ||
                         client->group_left > 0 || client->is_copying;
    return !is_in_message;
}

static void forget_replies(struct client *client) {
    while (!pipeline_is_empty(&client->pipeline)) {
        struct pipeline_entry entry = pipeline_pop(&client->pipeline);
        effects_undo(client, &entry);
    }
    client->is_syncing = client->is_failed = false;
    client->reply.skip = 0;
    buf_release(&client->reply.gather);
}

static void end_with_loss(struct client *client, const char *reason) {
    struct buf out = {0};
    write_loss(client, reason, false, &out);
    client->set->faults[FAULT_COUNTER_SERVER]++;
    client_close_with(client, reason, buf_content(&out));
    buf_release(&out);
}

/* Queries of our own whose answers are owed; they come first. */
static unsigned count_own(struct pipeline *pipeline) {
    unsigned count = 0;
    for (; count < pipeline->count; count++) {
        const struct pipeline_entry *entry = pipeline_at(pipeline, count);
        if (entry->action != PIPELINE_SWALLOW || entry->request != REQUEST_QUERY) break;
    }
    return count;
}

static void on_lost(struct borrower *borrower, struct server *server, const char *reason) {
    struct client *client = LIST_OWNER(borrower, struct client, borrower);
    enum fault_id own = server->close_fault;
    relay_raise_floor(client);
    bool is_again = own == FAULT_NONE && retry_takes_loss(client, server);
    bool goes_on = is_again || can_go_on(client);
    remember_lost(client);
    if (own != FAULT_NONE) {
        client_fail(client, own, NULL);
        return;
    }
    if (!goes_on) {
        end_with_loss(client, reason);
        return;
    }
    struct buf out = {0};
    unsigned owed = client->pipeline.owed_ready - count_own(&client->pipeline);
    for (unsigned i = 0; i < owed && !is_again; i++) {
        write_loss(client, reason, true, &out);
        message_write_ready_for_query(&out, 'I');
    }
    forget_replies(client);
    buf_release(&client->last_words);
    client->may_write = client->may_end = client->is_cancelled = false;
    client_become(client, CLIENT_IDLE);
    if (is_again) {
        retry_send(client);
    } else {
        retry_end(client);
        client->is_forced_primary = false;
        if (client->set->pools->config->log_pooler_errors)
            client_log(client, LOG_LEVEL_WARNING, "pooler error: %s", reason);
        log_flush();
        stream_write_bytes(&client->stream, buf_content(&out));
    }
    buf_release(&out);
    stream_start(&client->stream);
    if (buf_length(&client->kept) > 0) relay_resume_later(client);
}

/* A waiter that nobody can serve. */
static void on_refused(struct borrower *borrower, enum fault_id fault, const char *argument,
                       const struct fault_fields *fields) {
    client_refuse(LIST_OWNER(borrower, struct client, borrower), fault, argument, fields);
}

static void on_rejudge(struct borrower *borrower) {
    struct client *client = LIST_OWNER(borrower, struct client, borrower);
    if (judge_is_on(client)) judge_again(client);
}

static void on_warn(struct borrower *borrower, const char *text) {
    client_log(LIST_OWNER(borrower, struct client, borrower), LOG_LEVEL_WARNING, "%s", text);
}

const struct borrower_ops relay_borrower_ops = {
    .lent = on_lent,
    .made = on_made,
    .bytes = on_server_bytes,
    .drained = on_server_drained,
    .lost = on_lost,
    .refused = on_refused,
    .warn = on_warn,
    .rejudge = on_rejudge,
};

/* ---- the client's own end */

/* What is owed behind the head, and is no Sync. */
static enum server_copy last_owed(struct pipeline *pipeline) {
    if (pipeline_is_empty(pipeline)) return COPY_NONE;
    const struct pipeline_entry *last = pipeline_at(pipeline, pipeline->count - 1);
    return last->request == REQUEST_QUERY ? COPY_SIMPLE : COPY_EXTENDED;
}

/* Fails a COPY IN that is the last thing the client has asked for, so that the server can be kept;
 * of COPY data that was cut in the middle the rest is made up, since nothing of it will stay. False
 * if there is none. `owed` counts the ReadyForQuery that will come. */
static bool end_copy(struct client *client, unsigned *owed) {
    struct stream *stream = &client->borrower.server->stream;
    bool is_alone = client->is_copying && client->pipeline.count == 1;
    if (!is_alone || client->request_skip > COPY_REST_MAX) return false;
    if (client->request_skip > 0) {
        struct buf rest = {0};
        for (uint32_t left = client->request_skip; left > 0; left--) buf_append_u8(&rest, 'x');
        stream_write_bytes(stream, buf_content(&rest));
        buf_release(&rest);
        client->request_skip = 0;
    }
    server_end_copy(client->borrower.server, last_owed(&client->pipeline));
    *owed = 1;
    return true;
}

/* Nobody reads how what is owed ends: which statements and settings the server then has is not
 * known. */
static void note_unread(struct client *client, struct server *server) {
    struct server_memory *memory = server->memory;
    if (client->effects > 0) server->reset_owed |= RESET_STATEMENTS;
    server->copy = last_owed(&client->pipeline);
    if (client->session == NULL || count_own(&client->pipeline) == 0) return;
    memory->is_unknown = true;
    memory->unknown_by = 0;
}

void relay_leave(struct client *client) {
    pool_leave(&client->borrower);
    if (link_is_listed(&client->resume)) list_remove(&client->set->released, &client->resume);
    struct server *server = client->borrower.server;
    if (server == NULL) {
        forget_replies(client);
        return;
    }
    relay_raise_floor(client);
    bool is_discard_wanted = remember_left(client);
    /* What the pipeline counts on has to be sent, or its answers would be awaited for ever. */
    if (client->sending != NULL) outgoing_flush(client->sending);
    client->sending = NULL;
    if (client->may_write) server->may_have_written = true;
    if (server->state == SERVER_CLOSED) {
        forget_replies(client);
        server->borrower = NULL;
        client->borrower.server = NULL;
        return;
    }
    if (server->is_own) {
        forget_replies(client);
        server->borrower = NULL;
        client->borrower.server = NULL;
        server_close(server, "replication client was closed");
        return;
    }
    unsigned owed = client->pipeline.owed_ready;
    bool is_copy_ended = end_copy(client, &owed);
    bool is_within = client->request_skip > 0 || client->is_copying;
    if (!is_copy_ended && (is_within || stream_queued(&server->stream) > 0)) {
        forget_replies(client);
        server->borrower = NULL;
        client->borrower.server = NULL;
        server_close(server, is_within
                                 ? "client disconnect while server was not ready"
                                 : "client disconnect before everything was sent to the server");
        return;
    }
    bool lacks_sync = pipeline_lacks_sync(&client->pipeline) || client->unsynced > 0;
    if (lacks_sync && !is_copy_ended) {
        static const char sync[] = {'S', 0, 0, 0, 4};
        stream_write_bytes(&server->stream, bytes_of(sync, sizeof sync));
        owed++;
    }
    hand_over_reading(client, server);
    note_unread(client, server);
    forget_replies(client);
    if (is_discard_wanted) server->reset_owed = RESET_ALL;
    if (server->transaction == 'I' && owed == 0 && server->cancels == 0) {
        pool_return(server);
    } else {
        pool_abandon(server, owed, true);
    }
}

/* ---- cancel */

void relay_answer_error(struct client *client, enum fault_id fault, const char *argument) {
    struct buf out = {0};
    fault_write(&out, fault, argument);
    client->set->faults[fault_of(fault)->counter]++;
    stream_write_bytes(&client->stream, buf_content(&out));
    buf_release(&out);
}

void relay_cancel_waiting(struct client *client) {
    pool_leave(&client->borrower);
    client_become(client, CLIENT_IDLE);
    retry_end(client);
    client->group_left = 0;
    client->may_write = false;
    begin_cancelled(client);
    relay_answer_error(client, FAULT_CANCELED, NULL);
    client->is_skipping = true;
    relay_resume_later(client);
}
