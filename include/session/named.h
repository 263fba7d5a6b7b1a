/*
 * Statements that a server has under clients' own names, for SQL's PREPARE, EXECUTE and DEALLOCATE,
 * which speak of names as they are (session_state = track).
 *
 *      protocol:  client's "get" --> statement --> "PGBOUNCER_7" on every server
 *      SQL:       client's "get" --> statement --> "get" on servers whose client has used it so
 *
 * What a name stands for on a server is what the client that used it there last had in mind; where
 * the next one means something else by it, it is closed or prepared anew ahead of its statement. An
 * entry belongs to its place in the map and to the replies that are awaited for it.
 */
#ifndef WEIR_SESSION_NAMED_H
#define WEIR_SESSION_NAMED_H

#include "core/list.h"
#include "core/map.h"

struct statement;
struct statements;

struct named_on_server {
    struct map_node node;
    struct link lru; /* last: used last */
    struct statement *statement;
    unsigned references;
    bool is_listed; /* the server has it, as far as is known */
    char name[];
};

/* Those of one server; the list has to be initialised. */
struct named {
    struct map map;
    struct list lru;
};

/* The entry of a name, now used last; NULL if the server has none. */
struct named_on_server *named_use(struct named *named, struct bytes name);

/* Adds an entry, which takes a reference of the statement. The name must be new. */
struct named_on_server *named_add(struct named *named, struct bytes name,
                                  struct statement *statement);

/* The entry unused longest if there are `max` or more, else NULL. */
struct named_on_server *named_surplus(const struct named *named, size_t max);

/* Takes an entry out; the one who awaits a reply for it keeps it by a reference of its own. Legal
 * if it is out. */
void named_unlist(struct named *named, struct statements *statements,
                  struct named_on_server *entry);
void named_ref(struct named_on_server *entry);
void named_unref(struct statements *statements, struct named_on_server *entry);

/* Puts an entry back whose Close the server skipped. False if the name has another meaning by now,
 * or that statement twice. */
bool named_attach(struct named *named, struct named_on_server *entry);

void named_clear(struct named *named, struct statements *statements);

#endif
