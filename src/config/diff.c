/* Comparing two snapshots, for RELOAD; see config/load.h. */
#include "config/load.h"

#include "core/check.h"

/* What the log calls the entries of each scope. */
static const char *const nouns[SETTING_SCOPE_COUNT] = {
    [SETTING_SCOPE_DATABASE] = "database",
    [SETTING_SCOPE_USER] = "user",
    [SETTING_SCOPE_NODE] = "node",
    [SETTING_SCOPE_PEER] = "peer",
};

static void shown(const struct setting *setting, const void *object, struct buf *text) {
    buf_append_u8(text, '"');
    setting_show(setting, object, text);
    buf_append_u8(text, '"');
}

static void pooler_diff(const struct config *from, const struct config *to, struct buf *text) {
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_POOLER, i);
        if (setting_is_same(setting, from, to)) continue;
        buf_append_format(text, "%s ", setting->name);
        shown(setting, from, text);
        buf_append_text(text, " -> ");
        shown(setting, to, text);
        buf_append_u8(text, '\n');
    }
}

static const struct config_entry *entry_of(const struct config *config, enum setting_scope scope,
                                           const struct config_entry *like) {
    struct map_node *node = map_find(&config->entries[scope].by_name, bytes_of_text(like->name));
    return node == NULL ? NULL : MAP_OWNER(node, struct config_entry, node);
}

static void entry_diff(enum setting_scope scope, const struct config_entry *from,
                       const struct config_entry *to, struct buf *text) {
    const char *separator = "";
    size_t before = buf_length(text);
    buf_append_format(text, "%s %s: ", nouns[scope], to->name);
    for (size_t i = 0; i < setting_count(scope); i++) {
        const struct setting *setting = setting_at(scope, i);
        if (setting_is_same(setting, from, to)) continue;
        buf_append_format(text, "%s%s", separator, setting->name);
        separator = ", ";
    }
    if (separator[0] == '\0')
        buf_truncate(text, before);
    else
        buf_append_u8(text, '\n');
}

void config_diff(const struct config *from, const struct config *to, struct buf *text) {
    pooler_diff(from, to, text);
    for (enum setting_scope scope = SETTING_SCOPE_DATABASE; scope < SETTING_SCOPE_COUNT; scope++) {
        for (size_t i = 0; i < from->entries[scope].count; i++) {
            const struct config_entry *old = from->entries[scope].at[i];
            if (entry_of(to, scope, old) == NULL)
                buf_append_format(text, "%s %s: removed\n", nouns[scope], old->name);
        }
        for (size_t i = 0; i < to->entries[scope].count; i++) {
            const struct config_entry *entry = to->entries[scope].at[i];
            const struct config_entry *old = entry_of(from, scope, entry);
            if (old != NULL)
                entry_diff(scope, old, entry, text);
            else
                buf_append_format(text, "%s %s: added\n", nouns[scope], entry->name);
        }
    }
}

static bool is_host_same(const struct config_host *a, const struct config_host *b) {
    return a->port == b->port && strcmp(a->name, b->name) == 0;
}

bool config_is_reconnect_needed(const struct config_database *from,
                                const struct config_database *to) {
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_DATABASE); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_DATABASE, i);
        bool is_relevant = setting->flags & SETTING_FLAG_RECONNECT;
        if (is_relevant && !setting_is_same(setting, from, to)) return true;
    }
    if (from->hosts_count != to->hosts_count) return true;
    for (size_t i = 0; i < from->hosts_count; i++) {
        if (!is_host_same(&from->hosts[i], &to->hosts[i])) return true;
    }
    return false;
}
