/*
 * With session_state = track: statements that PostgreSQL refuses while a database has sessions
 * (DROP DATABASE, ALTER DATABASE ... RENAME TO and SET TABLESPACE, CREATE DATABASE ... TEMPLATE)
 * are not refused because of the pooler's own idle servers.
 */
#ifndef WEIR_CLIENT_VACATE_H
#define WEIR_CLIENT_VACATE_H

#include "client/client.h"
#include "sql/traits.h"

/* A statement with these traits, among them TRAITS_CHANGES_SCHEMA, goes to the client's server. */
void vacate_note(struct client *client, const struct traits *traits);

/* A text of a client whose session is its server's own, so that nobody else reads it. */
void vacate_text(struct client *client, struct bytes text);

/* Has idle servers closed on all workers for those statements that still run; at each tick. */
void vacate_tick(struct client_set *set, uint64_t now_us);

void vacate_release(struct client_set *set);

#endif
