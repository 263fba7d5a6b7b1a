/*
 * Listening and dialling; see net/endpoint.h.
 *
 * A dial goes through at most three steps, each of which may be left at any time:
 *
 *      name  --lookup-->  address  --connect-->  writable  --SO_ERROR-->  done
 *
 * Results that are known at once (a Unix socket, a refused address) are told at the end of the
 * turn, so that no caller is called back before its own call has returned.
 */
#include "net/endpoint.h"

#include "core/check.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/loop.h"
#include "net/resolve.h"
#include "net/watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage room;
};

/* ---- addresses */

static bool host_is_unix(const char *host) {
    return host[0] == '/' || host[0] == '@';
}

/* Fills in the address of DIR/.s.PGSQL.PORT; 0 if it does not fit. */
static socklen_t unix_address(union any_address *address, const char *path) {
    *address = (union any_address){.local = {.sun_family = AF_UNIX}};
    size_t len = strlen(path);
    if (len >= sizeof address->local.sun_path) return 0;
    memcpy(address->local.sun_path, path, len);
    if (path[0] == '@') address->local.sun_path[0] = '\0';
    size_t size = offsetof(struct sockaddr_un, sun_path) + len + (path[0] == '@' ? 0 : 1);
    return (socklen_t)size;
}

/* Fills in a numeric IPv4 or IPv6 address; 0 if it is neither. */
static socklen_t numeric_address(union any_address *address, const char *host, unsigned port) {
    *address = (union any_address){0};
    if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((uint16_t)port);
        return sizeof address->v4;
    }
    if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((uint16_t)port);
        return sizeof address->v6;
    }
    return 0;
}

/* The peer of a connection that was reset. Linux wants no more room than the address takes. */
static int former_peer(int fd, union any_address *address) {
    socklen_t size = sizeof address->v6;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, address, &size) == 0) return 0;
    size = sizeof address->v4;
    return getsockopt(fd, SOL_SOCKET, SO_PEERNAME, address, &size);
}

void endpoint_describe(int fd, bool is_peer, char address[ENDPOINT_TEXT_SIZE], unsigned *port) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    int result = is_peer ? getpeername(fd, &a.any, &size) : getsockname(fd, &a.any, &size);
    if (result != 0 && is_peer) result = former_peer(fd, &a);
    *port = 0;
    (void)snprintf(address, ENDPOINT_TEXT_SIZE, "unix");
    if (result != 0) return;
    if (a.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &a.v4.sin_addr, address, ENDPOINT_TEXT_SIZE);
        *port = ntohs(a.v4.sin_port);
    } else if (a.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &a.v6.sin6_addr, address, ENDPOINT_TEXT_SIZE);
        *port = ntohs(a.v6.sin6_port);
    }
}

unsigned endpoint_peer_address(int fd, unsigned char address[16]) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    if (getpeername(fd, &a.any, &size) != 0) return 0;
    if (a.any.sa_family == AF_INET) {
        memcpy(address, &a.v4.sin_addr, 4);
        return 4;
    }
    if (a.any.sa_family != AF_INET6) return 0;
    const unsigned char *v6 = a.v6.sin6_addr.s6_addr;
    bool is_mapped = IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr);
    memcpy(address, is_mapped ? v6 + 12 : v6, is_mapped ? 4 : 16);
    return is_mapped ? 4 : 16;
}

bool endpoint_is_unix(int fd, unsigned *peer_uid, int *peer_pid) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    if (getsockname(fd, &a.any, &size) != 0 || a.any.sa_family != AF_UNIX) return false;
    struct ucred who;
    socklen_t who_size = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_size) != 0) return false;
    *peer_uid = who.uid;
    *peer_pid = who.pid;
    return true;
}

struct endpoint_end endpoint_end_of(int fd, bool is_peer) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    struct endpoint_end end = {.size = 0};
    int result = is_peer ? getpeername(fd, &a.any, &size) : getsockname(fd, &a.any, &size);
    if (result != 0) return end;
    if (a.any.sa_family == AF_INET) {
        end.size = 4;
        end.port = ntohs(a.v4.sin_port);
        memcpy(end.address, &a.v4.sin_addr, 4);
    } else if (a.any.sa_family == AF_INET6) {
        end.size = 16;
        end.port = ntohs(a.v6.sin6_port);
        memcpy(end.address, &a.v6.sin6_addr, 16);
    }
    return end;
}

