/*
 * A server: one connection to PostgreSQL, from dialling to its end.
 *
 *      CONNECTING -> LOGIN -> IDLE <-> LENT
 *                             | ^        |  client left
 *                        USED-' +-- CLEANING
 *                          `-- check ---^
 *      any state -> CLOSED, freed at the end of the turn
 *
 * A server belongs to one worker. While it is lent, its bytes go to the borrower; while it logs in
 * to server_login.c, else to server.c. Its permit is freed when its socket is closed.
 */
#ifndef WEIR_POOL_SERVER_H
#define WEIR_POOL_SERVER_H

#include "core/list.h"
#include "core/map.h"
#include "core/text.h"
#include "net/endpoint.h"
#include "net/stream.h"
#include "pool/opening.h"
#include "proto/fault_id.h"
#include "proto/startup.h"

struct pool;
struct pool_node;
struct borrower;
struct endpoint_dial;
struct server_login;

enum server_state {
    SERVER_CONNECTING,
    SERVER_LOGIN,
    SERVER_IDLE,
    SERVER_USED, /* idle, and to be checked before it is lent */
    SERVER_LENT,
    SERVER_LISTENING, /* the shared listener (pool/listener.h) */
    SERVER_CLEANING,
    SERVER_CLOSED,
    SERVER_STATE_COUNT
};

enum server_reset { RESET_BY_SETTING = 1, RESET_STATEMENTS = 2, RESET_ALL = 4 };
enum server_copy { COPY_NONE, COPY_SIMPLE, COPY_EXTENDED }; /* the protocol that asked for it */
/* Queries that a server runs for nobody's sake but its own. */
enum server_errand { ERRAND_NONE, ERRAND_ROLLBACK, ERRAND_RESET, ERRAND_CHECK };

#define SERVER_PARAMETERS_MAX 20
#define SERVER_REASON_BYTES   512

struct server {
    struct stream stream;
    struct link link; /* in its node's list for its state */
    struct map_node by_id;
    struct pool *pool;
    struct pool_node *node;
    struct borrower *borrower;            /* while LENT */
    struct borrower *reserved;            /* while CONNECTING and LOGIN: whom it is made for */
    bool is_own;                          /* made for one borrower alone, closed when given back */
    bool is_listener;                     /* an own one that needs no permit */
    enum startup_replication replication; /* of an own server */
    struct text *start;                   /* of a session's: as in struct server_own; a reference */
    struct text *greeting;                /* and its ParameterStatus messages; a reference */
    struct endpoint_dial *dial;
    struct opening opening;     /* in LOGIN, until there is a login */
    struct server_login *login; /* in LOGIN */
    const char *doing;          /* for log lines */
    enum server_state state;
    unsigned host;             /* index of its node in the cluster */
    char transaction;          /* 'I', 'T' or 'E': the last ReadyForQuery */
    enum server_errand errand; /* while CLEANING: what of its own it is running */
    unsigned reset_owed;       /* a set of enum server_reset, to be run before it is lent again */
    enum server_copy copy;     /* while CLEANING: the COPY that the last request may begin */
    bool is_checked;           /* while CLEANING: the check query was sent */
    bool is_close_needed, is_dismissed; /* the latter: it has said that it ends on purpose */
    bool may_have_written;              /* since the last floor was raised */
    uint32_t id;                        /* as in SHOW SERVERS */
    uint32_t generation;                /* of its database */
    uint32_t reconnects;                /* of its database when it was dialled */
    uint32_t login_round;               /* freshness_now after its login */
    uint32_t backend_pid;               /* key for cancel requests */
    uint32_t backend_secret;            /* "" */
    unsigned cancels;                   /* cancel requests under way */
    unsigned owed_ready;                /* while CLEANING: answers to wait for */
    uint64_t connected_us;
    uint64_t state_us; /* since when in this state */
    int64_t connected_wall_us;
    uint64_t request_us; /* when it was lent last */
    /* The tracked parameters as it reported them, in the pool set's order; NULL: never. */
    struct text *parameters[SERVER_PARAMETERS_MAX];
    /* Messages that have to be read whole while nobody has borrowed it. */
    struct buf gather;
    uint32_t skip; /* rest of a message that is passed over */
    char close_reason[SERVER_REASON_BYTES];
    enum fault_id close_fault; /* for which the pooler itself closed it; FAULT_NONE: another */
    void *memory;              /* the session layer's; freed through the pool set's ops */
};

/* Starts a connection for a node; the caller has taken the permit. */
struct server *server_open(struct pool *pool, struct pool_node *node);
/* Takes over a connection that another process has logged in, in LOGIN; the caller has taken the
 * permit and fills in what is known of it. */
struct server *server_adopt(struct pool *pool, struct pool_node *node, unsigned host, int fd);

/* The only way to change state: checks the transition, moves the list link. */
void server_become(struct server *server, enum server_state state);

/* Closes it and frees its permit; a borrower is told (lost). Idempotent. Closed for a fault of the
 * pooler's own, what it was running may go on, and so do cancel requests for that. */
void server_close(struct server *server, const char *reason, ...)
    __attribute__((format(printf, 2, 3)));
void server_close_for(struct server *server, enum fault_id fault);

/* From LENT, without its borrower: what is owed is awaited, an open transaction rolled back, the
 * reset query run where the pool mode wants it, then the server is idle. `owed_ready` counts the
 * ReadyForQuery that will still come; of a message under way the borrower has put the state into
 * `skip` and `gather`. With `is_cancel_wanted` the running query is cancelled. A COPY IN that the
 * last request begins (`copy`) is failed; server_end_copy fails one that is under way. */
void server_clean(struct server *server, unsigned owed_ready, bool is_cancel_wanted);
void server_end_copy(struct server *server, enum server_copy copy);

void server_check(struct server *server); /* from USED: runs server_check_query, then it is idle */
void server_cancel_ended(struct server *server); /* a request for it; see pool/cancel.h */

/* Notes a ParameterStatus; the index of the tracked parameter, or -1. The state as SHOW has it. */
int server_note_parameter(struct server *server, struct bytes name, struct bytes value);
const char *server_state_text(const struct server *server);
/* A line about a server in the log: "S-0x7: db/user@host:port text". */
void server_log(const struct server *server, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For server_login.c: the login is done, or has failed in the server's words. */
struct fault_fields;
void server_login_done(struct server *server, struct bytes greeting);
void server_login_failed(struct server *server, const struct fault_fields *fields);
void server_connect_failed(struct server *server, const char *error);

/* Begins to secure a stream to the server's node, its own or that of a cancel request. */
enum opening_result server_begin_opening(const struct server *server, struct opening *opening,
                                         struct stream *stream);

/* In server_login.c. */
struct server_login *server_login_begin(struct server *server);
void server_login_bytes(struct server *server, const char *at, size_t len);
void server_login_free(struct server_login **login);

#endif
