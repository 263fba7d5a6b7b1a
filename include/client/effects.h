/*
 * Effects: what is noted of statements ahead of the replies that decide it. A Parse or Close goes
 * to the server and is counted on at once; its pipeline entry says what stands when the server has
 * answered it (settled), and what is taken back where the server skips it (undone). For the files
 * of client/.
 */
#ifndef WEIR_CLIENT_EFFECTS_H
#define WEIR_CLIENT_EFFECTS_H

#include "client/client.h"

/* The kind of a pipeline entry, and what its `effect` is. */
enum effect {
    EFFECT_NONE,
    EFFECT_UNNAMED,        /* a Parse of the unnamed statement, also one that repeats it */
    EFFECT_UNNAMED_CLOSED, /* our own Close of it */
    EFFECT_PREPARED,       /* Parse: struct statement, a reference. `number`: which of the client's
                            * Parses made its name, if it is one of the client's */
    EFFECT_CLOSED,         /* Close: struct prepared_on_server, taken out */
    EFFECT_NAME_CLOSED,    /* Close: struct prepared_name, taken out */
    EFFECT_NAMED,        /* Parse under a client's own name: struct named_on_server, a reference */
    EFFECT_NAMED_CLOSED, /* Close of one, taken out, a reference */
    EFFECT_BEGIN         /* none: what was held back (client/begin.h) */
};

/* Notes an effect in the entry pushed last. */
void effects_note(struct client *client, struct pipeline_entry *entry, enum effect kind,
                  void *effect);

void effects_settle_entry(struct client *client, const struct pipeline_entry *entry);
void effects_undo_entry(struct client *client, const struct pipeline_entry *entry);

/* A reply has come: what its request had noted stands. */
static inline void effects_settle(struct client *client, const struct pipeline_entry *entry) {
    if (entry->kind != EFFECT_NONE) effects_settle_entry(client, entry);
}

/* A reply that will not come: what its request had noted is taken back. */
static inline void effects_undo(struct client *client, const struct pipeline_entry *entry) {
    if (entry->kind != EFFECT_NONE) effects_undo_entry(client, entry);
}

#endif
