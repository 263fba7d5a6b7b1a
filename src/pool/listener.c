/*
 * The shared listener; see pool/listener.h.
 *
 *      no server -> being made -> told all channels -> up -> lost: no server
 *                      `- failed: DOWN, tried again after server_login_retry
 *
 * What is wanted while a query is under way gathers in `todo` and goes with the next one. An ASK is
 * answered when the query that was the last to have to do with it is answered; one that comes while
 * the connection is lost waits until there is another.
 *
 * A notification names the process that sent it. Where that was a server of ours, clients are told
 * the process id which the client that used it knows as its own: the last one that sent it what may
 * notify, or the one before where that request cannot have been answered yet. Certain as long as
 * no other client notifies from that server while a notification is still on its way.
 *
 * Notifications that are committed between a loss and the next LISTEN have nobody who hears them.
 * That is told in the log and counted; clients are not disconnected for it, since they could not
 * do better.
 */
#include "pool/listener.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "pool/own.h"
#include "pool/pool.h"
#include "proto/message.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>

#define RETRY_US_MIN      ((uint64_t)100 * 1000)
#define MESSAGE_BYTES_MAX 131072u

/* Servers whose senders are known, hashed; of two that collide one is forgotten. */
#define SENDERS 4096u

#define CHECK_US_MIN US_PER_S

/* What may wait to be sent to a server that does not answer. */
#define TODO_BYTES_MAX (4u << 20)

/* A notification that comes sooner after a request has not been caused by it. */
#define REQUEST_US_MIN 30u

struct channel {
    struct map_node node;
    uint64_t workers; /* that want it: a bit for each */
    char name[];
};

struct ask {
    struct link link;
    unsigned worker;
    uint32_t id;
};

struct listener {
    struct map_node node; /* key: its pool's */
    struct pool_set *set;
    struct pool *pool;
    struct borrower borrower;
    struct map channels;
    struct buf todo;   /* statements of the next query */
    struct list asked; /* to be answered with the next query */
    struct list sent;  /* to be answered with the one under way */
    bool is_halted;    /* closed by a PAUSE that is in force */
    bool is_busy;      /* a query is under way */
    bool is_up;        /* it listens to all channels */
    bool is_known;     /* it did once: what it misses now is missed */
    bool is_down;      /* as its clients were told last */
    struct buf input;
    uint64_t asked_us; /* when the query under way was sent */
    uint64_t heard_us; /* when its last bytes came */
    uint64_t lost_us;
    uint64_t retry_us; /* not before */
};

/* ---- messages between workers */

struct listen_mail *listen_mail_new(enum listen_kind kind, unsigned worker, struct bytes key,
                                    struct bytes text) {
    struct listen_mail *mail = memory_new(sizeof *mail + key.len + text.len);
    mail->kind = kind;
    mail->worker = worker;
    memcpy(mail->bytes, key.at, key.len);
    if (text.len > 0) memcpy(mail->bytes + key.len, text.at, text.len);
    mail->key = bytes_of(mail->bytes, key.len);
    mail->text = bytes_of(mail->bytes + key.len, text.len);
    return mail;
}

static void tell(const struct listener *listener, unsigned worker, enum listen_kind kind,
                 uint32_t id, struct bytes text) {
    const struct pool_ops *ops = &listener->set->ops;
    struct listen_mail *mail =
        listen_mail_new(kind, listener->set->worker, listener->node.key, text);
    mail->id = id;
    ops->listen(ops->owner, worker, mail);
}

static void tell_each(const struct listener *listener, uint64_t workers, enum listen_kind kind,
                      struct bytes text) {
    for (unsigned i = 0; i < listener->set->workers; i++) {
        if (workers & (uint64_t)1 << i) tell(listener, i, kind, 0, text);
    }
}

static void tell_all(const struct listener *listener, enum listen_kind kind) {
    tell_each(listener, ~(uint64_t)0, kind, bytes_of(NULL, 0));
}

/* ---- who has which */

struct claim {
    struct map_node node;
    unsigned worker;
    unsigned count;
    char key[];
};

/* The last two clients that have sent a server what may notify, each with the time of the first
 * such request: client's process id, then the low half of microseconds. */
