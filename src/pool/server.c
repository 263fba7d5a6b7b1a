/*
 * The life of a server connection; see pool/server.h.
 *
 * Bytes are dispatched by state. What comes while nobody has borrowed the server is read here:
 * in IDLE only parameter changes and notifications may come; in CLEANING the answers to
 * what the client that left had asked, and to ROLLBACK and the reset query:
 *
 *      CLEANING: owed answers -> [cancel requests ended] -> [ROLLBACK] -> [reset query] -> IDLE
 *
 * or, where it has rested for server_check_delay, the answer to the check query.
 *
 * A COPY IN that the departed client had begun is failed, where it is the last thing owed.
 */
#include "pool/server.h"

#include "cluster/probe.h"
#include "cluster/report.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/tls.h"
#include "pool/cancel.h"
#include "pool/own.h"
#include "pool/place.h"
#include "pool/pool.h"
#include "proto/message.h"

#include <stdio.h>

#define OWN_MESSAGE_BYTES 65536u /* of a message that is read whole here */

#define RESTING (1u << SERVER_IDLE | 1u << SERVER_USED)

static const struct {
    const char *text;
    unsigned next; /* set of states */
} states[SERVER_STATE_COUNT] = {
    [SERVER_CONNECTING] = {"new", 1u << SERVER_LOGIN | 1u << SERVER_CLOSED},
    [SERVER_LOGIN] = {"new", 1u << SERVER_IDLE | 1u << SERVER_LENT | 1u << SERVER_LISTENING |
                                 1u << SERVER_CLOSED},
    [SERVER_IDLE] = {"idle",
                     RESTING | 1u << SERVER_LENT | 1u << SERVER_CLEANING | 1u << SERVER_CLOSED},
    [SERVER_USED] = {"used", RESTING | 1u << SERVER_CLEANING | 1u << SERVER_CLOSED},
    [SERVER_LENT] = {"active", RESTING | 1u << SERVER_CLEANING | 1u << SERVER_CLOSED},
    [SERVER_LISTENING] = {"listen", 1u << SERVER_CLOSED},
    [SERVER_CLEANING] = {"tested", RESTING | 1u << SERVER_CLOSED},
    [SERVER_CLOSED] = {"closed", 0},
};

void server_log(const struct server *server, int level, const char *format, ...) {
    char text[SERVER_REASON_BYTES + 256];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    char peer[ENDPOINT_TEXT_SIZE];
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    place_text(&server->stream, node->host, node->port, peer);
    log_line((enum log_level)level, "S-0x%x: %s/%s@%s %s", server->id, server->pool->database->name,
             server->pool->user, peer, text);
}

static bool is_resting(enum server_state state) {
    return (1u << state & RESTING) != 0;
}

void server_become(struct server *server, enum server_state state) {
    CHECK(states[server->state].next & 1u << state);
    struct pool_node *node = server->node;
    struct pool_set *set = server->pool->set;
    struct node *place = cluster_node(node->cluster, server->host);
    if (server->state == SERVER_LENT) node_add_active(place, -1);
    if (state == SERVER_LENT) {
        node_add_active(place, 1);
        server->request_us = loop_now_us(set->loop);
    }
    bool was_resting = is_resting(server->state);
    if (was_resting) atomic_fetch_sub(&node->shared->idle[set->worker], 1);
    if (is_resting(state)) atomic_fetch_add(&node->shared->idle[set->worker], 1);
    list_remove(&node->servers[server->state], &server->link);
    server->state = state;
    /* A server that is to be checked has rested since its last use. */
    if (!was_resting || !is_resting(state)) server->state_us = loop_now_us(set->loop);
    if (state == SERVER_CLOSED) {
        list_append(&set->closed, &server->link);
    } else if (is_resting(state) && !set->is_round_robin) {
        list_prepend(&node->servers[state], &server->link);
    } else {
        list_append(&node->servers[state], &server->link);
    }
}

