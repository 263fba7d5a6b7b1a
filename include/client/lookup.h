/*
 * Lookups: asking PostgreSQL by auth_query for users who are not in the auth_file.
 *
 * A client in LOGIN whose user has to be asked for waits here, unread; everybody else's login
 * goes on. Clients that want the same user in the same way share one question, however many come
 * while it is under way; nothing is kept once it is answered.
 */
#ifndef WEIR_CLIENT_LOOKUP_H
#define WEIR_CLIENT_LOOKUP_H

#include "client/client.h"

/* True if the client has to wait for a lookup, or was refused for want of a right setting; false
 * if its user is known, or there is nobody to ask. client_login_found is called with the user, in
 * a snapshot of its own; where there is none the client is told and closed. */
bool lookup_begin(struct client *client);

/* The client is leaving; legal if it waits for nothing. */
void lookup_leave(struct client *client);

/* Whether it waits for an answer from that database. */
bool lookup_is_in(const struct client *client, const struct database *database);

/* Gives up questions that nobody waits for any more and that have taken too long. */
void lookup_tick(struct client_set *set, uint64_t now_us);

/* Gives all up, once no client is left. */
void lookup_release(struct client_set *set);

#endif
