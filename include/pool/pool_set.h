/*
 * All pools of one worker, with what they share: the loop, the settings, the tracked parameters,
 * and what happens to them together.
 */
#ifndef WEIR_POOL_POOL_SET_H
#define WEIR_POOL_POOL_SET_H

#include "core/text.h"
#include "net/endpoint.h"
#include "net/loop.h"
#include "pool/cancel.h"
#include "pool/database.h"
#include "pool/permit.h"
#include "pool/server.h"

struct listen_mail;
struct listeners;
struct transport;
struct users;

/* Places in pool_set->tracked of the parameters that are always tracked: all that PostgreSQL
 * reports and lets a session set, some of them only in newer versions. Extra ones follow. */
enum pool_tracked {
    TRACKED_CLIENT_ENCODING,
    TRACKED_DATESTYLE,
    TRACKED_TIMEZONE,
    TRACKED_STANDARD_CONFORMING_STRINGS,
    TRACKED_APPLICATION_NAME,
    TRACKED_INTERVALSTYLE,
    TRACKED_SEARCH_PATH,
    TRACKED_SESSION_AUTHORIZATION,
    TRACKED_DEFAULT_TRANSACTION_READ_ONLY,
    TRACKED_SCRAM_ITERATIONS,
    TRACKED_ALWAYS
};

/* What the pool layer needs from above. */
struct pool_ops {
    /* Free server->memory, or what it says of prepared statements. */
    void (*server_forget)(void *owner, struct server *server);
    void (*server_forget_statements)(void *owner, struct server *server);
    /* Whether clients have, or may have, set anything there that is tracked: the caller resets it.
     */
    bool (*server_scrub)(void *owner, struct server *server);
    /* Has another worker call pool_set_wake with that key; it may begin with NUL. */
    void (*wake)(void *owner, unsigned worker, struct bytes key);
    /* What becomes of a cancel request: for whose client it is, "" for a peer's; the number of the
     * connection that carries it, 0 while it waits for room. */
    void (*cancel_news)(void *owner, struct cancel_ticket ticket, const char *database,
                        uint32_t id);
    /* A cancel request is over: its requester's connection ends, with a literal as the reason. */
    void (*cancel_ended)(void *owner, struct cancel_ticket ticket, const char *reason);
    /* Brings a message to another worker, or the same (pool/listener.h). Owns it. */
    void (*listen)(void *owner, unsigned worker, struct listen_mail *mail);
    void *owner;
};

struct pool_set {
    struct loop *loop;
    unsigned worker;
    unsigned workers;
    struct config *config;       /* one reference */
    struct users *users;         /* one reference */
    struct transport *transport; /* one reference */
    struct databases *databases;
    struct permits *permits;
    struct listeners *listeners; /* shared by all workers; NULL: clients keep their servers */
    struct map listening;        /* the shared listeners that this worker has */
    struct texts *texts;
    struct pool_ops ops;
    struct map pools;
    struct map by_id; /* all servers, by their numbers */
    struct map ended; /* counts of pools that are gone, by database */
    struct list all;
    struct list service; /* pools to be served at the end of the turn */
    struct list closed;  /* servers to be freed there */
    struct list cancels; /* cancel requests under way */
    struct loop_hook hook;
    struct endpoint_options socket_options;
    /* Names of the tracked parameters, in the order of server->parameters. */
    const char *tracked[SERVER_PARAMETERS_MAX];
    unsigned tracked_count;
    enum server_state rest; /* of a server that comes back: IDLE, or USED where each is checked */
    bool is_round_robin;    /* server_round_robin */
    bool always_resets;     /* server_reset_query_always */
    bool is_keeping_due;    /* pools with servers but no clients are to be made */
    bool is_paused;
    bool is_suspended;     /* nothing is read, nobody is served, no time passes */
    bool is_shutting_down; /* no waiter is served any more */
    bool is_draining;      /* whoever needs a server is told that the pooler ends */
};

/* The options of connections that a snapshot asks for. */
struct endpoint_options pool_socket_options(const struct config *config);

/* Fills in a set whose loop, worker numbers, shared parts, transport and ops the caller has set;
 * takes over one reference each of config and users. */
void pool_set_init(struct pool_set *set, struct config *config, struct users *users);

/* Closes every server and frees every pool. */
void pool_set_release(struct pool_set *set);

/* New settings: sizes, modes and times follow; pools of changed databases get new nodes and
 * their old servers are closed as they become idle. Takes over the references. */
void pool_set_apply(struct pool_set *set, struct config *config, struct users *users,
                    struct transport *transport);

/* Timeouts; about ten times a second. */
void pool_set_tick(struct pool_set *set);

/* Another worker has left something to the pool with that key, or lacks a permit of the limit with
 * that key (pool/limit.h): serves it. */
void pool_set_wake(struct pool_set *set, struct bytes key);

/* Another worker or the prober has news for all pools of this worker. */
void pool_set_serve_all(struct pool_set *set);

/* Closes the servers of one node of a cluster, with a reason for log and borrowers. */
void pool_set_reset_node(struct pool_set *set, const struct cluster *cluster, unsigned node_index,
                         const char *why);

/* PAUSE and RESUME; `database` NULL means all. True when no server is lent any more. */
bool pool_set_is_quiet(const struct pool_set *set, const struct database *database);
/* SUSPEND and RESUME: servers are not read while held. True when all that was to be sent has
 * gone; with `is_late` those that still have something are closed. */
void pool_set_hold(struct pool_set *set, bool is_held);
bool pool_set_is_sent(struct pool_set *set, bool is_late);

void pool_set_close_idle(struct pool_set *set, const struct database *database, const char *reason);

#endif
