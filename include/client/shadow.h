/*
 * routing = shadow: everything runs on the primary, and what would have run where is counted, by
 * the shape of the statement and the reason. Each worker has a bounded table of its own; the
 * console adds them up.
 *
 * A decision is counted once: a transaction, a pipeline up to its Sync and a text of several
 * statements are one each, under the statement that decides. Constants are no part of a shape, and
 * texts that keep theirs (ALTER ROLE ... PASSWORD) are cut at the first one.
 */
#ifndef WEIR_CLIENT_SHADOW_H
#define WEIR_CLIENT_SHADOW_H

#include "client/client.h"

#define SHADOW_ROWS_MAX  1000u /* of each worker; the rest is counted without its shape */
#define SHADOW_SHAPE_MAX 400u  /* bytes of a shape that are kept */

struct shadow_row {
    struct map_node node;                  /* key: all texts below, each with its NUL */
    const char *database, *reason, *shape; /* in `memory` */
    bool is_replica;                       /* where it would have run */
    bool is_doubt; /* it went to the primary since nobody knows what it does */
    uint64_t count;
    uint64_t stale; /* of these, reads that no replica was fresh enough for */
    char memory[];
};

/* Counts the group that the client sends, which runs on the primary whatever comes of it. `group`
 * is empty where it is not in hand as a whole. */
void shadow_note(struct client *client, struct bytes group);

/* Adds the rows of `from` to those of another map; frees all rows of one. */
void shadow_merge(struct map *rows, const struct map *from);
void shadow_clear(struct map *rows);

#endif