struct senders {
    _Atomic uint64_t key;
    _Atomic uint64_t now;
    _Atomic uint64_t before;
};

struct listeners {
    pthread_mutex_t lock;
    struct map claims;
    _Atomic bool are_heard;
    char mark[32];
    struct senders senders[SENDERS];
};

struct listeners *listeners_new(void) {
    struct listeners *listeners = memory_new(sizeof *listeners);
    uint64_t random = 0;
    while (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) continue;
    (void)snprintf(listeners->mark, sizeof listeners->mark, "weir_%016llx",
                   (unsigned long long)random);
    (void)pthread_mutex_init(&listeners->lock, NULL);
    return listeners;
}

void listeners_free(struct listeners **listeners_at) {
    struct listeners *listeners = *listeners_at;
    *listeners_at = NULL;
    struct map_node *node = map_next(&listeners->claims, NULL);
    while (node != NULL) {
        struct claim *claim = MAP_OWNER(node, struct claim, node);
        node = map_next(&listeners->claims, node);
        memory_free(claim);
    }
    map_release(&listeners->claims);
    (void)pthread_mutex_destroy(&listeners->lock);
    memory_free(listeners);
}

unsigned listeners_claim(struct listeners *listeners, struct bytes key, unsigned worker) {
    (void)pthread_mutex_lock(&listeners->lock);
    struct map_node *node = map_find(&listeners->claims, key);
    if (node == NULL) {
        struct claim *made = memory_new(sizeof *made + key.len);
        memcpy(made->key, key.at, key.len);
        made->worker = worker;
        node = &made->node;
        map_add(&listeners->claims, node, bytes_of(made->key, key.len));
    }
    struct claim *claim = MAP_OWNER(node, struct claim, node);
    claim->count++;
    unsigned home = claim->worker;
    (void)pthread_mutex_unlock(&listeners->lock);
    return home;
}

void listeners_release(struct listeners *listeners, struct bytes key) {
    (void)pthread_mutex_lock(&listeners->lock);
    struct map_node *node = map_find(&listeners->claims, key);
    CHECK(node != NULL);
    struct claim *claim = MAP_OWNER(node, struct claim, node);
    if (--claim->count == 0) {
        map_remove(&listeners->claims, node);
        memory_free(claim);
    }
    (void)pthread_mutex_unlock(&listeners->lock);
}

/* ---- who has notified */

void listeners_note_ear(struct listeners *listeners) {
    if (listeners != NULL && !listeners_are_heard(listeners))
        atomic_store(&listeners->are_heard, true);
}

bool listeners_are_heard(const struct listeners *listeners) {
    return listeners != NULL && atomic_load_explicit(&listeners->are_heard, memory_order_relaxed);
}

/* A process of PostgreSQL: the same for every entry that names its host alike. */
static uint64_t key_of(const struct server *server, uint32_t pid) {
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    uint64_t place = bytes_hash(bytes_of_text(node->host));
    const uint64_t parts[] = {place, (uint64_t)(unsigned)node->port << 32 | pid};
    return bytes_hash(bytes_of((const char *)parts, sizeof parts));
}

static uint32_t client_of(uint64_t sender) {
    return (uint32_t)(sender >> 32);
}

void listeners_note_sender(struct listeners *listeners, const struct server *server,
                           uint32_t client_pid) {
    uint64_t key = key_of(server, server->backend_pid);
    struct senders *senders = &listeners->senders[key % SENDERS];
    bool is_known = atomic_load(&senders->key) == key;
    uint64_t now = is_known ? atomic_load(&senders->now) : 0;
    if (is_known && client_of(now) == client_pid) return;
    uint32_t now_us = (uint32_t)loop_now_us(server->pool->set->loop);
    atomic_store(&senders->key, 0);
    atomic_store(&senders->before, now);
    atomic_store(&senders->now, (uint64_t)client_pid << 32 | now_us);
    atomic_store(&senders->key, key);
}

