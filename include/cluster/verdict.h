/*
 * What the answers of all nodes mean: who is the primary, who a replica, who no member. Pure, for
 * the prober and its tests.
 *
 * Roles come from the answers alone, never from the order of the hosts. At start-up the only node
 * that answers as a primary is it, once every other node was tried. Later another node takes over
 * only if the old primary no longer answers as one, and if the new one has the same system
 * identifier, was seen here as a standby that replayed the old one's positions, and has a later
 * timeline. In every other case nobody gets the writes: a promoted clone must never have them.
 * A system identifier that privileges hide counts as the right one.
 *
 * An old primary that hangs neither answers nor fails: where a successor with these proofs answers,
 * silence is enough. Who answers as a primary on a timeline before the present one was superseded:
 * he gets no writes, and does not keep them from the primary that there is. Where several answer
 * and the rules name none, somebody else may: the operator, or Patroni. Neither can make a node the
 * primary that does not answer as one, or that is no member.
 */
#ifndef WEIR_CLUSTER_VERDICT_H
#define WEIR_CLUSTER_VERDICT_H

#include "cluster/node.h"

struct verdict_view {
    bool is_tried;     /* answered or failed at least once, or has had its time */
    bool is_answering; /* what follows is what it said last */
    bool is_silent;    /* it has left a question open for long, or failed since it answered last */
    bool in_recovery;
    bool has_followed;          /* replayed positions of the present primary, as its standby */
    uint32_t timeline;          /* 0 unknown */
    uint64_t system_identifier; /* 0 unknown */
};

/* What the prober knew before. */
struct verdict_past {
    int primary;                /* the last node that had the primary's role, -1 at start-up */
    uint32_t timeline;          /* the last one of that primary */
    uint64_t system_identifier; /* of the cluster, 0 unknown */
    int choice;                 /* the node that the operator has named, -1 none */
    int leader;                 /* the node that Patroni names, -1 none */
};

enum verdict_trouble {
    VERDICT_FINE,
    VERDICT_NO_PRIMARY,    /* nobody answers as a primary */
    VERDICT_UNTRIED,       /* at start-up: node `b` may turn out to be one, besides `a` or alone */
    VERDICT_TWO_PRIMARIES, /* `a` and `b` both answer as one */
    VERDICT_UNPROVEN       /* `a` answers as one in place of `b`, without the proofs above */
};

struct verdict {
    enum node_role roles[CLUSTER_NODES_MAX]; /* NODE_UNKNOWN for who does not answer */
    int primary;                             /* who gets the writes, -1 nobody */
    uint64_t system_identifier;              /* of the cluster from now on, 0 unknown */
    enum verdict_trouble trouble;
    int a, b; /* the nodes that `trouble` names, -1 none */
};

void verdict_reach(struct verdict *verdict, const struct verdict_view *views, size_t count,
                   const struct verdict_past *past);

#endif
