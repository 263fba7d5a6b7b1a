/*
 * Tracked parameters: what a client believes its settings are, against what the server at hand
 * reported. The difference is sent as one simple Query ahead of the client's own request.
 *
 * Values are interned, so comparing a client with a server is comparing pointers. Only parameters
 * that PostgreSQL reports in ParameterStatus can be tracked (the manual, 55.2.7), and which it
 * reports depends on its version: what a server has not reported is nobody's concern.
 */
#ifndef WEIR_SESSION_PARAMETERS_H
#define WEIR_SESSION_PARAMETERS_H

#include "core/buf.h"
#include "pool/pool.h"
#include "session/prepared.h"
#include "sql/traits.h"

/* A client's values in the order of pool_set->tracked; NULL: the client never said. */
struct parameters {
    struct text *values[SERVER_PARAMETERS_MAX];
};

void parameters_release(struct parameters *parameters, struct texts *texts);

/* The index of a tracked parameter (any case), or -1. */
int parameters_index(const struct pool_set *set, struct bytes name);

/* Sets one value. */
void parameters_set(struct parameters *parameters, struct texts *texts, int index,
                    struct bytes value);

/* Whether client and server have the very same texts, as they nearly always do. */
static inline bool parameters_are_same(const struct parameters *parameters,
                                       const struct pool_set *set, const struct server *server) {
    unsigned i = 0;
    while (i < set->tracked_count && parameters->values[i] == server->parameters[i]) i++;
    return i == set->tracked_count;
}

enum parameters_step {
    PARAMETERS_SAME,     /* nothing to send */
    PARAMETERS_TOGETHER, /* `query` may go in one write with the client's request */
    PARAMETERS_FIRST     /* `query` has to be answered before the client's request is sent */
};

/* Appends the text of the Query (without its closing NUL) that brings the server in line. Where the
 * client has no value the server gets back what it had after its login. A parameter that the server
 * has never reported cannot be tracked and is left out. Only settings
 * that are harmless, or that this very server accepted before, may go together with the request:
 * else a refused one would run the request under the wrong settings. */
enum parameters_step parameters_difference(const struct parameters *parameters,
                                           const struct pool_set *set, const struct server *server,
                                           struct buf *query);

/* The server has accepted everything in that difference. */
void parameters_accepted(const struct parameters *parameters, const struct pool_set *set,
                         struct server *server);

/* For settings.c: a constant of SQL; a statement that sets one parameter; whether this very server
 * has accepted a value before, and that it has. */
void parameters_append_quoted(struct buf *query, struct bytes value);
void parameters_append_config(struct buf *query, struct bytes name, struct bytes value);
bool parameters_was_accepted(const struct server *server, struct bytes name, struct bytes value);
void parameters_note_accepted(struct server *server, struct texts *texts, struct bytes name,
                              struct bytes value);

/* How the client's statements are read (sql/traits.h), and the parse context under which they are
 * prepared; the latter is appended as text. */
struct traits_context parameters_context(const struct parameters *parameters);
void parameters_parse_context(const struct parameters *parameters, const struct pool_set *set,
                              struct buf *context);

/* Appends two SELECTs for the parameters that decide what literals become, as far as a parse
 * context differs from the client's values: one that sets what the context says up to the end of
 * the transaction, and one that sets the client's again. False if there is no difference. */
bool parameters_append_context(const struct parameters *parameters, const struct pool_set *set,
                               struct bytes context, struct buf *before, struct buf *after);

#endif
