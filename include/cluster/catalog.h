/*
 * The reader of one database's catalog, on worker 0's loop: over a connection of its own to the
 * primary it asks for what sql/facts.h is made of, and leaves the facts in the cluster.
 *
 *      schema number has changed (a DDL went through this process)  -> read at once
 *      fingerprint has changed (DDL from elsewhere)                 -> read, within a second or two
 *
 * The answer is worked through a slice at a time, so that a large catalog holds up no traffic.
 */
#ifndef WEIR_CLUSTER_CATALOG_H
#define WEIR_CLUSTER_CATALOG_H

#include "cluster/probe.h"

struct catalog;

/* `settings` and `cluster` must outlive it. `changed` is called when the cluster has new facts. */
struct catalog *catalog_new(struct loop *loop, struct cluster *cluster,
                            const struct probe_settings *settings, void (*changed)(void *owner),
                            void *owner);
void catalog_free(struct catalog **catalog);

/* To be called in every round of the prober, and when the primary has changed: looks whether there
 * is something to ask for. */
void catalog_look(struct catalog *catalog);

#endif
