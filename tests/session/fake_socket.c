/*
 * Sockets without a kernel; see fake_socket.h and, for the promises, net/socket.h.
 *
 * Chance never delays anything for ever: each refusal is followed by an event as soon as the
 * socket wants the one that ends it. A stream that forgets to want it comes to a standstill, which
 * the driver notices.
 */
#include "fake_socket.h"

#include "core/check.h"
#include "core/memory.h"
#include "fake_loop.h"
#include "net/socket.h"
#include "net/tls.h"

#include <errno.h>

#define TLS_RECORD_MAX      16384u
#define WIRES_MAX           64u
#define HANDSHAKE_STEPS_MAX 5u

/* After so many bytes, one by one, the rest of a bulk of data comes as on a partial wire. */
#define ONE_BYTE_READS_MAX 4000u

struct socket {
    struct wire *wire;
    struct loop *loop;
    int wanted;
    struct tls *tls;
    void (*on_event)(void *owner, int events);
    void *owner;
};

static struct wire *wires[WIRES_MAX];

static const char *const mood_names[WIRE_MOODS] = {
    [WIRE_PLAIN] = "plain",
    [WIRE_ONE_BYTE] = "one byte",
    [WIRE_PARTIAL] = "partial",
    [WIRE_TLS] = "tls",
};

const char *wire_mood_name(enum wire_mood mood) {
    return mood_names[mood];
}

/* ---- the peer's side */

struct wire *wire_new(struct dice *dice, enum wire_mood mood) {
    struct wire *wire = memory_new(sizeof *wire);
    unsigned place = 0;
    while (place < WIRES_MAX && wires[place] != NULL) place++;
    CHECK(place < WIRES_MAX);
    wires[place] = wire;
    wire->dice = dice;
    wire->mood = mood;
    wire->fd = (int)place;
    return wire;
}

void wire_free(struct wire **wire_at) {
    struct wire *wire = *wire_at;
    *wire_at = NULL;
    CHECK(wire->socket == NULL);
    wires[wire->fd] = NULL;
    buf_release(&wire->inward);
    buf_release(&wire->decrypted);
    buf_release(&wire->outward);
    buf_release(&wire->refused);
    memory_free(wire);
}

size_t wire_send(struct wire *wire, struct bytes bytes) {
    size_t room = WIRE_INWARD_MAX - buf_length(&wire->inward);
    size_t n = bytes.len < room ? bytes.len : room;
    if (wire->is_closed || wire->is_ended || wire->is_broken) return bytes.len; /* lost */
    buf_append(&wire->inward, bytes.at, n);
    return n;
}

void wire_end(struct wire *wire) {
    wire->is_ended = true;
}

void wire_close(struct wire *wire) {
    wire->is_ended = wire->is_deaf = true;
}

void wire_break(struct wire *wire) {
    wire->is_broken = true;
}

/* ---- Weir's side */

struct socket *socket_new(struct loop *loop, int fd, void (*on_event)(void *owner, int events),
                          void *owner) {
    struct wire *wire = wires[fd];
    CHECK(wire != NULL && wire->socket == NULL && !wire->is_closed);
    struct socket *socket = memory_new(sizeof *socket);
    *socket = (struct socket){.wire = wire, .loop = loop, .on_event = on_event, .owner = owner};
    wire->socket = socket;
    return socket;
}

void socket_want(struct socket *socket, int events) {
    socket->wanted = events;
}

bool socket_is_plain(const struct socket *socket) {
    return socket->wire->mood != WIRE_TLS && socket->tls == NULL;
}

bool socket_has_pending(const struct socket *socket) {
    return buf_length(&socket->wire->decrypted) > 0;
}

int socket_descriptor(const struct socket *socket) {
    return socket->wire->fd;
}

void socket_close(struct socket **socket_at) {
    if (*socket_at == NULL) return;
    (*socket_at)->wire->socket = NULL;
    (*socket_at)->wire->is_closed = true;
    tls_free(&(*socket_at)->tls);
    memory_free(*socket_at);
    *socket_at = NULL;
}

