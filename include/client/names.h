/*
 * SQL's own names of prepared statements: PREPARE, EXECUTE and DEALLOCATE among the statements of
 * the protocol, with session_state = track. For the files of client/.
 *
 *      EXECUTE get(1)   what the server has under "get" is made what the client means by it, then
 *                       the text goes as it is
 *      PREPARE get ...  the same, and the server is asked later what "get" has become
 *
 * So it is always the server that judges what a client says: that a name is taken, or missing, is
 * its error, with its place in the transaction.
 */
#ifndef WEIR_CLIENT_NAMES_H
#define WEIR_CLIENT_NAMES_H

#include "client/request.h"

#define NAMES_FLAGS (TRAITS_PREPARES | TRAITS_EXECUTES | TRAITS_DEALLOCATES)

/* A statement with NAMES_FLAGS goes to the server. */
void names_note(struct client *client, const struct traits *traits);

/* Whether a statement is an EXECUTE and nothing but that, so that it does what its statement does:
 * then the one that the client has under that name, else NULL. */
struct statement *names_executed(const struct client *client, const struct traits *traits);

/* Brings the server in line for the names noted last, ahead of a message of the extended protocol;
 * or for one name that the message itself gives. */
void names_bring_noted(const struct request *request);
static inline void names_bring(const struct request *request) {
    const struct session *session = request->client->session;
    if (session != NULL && buf_length(&session->named) > 0) names_bring_noted(request);
}
void names_bring_one(const struct request *request, struct bytes name);

/* The same ahead of a Query, whose text has to wait for the answers: false if it does. */
bool names_make_ready(const struct request *request);
static inline bool names_are_ready(const struct request *request) {
    return buf_length(&request->client->session->named) == 0 || names_make_ready(request);
}

/* Whether that has failed: then the error is the answer to the Query, which is dropped. */
bool names_have_failed(struct client *client);

/* A row of the question: true if it is about a name. */
bool names_row(struct client *client, struct bytes body);

#endif
