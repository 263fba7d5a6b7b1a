/*
 * How fit a replica is to serve reads: left out while it lags too far or fails too often, and with
 * a growing part of its weight after it has come back.
 *
 *      serving --(lag beyond a limit)--> left out --(within it again)--> serving
 *      serving --(more than error_limit failures in error_window)--> left out for error_window
 *              --> on trial for as long: with little weight, and left out at the next failure,
 *                  each time for twice as long --> serving
 *
 * The judgement is pure: time, lag and counts are given. The prober makes it at each round and at
 * each answer, and publishes what comes of it as the node's rank and share.
 */
#ifndef WEIR_CLUSTER_FITNESS_H
#define WEIR_CLUSTER_FITNESS_H

#include "cluster/node.h"

/* Replicas of the own zone come before those of others, those of weight 0 last of all. */
enum node_rank { NODE_RANK_NEAR, NODE_RANK_FAR, NODE_RANK_SPARE, NODE_RANK_OUT };

#define NODE_RAMP_FULL 256u

/* What is asked of a replica; 0: nothing. */
struct fitness_limits {
    uint64_t lag_bytes;
    uint64_t lag_ms;
    uint64_t slow_start_us; /* from its return to its full weight */
    uint64_t error_window_us;
    unsigned error_limit;
};

enum fitness_state { FITNESS_FINE, FITNESS_LAGS_BYTES, FITNESS_LAGS_TIME, FITNESS_FAILS };

/* Of one node; zeroed memory serves with its full weight. */
struct fitness {
    enum fitness_state state;
    unsigned ramp;            /* as judged last, 1 to NODE_RAMP_FULL; 0: not yet */
    uint64_t back_us;         /* since when it is back, for the slow start; 0: it has its weight */
    uint32_t errors;          /* the node's count when it was looked at last, */
    uint32_t window_errors;   /* those of the window that */
    uint64_t window_began_us; /* began then; 0: none is open */
    uint64_t out_until_us;    /* left out for its failures; 0: not */
    uint64_t trial_until_us;  /* on trial; 0: not */
    unsigned trips;           /* in a row */
};

/* What is known about the node now. */
struct fitness_view {
    uint64_t now_us;
    uint64_t lag_bytes, lag_ms;
    uint32_t errors; /* grows */
    bool has_lag;    /* lag_bytes and lag_ms are known */
    bool is_needed;  /* no other replica serves: its failures do not leave it out */
};

/* Judges a replica that is up; the ramp is in fitness->ramp. */
enum fitness_state fitness_judge(struct fitness *fitness, const struct fitness_limits *limits,
                                 const struct fitness_view *view);

/* It has been away: its failures before now are over, and it starts slowly. */
void fitness_return(struct fitness *fitness, uint64_t now_us, uint32_t errors);

/* How old what a replica shows may be, which is not up to date: `seen_us` by the primary's past
 * positions (freshness_history_age_us), `replay_age_ms` by the age of the last transaction that it
 * replayed, which is long where the primary was idle until just now; 0: not known. Both bound it.
 */
uint64_t fitness_lag_ms(uint64_t seen_us, uint64_t replay_age_ms);

/* "lags by more bytes than max_replica_lag" and the like; NULL for FITNESS_FINE. */
const char *fitness_text(enum fitness_state state);

/*
 * What the workers see of it.
 */

static inline enum node_rank node_rank(const struct node *node) {
    return (enum node_rank)atomic_load_explicit(&node->rank, memory_order_relaxed);
}

static inline uint32_t node_share(const struct node *node) {
    return atomic_load_explicit(&node->share, memory_order_relaxed);
}

/* Weight and zone as they are configured now; the rest of the member is not looked at. Worker 0
 * only, as the next one. */
void node_weigh(struct node *node, const struct cluster_member *member);

/* Whether the node is left out of the reads, and the part of its weight that counts, from 1 to
 * NODE_RAMP_FULL. True if another set of nodes may serve now. */
bool node_fit(struct node *node, bool is_out, unsigned ramp);

/* A probe was answered: each answer counts an eighth, the first one all. */
void node_note_latency(struct node *node, uint64_t latency_us);

#endif