uint32_t listeners_sender(const struct listeners *listeners, const struct server *server,
                          uint32_t pid) {
    uint64_t key = key_of(server, pid);
    const struct senders *senders = &listeners->senders[key % SENDERS];
    if (atomic_load(&senders->key) != key) return pid;
    uint64_t now = atomic_load(&senders->now), before = atomic_load(&senders->before);
    if (atomic_load(&senders->key) != key) return pid;
    uint32_t age_us = (uint32_t)loop_now_us(server->pool->set->loop) - (uint32_t)now;
    bool is_too_soon = age_us < REQUEST_US_MIN && before != 0;
    return client_of(is_too_soon ? before : now);
}

/* ---- texts */

struct bytes listeners_mark_channel(const struct listeners *listeners) {
    return bytes_of_text(listeners->mark);
}

void listeners_append_mark(const struct listeners *listeners, struct buf *query, unsigned worker,
                           uint32_t id) {
    buf_append_format(query, "LISTEN %s;NOTIFY %s,'%u/%u'", listeners->mark, listeners->mark,
                      worker, id);
}

uint32_t listeners_mark_id(struct bytes payload, unsigned *worker) {
    uint32_t numbers[2] = {0, 0};
    size_t place = 0;
    for (size_t i = 0; i < payload.len; i++) {
        char c = payload.at[i];
        if (c == '/' && place == 0) {
            place = 1;
        } else if (c >= '0' && c <= '9' && numbers[place] < UINT32_MAX / 10) {
            numbers[place] = numbers[place] * 10 + (uint32_t)(c - '0');
        } else {
            return 0;
        }
    }
    *worker = numbers[0];
    return numbers[1];
}

bool notification_read(struct bytes body, struct notification *notification) {
    if (body.len < 4) return false;
    struct bytes rest = bytes_of(body.at + 4, body.len - 4);
    notification->pid = bytes_get_u32(body.at);
    return message_text(rest, &notification->channel, &rest) &&
           message_text(rest, &notification->payload, &rest);
}

void listener_append_command(struct buf *query, const char *words, struct bytes channel) {
    buf_append_format(query, "%s \"", words);
    for (size_t i = 0; i < channel.len; i++) {
        if (channel.at[i] == '"') buf_append_u8(query, '"');
        buf_append_u8(query, (unsigned char)channel.at[i]);
    }
    buf_append_text(query, "\";");
}

/* ---- the connection */

static void answer(struct listener *listener, struct list *asks) {
    for (struct link *l = list_pop(asks); l != NULL; l = list_pop(asks)) {
        struct ask *ask = LIST_OWNER(l, struct ask, link);
        tell(listener, ask->worker, LISTEN_READY, ask->id, bytes_of(NULL, 0));
        memory_free(ask);
    }
}

/* Sends what there is to do, unless something is under way. */
static void push(struct listener *listener) {
    struct server *server = listener->borrower.server;
    if (server == NULL || server->state != SERVER_LISTENING || listener->is_busy) return;
    if (buf_length(&listener->todo) == 0) {
        answer(listener, &listener->asked);
        return;
    }
    struct buf out = {0};
    buf_append_u8(&out, 'Q');
    buf_append_u32(&out, (uint32_t)(4 + buf_length(&listener->todo) + 1));
    buf_append_bytes(&out, buf_content(&listener->todo));
    buf_append_u8(&out, 0);
    stream_write_bytes(&server->stream, buf_content(&out));
    buf_release(&out);
    buf_release(&listener->todo);
    for (struct link *l = list_pop(&listener->asked); l != NULL; l = list_pop(&listener->asked))
        list_append(&listener->sent, l);
    listener->is_busy = true;
    listener->asked_us = loop_now_us(listener->set->loop);
}

/* Now, or at a later tick. */
static void open_server(struct listener *listener) {
    const struct database *database = listener->pool->database;
    bool is_paused = listener->set->is_paused || atomic_load(&database->is_paused);
    bool is_there = listener->borrower.server != NULL || listener->borrower.making != NULL;
    if (!is_paused) listener->is_halted = false;
    if (is_there || listener->is_halted || atomic_load(&database->is_removed)) return;
    if (loop_now_us(listener->set->loop) < listener->retry_us) return;
    (void)own_listen(listener->pool, &listener->borrower);
}

