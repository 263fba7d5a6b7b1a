/*
 * Cancel requests as clients send them: a requester on its worker, and the client whose query is to
 * end on another, or the same. What becomes of a request then: pool/cancel.h.
 */
#ifndef WEIR_CLIENT_REQUEST_CANCEL_H
#define WEIR_CLIENT_REQUEST_CANCEL_H

#include "client/client.h"

/* The client's first packet was a cancel request with this key of 8 bytes. */
void client_cancel_request(struct client *client, const char *key);

/* A cancel is asked for the client whose key (8 bytes) this is; called on its worker. The outcome
 * goes to the ticket's worker, which calls client_cancel_ended: there the requester is closed. */
void client_cancel(struct client_set *set, const char *key, struct cancel_ticket ticket);

/* Whether the key is one of this worker's clients'. */
bool client_has_key(const struct client_set *set, const char *key);

/* The worker, of `count`, whose client may have that key. */
unsigned client_key_worker(const char *key, unsigned count);

/* On the requester's worker: what became of its request so far (see pool_ops.cancel_news), and that
 * it is over, for a `reason` that goes into the log. */
void client_cancel_news(struct client_set *set, uint32_t asked_by, const char *database,
                        uint32_t id);
void client_cancel_ended(struct client_set *set, uint32_t asked_by, const char *reason);

#endif
