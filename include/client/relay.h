/*
 * The relay: requests from a client to the server at hand, replies back. The data path.
 */
#ifndef WEIR_CLIENT_RELAY_H
#define WEIR_CLIENT_RELAY_H

#include "client/client.h"

extern const struct borrower_ops relay_borrower_ops;

/* Bytes from a logged-in client. */
void relay_request(struct client *client, const char *at, size_t len);

/* Goes on with what was kept, after a server came or went. */
void relay_resume(struct client *client);

/* The client is gone: whatever it has borrowed or waits for is given back or cleaned. */
void relay_leave(struct client *client);

#endif
