/*
 * Errands; see pool/errand.h.
 *
 *      [Parse NAME, Bind, Execute, Close NAME,]     ->  [1 2 C 3]   where a client has left the
 *                                                       session as another user
 *      Parse NAME, Bind, Execute, Close NAME, Sync  ->  1 2 D* C 3 Z
 *
 * The statement has a name of its own: the unnamed one on a server may be a client's, and the
 * session layer counts on it. It is closed at once; a server on which that went wrong is closed
 * with it. Whatever does not belong into such an answer ends the errand and the server.
 */
#include "pool/errand.h"

#include "core/log.h"
#include "core/memory.h"
#include "pool/pool.h"
#include "proto/message.h"

#include <stdio.h>

#define STATEMENT_NAME    "weir_errand"
#define MESSAGE_BYTES_MAX 131072u /* of one message of the answer */

/* ---- the question */

static size_t start(struct buf *out, char type) {
    buf_append_u8(out, (unsigned char)type);
    size_t place = buf_length(out);
    buf_append_u32(out, 0);
    return place;
}

static void finish(struct buf *out, size_t place) {
    bytes_put_u32(out->memory + out->start + place, (uint32_t)(buf_length(out) - place));
}

/* Asks for a statement without a Sync; `argument` may be NULL: it has none. */
static void write_statement(struct buf *out, const char *text, const struct bytes *argument) {
    size_t place = start(out, 'P');
    buf_append_text0(out, STATEMENT_NAME);
    buf_append_text0(out, text);
    buf_append_u16(out, 0); /* the server finds out the parameter's type */
    finish(out, place);
    place = start(out, 'B');
    buf_append_text0(out, "");
    buf_append_text0(out, STATEMENT_NAME);
    buf_append_u16(out, 0); /* all in text format */
    buf_append_u16(out, argument == NULL ? 0 : 1);
    if (argument != NULL) {
        buf_append_u32(out, (uint32_t)argument->len);
        buf_append_bytes(out, *argument);
    }
    buf_append_u16(out, 0);
    finish(out, place);
    place = start(out, 'E');
    buf_append_text0(out, "");
    buf_append_u32(out, 0);
    finish(out, place);
    place = start(out, 'C');
    buf_append_u8(out, 'S');
    buf_append_text0(out, STATEMENT_NAME);
    finish(out, place);
}

static void write_question(struct buf *out, const char *text, struct bytes argument) {
    write_statement(out, text, &argument);
    finish(out, start(out, 'S'));
}

/* ---- its end */

static void release(struct errand *errand) {
    if (errand->input.memory != NULL) memory_wipe(errand->input.memory, errand->input.size);
    buf_release(&errand->input);
    buf_release(&errand->question);
}

static void tell(struct errand *errand, const struct errand_end *end) {
    release(errand);
    errand->ops.done(errand->ops.owner, end);
}

static void close_server(struct errand *errand, const char *reason) {
    struct server *server = errand->borrower.server;
    errand->borrower.server = NULL;
    server->borrower = NULL;
    server_close(server, "%s", reason);
}

static void fail(struct errand *errand, const char *reason) {
    close_server(errand, reason);
    tell(errand, &(struct errand_end){.is_answered = false});
}

/* ---- the answer */

/* Reads a DataRow; false if it is not well-formed. */
static bool read_row(struct bytes body, struct bytes values[ERRAND_COLUMNS_MAX], unsigned *count) {
    *count = bytes_get_u16(body.at);
    body = bytes_of(body.at + 2, body.len - 2);
    for (unsigned i = 0; i < *count; i++) {
        struct bytes value;
        if (!message_column(&body, &value)) return false;
        if (i < ERRAND_COLUMNS_MAX) values[i] = value;
    }
    return true;
}

static bool on_row(struct errand *errand, struct bytes body) {
    struct bytes values[ERRAND_COLUMNS_MAX] = {{0}};
    unsigned count;
    char reason[ERRAND_REASON_SIZE] = "unknown pkt from server";
    bool is_right =
        read_row(body, values, &count) && errand->ops.row(errand->ops.owner, values, count, reason);
    if (is_right) return true;
    log_line(LOG_LEVEL_ERROR, "S: error in %s: %s", errand->doing, reason);
    fail(errand, reason);
    return false;
}

static void on_error(struct errand *errand, struct bytes body) {
    struct fault_fields fields;
    char reason[ERRAND_REASON_SIZE];
    (void)fault_read(body, &fields);
    log_line(LOG_LEVEL_ERROR, "S: error in %s: %.*s: %.*s", errand->doing, (int)fields.severity.len,
             fields.severity.at, (int)fields.message.len, fields.message.at);
    (void)snprintf(reason, sizeof reason, "error response from %s", errand->doing);
    fail(errand, reason);
}

static void on_ready(struct errand *errand, char status, bool is_last) {
    struct server *server = errand->borrower.server;
    if (status != 'I') {
        fail(errand, "a transaction was left open");
        return;
    }
    server->transaction = 'I';
    if (is_last)
        pool_return(server);
    else
        close_server(errand, "idle server got dirty"); /* nobody reads what is in hand */
    tell(errand, &(struct errand_end){.is_answered = true});
}

static void on_status(struct server *server, struct bytes body) {
    struct bytes name, value, rest;
    if (message_text(body, &name, &rest) && message_text(rest, &value, &rest))
        (void)server_note_parameter(server, name, value);
}

