/*
 * What clients ask for at login, with session_state = track in transaction and statement mode: a
 * server has to take it before the client is welcomed, and tells how it spells it. What one server
 * of a pool has taken is remembered, so that a login which asks for the same needs none.
 */
#ifndef WEIR_CLIENT_ASKED_H
#define WEIR_CLIENT_ASKED_H

#include "client/client.h"

/* Whether the client asks for nothing but what the greeting has, or for what a server of its pool
 * has taken before: its parameters then are as that server spelled them. */
bool asked_is_known(struct client *client, struct bytes greeting);

/* The client's server has taken it all; its parameters are as that server spells them. */
void asked_note(struct client *client);

void asked_release(struct client_set *set);

#endif
