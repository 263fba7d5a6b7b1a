/*
 * What is known of PostgreSQL's own functions and views without asking a database: which of them
 * may run on any node, and what is special about the others.
 */
#ifndef WEIR_SQL_BUILTINS_H
#define WEIR_SQL_BUILTINS_H

#include "core/bytes.h"
#include "core/check.h"

enum builtin_kind {
    BUILTIN_UNKNOWN,       /* nothing is known: it may do anything */
    BUILTIN_HARMLESS,      /* reads only, and answers alike on every node */
    BUILTIN_WRITES,        /* writes, or is refused by a standby like a write */
    BUILTIN_ONE_NODE,      /* its answer is about the node or server that gives it */
    BUILTIN_ACTS,          /* changes something of the node that runs it */
    BUILTIN_LOCKS,         /* takes an advisory lock to the end of the transaction */
    BUILTIN_SESSION_LOCKS, /* takes or gives back one of the session */
    BUILTIN_REMEMBERS,     /* uses or leaves something in the session */
    BUILTIN_RUNS_TEXT,     /* runs a query that it is given as a text */
    BUILTIN_CONNECTS,      /* works through a connection of its own */
    BUILTIN_SETS,          /* set_config */
    BUILTIN_SHOWS          /* current_setting */
};

/* The kind of a function of pg_catalog, or of an extension's function that is known by its name
 * alone; `name` is without a schema and in the case that the catalog has. */
enum builtin_kind builtin_function(struct bytes name);

/* Whether a function that writes changes no row that a replica might be asked for. */
bool builtin_writes_no_rows(struct bytes name);

/* Whether its answer depends on relations that its arguments name. */
bool builtin_measures(struct bytes name);

/* Whether current_setting or SHOW of this parameter, whatever its case, answers alike on every
 * node if the session has set nothing. */
bool builtin_setting_is_common(struct bytes name);

/* Whether a relation of pg_catalog shows the state of one node, or of one server connection. */
bool builtin_relation_is_local(struct bytes name);

/* The generated list, sorted by byte. */
extern const char *const stable_functions[];
extern const size_t stable_functions_count;

#endif
