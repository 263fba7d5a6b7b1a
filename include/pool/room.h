/*
 * Room for one more server: the permits of its node, its database and its user, which it takes all
 * together or not at all. Internal to pool/.
 *
 *      no room on the node        -> wait for a server of this pool (pool/line.c)
 *      database or user are full  -> the server unused longest among their pools is closed
 *                                    ("evicted"); where there is none, the pool's first waiter
 *                                    stands in the limit's list of wants
 *      whoever has an idle server -> looks whether an older want is owed it
 *
 * Nobody overtakes within a pool. Between pools a server is given up at once where nobody of its
 * own pool waits, else when the other's waiter came ROOM_PATIENCE_US earlier: a login for each
 * transaction would cost all of them more than the wait.
 */
#ifndef WEIR_POOL_ROOM_H
#define WEIR_POOL_ROOM_H

#include "pool/pool.h"

#define ROOM_PATIENCE_US 100000u

/* Takes every permit for a server on this node, of which there may be `size` (0: any number).
 * `waiter` NULL: for nobody in particular, so that nobody makes room and nobody older is passed
 * by. */
bool room_take(struct pool_node *node, int size, const struct borrower *waiter);

/* Whether no server can be added on this node. */
bool room_is_full(const struct pool_node *node);

/* For a connection that is there already: beyond the limits if need be. */
void room_take_anyway(struct pool_node *node);

/* The server is gone: its permits are free. */
void room_release(struct pool_node *node);

/* After a pool was served: its wants are told and withdrawn, what it owes others is given up. */
void room_settle(struct pool *pool);

/* Whether an idle server is owed to a waiter of another pool. */
bool room_is_wanted(const struct pool *pool);

/* The same where the pool's own waiter came at `since_us`. */
bool room_is_owed(const struct pool *pool, uint64_t since_us);

/* Another worker has left a want: a server of one of this worker's pools is given up to it. */
void room_wake(struct pool_set *set, struct bytes key);

/* The limits of a pool's database and user from now on; 0: none. */
void room_set_limits(struct pool *pool, const int limits[LIMIT_SERVER_KINDS]);

/* A pool begins and ends to count in the limits of its database and user. */
void room_begin(struct pool *pool);
void room_end(struct pool *pool);

#endif
