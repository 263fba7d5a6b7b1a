/*
 * Clients that go from a process to the one that takes over from it, with the server at hand where
 * they are in a transaction or a session.
 *
 * A client can go while nothing is under way: no answer is owed, no message half sent. To bring it
 * there its reading is held, so that what it sends meanwhile waits in the kernel and goes with the
 * descriptor. Clients with TLS and replication clients stay where they are.
 */
#ifndef WEIR_CLIENT_MOVE_H
#define WEIR_CLIENT_MOVE_H

#include "client/client.h"
#include "core/pack.h"

/* Called with each client that goes: its descriptor and that of its server, or -1, which the callee
 * owns, and what was packed. */
struct client_move_ops {
    void (*moved)(void *owner, int fd, int server_fd, struct buf *packed);
    void *owner;
};

/* Takes out every client of the worker that can go now, and holds those that may soon. To be called
 * again and again; clients that log in meanwhile go later. */
void client_set_move(struct client_set *set, const struct client_move_ops *ops);

/* Makes a client of what was packed; owns both descriptors (-1: no server). */
void client_unpack(struct client_set *set, struct unpack *in, int fd, int server_fd);

/* The worker of `count` that has to take a packed client, since its cancel key says so. */
unsigned client_packed_worker(struct bytes packed, unsigned count);

#endif
