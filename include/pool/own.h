/*
 * Servers that are made for one borrower, since they are asked for something at their start. A
 * replication connection is the borrower's alone and closed when it is given back; one with a
 * session's start-up settings is lent to others who ask for the same. Both count against the pool's
 * size like any other. Internal to pool/; see src/pool/own.c.
 */
#ifndef WEIR_POOL_OWN_H
#define WEIR_POOL_OWN_H

#include "pool/pool.h"

/* Starts the server of a waiter, closing an idle one of the pool where it is full. True: the
 * waiter has to leave the line. False: it has to stay. */
bool own_open(struct pool *pool, struct borrower *borrower);

/* Takes a permit of the node, if need be that of the server unused longest, which is closed. */
bool own_take_place(struct pool_node *node, int size, const struct borrower *borrower);

/* Lends an idle server that was asked for what the borrower, which is in no line, wants. */
void own_lend(struct borrower *borrower, struct server *server, struct bytes greeting);
/* Starts the shared listener's server, beyond every limit. False: not now. */
bool own_listen(struct pool *pool, struct borrower *borrower);

/* Puts a borrower whose server was closed before it stood back in its place in line. */
void line_return(struct borrower *borrower);

/* The server is logged in: it is lent, and the borrower given the greeting. */
void own_made(struct server *server, struct bytes greeting);

/* Whether the server has refused a login in these words for what its session asks for, so that they
 * say nothing about other logins. */
bool own_is_asked_too_much(const struct server *server, const struct fault_fields *fields);

/* The server has refused the login in these words. The borrower is told. */
void own_refused(struct server *server, const struct fault_fields *fields);

/* The borrower goes while its server is being made; legal if none is. */
void own_leave(struct borrower *borrower);

/* The server was closed for another reason; legal if it was made for nobody. */
void own_closed(struct server *server);

#endif
