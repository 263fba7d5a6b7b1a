/*
 * What would have run where; see client/shadow.h. The group is judged a second time, as with
 * routing = read_write: that costs time only where somebody has asked for it.
 */
#include "client/shadow.h"

#include "client/parts.h"
#include "core/memory.h"
#include "proto/message.h"
#include "sql/lex.h"

/* ---- rows */

static struct bytes key_of(struct buf *key, const struct shadow_row *row) {
    buf_append_text0(key, row->database);
    buf_append_text0(key, row->reason);
    buf_append_text0(key, row->shape);
    return buf_content(key);
}

static struct shadow_row *row_new(struct map *rows, struct bytes key) {
    struct shadow_row *row = memory_new(sizeof *row + key.len);
    memcpy(row->memory, key.at, key.len);
    row->database = row->memory;
    row->reason = row->database + strlen(row->database) + 1;
    row->shape = row->reason + strlen(row->reason) + 1;
    map_add(rows, &row->node, bytes_of(row->memory, key.len));
    return row;
}

/* Adds the counts of a row to the one with the same texts. */
static void add(struct map *rows, const struct shadow_row *more) {
    struct buf key = {0};
    struct map_node *node = map_find(rows, key_of(&key, more));
    struct shadow_row *row =
        node == NULL ? row_new(rows, buf_content(&key)) : MAP_OWNER(node, struct shadow_row, node);
    row->is_replica = more->is_replica;
    row->is_doubt = more->is_doubt;
    row->count += more->count;
    row->stale += more->stale;
    buf_release(&key);
}

void shadow_merge(struct map *rows, const struct map *from) {
    const struct map_node *node = map_next(from, NULL);
    for (; node != NULL; node = map_next(from, node))
        add(rows, MAP_OWNER(node, const struct shadow_row, node));
}

void shadow_clear(struct map *rows) {
    struct map_node *node = map_next(rows, NULL);
    while (node != NULL) {
        struct shadow_row *row = MAP_OWNER(node, struct shadow_row, node);
        node = map_next(rows, node);
        map_remove(rows, &row->node);
        memory_free(row);
    }
    map_release(rows);
}

/* ---- the statement that decides */

static struct bytes text_of_bind(const struct client *client, struct bytes body) {
    struct bytes portal, name, rest, text;
    if (!message_text(body, &portal, &rest) || !message_text(rest, &name, &rest))
        return bytes_of(NULL, 0);
    const struct statement *statement = client->unnamed;
    if (name.len > 0) {
        const struct prepared_name *entry = prepared_find(&client->names, name);
        statement = entry == NULL ? NULL : entry->statement;
    }
    if (statement == NULL || !message_text(statement->body, &text, &rest)) return bytes_of(NULL, 0);
    return text;
}

/* The SQL of a message; at is NULL if it has none. */
static struct bytes text_of(const struct client *client, char type, struct bytes body) {
    struct bytes text, rest;
    unsigned kind = message_requests[(unsigned char)type].kind;
    if (kind == REQUEST_BIND) return text_of_bind(client, body);
    if (kind == REQUEST_PARSE && !message_text(body, &text, &body)) return bytes_of(NULL, 0);
    if (kind != REQUEST_PARSE && kind != REQUEST_QUERY) return bytes_of(NULL, 0);
    return message_text(body, &text, &rest) ? text : bytes_of(NULL, 0);
}

/* The first statement that needs the primary, else the first one; with its reason. */
static struct bytes deciding_text(const struct client *client, struct bytes group,
                                  char why[TRAITS_WHY_SIZE]) {
    struct bytes found = bytes_of(NULL, 0);
    for (size_t pos = 0; pos < group.len;) {
        const char *head = group.at + pos;
        uint32_t length = message_length(head);
        struct bytes body = bytes_of(head + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        struct bytes text = text_of(client, head[0], body);
        pos += length;
        if (text.at == NULL) continue;
        const struct traits *traits = client_traits(client, text);
        bool needs_primary = (traits->flags & (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE)) != 0;
        if (found.at == NULL || needs_primary) {
            found = text;
            memcpy(why, traits->why, TRAITS_WHY_SIZE);
        }
        if (needs_primary) break;
    }
    return found;
}

/* Appends as much of a shape as may be shown: up to a constant that stands in it as written. */
static void append_shown(struct buf *out, struct bytes shape) {
    size_t len = shape.len < SHADOW_SHAPE_MAX ? shape.len : SHADOW_SHAPE_MAX;
    for (size_t i = 0; i < len; i++) {
        char c = shape.at[i], next = i + 1 < shape.len ? shape.at[i + 1] : '\0';
        bool is_empty = c == '\'' && next == '\'';
        bool is_parameter = c == '$' && next >= '0' && next <= '9';
        if ((c == '\'' && !is_empty) || (c == '$' && !is_parameter)) len = i;
        if (i < len) buf_append_u8(out, (unsigned char)c);
        if (is_empty && i < len) buf_append_u8(out, (unsigned char)shape.at[++i]);
    }
    if (len < shape.len) buf_append_text(out, "...");
}

static void append_shape(struct buf *out, struct bytes text) {
    struct lex_result lexed;
    if (text.at == NULL || text.len > LEX_TEXT_BYTES_MAX) return;
    char *memory = memory_new(LEX_SHAPE_BYTES(text.len));
    if (lex_text(text, memory, &lexed)) append_shown(out, lexed.shape);
    memory_free(memory);
}

/* ---- counting */

static void count(struct client *client, const struct shadow_row *row) {
    struct stats *stats = &client->pool->stats;
    stats_add(row->is_replica ? &stats->shadow_replica : &stats->shadow_primary, 1);
    if (row->is_doubt) stats_add(&stats->shadow_doubts, 1);
    if (row->stale > 0) stats_add(&stats->shadow_stale, 1);
}

void shadow_note(struct client *client, struct bytes group) {
    char why[TRAITS_WHY_SIZE] = "not in hand as a whole";
    struct route_request request = client->route_request;
    struct map *rows = &client->set->shadow;
    struct bytes text = deciding_text(client, group, why);
    request.mode = ROUTE_MODE_READ_WRITE;
    request.why = why;
    request.turns = NULL;
    struct route wish = route_wish(&request);
    struct route route = route_choose(&request, client->pool->nodes[0]->cluster);
    struct buf reason = {0}, shape = {0};
    /* A syntax error may name the constant that it stands at. */
    if (wish.reason == ROUTE_NOT_UNDERSTOOD) why[strcspn(why, "'$")] = '\0';
    route_describe(&reason, &wish, &request, NULL);
    if (rows->count < SHADOW_ROWS_MAX) append_shape(&shape, text);
    const char *sentence = strstr(buf_text(&reason), ": ");
    struct shadow_row row = {
        .database = client->pool->database->name,
        .reason = rows->count < SHADOW_ROWS_MAX && sentence != NULL ? sentence + 2 : "",
        .shape = buf_text(&shape),
        .is_replica = wish.target == ROUTE_REPLICA,
        .is_doubt = wish.reason == ROUTE_NOT_UNDERSTOOD ||
                    (wish.reason == ROUTE_NEEDS_PRIMARY && (request.flags & TRAITS_MAY_WRITE)),
        .count = 1,
        .stale = route.outcome == ROUTE_NOT_FRESH,
    };
    count(client, &row);
    add(rows, &row);
    buf_release(&reason);
    buf_release(&shape);
}
