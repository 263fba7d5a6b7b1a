/*
 * Servers of one borrower's own: a replication connection has start parameters that no other
 * client shares, so its server is made for it, lent at once, and closed when it is given back. It
 * counts against the pool's size like any other. Internal to pool/; see src/pool/own.c.
 */
#ifndef WEIR_POOL_OWN_H
#define WEIR_POOL_OWN_H

#include "pool/pool.h"

/* Starts the server of a waiter, closing an idle one of the pool where it is full. True: the
 * waiter has to leave the line. False: it has to stay. */
bool own_open(struct pool *pool, struct borrower *borrower);

/* Puts a borrower whose server was closed before it stood back in its place in line. */
void line_return(struct borrower *borrower);

/* The server is logged in: it is lent, and the borrower given the greeting. */
void own_made(struct server *server, struct bytes greeting);

/* The server has refused the login in these words. The borrower is told. */
void own_refused(struct server *server, const struct fault_fields *fields);

/* The borrower goes while its server is being made; legal if none is. */
void own_leave(struct borrower *borrower);

/* The server was closed for another reason; legal if it was made for nobody. */
void own_closed(struct server *server);

#endif
