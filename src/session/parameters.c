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

/* These change nothing that a statement returns or does but what people see in views. */
static const char *const harmless[] = {"application_name"};

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

static void append_quoted(struct buf *query, const char *value) {
    buf_append_u8(query, '\'');
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\'') buf_append_u8(query, '\'');
        /* Whether a backslash means anything depends on a setting that may differ here. */
        if (*c == '\\') buf_append_u8(query, '\\');
        buf_append_u8(query, (unsigned char)*c);
    }
    buf_append_u8(query, '\'');
}

/* Whether a value is a list of names: SET with one text would make one name of all. */
static bool is_list(const char *name) {
    return bytes_equal_nocase(bytes_of_text(name), "search_path");
}

static void append_set(struct buf *query, const char *name, const char *value) {
    const char *escape = strchr(value, '\\') == NULL ? "" : "E";
    if (is_list(name)) {
        buf_append_format(query, "SELECT pg_catalog.set_config('%s',%s", name, escape);
        append_quoted(query, value);
        buf_append_text(query, ",false);");
        return;
    }
    buf_append_format(query, "SET %s=%s", name, escape);
    append_quoted(query, value);
    buf_append_u8(query, ';');
}

static bool differs(const struct parameters *parameters, const struct pool_set *set,
                    const struct server *server, unsigned i) {
    const struct text *mine = parameters->values[i];
    const struct text *theirs = server->parameters[i];
    if (mine == theirs || mine == NULL || theirs == NULL) return false;
    if (is_list(set->tracked[i])) return true; /* names in quotes differ by their case */
    return !bytes_equal_nocase(bytes_of(mine->at, mine->len), theirs->at);
}

static bool is_harmless(const char *name) {
    for (size_t i = 0; i < COUNT(harmless); i++) {
        if (strcmp(name, harmless[i]) == 0) return true;
    }
    return false;
}

static void append_accepted_key(struct buf *key, const char *name, const struct text *value) {
    buf_append_text(key, name);
    buf_append_u8(key, '=');
    buf_append(key, value->at, value->len);
}

static bool was_accepted(const struct server *server, const char *name, const struct text *value) {
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

enum parameters_step parameters_difference(const struct parameters *parameters,
                                           const struct pool_set *set, const struct server *server,
                                           struct buf *query) {
    enum parameters_step step = PARAMETERS_SAME;
    unsigned same = 0; /* texts are shared: nearly always all of them are the very same */
    while (same < set->tracked_count && parameters->values[same] == server->parameters[same])
        same++;
    for (unsigned i = same; i < set->tracked_count; i++) {
        if (!differs(parameters, set, server, i)) continue;
        const struct text *value = parameters->values[i];
        append_set(query, set->tracked[i], value->at);
        if (step == PARAMETERS_SAME) step = PARAMETERS_TOGETHER;
        if (!is_harmless(set->tracked[i]) && !was_accepted(server, set->tracked[i], value))
            step = PARAMETERS_FIRST;
    }
    return step;
}

void parameters_accepted(const struct parameters *parameters, const struct pool_set *set,
                         struct server *server) {
    struct server_memory *memory = server->memory;
    if (memory == NULL) return;
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = parameters->values[i];
        if (value == NULL || is_harmless(set->tracked[i])) continue;
        if (was_accepted(server, set->tracked[i], value)) continue;
        struct buf key = {0};
        append_accepted_key(&key, set->tracked[i], value);
        unsigned place = memory->accepted_next++ % MEMORY_ACCEPTED_MAX;
        text_unref(set->texts, &memory->accepted[place]);
        memory->accepted[place] = text_get(set->texts, buf_content(&key));
        buf_release(&key);
    }
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
        if (is_harmless(set->tracked[i])) continue;
        if (value != NULL) buf_append(context, value->at, value->len);
        buf_append_u8(context, 0); /* no value has one: the texts cannot be taken for each other */
    }
}
