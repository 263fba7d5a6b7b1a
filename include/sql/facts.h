/*
 * Facts: what the names in statements stand for in one database, as its catalog says.
 *
 *      rows of the catalog --builder--> facts (immutable, shared) --resolve--> traits of a
 * statement
 *
 * Names are not resolved as PostgreSQL would, by search_path and the types of arguments: all that
 * share a name count, and the worst of them decides. What the catalog does not know may do
 * anything. A function that is declared stable or immutable is believed, unless its text calls what
 * is not. How one thing reaches another (views, policies, partitions, cascades, defaults, triggers)
 * is followed to the end when the facts are made, so that a statement only looks its own names up.
 */
#ifndef WEIR_SQL_FACTS_H
#define WEIR_SQL_FACTS_H

#include "core/buf.h"
#include "sql/findings.h"
#include "sql/traits.h"

struct facts;

/* One more reference; any thread. Returns the facts. */
struct facts *facts_share(struct facts *facts);
/* Gives one back, the last one frees; any thread. *facts becomes NULL. */
void facts_free(struct facts **facts);

/* Facts of a database whose catalog has not been read yet, or has just changed: all that is not
 * PostgreSQL's own goes to the primary and counts for everything. Never freed. */
const struct facts *facts_unread(void);

/* A number that no other facts of the process have; 1 is facts_unread's, 0 nobody's. */
uint32_t facts_generation(const struct facts *facts);

/* The schema number (cluster/freshness.h) from before the catalog was asked. */
uint32_t facts_schema(const struct facts *facts);

/* Traits of a statement: flags, why, reads and writes, from what its parse has found and the names
 * in it. Facts that are NULL resolve nothing: then any function may do anything, and relations are
 * plain tables. */
void facts_resolve(const struct facts *facts, const struct findings *found, struct bytes names,
                   struct traits *traits);

/* For SHOW FACTS: each thing that is more than a plain table or a harmless function. `kind` is
 * "function", "relation", "operator" or "type"; `effect` is what follows for statements that name
 * it, `reason` why. */
struct facts_line {
    const char *kind, *schema, *name, *effect, *reason;
};
void facts_each(const struct facts *facts,
                void (*visit)(void *owner, const struct facts_line *line), void *owner);

/*
 * The builder. A row is what one row of the catalog's answer says; `mark` depends on its kind:
 *
 *      r  relation `id`: relkind, relpersistence
 *      f  function `id`: provolatile; language (c: C or internal, q: SQL or PL/pgSQL as text,
 *         b: SQL with a parsed body, x: another); then t: a trigger's, m: its text has words that
 *         write, w: its one argument is a row
 *      o  operator `name`, by function `id`
 *      y  type `name`: a cast to it may run function `id`
 *      c  a cast that is made unasked runs function `id`
 *      u  `id` (a relation or function: mark r or f) calls function `other`, `name` if built in
 *      v  `id` (mark as above) reads relation `other`
 *      d  a write to relation `id` calls function `other`, as u; also its triggers
 *      a  a write to relation `id` may write anything
 *      k  a change of relation `id` may change relation `other`
 *      i  relation `id` has the child or partition `other`
 *      w  the text of function `id` names `name`: a function (mark f) or a relation (r)
 */
struct facts_row {
    char kind;
    uint32_t id, other;
    const char *mark, *schema, *name;
};
struct facts_builder;

/* `database` names cluster and database. `harmless` are the names of functions and foreign
 * tables that may be used on any node whatever the catalog says ("name" or "schema.name"), divided
 * by commas; may be NULL. */
struct facts_builder *facts_builder_new(uint64_t database, const char *harmless);
void facts_builder_add(struct facts_builder *builder, const struct facts_row *row);
struct facts *facts_builder_end(struct facts_builder **builder, uint32_t generation,
                                uint32_t schema);
void facts_builder_free(struct facts_builder **builder);

#endif
