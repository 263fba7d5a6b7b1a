/*
 * A connected, non-blocking socket that its loop watches: the transport below a stream.
 *
 * Reading and writing go straight to the descriptor, or through TLS, where each direction may
 * have to wait for the other's readiness and where bytes may be at hand that no event will
 * announce. Whoever reads or writes must therefore be ready for every answer below. The session
 * tests replace this file by one that plays all of these moods from a seed.
 */
#ifndef WEIR_NET_SOCKET_H
#define WEIR_NET_SOCKET_H

#include "core/bytes.h"

#include <sys/types.h>

struct loop;
struct socket;
struct tls;

enum socket_event {
    SOCKET_READABLE = 1,
    SOCKET_WRITABLE = 2,
    SOCKET_GONE = 4,  /* the peer closed its side; armed only where reading is not */
    SOCKET_BROKEN = 8 /* an error: no event will follow, read until errno or the end */
};

/* Answers of socket_read and socket_write besides a count of bytes; 0 from socket_read is the
 * orderly end. */
#define SOCKET_WANTS_READ  (-1) /* come again when it is readable */
#define SOCKET_WANTS_WRITE (-2) /* come again when it is writable */
#define SOCKET_FAILED      (-3) /* broken; errno tells */

/* Takes the connected, non-blocking descriptor `fd`. `on_event` is called with a set of
 * enum socket_event; never from within another call. */
struct socket *socket_new(struct loop *loop, int fd, void (*on_event)(void *owner, int events),
                          void *owner);

/* Sets the wanted events; costs nothing if they are the present ones. */
void socket_want(struct socket *socket, int events);

/* Reads at most `size` bytes. */
ssize_t socket_read(struct socket *socket, char *at, size_t size);

/* Writes from `parts` (at most SOCKET_PARTS_MAX), returns how many bytes went. A refused write
 * must be repeated with at least the same bytes in front. */
#define SOCKET_PARTS_MAX 64
ssize_t socket_write(struct socket *socket, const struct bytes *parts, size_t count);

/* True without TLS: events tell of every byte, and neither direction waits for the other. */
bool socket_is_plain(const struct socket *socket);

/* True if a read would give bytes that no event announces. */
bool socket_has_pending(const struct socket *socket);

/* Puts TLS on the socket, which owns it from then on. Before anything is read or written
 * socket_handshake is called, at each event that it wants, until it gives 0 or SOCKET_FAILED;
 * where TLS comes with the socket from another loop, its handshake is over already. */
void socket_secure(struct socket *socket, struct tls *tls);
ssize_t socket_handshake(struct socket *socket);

/* The TLS on the socket, or NULL. */
struct tls *socket_tls(const struct socket *socket);

/* Closes the descriptor; the handle is freed by the loop later. *socket becomes NULL. */
void socket_close(struct socket **socket);

/* Gives the descriptor and the TLS on it (or NULL) back, for another loop; no bytes may be
 * pending. *socket becomes NULL. */
struct socket_parts {
    int fd;
    struct tls *tls;
};
void socket_detach(struct socket **socket, struct socket_parts *parts);

int socket_descriptor(const struct socket *socket);

#endif
