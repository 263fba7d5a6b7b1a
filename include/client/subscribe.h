/*
 * Clients that listen, with session_state = track and shared_listen: what they listen to is heard
 * by the shared listener (pool/listener.h), so that they need no server of their own. For the files
 * of client/.
 */
#ifndef WEIR_CLIENT_SUBSCRIBE_H
#define WEIR_CLIENT_SUBSCRIBE_H

#include "client/client.h"
#include "pool/listener.h"

/* What a client may have waiting, unread, before its connection ends. */
#define SUBSCRIBE_BYTES_MAX (1u << 20)

/* Whether the next request has to wait for answers, since the server may have to be given channels
 * ahead of it. */
bool subscribe_must_wait(struct client *client);

/* A statement with these traits goes to the server: a client that listens has its channels there
 * first, where they matter to it. Only with client->session. */
void subscribe_note(struct client *client, const struct traits *traits);

/* The server has told which channels there are: session->channels. */
void subscribe_learned(struct client *client);

/* The transaction has ended, and only what it listens to keeps the client on its server. */
enum subscribe_step {
    SUBSCRIBE_PINNED, /* it has to stay: nobody can take over */
    SUBSCRIBE_WAITS,  /* it stays until the listener is ready */
    SUBSCRIBE_ASKS    /* the server was sent something whose answer comes first */
};
enum subscribe_step subscribe_step(struct client *client);

/* Such an answer: an error, and then its end. */
void subscribe_failed(struct client *client, unsigned kind);
void subscribe_answered(struct client *client, unsigned kind);

/* A NotificationResponse of the client's server; false: the client hears it from the listener. */
bool subscribe_passes(struct client *client, struct bytes body);

/* Who has sent it, as the client knows process ids. */
uint32_t subscribe_sender(const struct client *client, struct bytes body);

/* The client is outside a transaction: it is told what has come meanwhile. */
void subscribe_deliver(struct client *client);

/* Whether what it listens to would be lost with its server. */
bool subscribe_needs_server(const struct client *client);

/* Its server was lost. */
void subscribe_lost(struct client *client);

/* It listens no more; legal if it never did. */
void subscribe_end(struct client *client);

/* What the listener tells; the message belongs to the caller. */
void subscribe_take(struct client_set *set, const struct listen_mail *mail);

#endif
