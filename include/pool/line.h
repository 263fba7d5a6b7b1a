/*
 * The line: clients that wait for a server of one pool, in order of arrival, and how they meet.
 * Internal to pool/; see src/pool/line.c.
 */
#ifndef WEIR_POOL_LINE_H
#define WEIR_POOL_LINE_H

#include "pool/pool.h"

/* Serves both lines of a pool: lends what is idle, gives up what is owed to an older waiter of
 * another worker, starts connections for the rest. Called at the end of a turn only. */
void line_serve(struct pool *pool);

/* Whether anybody, here or on another worker, waits for a server of this node. */
bool line_has_waiters(const struct pool *pool, const struct pool_node *node);

/* Arrival of the oldest waiter of this worker whom a server of this node may serve; 0: nobody. */
uint64_t line_oldest_us(const struct pool_node *node);

/* A permit of the node was freed: wakes the worker whose waiter is first. */
void line_permit_freed(struct pool *pool, const struct pool_node *node);

/* The nodes on which a waiter's server may be made, as a set of bits; how many servers one of them
 * may have for its sake, 0: any number. The reserve opens when it has waited long enough. */
uint64_t line_nodes(const struct pool *pool, const struct borrower *borrower);
int line_size(const struct pool_node *node, const struct borrower *borrower);

/* Starts a connection on each node that has fewer servers than min_pool_size. */
void line_fill(struct pool *pool);

/* The pool has other nodes, which share other heads: publishes the waiters there. */
void line_moved(struct pool *pool);

/* Has every waiter judge its route anew, and moves those whose target changed. */
void line_rejudge(struct pool *pool);

/* Timeouts of the waiters. */
void line_tick(struct pool *pool, uint64_t now_us);

#endif
