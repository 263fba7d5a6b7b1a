/*
 * The prober of one routed cluster, on worker 0's loop: it asks every node, over a connection of
 * its own, who it is and how far it has come, and writes what it learns into the cluster.
 *
 *      round n:  number n stored -> primary asked -> its answer -> replicas asked
 *                                     `-- no answer within a few ms: replicas asked all the same
 *
 * Rounds come every interval, and a few milliseconds after a nudge: then again and again, with
 * some spacing, until the replicas cover what was wanted at the nudge or a second has passed. While
 * no node is known to be the primary, or the primary is silent, they come ten times a second.
 * Each node has at most one question in flight, so a hanging node delays nobody else.
 */
#ifndef WEIR_CLUSTER_PROBE_H
#define WEIR_CLUSTER_PROBE_H

#include "cluster/fitness.h"
#include "net/pqconn.h"

struct buf;
struct loop;
struct probe;

/* How to probe; texts are copied, `password` may be NULL. */
struct probe_settings {
    const char *user;
    const char *password;
    const char *database;
    const char *patroni_url; /* URLs of Patroni's REST API, with commas between; NULL: none */
    uint64_t database_hash;  /* names its floors */
    const char *allowed;     /* names that replicas may use (sql/facts.h); may be NULL */
    struct pqconn_security security;
    unsigned interval_ms;        /* 0 is 1000 */
    unsigned connect_timeout_ms; /* 0 is 5000 */
    unsigned query_timeout_ms;   /* 0 is 5000 */
    unsigned rise;               /* answers in a row that make a node up; 0 is 1 */
    unsigned fall;               /* failures in a row that make it down; 0 is 2 */
    struct fitness_limits limits;
};

/* News for the owner, on worker 0's loop; neither callback may close the prober. */
struct probe_ops {
    /* Something changed that waiters may care about: a role, a state, a growing coverage. At most
     * once for each answer; the owner posts to the workers that have waiters. */
    void (*changed)(void *owner, struct cluster *cluster);
    /* All server connections to this node have to be closed: it lost the primary's role, or its
     * address, system identifier or postmaster changed. `why` is a text for the log. */
    void (*reset)(void *owner, struct cluster *cluster, unsigned node, const char *why);
};

/* Starts probing a cluster that was made with is_probed; takes a reference. `ops` must outlive
 * the prober. */
struct probe *probe_open(struct loop *loop, struct cluster *cluster,
                         const struct probe_settings *settings, const struct probe_ops *ops,
                         void *owner);

/* Replicas have to keep other limits from now on. */
void probe_limit(struct probe *probe, const struct fitness_limits *limits);

/* Some names stand for other addresses now: nodes whose address their name has left are reached
 * anew; where that leads elsewhere `reset` is called. */
struct dns;
void probe_follow_names(struct probe *probe, struct dns *dns);

/* A database is wanted without sessions: connections to it on that host and port are made anew,
 * which PostgreSQL holds up until that is done. */
void probe_vacate(struct probe *probe, const char *host, unsigned port, const char *database);

/* Ends probing, closes the connections; the nodes stay as they were. *probe becomes NULL. */
void probe_close(struct probe **probe);

/* Asks for an early round; any thread, cheap, and harmless on a cluster that nobody probes. To be
 * called when a read was refused for want of freshness, and when a server has just logged in to a
 * replica. */
void probe_nudge(struct cluster *cluster);

/* Something that only a change of roles explains was seen: a server was lost or is going down, or
 * the primary refuses to write. All nodes are asked at once, though not more than some twenty times
 * a second; any thread, cheap, and harmless on a cluster that nobody probes. */
void probe_suspect(struct cluster *cluster);

/* The operator's word (SET weir_primary): the node of that name gets the writes where it answers
 * as a primary, whatever the rules say, until no other one does or it does not any more. An empty
 * name takes that back. False, with the reason in `error`, where it does not answer as one. */
bool probe_choose(struct probe *probe, const char *name, struct buf *error);

/* A server of this node failed in a way that tells of the node, not of what a client asked for: it
 * could not be reached, had no room for a login, was lost, or gave up a read for the sake of
 * recovery. Any thread; the prober looks at it soon. */
void node_add_error(struct cluster *cluster, size_t index);

#endif
