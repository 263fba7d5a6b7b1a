/*
 * One node's side of the prober: a connection that is made, kept, and made again after growing
 * pauses; who the node is, asked once for each connection; and how far it has come, asked once
 * for each round, with at most one question in flight.
 */
#ifndef WEIR_CLUSTER_INQUIRY_H
#define WEIR_CLUSTER_INQUIRY_H

#include "cluster/probe.h"
#include "cluster/report.h"

struct inquiry;

/* Who a node is; the same for the life of a connection. */
struct inquiry_identity {
    char address[NODE_TEXT_SIZE];
    char started[NODE_TEXT_SIZE];
    uint64_t system_identifier; /* 0: hidden */
    int version;
    uint32_t segment_bytes;
    bool hides_system;   /* the probe's user may not read the system identifier */
    bool hides_receiver; /* nor a standby's WAL receiver: its timeline then lags */
    bool hides_control;  /* nor the control data: a standby's timeline is then not known at all
                            unless its WAL receiver shows it */
};

/* What tells that two connections did not reach the same, or NULL. */
const char *inquiry_difference(const struct inquiry_identity *before,
                               const struct inquiry_identity *now);

/* How far it has come, as asked in round `round`. */
struct inquiry_answer {
    uint32_t round;
    bool in_recovery;
    uint64_t lsn; /* insert position (a replay goal), or replay position; 0 unknown */
    uint32_t timeline;
    uint64_t replay_age_ms; /* age of the last transaction that was replayed; 0 unknown */
    uint64_t latency_us;
    bool is_unflushed; /* a primary has not written its position to disk, nor sent it */
};

/* None of these may free the inquiry. */
struct inquiry_ops {
    void (*stood)(void *owner, unsigned index, const struct inquiry_identity *identity);
    void (*answered)(void *owner, unsigned index, const struct inquiry_answer *answer);
    /* The connection is lost, or could not be made; it will be tried again. */
    void (*failed)(void *owner, unsigned index, const char *error);
};

/* Starts to connect. `settings` (with all defaults filled in), `ops` and `node` must outlive it. */
struct inquiry *inquiry_new(struct loop *loop, const struct node *node,
                            const struct probe_settings *settings, const struct inquiry_ops *ops,
                            void *owner);
void inquiry_free(struct inquiry **inquiry);

/* Connects anew, and at once: its host's name has left the address. */
void inquiry_renew(struct inquiry *inquiry);

/* The next attempts to connect come soon again, whatever has failed before. */
void inquiry_hurry(struct inquiry *inquiry);

/* Asks how far the node has come; false if it has no connection or a question in flight. */
bool inquiry_ask(struct inquiry *inquiry, uint32_t round);

/* Has the primary write its WAL to disk, if it has no question in flight. */
void inquiry_stir(struct inquiry *inquiry);

/* How long the question in flight has been open at `now_us`; 0 if there is none. */
uint64_t inquiry_open_us(const struct inquiry *inquiry, uint64_t now_us);

#endif
