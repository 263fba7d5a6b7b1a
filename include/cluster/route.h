/*
 * Which node should run it? A pure judgement: what the group of statements may do, what the
 * session and its settings ask for, and what is known about the nodes, give a target, the set of
 * nodes that may serve it, and a reason. No I/O, no clock; nothing is formatted unless somebody
 * asks for the sentence.
 *
 * The rules, first match wins:
 *
 *      1  routing = off                                      any node
 *      2  inside a transaction                               the node where it began
 *      3  a known write                                      primary; no hint changes that
 *      4  routing = primary, a hint for the primary          primary
 *      5  the session has state that replicas do not have    primary
 *      6  SERIALIZABLE, READ WRITE                           primary: a standby refuses them
 *      7  routing = replica, a hint for a replica            replica
 *      8  BEGIN that is not READ ONLY                        primary
 *      9  not understood, or some part needs the primary     primary
 *     10  a read                                             replica that is fresh enough
 *
 * With no replica up, or none fresh enough, a read waits or goes to the primary as the request
 * allows.
 */
#ifndef WEIR_CLUSTER_ROUTE_H
#define WEIR_CLUSTER_ROUTE_H

#include "cluster/freshness.h"
#include "core/buf.h"

enum route_mode { ROUTE_MODE_OFF, ROUTE_MODE_READ_WRITE, ROUTE_MODE_PRIMARY, ROUTE_MODE_REPLICA };

enum route_hint { ROUTE_HINT_NONE, ROUTE_HINT_PRIMARY, ROUTE_HINT_REPLICA };

enum route_target { ROUTE_ANY, ROUTE_PRIMARY, ROUTE_REPLICA };

struct route_request {
    uint32_t flags; /* enum traits_flag of all statements of the group, ORed */
    const char
        *why; /* struct traits' `why` of the statement that needs the primary; may be empty */
    enum route_mode mode;
    enum route_hint hint;      /* of the session (SET weir.route); a comment's hint is in flags */
    int transaction_node;      /* the node where the open transaction began, -1 outside of one */
    const char *session_state; /* what the session has that replicas lack ("work_mem"), or NULL */
    struct freshness_need need;
    uint64_t avoid;        /* replicas that have failed the request */
    bool may_wait;         /* a read may wait for a replica to catch up (replica_wait) */
    bool replica_fallback; /* a read may go to the primary where no replica can serve it */
    unsigned turn;         /* any number that grows; ties between nodes rotate with it */
};

enum route_reason {
    ROUTE_OFF,
    ROUTE_TRANSACTION,
    ROUTE_WRITE,
    ROUTE_FIXED_PRIMARY,
    ROUTE_HINTED_PRIMARY,
    ROUTE_SESSION_STATE,
    ROUTE_SERIALIZABLE,
    ROUTE_READ_WRITE,
    ROUTE_FIXED_REPLICA,
    ROUTE_HINTED_REPLICA,
    ROUTE_PLAIN_TRANSACTION,
    ROUTE_NOT_UNDERSTOOD,
    ROUTE_NEEDS_PRIMARY,
    ROUTE_READ_TRANSACTION, /* a READ ONLY transaction */
    ROUTE_READ              /* a plain read */
};

/* What became of a read's wish for a replica. */
enum route_outcome {
    ROUTE_SERVED,     /* the target is what the reason asked for */
    ROUTE_NO_REPLICA, /* none is up */
    ROUTE_NOT_FRESH,  /* none that is up has replayed enough; `nodes` or the primary, see waits */
};

struct route {
    enum route_target target;
    enum route_reason reason;
    enum route_outcome outcome;
    uint64_t
        nodes; /* who may serve it; empty if nobody can now (no primary is known, no replica) */
    uint64_t stale; /* replicas that are up and were refused for want of freshness only: where it is
                       not empty and outcome is ROUTE_NOT_FRESH, the caller nudges the probe */
    int node;       /* the least busy of `nodes`, -1 if empty */
    bool waits;     /* `nodes` are replicas that must catch up first; judge again by route_suits */
    bool retryable; /* a read outside a transaction that may be sent again before its first row */
};

/* The target and the reason that the rules give, whatever the nodes are. */
struct route route_wish(const struct route_request *request);

/* The wish, with the nodes that can fulfil it now. */
struct route route_choose(const struct route_request *request, const struct cluster *cluster);

/* True if a server of node `index` that logged in at `login_round` may serve the route now: for
 * the pool, when a server meets a waiter. A replica of the route must be fresh enough over this
 * very connection. */
bool route_suits(const struct route *route, const struct route_request *request,
                 const struct cluster *cluster, unsigned index, uint32_t login_round);

/* The node of `nodes` with the fewest active servers for its weight; ties rotate with `turn`.
 * -1 for an empty set. */
int route_least_busy(const struct cluster *cluster, uint64_t nodes, unsigned turn);

/* Appends the route as a sentence: "primary: INSERT", "replica pg2: plain read, least busy of 2",
 * "primary: the session has set work_mem, which is not replayed on replicas". `cluster` is NULL
 * for a wish. */
void route_describe(struct buf *buf, const struct route *route, const struct route_request *request,
                    const struct cluster *cluster);

#endif
