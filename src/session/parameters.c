/*
 * Comparing and replaying tracked parameters; see session/parameters.h.
 *
 * Case of values does not count, as in PgBouncer: PostgreSQL answers SET DateStyle = 'iso' with
 * its own spelling. Once a server has reported its spelling of a value that was sent for a client,
 * the relay gives the client that spelling too, so that each value is sent at most once.
 */
#include "session/parameters.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/message.h"

/* What is special about the parameters that are always tracked. */
enum {
    HARMLESS = 1 << 0, /* changes nothing that a statement returns or does but what people see */
    UNPARSED = 1 << 1, /* has no part in how a statement is read and planned */
    LIST = 1 << 2,     /* of names: SET with one text would make one name of all */
    EXACT = 1 << 3,    /* case counts */
    GRANTED = 1 << 4   /* what a server accepted once it may refuse today */
};

static const unsigned special[SERVER_PARAMETERS_MAX] = {
    [TRACKED_APPLICATION_NAME] = HARMLESS | UNPARSED,
    [TRACKED_SEARCH_PATH] = LIST | EXACT,
    [TRACKED_SESSION_AUTHORIZATION] = EXACT | GRANTED,
    [TRACKED_DEFAULT_TRANSACTION_READ_ONLY] = UNPARSED,
    [TRACKED_SCRAM_ITERATIONS] = UNPARSED,
};

void parameters_release(struct parameters *parameters, struct texts *texts) {
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++) text_unref(texts, &parameters->values[i]);
}

int parameters_index(const struct pool_set *set, struct bytes name) {
    for (unsigned i = 0; i < set->tracked_count; i++) {
        if (bytes_equal_nocase(name, set->tracked[i])) return (int)i;
    }
    return -1;
}

void parameters_set(struct parameters *parameters, struct texts *texts, int index,
                    struct bytes value) {
    struct text *new = text_get(texts, value);
    text_unref(texts, &parameters->values[index]);
    parameters->values[index] = new;
}

void parameters_append_quoted(struct buf *query, struct bytes value) {
    /* Whether a backslash means anything depends on a setting that may differ here. */
    if (memchr(value.at, '\\', value.len) != NULL) buf_append_u8(query, 'E');
    buf_append_u8(query, '\'');
    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];
        if (c == '\'' || c == '\\') buf_append_u8(query, (unsigned char)c);
        buf_append_u8(query, (unsigned char)c);
    }
    buf_append_u8(query, '\'');
}

void parameters_append_config(struct buf *query, struct bytes name, struct bytes value) {
    buf_append_text(query, "SELECT pg_catalog.set_config(");
    parameters_append_quoted(query, name);
    buf_append_u8(query, ',');
    parameters_append_quoted(query, value);
    buf_append_text(query, ",false);");
}

static void append_set(struct buf *query, const char *name, struct bytes value, bool is_list) {
    if (is_list) {
        parameters_append_config(query, bytes_of_text(name), value);
        return;
    }
    buf_append_format(query, "SET %s=", name);
    parameters_append_quoted(query, value);
    buf_append_u8(query, ';');
}

/* What the client is to have on that server: its own value, or if it has none, as after a standby's
 * greeting, the server's own. */
static const struct text *wanted(const struct parameters *parameters, const struct server *server,
                                 unsigned i) {
    const struct server_memory *memory = server->memory;
    if (parameters->values[i] != NULL || memory == NULL) return parameters->values[i];
    return memory->login[i];
}

static bool differs(const struct text *mine, const struct server *server, unsigned i) {
    const struct text *theirs = server->parameters[i];
    if (mine == theirs || mine == NULL || theirs == NULL) return false;
    if (special[i] & EXACT) return true; /* equal texts are one */
    return !bytes_equal_nocase(bytes_of(mine->at, mine->len), theirs->at);
}

static void append_accepted_key(struct buf *key, struct bytes name, struct bytes value) {
    buf_append_bytes(key, name);
    buf_append_u8(key, '=');
    buf_append_bytes(key, value);
}

bool parameters_was_accepted(const struct server *server, struct bytes name, struct bytes value) {
    const struct server_memory *memory = server->memory;
    if (memory == NULL) return false;
    struct buf key = {0};
    append_accepted_key(&key, name, value);
    bool found = false;
    for (unsigned i = 0; i < MEMORY_ACCEPTED_MAX && !found; i++) {
        const struct text *text = memory->accepted[i];
        found = text != NULL && bytes_equal(bytes_of(text->at, text->len), buf_content(&key));
    }
    buf_release(&key);
    return found;
}

static bool was_accepted(const struct server *server, const char *name, const struct text *value) {
    return parameters_was_accepted(server, bytes_of_text(name), bytes_of(value->at, value->len));
}