void endpoint_end_text(const struct endpoint_end *end, char text[ENDPOINT_TEXT_SIZE]) {
    char address[INET6_ADDRSTRLEN] = "";
    bool is_v6 = end->size == 16;
    CHECK(end->size > 0);
    (void)inet_ntop(is_v6 ? AF_INET6 : AF_INET, end->address, address, sizeof address);
    (void)snprintf(text, ENDPOINT_TEXT_SIZE, is_v6 ? "[%s]:%u" : "%s:%u", address, end->port);
}

void endpoint_unix_text(int fd, unsigned port, char text[ENDPOINT_TEXT_SIZE]) {
    unsigned uid;
    int pid = 0;
    if (endpoint_is_unix(fd, &uid, &pid) && pid > 0)
        (void)snprintf(text, ENDPOINT_TEXT_SIZE, "unix(%d):%u", pid, port);
    else
        (void)snprintf(text, ENDPOINT_TEXT_SIZE, "unix:%u", port);
}

static void set_option(int fd, int level, int option, int value) {
    if (value > 0) (void)setsockopt(fd, level, option, &value, sizeof value);
}

void endpoint_apply_options(int fd, const struct endpoint_options *options) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    if (getsockname(fd, &a.any, &size) != 0 || a.any.sa_family == AF_UNIX) return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (options == NULL) return;
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, options->keepalive);
    if (options->keepalive) {
        set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, options->keepalive_count);
        set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, options->keepalive_idle_s);
        set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, options->keepalive_interval_s);
    }
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, options->user_timeout_ms);
    set_option(fd, SOL_SOCKET, SO_SNDBUF, options->buffer_bytes);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, options->buffer_bytes);
}

/* ---- dialling */

struct endpoint_dial {
    struct watch watch;
    struct loop_hook hook;
    struct loop *loop;
    struct resolve *resolve;
    struct endpoint_options options;
    unsigned port;
    int fd;
    const char *error; /* NULL: none yet */
    void (*done)(void *owner, int fd, const char *error);
    void *owner;
};

/* The descriptor is the caller's to close, after this. */
static void dial_free(struct endpoint_dial *dial) {
    loop_not_at_end(dial->loop, &dial->hook);
    resolve_close(&dial->resolve);
    watch_want(&dial->watch, 0);
    memory_free(dial);
}

static void dial_tell(struct loop_hook *hook) {
    struct endpoint_dial *dial = LIST_OWNER(hook, struct endpoint_dial, hook);
    int fd = dial->fd;
    const char *error = dial->error;
    void (*done)(void *, int, const char *) = dial->done;
    void *owner = dial->owner;
    dial_free(dial);
    if (error != NULL && fd >= 0) (void)close(fd);
    done(owner, error != NULL ? -1 : fd, error);
}

static void dial_fail(struct endpoint_dial *dial, const char *what, int error) {
    log_line(LOG_LEVEL_DEBUG, "connect failed: %s%s", what, strerror(error));
    dial->error = "connect failed";
    loop_at_end(dial->loop, &dial->hook);
}

static void on_dial_event(struct watch *watch, uint32_t events) {
    struct endpoint_dial *dial = (struct endpoint_dial *)(void *)watch;
    (void)events;
    watch_want(watch, 0);
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) {
        dial_fail(dial, "", error);
        return;
    }
    loop_at_end(dial->loop, &dial->hook);
}

static void dial_connect(struct endpoint_dial *dial, const union any_address *address,
                         socklen_t size) {
    dial->fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (dial->fd < 0) {
        dial_fail(dial, "socket: ", errno);
        return;
    }
    endpoint_apply_options(dial->fd, &dial->options);
    if (connect(dial->fd, &address->any, size) == 0) {
        loop_at_end(dial->loop, &dial->hook);
        return;
    }
    if (errno != EINPROGRESS) {
        dial_fail(dial, "", errno);
        return;
    }
    watch_init(&dial->watch, loop_watches(dial->loop), dial->fd, on_dial_event);
    watch_want(&dial->watch, EPOLLOUT);
}

