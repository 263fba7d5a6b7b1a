/*
 * What a client's statements reach, and how fresh its reads have to be for that. For the files of
 * client/.
 */
#ifndef WEIR_CLIENT_REACH_H
#define WEIR_CLIENT_REACH_H

#include "sql/reach.h"

struct client;

/* Zeroed memory reaches nothing. */
struct client_reach {
    struct reach reads;   /* of the group, and then of the transaction, at hand */
    struct reach writes;  /* of the transaction at hand; means something with may_write only */
    struct reach seen;    /* of what the primary showed rows; empty: replicas have it */
    uint32_t seen_round;  /* freshness_now when it did so last */
    uint32_t began_round; /* freshness_now when the group at hand came */
    uint64_t patient_us;  /* from when on a read may wait for a probe, for what was seen */
    bool is_open;         /* what the group's transaction will read is not known yet */
    bool is_patient;      /* the group at hand may wait for a probe */
    bool shows_rows;      /* something of the transaction at hand shows what is in a relation */
    bool changes_schema;  /* the writes have DDL, */
    bool is_global;       /* of what all databases of the cluster share */
};

/* A group begins. */
void reach_begin(struct client *client);

/* Its reads are known. */
void reach_judged(struct client *client);

/* What covers it: the floor of its reads. */
uint32_t reach_floor(const struct client *client);

/* How long it may wait for a replica. */
uint64_t reach_wait_us(const struct client *client);

/* The transaction has ended and was answered, by a replica or not. */
void reach_answered(struct client *client, bool is_replica);

#endif
