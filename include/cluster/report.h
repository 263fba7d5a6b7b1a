/*
 * What people want to know about nodes and clusters: SHOW NODES, /health, /metrics and error
 * texts read it, on any thread, as a copy made under a small mutex; the prober writes it.
 */
#ifndef WEIR_CLUSTER_REPORT_H
#define WEIR_CLUSTER_REPORT_H

#include "cluster/node.h"

#define NODE_TEXT_SIZE  64
#define NODE_ERROR_SIZE 256

/* What people want to know about a node; empty texts and `has_` flags say what is not known. */
struct node_report {
    enum node_role role;
    enum node_state state;
    uint64_t lsn;       /* insert position of a primary, replay position of a replica; 0 unknown */
    uint64_t lag_bytes; /* behind the primary's last known position; valid with has_lag */
    uint64_t lag_ms;    /* how old what it shows may be at most, 0 when all is replayed */
    bool has_lag;
    const char *left_out; /* why it serves no reads though it is up; NULL: it does */
    uint32_t errors;      /* failures of its servers that are its own (cluster/fitness.h) */
    uint32_t trips;       /* how often it was left out */
    uint32_t share;       /* its part of the reads: weight times NODE_RAMP_FULL, or less */
    uint32_t timeline;    /* 0 unknown */
    uint32_t incarnation;
    uint32_t covers; /* the freshness pair, see cluster/freshness.h */
    uint32_t sampled;
    uint64_t latency_us;          /* of the last probe that was answered; 0 none yet */
    uint64_t system_identifier;   /* 0 unknown */
    const char *chosen_by;        /* who else names it the primary, a literal; NULL: nobody */
    int version;                  /* as server_version_num, 150020; 0 unknown */
    char address[NODE_TEXT_SIZE]; /* what the host resolved to; empty for a Unix socket */
    char started[NODE_TEXT_SIZE]; /* the postmaster's start, in PostgreSQL's words */
    char error[NODE_ERROR_SIZE];  /* the last failure, in the server's own words; empty: none */
};

/* Copies what is known about a node; any thread. */
void node_report_get(struct cluster *cluster, size_t index, struct node_report *report);

/* Why the cluster has no primary, or what else is wrong with it as a whole, e.g. "pg1 and pg3 both
 * answer as primary". Empty if nothing is. Any thread. */
#define CLUSTER_TROUBLE_SIZE 512
void cluster_trouble_get(struct cluster *cluster, char trouble[CLUSTER_TROUBLE_SIZE]);

/*
 * For the prober, on worker 0 only.
 */

/* Stores what is known about a node; role, state, incarnation and freshness are filled in from
 * the atomics whenever the report is read. */
void node_report_set(struct cluster *cluster, size_t index, const struct node_report *report);

void cluster_trouble_set(struct cluster *cluster, const char *trouble);

/* For cluster/node.c: the place of the reports of `count` nodes. */
struct report_board *report_board_new(size_t count);
void report_board_free(struct report_board **board);

#endif
