/*
 * Cancel requests to PostgreSQL: a connection of its own that carries the server's key and is
 * closed by the other side once the signal was sent. Until then, and until it is idle, the server
 * in question is neither lent nor closed nor moved, so that the next client's query is never hit.
 */
#ifndef WEIR_POOL_CANCEL_H
#define WEIR_POOL_CANCEL_H

struct server;

/* Starts a cancel request for what the server is running now; server_cancel_ended is called when
 * it is over, whatever became of it. */
void cancel_start(struct server *server);

/* Gives up all requests of a worker, at its end. */
struct pool_set;
void cancel_close_all(struct pool_set *set);

#endif
