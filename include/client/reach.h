/*
 * What a client's statements reach, for the floors of freshness.
 */
#ifndef WEIR_CLIENT_REACH_H
#define WEIR_CLIENT_REACH_H

#include "sql/reach.h"

/* Zeroed memory reaches nothing. */
struct client_reach {
    struct reach reads;   /* of the group at hand */
    struct reach writes;  /* of the transaction at hand; means something with may_write only */
    bool is_claimed;      /* the group is a read as far as somebody's own functions say */
    bool changes_schema;  /* so do these: it has DDL, */
    bool is_global;       /* of what all databases of the cluster share */
    uint32_t began_round; /* freshness_now when the group at hand came */
};

#endif
