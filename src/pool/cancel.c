/*
 * Cancel requests; see pool/cancel.h and the manual, section 55.2.8.
 *
 *      QUEUED -> DIALLING, TLS -> SENT: 16 bytes -> the other side closes -> over
 *         `-----------`-> over: the query has ended, or cancel_wait_timeout
 *
 * PostgreSQL closes the connection after it has sent the signal, so the end of the connection is
 * the earliest moment at which no signal can be under way any more. If that does not come in
 * cancel_wait_timeout, the server is closed rather than lent, see server_cancel_ended.
 */
#include "pool/cancel.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/endpoint.h"
#include "net/tls.h"
#include "pool/place.h"
#include "pool/pool.h"
#include "proto/startup.h"

#include <stdio.h>

enum cancel_state { CANCEL_QUEUED, CANCEL_DIALLING, CANCEL_SENT, CANCEL_OVER };

struct cancel {
    struct stream stream;
    struct opening opening;
    struct endpoint_dial *dial;
    struct loop_timer timer;
    struct loop_hook end;
    struct link link; /* in the set's cancels, in order of arrival */
    struct pool_set *set;
    struct server *server; /* NULL: for a peer */
    unsigned peer_id;
    struct pool_shared *peer;   /* that all workers share of it: one permit */
    char key[CANCEL_KEY_BYTES]; /* for a peer */
    struct cancel_ticket ticket;
    enum cancel_state state;
    uint32_t id; /* 0 until it is dialled */
    int64_t dialled_wall_us;
};

static void serve_queued(struct pool_set *set);

void cancel_answer(struct pool_set *set, struct cancel_ticket ticket, const char *reason) {
    if (ticket.id != 0) set->ops.cancel_ended(set->ops.owner, ticket, reason);
}

/* Limits count over all workers. What a peer may have is a permit of its own. */
static bool take_room(struct cancel *cancel) {
    const struct pool_set *set = cancel->set;
    if (cancel->server != NULL) return permit_take_cancel(cancel->server->node->permit);
    const struct config_peer *peer = config_peer(set->config, cancel->peer_id);
    int size = peer == NULL ? 0 : config_peer_pool_size(set->config, peer);
    return permit_take_within(&cancel->peer->permits[0], size);
}

static void give_room(struct cancel *cancel) {
    if (cancel->server != NULL)
        permit_release_cancel(cancel->server->node->permit);
    else
        permit_release(&cancel->peer->permits[0]);
}

/* At the end of the turn: each that is over makes room for one that waits. */
static void leave(struct loop_hook *hook) {
    struct cancel *cancel = LIST_OWNER(hook, struct cancel, end);
    serve_queued(cancel->set);
    memory_free(cancel);
}

static struct cancel_view view_of(const struct cancel *cancel) {
    struct cancel_view view = {.server = cancel->server,
                               .stream = &cancel->stream,
                               .host = "",
                               .id = cancel->id,
                               .asked_by = cancel->ticket.id,
                               .dialled_wall_us = cancel->dialled_wall_us};
    const struct config_peer *peer = config_peer(cancel->set->config, cancel->peer_id);
    if (cancel->server != NULL) {
        const struct server *server = cancel->server;
        const struct node *node = cluster_node_const(server->node->cluster, server->host);
        view.host = node->host;
        view.port = node->port;
    } else if (peer != NULL) {
        view.host = peer->host;
        view.port = (unsigned)peer->port;
    }
    return view;
}

/* A line about the connection that carries the request: it is a server's, or a peer's. */
static void log_connection(const struct cancel *cancel, const char *text) {
    char place[ENDPOINT_TEXT_SIZE];
    struct cancel_view view = view_of(cancel);
    const struct server *server = cancel->server;
    place_text(&cancel->stream, view.host, view.port, place);
    if (server != NULL)
        log_line(LOG_LEVEL_LOG, "S-0x%x: %s/%s@%s %s", cancel->id, server->pool->database->name,
                 server->pool->user, place, text);
    else
        log_line(LOG_LEVEL_LOG, "S-0x%x: peer-%u@%s %s", cancel->id, cancel->peer_id, place, text);
}

static void log_close(const struct cancel *cancel, const char *reason) {
    if (cancel->id == 0 || !cancel->set->config->log_disconnections) return;
    char text[ENDPOINT_TEXT_SIZE + 64];
    uint64_t age_us = (uint64_t)(clock_wall_us() - cancel->dialled_wall_us);
    (void)snprintf(text, sizeof text, "closing because: %.*s (age=%us)", ENDPOINT_TEXT_SIZE, reason,
                   (unsigned)(age_us / US_PER_S));
    log_connection(cancel, text);
}

/* Tells the requester's worker where its request is. */
static void tell_news(const struct cancel *cancel) {
    const struct pool_set *set = cancel->set;
    if (cancel->ticket.id == 0) return;
    const struct server *server = cancel->server;
    set->ops.cancel_news(set->ops.owner, cancel->ticket,
                         server == NULL ? "" : server->pool->database->name, cancel->id);
}

