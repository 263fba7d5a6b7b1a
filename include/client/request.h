/*
 * A request being handled, and what the handlers of requests share; for request.c (the loop, and
 * messages that mean nothing but themselves) and prepare.c (those that speak of statements).
 *
 * A handler takes what it can of the message at the front of the bytes in hand and returns how
 * much; 0 means that it needs more of it, or with client->is_stuck that answers have to come first.
 */
#ifndef WEIR_CLIENT_REQUEST_H
#define WEIR_CLIENT_REQUEST_H

#include "client/parts.h"

struct request {
    struct client *client;
    struct server *server;
    struct outgoing *out;
    struct bytes rest; /* from the message's head on */
    uint32_t length;   /* of the whole message */
    struct bytes body; /* as far as it is in hand */
    bool is_whole;
};

/* Passes the message on as it is, now or as it comes. */
size_t request_pass(const struct request *request);

/* Appends an entry for what the server will answer. */
struct pipeline_entry *request_owe(const struct request *request, enum message_request kind,
                                   enum pipeline_action action);

/* Appends messages of our own making: a head, a text with its NUL. */
void request_copy_head(const struct request *request, char type, size_t body_len);
void request_copy_text0(const struct request *request, const char *text);

/* The statement must not run: what fails in its place is sent. 0: the message is not whole yet. */
size_t request_refuse(const struct request *request, const char *what);
size_t request_heed_hint(const struct request *request, struct bytes text);

/* Whether named statements are the pooler's business for this client. */
static inline bool request_is_tracking(const struct client *client) {
    return client->set->max_prepared > 0 && !client_keeps_server(client);
}

/* Whether it is a statement in a transaction that was not judged with its group. */
static inline bool request_must_judge_late(const struct client *client) {
    return client->is_routed && client->group_left == 0;
}

/* The handlers in prepare.c. */
size_t prepare_parse(const struct request *request);
size_t prepare_bind(const struct request *request);
size_t prepare_describe(const struct request *request);
size_t prepare_close(const struct request *request);

/* The statement of a Parse body in a parse context, or the client's present one if that is empty;
 * or one that no other client shares. With a reference. */
struct statement *prepare_intern(struct client *client, struct bytes body, struct bytes context);
struct statement *prepare_intern_own(struct client *client, struct bytes body,
                                     struct bytes context);

/* Around a Parse that repeats a client's own on another server: its literals are to become what
 * they became at first. `after` is empty at the start, and released at the end. */
void prepare_enter(const struct request *request, const struct statement *statement,
                   struct buf *after);
void prepare_leave(const struct request *request, struct buf *after);

/* A simple Query takes the unnamed statement away. */
void prepare_forget_unnamed(const struct request *request);

/* The client was answered as if a server had parsed what the body of a Parse holds, under that
 * name; name NULL: as if one had run a simple Query. */
void prepare_made_up(struct client *client, const struct bytes *name, struct bytes body);

/* The statement of the pooler's that the server has under this very name, or NULL; and closes it.
 */
struct prepared_on_server *prepare_find_own(const struct request *request, struct bytes name);
void prepare_close_own(const struct request *request, struct prepared_on_server *entry);

/* Answers a simple `DEALLOCATE name` without a server, where the state of the transaction is known
 * and no answer is owed. Returns how much was taken, or 0. */
size_t prepare_deallocate_here(struct client *client, struct bytes rest);

#endif
