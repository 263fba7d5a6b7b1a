/*
 * Permits: the right to hold a server connection, exact over all workers, and what workers must
 * know of each other's waiters to serve everybody in order of arrival.
 *
 * A struct pool_shared is what all workers share of one pool (a database and a user). Each worker
 * keeps its own line of waiters and publishes the arrival time of its head; together these heads
 * are the pool's one line. Whoever has a free server and no permit is left, or has the last free
 * permit, first looks whether an older head stands on another worker; if so, it gives the server
 * up (closes it) and wakes that worker. Nobody starves because his worker was unlucky. As long as
 * permits are left the older one connects by itself, and a server closed for him would be wasted.
 *
 *      waiter's worker:   publish head; then take a permit, or ask an idle holder for one
 *      holder's worker:   become idle, or free a permit; then look at the published heads
 *
 * Both sides write first and read afterwards, with sequentially consistent atomics, so that at
 * least one of them sees the other.
 */
#ifndef WEIR_POOL_PERMIT_H
#define WEIR_POOL_PERMIT_H

#include "cluster/node.h"
#include "core/map.h"

#include <stdatomic.h>

#define WORKERS_MAX 64

/* A pool has a line for the primary (and for pools without routing) and one for replicas. */
enum pool_line { POOL_LINE_PRIMARY, POOL_LINE_REPLICA, POOL_LINE_COUNT };

struct permit {
    _Atomic int used;
    _Atomic int limit;   /* 0: none */
    _Atomic int cancels; /* connections with cancel requests, which may double the servers */
};

/* The ParameterStatus messages of the first server that logged in, or the first after a RECONNECT:
 * what clients are welcomed with. The messages never change, and live as long as the pool. */
struct greeting {
    struct greeting *older; /* in the list of all that there were, no two of them alike */
    _Atomic uint32_t epoch; /* the RECONNECTs of the database when its server was dialled */
    size_t len;
    char messages[];
};

struct pool_shared {
    struct map_node node;
    _Atomic unsigned references;
    char *key;
    struct permit permits[CLUSTER_NODES_MAX];
    _Atomic bool is_trimming;             /* a worker is closing what is too much of it */
    _Atomic int pins;                     /* clients that keep their servers */
    _Atomic(struct greeting *) greeting;  /* in force */
    _Atomic(struct greeting *) greetings; /* the newest of all */
    _Atomic uint64_t ended_us;            /* when a server was closed for its age last */
    _Atomic uint64_t heads[WORKERS_MAX][POOL_LINE_COUNT]; /* arrival in us; 0: nobody waits */
    _Atomic int idle[WORKERS_MAX];                        /* idle servers of each worker */
};

struct permits;
struct limits;
struct permits *permits_new(unsigned workers);
void permits_free(struct permits **permits);

/* The limits that several pools share (pool/limit.h); they live as long as the permits. */
struct limits *permits_limits(struct permits *permits);

/* The shared part for a key (database, generation of its cluster, user), with a reference. */
struct pool_shared *permits_get(struct permits *permits, struct bytes key);
void permits_put(struct permits *permits, struct pool_shared **shared);
/* One more reference for a holder of one. */
struct pool_shared *pool_shared_ref(struct pool_shared *shared);

/* All or nothing. The second one takes no notice of the limit, but of another one (0: none). */
bool permit_take(struct permit *permit);
bool permit_take_within(struct permit *permit, int limit);
void permit_release(struct permit *permit);

/* The right to carry a cancel request: together with the servers up to twice the limit. */
bool permit_take_cancel(struct permit *permit);
void permit_release_cancel(struct permit *permit);

/* Whether the limit is reached: nobody can take a permit now. */
bool permit_is_full(const struct permit *permit);

/* Publishes the arrival of the first waiter of a line; 0 if there is none. */
void pool_shared_publish(struct pool_shared *shared, unsigned worker, enum pool_line line,
                         uint64_t since_us);

/* The worker other than `worker` whose head of that line is older than `since_us` (0: older than
 * nothing, that is any head counts) and the oldest of all; -1 if there is none. */
int pool_shared_older(const struct pool_shared *shared, const struct permits *permits,
                      unsigned worker, enum pool_line line, uint64_t since_us);

/* Whether a server may be closed for its age now: the last one was at least `gap_us` ago. If so,
 * this one is the last from now on. */
bool pool_shared_may_end(struct pool_shared *shared, uint64_t now_us, uint64_t gap_us);

/* A worker other than `worker` with an idle server, or -1. */
int pool_shared_idle_holder(const struct pool_shared *shared, const struct permits *permits,
                            unsigned worker);

/* Publishes a greeting if there is none yet of that epoch or a later one; takes a copy. */
void pool_shared_greet(struct pool_shared *shared, struct bytes messages, uint32_t epoch);

/* The greeting in force, however old; NULL if there was none yet. */
const struct greeting *pool_shared_greeting(const struct pool_shared *shared);

#endif
