/* Interned statements, clients' names for them, and what servers have; see session/prepared.h. */
#include "session/prepared.h"

#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"

#include <stdatomic.h>
#include <stdio.h>

static _Atomic uint32_t last_number;

static uint32_t next_number(void) {
    return atomic_fetch_add_explicit(&last_number, 1, memory_order_relaxed) + 1;
}

uint32_t statements_last_number(void) {
    return atomic_load(&last_number);
}

void statements_number_from(uint32_t number) {
    atomic_store(&last_number, number);
}

/* Two databases that share a place only share less. */
#define SCHEMAS_COUNT 256u
static _Atomic uint32_t schemas[SCHEMAS_COUNT];

uint32_t statements_schema(uint64_t hash) {
    return atomic_load(&schemas[hash % SCHEMAS_COUNT]);
}

void statements_schema_changed(uint64_t hash) {
    (void)atomic_fetch_add(&schemas[hash % SCHEMAS_COUNT], 1);
}

void statements_release(struct statements *statements) {
    CHECK(statements->map.count == 0);
    map_release(&statements->map);
}

struct statement *statement_get(struct statements *statements, struct bytes context,
                                struct bytes body, bool *is_new) {
    struct buf key = {0};
    buf_append_bytes(&key, context);
    buf_append_u8(&key, 0);
    buf_append_bytes(&key, body);
    struct map_node *node = map_find(&statements->map, buf_content(&key));
    *is_new = node == NULL;
    struct statement *statement;
    if (node != NULL) {
        statement = MAP_OWNER(node, struct statement, node);
        statement->references++;
    } else {
        size_t len = buf_length(&key);
        statement = memory_new(sizeof *statement + len);
        memcpy(statement->key, buf_content(&key).at, len);
        statement->references = 1;
        statement->number = next_number();
        (void)snprintf(statement->name, sizeof statement->name, "PGBOUNCER_%u", statement->number);
        statement->context = bytes_of(statement->key, context.len);
        statement->body = bytes_of(statement->key + context.len + 1, body.len);
        map_add(&statements->map, &statement->node, bytes_of(statement->key, len));
        statements->bytes += sizeof *statement + len;
    }
    buf_release(&key);
    return statement;
}

void statement_unref(struct statements *statements, struct statement **statement_at) {
    struct statement *statement = *statement_at;
    *statement_at = NULL;
    if (statement == NULL) return;
    CHECK(statement->references > 0);
    if (--statement->references > 0) return;
    map_remove(&statements->map, &statement->node);
    statements->bytes -= sizeof *statement + statement->node.key.len;
    memory_free(statement);
}

/* ---- a client's names */

struct prepared_name *prepared_find(const struct prepared_names *names, struct bytes name) {
    struct map_node *node = map_find(&names->map, name);
    return node == NULL ? NULL : MAP_OWNER(node, struct prepared_name, node);
}

static size_t bytes_of_name(const struct prepared_name *name) {
    return sizeof *name + name->node.key.len + name->statement->node.key.len;
}

struct prepared_name *prepared_add(struct prepared_names *names, struct bytes name,
                                   struct statement *statement) {
    struct prepared_name *entry = memory_new(sizeof *entry + name.len + 1);
    memcpy(entry->name, name.at, name.len);
    entry->statement = statement;
    entry->uses = PREPARED_PROVEN;
    map_add(&names->map, &entry->node, bytes_of(entry->name, name.len));
    names->bytes += bytes_of_name(entry);
    return entry;
}

void prepared_detach(struct prepared_names *names, struct prepared_name *name) {
    map_remove(&names->map, &name->node);
    names->bytes -= bytes_of_name(name);
    if (name->uses == 0) names->unproven--;
}

void prepared_note_uses(struct prepared_names *names, struct prepared_name *name, unsigned uses) {
    if (name->uses == 0) names->unproven--;
    if (uses == 0) names->unproven++;
    name->uses = (uint8_t)uses;
}

void prepared_replace(struct prepared_names *names, struct statements *statements,
                      struct prepared_name *name, struct statement *statement) {
    names->bytes -= bytes_of_name(name);
    statement_unref(statements, &name->statement);
    name->statement = statement;
    names->bytes += bytes_of_name(name);
}

void prepared_drop(struct statements *statements, struct prepared_name *name) {
    statement_unref(statements, &name->statement);
    memory_free(name);
}