/* One whole message; false once the errand is over, and may be gone. */
static bool on_message(struct errand *errand, struct bytes message, bool is_last) {
    const struct message_row *row = &message_replies[(unsigned char)message.at[0]];
    struct bytes body = bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES);
    if (row->name == NULL || message.len - 1 < row->length_min) {
        fail(errand, "unknown pkt from server");
        return false;
    }
    switch (row->kind) {
    case REPLY_PARSED:
    case REPLY_BOUND:
    case REPLY_CLOSED:
    case REPLY_COMPLETE:
    case REPLY_EMPTY:
    case REPLY_NOTICE:
    case REPLY_NOTIFICATION:
        return true;
    case REPLY_STATUS:
        on_status(errand->borrower.server, body);
        return true;
    case REPLY_DATA:
        if (message.at[0] != 'D') break;
        return on_row(errand, body);
    case REPLY_ERROR:
        on_error(errand, body);
        return false;
    case REPLY_READY:
        on_ready(errand, body.at[0], is_last);
        return false;
    default:
        break;
    }
    fail(errand, "unexpected response from login query");
    return false;
}

static void on_bytes(struct borrower *borrower, const char *at, size_t len) {
    struct errand *errand = LIST_OWNER(borrower, struct errand, borrower);
    /* The input is taken along: whoever ends the errand may free it. */
    struct buf input = errand->input;
    errand->input = (struct buf){0};
    buf_append(&input, at, len);
    for (;;) {
        struct bytes rest = buf_content(&input);
        uint32_t length = rest.len < MESSAGE_HEAD_BYTES ? 0 : message_length(rest.at);
        bool is_bad = rest.len >= MESSAGE_HEAD_BYTES && (length == 0 || length > MESSAGE_BYTES_MAX);
        if (is_bad) {
            fail(errand, "unknown pkt from server");
            break;
        }
        if (length == 0 || rest.len < length) {
            errand->input = input;
            return;
        }
        if (!on_message(errand, bytes_of(rest.at, length), rest.len == length)) break;
        buf_consume(&input, length);
    }
    memory_wipe(input.memory, input.size);
    buf_release(&input);
}

/* ---- the other news of a borrower */

/* Whether a client has left the session as another user, with whose rights it must not be asked. */
static bool is_another_user(const struct server *server) {
    const struct text *user = server->parameters[TRACKED_SESSION_AUTHORIZATION];
    return user != NULL && strcmp(user->at, server->pool->user) != 0;
}

/* What clients have set must have no part in it. */
static void write_resets(struct buf *out, struct server *server) {
    const struct pool_ops *ops = &server->pool->set->ops;
    if (ops->server_scrub(ops->owner, server)) {
        write_statement(out, "RESET ROLE", NULL);
        write_statement(out, "RESET SESSION AUTHORIZATION", NULL);
        write_statement(out, "RESET ALL", NULL);
    } else if (is_another_user(server)) {
        write_statement(out, "RESET SESSION AUTHORIZATION", NULL);
    }
}

static void ask(struct errand *errand, struct server *server) {
    struct buf out = {0};
    stream_start(&server->stream);
    server->doing = errand->doing;
    write_resets(&out, server);
    buf_append_bytes(&out, buf_content(&errand->question));
    stream_write_bytes(&server->stream, buf_content(&out));
    memory_wipe(out.memory, out.size);
    buf_release(&out);
}

static void on_lent(struct borrower *borrower, struct server *server) {
    ask(LIST_OWNER(borrower, struct errand, borrower), server);
}

static void on_drained(struct borrower *borrower) {
    (void)borrower;
}

static void on_lost(struct borrower *borrower, struct server *server, const char *reason) {
    (void)server;
    (void)reason;
    tell(LIST_OWNER(borrower, struct errand, borrower), &(struct errand_end){.is_answered = false});
}

static void on_refused(struct borrower *borrower, enum fault_id fault, const char *argument,
                       const struct fault_fields *fields) {
    struct errand_end end = {.fault = fault, .argument = argument, .fields = fields};
    tell(LIST_OWNER(borrower, struct errand, borrower), &end);
}

static void on_rejudge(struct borrower *borrower) {
    (void)borrower; /* it is for the primary, whichever that is */
}

static const struct borrower_ops errand_borrower_ops = {.lent = on_lent,
                                                        .bytes = on_bytes,
                                                        .drained = on_drained,
                                                        .lost = on_lost,
                                                        .refused = on_refused,
                                                        .rejudge = on_rejudge};

void errand_begin(struct errand *errand, struct pool *pool, const char *text,
                  struct bytes argument) {
    errand->borrower.ops = &errand_borrower_ops;
    errand->borrower.route = &errand->route;
    errand->borrower.request = &errand->request;
    errand->route = (struct route){.target = ROUTE_PRIMARY, .node = -1};
    write_question(&errand->question, text, argument);
    struct server *server = pool_borrow(pool, &errand->borrower);
    if (server != NULL) ask(errand, server);
}

void errand_give_up(struct errand *errand) {
    if (errand_is_asking(errand))
        close_server(errand, "client disconnect while server was not ready");
    else if (errand->borrower.pool != NULL)
        pool_leave(&errand->borrower);
    release(errand);
}