void parameters_note_accepted(struct server *server, struct texts *texts, struct bytes name,
                              struct bytes value) {
    struct server_memory *memory = server->memory;
    if (parameters_was_accepted(server, name, value)) return;
    struct buf key = {0};
    append_accepted_key(&key, name, value);
    unsigned place = memory->accepted_next++ % MEMORY_ACCEPTED_MAX;
    text_unref(texts, &memory->accepted[place]);
    memory->accepted[place] = text_get(texts, buf_content(&key));
    buf_release(&key);
}

enum parameters_step parameters_difference(const struct parameters *parameters,
                                           const struct pool_set *set, const struct server *server,
                                           struct buf *query) {
    if (parameters_are_same(parameters, set, server)) return PARAMETERS_SAME;
    enum parameters_step step = PARAMETERS_SAME;
    uint32_t asked = 0;
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = wanted(parameters, server, i);
        if (!differs(value, server, i)) continue;
        append_set(query, set->tracked[i], bytes_of(value->at, value->len), special[i] & LIST);
        asked |= UINT32_C(1) << i;
        if (step == PARAMETERS_SAME) step = PARAMETERS_TOGETHER;
        bool may_fail = special[i] & GRANTED || !was_accepted(server, set->tracked[i], value);
        if (!(special[i] & HARMLESS) && may_fail) step = PARAMETERS_FIRST;
    }
    struct server_memory *memory = server->memory;
    if (memory != NULL) memory->asked = asked;
    return step;
}

void parameters_accepted(const struct parameters *parameters, const struct pool_set *set,
                         struct server *server) {
    struct server_memory *memory = server->memory;
    if (memory == NULL) return;
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = wanted(parameters, server, i);
        bool is_asked = memory->asked & UINT32_C(1) << i;
        if (value == NULL || !is_asked || special[i] & (HARMLESS | GRANTED)) continue;
        parameters_note_accepted(server, set->texts, bytes_of_text(set->tracked[i]),
                                 bytes_of(value->at, value->len));
    }
    memory->asked = 0;
}

/* A boolean as PostgreSQL reads it, on the way to a server that has the last word. */
static bool says_true(const struct text *value) {
    struct bytes word = bytes_of(value->at, value->len);
    if (bytes_equal_text(word, "on") || bytes_equal_nocase(word, "on")) return true;
    return value->len > 0 && strchr("tTyY1", value->at[0]) != NULL;
}

struct traits_context parameters_context(const struct parameters *parameters) {
    struct traits_context context = {.standard_conforming_strings = true,
                                     .safe_backslash_quote = true};
    const struct text *encoding = parameters->values[TRACKED_CLIENT_ENCODING];
    const struct text *strings = parameters->values[TRACKED_STANDARD_CONFORMING_STRINGS];
    /* The spelling that PostgreSQL reports is by far the commonest, and NULL means the same. */
    if (encoding != NULL && !bytes_equal_text(bytes_of(encoding->at, encoding->len), "UTF8"))
        context.client_encoding = encoding->at;
    if (strings != NULL) context.standard_conforming_strings = says_true(strings);
    return context;
}

void parameters_parse_context(const struct parameters *parameters, const struct pool_set *set,
                              struct buf *context) {
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = parameters->values[i];
        if (special[i] & UNPARSED) continue;
        if (value != NULL) buf_append(context, value->at, value->len);
        buf_append_u8(context, 0); /* no value has one: the texts cannot be taken for each other */
    }
}

static void append_local(struct buf *query, const char *name, struct bytes value) {
    buf_append_text(query, buf_length(query) == 0 ? "SELECT " : ",");
    buf_append_text(query, "pg_catalog.set_config(");
    parameters_append_quoted(query, bytes_of_text(name));
    buf_append_u8(query, ',');
    parameters_append_quoted(query, value);
    buf_append_text(query, ",true)");
}

bool parameters_append_context(const struct parameters *parameters, const struct pool_set *set,
                               struct bytes context, struct buf *before, struct buf *after) {
    struct bytes rest = context, value;
    for (unsigned i = 0; i < set->tracked_count; i++) {
        if (special[i] & UNPARSED) continue;
        if (!message_text(rest, &value, &rest)) break;
        bool is_of_literals = i == TRACKED_CLIENT_ENCODING || i == TRACKED_DATESTYLE ||
                              i == TRACKED_TIMEZONE || i == TRACKED_STANDARD_CONFORMING_STRINGS ||
                              i == TRACKED_INTERVALSTYLE;
        const struct text *mine = parameters->values[i];
        if (!is_of_literals || mine == NULL || value.len == 0) continue;
        if (bytes_equal(bytes_of(mine->at, mine->len), value)) continue;
        append_local(before, set->tracked[i], value);
        append_local(after, set->tracked[i], bytes_of(mine->at, mine->len));
    }
    return buf_length(before) > 0;
}