static void on_made(struct borrower *borrower, struct server *server, struct bytes greeting) {
    struct listener *listener = LIST_OWNER(borrower, struct listener, borrower);
    (void)greeting;
    stream_start(&server->stream);
    buf_clear(&listener->todo);
    listener_append_command(&listener->todo, "LISTEN",
                            listeners_mark_channel(listener->set->listeners));
    struct map_node *node = map_next(&listener->channels, NULL);
    for (; node != NULL; node = map_next(&listener->channels, node))
        listener_append_command(&listener->todo, "LISTEN", node->key);
    push(listener);
}

static void log_gap(const struct listener *listener, uint64_t us) {
    const struct server *server = listener->borrower.server;
    server_log(server, LOG_LEVEL_WARNING,
               "notifications may have been missed: nobody listened for %llu.%03u s",
               (unsigned long long)(us / US_PER_S), (unsigned)(us % US_PER_S / US_PER_MS));
}

/* It listens to all channels. */
static void come_up(struct listener *listener) {
    uint64_t now_us = loop_now_us(listener->set->loop);
    if (listener->is_known) {
        log_gap(listener, now_us - listener->lost_us);
        stats_add(&listener->pool->stats.listen_gaps, 1);
    }
    listener->is_up = listener->is_known = true;
    listener->is_down = false;
    tell_all(listener, LISTEN_AGAIN);
}

/* Whether it owes an answer for too long. */
static bool is_silent(const struct listener *listener, uint64_t now_us) {
    uint64_t limit_us = listener->set->config->server_connect_timeout_us;
    return listener->is_busy && limit_us > 0 && now_us - listener->asked_us >= limit_us;
}

/* There is no connection any more, or none could be made. */
static void go_down(struct listener *listener) {
    uint64_t now_us = loop_now_us(listener->set->loop);
    bool was_up = listener->is_up;
    uint64_t retry_us = listener->set->config->server_login_retry_us;
    listener->is_down = !was_up;
    buf_release(&listener->input);
    for (struct link *l = list_last(&listener->sent); l != NULL; l = list_last(&listener->sent)) {
        list_remove(&listener->sent, l);
        list_prepend(&listener->asked, l);
    }
    if (was_up) listener->lost_us = is_silent(listener, now_us) ? listener->heard_us : now_us;
    listener->is_up = listener->is_busy = false;
    listener->retry_us = was_up ? 0 : now_us + (retry_us < RETRY_US_MIN ? RETRY_US_MIN : retry_us);
    tell_all(listener, was_up ? LISTEN_LOST : LISTEN_DOWN);
}

static void on_lost(struct borrower *borrower, struct server *server, const char *reason) {
    struct listener *listener = LIST_OWNER(borrower, struct listener, borrower);
    (void)server;
    if (listener->is_up)
        log_line(LOG_LEVEL_WARNING, "%s/%s: the shared listener is lost: %s",
                 listener->pool->database->name, listener->pool->user, reason);
    go_down(listener);
    open_server(listener);
}

static void on_refused(struct borrower *borrower, enum fault_id fault, const char *argument,
                       const struct fault_fields *fields) {
    (void)fault;
    (void)argument;
    (void)fields;
    go_down(LIST_OWNER(borrower, struct listener, borrower));
}

/* ---- what it hears */

static void on_notification(struct listener *listener, struct bytes body) {
    struct notification one;
    unsigned worker;
    if (!notification_read(body, &one)) {
        server_close(listener->borrower.server, "bad pkt header");
        return;
    }
    if (bytes_equal(one.channel, listeners_mark_channel(listener->set->listeners))) {
        uint32_t id = listeners_mark_id(one.payload, &worker);
        if (id != 0 && worker < listener->set->workers)
            tell(listener, worker, LISTEN_MARK, id, bytes_of(NULL, 0));
        return;
    }
    struct map_node *node = map_find(&listener->channels, one.channel);
    if (node == NULL) return;
    struct buf told = {0};
    buf_append_u32(&told,
                   listeners_sender(listener->set->listeners, listener->borrower.server, one.pid));
    buf_append(&told, body.at + 4, body.len - 4);
    uint64_t workers = MAP_OWNER(node, struct channel, node)->workers;
    tell_each(listener, workers, LISTEN_NOTE, buf_content(&told));
    buf_release(&told);
}

static void on_ready(struct listener *listener) {
    listener->is_busy = false;
    if (!listener->is_up) come_up(listener);
    answer(listener, &listener->sent);
    push(listener);
}