/* The request is over: its connection ends for `reason`, its requester is told a literal. */
static void finish(struct cancel *cancel, const char *reason, const char *told) {
    if (cancel->state == CANCEL_OVER) return;
    struct pool_set *set = cancel->set;
    log_close(cancel, reason);
    if (cancel->state != CANCEL_QUEUED) give_room(cancel);
    if (cancel->peer != NULL) permits_put(set->permits, &cancel->peer);
    cancel->state = CANCEL_OVER;
    list_remove(&set->cancels, &cancel->link);
    endpoint_dial_close(&cancel->dial);
    opening_release(&cancel->opening);
    stream_close(&cancel->stream);
    loop_timer_stop(&cancel->timer);
    loop_at_end(set->loop, &cancel->end);
    cancel_answer(set, cancel->ticket, told);
    if (cancel->server != NULL) server_cancel_ended(cancel->server);
}

/* If it may have been sent and is not known to have arrived, the signal may come at any time: its
 * server must not be lent again. */
static void give_up(struct cancel *cancel, const char *reason) {
    bool is_in_doubt = cancel->server != NULL && cancel->state == CANCEL_SENT;
    if (is_in_doubt) cancel->server->is_close_needed = true;
    finish(cancel, reason, reason);
}

/* It could not be sent. */
static void fail(struct cancel *cancel, const char *trouble) {
    finish(cancel, trouble, "failed cancel request");
}

/* ---- the connection */

static void send_request(struct cancel *cancel) {
    const struct server *server = cancel->server;
    struct buf packet = {0};
    cancel->state = CANCEL_SENT;
    if (server != NULL) {
        message_write_cancel_request(&packet, server->backend_pid, server->backend_secret);
    } else {
        message_write_cancel_request(&packet, bytes_get_u32(cancel->key),
                                     bytes_get_u32(cancel->key + 4));
    }
    stream_write_bytes(&cancel->stream, buf_content(&packet));
    memory_wipe(packet.memory, packet.size);
    buf_release(&packet);
}

static void judge_opening(struct cancel *cancel, enum opening_result result) {
    if (result == OPENING_DONE) send_request(cancel);
    if (result == OPENING_FAILED) fail(cancel, cancel->opening.trouble);
}

static void on_secured(struct stream *stream) {
    judge_opening(LIST_OWNER(stream, struct cancel, stream), OPENING_DONE);
}

/* To the request itself nothing is answered. */
static void on_bytes(struct stream *stream, const char *at, size_t len) {
    struct cancel *cancel = LIST_OWNER(stream, struct cancel, stream);
    if (cancel->state == CANCEL_DIALLING && cancel->server != NULL)
        judge_opening(cancel, opening_bytes(&cancel->opening, stream, bytes_of(at, len)));
}

static void on_ended(struct stream *stream, int error) {
    struct cancel *cancel = LIST_OWNER(stream, struct cancel, stream);
    /* A reset is an end too: PostgreSQL closes without reading further. */
    if (cancel->state == CANCEL_SENT) {
        finish(cancel, "successfully sent cancel request", "successfully sent cancel request");
    } else if (stream_tls(stream) != NULL) {
        log_line(LOG_LEVEL_WARNING, "TLS handshake error: %s", stream_trouble(stream, error));
        fail(cancel, "TLS startup failed");
    } else {
        fail(cancel, "server conn crashed?");
    }
}

static void on_drained(struct stream *stream) {
    (void)stream;
}

static const struct stream_ops cancel_ops = {
    .on_bytes = on_bytes, .on_drained = on_drained, .on_ended = on_ended, .on_secured = on_secured};

static void on_dialled(void *owner, int fd, const char *error) {
    struct cancel *cancel = owner;
    cancel->dial = NULL;
    if (fd < 0) {
        fail(cancel, error);
        return;
    }
    struct server *server = cancel->server;
    stream_open(&cancel->stream, cancel->set->loop, fd, &cancel_ops);
    if (cancel->set->config->log_connections) {
        char origin[ENDPOINT_TEXT_SIZE];
        char text[ENDPOINT_TEXT_SIZE + 32];
        place_origin_text(&cancel->stream, origin);
        (void)snprintf(text, sizeof text, "new connection to server%s", origin);
        log_connection(cancel, text);
    }
    if (server == NULL) {
        send_request(cancel); /* peers speak without TLS */
    } else {
        judge_opening(cancel, server_begin_opening(server, &cancel->opening, &cancel->stream));
    }
}

static void on_timer(struct loop_timer *timer) {
    give_up(LIST_OWNER(timer, struct cancel, timer), "cancel_wait_timeout");
}

/* ---- room, and those that wait for it */

static bool is_of(const struct cancel *cancel, const struct pool *pool, unsigned peer_id) {
    if (cancel->server == NULL) return pool == NULL && cancel->peer_id == peer_id;
    return cancel->server->pool == pool;
}