const char *server_state_text(const struct server *server) {
    if (server->cancels > 0) return server->state == SERVER_LENT ? "active" : "being_canceled";
    return states[server->state].text;
}

/* What happened may be the first sign that the roles of the nodes change. */
static void suspect(const struct server *server) {
    if (cluster_is_probed(server->node->cluster)) probe_suspect(server->node->cluster);
}

/* A standby was promoted, or a primary has become one. */
static void compare_role(const struct server *server, struct bytes in_hot_standby) {
    const struct cluster *cluster = server->node->cluster;
    bool is_standby = bytes_equal_text(in_hot_standby, "on");
    if (is_standby == (cluster_primary(cluster) == (int)server->host)) suspect(server);
}

int server_note_parameter(struct server *server, struct bytes name, struct bytes value) {
    struct pool_set *set = server->pool->set;
    if (bytes_equal_text(name, "in_hot_standby")) compare_role(server, value);
    for (unsigned i = 0; i < set->tracked_count; i++) {
        if (!bytes_equal_nocase(name, set->tracked[i])) continue;
        text_unref(set->texts, &server->parameters[i]);
        server->parameters[i] = text_get(set->texts, value);
        return (int)i;
    }
    return -1;
}

/* ---- bytes that come while nobody has borrowed it */

static void send_query(struct server *server, const char *text) {
    struct buf out = {0};
    buf_append_u8(&out, 'Q');
    buf_append_u32(&out, (uint32_t)(4 + strlen(text) + 1));
    buf_append_text0(&out, text);
    stream_write_bytes(&server->stream, buf_content(&out));
    buf_release(&out);
    server->owed_ready++;
}

static void raise_floor(struct server *server) {
    if (!server->may_have_written) return;
    (void)freshness_raise(server->pool->database->hash, NULL);
    freshness_schema_changed(server->pool->database->hash);
}

/* Takes the next reset out of those that are owed. */
static const char *next_reset(struct server *server) {
    unsigned owed = server->reset_owed;
    server->reset_owed = owed & RESET_BY_SETTING;
    if (owed & RESET_ALL) return "DISCARD ALL";
    if (owed & RESET_STATEMENTS) return "DEALLOCATE ALL";
    server->reset_owed = 0;
    return server->pool->set->config->server_reset_query;
}

/* The next step of cleaning, once nothing is owed. */
static void clean_on(struct server *server) {
    if (server->owed_ready > 0) return;
    if (server->cancels > 0) {
        cancel_query_ended(server); /* the last one to end comes back here */
        return;
    }
    server->errand = ERRAND_NONE;
    if (server->transaction != 'I') {
        server->errand = ERRAND_ROLLBACK;
        server->doing = "rolling back for a client that left";
        send_query(server, "ROLLBACK");
    } else if (server->reset_owed != 0) {
        server->errand = ERRAND_RESET;
        server->doing = "running the reset query";
        send_query(server, next_reset(server));
    } else {
        raise_floor(server);
        server->may_have_written = false;
        server->doing = "idle";
        pool_server_ready(server);
    }
}

static void on_own_ready(struct server *server, char status) {
    if (!message_is_status(status)) {
        server_close(server, "bad pkt header");
        return;
    }
    server->transaction = status;
    raise_floor(server);
    if (server->owed_ready == 0) {
        server_close(server, "idle server got dirty");
        return;
    }
    server->owed_ready--;
    clean_on(server);
}

static void on_own_error(struct server *server, struct bytes body) {
    struct fault_fields fields;
    (void)fault_read(body, &fields);
    bool is_fatal = !bytes_equal_text(fields.severity, "ERROR");
    raise_floor(server);
    /* A reset query that fails leaves a connection in an unknown condition. Whoever answers the
     * check query with an error is alive. */
    bool is_reset = server->errand == ERRAND_RESET;
    if (is_fatal || is_reset)
        server_close(server, "%.*s", (int)fields.message.len, fields.message.at);
}

/* It rests, and says what it was not asked: nobody knows what happened to its session. A fatal
 * error comes before the end of the connection. */
