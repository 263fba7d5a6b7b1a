/*
 * Databases: what all workers know of one entry of [databases] that is in use, and the counter
 * that numbers connections.
 *
 * A database is made by the first client that asks for it; its cluster is replaced when a RELOAD
 * changes its hosts. It is dropped when it is no longer configured, or stands for a name that only
 * `*` covers and was not used for autodb_idle_timeout: first every worker frees its empty pools,
 * then, with no holder left, worker 0 takes it out of the registry. The registry's lock is taken
 * when a pool is made, at RELOAD, at each tick of worker 0 and by the console, never on the data
 * path.
 */
#ifndef WEIR_POOL_DATABASE_H
#define WEIR_POOL_DATABASE_H

#include "cluster/node.h"
#include "config/effective.h"
#include "core/list.h"

#include <stdatomic.h>

struct databases;

struct database {
    struct map_node node;
    char *name;
    _Atomic uint64_t hash; /* names its floors (cluster/freshness.h); changes with its entry */
    struct cluster *cluster;
    _Atomic bool is_paused;
    _Atomic bool is_disabled;  /* new logins are refused */
    _Atomic bool is_removed;   /* no longer configured: its clients are closed */
    _Atomic bool is_auto;      /* made from the entry `*` */
    _Atomic bool is_announced; /* the log was told that it was made so */
    _Atomic bool is_idle;      /* it is to be dropped: empty pools of it end */
    _Atomic unsigned holders;  /* pools, and who is about to make one */
    _Atomic uint64_t used_us;  /* when it was last seen with clients or servers */
    struct link gone;          /* dropped, not freed yet */
    uint64_t gone_us;
    _Atomic uint32_t generation; /* servers made in an earlier one are closed when released */
    _Atomic uint32_t reconnects; /* what servers that were dialled before said is out of date */
};

/* What happens when a cluster is made or replaced, and when a database is dropped (NULL: nothing),
 * for the prober; called with the lock held. */
struct databases_ops {
    void (*cluster_made)(void *owner, struct database *database,
                         const struct config_database *entry);
    void (*dropped)(void *owner, struct database *database);
    void *owner;
};

struct databases *databases_new(const struct databases_ops *ops);
void databases_free(struct databases **databases);

/* The database of that name, made from its entry if need be; NULL if it is not configured. On
 * worker 0 it is there for the rest of the turn; anywhere else see databases_hold. */
struct database *databases_get(struct databases *databases, const struct config *config,
                               struct bytes name);

/* The same if it is in use already, or else NULL. */
struct database *databases_find(struct databases *databases, struct bytes name);

/* The same, kept from being dropped until database_release. */
struct database *databases_hold(struct databases *databases, const struct config *config,
                                struct bytes name);
void database_hold(struct database *database);
void database_release(struct database *database);

/* Its cluster, with a reference for the caller. */
struct cluster *database_cluster(struct databases *databases, struct database *database);

/* Brings all databases in line with a new snapshot: clusters whose hosts changed are replaced,
 * changed entries get a new generation, vanished ones are marked removed. */
void databases_apply(struct databases *databases, const struct config *from,
                     const struct config *to);

/* Drops the databases that nobody configures or uses any more; worker 0, at each tick. */
void databases_sweep(struct databases *databases, uint64_t now_us, uint64_t autodb_idle_us);

/* Servers are reached otherwise from now on: all databases get a new generation. */
void databases_recycle(struct databases *databases);

/* Makes the clusters of all entries that are routed, so that probing starts before the first
 * client comes. `*` cannot be made in advance. */
void databases_make_all(struct databases *databases, const struct config *config);

/* Calls `visit` for each database, with the lock held. */
void databases_each(struct databases *databases,
                    void (*visit)(void *owner, struct database *database), void *owner);

/* Numbers connections of clients and servers alike, from 1. */
uint32_t connection_next_id(void);

#endif
