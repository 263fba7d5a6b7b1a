/*
 * What a client sends, message by message; see client/request.h.
 *
 * One row for each kind of request names its handler. Most messages pass by their heads; those that
 * speak of prepared statements are handled in prepare.c.
 */
#include "client/request.h"

#include "client/names.h"
#include "client/remember.h"
#include "client/repair.h"
#include "client/subscribe.h"
#include "client/vacate.h"
#include "core/log.h"
#include "proto/startup.h"

/* A longer Query is no DEALLOCATE: names have at most 63 bytes. */
#define DEALLOCATE_BYTES_MAX 256u

/* What a client may have in hand unhandled before it is told that this is too much, unless it is a
 * Parse, whose statement is kept whole for other servers and whose bound is max_packet_size. */
#define GATHER_MAX (16u << 20)

/* ---- passing on */

/* Passes the message on as it is, now or as it comes. */
size_t request_pass(const struct request *request) {
    size_t n = request->rest.len < request->length ? request->rest.len : request->length;
    outgoing_add(request->out, request->rest.at, n);
    request->client->request_skip = (uint32_t)(request->length - n);
    return n;
}

struct pipeline_entry *request_owe(const struct request *request, enum message_request kind,
                                   enum pipeline_action action) {
    struct client *client = request->client;
    if (client->query_us == 0) client->query_us = loop_now_us(client->set->loop);
    if (client->transaction_us == 0) client->transaction_us = client->query_us;
    return pipeline_push(&client->pipeline, kind, action, NULL);
}

void request_copy_head(const struct request *request, char type, size_t body_len) {
    char head[MESSAGE_HEAD_BYTES];
    head[0] = type;
    bytes_put_u32(head + 1, (uint32_t)(body_len + 4));
    outgoing_copy(request->out, head, sizeof head);
}

void request_copy_text0(const struct request *request, const char *text) {
    outgoing_copy(request->out, text, strlen(text) + 1);
}

/* The statement must not run: what fails in its place is sent. 0: the message is not whole yet. */
static size_t refuse(const struct request *request, enum fault_id why, const char *what) {
    if (!request->is_whole) return 0;
    bool is_query = request->rest.at[0] == 'Q';
    remember_refuse(request->client, request->out, is_query, why, what);
    if (is_query) {
        request_owe(request, REQUEST_QUERY, PIPELINE_FORWARD)->number = request->client->copies;
    } else {
        (void)request_owe(request, REQUEST_PARSE, PIPELINE_SWALLOW);
        (void)request_owe(request, REQUEST_BIND, PIPELINE_SWALLOW);
        (void)request_owe(request, REQUEST_EXECUTE, PIPELINE_FORWARD);
    }
    return request->length;
}

size_t request_refuse(const struct request *request, const char *what) {
    return refuse(request, request->client->session->refusal, what);
}

/* A text that has to do with weir.route: one that sets it wrongly is refused, before one that shows
 * it the server is given the value. 0: it goes on. */
size_t request_heed_hint(const struct request *request, struct bytes text) {
    struct client *client = request->client;
    char value[HINT_VALUE_SIZE];
    if (client->hint.is_wrong && hint_refuses(client, text, value)) {
        client->hint.is_wrong = false;
        return refuse(request, FAULT_ROUTE_VALUE, value);
    }
    if (client->unsynced <= 1 && hint_is_shown(client, text)) hint_bring(client);
    return 0;
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
    if (request_must_judge_late(client)) judge_text(client, text_of(request, request->body));
    if (client->hint.is_wrong || hint_may_be_shown(request->body)) {
        size_t taken = request_heed_hint(request, text_of(request, request->body));
        if (taken > 0) return taken;
    }
    if (client->session != NULL) {
        if (!request->is_whole && request->length <= client->set->gather_bytes) return 0;
        const char *refused = remember_text(client, text_of(request, request->body));
        if (refused != NULL) return request_refuse(request, refused);
        if (!names_are_ready(request)) return 0;
        prepare_forget_unnamed(request);
    } else if (client->pool->starts_servers) {
        vacate_text(client, text_of(request, request->body));
    }
    request_owe(request, REQUEST_QUERY, PIPELINE_FORWARD)->number = request->client->copies;
    return request_pass(request);
}

