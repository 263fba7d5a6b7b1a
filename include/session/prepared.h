/*
 * Prepared statements behind shared servers.
 *
 *      client's name --> statement (text, types, parse context; one for all) --> server's LRU
 *
 * A statement is known to servers as "PGBOUNCER_NUMBER"; the number is process-wide. Clients map
 * their own names to statements; a server remembers which of them it has prepared, and forgets the
 * one unused longest when it holds too many. What a server lacks is prepared ahead of the Bind.
 * Everything here belongs to one worker. No I/O; the messages are written by the caller.
 */
#ifndef WEIR_SESSION_PREPARED_H
#define WEIR_SESSION_PREPARED_H

#include "core/list.h"
#include "core/map.h"
#include "core/text.h"
#include "pool/server.h"
#include "session/named.h"
#include "sql/traits.h"

struct statement {
    struct map_node node;
    unsigned references;
    uint32_t number;
    char name[24];        /* on servers; NUL-terminated */
    struct traits traits; /* of its text, without the names; meaningless without routing */
    struct bytes context; /* parse context */
    struct bytes body;    /* of Parse behind the name: text, NUL, types */
    char key[];           /* parse context, NUL, body */
};

/* The statements of one worker. They have no bound but max_packet_size, as in PgBouncer: what
 * clients prepare is what they take, and SHOW MEM shows it. */
struct statements {
    struct map map;
    size_t bytes; /* of all of them */
};
void statements_release(struct statements *statements);

/* Statements are numbered by one counter of the process, which names them on servers. A process
 * that takes servers over goes on far behind the numbers of the other. */
uint32_t statements_last_number(void);
void statements_number_from(uint32_t number);

/* A number that changes when a database's schema has changed through this process, which is part
 * of the parse context: no statement is shared across a change. `hash` names the database. */
uint32_t statements_schema(uint64_t hash);
void statements_schema_changed(uint64_t hash);

/* The statement of a Parse body in a parse context, with a reference; *is_new tells whether its
 * traits are still to be filled in. */
struct statement *statement_get(struct statements *statements, struct bytes context,
                                struct bytes body, bool *is_new);
void statement_unref(struct statements *statements, struct statement **statement);

/* One name of one client. */
struct prepared_name {
    struct map_node node;
    struct statement *statement;
    uint32_t sequence; /* which Parse of the client made it */
    uint8_t uses;      /* since a Parse that the pooler answered: 0, 1, PREPARED_PROVEN */
    char name[];
};
#define PREPARED_PROVEN 2u

/* The names of one client; zeroed memory is empty. */
struct prepared_names {
    struct map map;
    size_t bytes;      /* of the names and of their statements */
    unsigned unproven; /* names of which no use is known: their Parse was answered by the pooler */
    uint32_t undone_from; /* the first Parse of a group that is taken back; 0: none */
};
struct prepared_name *prepared_find(const struct prepared_names *names, struct bytes name);
/* Adds a name, taking over the reference to the statement. The name must be new. */
struct prepared_name *prepared_add(struct prepared_names *names, struct bytes name,
                                   struct statement *statement);
/* Gives a name another statement, whose reference is taken over. */
void prepared_replace(struct prepared_names *names, struct statements *statements,
                      struct prepared_name *name, struct statement *statement);
/* How often it was used (at most PREPARED_PROVEN) since its Parse was answered by the pooler. */
void prepared_note_uses(struct prepared_names *names, struct prepared_name *name, unsigned uses);
void prepared_remove(struct prepared_names *names, struct statements *statements,
                     struct prepared_name *name);
/* Takes a name out for as long as its Close is under way; then it is dropped, or put back if the
 * server skipped the Close (a newer one of that name is skipped too, and goes). */
void prepared_detach(struct prepared_names *names, struct prepared_name *name);
void prepared_drop(struct statements *statements, struct prepared_name *name);
void prepared_attach(struct prepared_names *names, struct statements *statements,
                     struct prepared_name *name);
void prepared_clear(struct prepared_names *names, struct statements *statements);

/* A statement on one server. */
struct prepared_on_server {
    struct map_node node; /* key: the number's four bytes */
    struct link lru;      /* last: used last */
    struct statement *statement;
};

#define MEMORY_ACCEPTED_MAX 16

/* What is remembered of one server connection (server->memory). */
struct server_memory {
    struct map statements;
    struct list lru;
    struct named named;
    uint64_t unnamed_owner; /* number of the Parse that its unnamed statement is from; 0: unknown */
    /* Settings that it has accepted: "name=value", in a ring. */
    struct text *accepted[MEMORY_ACCEPTED_MAX];
    unsigned accepted_next;
    uint32_t asked; /* a bit for each tracked parameter that was set last */
    /* What it was set to (session/settings.h), unless that is not known since that client ran
     * something; and its reported parameters after its login. */
    struct text *settings;
    bool is_unknown;
    uint32_t unknown_by;
    uint32_t used_by; /* the client that it was lent to last */
    struct text *login[SERVER_PARAMETERS_MAX];
};

/* What is to be remembered of a server that is as it was after its login. */
struct server_memory *server_memory_new(const struct server *server);
void server_memory_free(struct server_memory **memory, struct statements *statements,
                        struct texts *texts);

/* The server's entry for a statement, now used last; NULL if it lacks it. */
struct prepared_on_server *server_memory_use(struct server_memory *memory,
                                             const struct statement *statement);
/* Notes that the server is being sent the statement. */
struct prepared_on_server *server_memory_add(struct server_memory *memory,
                                             struct statement *statement);
/* The entry unused longest if there are `max` or more, else NULL. */
struct prepared_on_server *server_memory_surplus(struct server_memory *memory, size_t max);
void server_memory_remove(struct server_memory *memory, struct statements *statements,
                          struct prepared_on_server *entry);
/* Takes an entry out for as long as its Close is under way, and puts it back if the server skipped
 * the Close. False if the statement was prepared anew meanwhile: the entry is then freed. */
void server_memory_detach(struct server_memory *memory, struct prepared_on_server *entry);
bool server_memory_attach(struct server_memory *memory, struct statements *statements,
                          struct prepared_on_server *entry);
/* Frees an entry that was taken out. */
void server_memory_drop(struct statements *statements, struct prepared_on_server *entry);
/* Forgets all statements, as after DEALLOCATE ALL. */
void server_memory_clear(struct server_memory *memory, struct statements *statements);

#endif
