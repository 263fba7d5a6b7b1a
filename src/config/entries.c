/*
 * Settings and entries as a file gives them; see entries.h.
 *
 * The words in front are PgBouncer's where it has words for an error. A value is quoted in it
 * unless it is a secret, and so is an unknown key, unless the pair before it was a secret: the
 * rest of a password with a blank in it reads like a key.
 */
#include "entries.h"
#include "pairs.h"
#include "snapshot.h"

#include "core/check.h"
#include "core/memory.h"

#include <inttypes.h>

/* What messages call the things of each scope. */
static const struct {
    const char *noun;
    const char *unknown; /* PgBouncer's text for an unknown key */
    size_t name_bytes_max;
} scopes[SETTING_SCOPE_COUNT] = {
    [SETTING_SCOPE_POOLER] = {"configuration", "unknown parameter", 0},
    [SETTING_SCOPE_DATABASE] = {"database", "unrecognized connection parameter", 63},
    [SETTING_SCOPE_USER] = {"user", "unrecognized user parameter", 127},
    [SETTING_SCOPE_NODE] = {"node", "unrecognized node parameter", 255},
    [SETTING_SCOPE_PEER] = {"peer", "unrecognized connection parameter", 5},
};

#define NAME_RESERVED "pgbouncer"

/* ` in configuration (FILE:LINE)`, or ` in database "app" (FILE:LINE)`. */
static void append_place(struct buf *text, const struct entries_place *place,
                         enum setting_scope scope, struct bytes name) {
    buf_append_format(text, " in %s ", scopes[scope].noun);
    if (scope != SETTING_SCOPE_POOLER) {
        errors_quote(text, name, false);
        buf_append_u8(text, ' ');
    }
    buf_append_format(text, "(%s)", place->where);
}

/* Adds the text as an error and frees it. */
static void add_and_release(const struct entries_place *place, struct buf *text) {
    errors_add(place->errors, "%s", buf_text(text));
    buf_release(text);
}

/* One key and its value on the way into an object. */
struct assignment {
    enum setting_scope scope;
    void *object;
    struct bytes name; /* the entry's; empty for the pooler */
    struct bytes key;
    struct bytes value;
    bool is_key_secret; /* what looks like a key may be a piece of a password */
};

static void unknown_key(const struct entries_place *place, const struct assignment *a) {
    struct buf text = {0};
    const char *nearest = a->is_key_secret ? NULL : setting_nearest(a->scope, a->key);
    buf_append_format(&text, "%s: ", scopes[a->scope].unknown);
    if (a->is_key_secret)
        buf_append_text(&text, "****");
    else
        errors_quote(&text, a->key, false);
    append_place(&text, place, a->scope, a->name);
    if (nearest != NULL) buf_append_format(&text, ": did you mean %s?", nearest);
    add_and_release(place, &text);
}

/* Warns that a value was not taken as it stands, and as what instead. */
static void warn_bent(const struct entries_place *place, const struct assignment *a,
                      const struct setting *setting, struct bytes what) {
    struct buf text = {0};
    buf_append_text(&text, "value ");
    errors_quote(&text, a->value, setting->flags & SETTING_FLAG_SECRET);
    buf_append_format(&text, " for parameter %s", setting->name);
    append_place(&text, place, a->scope, a->name);
    errors_warn(place->errors, "%s: %.*s", buf_text(&text), (int)what.len, what.at);
    buf_release(&text);
}

/* In pairs PgBouncer takes the decimal digits in front for a number and passes over what follows;
 * without any it is 0. So does this, for PgBouncer's own numbers, with a warning. */
static bool is_number_of_pair(const struct assignment *a, const struct setting *setting) {
    bool is_number = setting->type == SETTING_TYPE_INT || setting->type == SETTING_TYPE_TIME;
    return is_number && !(setting->flags & SETTING_FLAG_OWN) && a->scope != SETTING_SCOPE_POOLER;
}