void socket_detach(struct socket **socket_at, struct socket_parts *parts) {
    *parts = (struct socket_parts){.fd = (*socket_at)->wire->fd};
    (*socket_at)->wire->socket = NULL;
    memory_free(*socket_at);
    *socket_at = NULL;
}

/* ---- TLS: nothing is encrypted, but a handshake takes its steps, each in its turn */

void socket_secure(struct socket *socket, struct tls *tls) {
    socket->tls = tls;
    socket->wire->handshake_left = (unsigned)dice_roll(socket->wire->dice, HANDSHAKE_STEPS_MAX);
}

ssize_t socket_handshake(struct socket *socket) {
    struct wire *wire = socket->wire;
    if (wire->is_broken || wire->is_ended) {
        errno = ECONNRESET;
        return SOCKET_FAILED;
    }
    if (wire->handshake_wants == 0 && wire->handshake_left == 0) return 0;
    if (wire->handshake_wants == 0) {
        wire->handshake_left--;
        wire->handshake_wants = dice_hits(wire->dice, 2) ? SOCKET_READABLE : SOCKET_WRITABLE;
    }
    return wire->handshake_wants == SOCKET_READABLE ? SOCKET_WANTS_READ : SOCKET_WANTS_WRITE;
}

struct tls *socket_tls(const struct socket *socket) {
    return socket->tls;
}

/* ---- reading */

static void decrypt(struct wire *wire) {
    size_t len = buf_length(&wire->inward);
    if (wire->mood != WIRE_TLS || len == 0 || buf_length(&wire->decrypted) > 0) return;
    size_t n = len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX;
    if (dice_hits(wire->dice, 2)) n = 1 + dice_roll(wire->dice, n);
    buf_append(&wire->decrypted, buf_content(&wire->inward).at, n);
    buf_consume(&wire->inward, n);
}

/* How much of what is there one read gives. */
static size_t read_size(const struct wire *wire, size_t there) {
    size_t n = there;
    if (wire->mood == WIRE_ONE_BYTE && wire->read_total < ONE_BYTE_READS_MAX) return 1;
    if (wire->mood != WIRE_PLAIN && dice_hits(wire->dice, 2)) n = 1 + dice_roll(wire->dice, n);
    bool is_cut = wire->read_total < wire->cut_at && wire->cut_at < wire->read_total + n;
    return is_cut ? (size_t)(wire->cut_at - wire->read_total) : n;
}

ssize_t socket_read(struct socket *socket, char *at, size_t size) {
    struct wire *wire = socket->wire;
    if (wire->read_wants_write && !wire->is_broken) return SOCKET_WANTS_WRITE;
    bool has_news = buf_length(&wire->inward) > 0 && buf_length(&wire->decrypted) == 0;
    if (wire->mood == WIRE_TLS && has_news && !wire->is_broken && dice_hits(wire->dice, 10)) {
        wire->read_wants_write = true;
        return SOCKET_WANTS_WRITE;
    }
    decrypt(wire);
    struct buf *from = wire->mood == WIRE_TLS ? &wire->decrypted : &wire->inward;
    size_t there = buf_length(from) < size ? buf_length(from) : size;
    if (there > 0) {
        size_t n = read_size(wire, there);
        memcpy(at, buf_content(from).at, n);
        buf_consume(from, n);
        wire->read_total += n;
        fake_loop_filled(socket->loop, n);
        return (ssize_t)n;
    }
    if (wire->is_broken) {
        errno = ECONNRESET;
        return SOCKET_FAILED;
    }
    return wire->is_ended ? 0 : SOCKET_WANTS_READ;
}

/* ---- writing */

static void append_parts(struct buf *to, const struct bytes *parts, size_t count, size_t len) {
    for (size_t i = 0; i < count && len > 0; i++) {
        size_t n = parts[i].len < len ? parts[i].len : len;
        buf_append(to, parts[i].at, n);
        len -= n;
    }
}

/* What was refused has to come again, with the same bytes in front. */
static void check_repeated(struct wire *wire, const struct bytes *parts, size_t count) {
    size_t len = buf_length(&wire->refused);
    if (len == 0) return;
    struct buf again = {0};
    append_parts(&again, parts, count, len);
    CHECK(bytes_equal(buf_content(&again), buf_content(&wire->refused)));
    buf_release(&again);
}

