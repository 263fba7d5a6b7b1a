/* Stale statements; see client/repair.h. */
#include "client/repair.h"

#include "client/parts.h"
#include "client/request.h"

/* What a statement that was prepared before a change may answer to Bind or Describe. Where
 * `is_certain` the schema has changed behind the pooler's back, and no other client shares what was
 * prepared before; the others may be the client's own mistakes, and are for its name alone. A
 * SQLSTATE of two characters is a class. */
static const struct {
    const char *sqlstate, *routine;
    bool is_certain;
} stale[] = {
    {"0A000", "RevalidateCachedQuery", true}, /* cached plan must not change result type */
    {"42804", NULL, true},                    /* a column has another type */
    {"XX000", NULL, true},                    /* cache lookup failed for type */
    {"42", NULL, false},                      /* what it was resolved to is not there any more */
    {"22", NULL, false},                      /* a value does not fit its old type */
    {"08P01", NULL, false},                   /* nor its number of parameters */
};

static bool is_group_kept(const struct client *client) {
    bool is_first = client->transaction == 'I' || client->begin.state == BEGIN_SENT;
    return client->retry.is_holding && is_first && !client->is_cancelled;
}

void repair_begin(struct client *client, struct bytes bytes) {
    struct client_retry *retry = &client->retry;
    bool is_named_parse = bytes.len > MESSAGE_HEAD_BYTES && bytes.at[0] == 'P' &&
                          bytes.at[MESSAGE_HEAD_BYTES] != '\0';
    if (client->names.unproven == 0 && !is_named_parse) return;
    if (retry->is_holding || retry->is_second) return;
    bool has_flush;
    size_t length = judge_group_length(bytes, &has_flush);
    if (length == 0 || has_flush || length > client->set->gather_bytes) return;
    if (retry->request.memory == NULL) retry->request = client_spare_take(client->set);
    buf_clear(&retry->request);
    buf_append(&retry->request, bytes.at, length);
    retry->is_holding = retry->is_repair = true;
}

static struct prepared_name *name_of(const struct client *client, uint32_t sequence) {
    struct map_node *node = map_next(&client->names.map, NULL);
    for (; node != NULL; node = map_next(&client->names.map, node)) {
        struct prepared_name *name = MAP_OWNER(node, struct prepared_name, node);
        if (name->sequence == sequence) return name;
    }
    return NULL;
}

static bool is_alike(struct bytes sqlstate, const char *row) {
    size_t len = strlen(row);
    return sqlstate.len >= len && memcmp(sqlstate.at, row, len) == 0;
}

bool repair_is_due(struct client *client, const struct pipeline_entry *entry,
                   const struct fault_fields *fields) {
    bool is_named = entry->number != 0 && entry->action == PIPELINE_FORWARD &&
                    (entry->request == REQUEST_BIND || entry->request == REQUEST_DESCRIBE);
    if (client->session == NULL || !is_named) return false;
    size_t row = 0;
    while (row < COUNT(stale) &&
           (!is_alike(fields->sqlstate, stale[row].sqlstate) ||
            (stale[row].routine != NULL && !bytes_equal_text(fields->routine, stale[row].routine))))
        row++;
    struct prepared_name *name = name_of(client, entry->number);
    if (row == COUNT(stale) || name == NULL || name->uses >= PREPARED_PROVEN) return false;
    struct statement *own =
        prepare_intern_own(client, name->statement->body, name->statement->context);
    prepared_replace(&client->names, &client->set->statements, name, own);
    prepared_note_uses(&client->names, name, PREPARED_PROVEN);
    if (stale[row].is_certain) statements_schema_changed(client->pool->database->hash);
    return is_group_kept(client);
}

bool repair_disguise(const struct client *client, const struct pipeline_entry *entry,
                     const struct fault_fields *fields, struct buf *out) {
    const struct fault_fields told = {.severity = bytes_of_text("ERROR"),
                                      .sqlstate = bytes_of_text("0A000"),
                                      .message =
                                          bytes_of_text("cached plan must not change result type"),
                                      .routine = bytes_of_text("RevalidateCachedQuery")};
    bool is_named = entry->number != 0 && entry->request == REQUEST_BIND;
    if (client->session == NULL || !is_named || !bytes_equal_text(fields->sqlstate, "08P01") ||
        !bytes_equal_text(fields->routine, "PortalSetResultFormat"))
        return false;
    fault_write_custom(out, &told);
    return true;
}
