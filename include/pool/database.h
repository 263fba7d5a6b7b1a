/*
 * Databases: what all workers know of one entry of [databases] that is in use, and the counter
 * that numbers connections.
 *
 * A database is made by the first client that asks for it and stays until the process ends; its
 * cluster is replaced when a RELOAD changes its hosts. The registry's lock is taken when a pool
 * is made, at RELOAD and by the console, never on the data path.
 */
#ifndef WEIR_POOL_DATABASE_H
#define WEIR_POOL_DATABASE_H

#include "cluster/node.h"
#include "config/effective.h"

#include <stdatomic.h>

struct databases;

struct database {
    struct map_node node;
    char *name;
    _Atomic uint64_t hash; /* names its floors (cluster/freshness.h); changes with its entry */
    struct cluster *cluster;
    _Atomic bool is_paused;
    _Atomic bool is_disabled;    /* new logins are refused */
    _Atomic bool is_removed;     /* no longer configured: its clients are closed */
    _Atomic uint32_t generation; /* servers made in an earlier one are closed when released */
};

/* What happens when a cluster is made or replaced, for the prober; called with the lock held. */
struct databases_ops {
    void (*cluster_made)(void *owner, struct database *database,
                         const struct config_database *entry);
    void *owner;
};

struct databases *databases_new(const struct databases_ops *ops);
void databases_free(struct databases **databases);

/* The database of that name, made from its entry if need be; NULL if it is not configured. */
struct database *databases_get(struct databases *databases, const struct config *config,
                               struct bytes name);

/* The same if it is in use already, or else NULL. */
struct database *databases_find(struct databases *databases, struct bytes name);

/* Its cluster, with a reference for the caller. */
struct cluster *database_cluster(struct databases *databases, struct database *database);

/* Brings all databases in line with a new snapshot: clusters whose hosts changed are replaced,
 * changed entries get a new generation, vanished ones are marked removed. */
void databases_apply(struct databases *databases, const struct config *from,
                     const struct config *to);

/* Makes the clusters of all entries that are routed, so that probing starts before the first
 * client comes. `*` cannot be made in advance. */
void databases_make_all(struct databases *databases, const struct config *config);

/* Calls `visit` for each database, with the lock held. */
void databases_each(struct databases *databases,
                    void (*visit)(void *owner, struct database *database), void *owner);

/* Numbers connections of clients and servers alike, from 1. */
uint32_t connection_next_id(void);

#endif
