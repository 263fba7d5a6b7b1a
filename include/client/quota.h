/*
 * How many clients one database and one user may have, over all workers: max_db_client_connections
 * and max_user_client_connections. A client takes both permits with its startup packet, before it
 * is verified, and gives them back when it is freed. Where neither is set nobody counts; a SET or
 * RELOAD that sets one counts everybody who is there, and closes nobody.
 */
#ifndef WEIR_CLIENT_QUOTA_H
#define WEIR_CLIENT_QUOTA_H

#include "client/client.h"

/* Takes what the client needs; `is_exempt`: it is counted, but never refused. Returns the fault of
 * the limit that is reached, or FAULT_NONE. Its database and user are known. */
enum fault_id quota_take(struct client *client, bool is_exempt);

/* Gives back what the client has taken. */
void quota_release(struct client *client);

/* Follows the settings at hand. */
void quota_apply(struct client_set *set);

#endif
