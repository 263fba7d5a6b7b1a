/*
 * What a prober knows; for the files that are one: probe.c (rounds, answers, roles) and trouble.c
 * (what is wrong with a cluster, in words).
 */
#ifndef WEIR_CLUSTER_PROBE_STATE_H
#define WEIR_CLUSTER_PROBE_STATE_H

#include "cluster/catalog.h"
#include "cluster/fitness.h"
#include "cluster/freshness.h"
#include "cluster/inquiry.h"
#include "cluster/verdict.h"
#include "net/loop.h"

struct patroni;

/* What is known about one node. */
struct standing {
    struct inquiry *inquiry;
    struct verdict_view view;
    struct inquiry_identity identity; /* of the last connection that stood */
    bool has_stood;
    bool is_mute; /* it took the last question without a word, and has not answered since */
    unsigned rises, falls; /* answers and failures in a row */
    uint32_t timeline;     /* the latest one seen over this connection */
    uint64_t lsn;          /* the latest sample; 0 none */
    uint32_t sampled;      /* the round in which it was requested; 0: no valid sample */
    uint64_t replay_age_ms;
    struct fitness fitness;
    struct node_report report;
};

struct probe {
    struct loop *loop;
    struct cluster *cluster;
    const struct probe_ops *ops;
    void *owner;
    struct probe_settings settings; /* its texts are the four below */
    char *user;
    char *password;
    char *database;
    char *allowed;
    struct patroni *patroni; /* NULL: nobody asks it */
    struct verdict_past past;
    struct verdict verdict;
    struct freshness_history history;
    struct catalog *catalog;
    struct loop_timer next_round;
    struct loop_timer straggle;
    uint64_t opened_us;
    uint32_t round;
    uint64_t round_us;       /* when it began */
    uint64_t due_us;         /* when the next one begins */
    bool has_asked_replicas; /* in this round */
    bool is_nudged;          /* the next round answers a nudge */
    bool is_suspicious;      /* or a suspicion */
    bool is_changed;         /* the owner is to be told */
    bool has_told_privileges;
    uint64_t unflushed_lsn; /* of a primary that had not flushed it, since: */
    uint64_t unflushed_us;
    uint32_t wanted;       /* what the chase is after; 0: no chase */
    uint64_t chase_end_us; /* when it is given up */
    uint64_t chased_us;    /* when the last round of a chase began */
    unsigned chase_ms;     /* the pause before the chase's next round */
    size_t count;
    struct standing standings[];
};

static inline const char *name_of(const struct probe *probe, int index) {
    return cluster_node_const(probe->cluster, (size_t)index)->name;
}

/* Tells reports and the log what is wrong with the cluster as a whole, where that was `before`. */
void probe_tell_trouble(struct probe *probe, enum verdict_trouble before);

#endif