static void on_error(struct listener *listener, struct bytes body) {
    struct fault_fields fields = {0};
    (void)fault_read(body, &fields);
    server_close(listener->borrower.server, "%.*s", (int)fields.message.len, fields.message.at);
}

static void on_message(struct listener *listener, char type, struct bytes body) {
    switch (message_replies[(unsigned char)type].kind) {
    case REPLY_NOTIFICATION:
        on_notification(listener, body);
        break;
    case REPLY_READY:
        on_ready(listener);
        break;
    case REPLY_ERROR:
        on_error(listener, body);
        break;
    case REPLY_COMPLETE:
    case REPLY_EMPTY:
    case REPLY_NOTICE:
    case REPLY_STATUS:
        break;
    default:
        server_close(listener->borrower.server, "unknown pkt");
        break;
    }
}

static void on_bytes(struct borrower *borrower, const char *at, size_t len) {
    struct listener *listener = LIST_OWNER(borrower, struct listener, borrower);
    const struct server *server = borrower->server;
    struct buf *input = &listener->input;
    listener->heard_us = loop_now_us(listener->set->loop);
    buf_append(input, at, len);
    while (server->state == SERVER_LISTENING && buf_length(input) >= MESSAGE_HEAD_BYTES) {
        struct bytes rest = buf_content(input);
        uint32_t length = message_length(rest.at);
        if (length == 0 || length > MESSAGE_BYTES_MAX) {
            server_close(borrower->server, "bad pkt header");
            return;
        }
        if (rest.len < length) return;
        on_message(listener, rest.at[0],
                   bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES));
        buf_consume(input, length);
    }
    if (buf_length(input) == 0) buf_release(input);
}

static void on_drained(struct borrower *borrower) {
    (void)borrower;
}

static const struct borrower_ops listener_ops = {.made = on_made,
                                                 .bytes = on_bytes,
                                                 .drained = on_drained,
                                                 .lost = on_lost,
                                                 .refused = on_refused};

/* ---- life */

static struct listener *find(const struct pool_set *set, struct bytes key) {
    struct map_node *node = map_find(&set->listening, key);
    return node == NULL ? NULL : MAP_OWNER(node, struct listener, node);
}

/* The pool is there, or is made again, of the name of its database and of its user. */
static struct pool *pool_of_key(struct pool_set *set, struct bytes key) {
    struct bytes name, user;
    if (!message_text(key, &name, &user)) return NULL;
    struct database *database = databases_hold(set->databases, set->config, name);
    if (database == NULL) return NULL;
    struct pool *pool = pool_get(set, database, user);
    database_release(database);
    return pool;
}

static struct listener *make(struct pool_set *set, struct bytes key) {
    struct pool *pool = pool_of_key(set, key);
    if (pool == NULL || set->is_shutting_down) return NULL;
    struct listener *listener = memory_new(sizeof *listener);
    listener->set = set;
    listener->pool = pool;
    listener->borrower.ops = &listener_ops;
    list_init(&listener->asked);
    list_init(&listener->sent);
    map_add(&set->listening, &listener->node, pool->node.key);
    return listener;
}

static void free_asks(struct list *asks) {
    for (struct link *l = list_pop(asks); l != NULL; l = list_pop(asks))
        memory_free(LIST_OWNER(l, struct ask, link));
}

static void end(struct listener *listener) {
    struct server *server = listener->borrower.server;
    own_leave(&listener->borrower);
    if (server != NULL) {
        server->borrower = NULL;
        server_close(server, "nobody listens any more");
    }
    struct map_node *node = map_next(&listener->channels, NULL);
    while (node != NULL) {
        struct channel *channel = MAP_OWNER(node, struct channel, node);
        node = map_next(&listener->channels, node);
        memory_free(channel);
    }
    map_release(&listener->channels);
    free_asks(&listener->asked);
    free_asks(&listener->sent);
    buf_release(&listener->todo);
    buf_release(&listener->input);
    map_remove(&listener->set->listening, &listener->node);
    memory_free(listener);
}

