/*
 * A stream: bytes in order, both ways, with a bounded queue behind a socket that refuses.
 *
 *      socket readable -> one read into the loop's buffer -> on_bytes (must take all of it)
 *      stream_write -> tried at once -> what is refused is queued -> on_drained when it is gone
 *
 * An idle stream owns no buffer, TLS or not. The owner stops reading one stream while the one it
 * feeds has more than STREAM_HIGH_BYTES queued, and starts again in on_drained. Callbacks may close
 * the stream; they never run inside a call of stream_write, stream_start or stream_stop.
 */
#ifndef WEIR_NET_STREAM_H
#define WEIR_NET_STREAM_H

#include "core/buf.h"
#include "net/loop.h"

struct socket;
struct socket_parts;
struct stream;
struct tls;

#define STREAM_HIGH_BYTES (64u * 1024)
#define STREAM_LOW_BYTES  (16u * 1024)

struct stream_ops {
    /* Bytes came; they are gone after the call. */
    void (*on_bytes)(struct stream *stream, const char *at, size_t len);
    /* The queue has fallen to STREAM_LOW_BYTES or less after having been over it. */
    void (*on_drained)(struct stream *stream);
    /* No more bytes will come: `error` is an errno, or 0 for an orderly end. Called once. */
    void (*on_ended)(struct stream *stream, int error);
    /* The peer closed while the stream was not being read; bytes may still be unread. It comes
     * again, with is_broken, if the connection then turns out to be reset. */
    void (*on_hangup)(struct stream *stream);
    /* TLS stands. If it cannot be made on_ended comes instead, and stream_trouble tells why. May
     * be NULL where nobody waits for it. */
    void (*on_secured)(struct stream *stream);
};

struct stream {
    const struct stream_ops *ops;
    struct loop *loop;
    struct socket *socket; /* NULL: closed */
    struct buf queue;
    struct loop_hook later; /* reads what no event announces */
    bool is_reading;
    bool is_held;
    bool is_ended;
    bool is_plain;    /* events tell of every byte, and of what each direction waits for */
    bool is_securing; /* the handshake is under way: nothing else is read or written */
    bool is_over_low; /* on_drained is owed */
    bool is_broken;   /* no event will announce the bytes that are left */
    bool is_hung_up;  /* on_hangup was called */
    bool write_failed;
    bool read_wants_write;
    bool write_wants_read;
};

/* Takes the connected descriptor and starts reading. */
void stream_open(struct stream *stream, struct loop *loop, int fd, const struct stream_ops *ops);

/* Puts TLS on the stream, which owns it from then on; nothing may be queued. What is written before
 * on_secured waits for it. */
void stream_secure(struct stream *stream, struct tls *tls);

/* Takes over TLS that was made on another loop; directly after stream_open. */
void stream_resume_tls(struct stream *stream, struct tls *tls);

/* The TLS on the stream, also while its handshake is under way; NULL for a plain or closed one. */
struct tls *stream_tls(const struct stream *stream);

/* Why the stream ended with `error`: TLS's own words, else those of the errno. */
const char *stream_trouble(const struct stream *stream, int error);

/* Tries once to send what is queued, then closes; idempotent. No callback comes after it. */
void stream_close(struct stream *stream);

/* Writes the parts, in order; what the socket refuses is copied and queued. Bytes for a stream
 * that has failed or is closed are dropped (on_ended tells, or has told). */
void stream_write(struct stream *stream, const struct bytes *parts, size_t count);
void stream_write_bytes(struct stream *stream, struct bytes bytes);

/* Stop and start reading; both idempotent. */
void stream_stop(struct stream *stream);
void stream_start(struct stream *stream);

/* While it is held nothing is read, whatever stream_start and stream_stop say meanwhile. */
void stream_hold(struct stream *stream, bool is_held);

/* Bytes waiting to be sent. */
static inline size_t stream_queued(const struct stream *stream) {
    return buf_length(&stream->queue);
}

static inline bool stream_is_open(const struct stream *stream) {
    return stream->socket != NULL;
}

/* Takes descriptor and TLS out for another loop; false if bytes are queued or pending. */
bool stream_detach(struct stream *stream, struct socket_parts *parts);

int stream_descriptor(const struct stream *stream);

#endif