static void on_dirt(struct server *server, char type, struct bytes body) {
    struct fault_fields fields = {0};
    if (type == 'E' || type == 'N') (void)fault_read(body, &fields);
    bool is_end =
        bytes_equal_text(fields.severity, "FATAL") || bytes_equal_text(fields.severity, "PANIC");
    server_log(server, LOG_LEVEL_WARNING, "got packet '%c' from server when not linked%s%.*s", type,
               fields.message.len > 0 ? ": " : "", (int)fields.message.len, fields.message.at);
    raise_floor(server);
    server_close(server, is_end ? "server conn crashed?" : "idle server got dirty");
}

static void on_own_complete(struct server *server, struct bytes tag) {
    const struct pool_ops *ops = &server->pool->set->ops;
    if (bytes_equal_text(tag, "DISCARD ALL")) ops->server_forget(ops->owner, server);
    if (bytes_equal_text(tag, "DEALLOCATE ALL")) ops->server_forget_statements(ops->owner, server);
}

/* PostgreSQL passes over a Sync within a COPY, so that one asked for in the extended protocol needs
 * another behind its failure. */
void server_end_copy(struct server *server, enum server_copy copy) {
    static const char fail[] = "f\0\0\0\20client left";
    static const char sync[] = {'S', 0, 0, 0, 4};
    CHECK(copy != COPY_NONE);
    server->copy = COPY_NONE;
    stream_write_bytes(&server->stream, bytes_of(fail, sizeof fail));
    if (copy == COPY_EXTENDED) stream_write_bytes(&server->stream, bytes_of(sync, sizeof sync));
}

/* A message of which the head, and as far as the row wants it the body, is there. */
static void on_own_message(struct server *server, char type, struct bytes body) {
    struct bytes name, value, rest;
    unsigned kind = message_replies[(unsigned char)type].kind;
    if (is_resting(server->state) && kind != REPLY_STATUS && kind != REPLY_NOTIFICATION) {
        on_dirt(server, type, body);
        return;
    }
    switch (kind) {
    case REPLY_READY:
        on_own_ready(server, body.at[0]);
        return;
    case REPLY_ERROR:
        on_own_error(server, body);
        return;
    case REPLY_STATUS:
        if (message_text(body, &name, &rest) && message_text(rest, &value, &rest))
            (void)server_note_parameter(server, name, value);
        return;
    case REPLY_COMPLETE:
        on_own_complete(server, bytes_of(body.at, body.len - 1));
        break;
    case REPLY_NOTICE:
    case REPLY_NOTIFICATION:
        return;
    case REPLY_COPY_IN:
        if (server->owed_ready == 1 && server->copy != COPY_NONE) {
            server_end_copy(server, server->copy);
            return;
        }
        server_close(server, "client disconnect while server was not ready");
        return;
    case REPLY_COPY_BOTH:
        server_close(server, "client disconnect while server was not ready");
        return;
    default:
        break;
    }
}

static bool is_gathered(const struct message_row *row, uint32_t length) {
    return row->is_whole && length <= OWN_MESSAGE_BYTES;
}

/* Takes what it can use of `at`; returns how much. */
static size_t own_step(struct server *server, const char *at, size_t len) {
    if (server->skip > 0) {
        size_t n = len < server->skip ? len : server->skip;
        server->skip -= (uint32_t)n;
        return n;
    }
    size_t have = buf_length(&server->gather);
    size_t want = MESSAGE_HEAD_BYTES;
    if (have >= MESSAGE_HEAD_BYTES) want = message_length(buf_content(&server->gather).at);
    size_t n = len < want - have ? len : want - have;
    buf_append(&server->gather, at, n);
    have += n;
    if (have < want) return n;
    const char *head = buf_content(&server->gather).at;
    uint32_t length = message_length(head);
    const struct message_row *row = &message_replies[(unsigned char)head[0]];
    bool has_length = length > 0 && length - 1 >= row->length_min && length - 1 <= row->length_max;
    if (row->name == NULL || !has_length) {
        bool is_unknown = row->name == NULL && length > 0;
        server_close(server, is_unknown ? "unknown pkt" : "bad pkt header");
        return n;
    }
    if (have < length && is_gathered(row, length)) return n; /* the body is still to come */
    if (!is_gathered(row, length)) server->skip = length - MESSAGE_HEAD_BYTES;
    struct buf message = server->gather;
    server->gather = (struct buf){0};
    head = buf_content(&message).at;
    on_own_message(server, head[0], bytes_of(head + MESSAGE_HEAD_BYTES, have - MESSAGE_HEAD_BYTES));
    buf_release(&message);
    return n;
}

