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

enum route_hint { ROUTE_HINT_NONE, ROUTE_HINT_PRIMARY, ROUTE_HINT_REPLICA, ROUTE_HINTS };

enum route_target { ROUTE_ANY, ROUTE_PRIMARY, ROUTE_REPLICA };

/* Which of several replicas that may serve a read. Equals take turns by their shares. */
enum route_choice {
    ROUTE_LEAST_BUSY,  /* the fewest active servers for its share */
    ROUTE_ROUND_ROBIN, /* one after the other, as often as its share says */
    ROUTE_LATENCY      /* the least latency of probes, times active servers, for its share */
};

/* Whose turn it is: what each node has in hand. Zeroed memory begins. One thread. */
struct route_turns {
    int32_t credit[CLUSTER_NODES_MAX];
};

struct route_request {
    uint32_t flags; /* enum traits_flag of all statements of the group, ORed */
    const char
        *why; /* struct traits' `why` of the statement that needs the primary; may be empty */
    enum route_mode mode;
    enum route_hint hint;      /* of the session (SET weir.route); a comment's hint is in flags */
    int transaction_node;      /* the node where the open transaction began, -1 outside of one */
    const char *session_state; /* what the session has that replicas lack ("work_mem"), or NULL */
    struct freshness_need need;
    bool may_wait;         /* a read may wait for a replica to catch up (replica_wait) */
    bool replica_fallback; /* a read may go to the primary where no replica can serve it */
    enum route_choice choice;
    uint64_t avoid;            /* replicas that have failed this very read, or refused its pool */
    struct route_turns *turns; /* NULL: the first of equals, as for somebody who only asks */
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
    ROUTE_NO_REPLICA, /* none is up, but for such as are left out or to be avoided */
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
    uint64_t out;   /* replicas that are up and left out (cluster/fitness.h) */
    uint32_t rank;  /* the highest that may serve */
    int node;       /* the chosen one of `nodes`, -1 if empty */
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

/* The node of `nodes` to be taken, which counts as a turn; -1 for an empty set. */
int route_pick(const struct cluster *cluster, uint64_t nodes, enum route_choice choice,
               struct route_turns *turns);

/* Appends the route as a sentence: "primary: INSERT", "replica pg2: plain read, least busy of 2",
 * "primary: the session has set work_mem, which is not replayed on replicas". `cluster` is NULL
 * for a wish. */
void route_describe(struct buf *buf, const struct route *route, const struct route_request *request,
                    const struct cluster *cluster);

#endif
