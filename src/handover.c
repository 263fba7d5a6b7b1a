/*
 * The online restart; see handover.h.
 *
 *      new process                                  old process
 *      logs in to the console over the Unix socket
 *      HAND_OVER version                       ->   stops accepting
 *                                              <-   'V' numbers, 'L' listening sockets, 'R' ready
 *      'G' go: everything else is set up       ->   closes HTTP, removes the pidfile
 *                                              <-   'A' gone
 *      accepts, serves                         <-   'P' pools, 'S' idle servers, 'C' clients
 *      'X' a cancel key that it does not know  ->
 *                                              <-   end of the connection, and of the process
 *
 * Until 'G' nothing is lost: if the new process disappears the old one goes on. From then on the
 * old process sends away each client as it comes to rest, with its server where it has one; queries
 * that run are answered first. A client with TLS cannot go, since the library's state cannot: the
 * old process serves it until it leaves, and replication clients too. While both live, no replica
 * is fresh enough for either (freshness_hold), as neither knows what is written through the other.
 */
#include "handover.h"

#include "client/move.h"
#include "core/log.h"
#include "core/memory.h"
#include "handover_link.h"
#include "net/poller.h"
#include "pool/move.h"
#include "process.h"
#include "start.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HANDOVER_VERSION  "1"
#define ANSWER_MS         10000 /* for each step of the other process before 'G' */
#define SWEEP_MS          5     /* at first; process_tick goes on */
#define SWEEPS            200
#define STATEMENT_NUMBERS (1u << 24) /* those that the old process may still use */
#define KEY_BYTES         8u
#define QUIET_TICKS       3

enum frame_type {
    FRAME_VERSION = 'V',
    FRAME_LISTENER = 'L',
    FRAME_READY = 'R',
    FRAME_GO = 'G',
    FRAME_GONE = 'A',
    FRAME_POOL = 'P',
    FRAME_SERVER = 'S',
    FRAME_CLIENT = 'C',
    FRAME_CANCEL = 'X'
};

struct handover {
    struct process *process;
    struct handover_link *link;
    struct poller *poller;
    struct loop_timer timer;
    bool is_giving;      /* this is the old process */
    bool is_gone;        /* 'G' has come */
    _Atomic bool is_cut; /* the new process has ended: who is left stays */
    unsigned sweeps;
    unsigned quiet_ticks; /* without a client; some may be on their way between threads */
    unsigned turn;        /* the worker that gets the next idle server */
};

/* ---- the new process: asking */

static int dial(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0) return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

/* Whoever has made the socket must be this very user: what comes is believed. */
static bool is_own(int fd) {
    unsigned uid;
    int pid;
    return endpoint_is_unix(fd, &uid, &pid) && uid == geteuid();
}