static void own_bytes(struct server *server, const char *at, size_t len) {
    while (len > 0 && (is_resting(server->state) || server->state == SERVER_CLEANING)) {
        size_t n = own_step(server, at, len);
        at += n;
        len -= n;
    }
}

/* ---- the stream's news */

static void judge_opening(struct server *server, enum opening_result result) {
    if (result == OPENING_FAILED) server_connect_failed(server, server->opening.trouble);
    if (result != OPENING_DONE) return;
    server->doing = "logging in";
    server->login = server_login_begin(server);
}

static void on_secured(struct stream *stream) {
    struct server *server = LIST_OWNER(stream, struct server, stream);
    struct buf text = {0};
    if (server->pool->set->config->log_connections) {
        tls_describe(stream_tls(stream), &text);
        server_log(server, LOG_LEVEL_LOG, "SSL established: %s", buf_text(&text));
    }
    buf_release(&text);
    judge_opening(server, OPENING_DONE);
}

static void handshake_failed(struct server *server, int error) {
    log_line(LOG_LEVEL_WARNING, "TLS handshake error: %s", stream_trouble(&server->stream, error));
    server_connect_failed(server, "TLS startup failed");
}

static void on_bytes(struct stream *stream, const char *at, size_t len) {
    struct server *server = LIST_OWNER(stream, struct server, stream);
    if (server->state == SERVER_LENT || server->state == SERVER_LISTENING) {
        server->borrower->ops->bytes(server->borrower, at, len);
    } else if (server->state == SERVER_LOGIN && server->login != NULL) {
        server_login_bytes(server, at, len);
    } else if (server->state == SERVER_LOGIN) {
        judge_opening(server, opening_bytes(&server->opening, stream, bytes_of(at, len)));
    } else {
        own_bytes(server, at, len);
    }
}

static void on_drained(struct stream *stream) {
    struct server *server = LIST_OWNER(stream, struct server, stream);
    if (server->state == SERVER_LENT) server->borrower->ops->drained(server->borrower);
}

static void on_ended(struct stream *stream, int error) {
    struct server *server = LIST_OWNER(stream, struct server, stream);
    if (server->state == SERVER_LOGIN && server->login == NULL && stream_tls(stream) != NULL) {
        handshake_failed(server, error);
        return;
    }
    if (error != 0)
        server_log(server, LOG_LEVEL_DEBUG, "%s", stream_trouble(&server->stream, error));
    suspect(server);
    if (server->state == SERVER_LOGIN) {
        server_connect_failed(server, "server conn crashed?");
        return;
    }
    if (server->state == SERVER_LENT && !server->is_dismissed)
        node_add_error(server->node->cluster, server->host);
    server_close(server, "server conn crashed?");
}

static const struct stream_ops server_stream_ops = {
    .on_bytes = on_bytes, .on_drained = on_drained, .on_ended = on_ended, .on_secured = on_secured};

/* ---- beginning and end */

enum opening_result server_begin_opening(const struct server *server, struct opening *opening,
                                         struct stream *stream) {
    const struct pool_set *set = server->pool->set;
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    const struct config_database *entry =
        config_database(set->config, bytes_of_text(server->pool->database->name));
    return opening_begin(opening, stream, set->transport, node->host,
                         entry == NULL ? SSLNEGOTIATION_UNSET : entry->sslnegotiation);
}

