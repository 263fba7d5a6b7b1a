/*
 * Streams over sockets; see net/stream.h.
 *
 * What is wanted of the socket follows from the state alone (want_of), so that no path can forget
 * to arm an event. Two kinds of bytes are announced by no event: those that TLS has decrypted
 * already, and those left on a broken socket. For both, the stream hangs itself on the loop's end
 * of turn and reads there.
 */
#include "net/stream.h"

#include "net/socket.h"
#include "net/tls.h"

#include "core/check.h"

#include <errno.h>

/* A broken or pending stream is read this many times before others get their turn. */
#define READS_PER_TURN 16

static bool may_read(const struct stream *stream) {
    return stream->is_reading && !stream->is_ended && !stream->is_held;
}

static int want_of(const struct stream *stream) {
    int want = 0;
    if (stream->is_securing) return stream->read_wants_write ? SOCKET_WRITABLE : SOCKET_READABLE;
    if (may_read(stream)) {
        want |= stream->read_wants_write ? SOCKET_WRITABLE : SOCKET_READABLE;
    } else if (!stream->is_held && !stream->is_ended && !stream->is_hung_up &&
               stream->ops->on_hangup != NULL) {
        want |= SOCKET_GONE;
    }
    if (buf_length(&stream->queue) > 0)
        want |= stream->write_wants_read ? SOCKET_READABLE : SOCKET_WRITABLE;
    return want;
}

static void arm(struct stream *stream) {
    if (stream->socket == NULL || stream->is_broken) return;
    socket_want(stream->socket, want_of(stream));
}

static bool has_unannounced(const struct stream *stream) {
    return may_read(stream) && !stream->is_securing &&
           (stream->is_broken || socket_has_pending(stream->socket));
}

/* One read; false if nothing more is to be had now. */
static bool read_once(struct stream *stream) {
    char *buffer = loop_read_buffer(stream->loop);
    ssize_t n = socket_read(stream->socket, buffer, LOOP_READ_BYTES);
    stream->read_wants_write = n == SOCKET_WANTS_WRITE;
    if (n > 0) {
        stream->ops->on_bytes(stream, buffer, (size_t)n);
        return true;
    }
    if (n == SOCKET_WANTS_READ || n == SOCKET_WANTS_WRITE) {
        if (!stream->is_broken) return false;
        errno = ECONNRESET;
    }
    stream->is_ended = true;
    stream->ops->on_ended(stream, n == 0 ? 0 : errno);
    return false;
}

static void read_some(struct stream *stream) {
    bool more = read_once(stream);
    if (stream->is_plain && !stream->is_broken) return; /* every byte is announced */
    for (int i = 1; i < READS_PER_TURN && more; i++) {
        if (stream->socket == NULL || !has_unannounced(stream)) return;
        more = read_once(stream);
    }
    if (stream->socket != NULL && has_unannounced(stream))
        loop_at_end(stream->loop, &stream->later);
}

/* Sends what it can of `parts`; returns how many bytes went. */
static size_t send_parts(struct stream *stream, const struct bytes *parts, size_t count) {
    ssize_t n = socket_write(stream->socket, parts, count);
    stream->write_wants_read = n == SOCKET_WANTS_READ;
    if (n >= 0) return (size_t)n;
    if (n == SOCKET_FAILED) {
        stream->write_failed = true;
        buf_release(&stream->queue);
    }
    return 0;
}

static void flush(struct stream *stream) {
    struct bytes all = buf_content(&stream->queue);
    size_t sent = send_parts(stream, &all, 1);
    if (stream->write_failed) return;
    buf_consume(&stream->queue, sent);
    size_t left = buf_length(&stream->queue);
    if (left == 0) buf_release(&stream->queue);
    if (left <= STREAM_LOW_BYTES && stream->is_over_low) {
        stream->is_over_low = false;
        stream->ops->on_drained(stream);
    }
}

/* One step of the handshake. The owner may close the stream in either callback. */
static void secure(struct stream *stream) {
    ssize_t n = socket_handshake(stream->socket);
    stream->read_wants_write = n == SOCKET_WANTS_WRITE;
    if ((n == SOCKET_WANTS_READ || n == SOCKET_WANTS_WRITE) && !stream->is_broken) return;
    int error = n == SOCKET_FAILED ? errno : ECONNRESET;
    stream->is_securing = false;
    if (n != 0) {
        stream->write_failed = true;
        buf_release(&stream->queue);
        stream->is_ended = true;
        stream->ops->on_ended(stream, error);
        return;
    }
    if (stream->ops->on_secured != NULL) stream->ops->on_secured(stream);
    if (stream->socket != NULL && buf_length(&stream->queue) > 0) flush(stream);
    /* The peer's first bytes may have come with the end of its handshake. */
    if (stream->socket != NULL && may_read(stream)) read_some(stream);
}

static void read_later(struct loop_hook *hook) {
    struct stream *stream = LIST_OWNER(hook, struct stream, later);
    if (stream->socket == NULL) return;
    if (stream->is_securing)
        secure(stream);
    else if (has_unannounced(stream))
        read_some(stream);
    arm(stream);
}

/* Also where the peer's end was told before: now nothing can be sent either. */
static void break_off(struct stream *stream) {
    stream->is_broken = true;
    stream->is_hung_up = false;
}