static bool read_exactly(int fd, char *at, size_t len) {
    while (len > 0) {
        ssize_t n = recv(fd, at, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

/* Reads messages up to ReadyForQuery; false with what an error said. */
static bool read_to_ready(int fd, char error[ENDPOINT_TEXT_SIZE]) {
    char body[8192];
    char head[MESSAGE_HEAD_BYTES];
    struct fault_fields fields;
    while (read_exactly(fd, head, sizeof head)) {
        uint32_t length = message_length(head);
        if (length < MESSAGE_HEAD_BYTES || length - MESSAGE_HEAD_BYTES > sizeof body ||
            !read_exactly(fd, body, length - MESSAGE_HEAD_BYTES))
            break;
        if (head[0] == 'Z') return true;
        if (head[0] != 'E' || !fault_read(bytes_of(body, length - MESSAGE_HEAD_BYTES), &fields))
            continue;
        (void)snprintf(error, ENDPOINT_TEXT_SIZE, "%.*s", (int)fields.message.len,
                       fields.message.at);
        return false;
    }
    (void)snprintf(error, ENDPOINT_TEXT_SIZE, "the running process does not answer");
    return false;
}

static bool send_all(int fd, const struct buf *out) {
    struct bytes all = buf_content(out);
    return send(fd, all.at, all.len, MSG_NOSIGNAL) == (ssize_t)all.len;
}

/* Logs in to the console and asks; what follows are frames. */
static bool ask(int fd, char error[ENDPOINT_TEXT_SIZE]) {
    static const char startup[] = "user\0pgbouncer\0database\0pgbouncer\0";
    static const char command[] = "HAND_OVER " HANDOVER_VERSION;
    struct timeval patience = {.tv_sec = ANSWER_MS / 1000};
    struct buf out = {0};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    buf_append_u32(&out, (uint32_t)(8 + sizeof startup));
    buf_append_u32(&out, 196608);
    buf_append(&out, startup, sizeof startup);
    bool is_in = send_all(fd, &out) && read_to_ready(fd, error);
    buf_clear(&out);
    buf_append_u8(&out, 'Q');
    buf_append_u32(&out, (uint32_t)(4 + sizeof command));
    buf_append(&out, command, sizeof command);
    bool is_asked = is_in && send_all(fd, &out);
    buf_release(&out);
    return is_asked;
}

static bool take_listener(struct process *process, struct handover_frame *frame) {
    struct bytes path = unpack_text(&frame->body);
    struct bytes what = unpack_text(&frame->body);
    char text[ENDPOINT_TEXT_SIZE];
    if (frame->body.is_bad || frame->fds[0] < 0 || process->listeners_count == LISTENERS_MAX)
        return false;
    struct endpoint_listener *listener =
        endpoint_listen_on(process->workers[0].loop, frame->fds[0]);
    (void)snprintf(text, sizeof text, "%.*s", (int)path.len, path.at);
    endpoint_listener_own(listener, text);
    (void)snprintf(text, sizeof text, "%.*s", (int)what.len, what.at);
    log_line(LOG_LEVEL_LOG, "got pooler socket: %s", text);
    process->listeners[process->listeners_count++] = listener;
    return true;
}

/* Takes frames up to the one of that type. */
static bool take_until(struct process *process, unsigned type) {
    struct handover_frame frame;
    while (handover_link_wait(process->handover->link, &frame, ANSWER_MS) == HANDOVER_FRAME) {
        if (frame.type == type) return true;
        if (frame.type == FRAME_VERSION) {
            statements_number_from(unpack_u32(&frame.body) + STATEMENT_NUMBERS);
        } else if (frame.type != FRAME_LISTENER || !take_listener(process, &frame)) {
            return false;
        }
    }
    return false;
}

static void handover_new(struct process *process, int fd, bool is_giving) {
    struct handover *handover = memory_new(sizeof *handover);
    handover->process = process;
    handover->link = handover_link_new(fd);
    handover->is_giving = is_giving;
    process->handover = handover;
}

bool handover_ask(struct process *process) {
    char path[ENDPOINT_TEXT_SIZE];
    char error[ENDPOINT_TEXT_SIZE] = "";
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", process->config->unix_socket_dir,
                   process->config->listen_port);
    log_line(LOG_LEVEL_WARNING, "Online restart is deprecated, use so_reuseport instead");
    int fd = dial(path);
    if (fd < 0) {
        log_line(LOG_LEVEL_FATAL, "socket takeover failed: unix:%s: %s", path, strerror(errno));
        return false;
    }
    if (!is_own(fd)) (void)snprintf(error, sizeof error, "it belongs to another user");
    if (error[0] != '\0' || !ask(fd, error)) {
        log_line(LOG_LEVEL_FATAL, "socket takeover failed: unix:%s: %s", path, error);
        (void)close(fd);
        return false;
    }
    handover_new(process, fd, false);
    if (take_until(process, FRAME_READY)) return true;
    log_line(LOG_LEVEL_FATAL, "socket takeover failed: the running process did not hand over; its "
                              "log has the reason");
    return false;
}

void handover_go(struct process *process) {
    struct handover *handover = process->handover;
    if (handover == NULL) return;
    handover_link_send(handover->link, FRAME_GO, bytes_of(NULL, 0), NULL, 0);
    if (!take_until(process, FRAME_GONE))
        log_line(LOG_LEVEL_WARNING, "the old process ended before it had sent its clients");
    log_line(LOG_LEVEL_LOG, "old process has stopped accepting, resuming work");
}

/* ---- the new process: receiving */

struct adopt_mail {
    struct loop_mail mail;
    unsigned type;
    int fds[HANDOVER_DESCRIPTORS_MAX];
    struct buf body;
};

static void adopt(struct worker *worker, struct adopt_mail *adopted) {
    struct unpack in = {.rest = buf_content(&adopted->body)};
    if (adopted->type == FRAME_CLIENT) {
        client_unpack(&worker->clients, &in, adopted->fds[0], adopted->fds[1]);
        return;
    }
    struct pool *pool = pool_unpack_name(&worker->pools, &in);
    if (adopted->type == FRAME_POOL) {
        if (pool != NULL) pool_unpack(pool, &in);
    } else if (pool != NULL) {
        (void)server_unpack(pool, &in, adopted->fds[0]);
        pool_serve_later(pool);
    } else if (adopted->fds[0] >= 0) {
        (void)close(adopted->fds[0]);
    }
}

static void run_adopt(struct loop_mail *mail, void *context) {
    struct adopt_mail *adopted = (struct adopt_mail *)(void *)mail;
    struct worker *worker = context;
    adopt(worker, adopted);
    memory_wipe(adopted->body.memory, adopted->body.size);
    buf_release(&adopted->body);
    memory_free(adopted);
}

static void pass_to_worker(struct worker *worker, const struct handover_frame *frame) {
    struct adopt_mail *adopted = memory_new(sizeof *adopted);
    adopted->mail.run = run_adopt;
    adopted->type = frame->type;
    memcpy(adopted->fds, frame->fds, sizeof adopted->fds);
    buf_append_bytes(&adopted->body, frame->body.rest);
    if (frame->type == FRAME_CLIENT) (void)atomic_fetch_add(&worker->load, 1);
    loop_post(worker->loop, &adopted->mail);
}

static void take_frame(struct handover *handover, const struct handover_frame *frame) {
    struct process *process = handover->process;
    unsigned count = process->workers_count;
    switch (frame->type) {
    case FRAME_POOL:
        for (unsigned i = 0; i < count; i++) pass_to_worker(&process->workers[i], frame);
        break;
    case FRAME_SERVER:
        pass_to_worker(&process->workers[handover->turn++ % count], frame);
        break;
    case FRAME_CLIENT:
        pass_to_worker(&process->workers[client_packed_worker(frame->body.rest, count)], frame);
        break;
    default:
        log_line(LOG_LEVEL_ERROR, "takeover: unexpected frame %u", frame->type);
        break;
    }
}

static void on_received(void *owner) {
    struct handover *handover = owner;
    struct handover_frame frame;
    enum handover_result result;
    while ((result = handover_link_next(handover->link, &frame)) == HANDOVER_FRAME)
        take_frame(handover, &frame);
    if (result != HANDOVER_ENDED) return;
    log_line(LOG_LEVEL_LOG, "takeover is over: the old process has ended");
    freshness_unhold();
    handover_free(handover->process);
}

void handover_begin(struct process *process) {
    struct handover *handover = process->handover;
    if (handover == NULL) return;
    freshness_hold();
    handover->poller = poller_open(process->workers[0].loop,
                                   handover_link_descriptor(handover->link), on_received, handover);
    on_received(handover); /* some may have come together with the last answer */
}

bool handover_cancel(struct process *process, const char key[8]) {
    if (process->handover == NULL || process->handover->is_giving) return false;
    handover_link_send(process->handover->link, FRAME_CANCEL, bytes_of(key, KEY_BYTES), NULL, 0);
    return true;
}

/* ---- the old process: sending */

struct moved_mail {
    struct loop_mail mail;
    unsigned type;
    int fds[HANDOVER_DESCRIPTORS_MAX];
    unsigned fds_count;
    struct buf body;
};

static void run_moved(struct loop_mail *mail, void *context) {
    struct moved_mail *moved = (struct moved_mail *)(void *)mail;
    struct worker *worker = context;
    struct handover *handover = worker->process->handover;
    if (handover != NULL) {
        handover_link_send(handover->link, moved->type, buf_content(&moved->body), moved->fds,
                           moved->fds_count);
    } else {
        for (unsigned i = 0; i < moved->fds_count; i++) (void)close(moved->fds[i]);
    }
    memory_wipe(moved->body.memory, moved->body.size);
    buf_release(&moved->body);
    memory_free(moved);
}

/* Takes the body out of `body`. */
static void give(struct worker *worker, unsigned type, struct buf *body, int fd, int other_fd) {
    struct moved_mail *moved = memory_new(sizeof *moved);
    moved->mail.run = run_moved;
    moved->type = type;
    moved->fds[0] = fd;
    moved->fds[1] = other_fd;
    moved->fds_count = (fd >= 0 ? 1u : 0) + (other_fd >= 0 ? 1u : 0);
    moved->body = *body;
    *body = (struct buf){0};
    loop_post(worker->process->workers[0].loop, &moved->mail);
}

static void on_client_moved(void *owner, int fd, int server_fd, struct buf *packed) {
    give(owner, FRAME_CLIENT, packed, fd, server_fd);
}

static void tell_pool(struct worker *worker, struct pool *pool) {
    if (pool->is_told || pool_shared_greeting(pool->nodes[0]->shared) == NULL) return;
    struct buf body = {0};
    pool->is_told = true;
    pool_pack_name(pool, &body);
    pool_pack(pool, &body);
    give(worker, FRAME_POOL, &body, -1, -1);
}

static void give_listed(struct worker *worker, struct pool *pool, struct list *servers) {
    LIST_EACH_SAFE (servers, l, following) {
        struct server *server = LIST_OWNER(l, struct server, link);
        struct buf body = {0};
        int fd;
        if (!server_may_move(server)) continue;
        pool_pack_name(pool, &body);
        if (server_pack(server, &body, &fd)) give(worker, FRAME_SERVER, &body, fd, -1);
        buf_release(&body);
    }
}

static void give_idle(struct worker *worker, struct pool_node *node) {
    give_listed(worker, node->pool, &node->servers[SERVER_IDLE]);
    give_listed(worker, node->pool, &node->servers[SERVER_USED]);
}

/* At first all idle servers go, so that the clients that go find them; later those of pools without
 * clients here: what clients that stay have opened, they will need again. */
void handover_sweep(struct worker *worker) {
    const struct client_move_ops ops = {on_client_moved, worker};
    LIST_EACH (&worker->pools.all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        bool is_first = !pool->is_told;
        tell_pool(worker, pool);
        if (!pool->is_told || (!is_first && pool->clients > 0)) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) give_idle(worker, pool->nodes[i]);
    }
    client_set_move(&worker->clients, &ops);
}

static void run_sweep(struct loop_mail *mail, void *context) {
    struct worker *worker = context;
    const struct handover *handover = worker->process->handover;
    memory_free(mail);
    if (handover == NULL) return; /* the process is ending */
    if (atomic_load(&handover->is_cut)) {
        client_set_hold(&worker->clients, false);
    } else {
        handover_sweep(worker);
    }
}

static void sweep_all(struct process *process) {
    for (unsigned i = 0; i < process->workers_count; i++) {
        struct loop_mail *mail = memory_new(sizeof *mail);
        mail->run = run_sweep;
        loop_post(process->workers[i].loop, mail);
    }
    (void)handover_link_flush(process->handover->link);
}

static void on_sweep(struct loop_timer *timer) {
    struct handover *handover = LIST_OWNER(timer, struct handover, timer);
    sweep_all(handover->process);
    if (++handover->sweeps == SWEEPS) loop_timer_stop(&handover->timer);
}

/* The new process serves from now on. */
static void go(struct handover *handover) {
    struct process *process = handover->process;
    if (handover->is_gone) return;
    handover->is_gone = true;
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_own(process->listeners[i], "");
    process_stop_listening(process, false);
    admin_http_stop(process->admin);
    if (process->has_pidfile) start_remove_pidfile(process->config->pidfile);
    process->has_pidfile = false;
    freshness_hold();
    handover_link_send(handover->link, FRAME_GONE, bytes_of(NULL, 0), NULL, 0);
    log_line(LOG_LEVEL_LOG, "handing over to a new process");
    handover->timer.run = on_sweep;
    loop_timer_start(process->workers[0].loop, &handover->timer, 0, SWEEP_MS);
}

static void on_told(void *owner) {
    struct handover *handover = owner;
    struct handover_frame frame;
    enum handover_result result;
    while ((result = handover_link_next(handover->link, &frame)) == HANDOVER_FRAME) {
        struct bytes body = frame.body.rest;
        if (frame.type == FRAME_GO) go(handover);
        if (frame.type == FRAME_CANCEL && body.len == KEY_BYTES)
            process_cancel(handover->process, body.at, (struct cancel_ticket){0});
    }
    if (result != HANDOVER_ENDED) return;
    poller_close(&handover->poller);
    if (handover->is_gone) {
        loop_timer_stop(&handover->timer);
        atomic_store(&handover->is_cut, true);
        sweep_all(handover->process);
        return;
    }
    log_line(LOG_LEVEL_WARNING, "the new process has disappeared, going on");
    process_accept(handover->process);
    handover_free(handover->process);
}

static void offer(struct handover *handover) {
    struct process *process = handover->process;
    struct buf body = {0};
    buf_append_u32(&body, statements_last_number());
    handover_link_send(handover->link, FRAME_VERSION, buf_content(&body), NULL, 0);
    for (unsigned i = 0; i < process->listeners_count; i++) {
        char address[ENDPOINT_TEXT_SIZE];
        char what[ENDPOINT_TEXT_SIZE + 16];
        unsigned port;
        int fd = dup(endpoint_listener_descriptor(process->listeners[i]));
        if (fd < 0) continue;
        endpoint_describe(fd, false, address, &port);
        (void)snprintf(what, sizeof what, "%s:%u", address,
                       port > 0 ? port : (unsigned)process->config->listen_port);
        buf_clear(&body);
        pack_text(&body, bytes_of_text(endpoint_listener_path(process->listeners[i])));
        pack_text(&body, bytes_of_text(what));
        handover_link_send(handover->link, FRAME_LISTENER, buf_content(&body), &fd, 1);
    }
    buf_release(&body);
    handover_link_send(handover->link, FRAME_READY, bytes_of(NULL, 0), NULL, 0);
}

const char *handover_start(struct process *process, struct client *console, const char *version) {
    struct socket_parts parts;
    if (!is_own(stream_descriptor(&console->stream)))
        return "only the process's own user may take over, over the Unix socket";
    if (strcmp(version, HANDOVER_VERSION) != 0)
        return "this version hands over in another way than the new one wants";
    if (process->is_suspended) return "already suspended/paused";
    if (process->is_shutting_down) return "pooler is shutting down";
    if (process->handover != NULL) return "a takeover is in progress";
    if (!stream_detach(&console->stream, &parts)) return "the connection is in use";
    process_hold_accepting(process);
    handover_new(process, parts.fd, true);
    struct handover *handover = process->handover;
    handover->poller = poller_open(process->workers[0].loop, parts.fd, on_told, handover);
    offer(handover);
    return NULL;
}

/* ---- both */

bool handover_is_giving(const struct process *process) {
    return process->handover != NULL && process->handover->is_giving;
}

void handover_tick(struct process *process) {
    struct handover *handover = process->handover;
    if (handover == NULL) return;
    if (!handover->is_giving || !handover->is_gone) {
        (void)handover_link_flush(handover->link);
        return;
    }
    if (handover->sweeps >= SWEEPS && !handover->is_cut) sweep_all(process);
    bool is_sent = handover_link_flush(handover->link) || handover->is_cut;
    if (!is_sent || process_has_clients(process)) {
        handover->quiet_ticks = 0;
        return;
    }
    if (++handover->quiet_ticks < QUIET_TICKS) return;
    log_line(LOG_LEVEL_LOG, "all clients are handed over, exiting");
    process_shut_down(process, ADMIN_SHUTDOWN_NOW);
}

void handover_free(struct process *process) {
    struct handover *handover = process->handover;
    if (handover == NULL) return;
    process->handover = NULL;
    loop_timer_stop(&handover->timer);
    poller_close(&handover->poller);
    handover_link_free(&handover->link);
    memory_free(handover);
}