static void on_dialled(void *owner, int fd, const char *error) {
    struct server *server = owner;
    server->dial = NULL;
    if (fd < 0) {
        server_connect_failed(server, error);
        return;
    }
    struct pool_set *set = server->pool->set;
    stream_open(&server->stream, set->loop, fd, &server_stream_ops);
    server_become(server, SERVER_LOGIN);
    server->doing = "opening the connection";
    if (set->config->log_connections) {
        char origin[ENDPOINT_TEXT_SIZE];
        place_origin_text(&server->stream, origin);
        server_log(server, LOG_LEVEL_LOG, "new connection to server%s", origin);
    }
    judge_opening(server, server_begin_opening(server, &server->opening, &server->stream));
}

/* A server of a node, in its first state. */
static struct server *make(struct pool *pool, struct pool_node *node, enum server_state state) {
    struct server *server = memory_new(sizeof *server);
    struct pool_set *set = pool->set;
    server->pool = pool;
    server->node = node;
    server->host = node->index;
    server->id = connection_next_id();
    map_add(&set->by_id, &server->by_id, bytes_of((const char *)&server->id, sizeof server->id));
    server->generation = atomic_load(&pool->database->generation);
    server->reconnects = atomic_load(&pool->database->reconnects);
    server->transaction = 'I';
    server->connected_us = server->state_us = loop_now_us(set->loop);
    server->connected_wall_us = clock_wall_us();
    server->state = state;
    list_append(&node->servers[state], &server->link);
    node->servers_count++;
    return server;
}

struct server *server_open(struct pool *pool, struct pool_node *node) {
    struct pool_set *set = pool->set;
    struct server *server = make(pool, node, SERVER_CONNECTING);
    server->doing = "connecting";
    if (!cluster_is_probed(node->cluster)) {
        unsigned count = (unsigned)cluster_count(node->cluster);
        server->host =
            pool->is_balanced ? (set->worker + pool->host++) % count : pool->host % count;
    }
    bool takes_turns = !cluster_is_probed(node->cluster);
    const struct node *place = cluster_node_const(node->cluster, server->host);
    struct node_report report = {.address = ""};
    if (!takes_turns) node_report_get(node->cluster, server->host, &report);
    const char *host = report.address[0] == '\0' ? place->host : report.address; /* the probe's */
    struct endpoint_target target = {host, place->port, &set->socket_options, takes_turns};
    server->dial = endpoint_dial(set->loop, &target, on_dialled, server);
    return server;
}

struct server *server_adopt(struct pool *pool, struct pool_node *node, unsigned host, int fd) {
    struct server *server = make(pool, node, SERVER_LOGIN);
    server->host = host;
    stream_open(&server->stream, pool->set->loop, fd, &server_stream_ops);
    return server;
}

void server_login_done(struct server *server, struct bytes greeting) {
    if (server->is_own) {
        own_made(server, greeting);
        server_login_free(&server->login);
        return;
    }
    if (server->pool->starts_servers || server->reserved != NULL)
        server->greeting = text_get(server->pool->set->texts, greeting);
    if (server->start == NULL)
        pool_shared_greet(server->node->shared, greeting, server->reconnects);
    server_login_free(&server->login);
    server->login_round = freshness_now();
    if (cluster_is_probed(server->node->cluster)) probe_nudge(server->node->cluster);
    server->doing = "idle";
    stats_add(&server->node->stats.server_logins, 1);
    server->node->has_failed = false;
    if (server->reserved == NULL) {
        pool_server_ready(server);
    } else {
        own_made(server, bytes_of(server->greeting->at, server->greeting->len));
    }
}

void server_login_failed(struct server *server, const struct fault_fields *fields) {
    if (server->is_own || own_is_asked_too_much(server, fields)) {
        own_refused(server, fields);
    } else {
        log_line(LOG_LEVEL_WARNING, "server login failed: %.*s %.*s", (int)fields->severity.len,
                 fields->severity.at, (int)fields->message.len, fields->message.at);
        if (fault_is_of_node(fields)) node_add_error(server->node->cluster, server->host);
        pool_login_failed(server->node, fields, NULL);
    }
    if (bytes_starts_with(fields->sqlstate, "57P0")) suspect(server); /* it starts, or ends */
    server_close(server, "%.*s", (int)fields->message.len, fields->message.at);
}

