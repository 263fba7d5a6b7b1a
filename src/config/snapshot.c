/*
 * The life of a snapshot: made, copied, shared, freed; see config/config.h and snapshot.h.
 *
 * Everything the table knows is initialised, copied and freed by walking it, so that a new
 * setting needs nothing here. Three things stand beside the table: an entry's name and place, a
 * URL user's secret, and the hosts that `finish.c` derives, which a copy derives again.
 */
#include "snapshot.h"

#include "core/list.h"
#include "core/memory.h"

#include <stdatomic.h>

/* An entry is the first member of what it is the entry of, so one pointer serves for both. */
static const size_t entry_sizes[SETTING_SCOPE_COUNT] = {
    [SETTING_SCOPE_DATABASE] = sizeof(struct config_database),
    [SETTING_SCOPE_USER] = sizeof(struct config_user),
    [SETTING_SCOPE_NODE] = sizeof(struct config_node),
    [SETTING_SCOPE_PEER] = sizeof(struct config_peer),
};

struct config *snapshot_new(void) {
    struct config *config = memory_new(sizeof *config);
    atomic_init(&config->references, 1);
    setting_init_all(SETTING_SCOPE_POOLER, config);
    return config;
}

struct config_entry *snapshot_entry_new(enum setting_scope scope, struct bytes name,
                                        const char *where) {
    CHECK(entry_sizes[scope] > 0);
    struct config_entry *entry = memory_new(entry_sizes[scope]);
    setting_init_all(scope, entry);
    entry->name = memory_copy(name.at, name.len);
    entry->where = memory_copy_text(where);
    return entry;
}

static void database_release(struct config_database *database) {
    for (size_t i = 0; i < database->hosts_count; i++) memory_free(database->hosts[i].name);
    database->hosts_count = 0;
}

void snapshot_entry_free(enum setting_scope scope, struct config_entry *entry) {
    if (scope == SETTING_SCOPE_DATABASE)
        database_release(LIST_OWNER(entry, struct config_database, entry));
    if (scope == SETTING_SCOPE_USER)
        memory_free_secret(LIST_OWNER(entry, struct config_user, entry)->secret);
    setting_release_all(scope, entry);
    memory_free(entry->name);
    memory_free(entry->where);
    memory_free(entry);
}

/* Puts an entry where its predecessor of the same name stands. */
static void entry_replace(struct config_entries *entries, enum setting_scope scope,
                          struct config_entry *old, struct config_entry *entry) {
    size_t i = 0;
    while (entries->at[i] != old) i++;
    map_remove(&entries->by_name, &old->node);
    snapshot_entry_free(scope, old);
    entries->at[i] = entry;
    map_add(&entries->by_name, &entry->node, bytes_of_text(entry->name));
}

bool snapshot_add(struct config *config, enum setting_scope scope, struct config_entry *entry) {
    struct config_entries *entries = &config->entries[scope];
    struct map_node *node = map_find(&entries->by_name, bytes_of_text(entry->name));
    if (node != NULL) {
        entry_replace(entries, scope, MAP_OWNER(node, struct config_entry, node), entry);
        return true;
    }
    if (entries->count >= CONFIG_ENTRIES_MAX) {
        snapshot_entry_free(scope, entry);
        return false;
    }
    bool is_full = (entries->count & (entries->count - 1)) == 0; /* 0 or a power of two */
    if (is_full) {
        size_t size = entries->count == 0 ? 1 : entries->count * 2;
        entries->at = memory_resize(entries->at, size * sizeof *entries->at);
    }
    entries->at[entries->count++] = entry;
    map_add(&entries->by_name, &entry->node, bytes_of_text(entry->name));
    return true;
}

static void entries_copy(struct config *to, const struct config *from, enum setting_scope scope) {
    for (size_t i = 0; i < from->entries[scope].count; i++) {
        const struct config_entry *old = from->entries[scope].at[i];
        struct config_entry *entry =
            snapshot_entry_new(scope, bytes_of_text(old->name), old->where);
        setting_copy_all(scope, entry, old);
        if (scope == SETTING_SCOPE_USER) {
            const struct config_user *user = (const void *)old;
            LIST_OWNER(entry, struct config_user, entry)->secret = memory_copy_text(user->secret);
        }
        bool is_added = snapshot_add(to, scope, entry);
        CHECK(is_added);
    }
}

struct config *snapshot_copy(const struct config *from) {
    struct config *config = snapshot_new();
    setting_copy_all(SETTING_SCOPE_POOLER, config, from);
    for (enum setting_scope scope = SETTING_SCOPE_DATABASE; scope < SETTING_SCOPE_COUNT; scope++)
        entries_copy(config, from, scope);
    return config;
}

static void config_free(struct config *config) {
    for (enum setting_scope scope = SETTING_SCOPE_DATABASE; scope < SETTING_SCOPE_COUNT; scope++) {
        struct config_entries *entries = &config->entries[scope];
        map_release(&entries->by_name);
        for (size_t i = 0; i < entries->count; i++) snapshot_entry_free(scope, entries->at[i]);
        memory_free(entries->at);
    }
    setting_release_all(SETTING_SCOPE_POOLER, config);
    memory_free(config);
}

struct config *config_ref(struct config *config) {
    unsigned held = atomic_fetch_add_explicit(&config->references, 1, memory_order_relaxed);
    CHECK(held > 0);
    return config;
}

void config_unref(struct config **config) {
    struct config *gone = *config;
    *config = NULL;
    if (gone == NULL) return;
    unsigned held = atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel);
    CHECK(held > 0);
    if (held == 1) config_free(gone);
}
