/*
 * A client: one connection from an application, and the set of all clients of one worker.
 *
 *      STARTUP -> LOGIN -> WELCOME -> IDLE <-> WAITING -> ACTIVE
 *         |                            ^                    |
 *         `-> CONSOLE, CANCEL          `--------------------'
 *      any state -> CLOSED, freed at the end of the turn
 *
 * STARTUP reads the first packet, WELCOME waits for the pool's first server, IDLE has none, WAITING
 * stands in line, ACTIVE has one. CONSOLE speaks there; CANCEL waits for what becomes of a cancel.
 */
#ifndef WEIR_CLIENT_CLIENT_H
#define WEIR_CLIENT_CLIENT_H

#include "auth/users.h"
#include "auth/verify.h"
#include "client/begin.h"
#include "client/client_set.h"
#include "client/hint.h"
#include "client/pipeline.h"
#include "client/reach.h"
#include "client/retry.h"
#include "pool/pool.h"
#include "proto/startup.h"
#include "session/prepared.h"
#include "session/question.h"

/* Reads the replies of the server at hand. */
struct reply_cursor {
    uint32_t skip; /* rest of the message under way */
    bool is_dropping;
    struct buf gather; /* a message that has to be read whole */
};

#define CLIENT_QUOTAS 2u
struct client {
    struct stream stream;
    struct borrower borrower;
    struct link link;       /* in the set's list for its state */
    struct link resume;     /* in the set's list of those that go on at the end of the turn */
    struct map_node by_key; /* cancel key */
    struct client_set *set;
    struct pool *pool;
    struct session *session; /* with session_state = track */
    const char *doing;
    enum client_state state;
    char transaction; /* as the client was told last: 'I', 'T' or 'E' */
    bool is_admin;
    bool may_write;         /* the transaction at hand may have written */
    bool may_reach_out;     /* it ran what may act outside of it */
    bool may_end;           /* among what it ran may be a COMMIT */
    bool has_ended;         /* it has ended since the last ReadyForQuery */
    bool is_syncing;        /* a parameter change has to be answered first */
    bool is_forced_primary; /* the group was refused by a replica */
    bool is_greeting_due;   /* a server is asked to take what it asks for, before its welcome */
    bool is_stuck;          /* requests in hand have to wait for answers */
    bool is_skipping;       /* requests are dropped up to the next Sync */
    bool is_failed;         /* the server drops requests up to a Sync that is still to come */
    bool is_routed;         /* the group at hand was judged by its traits */
    bool is_release_due;    /* the server goes back when its present bytes are handled */
    bool is_release_late;   /* it goes back when the COPY data under way has passed */
    bool is_copying;        /* COPY IN is under way */
    bool is_wait_told;      /* a notice said that it waits */
    bool is_cancelled;      /* the query under way was cancelled: not sent again */
    uint32_t id;
    char key[8];              /* cancel key */
    uint32_t request_skip;    /* rest of a request that goes straight through */
    uint32_t group_left;      /* bytes of the routed group still to be sent */
    uint32_t parses;          /* counts named Parses */
    uint32_t copies;          /* counts COPY messages */
    uint32_t copy_began;      /* its value when the one under way was asked for */
    uint32_t unsynced;        /* requests sent since the last Sync */
    uint32_t effects;         /* owed replies that say whether a statement or name stands */
    uint32_t effects_synced;  /* of these, the ones of groups before this one */
    uint64_t unnamed_number;  /* of its last unnamed Parse; 0: there was none, or it failed */
    uint32_t unnamed_owed;    /* replies to Parses of the unnamed statement */
    bool has_unnamed;         /* this group has such a Parse, */
    bool is_unnamed_noted;    /* which the client sent, so that its traits are noted */
    struct outgoing *sending; /* requests handled in this callback and not written yet */
    struct pipeline pipeline;
    struct buf kept; /* request bytes that could not be handled yet */
    struct reply_cursor reply;
    struct client_retry retry;
    struct client_begin begin;
    struct parameters parameters;
    struct prepared_names names;
    struct statement *unnamed; /* the last unnamed statement, where it may be needed again */
    struct verify *verify;     /* during LOGIN */
    struct lookup *lookup;     /* what it waits for during LOGIN, or NULL */
    struct link by_lookup;     /* among the others that do */
    struct users *met;         /* its user as auth_query told, or NULL; a reference */
    struct route_request route_request;
    struct route route;
    uint32_t sent_incarnation; /* of the replica that the read was sent to */
    uint32_t own_floor;        /* number of its own last write */
    struct hint hint;          /* weir.route */
    struct client_reach reach;
    struct text *sticky;   /* why its reads go to the primary; NULL: they need not */
    struct buf last_words; /* body of a server's FATAL error, until the server is lost */
    enum startup_replication replication;
    struct server_own own;    /* of a replication client: what its server is asked for */
    struct text *own_options; /* which own.options points to */
    struct text *database, *user;
    struct limit *quotas[CLIENT_QUOTAS]; /* that it counts in (client/quota.h) */
    uint64_t state_us;                   /* since when in this state */
    uint64_t query_us;                   /* when the query at hand was sent, 0 none */
    uint64_t transaction_us;             /* when the transaction at hand began, 0 none */
    uint64_t connected_us;
    int64_t connected_wall_us;
    uint64_t request_us;      /* when its last request came */
    uint32_t reported;        /* tracked parameters that its servers report, a bit for each */
    struct endpoint_end peer; /* for the log, which names it also when it has gone */
    uint32_t cancel_id;       /* in CANCEL: the connection that carries the request; 0: none yet */
    void *console;            /* the console's, in CONSOLE */
};

/* Takes over a connection, which may come with TLS and its first packet from another worker. */
void client_accept(struct client_set *set, struct socket_parts parts, struct bytes packet);

/* Tells the client what is wrong and closes it; `argument` as in proto/fault.h. */
void client_fail(struct client *client, enum fault_id fault, const char *argument);

/* The same for a waiter that nobody can serve, as borrower_ops.refused told. */
void client_refuse(struct client *client, enum fault_id fault, const char *argument,
                   const struct fault_fields *fields);

/* Closes without a word to the client; the reason goes to the log. The same with a last message, an
 * error, written once the log has the reason. */
void client_close(struct client *client, const char *reason);
void client_close_with(struct client *client, const char *reason, struct bytes last);

/* The only way to change state; and its name. */
void client_become(struct client *client, enum client_state state);
const char *client_state_text(const struct client *client);

/* A line about a client in the log: "C-0x7: db/user@host:port text". */
void client_log(const struct client *client, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For lookup.c: the user that the client waited for, in a snapshot that it takes a reference of. */
void client_login_found(struct client *client, struct users *found);

#endif
