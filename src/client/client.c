/*
 * The life of a client, and the lists, timeouts and cancel keys of all clients of a worker; see
 * client/client.h.
 *
 * Each state has a list in the order of entering it, so that a timeout looks at heads only. What
 * is closed in a turn is freed at its end, when nothing refers to it any more.
 */
#include "client/client.h"

#include "client/asked.h"
#include "client/lookup.h"
#include "client/parts.h"
#include "client/quota.h"
#include "client/request_cancel.h"
#include "client/shadow.h"
#include "client/subscribe.h"
#include "client/vacate.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/tls.h"
#include "pool/cancel.h"
#include "proto/startup.h"
#include "session/traces.h"

#include <stdio.h>
#include <sys/random.h>

#define SPARE_BYTES_MAX 32768u

static const struct {
    const char *text;
    unsigned next; /* set of states */
} states[CLIENT_STATE_COUNT] = {
    [CLIENT_STARTUP] = {"login", 1u << CLIENT_LOGIN | 1u << CLIENT_CANCEL | 1u << CLIENT_CLOSED},
    [CLIENT_LOGIN] = {"login", 1u << CLIENT_WELCOME | 1u << CLIENT_CONSOLE | 1u << CLIENT_CLOSED},
    [CLIENT_WELCOME] = {"waiting", 1u << CLIENT_IDLE | 1u << CLIENT_CLOSED},
    [CLIENT_IDLE] = {"idle", 1u << CLIENT_WAITING | 1u << CLIENT_ACTIVE | 1u << CLIENT_CLOSED},
    [CLIENT_WAITING] = {"waiting", 1u << CLIENT_IDLE | 1u << CLIENT_ACTIVE | 1u << CLIENT_CLOSED},
    [CLIENT_ACTIVE] = {"active", 1u << CLIENT_IDLE | 1u << CLIENT_CLOSED},
    [CLIENT_CONSOLE] = {"idle", 1u << CLIENT_CLOSED},
    [CLIENT_CANCEL] = {"active_cancel_req", 1u << CLIENT_CLOSED},
    [CLIENT_CLOSED] = {"closed", 0},
};

const char *client_state_text(const struct client *client) {
    bool is_begun = client->state == CLIENT_IDLE && client->begin.state != BEGIN_NONE;
    return states[is_begun ? CLIENT_ACTIVE : client->state].text;
}

/* IDLE and ACTIVE share a list: moving from one to the other at each transaction would cost more
 * than whatever walks it. */
static struct list *list_of(struct client_set *set, enum client_state state) {
    return &set->clients[state == CLIENT_ACTIVE ? CLIENT_IDLE : state];
}

void client_become(struct client *client, enum client_state state) {
    CHECK(states[client->state].next & 1u << state);
    struct client_set *set = client->set;
    struct list *from = list_of(set, client->state);
    struct list *to = list_of(set, state);
    if (client->state == CLIENT_ACTIVE) client->pool->active--;
    if (state == CLIENT_ACTIVE) client->pool->active++;
    client->state = state;
    client->state_us = loop_now_us(set->loop);
    if (from == to) return;
    list_remove(from, &client->link);
    list_append(to, &client->link);
}

/* ---- log */

void client_log(const struct client *client, int level, const char *format, ...) {
    char text[2048];
    char peer[ENDPOINT_TEXT_SIZE];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (client->peer.size > 0)
        endpoint_end_text(&client->peer, peer);
    else
        endpoint_unix_text(stream_descriptor(&client->stream),
                           (unsigned)client->set->pools->config->listen_port, peer);
    log_line((enum log_level)level, "C-0x%x: %s/%s@%s %s", client->id,
             client->database == NULL ? "(nodb)" : client->database->at,
             client->user == NULL ? "(nouser)" : client->user->at, peer, text);
}

static void log_close(const struct client *client, const char *reason) {
    if (!client->set->pools->config->log_disconnections) return;
    uint64_t age_us = client->connected_wall_us == 0
                          ? 0
                          : (uint64_t)(clock_wall_us() - client->connected_wall_us);
    client_log(client, LOG_LEVEL_LOG, "closing because: %s (age=%us)", reason,
               (unsigned)(age_us / US_PER_S));
}

/* ---- end */

