/*
 * Watches one descriptor on a loop, for libraries that do their own reading: it tells when there
 * is something to be read, again and again until somebody reads it.
 */
#ifndef WEIR_NET_POLLER_H
#define WEIR_NET_POLLER_H

struct loop;
struct poller;

/* Starts watching; the descriptor stays the caller's and must stay open until poller_close.
 * `on_readable` is called from the loop, never from within another call. */
struct poller *poller_open(struct loop *loop, int fd, void (*on_readable)(void *owner),
                           void *owner);

/* Stops watching without a further callback; *poller becomes NULL. Idempotent. */
void poller_close(struct poller **poller);

#endif
