/* A watched socket, with or without TLS; see net/socket.h. */
#include "net/socket.h"

#include "core/check.h"
#include "core/memory.h"
#include "net/loop.h"
#include "net/tls.h"
#include "net/watch.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Writes of several parts up to this size are copied into one. */
#define JOIN_BYTES 1024u

struct socket {
    struct watch watch;
    int wanted;      /* set of enum socket_event */
    struct tls *tls; /* NULL: plain */
    void (*on_event)(void *owner, int events);
    void *owner;
};

/* After an error nothing more is watched, and the kernel tells it once: everything that is wanted
 * is reported, and the owner reads until the descriptor itself tells what happened. */
static void on_trouble(struct socket *socket, uint32_t events) {
    int happened = socket->wanted;
    if (events & EPOLLERR) {
        watch_want(&socket->watch, 0);
        socket->wanted = 0;
        happened |= SOCKET_BROKEN;
    }
    socket->on_event(socket->owner, happened);
}

static void on_watch(struct watch *watch, uint32_t events) {
    struct socket *socket = (struct socket *)(void *)watch;
    if (events & (EPOLLERR | EPOLLHUP)) {
        on_trouble(socket, events);
        return;
    }
    int happened = 0;
    if (events & EPOLLIN) happened |= SOCKET_READABLE;
    if (events & EPOLLOUT) happened |= SOCKET_WRITABLE;
    if (events & EPOLLRDHUP) happened |= SOCKET_GONE;
    socket->on_event(socket->owner, happened);
}

struct socket *socket_new(struct loop *loop, int fd, void (*on_event)(void *owner, int events),
                          void *owner) {
    struct socket *socket = memory_new(sizeof *socket);
    watch_init(&socket->watch, loop_watches(loop), fd, on_watch);
    socket->on_event = on_event;
    socket->owner = owner;
    return socket;
}

void socket_want(struct socket *socket, int events) {
    if (socket->wanted == events) return;
    socket->wanted = events;
    uint32_t wanted = 0;
    if (events & SOCKET_READABLE) wanted |= EPOLLIN;
    if (events & SOCKET_WRITABLE) wanted |= EPOLLOUT;
    if (events & SOCKET_GONE) wanted |= EPOLLRDHUP;
    watch_want(&socket->watch, wanted);
}

static ssize_t judge(ssize_t n, ssize_t answer_again) {
    if (n >= 0) return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return answer_again;
    return SOCKET_FAILED;
}

ssize_t socket_read(struct socket *socket, char *at, size_t size) {
    if (socket->tls != NULL) return tls_read(socket->tls, at, size);
    return judge(recv(socket->watch.fd, at, size, 0), SOCKET_WANTS_READ);
}

/* Copies short parts into one piece, since send costs the kernel less than sendmsg. Returns the
 * length, or 0 if they do not fit. */
static size_t join(char room[JOIN_BYTES], const struct bytes *parts, size_t count) {
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > JOIN_BYTES - len) return 0;
        memcpy(room + len, parts[i].at, parts[i].len);
        len += parts[i].len;
    }
    return len;
}

static ssize_t send_one(const struct socket *socket, const char *at, size_t len) {
    return judge(send(socket->watch.fd, at, len, MSG_NOSIGNAL), SOCKET_WANTS_WRITE);
}

ssize_t socket_write(struct socket *socket, const struct bytes *parts, size_t count) {
    CHECK(count > 0 && count <= SOCKET_PARTS_MAX);
    if (socket->tls != NULL) return tls_write(socket->tls, parts, count);
    if (count == 1) return send_one(socket, parts[0].at, parts[0].len);
    char room[JOIN_BYTES];
    size_t joined = join(room, parts, count);
    if (joined > 0) return send_one(socket, room, joined);
    struct iovec iov[SOCKET_PARTS_MAX];
    for (size_t i = 0; i < count; i++) {
        iov[i].iov_base = (void *)(uintptr_t)parts[i].at;
        iov[i].iov_len = parts[i].len;
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    return judge(sendmsg(socket->watch.fd, &message, MSG_NOSIGNAL), SOCKET_WANTS_WRITE);
}

bool socket_is_plain(const struct socket *socket) {
    return socket->tls == NULL;
}

bool socket_has_pending(const struct socket *socket) {
    /* A plain socket announces every byte. */
    return socket->tls != NULL && tls_has_pending(socket->tls);
}

void socket_secure(struct socket *socket, struct tls *tls) {
    CHECK(socket->tls == NULL);
    socket->tls = tls;
    tls_set_descriptor(tls, socket->watch.fd);
}

ssize_t socket_handshake(struct socket *socket) {
    return tls_handshake(socket->tls);
}

struct tls *socket_tls(const struct socket *socket) {
    return socket->tls;
}

void socket_detach(struct socket **socket_at, struct socket_parts *parts) {
    struct socket *socket = *socket_at;
    *socket_at = NULL;
    *parts = (struct socket_parts){socket->watch.fd, socket->tls};
    socket->tls = NULL;
    watch_want(&socket->watch, 0);
    memory_free(socket);
}

void socket_close(struct socket **socket_at) {
    if (*socket_at == NULL) return;
    struct socket_parts parts;
    socket_detach(socket_at, &parts);
    tls_free(&parts.tls);
    (void)close(parts.fd);
}

int socket_descriptor(const struct socket *socket) {
    return socket->watch.fd;
}