static ssize_t refuse(struct wire *wire, const struct bytes *parts, size_t count, ssize_t answer) {
    if (wire->mood != WIRE_TLS) return answer;
    buf_clear(&wire->refused);
    append_parts(&wire->refused, parts, count, TLS_RECORD_MAX);
    return answer;
}

ssize_t socket_write(struct socket *socket, const struct bytes *parts, size_t count) {
    struct wire *wire = socket->wire;
    size_t total = 0;
    CHECK(count > 0 && count <= SOCKET_PARTS_MAX);
    for (size_t i = 0; i < count; i++) total += parts[i].len;
    CHECK(total > 0);
    if (wire->is_broken || wire->is_reset) {
        errno = EPIPE;
        return SOCKET_FAILED;
    }
    if (wire->is_deaf) {
        wire->is_reset = true;
        wire->is_broken = dice_hits(wire->dice, 2);
        return (ssize_t)(total < 4096 ? total : 4096);
    }
    check_repeated(wire, parts, count);
    if (wire->mood == WIRE_TLS && dice_hits(wire->dice, 8)) wire->write_wants_read = true;
    if (wire->write_wants_read) return refuse(wire, parts, count, SOCKET_WANTS_READ);
    size_t room = WIRE_OUTWARD_MAX - buf_length(&wire->outward);
    if (wire->is_write_refused || room == 0) {
        wire->is_write_refused = true;
        return refuse(wire, parts, count, SOCKET_WANTS_WRITE);
    }
    size_t n = total < room ? total : room;
    if (wire->mood == WIRE_TLS && n > TLS_RECORD_MAX) n = TLS_RECORD_MAX;
    if (wire->mood == WIRE_PARTIAL || wire->mood == WIRE_TLS) {
        if (dice_hits(wire->dice, 2)) n = 1 + dice_roll(wire->dice, n < 40 ? n : 40);
        wire->is_write_refused = n < total;
    }
    append_parts(&wire->outward, parts, count, n);
    buf_clear(&wire->refused);
    return (ssize_t)n;
}

/* ---- events */

/* What happened that the socket wants to hear of. */
static int events_of(struct wire *wire) {
    int wanted = wire->socket->wanted;
    int happened = 0;
    if (wire->handshake_wants != 0) {
        happened = wanted & (wire->is_ended ? wanted : wire->handshake_wants);
        if (happened != 0) wire->handshake_wants = 0;
        return happened;
    }
    bool has_room = buf_length(&wire->outward) < WIRE_OUTWARD_MAX || wire->is_deaf;
    bool has_bytes = buf_length(&wire->inward) > 0 || wire->is_ended;
    if ((wanted & SOCKET_READABLE) && has_bytes && !wire->read_wants_write)
        happened |= SOCKET_READABLE;
    if ((wanted & SOCKET_READABLE) && wire->write_wants_read) {
        wire->write_wants_read = false;
        happened |= SOCKET_READABLE;
    }
    if ((wanted & SOCKET_WRITABLE) && has_room) {
        wire->is_write_refused = wire->read_wants_write = false;
        happened |= SOCKET_WRITABLE;
    }
    if ((wanted & SOCKET_GONE) && wire->is_ended) happened |= SOCKET_GONE;
    return happened;
}

static bool poll_wire(struct wire *wire) {
    struct socket *socket = wire->socket;
    if (socket == NULL || wire->is_broken_told || socket->wanted == 0) return false;
    if (wire->is_broken) {
        wire->is_broken_told = true;
        int wanted = socket->wanted;
        socket->wanted = 0;
        socket->on_event(socket->owner, wanted | SOCKET_BROKEN);
        return true;
    }
    int happened = events_of(wire);
    if (happened == 0) return false;
    socket->on_event(socket->owner, happened);
    return true;
}

bool fake_sockets_poll(struct dice *dice) {
    bool has_happened = false;
    size_t first = dice_roll(dice, WIRES_MAX);
    for (size_t i = 0; i < WIRES_MAX; i++) {
        struct wire *wire = wires[(first + i) % WIRES_MAX];
        if (wire != NULL && poll_wire(wire)) has_happened = true;
    }
    return has_happened;
}
