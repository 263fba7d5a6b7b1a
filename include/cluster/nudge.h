/*
 * The part of a nudge that lives in the cluster, where every worker finds it: one flag that says
 * a nudge is under way, and the one message that carries it to worker 0's loop. The flag is what
 * makes a single message enough. Only cluster/node.c and cluster/probe.c look in here.
 */
#ifndef WEIR_CLUSTER_NUDGE_H
#define WEIR_CLUSTER_NUDGE_H

#include "net/loop.h"

#include <stdatomic.h>

struct cluster_nudge {
    atomic_bool is_posted;       /* set by who nudges, cleared when the message has been read */
    _Atomic(struct loop *) loop; /* where the prober runs; NULL while nobody probes */
    struct loop_mail mail;       /* in flight while is_posted */
    struct cluster *cluster;     /* the reference that the message in flight holds */
    struct probe *probe;         /* worker 0 only; NULL while nobody probes */
};

#endif
