/*
 * The pipeline: which replies a client is owed, in order.
 *
 * Every request that has a reply of its own adds an entry; every reply that ends an entry's turn
 * takes it out. An entry is forwarded (the client asked), swallowed (Weir asked) or made up (Weir
 * answers without asking the server). A query's many replies belong to one entry, which
 * ReadyForQuery takes out. After an error all entries up to the next Sync are skipped by the
 * server, and here. This file is pure.
 *
 *      QUERY  1 2 3 ... T D D C Z      PARSE 1   BIND 2   DESCRIBE [t] T|n   EXECUTE D* C|I|s|...
 *      CLOSE  3                        SYNC  Z   FUNCTION [V] Z
 */
#ifndef WEIR_CLIENT_PIPELINE_H
#define WEIR_CLIENT_PIPELINE_H

#include "core/check.h"
#include "proto/message.h"

enum pipeline_action { PIPELINE_FORWARD, PIPELINE_SWALLOW, PIPELINE_MAKE_UP };

struct pipeline_entry {
    uint8_t request; /* enum message_request */
    uint8_t action;  /* enum pipeline_action */
    uint8_t kind;    /* the caller's: of `effect`, 0 at first */
    uint32_t number; /* the caller's, 0 at first */
    void *effect;    /* the caller's: what a Parse or Close made, or NULL */
};

#define PIPELINE_INLINE 8u
#define PIPELINE_MAX    65536u /* reading the client stops before more are owed */

struct pipeline {
    struct pipeline_entry *entries; /* NULL: the inline ones */
    uint32_t size;
    uint32_t first; /* 0 in an empty one, so that short pipelines stay on few cache lines */
    uint32_t count;
    uint32_t owed_ready; /* entries that end in ReadyForQuery */
    struct pipeline_entry inline_entries[PIPELINE_INLINE];
};

void pipeline_init(struct pipeline *pipeline);
void pipeline_release(struct pipeline *pipeline);

static inline bool pipeline_is_empty(const struct pipeline *pipeline) {
    return pipeline->count == 0;
}

static inline bool pipeline_is_full(const struct pipeline *pipeline) {
    return pipeline->count >= PIPELINE_MAX;
}

/* True if the last request that was sent will not be followed by a ReadyForQuery. */
bool pipeline_lacks_sync(const struct pipeline *pipeline);

/* Adds an entry; the result is valid until the next call. */
struct pipeline_entry *pipeline_push(struct pipeline *pipeline, enum message_request request,
                                     enum pipeline_action action, void *effect);

/* The entry at a place from the head, below `count`. */
static inline struct pipeline_entry *pipeline_at(struct pipeline *pipeline, uint32_t index) {
    struct pipeline_entry *entries =
        pipeline->entries == NULL ? pipeline->inline_entries : pipeline->entries;
    return &entries[(pipeline->first + index) & (pipeline->size - 1)];
}

/* The entry that the next reply belongs to, or NULL. */
static inline struct pipeline_entry *pipeline_head(struct pipeline *pipeline) {
    return pipeline->count == 0 ? NULL : pipeline_at(pipeline, 0);
}

/* Whether a reply belongs to the request at the head, and whether it ends its turn. Errors and what
 * comes at any time are nobody's: TURN_NONE. */
enum pipeline_turn { TURN_NONE, TURN_STAYS, TURN_ENDS };
extern const uint8_t pipeline_turns[REPLY_KINDS][REQUEST_KINDS];

static inline bool pipeline_ends_in_ready(unsigned request) {
    return pipeline_turns[REPLY_READY][request] == TURN_ENDS;
}

/* Takes the head out. */
static inline struct pipeline_entry pipeline_pop(struct pipeline *pipeline) {
    CHECK(pipeline->count > 0);
    struct pipeline_entry entry = *pipeline_at(pipeline, 0);
    pipeline->first = (pipeline->first + 1) & (pipeline->size - 1);
    pipeline->count--;
    if (pipeline_ends_in_ready(entry.request)) pipeline->owed_ready--;
    if (pipeline->count > 0) return entry;
    pipeline->first = 0;
    /* A long pipeline has passed: an idle client owns no memory for it. */
    if (pipeline->entries != NULL) pipeline_release(pipeline);
    return entry;
}

/* What to do with a reply of this kind, whose entry is taken out if the reply ends its turn. */
enum pipeline_verdict {
    PIPELINE_PASS,
    PIPELINE_DROP,
    PIPELINE_SKIP,  /* an error: pass it; the caller pops up to the next Sync (pipeline_skips) */
    PIPELINE_BROKEN /* nobody asked for this reply */
};
struct pipeline_match {
    enum pipeline_verdict verdict;
    bool is_popped;
    struct pipeline_entry entry; /* the one that the reply belongs to */
};
struct pipeline_match pipeline_match(struct pipeline *pipeline, enum message_reply reply);

/* A COPY IN has begun for the head: PostgreSQL ignores each Sync up to the first COPY data, as
 * libpq sends one behind every Execute. Takes out the Syncs right behind the head that have its
 * number. */
void pipeline_drop_syncs(struct pipeline *pipeline);

/* After PIPELINE_SKIP: true while the head is an entry that the server skips. */
bool pipeline_skips(struct pipeline *pipeline);

#endif
