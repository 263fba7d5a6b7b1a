/* What becomes of effects, a row for each kind; see client/effects.h. */
#include "client/effects.h"

#include "core/check.h"

static struct server_memory *memory_of(const struct client *client) {
    const struct server *server = client->borrower.server;
    return server == NULL ? NULL : server->memory;
}

static void settle_nothing(struct client *client, const struct pipeline_entry *entry) {
    (void)client;
    (void)entry;
}

/* ---- the unnamed statement */

static void end_unnamed(struct client *client, const struct pipeline_entry *entry) {
    (void)entry;
    CHECK(client->unnamed_owed > 0);
    client->unnamed_owed--;
}

/* Whose unnamed statement the server has now, nobody knows: it may be a stranger's. If another
 * Parse of it is under way, that one decides. */
static void undo_unnamed_close(struct client *client, const struct pipeline_entry *entry) {
    struct server_memory *memory = memory_of(client);
    (void)entry;
    if (client->unnamed_owed == 0 && memory != NULL) memory->unnamed_owner = 0;
}

static void undo_unnamed(struct client *client, const struct pipeline_entry *entry) {
    end_unnamed(client, entry);
    if (client->unnamed_owed > 0) return;
    undo_unnamed_close(client, entry);
    if (entry->action != PIPELINE_FORWARD) return;
    statement_unref(&client->set->statements, &client->unnamed);
    client->unnamed_number = 0;
}

/* ---- statements under the pooler's names */

static void settle_prepared(struct client *client, const struct pipeline_entry *entry) {
    struct statement *statement = entry->effect;
    statement_unref(&client->set->statements, &statement);
}

static void undo_name(struct client *client, uint32_t sequence) {
    struct map_node *node = map_next(&client->names.map, NULL);
    for (; node != NULL; node = map_next(&client->names.map, node)) {
        struct prepared_name *name = MAP_OWNER(node, struct prepared_name, node);
        if (name->sequence != sequence) continue;
        prepared_remove(&client->names, &client->set->statements, name);
        return;
    }
}

static void undo_prepared(struct client *client, const struct pipeline_entry *entry) {
    struct statements *statements = &client->set->statements;
    struct server_memory *memory = memory_of(client);
    struct statement *statement = entry->effect;
    if (entry->action != PIPELINE_MAKE_UP && memory != NULL) {
        struct prepared_on_server *there = server_memory_use(memory, statement);
        if (there != NULL) server_memory_remove(memory, statements, there);
    }
    if (entry->action != PIPELINE_SWALLOW) {
        undo_name(client, entry->number);
        if (entry->number < client->names.undone_from) client->names.undone_from = entry->number;
    }
    statement_unref(statements, &statement);
}

static void settle_closed(struct client *client, const struct pipeline_entry *entry) {
    server_memory_drop(&client->set->statements, entry->effect);
}

/* Which one the server has now, nobody knows. */
static void close_later(struct client *client) {
    client->borrower.server->is_close_needed = true;
}

static void undo_closed(struct client *client, const struct pipeline_entry *entry) {
    struct statements *statements = &client->set->statements;
    struct server_memory *memory = memory_of(client);
    if (memory == NULL) {
        server_memory_drop(statements, entry->effect);
    } else if (!server_memory_attach(memory, statements, entry->effect)) {
        close_later(client);
    }
}

static void settle_name_closed(struct client *client, const struct pipeline_entry *entry) {
    prepared_drop(&client->set->statements, entry->effect);
}

/* The Parse of the name may stand in the same group, and be undone with it. */
static void undo_name_closed(struct client *client, const struct pipeline_entry *entry) {
    struct prepared_name *name = entry->effect;
    uint32_t undone_from = client->names.undone_from;
    if (undone_from != 0 && name->sequence >= undone_from) {
        prepared_drop(&client->set->statements, name);
    } else {
        prepared_attach(&client->names, &client->set->statements, name);
    }
}

/* ---- statements under the client's own names */

static void settle_named(struct client *client, const struct pipeline_entry *entry) {
    named_unref(&client->set->statements, entry->effect);
}

static void undo_named(struct client *client, const struct pipeline_entry *entry) {
    struct server_memory *memory = memory_of(client);
    struct named_on_server *named = entry->effect;
    if (client->session != NULL) client->session->has_failed_name = true;
    if (memory != NULL) named_unlist(&memory->named, &client->set->statements, named);
    named_unref(&client->set->statements, named);
}

static void undo_named_closed(struct client *client, const struct pipeline_entry *entry) {
    struct server_memory *memory = memory_of(client);
    struct named_on_server *named = entry->effect;
    if (memory != NULL && !named_attach(&memory->named, named)) close_later(client);
    named_unref(&client->set->statements, named);
}

/* ---- the table */

static const struct {
    void (*settle)(struct client *client, const struct pipeline_entry *entry);
    void (*undo)(struct client *client, const struct pipeline_entry *entry);
    bool is_counted; /* in client->effects: statements by name have to wait for it */
} effects[] = {
    [EFFECT_UNNAMED] = {end_unnamed, undo_unnamed, false},
    [EFFECT_UNNAMED_CLOSED] = {settle_nothing, undo_unnamed_close, false},
    [EFFECT_PREPARED] = {settle_prepared, undo_prepared, true},
    [EFFECT_CLOSED] = {settle_closed, undo_closed, true},
    [EFFECT_NAME_CLOSED] = {settle_name_closed, undo_name_closed, true},
    [EFFECT_NAMED] = {settle_named, undo_named, true},
    [EFFECT_NAMED_CLOSED] = {settle_named, undo_named_closed, true},
    [EFFECT_BEGIN] = {settle_nothing, settle_nothing, false},
};

void effects_note(struct client *client, struct pipeline_entry *entry, enum effect kind,
                  void *effect) {
    entry->kind = (uint8_t)kind;
    entry->effect = effect;
    if (effects[kind].is_counted) client->effects++;
}

/* Replies come in order, so that those of earlier groups are the first to end. */
static void end_counted(struct client *client, const struct pipeline_entry *entry) {
    if (!effects[entry->kind].is_counted) return;
    CHECK(client->effects > 0);
    client->effects--;
    if (client->effects_synced > 0) client->effects_synced--;
}

void effects_settle_entry(struct client *client, const struct pipeline_entry *entry) {
    end_counted(client, entry);
    effects[entry->kind].settle(client, entry);
}

void effects_undo_entry(struct client *client, const struct pipeline_entry *entry) {
    end_counted(client, entry);
    effects[entry->kind].undo(client, entry);
}
