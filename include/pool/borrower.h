/*
 * A borrower: whoever wants a server of a pool, waits for one in its line, or has one.
 */
#ifndef WEIR_POOL_BORROWER_H
#define WEIR_POOL_BORROWER_H

#include "cluster/route.h"
#include "core/list.h"
#include "core/text.h"
#include "pool/permit.h"
#include "proto/fault.h"
#include "proto/startup.h"

struct borrower;
struct pool;
struct server;

/* What a borrower's server is asked for at its start, besides what all servers of the pool are. One
 * for replication is made for it alone; one with a session's start-up settings also serves those
 * who ask for the very same later. */
struct server_own {
    enum startup_replication replication; /* NONE: a session's */
    struct text *start;                   /* name NUL value NUL ...; NULL: nothing is asked for */
    struct bytes options;                 /* as the client gave them; empty: none */
    struct text *const *parameters;       /* in the order of pool_set->tracked; NULL: not given */
};

/* What a borrower is told. All but `made`, `bytes` and `drained` come at the end of a turn. */
struct borrower_ops {
    void (*lent)(struct borrower *borrower, struct server *server);
    /* A server that was asked for what this borrower wants is lent, with the ParameterStatus
     * messages of its login. */
    void (*made)(struct borrower *borrower, struct server *server, struct bytes greeting);
    void (*bytes)(struct borrower *borrower, const char *at, size_t len);
    void (*drained)(struct borrower *borrower); /* the server takes bytes again */
    /* The server has gone while it was lent; it is not to be used any more. Its close_fault is the
     * fault for which the pooler closed it, FAULT_NONE if it did not. */
    void (*lost)(struct borrower *borrower, struct server *server, const char *reason);
    /* Nobody can serve this waiter; it has left the line. With `fields`, in a server's words. */
    void (*refused)(struct borrower *borrower, enum fault_id fault, const char *argument,
                    const struct fault_fields *fields);
    /* Something about this waiter is to be told in the log. May be NULL. */
    void (*warn)(struct borrower *borrower, const char *text);
    /* What the waiter waited for has become impossible: judge its route anew. */
    void (*rejudge)(struct borrower *borrower);
};

struct borrower {
    const struct borrower_ops *ops;
    struct pool *pool;     /* while it waits or has borrowed */
    struct server *server; /* while it has borrowed */
    struct link waiting;
    enum pool_line line;
    const struct server_own *own; /* it needs a server that was asked for this; NULL: any will do */
    struct server *making;        /* one that is made for it, until it is lent */
    bool wants_greeting_only;     /* a login that waits for the pool's first server */
    bool is_late;                 /* it came when there was neither a server nor hope for one */
    uint64_t since_us;            /* when it came into the line */
    uint64_t avoid;               /* nodes that refused the pool while this one waited */
    const struct route *route;    /* the borrower's own, with the request it came from */
    const struct route_request *request;
};

#endif