static size_t on_function(const struct request *request) {
    if (request_must_judge_late(request->client)) judge_text(request->client, bytes_of(NULL, 0));
    if (request->client->session != NULL) session_note_unknown(request->client->session);
    (void)request_owe(request, REQUEST_FUNCTION, PIPELINE_FORWARD);
    return request_pass(request);
}

static size_t on_execute(const struct request *request) {
    struct client *client = request->client;
    client->unsynced++;
    request_owe(request, REQUEST_EXECUTE, PIPELINE_FORWARD)->number = client->copies;
    return request_pass(request);
}

/* A Sync between the beginning of a COPY IN and its first data is not answered. */
static size_t on_sync(const struct request *request) {
    struct client *client = request->client;
    if (client->is_copying && client->copies == client->copy_began) return request_pass(request);
    client->unsynced = 0;
    client->effects_synced = client->effects;
    client->has_unnamed = client->is_unnamed_noted = client->is_failed = false;
    request_owe(request, REQUEST_SYNC, PIPELINE_FORWARD)->number = client->copies;
    return request_pass(request);
}

static size_t on_copy(const struct request *request) {
    request->client->copies++;
    if (request->rest.at[0] != 'd') request->client->is_copying = false;
    return request_pass(request);
}

static size_t on_terminate(const struct request *request) {
    client_close(request->client, "client close request");
    return request->length;
}

static size_t (*const handlers[REQUEST_KINDS])(const struct request *request) = {
    [REQUEST_QUERY] = on_query,         [REQUEST_PARSE] = prepare_parse,
    [REQUEST_BIND] = prepare_bind,      [REQUEST_DESCRIBE] = prepare_describe,
    [REQUEST_EXECUTE] = on_execute,     [REQUEST_CLOSE] = prepare_close,
    [REQUEST_SYNC] = on_sync,           [REQUEST_FLUSH] = request_pass,
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
        message_write_ready_for_query(&out, client->transaction);
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

/* With routing each group has a target of its own: the next one waits for the end of this one,
 * unless a transaction is known to be open on the primary. One on a replica may be ending, and
 * what follows it may be a write. */
static bool must_wait(struct client *client) {
    if (pipeline_is_full(&client->pipeline)) return true;
    if (client->session != NULL && subscribe_must_wait(client)) return true;
    if (!client->is_routed || client->group_left > 0) return false;
    bool is_open = client->transaction != 'I' && client->route.target != ROUTE_REPLICA;
    return !is_open && client->unsynced == 0 && !pipeline_is_empty(&client->pipeline) &&
           !client->is_copying && !begin_is_last(client);
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
    if (client->is_failed && !ends_group)
        return request_pass(&request); /* nothing will answer it */
    if (client->begin.state == BEGIN_HELD) begin_send(&request);
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
        size_t answered = prepare_deallocate_here(client, rest);
        if (answered > 0) return answered;
    }
    if (client->borrower.server == NULL) {
        size_t taken = without_server(client, rest);
        if (taken > 0 || client->state == CLIENT_CLOSED) return taken;
        enum begin_verdict verdict = begin_take(client, rest, &taken);
        if (verdict == BEGIN_TAKEN && taken == 0) return without_server(client, rest);
        if (verdict != BEGIN_PASS) return taken;
        if (judge_group(client, rest) == JUDGE_MORE) return 0;
        if (client->session != NULL && rest.at[0] != 'Q') repair_begin(client, rest);
        if (!relay_borrow(client)) return 0;
        outgoing_begin(out, client->set, &client->borrower.server->stream);
    }
    client->is_stuck = client->borrower.server->state == SERVER_CLOSED || must_wait(client);
    if (client->is_stuck) return 0;
    if (client->transaction != 'I' && client->route.target == ROUTE_REPLICA) {
        enum begin_verdict verdict = begin_move(client, rest);
        client->is_stuck = verdict == BEGIN_TAKEN;
        if (verdict != BEGIN_PASS) return 0;
    }
    return handle(client, rest, out);
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