static void on_dial_lookup(void *owner, const char *text, const char *error) {
    struct endpoint_dial *dial = owner;
    dial->resolve = NULL;
    if (text == NULL) {
        log_line(LOG_LEVEL_DEBUG, "%s", error);
        dial->error = "server DNS lookup failed";
        loop_at_end(dial->loop, &dial->hook);
        return;
    }
    union any_address address;
    socklen_t size = numeric_address(&address, text, dial->port);
    if (size == 0) {
        dial_fail(dial, "unusable address: ", EAFNOSUPPORT);
        return;
    }
    dial_connect(dial, &address, size);
}

struct endpoint_dial *endpoint_dial(struct loop *loop, const struct endpoint_target *target,
                                    void (*done)(void *owner, int fd, const char *error),
                                    void *owner) {
    struct endpoint_dial *dial = memory_new(sizeof *dial);
    dial->loop = loop;
    dial->hook.run = dial_tell;
    dial->port = target->port;
    dial->fd = -1;
    dial->done = done;
    dial->owner = owner;
    if (target->options != NULL) dial->options = *target->options;
    if (!host_is_unix(target->host)) {
        dial->resolve =
            resolve_begin(loop, target->host, target->takes_turns, on_dial_lookup, dial);
        return dial;
    }
    char path[ENDPOINT_TEXT_SIZE * 2];
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%u", target->host, target->port);
    union any_address address;
    socklen_t size = unix_address(&address, path);
    if (size == 0) {
        dial_fail(dial, "", ENAMETOOLONG);
    } else {
        dial_connect(dial, &address, size);
    }
    return dial;
}

void endpoint_dial_close(struct endpoint_dial **dial_at) {
    struct endpoint_dial *dial = *dial_at;
    if (dial == NULL) return;
    *dial_at = NULL;
    int fd = dial->fd;
    dial_free(dial);
    if (fd >= 0) (void)close(fd);
}

/* ---- listening */

struct endpoint_listener {
    struct watch watch;
    struct loop_timer pause; /* accepts again after descriptors had run out */
    struct loop_hook end;    /* frees it: it may be closed by whom it gives a connection to */
    struct loop *loop;
    int fd; /* -1: closed */
    bool is_unix;
    char path[ENDPOINT_TEXT_SIZE]; /* of the file to be removed at the end, or empty */
    void (*on_accept)(void *owner, int fd);
    void *owner;
};

/* So many connections are taken in one turn, so that a flood of logins does not starve others. */
#define ACCEPTS_PER_TURN 64
#define ACCEPTS_AT_END   4096 /* no more wait in a backlog, as Linux has it by default */

/* Without descriptors the waiting connection would be announced again and again. */
#define ACCEPT_PAUSE_MS 500

/* tcp_defer_accept: a connection that sends nothing is shown after so long. */
#define DEFER_ACCEPT_SECONDS 45

/* Accepts up to `count` connections. */
static void accept_some(struct endpoint_listener *listener, int count) {
    for (int i = 0; i < count && listener->fd >= 0; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->on_accept(listener->owner, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_line(LOG_LEVEL_ERROR, "accept failed: %s", strerror(errno));
            watch_want(&listener->watch, 0);
            loop_timer_start(listener->loop, &listener->pause, ACCEPT_PAUSE_MS, 0);
            return;
        } else {
            return;
        }
    }
}

static void on_listener_event(struct watch *watch, uint32_t events) {
    (void)events;
    accept_some((struct endpoint_listener *)(void *)watch, ACCEPTS_PER_TURN);
}

static void on_pause_over(struct loop_timer *timer) {
    struct endpoint_listener *listener = LIST_OWNER(timer, struct endpoint_listener, pause);
    watch_want(&listener->watch, EPOLLIN);
}

static void listener_free(struct loop_hook *hook) {
    memory_free(LIST_OWNER(hook, struct endpoint_listener, end));
}

static struct endpoint_listener *listener_new(struct loop *loop, int fd, bool is_unix) {
    struct endpoint_listener *listener = memory_new(sizeof *listener);
    listener->loop = loop;
    listener->pause.run = on_pause_over;
    listener->end.run = listener_free;
    listener->fd = fd;
    listener->is_unix = is_unix;
    watch_init(&listener->watch, loop_watches(loop), fd, on_listener_event);
    return listener;
}

struct endpoint_listener *endpoint_listen_on(struct loop *loop, int fd) {
    union any_address a = {0};
    socklen_t size = sizeof a;
    bool is_unix = getsockname(fd, &a.any, &size) == 0 && a.any.sa_family == AF_UNIX;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return listener_new(loop, fd, is_unix);
}