void server_connect_failed(struct server *server, const char *error) {
    suspect(server);
    node_add_error(server->node->cluster, server->host);
    pool_login_failed(server->node, NULL, error);
    server_close(server, "%s", error);
}

void server_close(struct server *server, const char *reason, ...) {
    if (server->state == SERVER_CLOSED) return;
    va_list list;
    va_start(list, reason);
    (void)vsnprintf(server->close_reason, sizeof server->close_reason, reason, list);
    va_end(list);
    struct pool_set *set = server->pool->set;
    if (set->config->log_disconnections) {
        char text[SERVER_REASON_BYTES + 64];
        uint64_t age_us = loop_now_us(set->loop) - server->connected_us;
        (void)snprintf(text, sizeof text, "closing because: %s (age=%us)", server->close_reason,
                       (unsigned)(age_us / US_PER_S));
        server_log(server, LOG_LEVEL_LOG, "%s", text);
    }
    /* A borrower knows what it may have written: all of it would keep reads from the replicas just
     * when there may be no primary. */
    if (server->borrower == NULL) raise_floor(server);
    if (is_resting(server->state) || server->state == SERVER_LISTENING) {
        static const char terminate[] = {'X', 0, 0, 0, 4};
        stream_write_bytes(&server->stream, bytes_of(terminate, sizeof terminate));
    }
    endpoint_dial_close(&server->dial);
    opening_release(&server->opening);
    stream_close(&server->stream);
    server_login_free(&server->login);
    map_remove(&set->by_id, &server->by_id);
    server_become(server, SERVER_CLOSED);
    if (server->cancels > 0 && server->close_fault == FAULT_NONE) cancel_query_ended(server);
    pool_server_closed(server);
}

void server_close_for(struct server *server, enum fault_id fault) {
    if (server->state == SERVER_CLOSED) return;
    server->close_fault = fault;
    server_close(server, "%s", fault_of(fault)->text);
}

void server_clean(struct server *server, unsigned owed_ready, bool is_cancel_wanted) {
    const struct config *config = server->pool->set->config;
    bool is_reset_wanted =
        server->pool->mode == POOL_MODE_SESSION || config->server_reset_query_always;
    server->borrower = NULL;
    server->owed_ready = owed_ready;
    server->is_checked = false;
    if (server->pool->starts_servers) server->reset_owed |= RESET_ALL;
    const char *reset = config->server_reset_query;
    bool is_done = server->reset_owed & RESET_ALL && strcmp(reset, "DISCARD ALL") == 0;
    if (is_reset_wanted && reset[0] != '\0' && !is_done) server->reset_owed |= RESET_BY_SETTING;
    server->doing = "finishing for a client that left";
    stream_start(&server->stream);
    server_become(server, SERVER_CLEANING);
    if (is_cancel_wanted && owed_ready > 0) cancel_start(server, (struct cancel_ticket){0});
    clean_on(server);
}

/* "<empty>" stands for a query without text, which costs the server least. */
static const char *check_query(const struct config *config) {
    return strcmp(config->server_check_query, "<empty>") == 0 ? "" : config->server_check_query;
}

void server_check(struct server *server) {
    server_become(server, SERVER_CLEANING);
    server->is_checked = true;
    server->errand = ERRAND_CHECK;
    server->doing = "running the check query";
    send_query(server, check_query(server->pool->set->config));
}

void server_cancel_ended(struct server *server) {
    CHECK(server->cancels > 0);
    server->cancels--;
    if (server->cancels > 0) return;
    if (server->state == SERVER_CLEANING) clean_on(server);
    if (server->state == SERVER_CLOSED)
        loop_at_end(server->pool->set->loop, &server->pool->set->hook);
}
