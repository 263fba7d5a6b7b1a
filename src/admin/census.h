/*
 * A census: what all pools are doing at one moment. Each worker counts its own on its own thread;
 * worker 0 adds the counts up by database and user. SHOW POOLS, SHOW STATS, the metrics, /health
 * and the live page are all made from one.
 */
#ifndef WEIR_ADMIN_CENSUS_H
#define WEIR_ADMIN_CENSUS_H

#include "admin/admin.h"

/* Server states as PgBouncer has them, in the order of SHOW POOLS. */
enum census_server {
    CENSUS_ACTIVE,
    CENSUS_ACTIVE_CANCEL,
    CENSUS_BEING_CANCELED,
    CENSUS_IDLE,
    CENSUS_USED,
    CENSUS_TESTED,
    CENSUS_LOGIN,
    CENSUS_SERVER_COUNT
};

/* Clients that have logged in, and those whose login waits for a server among the waiting. */
enum census_client {
    CENSUS_CLIENT_ACTIVE,
    CENSUS_CLIENT_IDLE,
    CENSUS_CLIENT_WAITING,
    CENSUS_CLIENT_COUNT
};

/* A pool on one node of its cluster. */
struct census_node {
    uint32_t servers[CENSUS_SERVER_COUNT];
    uint32_t used;  /* permits, of all workers */
    uint32_t limit; /* 0: none, or counted at the first node where nothing is routed */
    bool has_failed;
    char *error; /* of the last attempt, where it failed; NULL: none */
    struct stats_values stats;
};

struct census_pool {
    struct map_node node; /* key: database NUL user */
    char *key;
    const char *database_name; /* in `key`, as is the next */
    const char *user;
    struct database *database; /* NULL: the console's */
    enum pool_mode mode;
    uint32_t clients[CENSUS_CLIENT_COUNT];
    uint32_t pinned[POOL_PINS_MAX]; /* clients that keep their servers, by what for */
    bool tracks_sessions;
    uint32_t servers[CENSUS_SERVER_COUNT];
    struct cancel_count cancels;
    uint64_t wait_us; /* of the oldest waiter */
    struct stats_values stats;
    struct cluster *cluster; /* one reference; NULL: the console's */
    struct census_node *nodes;
    size_t nodes_count;
};

/* Clients by the user that they log in as, whoever their pool belongs to. */
struct census_user {
    struct map_node node; /* key: the name */
    uint64_t clients;
    char name[];
};

/* The counts of a database: of all its pools, also of those that are gone. */
struct census_database {
    struct map_node node; /* key: the name */
    struct stats_values stats;
    char name[];
};

struct census {
    struct map map;
    struct census_pool **pools; /* ordered by database and user, once finished */
    size_t count;
    size_t size;
    struct map counts;                  /* of databases, complete once finished */
    struct census_database **databases; /* the same in order, then */
    uint64_t clients[CLIENT_STATE_COUNT];
    uint64_t servers;
    struct map users;           /* empty unless census_take_users was called */
    struct map shadow;          /* the same of census_take_shadow; see client/shadow.h */
    struct cancel_count *peers; /* in the order of [peers] */
    size_t peers_count;
    uint64_t faults[FAULT_COUNTER_COUNT];
    struct traits_cache_stats traits;
    uint64_t statements; /* that clients have prepared, and their bytes */
    uint64_t statement_bytes;
};

/* Counts what one worker has, on its thread, into an empty census. */
void census_take(struct census *census, const struct admin_worker *worker);

/* Counts its clients by user, too; looks at each of them. */
void census_take_users(struct census *census, const struct admin_worker *worker);

/* Copies what routing = shadow has counted. */
void census_take_shadow(struct census *census, const struct admin_worker *worker);

/* How many of a user there are. */
uint64_t census_user_clients(const struct census *census, struct bytes name);

/* Adds `from` to `census` and empties it. */
void census_merge(struct census *census, struct census *from);

/* Adds the console's own pool and brings all in order. */
void census_finish(struct census *census, const struct stats_values *console_stats);

void census_release(struct census *census);

/* The pools of one database of a finished census stand together: the first, and in `count` how
 * many; NULL with 0 if there are none. */
struct census_pool *const *census_find(const struct census *census, const char *database_name,
                                       size_t *count);

/* Servers of all states. */
uint32_t census_sum(const uint32_t servers[CENSUS_SERVER_COUNT]);

/* "active", "active_cancel", "being_canceled", "idle", "used", "tested", "login". */
const char *census_server_text(enum census_server kind);

/* Adds every counter of `from` to `sum`. */
void stats_values_add(struct stats_values *sum, const struct stats_values *from);

#endif
