/*
 * What people and scrapers look into: the console (a database called pgbouncer or weir), the HTTP
 * pages, and the alert. Everything here runs on worker 0's thread.
 *
 * What is counted lives on the workers: a SHOW or a scrape sends a message to each of them, which
 * counts on its own thread and sends the result back. Whoever asked may be gone by then; the
 * request is an object of its own and finds out. What a command changes is done by the owner,
 * through admin_ops.
 */
#ifndef WEIR_ADMIN_ADMIN_H
#define WEIR_ADMIN_ADMIN_H

#include "client/client.h"
#include "config/load.h"

struct admin;

/* One worker thread; borrowed, and must outlive the admin. [0] is worker 0. */
struct admin_worker {
    struct loop *loop;
    struct pool_set *pools;
    struct client_set *clients;
};

enum admin_shutdown {
    ADMIN_SHUTDOWN_NOW,
    ADMIN_SHUTDOWN_WAIT_FOR_SERVERS,
    ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS
};

/* What the console asks of the process; all called on worker 0's thread. */
struct admin_ops {
    /* Reads all files again and brings every worker in line. False with errors: nothing changed.
     * The errors and warnings are logged by the caller. */
    bool (*reload)(void *owner, struct config_errors *errors);
    /* config_with, applied everywhere; as above. */
    bool (*set)(void *owner, const char *key, const char *value, struct config_errors *errors);
    /* The operator's word on which node is the primary (probe_choose), for all databases that have
     * a node of that name; empty takes it back. False with the reason in `error`. */
    bool (*choose)(void *owner, const char *node, struct buf *error);
    /* Holds the clients of a database (NULL: of all). `done` is called exactly once and never from
     * within this call: when no server is lent any more, or when a resume ends the wait. */
    void (*pause)(void *owner, struct database *database, void (*done)(void *context),
                  void *context);
    /* False if the database (NULL: everything) was not paused. */
    bool (*resume)(void *owner, struct database *database);
    /* Stops all reading but the consoles'; `done` is called when everything was sent. resume with
     * NULL ends it. */
    void (*suspend)(void *owner, void (*done)(void *context), void *context);
    /* Gives the console's connection, and all others, to another process that has asked there in a
     * version of its own; NULL, or why not. */
    const char *(*hand_over)(void *owner, struct client *console, const char *version);
    /* ADMIN_SHUTDOWN_NOW need not return. */
    void (*shutdown)(void *owner, enum admin_shutdown mode);
    /* The line of statistics, each stats_period. */
    void (*status)(void *owner, const char *text);
    void *owner;
};

/* Made before the loops run; `workers`, `databases` and `ops` are borrowed, `config` is held. */
struct admin *admin_new(const struct admin_worker *workers, unsigned count,
                        struct databases *databases, struct config *config,
                        const struct admin_ops *ops);

/* To be called when the other workers' threads have ended and all clients are released, before
 * any loop is freed. *admin becomes NULL. */
void admin_free(struct admin **admin);

/* Another snapshot counts from now on. http_listen does not follow it. */
void admin_apply(struct admin *admin, struct config *config);

/* Clients are accepted from now on: /ready says so. */
void admin_started(struct admin *admin);

/* Starts the HTTP page on HOST:PORT or [IPV6]:PORT; empty text: does nothing and succeeds. False
 * with a sentence in `error`. */
bool admin_http_start(struct admin *admin, const char *http_listen, struct buf *error);

/* The page is another process's from now on. */
void admin_http_stop(struct admin *admin);

/* Alerts, averages, the line of statistics; about ten times a second. */
void admin_tick(struct admin *admin);

/*
 * For client_set_ops of worker 0. A console client is in CLIENT_CONSOLE; its state, and the
 * refusal of messages other than Query and Terminate, are the caller's. Queries are passed on as
 * they come; while one is being answered a few more are kept here, and a client that sends more
 * than that is closed.
 */

/* The user has been verified (or is the socket's local owner). Sets client->is_admin and
 * client->console and writes the welcome, from AuthenticationOk to ReadyForQuery; false, with
 * nothing written, if the user is neither an admin nor a stats user. */
bool admin_console_login(struct admin *admin, struct client *client, bool is_local_owner);

/* One simple Query, NUL-terminated. The client may be closed within the call. */
void admin_console_query(struct admin *admin, struct client *client, const char *text);

/* A cancel request carried the key of this console client: a PAUSE that waits is given up. */
void admin_console_cancel(struct admin *admin, struct client *client);

/* The client is being closed; client->console becomes NULL. */
void admin_console_left(struct admin *admin, struct client *client);

#endif
