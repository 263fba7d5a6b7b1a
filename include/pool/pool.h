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
#include "core/stats.h"
#include "pool/borrower.h"
#include "pool/database.h"
#include "pool/limit.h"
#include "pool/permit.h"
#include "pool/pool_set.h"
#include "pool/server.h"

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
    bool is_refusal_news; /* that was a refused login, of which its waiters are still to be told */
    struct stats stats;
};

#define POOL_PINS_MAX 8u

struct pool {
    struct map_node node; /* key: database NUL user */
    struct link link;     /* in its set */
    struct link service;  /* in the set's list of pools to be served at the end of this turn */
    struct pool_set *set;
    struct database *database;
    char *key;
    char *user;
    struct facts *facts;      /* of its database, a reference; NULL: none yet, or no routing */
    struct pool_node **nodes; /* one for each node; without routing one for all hosts */
    size_t nodes_count;
    struct list old_nodes; /* that still have servers */
    struct scram_client_cache scram;
    char *password;       /* that a client gave in clear text, judged by PAM or LDAP; or NULL */
    bool has_proved_keys; /* a client proved them: they are not made from a secret at hand */
    struct users *met;    /* its user as auth_query told last, or NULL; a reference */
    struct list lines[POOL_LINE_COUNT];
    enum pool_mode mode;
    enum routing routing;
    enum read_consistency consistency;
    struct config_choice choice;
    struct route_turns turns;
    struct limit *limits[LIMIT_SERVER_KINDS]; /* of its database and its user */
    struct limit_want wants[LIMIT_SERVER_KINDS];
    unsigned lacking;           /* set of kinds that the first waiter lacks, while it is served */
    bool has_limits;            /* one of them is set */
    bool has_late;              /* some waiter may be late */
    bool is_kept;               /* has servers without clients, too; only on worker 0 */
    int min_size, reserve_size; /* servers on each node that stay, and those beyond its limit */
    uint64_t empty_us;          /* since when it has neither clients nor servers; 0: it has */
    uint64_t query_wait_us, lifetime_us;
    uint64_t lacking_us; /* since when there is no primary, and the pool may serve; 0: there is */
    uint32_t generation;
    unsigned turn; /* rotates ties between nodes */
    unsigned host; /* counts hosts: connections made, or with load_balance_hosts=disable failed */
    bool tracks_sessions, shares_listen;
    bool starts_servers; /* with what clients ask for: session mode with session_state = track */
    enum on_state on_session_state;
    int pin_limit;            /* 0: none */
    bool is_balanced;         /* over the hosts of an entry without routing */
    bool is_told;             /* to the process that takes over */
    unsigned clients, active; /* of this worker: logged in; of these, with a server */
    struct stats stats;
    unsigned pinned[POOL_PINS_MAX]; /* clients that keep their servers (session/pins.h) */
};

/* The pool of a database and a user, made if need be. */
struct pool *pool_get(struct pool_set *set, struct database *database, struct bytes user);

/* A server at once, or NULL: the borrower then stands in line. */
struct server *pool_borrow(struct pool *pool, struct borrower *borrower);

/* Lends an idle server that came with its borrower from another process. */
void pool_lend(struct pool *pool, struct borrower *borrower, struct server *server);

/* Leaves the line; legal if it is not in one. */
void pool_leave(struct borrower *borrower);

/* Gives the server back, ready and outside a transaction. */
void pool_return(struct server *server);

/* Gives back a server whose client has gone; see server_clean. */
void pool_abandon(struct server *server, unsigned owed_ready, bool is_cancel_wanted);

/* Whether clients can be welcomed without a server: one has told its parameters, and has not been
 * replaced by a RECONNECT since. */
bool pool_is_greeted(const struct pool *pool);

/* Has the pool served at the end of this turn. */
void pool_serve_later(struct pool *pool);

/* Servers in a state, over all nodes, and waiters in both lines. */
size_t pool_count(const struct pool *pool, enum server_state state);
size_t pool_waiters(const struct pool *pool);
/* Arrival of the oldest waiter, 0 if nobody waits. */
uint64_t pool_oldest_us(const struct pool *pool);

/* Whether the server may go on when it is returned: it is neither marked nor from before its
 * database changed. */
bool pool_server_stays(const struct server *server);

/* Has a server replaced: closed at once if nobody uses it, else when it comes back. */
void pool_replace(struct server *server);

/* For server.c. */
void pool_server_ready(struct server *server); /* logged in, or cleaned: idle now */
void pool_server_closed(struct server *server);
void pool_login_failed(struct pool_node *node, const struct fault_fields *fields,
                       const char *error);

/* Walks all invariants; debug builds call it every turn. */
void pool_verify(const struct pool *pool);

#endif