static void want(struct listener *listener, struct bytes name, unsigned worker) {
    struct map_node *node = map_find(&listener->channels, name);
    if (node == NULL) {
        struct channel *made = memory_new(sizeof *made + name.len);
        memcpy(made->name, name.at, name.len);
        node = &made->node;
        map_add(&listener->channels, node, bytes_of(made->name, name.len));
        if (listener->borrower.server != NULL)
            listener_append_command(&listener->todo, "LISTEN", name);
    }
    MAP_OWNER(node, struct channel, node)->workers |= (uint64_t)1 << worker;
}

static void unwant(struct listener *listener, struct bytes name, unsigned worker) {
    struct map_node *node = map_find(&listener->channels, name);
    if (node == NULL) return;
    struct channel *channel = MAP_OWNER(node, struct channel, node);
    channel->workers &= ~((uint64_t)1 << worker);
    if (channel->workers != 0) return;
    if (listener->borrower.server != NULL)
        listener_append_command(&listener->todo, "UNLISTEN", name);
    map_remove(&listener->channels, node);
    memory_free(channel);
}

static void ask(struct listener *listener, unsigned worker, uint32_t id) {
    struct ask *one = memory_new(sizeof *one);
    one->worker = worker;
    one->id = id;
    list_append(&listener->asked, &one->link);
    if (listener->is_down) tell(listener, worker, LISTEN_DOWN, 0, bytes_of(NULL, 0));
}

void listener_take(struct pool_set *set, const struct listen_mail *mail) {
    struct listener *listener = find(set, mail->key);
    if (listener == NULL && mail->kind == LISTEN_WANT) listener = make(set, mail->key);
    if (listener == NULL) return;
    if (mail->kind == LISTEN_WANT) want(listener, mail->text, mail->worker);
    if (mail->kind == LISTEN_UNWANT) unwant(listener, mail->text, mail->worker);
    if (mail->kind == LISTEN_ASK) ask(listener, mail->worker, mail->id);
    if (listener->channels.count == 0) {
        end(listener);
        return;
    }
    bool is_stuck = buf_length(&listener->todo) > TODO_BYTES_MAX;
    if (is_stuck && listener->borrower.server != NULL)
        server_close(listener->borrower.server, "it does not answer");
    open_server(listener);
    push(listener);
}

bool listener_has_pool(const struct pool_set *set, const struct pool *pool) {
    return set->listening.count > 0 && find(set, pool->node.key) != NULL;
}

/* Who hears nothing for long asks whether anybody is there: a connection that something between
 * has forgotten would be silent for ever. */
static void check(struct listener *listener) {
    uint64_t now_us = loop_now_us(listener->set->loop);
    uint64_t delay_us = listener->set->config->server_check_delay_us;
    if (is_silent(listener, now_us)) {
        server_close(listener->borrower.server, "the shared listener does not answer");
    } else if (listener->is_up && !listener->is_busy &&
               now_us - listener->heard_us >= (delay_us < CHECK_US_MIN ? CHECK_US_MIN : delay_us)) {
        buf_append_text(&listener->todo, ";");
        push(listener);
    }
}

void listener_tick(struct pool_set *set) {
    struct map_node *node = map_next(&set->listening, NULL);
    for (; node != NULL; node = map_next(&set->listening, node)) {
        struct listener *listener = MAP_OWNER(node, struct listener, node);
        struct server *server = listener->borrower.server;
        if (server != NULL && !pool_server_stays(server))
            server_close(server, "the connection has to be replaced");
        if (server != NULL) check(listener);
        open_server(listener);
    }
}

void listener_pause(struct pool_set *set, const struct database *database, const char *reason) {
    struct map_node *node = map_next(&set->listening, NULL);
    for (; node != NULL; node = map_next(&set->listening, node)) {
        struct listener *listener = MAP_OWNER(node, struct listener, node);
        if (database != NULL && listener->pool->database != database) continue;
        struct server *server = listener->borrower.server;
        if (server == NULL) server = listener->borrower.making;
        listener->is_halted = true;
        if (server != NULL) server_close(server, "%s", reason);
    }
}

void listener_release(struct pool_set *set) {
    for (struct map_node *node = map_next(&set->listening, NULL); node != NULL;
         node = map_next(&set->listening, NULL))
        end(MAP_OWNER(node, struct listener, node));
    map_release(&set->listening);
}
