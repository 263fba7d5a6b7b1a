/*
 * The part of a nudge that lives in the cluster, where every worker finds it: one flag that says
 * a nudge is under way, and the one message that carries it to worker 0's loop. The flag is what
 * makes a single message enough. A suspicion has a flag and a message of its own, since it asks for
 * less. Only cluster/node.c and cluster/probe.c look in here.
 */
#ifndef WEIR_CLUSTER_NUDGE_H
#define WEIR_CLUSTER_NUDGE_H

#include "net/loop.h"

#include <stdatomic.h>

struct cluster_mail {
    struct loop_mail mail;   /* in flight while is_posted */
    atomic_bool is_posted;   /* set by who posts, cleared when it has been heeded */
    struct cluster *cluster; /* the reference that the message in flight holds */
};

struct cluster_nudge {
    _Atomic(struct loop *) loop; /* where the prober runs; NULL while nobody probes */
    struct probe *probe;         /* worker 0 only; NULL while nobody probes */
    struct cluster_mail nudge;
    struct cluster_mail suspicion;
};

#endif