static void leave(struct client *client) {
    struct client_set *set = client->set;
    relay_leave(client);
    subscribe_end(client);
    lookup_leave(client);
    if (client->state == CLIENT_CONSOLE) set->ops.console_left(set->ops.owner, client);
    if (client->pool != NULL && client->state >= CLIENT_IDLE) client->pool->clients--;
    if (client->by_key.key.at != NULL) map_remove(&set->keys, &client->by_key);
    stream_close(&client->stream);
    client_become(client, CLIENT_CLOSED);
    loop_at_end(set->loop, &set->hook);
}

void client_close(struct client *client, const char *reason) {
    if (client->state == CLIENT_CLOSED) return;
    log_close(client, reason);
    log_flush(); /* the line is in the file before the client sees the end */
    leave(client);
}

/* Whether the client has seen a part of an answer that is not whole: whatever followed would be
 * taken for the rest of it. */
static bool is_in_answer(const struct client *client) {
    const struct reply_cursor *reply = &client->reply;
    return reply->skip > 0 && !reply->is_dropping && !client->retry.is_holding;
}

void client_close_with(struct client *client, const char *reason, struct bytes last) {
    if (client->state == CLIENT_CLOSED) return;
    log_close(client, reason);
    if (client->set->pools->config->log_pooler_errors)
        client_log(client, LOG_LEVEL_WARNING, "pooler error: %s", reason);
    log_flush(); /* the lines are in the file before the client sees the error */
    if (!is_in_answer(client)) stream_write_bytes(&client->stream, last);
    leave(client);
}

void client_fail(struct client *client, enum fault_id fault, const char *argument) {
    if (client->state == CLIENT_CLOSED) return;
    struct client_set *set = client->set;
    struct buf text = {0};
    struct buf message = {0};
    set->faults[fault_of(fault)->counter]++;
    fault_append_text(&text, fault, argument);
    fault_write(&message, fault, argument);
    client_close_with(client, buf_text(&text), buf_content(&message));
    buf_release(&message);
    buf_release(&text);
}

void client_refuse(struct client *client, enum fault_id fault, const char *argument,
                   const struct fault_fields *fields) {
    if (fields == NULL) {
        client_fail(client, fault, argument);
        return;
    }
    struct buf out = {0};
    struct buf reason = {0};
    buf_append_bytes(&reason, fields->message);
    client->set->faults[FAULT_COUNTER_SERVER]++;
    fault_write_custom(&out, fields);
    client_close_with(client, buf_text(&reason), buf_content(&out));
    buf_release(&reason);
    buf_release(&out);
}

static void client_free(struct client *client) {
    struct client_set *set = client->set;
    (void)atomic_fetch_sub(set->total, 1);
    (void)atomic_fetch_sub(set->load, 1);
    list_remove(&set->clients[CLIENT_CLOSED], &client->link);
    quota_release(client);
    pipeline_release(&client->pipeline);
    buf_release(&client->kept);
    buf_release(&client->last_words);
    buf_release(&client->reply.gather);
    buf_release(&client->begin.texts);
    buf_release(&client->retry.request);
    buf_release(&client->retry.held);
    parameters_release(&client->parameters, set->texts);
    session_free(&client->session, set->texts);
    prepared_clear(&client->names, &set->statements);
    statement_unref(&set->statements, &client->unnamed);
    if (client->verify != NULL) {
        verify_release(client->verify);
        memory_free(client->verify);
    }
    users_free(&client->met);
    text_unref(set->texts, &client->sticky);
    hint_release(client);
    text_unref(set->texts, &client->own_options);
    text_unref(set->texts, &client->own.start);
    text_unref(set->texts, &client->database);
    text_unref(set->texts, &client->user);
    memory_free(client);
}

static void on_end_of_turn(struct loop_hook *hook) {
    struct client_set *set = LIST_OWNER(hook, struct client_set, hook);
    for (size_t left = set->released.count; left > 0; left--) {
        struct link *l = list_pop(&set->released);
        relay_resume(LIST_OWNER(l, struct client, resume));
    }
    struct list *closed = &set->clients[CLIENT_CLOSED];
    LIST_EACH_SAFE (closed, l, following) {
        client_free(LIST_OWNER(l, struct client, link));
    }
}

/* ---- the stream's news */

/* What the console does not speak is an error of the console, and then the end. */
static void refuse_message(struct client *client, enum fault_id fault, const char *argument) {
    struct buf text = {0};
    struct buf answer = {0};
    fault_append_text(&text, fault, argument);
    log_line(LOG_LEVEL_ERROR, "%s", buf_text(&text));
    if (client->set->pools->config->log_pooler_errors)
        client_log(client, LOG_LEVEL_WARNING, "pooler error: %s", buf_text(&text));
    fault_write(&answer, fault, argument);
    message_write_ready_for_query(&answer, 'I');
    log_flush();
    stream_write_bytes(&client->stream, buf_content(&answer));
    client_fail(client, FAULT_CONSOLE_BAD_PACKET, NULL);
    buf_release(&answer);
    buf_release(&text);
}