/* A socket of the family that is not bound yet; -1 with errno. */
static int open_socket(int family) {
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Closes a socket that was not to be had, keeping errno. */
static void give_up(int fd) {
    int error = errno;
    if (fd >= 0) (void)close(fd);
    errno = error;
}

/* The address of a name, asked for at start-up, when nobody is served yet. */
static socklen_t named_address(union any_address *address, const char *host, unsigned port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *answer = NULL;
    char text[NI_MAXHOST] = "";
    if (getaddrinfo(host, NULL, &hints, &answer) != 0) return 0;
    (void)getnameinfo(answer->ai_addr, answer->ai_addrlen, text, sizeof text, NULL, 0,
                      NI_NUMERICHOST);
    freeaddrinfo(answer);
    return numeric_address(address, text, port);
}

static int listen_tcp(const union any_address *address, socklen_t size,
                      const struct endpoint_tcp *where) {
    int fd = open_socket(address->any.sa_family);
    if (fd < 0) return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, where->is_shared);
    if (address->any.sa_family == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, &address->any, size) == 0 && listen(fd, where->backlog) == 0) return fd;
    give_up(fd);
    return -1;
}

struct endpoint_listener *endpoint_listen_tcp(struct loop *loop, const struct endpoint_tcp *where,
                                              char error[ENDPOINT_TEXT_SIZE]) {
    union any_address address;
    socklen_t size = numeric_address(&address, where->host, where->port);
    if (size == 0) size = named_address(&address, where->host, where->port);
    errno = ENXIO;
    int fd = size == 0 ? -1 : listen_tcp(&address, size, where);
    if (fd >= 0) return listener_new(loop, fd, false);
    int trouble = errno;
    (void)snprintf(error, ENDPOINT_TEXT_SIZE, "cannot listen on %s:%u: %s", where->host,
                   where->port, strerror(trouble));
    errno = trouble;
    return NULL;
}

/* True if somebody listens there, with room for one more or without. */
bool endpoint_unix_answers(const char *path) {
    union any_address address;
    socklen_t size = unix_address(&address, path);
    int fd = size == 0 ? -1 : open_socket(AF_UNIX);
    if (fd < 0) return false;
    bool is_alive = connect(fd, &address.any, size) == 0 || errno == EAGAIN;
    (void)close(fd);
    return is_alive;
}

/* The number of a group given by name or number; false if there is none. */
static bool find_group(const char *name, gid_t *gid) {
    const struct group *group = getgrnam(name);
    char *end;
    unsigned long number = group != NULL ? group->gr_gid : strtoul(name, &end, 10);
    *gid = (gid_t)number;
    return group != NULL || (*end == '\0' && number < UINT32_MAX);
}

/* Before it listens, so that nobody gets in who may not. */
static bool set_owner(const struct endpoint_unix *where, char error[ENDPOINT_TEXT_SIZE]) {
    gid_t gid;
    if (where->group[0] != '\0' && !find_group(where->group, &gid)) {
        (void)snprintf(error, ENDPOINT_TEXT_SIZE, "could not find group '%.64s'", where->group);
        return false;
    }
    if ((where->group[0] == '\0' || chown(where->path, (uid_t)-1, gid) == 0) &&
        chmod(where->path, (mode_t)where->mode) == 0)
        return true;
    (void)snprintf(error, ENDPOINT_TEXT_SIZE, "cannot set group or mode of unix:%.80s: %s",
                   where->path, strerror(errno));
    return false;
}

/* Binds and listens; -1 with a reason. */
static int listen_unix(const struct endpoint_unix *where, char error[ENDPOINT_TEXT_SIZE]) {
    union any_address address;
    socklen_t size = unix_address(&address, where->path);
    bool is_file = where->path[0] != '@';
    struct stat status;
    errno = ENAMETOOLONG;
    int fd = size == 0 ? -1 : open_socket(AF_UNIX);
    if (fd >= 0 && is_file && lstat(where->path, &status) == 0 && S_ISSOCK(status.st_mode))
        (void)unlink(where->path);
    if (fd < 0 || bind(fd, &address.any, size) != 0) {
        (void)snprintf(error, ENDPOINT_TEXT_SIZE, "cannot listen on unix:%.80s: %s", where->path,
                       strerror(errno));
        give_up(fd);
        return -1;
    }
    if (is_file && !set_owner(where, error)) {
        (void)unlink(where->path);
        give_up(fd);
        errno = 0;
        return -1;
    }
    CHECK(listen(fd, where->backlog) == 0);
    return fd;
}