/* Anything but bytes on a connection that is read without TLS. */
static void on_rare_event(struct stream *stream, int events) {
    if (events & SOCKET_BROKEN) {
        break_off(stream);
        events |= SOCKET_READABLE | SOCKET_GONE;
        stream->read_wants_write = false;
    }
    if (stream->is_securing) {
        secure(stream);
        arm(stream);
        return;
    }
    int write_event = stream->write_wants_read ? SOCKET_READABLE : SOCKET_WRITABLE;
    int read_event = stream->read_wants_write ? SOCKET_WRITABLE : SOCKET_READABLE;
    if ((events & write_event) && buf_length(&stream->queue) > 0) flush(stream);
    if (stream->socket != NULL && stream->write_failed && !stream->is_reading &&
        !stream->is_broken) {
        break_off(stream); /* the failed write may have taken the error, so that no event tells */
        events |= SOCKET_GONE;
    }
    if (stream->socket != NULL && may_read(stream) && (events & read_event)) read_some(stream);
    if (stream->socket != NULL && !stream->is_reading && (events & SOCKET_GONE) &&
        !stream->is_hung_up) {
        stream->is_hung_up = true;
        if (stream->ops->on_hangup != NULL) stream->ops->on_hangup(stream);
    }
    arm(stream);
}

static void on_event(void *owner, int events) {
    struct stream *stream = owner;
    if (events != SOCKET_READABLE || !stream->is_plain || !may_read(stream)) {
        on_rare_event(stream, events);
        return;
    }
    (void)read_once(stream);
    if (stream->is_ended) arm(stream);
}

void stream_open(struct stream *stream, struct loop *loop, int fd, const struct stream_ops *ops) {
    *stream = (struct stream){.ops = ops, .loop = loop, .later = {.run = read_later}};
    stream->socket = socket_new(loop, fd, on_event, stream);
    stream->is_plain = socket_is_plain(stream->socket);
    stream->is_reading = true;
    arm(stream);
}

void stream_secure(struct stream *stream, struct tls *tls) {
    CHECK(stream->socket != NULL && buf_length(&stream->queue) == 0);
    socket_secure(stream->socket, tls);
    stream->is_plain = socket_is_plain(stream->socket);
    stream->is_securing = true;
    loop_at_end(stream->loop, &stream->later);
}

void stream_resume_tls(struct stream *stream, struct tls *tls) {
    socket_secure(stream->socket, tls);
    stream->is_plain = socket_is_plain(stream->socket);
}

struct tls *stream_tls(const struct stream *stream) {
    return stream->socket == NULL ? NULL : socket_tls(stream->socket);
}

const char *stream_trouble(const struct stream *stream, int error) {
    const struct tls *tls = stream_tls(stream);
    const char *words = tls == NULL ? "" : tls_error(tls);
    return words[0] != '\0' ? words : strerror(error);
}

void stream_close(struct stream *stream) {
    if (stream->socket == NULL) return;
    if (buf_length(&stream->queue) > 0 && !stream->is_securing) {
        struct bytes all = buf_content(&stream->queue);
        (void)send_parts(stream, &all, 1);
    }
    loop_not_at_end(stream->loop, &stream->later);
    socket_close(&stream->socket);
    buf_release(&stream->queue);
    stream->is_reading = false;
    stream->is_ended = true;
}

static void enqueue(struct stream *stream, const struct bytes *parts, size_t count, size_t skip) {
    for (size_t i = 0; i < count; i++) {
        if (skip >= parts[i].len) {
            skip -= parts[i].len;
            continue;
        }
        buf_append(&stream->queue, parts[i].at + skip, parts[i].len - skip);
        skip = 0;
    }
    if (buf_length(&stream->queue) > STREAM_LOW_BYTES) stream->is_over_low = true;
    arm(stream);
}

void stream_write(struct stream *stream, const struct bytes *parts, size_t count) {
    if (stream->socket == NULL || stream->write_failed || count == 0) return;
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += parts[i].len;
    if (total == 0) return;
    size_t sent = 0;
    if (buf_length(&stream->queue) == 0 && !stream->is_securing)
        sent = send_parts(stream, parts, count);
    if (sent < total && !stream->write_failed) enqueue(stream, parts, count, sent);
}

void stream_write_bytes(struct stream *stream, struct bytes bytes) {
    stream_write(stream, &bytes, 1);
}

void stream_stop(struct stream *stream) {
    stream->is_reading = false;
    arm(stream);
}

void stream_start(struct stream *stream) {
    if (stream->is_reading || stream->socket == NULL) return;
    stream->is_reading = true;
    if (has_unannounced(stream)) loop_at_end(stream->loop, &stream->later);
    arm(stream);
}

void stream_hold(struct stream *stream, bool is_held) {
    stream->is_held = is_held;
    if (stream->socket == NULL) return;
    if (has_unannounced(stream)) loop_at_end(stream->loop, &stream->later);
    arm(stream);
}

bool stream_detach(struct stream *stream, struct socket_parts *parts) {
    if (stream->socket == NULL || stream->is_broken || stream->is_securing ||
        buf_length(&stream->queue) > 0 || socket_has_pending(stream->socket))
        return false;
    socket_detach(&stream->socket, parts);
    loop_not_at_end(stream->loop, &stream->later);
    return true;
}

int stream_descriptor(const struct stream *stream) {
    return stream->socket == NULL ? -1 : socket_descriptor(stream->socket);
}