void prepared_attach(struct prepared_names *names, struct statements *statements,
                     struct prepared_name *name) {
    struct prepared_name *newer = prepared_find(names, name->node.key);
    if (newer != NULL) prepared_remove(names, statements, newer);
    map_add(&names->map, &name->node, name->node.key);
    names->bytes += bytes_of_name(name);
    if (name->uses == 0) names->unproven++;
}

void prepared_remove(struct prepared_names *names, struct statements *statements,
                     struct prepared_name *name) {
    prepared_detach(names, name);
    prepared_drop(statements, name);
}

void prepared_clear(struct prepared_names *names, struct statements *statements) {
    struct map_node *node = map_next(&names->map, NULL);
    while (node != NULL) {
        struct prepared_name *name = MAP_OWNER(node, struct prepared_name, node);
        node = map_next(&names->map, node);
        prepared_remove(names, statements, name);
    }
    map_release(&names->map);
}

/* ---- a server's statements */

struct server_memory *server_memory_new(const struct server *server) {
    struct server_memory *memory = memory_new(sizeof *memory);
    list_init(&memory->lru);
    list_init(&memory->named.lru);
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++)
        memory->login[i] = text_ref(server->parameters[i]);
    return memory;
}

void server_memory_free(struct server_memory **memory_at, struct statements *statements,
                        struct texts *texts) {
    struct server_memory *memory = *memory_at;
    *memory_at = NULL;
    if (memory == NULL) return;
    server_memory_clear(memory, statements);
    for (unsigned i = 0; i < MEMORY_ACCEPTED_MAX; i++) text_unref(texts, &memory->accepted[i]);
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++) text_unref(texts, &memory->login[i]);
    text_unref(texts, &memory->settings);
    memory_free(memory);
}

static struct bytes number_key(const struct statement *statement) {
    return bytes_of((const char *)&statement->number, sizeof statement->number);
}

struct prepared_on_server *server_memory_use(struct server_memory *memory,
                                             const struct statement *statement) {
    struct map_node *node = map_find(&memory->statements, number_key(statement));
    if (node == NULL) return NULL;
    struct prepared_on_server *entry = MAP_OWNER(node, struct prepared_on_server, node);
    if (list_last(&memory->lru) != &entry->lru) {
        list_remove(&memory->lru, &entry->lru);
        list_append(&memory->lru, &entry->lru);
    }
    return entry;
}

struct prepared_on_server *server_memory_add(struct server_memory *memory,
                                             struct statement *statement) {
    struct prepared_on_server *entry = memory_new(sizeof *entry);
    statement->references++;
    entry->statement = statement;
    map_add(&memory->statements, &entry->node, number_key(statement));
    list_append(&memory->lru, &entry->lru);
    return entry;
}

struct prepared_on_server *server_memory_surplus(struct server_memory *memory, size_t max) {
    if (memory->lru.count < max || memory->lru.count == 0) return NULL;
    return LIST_OWNER(list_first(&memory->lru), struct prepared_on_server, lru);
}

void server_memory_detach(struct server_memory *memory, struct prepared_on_server *entry) {
    map_remove(&memory->statements, &entry->node);
    list_remove(&memory->lru, &entry->lru);
}

void server_memory_drop(struct statements *statements, struct prepared_on_server *entry) {
    statement_unref(statements, &entry->statement);
    memory_free(entry);
}

bool server_memory_attach(struct server_memory *memory, struct statements *statements,
                          struct prepared_on_server *entry) {
    if (map_find(&memory->statements, number_key(entry->statement)) != NULL) {
        server_memory_drop(statements, entry);
        return false;
    }
    map_add(&memory->statements, &entry->node, number_key(entry->statement));
    list_prepend(&memory->lru, &entry->lru);
    return true;
}

void server_memory_remove(struct server_memory *memory, struct statements *statements,
                          struct prepared_on_server *entry) {
    server_memory_detach(memory, entry);
    server_memory_drop(statements, entry);
}

void server_memory_clear(struct server_memory *memory, struct statements *statements) {
    LIST_EACH_SAFE (&memory->lru, l, following) {
        server_memory_remove(memory, statements, LIST_OWNER(l, struct prepared_on_server, lru));
    }
    map_release(&memory->statements);
    named_clear(&memory->named, statements);
    memory->unnamed_owner = 0;
}
