/*
 * Cancel requests as clients send them; see pool/cancel.h for what becomes of them.
 *
 *      requester -> whose key is it? -> a peer's:  passed on, one hop less
 *                                    -> a worker's of ours: client_cancel on that worker
 *      outcome -> the requester's connection ends, with the reason in the log; it is told nothing
 *
 * A key is 8 bytes: the worker in the upper six bits of byte 1; the peer's id in bytes 2 and 3, low
 * byte first; the hops that are left in the low two bits of byte 8; all else is random, but that
 * byte 1 is never 0: what a client takes for its process id is above all that Linux has, so that
 * pg_cancel_backend and pg_terminate_backend of it hit nobody. With backend_pid = server it is the
 * server's process id and a random number, whose upper 30 bits leave the worker when divided by the
 * count of workers; byte 1 is 0 then. Where there are peers, no such key is given.
 */
#include "client/request_cancel.h"

#include "client/parts.h"
#include "core/log.h"
#include "pool/cancel.h"

#define HOPS 3

static unsigned peer_of(const char *key) {
    return (unsigned)(unsigned char)key[1] | (unsigned)(unsigned char)key[2] << 8;
}

static void forward(struct client *client, const char *key, struct cancel_ticket ticket) {
    struct pool_set *pools = client->set->pools;
    if (config_peer(pools->config, peer_of(key)) == NULL) {
        client_close(client, "could not find peer to forward request to");
        return;
    }
    if ((key[7] & HOPS) == 0) {
        client_close(client, "failed to forward cancel request because its TTL was exhausted");
        return;
    }
    char forwarded[CANCEL_KEY_BYTES];
    memcpy(forwarded, key, sizeof forwarded);
    forwarded[7] = (char)(key[7] - 1);
    cancel_forward(pools, peer_of(key), forwarded, ticket);
}

void client_cancel_request(struct client *client, const char *key) {
    struct client_set *set = client->set;
    struct cancel_ticket ticket = {set->pools->worker, client->id};
    client_become(client, CLIENT_CANCEL);
    client->doing = "asking for a cancel";
    unsigned own = (unsigned)set->pools->config->peer_id;
    if (own != 0 && peer_of(key) != own) {
        forward(client, key, ticket);
    } else {
        set->ops.cancel(set->ops.owner, key, ticket);
    }
}

static struct client *find_requester(struct client_set *set, uint32_t id) {
    LIST_EACH (&set->clients[CLIENT_CANCEL], l) {
        struct client *client = LIST_OWNER(l, struct client, link);
        if (client->id == id) return client;
    }
    return NULL;
}

void client_cancel_news(struct client_set *set, uint32_t asked_by, const char *database,
                        uint32_t id) {
    struct client *client = find_requester(set, asked_by);
    if (client == NULL) return;
    client->cancel_id = id;
    if (client->database == NULL && database[0] != '\0')
        client->database = text_get(set->texts, bytes_of_text(database));
}

void client_cancel_ended(struct client_set *set, uint32_t asked_by, const char *reason) {
    struct client *client = find_requester(set, asked_by);
    if (client != NULL) client_close(client, reason);
}

/* What the client is running is to be cancelled; also where it is between two statements, for its
 * next may be under way. Returns the outcome where that is known at once, or NULL: a request was
 * started for its server, which will not be lent to anybody else before that is over. */
static const char *cancel_running(struct client *client, struct cancel_ticket ticket) {
    struct server *server = client->borrower.server;
    const struct pipeline_entry *head = pipeline_head(&client->pipeline);
    if (client->state != CLIENT_ACTIVE || server->state == SERVER_CLOSED)
        return "cancel request for idle client";
    if (head != NULL && head->request == REQUEST_QUERY && head->action == PIPELINE_SWALLOW)
        return "ignoring cancel request for server that is setting vars";
    client->is_cancelled = head != NULL;
    cancel_start(server, ticket);
    return NULL;
}

static struct client *find(const struct client_set *set, const char *key) {
    char whole[CANCEL_KEY_BYTES];
    memcpy(whole, key, sizeof whole);
    whole[7] = (char)(whole[7] | HOPS); /* peers have taken some of them */
    struct map_node *node = map_find(&set->keys, bytes_of(whole, sizeof whole));
    return node == NULL ? NULL : MAP_OWNER(node, struct client, by_key);
}

bool client_has_key(const struct client_set *set, const char *key) {
    return find(set, key) != NULL;
}

void client_cancel(struct client_set *set, const char *key, struct cancel_ticket ticket) {
    const char *outcome;
    struct client *client = find(set, key);
    if (client == NULL || client->state < CLIENT_IDLE || client->state == CLIENT_CANCEL) {
        outcome = "failed cancel request"; /* nobody knows a key before the welcome */
    } else if (client->state == CLIENT_WAITING) {
        relay_cancel_waiting(client);
        outcome = "successfully sent cancel request";
    } else if (client->state == CLIENT_CONSOLE) {
        set->ops.console_cancel(set->ops.owner, client);
        outcome = "cancel request for console client";
    } else {
        outcome = cancel_running(client, ticket);
    }
    if (outcome != NULL) cancel_answer(set->pools, ticket, outcome);
}
