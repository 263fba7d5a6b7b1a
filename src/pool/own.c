/*
 * Servers made for one borrower alone; see pool/own.h.
 *
 *      in line -> own_open -> server->reserved, CONNECTING, LOGIN -> own_made: LENT
 *                                   |-> own_refused: the borrower is told "login failed"
 *                                   `-> own_closed: back into the line, at its old place
 */
#include "pool/own.h"

#include "core/log.h"
#include "pool/room.h"

/* The node that takes replication connections: where writes go. */
static struct pool_node *node_for(const struct pool *pool) {
    const struct cluster *cluster = pool->nodes[0]->cluster;
    if (!cluster_is_probed(cluster)) return pool->nodes[0];
    int primary = cluster_primary(cluster);
    return primary < 0 ? NULL : pool->nodes[primary];
}

/* A permit for one more, if need be that of the server unused longest. */
static bool take_place(struct pool_node *node, const struct borrower *borrower) {
    int size = atomic_load(&node->permit->limit);
    if (room_take(node, size, borrower)) return true;
    if (size == 0 || atomic_load(&node->permit->used) < size) return false;
    const struct list *idle =
        &node->servers[node->servers[SERVER_USED].count > 0 ? SERVER_USED : SERVER_IDLE];
    struct link *unused = node->pool->set->is_round_robin ? list_first(idle) : list_last(idle);
    if (unused == NULL) return false;
    server_close(LIST_OWNER(unused, struct server, link), "evicted");
    return room_take(node, size, borrower);
}

bool own_open(struct pool *pool, struct borrower *borrower) {
    struct pool_node *node = node_for(pool);
    if (node == NULL) return false;
    if (node->has_failed && loop_now_us(pool->set->loop) < node->retry_at_us) return false;
    if (!take_place(node, borrower)) return false;
    struct server *server = server_open(pool, node);
    server->is_own = true;
    server->replication = borrower->own->replication;
    server->reserved = borrower;
    borrower->making = server;
    return true;
}

/* Nobody waits for this server any more. */
static struct borrower *let_go(struct server *server) {
    struct borrower *borrower = server->reserved;
    server->reserved = NULL;
    if (borrower != NULL) borrower->making = NULL;
    return borrower;
}

void own_made(struct server *server, struct bytes greeting) {
    struct borrower *borrower = let_go(server);
    CHECK(borrower != NULL && borrower->server == NULL);
    server->doing = "serving a replication client";
    server->borrower = borrower;
    borrower->server = server;
    server_become(server, SERVER_LENT);
    stats_add(&server->node->stats.assignments, 1);
    borrower->ops->made(borrower, server, greeting);
}

void own_refused(struct server *server, const struct fault_fields *fields) {
    struct borrower *borrower = let_go(server);
    log_line(LOG_LEVEL_ERROR, "S: login failed: %.*s: %.*s", (int)fields->severity.len,
             fields->severity.at, (int)fields->message.len, fields->message.at);
    if (borrower != NULL) borrower->ops->refused(borrower, FAULT_SERVER_LOGIN, NULL, NULL);
}

void own_leave(struct borrower *borrower) {
    struct server *server = borrower->making;
    if (server == NULL) return;
    (void)let_go(server);
    server_close(server, "client disconnect while server was not ready");
}

void own_closed(struct server *server) {
    struct borrower *borrower = let_go(server);
    if (borrower != NULL) line_return(borrower);
}
