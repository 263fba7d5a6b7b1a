/*
 * The traces that a database's own functions may leave in a session, as far as their texts in the
 * catalog tell. Functions that name such functions count too. What is put together from parts only
 * when it runs is not seen.
 *
 *      lasts         a temporary table, an advisory lock, a cursor WITH HOLD, LISTEN
 *                    (session/pins.h)
 *      sets          parameters by names that are written there
 *      sets unknown  parameters of which the text does not tell the names, or all
 *
 * They are asked along with the question at the end of a client's first transaction, of one that
 * ran a function of which nothing is known, or DDL; again when the schema has changed, or after ten
 * minutes. Where such a function is hidden behind a trigger, a view, a policy, an operator, a cast
 * or the like, any statement may run it.
 */
#ifndef WEIR_SESSION_TRACES_H
#define WEIR_SESSION_TRACES_H

#include "core/buf.h"
#include "core/map.h"

enum { TRACE_LASTS = 1 << 0, TRACE_SETS = 1 << 1, TRACE_SETS_UNKNOWN = 1 << 2 };

struct traces {
    struct map_node node; /* by the database's name */
    struct buf told;      /* a kind's letter and a name, each with its NUL */
    struct buf coming;    /* those of an answer under way */
    uint64_t due_us;      /* when to ask again */
    uint32_t schema;      /* as statements_schema (session/prepared.h) when it was asked */
    unsigned hidden; /* kinds of which some are run by triggers, views, policies, operators, ... */
    bool is_known;
    char database[];
};

/* The traces of a database; never NULL. */
struct traces *traces_of(struct map *all, struct bytes database);
void traces_release_all(struct map *all);

bool traces_are_due(const struct traces *traces, uint32_t schema, uint64_t now_us);

/* What a function may leave, a set of the above, by its name or as traits tell it, with its schema.
 * Where traces are not to be had: TRACE_LASTS. */
unsigned traces_of_function(const struct traces *traces, struct bytes name);

/* The same for a program, whose text is in hand. */
unsigned traces_of_program(const struct traces *traces, struct bytes text);

/* The parameters that functions with TRACE_SETS may set: takes the next one out of `rest`, which
 * begins as traces->told. False at the end. */
bool traces_next_parameter(struct bytes *rest, struct bytes *name);

/* The question: rows of a mark and a name. Then each row of the answer, false if it is another
 * question's; and its end. */
void traces_append_question(struct buf *query);
bool traces_row(struct traces *traces, struct bytes mark, struct bytes name);
void traces_learned(struct traces *traces, uint32_t schema, uint64_t now_us);

/* The question was refused: it is not asked again soon. */
void traces_failed(struct traces *traces, uint32_t schema, uint64_t now_us);

#endif
