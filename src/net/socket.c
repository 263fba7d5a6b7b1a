/*
 * A socket under uv_poll_t, with or without TLS; see net/socket.h.
 *
 * The poll handle is a small object of its own: the socket's owner may be gone before libuv has
 * closed it, so it is freed in its close callback and never points to anything freed. libuv stops
 * a handle by itself when the kernel reports EPOLLERR, and gives no errno; all wanted events are
 * then reported and the owner reads until the descriptor itself tells what happened.
 */
#include "net/socket.h"

#include "core/check.h"
#include "core/memory.h"
#include "net/loop.h"
#include "net/tls.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

/* Writes of several parts up to this size are copied into one. */
#define JOIN_BYTES 1024u

struct socket {
    uv_poll_t poll;
    int fd;
    int wanted;      /* enum socket_event as given to libuv */
    struct tls *tls; /* NULL: plain */
    void (*on_event)(void *owner, int events);
    void *owner;
};

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct socket *socket = (struct socket *)(void *)poll;
    if (status < 0) {
        int wanted = socket->wanted;
        socket->wanted = 0;
        socket->on_event(socket->owner, wanted | SOCKET_BROKEN);
        return;
    }
    int happened = 0;
    if (events & UV_READABLE) happened |= SOCKET_READABLE;
    if (events & UV_WRITABLE) happened |= SOCKET_WRITABLE;
    if (events & UV_DISCONNECT) happened |= SOCKET_GONE;
    socket->on_event(socket->owner, happened);
}

struct socket *socket_new(struct loop *loop, int fd, void (*on_event)(void *owner, int events),
                          void *owner) {
    struct socket *socket = memory_new(sizeof *socket);
    CHECK(uv_poll_init(loop_uv(loop), &socket->poll, fd) == 0);
    socket->fd = fd;
    socket->on_event = on_event;
    socket->owner = owner;
    return socket;
}

void socket_want(struct socket *socket, int events) {
    if (socket->wanted == events) return;
    socket->wanted = events;
    int uv_events = 0;
    if (events & SOCKET_READABLE) uv_events |= UV_READABLE;
    if (events & SOCKET_WRITABLE) uv_events |= UV_WRITABLE;
    if (events & SOCKET_GONE) uv_events |= UV_DISCONNECT;
    if (uv_events == 0) {
        CHECK(uv_poll_stop(&socket->poll) == 0);
    } else {
        CHECK(uv_poll_start(&socket->poll, uv_events, on_poll) == 0);
    }
}

static ssize_t judge(ssize_t n, ssize_t answer_again) {
    if (n >= 0) return n;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return answer_again;
    return SOCKET_FAILED;
}

ssize_t socket_read(struct socket *socket, char *at, size_t size) {
    if (socket->tls != NULL) return tls_read(socket->tls, at, size);
    return judge(recv(socket->fd, at, size, 0), SOCKET_WANTS_READ);
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
    return judge(send(socket->fd, at, len, MSG_NOSIGNAL), SOCKET_WANTS_WRITE);
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
    return judge(sendmsg(socket->fd, &message, MSG_NOSIGNAL), SOCKET_WANTS_WRITE);
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
    tls_set_descriptor(tls, socket->fd);
}

ssize_t socket_handshake(struct socket *socket) {
    return tls_handshake(socket->tls);
}

struct tls *socket_tls(const struct socket *socket) {
    return socket->tls;
}

static void on_closed(uv_handle_t *handle) {
    memory_free(handle);
}

void socket_detach(struct socket **socket_at, struct socket_parts *parts) {
    struct socket *socket = *socket_at;
    *socket_at = NULL;
    *parts = (struct socket_parts){socket->fd, socket->tls};
    socket->tls = NULL;
    uv_close((uv_handle_t *)&socket->poll, on_closed); /* stops it at once */
}

void socket_close(struct socket **socket_at) {
    if (*socket_at == NULL) return;
    struct socket_parts parts;
    socket_detach(socket_at, &parts);
    tls_free(&parts.tls);
    (void)close(parts.fd);
}

int socket_descriptor(const struct socket *socket) {
    return socket->fd;
}