struct cancel_count cancel_count(const struct pool_set *set, const struct pool *pool,
                                 unsigned peer_id) {
    struct cancel_count count = {0};
    LIST_EACH (&set->cancels, l) {
        const struct cancel *cancel = LIST_OWNER(l, struct cancel, link);
        if (!is_of(cancel, pool, peer_id)) continue;
        count.active += cancel->state != CANCEL_QUEUED;
        count.waiting += cancel->state == CANCEL_QUEUED;
    }
    return count;
}

void cancel_each(const struct pool_set *set,
                 void (*visit)(void *owner, const struct cancel_view *view), void *owner) {
    LIST_EACH (&set->cancels, l) {
        struct cancel_view view = view_of(LIST_OWNER(l, struct cancel, link));
        if (view.id != 0) visit(owner, &view);
    }
}

/* Where the server is. A name may have several addresses: its request goes to the one it is at. */
static void aim_at_server(const struct server *server, char address[ENDPOINT_TEXT_SIZE],
                          struct endpoint_target *target) {
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    int fd = stream_descriptor(&server->stream);
    unsigned port = 0;
    if (fd >= 0) endpoint_describe(fd, true, address, &port);
    target->host = port > 0 ? address : node->host;
    target->port = node->port;
}

static void dial(struct cancel *cancel) {
    struct pool_set *set = cancel->set;
    struct endpoint_target target = {.options = &set->socket_options};
    char address[ENDPOINT_TEXT_SIZE];
    if (cancel->server != NULL) {
        aim_at_server(cancel->server, address, &target);
    } else {
        const struct config_peer *peer = config_peer(set->config, cancel->peer_id);
        if (peer == NULL) {
            give_room(cancel);
            give_up(cancel, "could not find peer to forward request to");
            return;
        }
        target.host = peer->host;
        target.port = (uint16_t)peer->port;
    }
    cancel->state = CANCEL_DIALLING;
    cancel->id = connection_next_id();
    cancel->dialled_wall_us = clock_wall_us();
    tell_news(cancel);
    cancel->dial = endpoint_dial(set->loop, &target, on_dialled, cancel);
}

static void serve_queued(struct pool_set *set) {
    LIST_EACH_SAFE (&set->cancels, l, following) {
        struct cancel *cancel = LIST_OWNER(l, struct cancel, link);
        if (cancel->state == CANCEL_QUEUED && take_room(cancel)) dial(cancel);
    }
}

void cancel_tick(struct pool_set *set) {
    serve_queued(set);
}

static void enqueue(struct cancel *cancel) {
    struct pool_set *set = cancel->set;
    cancel->end.run = leave;
    cancel->timer.run = on_timer;
    cancel->state = CANCEL_QUEUED;
    list_append(&set->cancels, &cancel->link);
    uint64_t limit_us = set->config->cancel_wait_timeout_us;
    if (limit_us > 0) loop_timer_start(set->loop, &cancel->timer, limit_us / US_PER_MS, 0);
    if (take_room(cancel))
        dial(cancel);
    else
        tell_news(cancel);
}

void cancel_start(struct server *server, struct cancel_ticket ticket) {
    struct cancel *cancel = memory_new(sizeof *cancel);
    cancel->set = server->pool->set;
    cancel->server = server;
    cancel->ticket = ticket;
    server->cancels++;
    enqueue(cancel);
}

/* Keys of pools have a NUL in them, this has none. */
static struct pool_shared *peer_permit(struct pool_set *set, unsigned peer_id) {
    struct buf key = {0};
    buf_append_format(&key, "\001%u", peer_id);
    struct pool_shared *shared = permits_get(set->permits, buf_content(&key));
    buf_release(&key);
    return shared;
}

void cancel_forward(struct pool_set *set, unsigned peer_id, const char key[CANCEL_KEY_BYTES],
                    struct cancel_ticket ticket) {
    struct cancel *cancel = memory_new(sizeof *cancel);
    cancel->set = set;
    cancel->peer_id = peer_id;
    cancel->peer = peer_permit(set, peer_id);
    cancel->ticket = ticket;
    memcpy(cancel->key, key, sizeof cancel->key);
    enqueue(cancel);
}

/* The first in the list that is for this server and not sent, or NULL. */
static struct cancel *find_unsent(const struct server *server) {
    LIST_EACH (&server->pool->set->cancels, l) {
        struct cancel *cancel = LIST_OWNER(l, struct cancel, link);
        if (cancel->server == server && cancel->state != CANCEL_SENT) return cancel;
    }
    return NULL;
}

void cancel_query_ended(struct server *server) {
    struct cancel *cancel;
    /* Whoever ends may let a queued one begin, so each search starts anew. */
    while ((cancel = find_unsent(server)) != NULL)
        give_up(cancel, "not sending cancel request for client that is now idle");
}

void cancel_close_all(struct pool_set *set) {
    struct link *first;
    while ((first = list_first(&set->cancels)) != NULL) {
        struct cancel *cancel = LIST_OWNER(first, struct cancel, link);
        cancel->ticket.id = 0; /* requesters have gone before */
        give_up(cancel, "the process ends");
    }
}
