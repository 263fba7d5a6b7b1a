/*
 * A node is one PostgreSQL instance; a cluster is the nodes of one database entry.
 *
 * A cluster is made by worker 0 and shared by all threads through an atomic count of references.
 * What the workers read on their data path is atomic: role, state, freshness, incarnation and the
 * number of active servers of each node, and the index of the primary. Worker 0 alone writes
 * them, but for `active`, to which every worker adds. Texts and figures for people stand in
 * cluster/report.h, behind a small mutex.
 *
 * A cluster that is not probed (routing = off) has nodes of the role NODE_ANY, all of them up, and
 * no primary: a pool may use any of them, as PgBouncer does with a list of hosts.
 */
#ifndef WEIR_CLUSTER_NODE_H
#define WEIR_CLUSTER_NODE_H

#include "core/bytes.h"

#include <stdatomic.h>

#define CLUSTER_NODES_MAX 64

enum node_role {
    NODE_UNKNOWN, /* has not answered yet */
    NODE_PRIMARY,
    NODE_REPLICA,
    NODE_RIVAL,    /* answers as a primary, but is not the one that gets the writes */
    NODE_STRANGER, /* has another system identifier: no member of this cluster */
    NODE_ANY       /* not probed */
};

/* Whether a node may be used. A node whose probe failed, but not often enough to be down, stays
 * up and has no valid sample. */
enum node_state { NODE_UNTRIED, NODE_UP, NODE_DOWN };

struct node {
    unsigned index;
    char *name; /* unique in the cluster: the host, with ":port" where hosts repeat */
    char *host;
    unsigned port;

    /* Worker 0 only: what the workers see of it is rank and share (cluster/fitness.h). */
    char *zone;            /* never NULL */
    unsigned weight, ramp; /* the part of its weight that counts, in 1 / NODE_RAMP_FULL */
    bool is_far, is_out;

    /* Written by worker 0, read by all. */
    _Atomic uint32_t rank;        /* enum node_rank: reads go to the lowest that can serve */
    _Atomic uint32_t share;       /* weight times ramp, at least 1: its part of the reads */
    _Atomic uint32_t latency_us;  /* of its probes, smoothed; 0: not known yet */
    _Atomic unsigned role;        /* enum node_role */
    _Atomic unsigned state;       /* enum node_state */
    _Atomic uint64_t freshness;   /* covers << 32 | sampled */
    _Atomic uint32_t incarnation; /* counts the probe's connections: a crash always raises it */
    _Atomic uint32_t reset_round; /* servers that logged in before this round do not count */

    /* Written by all; on a cache line of its own. */
    char gap_before[64];
    _Atomic uint32_t active; /* servers of the whole process that run something here */
    _Atomic uint32_t errors; /* failures of its servers that are its own */
    char gap_behind[64];
};

struct cluster;

/* One node as it is configured; texts are copied. `zone` may be NULL; a node of weight 0 serves
 * reads only when no other can. */
struct cluster_member {
    const char *host;
    unsigned port;
    unsigned weight;
    const char *zone;
    bool is_far; /* in another zone than this process */
};

/* A cluster of 1 to CLUSTER_NODES_MAX members with one reference, which the caller owns. */
struct cluster *cluster_new(const char *name, const struct cluster_member *members, size_t count,
                            bool is_probed);

/* One more reference; any thread. Returns the cluster. */
struct cluster *cluster_share(struct cluster *cluster);

/* Gives one reference back, the last one frees; any thread. *cluster becomes NULL. */
void cluster_free(struct cluster **cluster);

const char *cluster_name(const struct cluster *cluster);
size_t cluster_count(const struct cluster *cluster);
bool cluster_is_probed(const struct cluster *cluster);
struct node *cluster_node(struct cluster *cluster, size_t index);
const struct node *cluster_node_const(const struct cluster *cluster, size_t index);

/* The index of the node that gets the writes, or -1 while there is none (and always with
 * routing = off). */
int cluster_primary(const struct cluster *cluster);

/* All nodes of the cluster as a set: bit i is node i. */
uint64_t cluster_all(const struct cluster *cluster);

static inline enum node_role node_role(const struct node *node) {
    return (enum node_role)atomic_load_explicit(&node->role, memory_order_acquire);
}

static inline enum node_state node_state(const struct node *node) {
    return (enum node_state)atomic_load_explicit(&node->state, memory_order_acquire);
}

static inline uint32_t node_incarnation(const struct node *node) {
    return atomic_load_explicit(&node->incarnation, memory_order_acquire);
}

/* A server of this node was given work (+1) or has none any more (-1); any thread. */
static inline void node_add_active(struct node *node, int change) {
    atomic_fetch_add_explicit(&node->active, (uint32_t)change, memory_order_relaxed);
}

static inline uint32_t node_active(const struct node *node) {
    return atomic_load_explicit(&node->active, memory_order_relaxed);
}

/* "primary", "replica", "rival", "stranger", "any", "unknown"; "up", "down", "untried". */
const char *node_role_text(enum node_role role);
const char *node_state_text(enum node_state state);

/* What the catalog of its database says (sql/facts.h). Any thread: makes *facts, a reference or
 * NULL, the newest there are; with cluster NULL gives it back. Costs one load where nothing is new.
 * And for the reader of the catalog: takes over newer ones. */
struct facts;
void cluster_learn(struct cluster *cluster, struct facts **facts);
void cluster_set_facts(struct cluster *cluster, struct facts *facts);

/*
 * For the prober, on worker 0 only.
 */

/* Sets role and state as the workers see them. */
void node_become(struct node *node, enum node_role role, enum node_state state);

void cluster_set_primary(struct cluster *cluster, int index);

/* The cluster's part of the nudges of cluster/probe.h, and its reports. */
struct cluster_nudge;
struct cluster_nudge *cluster_nudge(struct cluster *cluster);
struct report_board;
struct report_board *cluster_board(struct cluster *cluster);

#endif