struct endpoint_listener *endpoint_listen_unix(struct loop *loop, const struct endpoint_unix *where,
                                               char error[ENDPOINT_TEXT_SIZE]) {
    if (endpoint_unix_answers(where->path)) {
        (void)snprintf(error, ENDPOINT_TEXT_SIZE, "unix socket is in use, cannot continue");
        errno = 0;
        return NULL;
    }
    int fd = listen_unix(where, error);
    if (fd < 0) return NULL;
    struct endpoint_listener *listener = listener_new(loop, fd, true);
    if (where->path[0] != '@') endpoint_listener_own(listener, where->path);
    return listener;
}

const char *endpoint_listener_path(const struct endpoint_listener *listener) {
    return listener->path;
}

bool endpoint_listener_is_unix(const struct endpoint_listener *listener) {
    return listener->is_unix;
}

int endpoint_listener_descriptor(const struct endpoint_listener *listener) {
    return listener->fd;
}

void endpoint_listener_own(struct endpoint_listener *listener, const char *path) {
    (void)snprintf(listener->path, sizeof listener->path, "%s", path);
}

/* Buffers of a fixed size become again what the kernel gives to a new socket, and fits to need. */
static void reset_buffers(int fd, int fresh) {
    static const int options[] = {SO_SNDBUF, SO_RCVBUF};
    int lock = 0;
    socklen_t size = sizeof lock;
    if (getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, &size) != 0 || lock == 0) return;
    for (size_t i = 0; i < COUNT(options); i++) {
        int value = 0;
        size = sizeof value;
        if (getsockopt(fresh, SOL_SOCKET, options[i], &value, &size) != 0) continue;
        value /= 2; /* the kernel doubles what it is given */
        (void)setsockopt(fd, SOL_SOCKET, options[i], &value, sizeof value);
    }
    lock = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, sizeof lock);
}

/* What is no longer asked for is as on a new socket again: whom a listener accepts has the
 * listener's options. */
static void reset_options(int fd) {
    static const struct {
        int level;
        int option;
    } reset[] = {{SOL_SOCKET, SO_KEEPALIVE},
                 {IPPROTO_TCP, TCP_KEEPCNT},
                 {IPPROTO_TCP, TCP_KEEPIDLE},
                 {IPPROTO_TCP, TCP_KEEPINTVL},
                 {IPPROTO_TCP, TCP_USER_TIMEOUT}};
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fresh < 0) return;
    for (size_t i = 0; i < COUNT(reset); i++) {
        int value = 0;
        socklen_t size = sizeof value;
        if (getsockopt(fresh, reset[i].level, reset[i].option, &value, &size) == 0)
            (void)setsockopt(fd, reset[i].level, reset[i].option, &value, sizeof value);
    }
    reset_buffers(fd, fresh);
    (void)close(fresh);
}

void endpoint_listener_set(struct endpoint_listener *listener,
                           const struct endpoint_options *options) {
    if (listener->is_unix) return;
    reset_options(listener->fd);
    endpoint_apply_options(listener->fd, options);
    int seconds = options->defer_accept ? DEFER_ACCEPT_SECONDS : 0;
    (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

void endpoint_listener_start(struct endpoint_listener *listener,
                             void (*on_accept)(void *owner, int fd), void *owner) {
    listener->on_accept = on_accept;
    listener->owner = owner;
    watch_want(&listener->watch, EPOLLIN);
}

void endpoint_listener_stop(struct endpoint_listener *listener) {
    loop_timer_stop(&listener->pause);
    watch_want(&listener->watch, 0);
}

void endpoint_listener_drain(struct endpoint_listener *listener) {
    if (listener->on_accept != NULL) accept_some(listener, ACCEPTS_AT_END);
}

void endpoint_listener_close(struct endpoint_listener **listener_at) {
    struct endpoint_listener *listener = *listener_at;
    if (listener == NULL) return;
    *listener_at = NULL;
    endpoint_listener_stop(listener);
    if (listener->path[0] != '\0') (void)unlink(listener->path);
    (void)close(listener->fd);
    listener->fd = -1;
    loop_at_end(listener->loop, &listener->end);
}
