/*
 * One cancel request to PostgreSQL; see pool/cancel.h and the manual, section 55.2.8.
 *
 *      dial -> [TLS] -> send 16 bytes -> wait until the other side closes -> server_cancel_ended
 *
 * PostgreSQL closes the connection after it has sent the signal, so the end of the connection is
 * the earliest moment at which no signal can be under way any more. A request that hangs is given
 * up after cancel_wait_timeout; the server is then closed rather than lent, see
 * server_cancel_ended.
 */
#include "pool/cancel.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/endpoint.h"
#include "pool/pool.h"
#include "proto/startup.h"

struct cancel {
    struct stream stream;
    struct opening opening;
    bool is_sent;
    struct endpoint_dial *dial;
    struct loop_timer timer;
    struct loop_hook end;
    struct link link; /* in the set's cancels */
    struct server *server;
};

static void cancel_free(struct loop_hook *hook) {
    memory_free(LIST_OWNER(hook, struct cancel, end));
}

static void finish(struct cancel *cancel, const char *trouble) {
    struct server *server = cancel->server;
    if (server == NULL) return;
    cancel->server = NULL;
    list_remove(&server->pool->set->cancels, &cancel->link);
    if (trouble != NULL) {
        log_line(LOG_LEVEL_WARNING, "S-0x%x: cancel request failed: %s", server->id, trouble);
        server->is_close_needed = true;
    }
    endpoint_dial_close(&cancel->dial);
    opening_release(&cancel->opening);
    stream_close(&cancel->stream);
    loop_timer_stop(&cancel->timer);
    loop_at_end(server->pool->set->loop, &cancel->end);
    server_cancel_ended(server);
}

static void send_request(struct cancel *cancel) {
    const struct server *server = cancel->server;
    struct buf packet = {0};
    cancel->is_sent = true;
    message_write_cancel_request(&packet, server->backend_pid, server->backend_secret);
    stream_write_bytes(&cancel->stream, buf_content(&packet));
    memory_wipe(packet.memory, packet.size);
    buf_release(&packet);
}

static void judge_opening(struct cancel *cancel, enum opening_result result) {
    if (result == OPENING_DONE) send_request(cancel);
    if (result == OPENING_FAILED) finish(cancel, cancel->opening.trouble);
}

static void on_secured(struct stream *stream) {
    judge_opening(LIST_OWNER(stream, struct cancel, stream), OPENING_DONE);
}

/* To the request itself PostgreSQL answers nothing. */
static void on_bytes(struct stream *stream, const char *at, size_t len) {
    struct cancel *cancel = LIST_OWNER(stream, struct cancel, stream);
    if (!cancel->is_sent)
        judge_opening(cancel, opening_bytes(&cancel->opening, stream, bytes_of(at, len)));
}

static void on_ended(struct stream *stream, int error) {
    struct cancel *cancel = LIST_OWNER(stream, struct cancel, stream);
    /* A reset is an end too: PostgreSQL closes without reading further. */
    finish(cancel, cancel->is_sent ? NULL : stream_trouble(stream, error));
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
        finish(cancel, error);
        return;
    }
    struct server *server = cancel->server;
    stream_open(&cancel->stream, server->pool->set->loop, fd, &cancel_ops);
    judge_opening(cancel, server_begin_opening(server, &cancel->opening, &cancel->stream));
}

static void on_timer(struct loop_timer *timer) {
    finish(LIST_OWNER(timer, struct cancel, timer), "cancel_wait_timeout");
}

void cancel_start(struct server *server) {
    struct cancel *cancel = memory_new(sizeof *cancel);
    struct pool_set *set = server->pool->set;
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    cancel->server = server;
    cancel->end.run = cancel_free;
    cancel->timer.run = on_timer;
    server->cancels++;
    list_append(&set->cancels, &cancel->link);
    uint64_t limit_us = set->config->cancel_wait_timeout_us;
    if (limit_us > 0) loop_timer_start(set->loop, &cancel->timer, limit_us / US_PER_MS, 0);
    struct endpoint_target target = {node->host, node->port, &set->socket_options};
    cancel->dial = endpoint_dial(set->loop, &target, on_dialled, cancel);
}

void cancel_close_all(struct pool_set *set) {
    LIST_EACH_SAFE (&set->cancels, l, following) {
        finish(LIST_OWNER(l, struct cancel, link), "the process ends");
    }
}
