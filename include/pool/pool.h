/*
 * A pool: the servers of one (database, user) on each node, as one worker has them, and the
 * clients of this worker that wait for one.
 *
 *      pool_borrow  -> a server at once, or a place in line (borrower_ops.lent tells later)
 *      pool_return  -> idle, and at the end of the turn lent to the first waiter whom it suits
 *
 * A server that is lent is read by its borrower alone. What is shared with other workers stands
 * in pool/permit.h; the order in which waiters of all workers are served follows from there.
 */
#ifndef WEIR_POOL_POOL_H
#define WEIR_POOL_POOL_H

#include "auth/scram.h"
#include "cluster/route.h"
#include "core/stats.h"
#include "net/endpoint.h"
#include "pool/database.h"
#include "pool/permit.h"
#include "pool/server.h"
#include "proto/fault.h"

struct users;
struct user;
struct pool_set;

/* What a borrower is told. All but `bytes` and `drained` come at the end of a turn. */
struct borrower_ops {
    void (*lent)(struct borrower *borrower, struct server *server);
    void (*bytes)(struct borrower *borrower, const char *at, size_t len);
    void (*drained)(struct borrower *borrower); /* the server takes bytes again */
    /* The server has gone while it was lent; it is not to be used any more. */
    void (*lost)(struct borrower *borrower, const char *reason);
    /* Nobody can serve this waiter; it has left the line. With `fields`, in a server's words. */
    void (*refused)(struct borrower *borrower, enum fault_id fault, const char *argument,
                    const struct fault_fields *fields);
    /* What the waiter waited for has become impossible: judge its route anew. */
    void (*rejudge)(struct borrower *borrower);
};

struct borrower {
    const struct borrower_ops *ops;
    struct pool *pool;     /* while it waits or has borrowed */
    struct server *server; /* while it has borrowed */
    struct link waiting;
    enum pool_line line;
    bool wants_greeting_only;  /* a login that waits for the pool's first server */
    uint64_t since_us;         /* when it came into the line */
    uint64_t avoid;            /* nodes that refused the pool while this one waited */
    const struct route *route; /* the borrower's own, with the request it came from */
    const struct route_request *request;
};

/* The servers of a pool on one node. */
struct pool_node {
    struct pool *pool;
    struct link old; /* in pool->old_nodes */
    struct pool_shared *shared;
    struct permit *permit;
    struct cluster *cluster; /* one reference */
    unsigned index;          /* of the node in the cluster */
    bool is_old;             /* the database has other nodes now; freed with its last server */
    struct list servers[SERVER_STATE_COUNT];
    unsigned servers_count;
    uint64_t retry_at_us; /* no connection attempt before */
    bool has_failed;      /* the last attempt failed, in the words of: */
    char last_error[SERVER_REASON_BYTES];
    char last_sqlstate[6];
    struct stats stats;
};

struct pool {
    struct map_node node; /* key: database NUL user */
    struct link link;     /* in its set */
    struct link service;  /* in the set's list of pools to be served at the end of this turn */
    struct pool_set *set;
    struct database *database;
    char *key;
    char *user;
    struct pool_node **nodes; /* one for each node; without routing one for all hosts */
    size_t nodes_count;
    struct list old_nodes; /* that still have servers */
    struct scram_client_cache scram;
    struct list lines[POOL_LINE_COUNT];
    enum pool_mode mode;
    enum routing routing;
    enum read_consistency consistency;
    uint64_t query_wait_us;
    uint64_t lifetime_us;
    uint32_t generation;
    unsigned turn;    /* rotates ties and hosts */
    unsigned clients; /* logged-in clients of this worker */
    struct stats stats;
};

/* What the pool layer needs from above. */
struct pool_ops {
    void (*server_forget)(void *owner, struct server *server); /* free server->memory */
    /* Has another worker call pool_set_wake with that key. */
    void (*wake)(void *owner, unsigned worker, struct bytes key);
    void *owner;
};

struct pool_set {
    struct loop *loop;
    unsigned worker;
    unsigned workers;
    struct config *config; /* one reference */
    struct users *users;   /* one reference */
    struct databases *databases;
    struct permits *permits;
    struct texts *texts;
    struct pool_ops ops;
    struct map pools;
    struct list all;
    struct list service; /* pools to be served at the end of the turn */
    struct list closed;  /* servers to be freed there */
    struct list cancels; /* cancel requests under way */
    struct loop_hook hook;
    struct endpoint_options socket_options;
    /* Names of the tracked parameters, in the order of server->parameters. */
    const char *tracked[SERVER_PARAMETERS_MAX];
    unsigned tracked_count;
    bool is_paused;
    bool is_shutting_down; /* no waiter is served any more */
    bool is_draining;      /* whoever needs a server is told that the pooler ends */
};

/* Fills in a set whose loop, worker numbers, shared parts and ops the caller has set; takes over
 * one reference each of config and users. */
void pool_set_init(struct pool_set *set, struct config *config, struct users *users);

/* Closes every server and frees every pool. */
void pool_set_release(struct pool_set *set);

/* New settings: sizes, modes and times follow; pools of changed databases get new nodes and
 * their old servers are closed as they become idle. Takes over the references. */
void pool_set_apply(struct pool_set *set, struct config *config, struct users *users);

/* Timeouts; about ten times a second. */
void pool_set_tick(struct pool_set *set);

/* The pool of a database and a user, made if need be. */
struct pool *pool_get(struct pool_set *set, struct database *database, struct bytes user);

/* A server at once, or NULL: the borrower then stands in line. */
struct server *pool_borrow(struct pool *pool, struct borrower *borrower);

/* Leaves the line; legal if it is not in one. */
void pool_leave(struct borrower *borrower);

/* Gives the server back, ready and outside a transaction. */
void pool_return(struct server *server);

/* Gives back a server whose client has gone; see server_clean. */
void pool_abandon(struct server *server, unsigned owed_ready, bool is_cancel_wanted);

/* Has the pool served at the end of this turn. */
void pool_serve_later(struct pool *pool);

/* Another worker has left something to the pool with that key: serves it. */
void pool_set_wake(struct pool_set *set, struct bytes key);

/* Another worker or the prober has news for all pools of this worker. */
void pool_set_serve_all(struct pool_set *set);

/* Closes the servers of one node of a cluster, with a reason for log and borrowers. */
void pool_set_reset_node(struct pool_set *set, const struct cluster *cluster, unsigned node,
                         const char *why);

/* PAUSE and RESUME; `database` NULL means all. True when no server is lent any more. */
bool pool_set_is_quiet(const struct pool_set *set, const struct database *database);
void pool_set_close_idle(struct pool_set *set, const struct database *database, const char *reason);

/* Servers in a state, over all nodes, and waiters in both lines. */
size_t pool_count(const struct pool *pool, enum server_state state);
size_t pool_waiters(const struct pool *pool);
/* Arrival of the oldest waiter, 0 if nobody waits. */
uint64_t pool_oldest_us(const struct pool *pool);

/* For server.c. */
void pool_node_attached(struct pool_node *node, struct server *server);
void pool_server_ready(struct server *server); /* logged in, or cleaned: idle now */
void pool_server_closed(struct server *server);
void pool_login_failed(struct pool_node *node, const struct fault_fields *fields,
                       const char *error);

/* Walks all invariants; debug builds call it every turn. */
void pool_verify(const struct pool *pool);

#endif
