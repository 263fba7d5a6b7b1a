/*
 * What a client's statements leave in its session, with session_state = track: noted as they go to
 * the server, asked about when their transaction has ended, and brought to the next server. For the
 * files of client/.
 */
#ifndef WEIR_CLIENT_REMEMBER_H
#define WEIR_CLIENT_REMEMBER_H

#include "client/client.h"

struct outgoing;

/* Queries of our own, by their numbers in the pipeline. */
enum own_query {
    OWN_QUERY_GAP,
    OWN_QUERY_CONNECT,
    OWN_QUERY_QUESTION,
    OWN_QUERY_NAMES,
    OWN_QUERY_ROLLBACK, /* of a group that is to be sent again */
    OWN_QUERY_END,      /* of a transaction whose end is sent elsewhere */
    OWN_QUERY_GIVE,     /* from here on client/subscribe.h's */
    OWN_QUERY_MARK,
    OWN_QUERY_UNLISTEN
};

/* Sends one, whose answers the client does not see: now, or ahead of the request that is being
 * handled. */
void remember_send(struct client *client, struct bytes text, enum own_query kind);
void remember_send_ahead(struct client *client, struct bytes text, enum own_query kind);

/* A statement goes to the server: notes what it may leave in the session. `text` as in judge_text;
 * `statement` NULL is one that nobody knows. Only with client->session. Returns what it would leave
 * there, if that is why it has to be refused, or NULL. */
const char *remember_text(struct client *client, struct bytes text);
const char *remember_statement(struct client *client, const struct statement *statement);
/* The same of a text that is parsed, and will not run before a Bind that is noted too; and of a
 * Bind, with what it has behind its two names (at NULL: not in hand). */
const char *remember_parse(struct client *client, struct bytes text);
const char *remember_bind(struct client *client, const struct statement *statement,
                          struct bytes values);

/* A named statement is parsed, which is noted when it is bound. */
void remember_parsed(struct client *client, struct bytes text);

/* Sends what fails with session->refusal in place of a refused statement: a Query, or Parse,
 * Bind and Execute. */
void remember_refuse(struct client *client, struct outgoing *out, bool is_query, enum fault_id why,
                     const char *what);

/* A server was lent: what it has to be set to is sent, and with client->is_syncing awaited. */
void remember_lent(struct client *client);

/* The transaction has ended: the server is asked what was set, or kept for what the session has.
 * Then each row of the answer, and its end. */
enum remember_end { REMEMBER_FREE, REMEMBER_ASKS, REMEMBER_KEEPS };
enum remember_end remember_end(struct client *client); /* only with a session that is touched */
void remember_row(struct client *client, struct bytes body, bool is_whole);
void remember_answered(struct client *client);

/* The transaction has ended, or its server has gone: whether its DDL stands, or may. */
void remember_schema(struct client *client);

/* The client is leaving its server; true if something of its session is there that has to go. */
bool remember_left(struct client *client);
/* Its server was lost, and the session's state there. */
void remember_lost(struct client *client);

#endif
