/* Statements under clients' own names; see session/named.h. */
#include "session/named.h"

#include "core/memory.h"
#include "session/prepared.h"

struct named_on_server *named_use(struct named *named, struct bytes name) {
    struct map_node *node = map_find(&named->map, name);
    if (node == NULL) return NULL;
    struct named_on_server *entry = MAP_OWNER(node, struct named_on_server, node);
    list_remove(&named->lru, &entry->lru);
    list_append(&named->lru, &entry->lru);
    return entry;
}

static void list_entry(struct named *named, struct named_on_server *entry) {
    map_add(&named->map, &entry->node, entry->node.key);
    list_append(&named->lru, &entry->lru);
    entry->is_listed = true;
    entry->references++;
}

struct named_on_server *named_add(struct named *named, struct bytes name,
                                  struct statement *statement) {
    struct named_on_server *entry = memory_new(sizeof *entry + name.len + 1);
    memcpy(entry->name, name.at, name.len);
    entry->node.key = bytes_of(entry->name, name.len);
    entry->statement = statement;
    statement->references++;
    list_entry(named, entry);
    return entry;
}

struct named_on_server *named_surplus(const struct named *named, size_t max) {
    if (named->lru.count < max || named->lru.count == 0) return NULL;
    return LIST_OWNER(list_first(&named->lru), struct named_on_server, lru);
}

void named_ref(struct named_on_server *entry) {
    entry->references++;
}

void named_unref(struct statements *statements, struct named_on_server *entry) {
    CHECK(entry->references > 0);
    if (--entry->references > 0) return;
    statement_unref(statements, &entry->statement);
    memory_free(entry);
}

void named_unlist(struct named *named, struct statements *statements,
                  struct named_on_server *entry) {
    if (!entry->is_listed) return;
    map_remove(&named->map, &entry->node);
    list_remove(&named->lru, &entry->lru);
    entry->is_listed = false;
    named_unref(statements, entry);
}

bool named_attach(struct named *named, struct named_on_server *entry) {
    if (entry->is_listed || map_find(&named->map, entry->node.key) != NULL) return false;
    list_entry(named, entry);
    return true;
}

void named_clear(struct named *named, struct statements *statements) {
    LIST_EACH_SAFE (&named->lru, l, following) {
        named_unlist(named, statements, LIST_OWNER(l, struct named_on_server, lru));
    }
    map_release(&named->map);
}
