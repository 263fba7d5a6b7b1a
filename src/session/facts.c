/* Facts of catalogs; see session/facts.h. */
#include "session/facts.h"

#include "core/memory.h"
#include "proto/message.h"

#define FACTS_AGE_US (UINT64_C(600) * 1000000)

/* So many names of such functions are kept; with more, every function counts. */
#define FACTS_NAMES_MAX  1000
#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

struct facts *facts_of(struct map *all, struct bytes database) {
    struct map_node *node = map_find(all, database);
    if (node != NULL) return MAP_OWNER(node, struct facts, node);
    struct facts *facts = memory_new(sizeof *facts + database.len);
    memcpy(facts->database, database.at, database.len);
    map_add(all, &facts->node, bytes_of(facts->database, database.len));
    return facts;
}

void facts_release_all(struct map *all) {
    struct map_node *node = map_next(all, NULL);
    while (node != NULL) {
        struct facts *facts = MAP_OWNER(node, struct facts, node);
        node = map_next(all, node);
        map_remove(all, &facts->node);
        buf_release(&facts->names);
        buf_release(&facts->coming);
        memory_free(facts);
    }
    map_release(all);
}

bool facts_are_due(const struct facts *facts, uint32_t schema, uint64_t now_us) {
    return facts->schema != schema || now_us >= facts->due_us;
}

/* The last part of a name as traits tell it: "schema.name". */
static struct bytes last_part(struct bytes name) {
    size_t from = name.len;
    while (from > 0 && name.at[from - 1] != '.') from--;
    return bytes_of(name.at + from, name.len - from);
}

static bool is_among(const struct facts *facts, struct bytes name) {
    struct bytes rest = buf_content(&facts->names), other;
    while (message_text(rest, &other, &rest)) {
        if (bytes_equal(other, name)) return true;
    }
    return false;
}

bool facts_concern(const struct facts *facts, const struct traits *traits) {
    struct bytes rest = traits->names, entry;
    if (!facts->is_known || !traits->names_complete) return true;
    while (message_text(rest, &entry, &rest)) {
        if (entry.len == 0 || entry.at[0] != 'f') continue;
        if (is_among(facts, last_part(bytes_of(entry.at + 1, entry.len - 1)))) return true;
    }
    return false;
}

/* Functions from 16384 on are no part of PostgreSQL itself. One of SQL without a text has a parsed
 * body, which can take locks. */
void facts_append_question(struct buf *query) {
    buf_append_text(
        query, "SELECT '" FACTS_MARK "'::pg_catalog.text, n::pg_catalog.text FROM ("
               "WITH RECURSIVE f(n) AS (SELECT p.proname FROM pg_catalog.pg_proc p"
               " WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND (p.prosrc OPERATOR(pg_catalog.~*)"
               " E'\\\\mtemp(orary)?\\\\M|pg_temp|advisory|\\\\mlisten\\\\M|\\\\mhold\\\\M'"
               " OR p.prosrc OPERATOR(pg_catalog.=) '')"
               " UNION SELECT p.proname FROM pg_catalog.pg_proc p, f"
               " WHERE p.oid OPERATOR(pg_catalog.>=) 16384 AND"
               " pg_catalog.strpos(p.prosrc, f.n::pg_catalog.text) OPERATOR(pg_catalog.>) 0)"
               " SELECT DISTINCT n FROM f LIMIT " TEXT_OF(FACTS_NAMES_MAX) ") f");
}

void facts_add(struct facts *facts, struct bytes name) {
    buf_append_bytes(&facts->coming, name);
    buf_append_u8(&facts->coming, 0);
}

static void end_question(struct facts *facts, uint32_t schema, uint64_t now_us) {
    buf_release(&facts->names);
    facts->names = facts->coming;
    facts->coming = (struct buf){0};
    facts->schema = schema;
    facts->due_us = now_us + FACTS_AGE_US;
}

void facts_learned(struct facts *facts, uint32_t schema, uint64_t now_us) {
    struct bytes rest = buf_content(&facts->coming), name;
    unsigned count = 0;
    while (message_text(rest, &name, &rest)) count++;
    end_question(facts, schema, now_us);
    facts->is_known = count < FACTS_NAMES_MAX;
}

void facts_failed(struct facts *facts, uint32_t schema, uint64_t now_us) {
    buf_clear(&facts->coming);
    end_question(facts, schema, now_us);
    facts->is_known = false;
}
