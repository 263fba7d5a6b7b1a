/*
 * Servers and pools that go from a process to the one that takes over from it.
 *
 * What is packed is read by the same program only, over a socket that only its own user can reach.
 * TLS stays behind: its state lives in the library and cannot be taken out.
 */
#ifndef WEIR_POOL_MOVE_H
#define WEIR_POOL_MOVE_H

#include "core/pack.h"
#include "pool/pool.h"

/* Whether a server is at rest, between answers, and can go. */
bool server_may_move(const struct server *server);

/* Appends what the other process needs and takes the descriptor out, which the caller then owns;
 * the server is freed at the end of the turn and its permit now. The borrower, if there is one, is
 * told nothing and has none any more. False, with nothing done, if it cannot be taken out. */
bool server_pack(struct server *server, struct buf *out, int *fd);

/* Makes an idle server of the pool, beyond its limits if need be. Owns the descriptor. NULL if the
 * pool has no such node any more: PostgreSQL was then told that the connection ends. */
struct server *server_unpack(struct pool *pool, struct unpack *in, int fd);

/* The greeting of a pool, and what it logs in to servers with: keys that a client has proved, a
 * secret that auth_query told. */
void pool_pack(const struct pool *pool, struct buf *out);
void pool_unpack(struct pool *pool, struct unpack *in);

/* The pool that a packed name and user mean; NULL if there is no such database any more. */
void pool_pack_name(const struct pool *pool, struct buf *out);
struct pool *pool_unpack_name(struct pool_set *set, struct unpack *in);

#endif