/* A console client speaks the simple protocol only; its messages are read whole. */
static void console_bytes(struct client *client, const char *at, size_t len) {
    struct client_set *set = client->set;
    buf_append(&client->kept, at, len);
    while (client->state == CLIENT_CONSOLE && buf_length(&client->kept) >= MESSAGE_HEAD_BYTES) {
        struct bytes kept = buf_content(&client->kept);
        uint32_t length = message_length(kept.at);
        const char type[2] = {kept.at[0], '\0'};
        char number[4];
        (void)snprintf(number, sizeof number, "%u", (unsigned char)type[0]);
        if (type[0] == 'X') {
            client_close(client, "client close request");
        } else if (type[0] != '\0' && strchr("PBE", type[0]) != NULL) {
            refuse_message(client, FAULT_CONSOLE_EXTENDED, NULL);
        } else if (type[0] != '\0' && strchr("DCSHFdcf", type[0]) != NULL) {
            refuse_message(client, FAULT_CONSOLE_MESSAGE, number);
        } else if (type[0] != 'Q') {
            client_fail(client, FAULT_MESSAGE_UNKNOWN, type);
        } else if (set->is_simple_refused) {
            request_refuse_simple(client);
        } else if (length == 0 || length > 65536) {
            char hex[STARTUP_HEX_SIZE];
            startup_header_hex(hex, kept);
            client_fail(client, FAULT_MESSAGE_LENGTH, hex);
        } else if (kept.len < length) {
            return;
        } else if (kept.at[length - 1] != '\0') {
            client_fail(client, FAULT_MESSAGE_MALFORMED, NULL);
        } else {
            char *text = memory_copy(kept.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
            buf_consume(&client->kept, length);
            set->ops.console_query(set->ops.owner, client, text);
            memory_free(text);
        }
    }
    if (client->state == CLIENT_CONSOLE && buf_length(&client->kept) == 0)
        buf_release(&client->kept);
}

static void on_bytes(struct stream *stream, const char *at, size_t len) {
    struct client *client = LIST_OWNER(stream, struct client, stream);
    switch (client->state) {
    case CLIENT_STARTUP:
    case CLIENT_LOGIN:
    case CLIENT_WELCOME:
        client_login_bytes(client, at, len);
        break;
    case CLIENT_CONSOLE:
        console_bytes(client, at, len);
        break;
    case CLIENT_IDLE:
    case CLIENT_WAITING:
    case CLIENT_ACTIVE:
        relay_request(client, at, len);
        break;
    default:
        break;
    }
}

static void on_drained(struct stream *stream) {
    struct client *client = LIST_OWNER(stream, struct client, stream);
    if (client->borrower.server != NULL) stream_start(&client->borrower.server->stream);
    if (client->is_stuck) relay_resume_later(client);
}

static void on_ended(struct stream *stream, int error) {
    struct client *client = LIST_OWNER(stream, struct client, stream);
    const struct tls *tls = stream_tls(stream);
    bool is_silent = client->state == CLIENT_STARTUP && buf_length(&client->kept) == 0;
    if (is_silent && tls != NULL && tls_error(tls)[0] != '\0') {
        log_line(LOG_LEVEL_WARNING, "TLS handshake error: %s", tls_error(tls));
    } else if (is_silent) {
        leave(client); /* a port check: it never said a word */
        return;
    }
    if (error != 0) client_log(client, LOG_LEVEL_DEBUG, "%s", stream_trouble(stream, error));
    client_close(client, "client unexpected eof");
}

static void on_hangup(struct stream *stream) {
    struct client *client = LIST_OWNER(stream, struct client, stream);
    /* Whoever waits for a server leaves the line, and whoever does not take the answers it has
     * goes; one that is being served is read later, unless its connection is reset, which
     * no event would tell again. */
    bool is_waiting = client->state == CLIENT_WAITING || client->state == CLIENT_WELCOME ||
                      client->lookup != NULL;
    if (is_waiting || client->state == CLIENT_IDLE || stream->is_broken)
        client_close(client, "client unexpected eof");
}

static const struct stream_ops client_stream_ops = {
    .on_bytes = on_bytes, .on_drained = on_drained, .on_ended = on_ended, .on_hangup = on_hangup};

/* ---- beginning */

/* Random bytes, of which many are asked for at a time. */
static void take_random(struct client_set *set, char *at, size_t len) {
    if (set->random_left < len) {
        size_t have = 0;
        while (have < sizeof set->random) {
            ssize_t n = getrandom(set->random + have, sizeof set->random - have, 0);
            if (n > 0) have += (size_t)n;
        }
        set->random_left = sizeof set->random;
    }
    set->random_left -= len;
    memcpy(at, set->random + set->random_left, len);
    memory_wipe(set->random + set->random_left, len);
}

unsigned client_key_worker(const char *key, unsigned count) {
    if (key[0] == '\0') return (bytes_get_u32(key + 4) >> 2) % count;
    unsigned worker = (unsigned char)key[0] >> 2;
    return worker < count ? worker : 0;
}

static void make_key(struct client *client) {
    struct client_set *set = client->set;
    /* As in request_cancel.c; what is random is so because whoever knows a key may cancel. */
    do {
        take_random(set, client->key, sizeof client->key);
        client->key[0] = (char)((client->key[0] & 3) | 1 | (int)(set->pools->worker << 2));
        client->key[1] = (char)(set->pools->config->peer_id & 0xFF);
        client->key[2] = (char)(set->pools->config->peer_id >> 8);
        client->key[7] = (char)(client->key[7] | 3);
    } while (map_find(&set->keys, bytes_of(client->key, sizeof client->key)) != NULL);
    map_add(&set->keys, &client->by_key, bytes_of(client->key, sizeof client->key));
}

void client_take_pid(struct client *client, uint32_t pid) {
    struct client_set *set = client->set;
    uint32_t workers = set->pools->workers, number;
    if (pid == 0 || pid >= CLIENT_PID_END) return; /* it would look like one of ours */
    map_remove(&set->keys, &client->by_key);
    do {
        take_random(set, (char *)&number, sizeof number);
        number = number >> 3;
        number = number - number % workers + set->pools->worker;
        bytes_put_u32(client->key, pid);
        bytes_put_u32(client->key + 4, number << 2 | 3);
    } while (map_find(&set->keys, bytes_of(client->key, sizeof client->key)) != NULL);
    map_add(&set->keys, &client->by_key, bytes_of(client->key, sizeof client->key));
}

struct client *client_new(struct client_set *set, int fd) {
    struct client *client = memory_new(sizeof *client);
    client->set = set;
    client->id = connection_next_id();
    client->doing = "starting up";
    client->state = CLIENT_STARTUP;
    client->transaction = 'I';
    client->state_us = client->connected_us = loop_now_us(set->loop);
    client->connected_wall_us = clock_wall_us();
    client->borrower.ops = &relay_borrower_ops;
    client->borrower.route = &client->route;
    client->borrower.request = &client->route_request;
    client->route_request.need.stick_node = -1;
    client->route.node = -1;
    pipeline_init(&client->pipeline);
    list_append(&set->clients[CLIENT_STARTUP], &client->link);
    (void)atomic_fetch_add(set->total, 1);
    client->peer = endpoint_end_of(fd, true);
    stream_open(&client->stream, set->loop, fd, &client_stream_ops);
    return client;
}

void client_accept(struct client_set *set, struct socket_parts parts, struct bytes packet) {
    struct client *client = client_new(set, parts.fd);
    make_key(client);
    if (parts.tls != NULL) stream_resume_tls(&client->stream, parts.tls);
    if (packet.len > 0) client_login_bytes(client, packet.at, packet.len);
}

/* ---- short-lived buffers */

struct buf client_spare_take(struct client_set *set) {
    return set->spare_count == 0 ? (struct buf){0} : set->spare[--set->spare_count];
}

void client_spare_give(struct client_set *set, struct buf *buf) {
    if (buf->memory == NULL) return;
    if (buf->size <= SPARE_BYTES_MAX && set->spare_count < COUNT(set->spare)) {
        buf_clear(buf);
        set->spare[set->spare_count++] = *buf;
        *buf = (struct buf){0};
    } else {
        buf_release(buf);
    }
}

/* ---- the set */

void client_set_init(struct client_set *set) {
    for (unsigned i = 0; i < CLIENT_STATE_COUNT; i++) list_init(&set->clients[i]);
    list_init(&set->released);
    list_init(&set->vacating);
    set->hook.run = on_end_of_turn;
    client_set_apply(set);
}

void client_set_apply(struct client_set *set) {
    const struct config *config = set->pools->config;
    set->max_packet_size = (uint32_t)config->max_packet_size;
    set->is_simple_refused = config->disable_pqexec;
    set->max_prepared = (size_t)config->max_prepared_statements;
    set->gather_bytes = (size_t)config->gather_bytes;
    set->replica_wait_us = config->replica_wait_us;
    set->retry_timeout_us = config->retry_timeout_us;
    set->defers_begin = config->defer_begin;
    quota_apply(set);
}

static void close_all(struct client_set *set, const struct database *database,
                      enum fault_id fault) {
    for (unsigned state = CLIENT_STARTUP; state < CLIENT_CLOSED; state++) {
        LIST_EACH_SAFE (&set->clients[state], l, following) {
            struct client *client = LIST_OWNER(l, struct client, link);
            bool is_all = database == NULL && fault == FAULT_NONE;
            bool is_in =
                client->pool != NULL && (database == NULL || client->pool->database == database);
            if (!is_all && !is_in && !lookup_is_in(client, database)) continue;
            if (fault == FAULT_NONE) {
                client_close(client, "pooler is shutting down");
            } else {
                client_fail(client, fault, NULL);
            }
        }
    }
}

void client_set_release(struct client_set *set) {
    shadow_clear(&set->shadow);
    close_all(set, NULL, FAULT_NONE);
    on_end_of_turn(&set->hook);
    loop_not_at_end(set->loop, &set->hook);
    CHECK(set->clients[CLIENT_CLOSED].count == 0);
    lookup_release(set);
    vacate_release(set);
    asked_release(set);
    while (set->spare_count > 0) buf_release(&set->spare[--set->spare_count]);
    buf_release(&set->scratch);
    map_release(&set->keys);
    map_release(&set->audiences);
    traces_release_all(&set->traces);
}

void client_set_close_database(struct client_set *set, const struct database *database,
                               enum fault_id fault) {
    close_all(set, database, fault);
}

/* ---- suspension */

void client_set_hold(struct client_set *set, bool is_held) {
    for (unsigned state = CLIENT_STARTUP; state < CLIENT_CONSOLE; state++) {
        LIST_EACH (&set->clients[state], l) {
            stream_hold(&LIST_OWNER(l, struct client, link)->stream, is_held);
        }
    }
}

bool client_set_is_sent(struct client_set *set, bool is_late) {
    bool is_sent = true;
    for (unsigned state = CLIENT_STARTUP; state < CLIENT_CONSOLE; state++) {
        LIST_EACH_SAFE (&set->clients[state], l, following) {
            struct client *client = LIST_OWNER(l, struct client, link);
            if (stream_queued(&client->stream) == 0) continue;
            is_sent = false;
            if (is_late) client_fail(client, FAULT_SUSPEND_TIMEOUT, NULL);
        }
    }
    return is_sent;
}

/* ---- time */

static void tick_logins(struct client_set *set, uint64_t now_us) {
    uint64_t limit_us = set->pools->config->client_login_timeout_us;
    if (limit_us == 0) return;
    for (unsigned state = CLIENT_STARTUP; state <= CLIENT_WELCOME; state++) {
        LIST_EACH_SAFE (&set->clients[state], l, following) {
            struct client *client = LIST_OWNER(l, struct client, link);
            if (now_us - client->connected_us < limit_us) continue;
            bool is_servers_fault = state == CLIENT_WELCOME || client->lookup != NULL;
            client_fail(client, is_servers_fault ? FAULT_LOGIN_TIMEOUT_SERVER : FAULT_LOGIN_TIMEOUT,
                        NULL);
        }
    }
}

/* The timeout that has struck for a client with a server, or FAULT_NONE. */
static enum fault_id overdue_active(const struct client *client, const struct config *config,
                                    const struct config_user *user, uint64_t now_us) {
    uint64_t query_us = config_query_timeout_us(config, user);
    uint64_t idle_us = config_idle_transaction_timeout_us(config, user);
    uint64_t transaction_us = config_transaction_timeout_us(config, user);
    bool is_running = !pipeline_is_empty(&client->pipeline);
    bool is_in_transaction = is_running || client->transaction != 'I';
    if (is_running && query_us > 0 && client->query_us > 0 && now_us - client->query_us >= query_us)
        return FAULT_QUERY_TIMEOUT;
    if (!is_running && idle_us > 0 && client->transaction != 'I' &&
        now_us - client->state_us >= idle_us)
        return FAULT_IDLE_TRANSACTION_TIMEOUT;
    if (is_in_transaction && transaction_us > 0 && client->transaction_us > 0 &&
        now_us - client->transaction_us >= transaction_us)
        return FAULT_TRANSACTION_TIMEOUT;
    return FAULT_NONE;
}

static enum fault_id overdue(const struct client *client, uint64_t now_us) {
    const struct config *config = client->set->pools->config;
    const struct config_user *user =
        config_user(config, bytes_of(client->user->at, client->user->len));
    uint64_t limit_us = 0;
    switch (client->state) {
    case CLIENT_IDLE:
        if (client->begin.state != BEGIN_NONE) return overdue_active(client, config, user, now_us);
        limit_us = config_client_idle_timeout_us(config, user);
        return limit_us > 0 && now_us - client->state_us >= limit_us ? FAULT_CLIENT_IDLE_TIMEOUT
                                                                     : FAULT_NONE;
    case CLIENT_WAITING:
        limit_us = config_query_timeout_us(config, user);
        return limit_us > 0 && now_us - client->state_us >= limit_us ? FAULT_QUERY_TIMEOUT_WAITING
                                                                     : FAULT_NONE;
    case CLIENT_ACTIVE:
        return overdue_active(client, config, user, now_us);
    default:
        return FAULT_NONE;
    }
}

/* Whoever waits long is told so, once in each wait. The list is in order of arrival: those in front
 * have been told already, those behind the first that is early are early too. */
static void tick_waiters(struct client_set *set, uint64_t now_us) {
    uint64_t limit_us = (uint64_t)set->pools->config->query_wait_notify * US_PER_S;
    if (limit_us == 0) return;
    LIST_EACH_SAFE (&set->clients[CLIENT_WAITING], l, following) {
        struct client *client = LIST_OWNER(l, struct client, link);
        if (now_us - client->state_us < limit_us) break;
        if (client->is_wait_told) continue;
        struct buf notice = {0};
        client->is_wait_told = true;
        fault_notice_write(
            &notice, "No server connection available in postgres backend, client being queued",
            NULL);
        stream_write_bytes(&client->stream, buf_content(&notice));
        buf_release(&notice);
    }
}

/* server_fast_close: a server that has to be replaced does not wait for the end of the session. Its
 * client is told at the end of the turn. */
static void close_obsolete(const struct client *client) {
    struct server *server = client->borrower.server;
    bool is_resting = client->state == CLIENT_ACTIVE && server->state == SERVER_LENT &&
                      client->transaction == 'I' && pipeline_is_empty(&client->pipeline);
    if (is_resting && client->pool->mode == POOL_MODE_SESSION && !pool_server_stays(server))
        server_close_for(server, FAULT_DATABASE_CHANGED);
}

/* The server of a client whose time is over goes with it: what runs on it is cancelled, and what
 * it has open is rolled back when the connection ends. */
static void give_up(struct client *client, enum fault_id fault) {
    struct server *server = client->borrower.server;
    if (server != NULL && server->state == SERVER_LENT) {
        if (!pipeline_is_empty(&client->pipeline)) cancel_start(server, (struct cancel_ticket){0});
        server_close_for(server, fault);
    }
    client_fail(client, fault, NULL);
}

static bool has_timeouts(const struct config *config) {
    return config->server_fast_close || config->query_timeout_us > 0 ||
           config->idle_transaction_timeout_us > 0 || config->transaction_timeout_us > 0 ||
           config->client_idle_timeout_us > 0 || config->entries[SETTING_SCOPE_USER].count > 0;
}

void client_set_tick(struct client_set *set) {
    uint64_t now_us = loop_now_us(set->loop);
    tick_logins(set, now_us);
    tick_waiters(set, now_us);
    lookup_tick(set, now_us);
    vacate_tick(set, now_us);
    if (!has_timeouts(set->pools->config)) return;
    for (unsigned state = CLIENT_IDLE; state <= CLIENT_ACTIVE; state++) {
        LIST_EACH_SAFE (&set->clients[state], l, following) {
            struct client *client = LIST_OWNER(l, struct client, link);
            enum fault_id fault = overdue(client, now_us);
            if (fault != FAULT_NONE) {
                give_up(client, fault);
            } else if (set->pools->config->server_fast_close) {
                close_obsolete(client);
            }
        }
    }
}
