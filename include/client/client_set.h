/*
 * All clients of one worker: their lists, one for each state, their cancel keys, what they share,
 * and what they need from above.
 */
#ifndef WEIR_CLIENT_CLIENT_SET_H
#define WEIR_CLIENT_CLIENT_SET_H

#include "core/buf.h"
#include "core/text.h"
#include "net/loop.h"
#include "net/socket.h"
#include "pool/pool_set.h"
#include "proto/fault.h"
#include "session/prepared.h"
#include "sql/traits.h"

struct blocking;
struct client;

enum client_state {
    CLIENT_STARTUP,
    CLIENT_LOGIN,
    CLIENT_WELCOME,
    CLIENT_IDLE,
    CLIENT_WAITING,
    CLIENT_ACTIVE,
    CLIENT_CONSOLE,
    CLIENT_CANCEL,
    CLIENT_CLOSED,
    CLIENT_STATE_COUNT
};

struct client_set_ops {
    /* A client of a console database has logged in; `is_admin` and client->console are the
     * console's to set. False: not allowed. */
    bool (*console_login)(void *owner, struct client *client, bool is_local_owner);
    /* One simple Query of a console client, NUL-terminated. */
    void (*console_query)(void *owner, struct client *client, const char *text);
    void (*console_left)(void *owner, struct client *client);
    /* A cancel request carried the key of a console client. */
    void (*console_cancel)(void *owner, struct client *client);
    /* Gives the connection to worker 0, where the console is, with the first packet. False if
     * this is worker 0. Owns the parts and copies the packet if true. */
    bool (*move_to_console)(void *owner, struct socket_parts parts, struct bytes packet);
    /* A cancel request: `key` has 8 bytes. May be for another worker; see client_cancel. */
    void (*cancel)(void *owner, const char *key, struct cancel_ticket ticket);
    /* Idle servers in a database of a node are to be closed on all workers, and, the first time,
     * the prober's connections there (client/vacate.h). */
    void (*vacate)(void *owner, const struct node *place, const char *database, bool is_first);
    void *owner;
};

/* What a login asked for that a server has taken, and how it spelled it (client/asked.h). */
struct asked_login {
    struct text *asked, *told;
};

/* All clients of one worker. */
struct client_set {
    struct loop *loop;
    struct pool_set *pools;
    struct client_set_ops ops;
    struct traits_cache *traits; /* NULL: nothing is routed */
    struct statements statements;
    uint32_t max_packet_size; /* settings that each request is held against */
    bool is_simple_refused;   /* disable_pqexec */
    bool defers_begin;
    size_t gather_bytes;
    size_t max_prepared; /* max_prepared_statements */
    uint64_t replica_wait_us, retry_timeout_us;
    uint64_t unnamed_last; /* numbers the Parses of unnamed statements */
    struct map traces;     /* of databases' functions (session/traces.h) */
    struct map audiences;  /* who listens (client/subscribe.h) */
    uint32_t changes;      /* numbers what they change */
    struct map shadow;     /* what routing = shadow has counted (client/shadow.h) */
    struct texts *texts;
    struct blocking *blocking; /* judges passwords for PAM and LDAP */
    struct map keys;
    struct map lookups; /* questions after users that are under way (client/lookup.h) */
    struct list clients[CLIENT_STATE_COUNT]; /* by state; the ACTIVE are among the IDLE */
    struct loop_hook hook;                   /* frees what was closed, lets the released go on */
    struct list released; /* clients with requests left after their server went back */
    struct list vacating; /* statements that want a database without sessions */
    struct buf scratch;   /* messages being made, during one callback */
    struct buf spare[16]; /* memory for short-lived buffers */
    unsigned spare_count;
    struct asked_login asked[32]; /* a ring */
    unsigned asked_next;
    char random[256]; /* for cancel keys; the first random_left bytes are unused */
    size_t random_left;
    _Atomic int *total; /* clients of the whole process, for max_client_conn */
    _Atomic int *load;  /* clients of this worker, those handed over to it included */
    bool has_quotas;    /* clients of a database or user are counted */
    bool is_refusing;   /* shutting down: no logins of those who come now */
    uint64_t faults[FAULT_COUNTER_COUNT];
};

void client_set_init(struct client_set *set);
void client_set_release(struct client_set *set);
void client_set_tick(struct client_set *set);

/* The pools have new settings. */
void client_set_apply(struct client_set *set);

/* Closes all clients of a database; NULL: of all databases, but not the console's. */
void client_set_close_database(struct client_set *set, const struct database *database,
                               enum fault_id fault);

/* SUSPEND and RESUME: clients but those of the console are not read while held. True when all that
 * was to be sent has gone; with `is_late` those that still have something are closed. */
void client_set_hold(struct client_set *set, bool is_held);
bool client_set_is_sent(struct client_set *set, bool is_late);

/* Memory for short-lived buffers, so that none is allocated for a request. */
struct buf client_spare_take(struct client_set *set);
void client_spare_give(struct client_set *set, struct buf *buf);

#endif
