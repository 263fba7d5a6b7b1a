/*
 * Databases that a client wants to have without sessions; see client/vacate.h.
 *
 * PostgreSQL waits five seconds for the sessions to go before it refuses, and refuses at once
 * whoever may not do it. So the statement is sent as it is, and while it runs the pooler's idle
 * servers of that database are closed, at each tick, as others come free: nothing has to be sent
 * twice, and nobody loses servers to a client that has no right to the database.
 */
#include "client/vacate.h"

#include "client/parts.h"
#include "core/clock.h"
#include "core/memory.h"
#include "proto/message.h"

#define VACATING_MAX 64u
#define BEGIN_US     ((uint64_t)50 * US_PER_MS) /* who may not do it has been told by then */
#define END_US       (10 * US_PER_S)

/* One statement under way. */
struct vacate {
    struct link link; /* in the set's list */
    uint32_t server;
    uint32_t client;
    uint64_t since_us;
    bool is_told; /* idle servers have been closed for it */
    char name[];  /* of the database */
};

void vacate_note(struct client *client, const struct traits *traits) {
    struct client_set *set = client->set;
    struct bytes rest = traits->names, entry;
    while (message_text(rest, &entry, &rest)) {
        if (entry.len < 2 || entry.at[0] != 'b' || set->vacating.count == VACATING_MAX) continue;
        struct vacate *vacate = memory_new(sizeof *vacate + entry.len);
        vacate->server = client->borrower.server->id;
        vacate->client = client->id;
        vacate->since_us = loop_now_us(set->loop);
        memcpy(vacate->name, entry.at + 1, entry.len - 1);
        list_append(&set->vacating, &vacate->link);
    }
}

/* Whether the first word may be ALTER, CREATE or DROP; a comment may stand in front. */
static bool may_change_database(struct bytes text) {
    static const char blanks[] = {' ', '\t', '\r', '\n'};
    static const char begins[] = {'a', 'A', 'c', 'C', 'd', 'D', '/', '-'};
    size_t at = 0;
    while (at < text.len && memchr(blanks, text.at[at], sizeof blanks) != NULL) at++;
    return at < text.len && memchr(begins, text.at[at], sizeof begins) != NULL;
}

void vacate_text(struct client *client, struct bytes text) {
    if (text.at == NULL || client->set->traits == NULL || !may_change_database(text)) return;
    const struct traits *traits = client_traits(client, text);
    if (traits->flags & TRAITS_CHANGES_SCHEMA) vacate_note(client, traits);
}

static void forget(struct client_set *set, struct vacate *vacate) {
    list_remove(&set->vacating, &vacate->link);
    memory_free(vacate);
}

/* The server that still runs it, or NULL. */
static const struct server *runs_on(const struct client_set *set, const struct vacate *vacate) {
    struct bytes key = bytes_of((const char *)&vacate->server, sizeof vacate->server);
    struct map_node *node = map_find(&set->pools->by_id, key);
    if (node == NULL) return NULL;
    const struct server *server = MAP_OWNER(node, struct server, by_id);
    struct borrower *borrower = server->borrower;
    if (borrower == NULL || borrower->ops != &relay_borrower_ops) return NULL;
    const struct client *client = LIST_OWNER(borrower, struct client, borrower);
    bool is_running = client->id == vacate->client && !pipeline_is_empty(&client->pipeline);
    return is_running ? server : NULL;
}

void vacate_tick(struct client_set *set, uint64_t now_us) {
    LIST_EACH_SAFE (&set->vacating, l, following) {
        struct vacate *vacate = LIST_OWNER(l, struct vacate, link);
        const struct server *server = runs_on(set, vacate);
        uint64_t age_us = now_us - vacate->since_us;
        if (server == NULL || age_us > END_US) {
            forget(set, vacate);
        } else if (age_us >= BEGIN_US) {
            const struct node *place = cluster_node_const(server->node->cluster, server->host);
            set->ops.vacate(set->ops.owner, place, vacate->name, !vacate->is_told);
            vacate->is_told = true;
        }
    }
}

void vacate_release(struct client_set *set) {
    LIST_EACH_SAFE (&set->vacating, l, following) {
        forget(set, LIST_OWNER(l, struct vacate, link));
    }
}
