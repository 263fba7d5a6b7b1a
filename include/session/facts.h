/*
 * Facts of a database's catalog: which of its functions may leave something in a session that only
 * its server can keep (session/pins.h): a temporary table, an advisory lock, a cursor WITH HOLD,
 * LISTEN. Their texts are looked at, and those that name such functions count too. What is put
 * together from parts only when it runs is not seen.
 *
 * They are asked along with the question at the end of a transaction that ran a function of which
 * nothing is known, again when the schema has changed, and every ten minutes.
 */
#ifndef WEIR_SESSION_FACTS_H
#define WEIR_SESSION_FACTS_H

#include "core/buf.h"
#include "core/map.h"
#include "sql/traits.h"

struct facts {
    struct map_node node; /* by the database's name */
    struct buf names;     /* of such functions, each with its NUL */
    struct buf coming;    /* those of an answer under way */
    uint64_t due_us;      /* when to ask again */
    uint32_t schema;      /* as statements_schema (session/prepared.h) when it was asked */
    bool is_known;
    char database[];
};

/* The facts of a database; never NULL. */
struct facts *facts_of(struct map *all, struct bytes database);
void facts_release_all(struct map *all);

bool facts_are_due(const struct facts *facts, uint32_t schema, uint64_t now_us);

/* Whether statements with these traits call such a function, as far as is known. */
bool facts_concern(const struct facts *facts, const struct traits *traits);

/* The question: rows of FACTS_MARK and a name. Then each name of the answer, and its end. */
#define FACTS_MARK " f"
void facts_append_question(struct buf *query);
void facts_add(struct facts *facts, struct bytes name);
void facts_learned(struct facts *facts, uint32_t schema, uint64_t now_us);

/* The question was refused: it is not asked again soon, and every function counts. */
void facts_failed(struct facts *facts, uint32_t schema, uint64_t now_us);

#endif
