/*
 * Servers made for one borrower; see pool/own.h.
 *
 *      in line -> own_open -> server->reserved, CONNECTING, LOGIN -> own_made: LENT
 *                                   |-> own_refused: the borrower is told why
 *                                   `-> own_closed: back into the line, at its old place
 */
#include "pool/own.h"

#include "core/log.h"
#include "pool/line.h"
#include "pool/room.h"

/* The node that takes replication connections is where writes go. A session's is the one of those
 * that its route names, and that may be tried, which has the fewest servers. */
static struct pool_node *node_for(const struct pool *pool, const struct borrower *borrower) {
    uint64_t nodes = line_nodes(pool, borrower), now_us = loop_now_us(pool->set->loop);
    int primary = cluster_primary(pool->nodes[0]->cluster);
    bool is_replication = borrower->own->replication != STARTUP_REPLICATION_NONE;
    if (is_replication && cluster_is_probed(pool->nodes[0]->cluster))
        nodes = primary < 0 ? 0 : UINT64_C(1) << primary;
    struct pool_node *best = NULL;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        struct pool_node *node = pool->nodes[i];
        if (!(nodes & UINT64_C(1) << i) || (node->has_failed && now_us < node->retry_at_us))
            continue;
        if (best == NULL || node->servers_count < best->servers_count) best = node;
    }
    return best;
}

/* A permit for one more, if need be that of the server unused longest. */
bool own_take_place(struct pool_node *node, int size, const struct borrower *borrower) {
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
    struct pool_node *node = node_for(pool, borrower);
    if (node == NULL) return false;
    bool is_session = borrower->own->replication == STARTUP_REPLICATION_NONE;
    int size = is_session ? line_size(node, borrower) : atomic_load(&node->permit->limit);
    if (!own_take_place(node, size, borrower)) return false;
    struct server *server = server_open(pool, node);
    server->is_own = !is_session;
    server->replication = borrower->own->replication;
    server->start = text_ref(borrower->own->start);
    server->reserved = borrower;
    borrower->making = server;
    return true;
}

bool own_listen(struct pool *pool, struct borrower *borrower) {
    const struct cluster *cluster = pool->nodes[0]->cluster;
    int primary = cluster_is_probed(cluster) ? cluster_primary(cluster) : 0;
    if (primary < 0) return false;
    struct pool_node *node = pool->nodes[primary];
    if (node->has_failed && loop_now_us(pool->set->loop) < node->retry_at_us) return false;
    struct server *server = server_open(pool, node);
    server->is_own = server->is_listener = true;
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

void own_lend(struct borrower *borrower, struct server *server, struct bytes greeting) {
    CHECK(borrower->server == NULL);
    server->doing = server->is_listener ? "listening for all"
                    : server->is_own    ? "serving a replication client"
                                        : "serving a client";
    server->borrower = borrower;
    borrower->server = server;
    server_become(server, server->is_listener ? SERVER_LISTENING : SERVER_LENT);
    stats_add(&server->node->stats.assignments, 1);
    borrower->ops->made(borrower, server, greeting);
}

void own_made(struct server *server, struct bytes greeting) {
    struct borrower *borrower = let_go(server);
    CHECK(borrower != NULL);
    own_lend(borrower, server, greeting);
}

/* SQLSTATE 22: a value that is none; 42: no such parameter, or not for this user; 55P02: not for
 * clients. */
bool own_is_asked_too_much(const struct server *server, const struct fault_fields *fields) {
    struct bytes code = fields->sqlstate;
    if (server->start == NULL || code.len != 5) return false;
    return memcmp(code.at, "22", 2) == 0 || memcmp(code.at, "42", 2) == 0 ||
           bytes_equal_text(code, "55P02");
}

void own_refused(struct server *server, const struct fault_fields *fields) {
    struct borrower *borrower = let_go(server);
    log_line(LOG_LEVEL_ERROR, "S: login failed: %.*s: %.*s", (int)fields->severity.len,
             fields->severity.at, (int)fields->message.len, fields->message.at);
    if (borrower != NULL)
        borrower->ops->refused(borrower, FAULT_SERVER_LOGIN, NULL, server->is_own ? NULL : fields);
}

void own_leave(struct borrower *borrower) {
    struct server *server = borrower->making;
    if (server == NULL) return;
    (void)let_go(server);
    if (server->is_own) server_close(server, "client disconnect while server was not ready");
}

void own_closed(struct server *server) {
    struct borrower *borrower = let_go(server);
    if (borrower == NULL) return;
    if (server->is_listener) {
        borrower->ops->lost(borrower, server, server->close_reason);
    } else {
        line_return(borrower);
    }
}
