/*
 * The test's side of the sockets that stand in for net/socket.c. A wire is a connection: Weir has
 * one end under a struct socket, the test plays the peer at the other.
 *
 *      peer  -- wire_send -->  inward  [-> decrypted]  -- socket_read -->  Weir
 *      peer  <-- wire_received --  outward  <-- socket_write --            Weir
 *
 * A mood says how the transport behaves. All moods keep the promises of net/socket.h, and no more:
 * a TLS wire announces bytes once, by the record, and lets each direction wait for the other.
 */
#ifndef WEIR_TESTS_SESSION_FAKE_SOCKET_H
#define WEIR_TESTS_SESSION_FAKE_SOCKET_H

#include "core/buf.h"
#include "core/list.h"
#include "dice.h"

struct loop;
struct socket;

enum wire_mood {
    WIRE_PLAIN,    /* whatever fits goes at once */
    WIRE_ONE_BYTE, /* one byte for each read */
    WIRE_PARTIAL,  /* reads and writes of some bytes; after each write a refusal */
    WIRE_TLS,      /* pending bytes, reads that want writing, writes that want reading */
    WIRE_MOODS
};

#define WIRE_INWARD_MAX  (96u * 1024) /* what the peer can send ahead of Weir's reading */
#define WIRE_OUTWARD_MAX (48u * 1024) /* what Weir can send ahead of the peer's reading */

struct wire {
    struct link link;
    struct dice *dice;
    enum wire_mood mood;
    int fd;
    unsigned number; /* the driver's */
    struct buf inward;
    struct buf decrypted; /* TLS: out of the records, not read yet */
    struct buf outward;
    struct buf refused;  /* TLS: must come again in front of the next write */
    uint64_t read_total; /* bytes that Weir has read */
    uint64_t cut_at;     /* a read ends here, 0: nowhere */
    bool is_ended;       /* the peer has sent its last */
    bool is_deaf;        /* the peer has closed altogether: the first write resets it */
    bool is_reset;       /* so it did: writes fail, and no error may be announced */
    bool is_broken;      /* the connection is reset, which an event tells */
    bool is_broken_told; /* Weir was told; no event comes any more */
    bool is_closed;      /* Weir has closed it */
    bool is_write_refused;
    bool read_wants_write;
    bool write_wants_read;
    unsigned handshake_left; /* steps until TLS stands, */
    int handshake_wants;     /* and the event that the next one waits for */
    struct socket *socket;
};

const char *wire_mood_name(enum wire_mood mood);

/* A new wire; its descriptor is for endpoint_dial's `done` or client_accept. The peer frees it
 * when it has no more use for it; Weir must then have closed it. */
struct wire *wire_new(struct dice *dice, enum wire_mood mood);
void wire_free(struct wire **wire);

/* The peer sends, ends its side, closes both, or resets; wire_send returns how much the transport
 * took. */
size_t wire_send(struct wire *wire, struct bytes bytes);
void wire_end(struct wire *wire);
void wire_close(struct wire *wire);
void wire_break(struct wire *wire);

static inline struct bytes wire_received(const struct wire *wire) {
    return buf_content(&wire->outward);
}

/* Tells each socket what has happened to it, in an order of chance. True if anything had. */
bool fake_sockets_poll(struct dice *dice);

#endif