static void assign(const struct entries_place *place, const struct assignment *a) {
    const struct setting *setting = setting_find(a->scope, a->key);
    if (setting == NULL) {
        unknown_key(place, a);
        return;
    }
    struct buf bent = {0};
    struct buf number = {0};
    struct buf why = {0};
    struct bytes value = a->value;
    if (is_number_of_pair(a, setting)) {
        int64_t read = 0;
        if (!setting_leading_number(value, &read))
            buf_append_format(&bent, "only \"%" PRId64 "\" is used", read);
        buf_append_format(&number, "%" PRId64, read);
        value = buf_content(&number);
    }
    if (setting_set(setting, a->object, value, &why)) {
        if (buf_length(&bent) > 0 && buf_length(&why) > 0) buf_append_text(&bent, ", ");
        buf_append_bytes(&bent, buf_content(&why));
        if (buf_length(&bent) > 0) warn_bent(place, a, setting, buf_content(&bent));
    } else {
        struct buf text = {0};
        buf_append_text(&text, "invalid value ");
        errors_quote(&text, a->value, setting->flags & SETTING_FLAG_SECRET);
        buf_append_format(&text, " for parameter %s", setting->name);
        append_place(&text, place, a->scope, a->name);
        buf_append_format(&text, ": %s", buf_text(&why));
        add_and_release(place, &text);
    }
    buf_release(&bent);
    buf_release(&number);
    buf_release(&why);
}

void entries_set(const struct entries_place *place, struct bytes key, struct bytes value) {
    struct assignment a = {
        .scope = SETTING_SCOPE_POOLER, .object = place->config, .key = key, .value = value};
    assign(place, &a);
}

static bool name_is_right(const struct entries_place *place, enum setting_scope scope,
                          struct bytes name) {
    struct buf text = {0};
    size_t max = scopes[scope].name_bytes_max;
    buf_append_format(&text, "invalid %s name ", scopes[scope].noun);
    errors_quote(&text, name, false);
    buf_append_format(&text, " in configuration (%s): ", place->where);
    bool is_reserved = scope == SETTING_SCOPE_DATABASE && bytes_equal_text(name, NAME_RESERVED);
    if (is_reserved)
        buf_append_text(&text, "it is reserved for the console");
    else
        buf_append_format(&text, "expected 1 to %zu bytes", max);
    bool is_right = !is_reserved && name.len > 0 && name.len <= max;
    if (is_right)
        buf_release(&text);
    else
        add_and_release(place, &text);
    return is_right;
}

/* The pairs one after the other; a broken one ends them, since what follows has no meaning. */
static void pairs_assign(const struct entries_place *place, struct assignment *a,
                         struct bytes pairs) {
    struct buf value = {0};
    const char *why = NULL;
    enum pairs_found found;
    while ((found = pairs_next(&pairs, &a->key, &value, &why)) == PAIRS_FOUND_PAIR) {
        a->value = buf_content(&value);
        assign(place, a);
        const struct setting *setting = setting_find(a->scope, a->key);
        a->is_key_secret =
            a->is_key_secret || (setting != NULL && setting->flags & SETTING_FLAG_SECRET);
        buf_clear(&value);
    }
    if (found == PAIRS_FOUND_BROKEN) {
        struct buf text = {0};
        buf_append_text(&text, "syntax error");
        append_place(&text, place, a->scope, a->name);
        buf_append_format(&text, ", stopping loading: %s", why);
        add_and_release(place, &text);
    }
    if (value.memory != NULL) memory_wipe(value.memory, value.size);
    buf_release(&value);
}

void entries_add(const struct entries_place *place, enum setting_scope scope, struct bytes name,
                 struct bytes pairs) {
    if (!name_is_right(place, scope, name)) return;
    size_t before = place->errors->count;
    struct config_entry *entry = snapshot_entry_new(scope, name, place->where);
    struct assignment a = {.scope = scope, .object = entry, .name = name};
    pairs_assign(place, &a, pairs);
    if (place->errors->count > before) {
        snapshot_entry_free(scope, entry);
    } else if (!snapshot_add(place->config, scope, entry)) {
        errors_add(place->errors, "too many entries in configuration (%s): at most %d in a section",
                   place->where, CONFIG_ENTRIES_MAX);
    }
}

struct config *config_with(struct config *old, const char *key, const char *value,
                           struct config_errors *errors) {
    const struct setting *setting = setting_find(SETTING_SCOPE_POOLER, bytes_of_text(key));
    if (setting != NULL && !(setting->flags & SETTING_FLAG_LIVE)) return config_ref(old);
    size_t before = errors->count;
    struct config *config = snapshot_copy(old);
    struct entries_place place = {config, errors, "SET"};
    entries_set(&place, bytes_of_text(key), bytes_of_text(value));
    if (errors->count > before || !snapshot_finish(config, errors)) config_unref(&config);
    return config;
}
