/*
 * Cancel requests: connections of their own that carry a key, to PostgreSQL with a server's, or to
 * a peer with a client's that is its. The other side closes once it has done what it can.
 *
 * Until then, and until it is idle, the server in question is neither lent nor closed nor moved, so
 * that the next client's query is never hit. A request that was not sent when its query ended is
 * dropped. Together with the servers, cancel connections take at most twice the size of the pool;
 * what comes above that waits, up to cancel_wait_timeout.
 */
#ifndef WEIR_POOL_CANCEL_H
#define WEIR_POOL_CANCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;
struct pool_set;
struct server;
struct stream;

/* Who asked: a connection of a worker, whose requester is told the outcome. id 0: nobody. */
struct cancel_ticket {
    unsigned worker;
    uint32_t id;
};

#define CANCEL_KEY_BYTES 8u

/* Starts a cancel request for what the server is running now; server_cancel_ended is called when
 * it is over, whatever became of it. */
void cancel_start(struct server *server, struct cancel_ticket ticket);

/* What the server was running has ended: drops the requests for it that were not sent. */
void cancel_query_ended(struct server *server);

/* Passes a request on to a peer, with the key that it is to get. */
void cancel_forward(struct pool_set *set, unsigned peer_id, const char key[CANCEL_KEY_BYTES],
                    struct cancel_ticket ticket);

/* Tells the requester, whose connection then ends, why; `reason` is a literal. */
void cancel_answer(struct pool_set *set, struct cancel_ticket ticket, const char *reason);

/* This worker's requests for servers of a pool, or with pool NULL to a peer: those that were sent
 * or are being sent, and those that wait. */
struct cancel_count {
    size_t active;
    size_t waiting;
};
struct cancel_count cancel_count(const struct pool_set *set, const struct pool *pool,
                                 unsigned peer_id);

/* A request as the console shows it. */
struct cancel_view {
    const struct server *server; /* whose query is to end; NULL: a peer's */
    const struct stream *stream; /* open once there is a connection */
    const char *host;            /* where it goes to, with its port */
    unsigned port;
    uint32_t id;       /* as in SHOW SERVERS; 0: it waits for room */
    uint32_t asked_by; /* the requester's id; 0: the pooler itself */
    int64_t dialled_wall_us;
};

/* Calls `visit` for each request of this worker that does not wait for room. */
void cancel_each(const struct pool_set *set,
                 void (*visit)(void *owner, const struct cancel_view *view), void *owner);

/* Another worker's end of a request, or of a server, may have made room. */
void cancel_tick(struct pool_set *set);

/* Gives up all requests of a worker, at its end. */
void cancel_close_all(struct pool_set *set);

#endif
