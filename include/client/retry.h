/*
 * Reads that are sent again, unseen by the client: on another node where the one at hand was in the
 * way, on the primary where only that can answer.
 *
 *      begin    a gathered read goes to a replica: the request is kept, first answers are held back
 *      takes    an error, or the loss of the server, is a reason to send it again
 *      send     the request goes in front of what the client has sent since, and is judged anew
 *      end      the answer is decided: what was held back goes out, what was kept is let go
 *
 * Once per node, within retry_timeout, and only while no byte of the answer has reached the client.
 * Nothing in an explicit transaction, nothing that may have written, and nothing that was cancelled
 * is sent again.
 */
#ifndef WEIR_CLIENT_RETRY_H
#define WEIR_CLIENT_RETRY_H

#include "core/buf.h"
#include "proto/fault.h"

struct client;
struct server;

struct client_retry {
    struct buf request; /* the whole group; empty: nothing may be sent again */
    struct buf held;    /* its first answers, not passed on yet */
    bool is_holding;
    bool is_whole;             /* several statements: their answers are held to the end */
    bool is_repair;            /* only a stale statement is a reason (client/repair.h) */
    bool is_discarding;        /* there is a reason: what follows is dropped up to the end */
    bool is_second;            /* the group is being sent again */
    enum fault_refusal reason; /* why, where it is no repair */
    uint64_t tried;            /* the nodes that it was sent to, to be tried no more */
    uint64_t since_us;         /* when it was judged first */
};

/* Answers held back beyond this are let go: the group is not sent again. */
#define RETRY_HELD_BYTES_MAX 65536u

/* Keeps a group that was judged just now, if it may be sent again. */
void retry_begin(struct client *client, struct bytes group);

/* Whether an error of the server at hand is a reason to send the group again; then what it teaches
 * has been learnt, and the rest of the answer is to be dropped. */
bool retry_takes_error(struct client *client, const struct server *server,
                       const struct fault_fields *fields);

/* The same when the server is lost; the last words are in client->last_words. */
bool retry_takes_loss(struct client *client, const struct server *server);

/* Puts the group in front of what was kept, to be judged anew; the client has no server. */
void retry_send(struct client *client);

/* Nothing of the group is kept any more. */
void retry_end(struct client *client);

#endif
