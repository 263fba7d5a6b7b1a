/*
 * Freshness: which replica has replayed every write that a read must see.
 *
 * The probe numbers its rounds with one process-wide number. A round stores its number n *before*
 * it asks the primary for its insert position L(n). A worker that receives the answer of a
 * possible write loads the number k *before* it passes that answer on, and raises the floor of
 * what was written to k. A replica covers n once it has replayed L(n) on the same timeline. A
 * replica that covers some n > k has therefore replayed the write:
 *
 *      had L(n) been read before the write was logged, then n was stored before the worker got
 *      the write's answer (the store, the question, the primary, the answer and the load follow
 *      each other), so the worker would have loaded k >= n.
 *
 * No clock takes part. All functions may be called by any thread but where it says otherwise.
 */
#ifndef WEIR_CLUSTER_FRESHNESS_H
#define WEIR_CLUSTER_FRESHNESS_H

#include "cluster/node.h"
#include "sql/reach.h"

/* The number of the latest round. It is at least 1: no sample of an earlier process covers. */
uint32_t freshness_now(void);

/* Takes the next number; the prober calls it before it sends a round's questions. The number
 * stops at its greatest value, after which no replica covers anything any more: reads then go to
 * the primary, which is slow but right. */
uint32_t freshness_next(void);

/* Raises the floors of what was written to the present number: relations, or everything in the
 * database (also with NULL). To be called when an answer of a possible write has come and before
 * any of it is passed on; also when the outcome is unknown. Returns the number, for a session's own
 * floor. `database_hash` names cluster and database. */
uint32_t freshness_raise(uint64_t database_hash, const struct reach *writes);

/* The same for every database of this process: what was written belongs to all. */
uint32_t freshness_raise_everywhere(void);

/* A number that changes when the schema of a database has changed, or may have, through this
 * process: before the answer is passed on. Facts that were asked for before do not hold any more.
 */
uint32_t freshness_schema(uint64_t database_hash);
void freshness_schema_changed(uint64_t database_hash);

/* Another process writes for clients of this one: until freshness_unhold no replica is fresh enough
 * for `database`, and after it only what is sampled from then on. One thread. */
void freshness_hold(void);
void freshness_unhold(void);

/* The floor of what is read (everything, with NULL); at least 1, since a process that has just
 * started does not know what was acknowledged before it. */
uint32_t freshness_floor(uint64_t database_hash, const struct reach *reads);

/* What a read needs of a replica; zeroed memory, with stick_node -1, needs nothing.
 *   floor        freshness_floor (consistency `database`), the session's own floor (`session`),
 *                freshness_now at the read's arrival (`cluster`), 0 (`eventual`)
 *   stick_*      the node that answered the session's last read, its incarnation when the read was
 *                sent, and freshness_now when that answer ended; stick_node is -1 if there is none
 */
struct freshness_need {
    uint32_t floor;
    uint32_t stick_round;
    uint32_t stick_incarnation;
    int stick_node;
};

/* True if the node has replayed what `need` asks for, over some connection. */
bool node_may_cover(const struct node *node, const struct freshness_need *need);

/* True if a server connection to `node` that had logged in when the number was `login_round`
 * (freshness_now, loaded after the login) shows what `need` asks for: the node covers more than
 * the floor, and more than the session has seen elsewhere, by a sample that was requested after
 * the login, since a standby that crashed comes back behind what it had shown. */
bool node_covers(const struct node *node, const struct freshness_need *need, uint32_t login_round);

/* The two halves of the packed pair. */
static inline uint32_t freshness_covers(uint64_t pair) {
    return (uint32_t)(pair >> 32);
}

static inline uint32_t freshness_sampled(uint64_t pair) {
    return (uint32_t)pair;
}

/* Stores a node's pair; worker 0 only. Zeros void it. */
void node_sample(struct node *node, uint32_t covers, uint32_t sampled);

/* Starts a new incarnation: the pair is void, and with `is_reset` no server that logged in before
 * now counts any more. Worker 0 only. */
void node_renew(struct node *node, bool is_reset);

/* The insert position as a replay position: a primary whose last record filled a page reports the
 * first byte behind the next page's header, while a replica that has replayed everything reports
 * the page's start. Pages have 8192 bytes, a header 24, the first one of a segment 40.
 * `segment_bytes` is wal_segment_size, a power of two from 1 MB to 1 GB. */
uint64_t freshness_replay_goal(uint64_t insert_lsn, uint32_t segment_bytes);

/* Reads "16/B374D848"; false if it is nothing of that form. */
bool freshness_parse_lsn(const char *text, uint64_t *lsn);

/*
 * The primary's last positions, kept by the prober: an entry for each distinct position, with the
 * greatest number that was answered with it. A full history forgets the entry that is missed
 * least, so that a replica far behind still covers something.
 */
#define FRESHNESS_HISTORY_MAX 64

struct freshness_history {
    uint32_t timeline;
    unsigned count;
    struct {
        uint32_t number;
        uint64_t lsn;
        uint64_t seen_us;             /* when the primary was there last, as far as is known */
    } entries[FRESHNESS_HISTORY_MAX]; /* ascending in both */
};

/* Notes that round `number` found the primary at `lsn` (a replay goal) on `timeline` at `now_us`;
 * another timeline, or a position behind the last one, empties the history first. */
void freshness_history_add(struct freshness_history *history, uint32_t number, uint32_t timeline,
                           uint64_t lsn, uint64_t now_us);

/* How old what a replica at `lsn` shows may be, in microseconds: the time since the primary was
 * last seen at a position that the replica has replayed, 0 where it has replayed the latest one;
 * UINT64_MAX if it has replayed none that is known. Nothing but this process's clock takes part,
 * and data that is old since the primary is idle has no age. */
uint64_t freshness_history_age_us(const struct freshness_history *history, uint64_t lsn,
                                  uint64_t now_us);

/* The greatest number whose position a replica at `lsn` on `timeline` has replayed; 0 if none, or
 * if the timelines differ or one of them is 0 (not known). */
uint32_t freshness_history_covers(const struct freshness_history *history, uint32_t timeline,
                                  uint64_t lsn);

#endif
