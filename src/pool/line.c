/*
 * The line of a pool; see pool/line.h, and pool/permit.h for the protocol between workers.
 *
 *      arrive -> [idle server that suits: lent at once] -> stand in line, publish the head
 *      serve  -> for each waiter from the head: an idle server that suits: lend it, unless an older
 *                waiter stands elsewhere and there is no room for another: give it up, wake him
 *             -> one that has rested for long: have it checked, which makes it idle or closes it
 *             -> waiters left and a permit to be had: connect, one attempt at a time and node
 *             -> no permit: ask a worker that holds an idle server
 *
 * Failures. Whoever waits when a server cannot be reached waits on: it may be back in time. Whoever
 * waits when it refuses the login is told so, and whoever comes after a failure when there is no
 * server left is told of that one. Where nodes are probed more is known: see tell_failure.
 */
#include "pool/line.h"

#include "cluster/report.h"
#include "pool/own.h"
#include "pool/room.h"

#include "core/log.h"
#include "core/memory.h"

/* A waiter that finds no suitable server does not end the search: others may want less. But only
 * so many are looked at in one turn. */
#define UNSUITED_MAX 64

/* ---- heads */

static void publish(struct pool *pool, enum pool_line line) {
    struct link *first = list_first(&pool->lines[line]);
    uint64_t since_us = first == NULL ? 0 : LIST_OWNER(first, struct borrower, waiting)->since_us;
    /* All nodes of a pool share one struct pool_shared. */
    pool_shared_publish(pool->nodes[0]->shared, pool->set->worker, line, since_us);
}

static void join(struct pool *pool, struct borrower *borrower, enum pool_line line) {
    struct list *list = &pool->lines[line];
    struct link *place = list->head.prev;
    while (place != &list->head &&
           LIST_OWNER(place, struct borrower, waiting)->since_us > borrower->since_us)
        place = place->prev;
    list_insert_before(list, place->next, &borrower->waiting);
    borrower->line = line;
    if (list->head.next == &borrower->waiting) publish(pool, line);
}

static void quit(struct borrower *borrower) {
    struct pool *pool = borrower->pool;
    struct list *list = &pool->lines[borrower->line];
    bool was_first = list->head.next == &borrower->waiting;
    list_remove(list, &borrower->waiting);
    if (was_first) publish(pool, borrower->line);
}

void line_moved(struct pool *pool) {
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) publish(pool, line);
}

static void wake(struct pool *pool, int worker) {
    struct pool_set *set = pool->set;
    set->ops.wake(set->ops.owner, (unsigned)worker, pool->node.key);
}

/* The lines that a server of this node may serve. */
static unsigned lines_of(const struct pool_node *node) {
    if (!cluster_is_probed(node->cluster)) return 1u << POOL_LINE_PRIMARY;
    if (cluster_primary(node->cluster) == (int)node->index) return 1u << POOL_LINE_PRIMARY;
    return 1u << POOL_LINE_REPLICA;
}

static int older_elsewhere(const struct pool *pool, enum pool_line line, uint64_t since_us) {
    if (pool->set->workers == 1) return -1;
    return pool_shared_older(pool->nodes[0]->shared, pool->set->permits, pool->set->worker, line,
                             since_us);
}

bool line_has_waiters(const struct pool *pool, const struct pool_node *node) {
    if (pool_waiters(pool) > 0) return true;
    if (pool->has_limits && room_is_wanted(pool)) return true;
    unsigned lines = lines_of(node);
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        if ((lines & 1u << line) && older_elsewhere(pool, line, 0) >= 0) return true;
    }
    return false;
}

uint64_t line_oldest_us(const struct pool_node *node) {
    unsigned lines = lines_of(node);
    uint64_t oldest_us = 0;
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        struct link *first = lines & 1u << line ? list_first(&node->pool->lines[line]) : NULL;
        if (first == NULL) continue;
        uint64_t since_us = LIST_OWNER(first, struct borrower, waiting)->since_us;
        if (oldest_us == 0 || since_us < oldest_us) oldest_us = since_us;
    }
    return oldest_us;
}

void line_permit_freed(struct pool *pool, const struct pool_node *node) {
    if (node->is_old) return;
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        struct link *first = list_first(&pool->lines[line]);
        uint64_t since_us =
            first == NULL ? 0 : LIST_OWNER(first, struct borrower, waiting)->since_us;
        int older = older_elsewhere(pool, line, since_us);
        if (older >= 0) wake(pool, older);
    }
}

/* ---- which server, which node */

static bool is_held(const struct pool *pool) {
    const struct pool_set *set = pool->set;
    return set->is_paused || set->is_suspended || set->is_shutting_down || set->is_draining ||
           atomic_load(&pool->database->is_paused);
}

static bool suits(const struct borrower *borrower, const struct server *server) {
    const struct pool_node *node = server->node;
    if (server->start != (borrower->own == NULL ? NULL : borrower->own->start)) return false;
    if (borrower->own != NULL && server->greeting == NULL) return false;
    if (borrower->avoid & UINT64_C(1) << server->host) return false;
    if (!cluster_is_probed(node->cluster)) return true;
    return route_suits(borrower->route, borrower->request, node->cluster, node->index,
                       server->login_round);
}

/* The nodes in turn, so that ties go round. */
static struct pool_node *node_at(const struct pool *pool, size_t i) {
    return pool->nodes[pool->nodes_count == 1 ? 0 : (i + pool->turn) % pool->nodes_count];
}

/* The first server of the node that suits, among those in that state, or NULL. They are alike but
 * for what sessions have asked for. */
static struct server *first_of(const struct pool_node *node, const struct borrower *borrower,
                               enum server_state state) {
    LIST_EACH (&node->servers[state], l) {
        struct server *server = LIST_OWNER(l, struct server, link);
        if (suits(borrower, server)) return server;
        if (!node->pool->starts_servers) return NULL;
    }
    return NULL;
}

/* A server that suits, among those in that state, on the node that is to be taken; or NULL. */
static struct server *find(const struct pool *pool, const struct borrower *borrower,
                           enum server_state state) {
    uint64_t nodes = 0;
    if (pool->nodes_count == 1) return first_of(pool->nodes[0], borrower, state);
    for (size_t i = 0; i < pool->nodes_count; i++)
        if (first_of(pool->nodes[i], borrower, state) != NULL) nodes |= UINT64_C(1) << i;
    const struct route_request *request = borrower->request;
    int node = route_pick(pool->nodes[0]->cluster, nodes, request->choice, request->turns);
    return node < 0 ? NULL : first_of(pool->nodes[node], borrower, state);
}

/* The same for a borrower that was judged just now: its route names the node. */
static struct server *find_now(const struct pool *pool, const struct borrower *borrower) {
    int wanted = borrower->route->node;
    if (wanted >= 0 && (size_t)wanted < pool->nodes_count) {
        struct link *first = list_first(&pool->nodes[wanted]->servers[SERVER_IDLE]);
        struct server *server = first == NULL ? NULL : LIST_OWNER(first, struct server, link);
        if (server != NULL && suits(borrower, server)) return server;
    }
    return find(pool, borrower, SERVER_IDLE);
}

uint64_t line_nodes(const struct pool *pool, const struct borrower *borrower) {
    struct cluster *cluster = pool->nodes[0]->cluster;
    if (!cluster_is_probed(cluster)) return 1;
    int primary = cluster_primary(cluster);
    uint64_t nodes = borrower->route->nodes;
    if (borrower->line == POOL_LINE_PRIMARY) nodes = primary < 0 ? 0 : UINT64_C(1) << primary;
    /* The first login of a pool needs any node that answers. */
    if (borrower->wants_greeting_only && primary < 0) {
        for (size_t i = 0; i < cluster_count(cluster); i++) {
            if (node_state(cluster_node_const(cluster, i)) == NODE_UP) nodes |= UINT64_C(1) << i;
        }
    }
    return nodes & ~borrower->avoid;
}

static size_t live_servers(const struct pool_node *node) {
    return node->servers[SERVER_IDLE].count + node->servers[SERVER_USED].count +
           node->servers[SERVER_LENT].count + node->servers[SERVER_CLEANING].count;
}

static bool is_connecting(const struct pool_node *node) {
    return node->servers[SERVER_CONNECTING].count + node->servers[SERVER_LOGIN].count > 0;
}

/* Asks another worker with an idle server to give it up. */
static void ask_holder(struct pool *pool, const struct pool_shared *shared) {
    if (pool->set->workers == 1) return;
    int holder = pool_shared_idle_holder(shared, pool->set->permits, pool->set->worker);
    if (holder >= 0) wake(pool, holder);
}

static int limit_of(const struct pool_node *node) {
    return atomic_load(&node->permit->limit);
}

int line_size(const struct pool_node *node, const struct borrower *borrower) {
    const struct pool *pool = node->pool;
    const struct pool_set *set = pool->set;
    int limit = limit_of(node);
    if (limit == 0 || pool->reserve_size == 0) return limit;
    uint64_t waited_us = loop_now_us(set->loop) - borrower->since_us;
    return waited_us < set->config->reserve_pool_timeout_us ? limit : limit + pool->reserve_size;
}

/* Whether the last attempt to connect has failed, and no server is left from before, here or on
 * another worker. Of nodes that are probed the prober knows better. */
static bool is_failing(const struct pool *pool) {
    const struct pool_node *node = pool->nodes[0];
    if (!node->has_failed || cluster_is_probed(node->cluster) || live_servers(node) > 0)
        return false;
    size_t begun = node->servers[SERVER_CONNECTING].count + node->servers[SERVER_LOGIN].count;
    return (size_t)atomic_load(&node->permit->used) <= begun;
}

/* Starts a connection if a node may have one more. True if one is under way. */
static bool connect_for(struct pool *pool, const struct borrower *borrower) {
    uint64_t nodes = line_nodes(pool, borrower);
    uint64_t now_us = loop_now_us(pool->set->loop);
    bool is_under_way = false;
    struct pool_node *best = NULL;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        struct pool_node *node = node_at(pool, i);
        if (!(nodes & UINT64_C(1) << node->index)) continue;
        /* An idle server that does not suit is new: it will with the node's next sample. */
        bool has_enough = node->servers[SERVER_IDLE].count >= pool->lines[borrower->line].count &&
                          !pool->starts_servers;
        if (is_connecting(node) || has_enough) is_under_way = true;
        if (is_connecting(node) || has_enough) continue;
        if (node->has_failed && now_us < node->retry_at_us) continue;
        if (best == NULL || node->servers_count < best->servers_count) best = node;
    }
    /* Where pools share a limit, one node after the other: room for the second would be made by
     * closing the server of the first before it can serve. */
    if (best == NULL || (is_under_way && pool->has_limits)) return is_under_way;
    int size = line_size(best, borrower);
    int older = older_elsewhere(pool, borrower->line, borrower->since_us);
    if (older >= 0 && size > 0 && atomic_load(&best->permit->used) + 1 >= size) {
        wake(pool, older); /* the last permit is his */
        return is_under_way;
    }
    bool has_room = pool->starts_servers ? own_take_place(best, size, borrower)
                                         : room_take(best, size, borrower);
    if (has_room) {
        bool is_reserve = size > 0 && atomic_load(&best->permit->used) > limit_of(best);
        if (is_reserve && borrower->ops->warn != NULL)
            borrower->ops->warn((struct borrower *)(uintptr_t)borrower,
                                "taking connection from reserve_pool");
        (void)server_open(pool, best);
        pool->turn++;
        return true;
    }
    if (!is_under_way) ask_holder(pool, best->shared);
    return is_under_way;
}

/* ---- lending */

static void count_wait(struct stats *stats, const struct borrower *borrower) {
    if (borrower->since_us == 0) return;
    stats_add(&stats->wait_us, loop_now_us(borrower->pool->set->loop) - borrower->since_us);
}

static void lend(struct borrower *borrower, struct server *server) {
    server->doing = "serving a client";
    server->borrower = borrower;
    borrower->server = server;
    server_become(server, SERVER_LENT);
    stats_add(&server->node->stats.assignments, 1);
    count_wait(&server->node->stats, borrower);
}

void pool_lend(struct pool *pool, struct borrower *borrower, struct server *server) {
    borrower->pool = pool;
    borrower->since_us = 0;
    lend(borrower, server);
}

/* Closes an idle server for the sake of a waiter of another worker. */
static void give_up(struct pool *pool, struct server *server, int worker) {
    server_close(server, "given to a client of another worker");
    wake(pool, worker);
}

/* The replica that was to be taken may have no server that is free: the next read is to find one
 * there. Where only the load decides, that is when it has less of it. */
static void spread(struct pool *pool, const struct borrower *borrower,
                   const struct server *server) {
    int wanted = borrower->route->node, taken = (int)server->node->index;
    if (wanted < 0 || wanted == taken || (size_t)wanted >= pool->nodes_count) return;
    struct pool_node *node = pool->nodes[wanted];
    const struct cluster *cluster = node->cluster;
    bool is_resting = node->has_failed && loop_now_us(pool->set->loop) < node->retry_at_us;
    bool has_one = node->servers[SERVER_IDLE].count + node->servers[SERVER_USED].count > 0 ||
                   is_connecting(node);
    if (is_resting || has_one) return;
    bool is_less = node_active(cluster_node_const(cluster, (size_t)wanted)) <
                   node_active(cluster_node_const(cluster, (size_t)taken));
    if (borrower->request->choice == ROUTE_LEAST_BUSY && !is_less) return;
    if (room_take(node, limit_of(node), NULL)) (void)server_open(pool, node);
}

struct server *pool_borrow(struct pool *pool, struct borrower *borrower) {
    CHECK(borrower->server == NULL && !link_is_listed(&borrower->waiting));
    enum pool_line line =
        borrower->route->target == ROUTE_REPLICA ? POOL_LINE_REPLICA : POOL_LINE_PRIMARY;
    borrower->pool = pool;
    borrower->avoid = 0;
    borrower->since_us = 0;
    bool wants_any = borrower->own == NULL && !borrower->wants_greeting_only;
    if (pool->lines[line].count == 0 && !is_held(pool) && wants_any) {
        struct server *server = find_now(pool, borrower);
        bool is_owed = pool->has_limits && room_is_wanted(pool);
        if (server != NULL && !is_owed && older_elsewhere(pool, line, 0) < 0) {
            if (line == POOL_LINE_REPLICA) spread(pool, borrower, server);
            lend(borrower, server);
            return server;
        }
    }
    borrower->since_us = loop_now_us(pool->set->loop);
    borrower->is_late = wants_any && !is_held(pool) && is_failing(pool);
    if (borrower->is_late) pool->has_late = true;
    join(pool, borrower, line);
    pool_serve_later(pool);
    return NULL;
}

void line_return(struct borrower *borrower) {
    join(borrower->pool, borrower, borrower->line);
    pool_serve_later(borrower->pool);
}

void pool_leave(struct borrower *borrower) {
    own_leave(borrower);
    if (!link_is_listed(&borrower->waiting)) return;
    quit(borrower);
    pool_serve_later(borrower->pool);
}

static void meet(struct borrower *borrower, struct server *server) {
    quit(borrower);
    if (server != NULL) {
        lend(borrower, server);
    } else {
        count_wait(&borrower->pool->stats, borrower);
    }
    borrower->ops->lent(borrower, server);
}

static void refuse(struct borrower *borrower, enum fault_id fault, const char *argument,
                   const struct fault_fields *fields) {
    quit(borrower);
    borrower->ops->refused(borrower, fault, argument, fields);
}

/* ---- serving */

/* Those who came too late. For their sake the server is tried again, if it may be. */
static void refuse_late(struct pool *pool) {
    const struct pool_node *node = pool->nodes[0];
    LIST_EACH_SAFE (&pool->lines[POOL_LINE_PRIMARY], l, following) {
        struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
        if (!borrower->is_late || !is_failing(pool)) continue;
        (void)connect_for(pool, borrower);
        refuse(borrower, FAULT_SERVER_LOGIN_FAILING, node->last_error, NULL);
    }
    pool->has_late = false;
}

/* A primary that starts is waited for, and so is one that ends, where nodes are probed, as another
 * may take over: it had begun a login that it then cut short. For reads there are other nodes. */
static bool is_starting(const struct pool_node *failed, enum pool_line line) {
    const char *sqlstate = failed->last_sqlstate;
    if (!cluster_is_probed(failed->cluster)) return strcmp(sqlstate, "57P03") == 0;
    return line == POOL_LINE_PRIMARY && strncmp(sqlstate, "57P0", 4) == 0;
}

/* Its waiters look for another node, or the primary where they may. */
static void avoid_replica(struct pool *pool, const struct pool_node *failed) {
    LIST_EACH (&pool->lines[POOL_LINE_REPLICA], l) {
        LIST_OWNER(l, struct borrower, waiting)->avoid |= UINT64_C(1) << failed->index;
    }
    line_rejudge(pool);
    pool_serve_later(pool);
}

/* Waiters of a node that refuses logins are told why, unless some server of it still works. Where
 * nodes are probed also those of one that cannot be reached, as there may be another. */
static void tell_failure(struct pool *pool, enum pool_line line) {
    struct link *first = list_first(&pool->lines[line]);
    struct borrower *borrower = LIST_OWNER(first, struct borrower, waiting);
    uint64_t nodes = line_nodes(pool, borrower);
    struct pool_node *failed = NULL;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        struct pool_node *node = pool->nodes[i];
        if (!(nodes & UINT64_C(1) << node->index)) continue;
        bool has_hope = live_servers(node) > 0 || is_connecting(node) || !node->has_failed ||
                        loop_now_us(pool->set->loop) >= node->retry_at_us;
        if (has_hope) return;
        failed = node;
    }
    if (failed == NULL || is_starting(failed, line)) return;
    if (!cluster_is_probed(failed->cluster) && !failed->is_refusal_news) return;
    bool is_refusal = failed->last_sqlstate[0] != '\0';
    /* A node that cannot be reached may be a primary that is being replaced. */
    if (!is_refusal && cluster_is_probed(failed->cluster) && line == POOL_LINE_PRIMARY) return;
    struct fault_fields fields = {.severity = bytes_of_text("FATAL"),
                                  .sqlstate = bytes_of_text(failed->last_sqlstate),
                                  .message = bytes_of_text(failed->last_error)};
    if (line == POOL_LINE_REPLICA) avoid_replica(pool, failed);
    LIST_EACH_SAFE (&pool->lines[line], l, following) {
        borrower = LIST_OWNER(l, struct borrower, waiting);
        if (line == POOL_LINE_REPLICA && line_nodes(pool, borrower) != 0) continue;
        refuse(borrower, FAULT_SERVER_LOGIN_FAILING, failed->last_error,
               is_refusal ? &fields : NULL);
    }
}

static void serve_greetings(struct pool *pool) {
    if (!pool_is_greeted(pool)) return;
    LIST_EACH_SAFE (&pool->lines[POOL_LINE_PRIMARY], l, following) {
        struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
        if (borrower->wants_greeting_only) meet(borrower, NULL);
    }
}

/* Servers whose check is under way; each will be some waiter's. */
static size_t count_checked(const struct pool *pool) {
    size_t count = 0;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        LIST_EACH (&pool->nodes[i]->servers[SERVER_CLEANING], l) {
            if (LIST_OWNER(l, struct server, link)->errand == ERRAND_CHECK) count++;
        }
    }
    return count;
}

/* An idle server that is owed to whoever has waited longer, in another pool or on another worker,
 * is given up. As long as there is room for one more, the other worker makes its own. */
static bool is_given_up(struct pool *pool, enum pool_line line, struct server *server,
                        uint64_t since_us) {
    if (pool->has_limits && room_is_owed(pool, since_us)) {
        server_close(server, "evicted");
        return true;
    }
    int older = older_elsewhere(pool, line, since_us);
    if (older < 0 || !room_is_full(server->node)) return false;
    give_up(pool, server, older);
    return true;
}

/* No server for this line is free and none may be made: nobody in it can be served. */
static bool is_exhausted(const struct pool *pool, enum pool_line line) {
    if (pool->reserve_size > 0) return false;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        const struct pool_node *node = pool->nodes[i];
        bool has_one = node->servers[SERVER_IDLE].count + node->servers[SERVER_USED].count > 0;
        if (!(lines_of(node) & 1u << line)) continue;
        if (has_one || !permit_is_full(node->permit)) return false;
    }
    return true;
}

/* Who asks for a server of his own kind gets an idle one of that kind, else one is made for him.
 * False if neither can be had now; `checked` counts those that may turn out to be one. */
static bool serve_own(struct pool *pool, struct borrower *borrower, size_t *checked) {
    struct server *server = NULL;
    if (borrower->own->replication == STARTUP_REPLICATION_NONE) {
        server = find(pool, borrower, SERVER_IDLE);
        if (server == NULL && *checked > 0) {
            (*checked)--;
            return true;
        }
        if (server == NULL) server = find(pool, borrower, SERVER_USED);
    }
    if (server != NULL && is_given_up(pool, borrower->line, server, borrower->since_us))
        return false;
    if (server != NULL && server->state == SERVER_USED) {
        server_check(server);
    } else if (server != NULL) {
        quit(borrower);
        own_lend(borrower, server, bytes_of(server->greeting->at, server->greeting->len));
    } else if (own_open(pool, borrower)) {
        quit(borrower);
    } else {
        ask_holder(pool, pool->nodes[0]->shared);
        return false;
    }
    return true;
}

static void serve_line(struct pool *pool, enum pool_line line) {
    unsigned unsuited = 0;
    size_t checked = count_checked(pool);
    LIST_EACH_SAFE (&pool->lines[line], l, following) {
        struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
        if (borrower->own != NULL) {
            if (!serve_own(pool, borrower, &checked)) break;
            continue;
        }
        bool wants_any = !borrower->wants_greeting_only;
        struct server *server = wants_any ? find(pool, borrower, SERVER_IDLE) : NULL;
        if (server == NULL && checked > 0) {
            checked--;
            continue;
        }
        if (server == NULL && wants_any) server = find(pool, borrower, SERVER_USED);
        if (server != NULL && is_given_up(pool, line, server, borrower->since_us)) break;
        if (server == NULL) {
            bool is_under_way = connect_for(pool, borrower);
            if (line == POOL_LINE_PRIMARY || is_under_way || is_exhausted(pool, line)) break;
            if (++unsuited >= UNSUITED_MAX) break;
            continue;
        }
        if (server->state == SERVER_USED) {
            server_check(server);
        } else {
            meet(borrower, server);
        }
    }
    if (pool->lines[line].count > 0) tell_failure(pool, line);
}

/* Idle servers that nobody here wants, and for which somebody waits elsewhere in vain. */
static void serve_others(struct pool *pool) {
    if (pool->set->workers == 1) return;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        struct pool_node *node = pool->nodes[i];
        struct link *first = list_last(&node->servers[SERVER_USED]);
        if (first == NULL) first = list_last(&node->servers[SERVER_IDLE]);
        if (first == NULL || !permit_is_full(node->permit)) continue;
        for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
            if (!(lines_of(node) & 1u << line) || pool->lines[line].count > 0) continue;
            int older = older_elsewhere(pool, line, 0);
            if (older < 0) continue;
            give_up(pool, LIST_OWNER(first, struct server, link), older);
            break;
        }
    }
}

/* The pooler is waiting for its servers to come free, to end. */
static void refuse_all(struct pool *pool) {
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        LIST_EACH_SAFE (&pool->lines[line], l, following) {
            refuse(LIST_OWNER(l, struct borrower, waiting), FAULT_SERVER_SHUTTING_DOWN, NULL, NULL);
        }
    }
}

void line_serve(struct pool *pool) {
    if (pool->set->is_draining) refuse_all(pool);
    if (!is_held(pool)) {
        serve_greetings(pool);
        if (pool->has_late) refuse_late(pool);
        for (unsigned line = 0; line < POOL_LINE_COUNT; line++) serve_line(pool, line);
        serve_others(pool);
    }
    pool->nodes[0]->is_refusal_news = false;
    if (pool->has_limits) room_settle(pool);
}

void line_rejudge(struct pool *pool) {
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        LIST_EACH_SAFE (&pool->lines[line], l, following) {
            struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
            bool is_replication = borrower->own != NULL && borrower->own->replication != 0;
            if (borrower->wants_greeting_only || is_replication) continue;
            borrower->ops->rejudge(borrower);
            enum pool_line wanted =
                borrower->route->target == ROUTE_REPLICA ? POOL_LINE_REPLICA : POOL_LINE_PRIMARY;
            if (wanted == borrower->line) continue;
            quit(borrower);
            join(pool, borrower, wanted);
        }
    }
}

/* ---- min_pool_size */

void line_fill(struct pool *pool) {
    uint64_t now_us = loop_now_us(pool->set->loop);
    bool is_wanted = pool->clients > 0 || pool->is_kept;
    if (pool->min_size == 0 || !is_wanted || is_held(pool) ||
        atomic_load(&pool->database->is_removed))
        return;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        struct pool_node *node = pool->nodes[i];
        const struct node *place = cluster_node_const(node->cluster, node->index);
        int limit = limit_of(node);
        int size = limit == 0 || pool->min_size < limit ? pool->min_size : limit;
        if (is_connecting(node) || (node->has_failed && now_us < node->retry_at_us)) continue;
        if (cluster_is_probed(node->cluster) && node_state(place) != NODE_UP) continue;
        if (room_take(node, size, NULL)) (void)server_open(pool, node);
    }
}

/* ---- time */

/* What PAUSE took is not counted: a switchover has its time from RESUME on. */
static void note_lack(struct pool *pool, uint64_t now_us) {
    const struct cluster *cluster = pool->nodes[0]->cluster;
    bool lacks = cluster_is_probed(cluster) && cluster_primary(cluster) < 0 && !is_held(pool);
    if (!lacks) pool->lacking_us = 0;
    if (lacks && pool->lacking_us == 0) pool->lacking_us = now_us;
}

static bool lacks_too_long(const struct pool *pool, const struct borrower *borrower,
                           uint64_t now_us) {
    uint64_t since_us =
        borrower->since_us > pool->lacking_us ? borrower->since_us : pool->lacking_us;
    return now_us >= since_us + pool->set->config->primary_wait_timeout_us;
}

static void refuse_lack(struct cluster *cluster, struct borrower *borrower) {
    char trouble[CLUSTER_TROUBLE_SIZE];
    unsigned rivals = 0;
    for (size_t i = 0; i < cluster_count(cluster); i++)
        rivals += node_role(cluster_node_const(cluster, i)) == NODE_RIVAL;
    cluster_trouble_get(cluster, trouble);
    refuse(borrower, rivals > 1 ? FAULT_TWO_PRIMARIES : FAULT_NO_PRIMARY, trouble, NULL);
}

static void tick_line(struct pool *pool, enum pool_line line, uint64_t now_us) {
    bool lacks_primary = line == POOL_LINE_PRIMARY && pool->lacking_us != 0;
    LIST_EACH_SAFE (&pool->lines[line], l, following) {
        struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
        uint64_t waited_us = now_us - borrower->since_us;
        if (pool->query_wait_us > 0 && waited_us >= pool->query_wait_us) {
            refuse(borrower, FAULT_QUERY_WAIT_TIMEOUT, NULL, NULL);
        } else if (lacks_primary && lacks_too_long(pool, borrower, now_us)) {
            refuse_lack(pool->nodes[0]->cluster, borrower);
        } else {
            break; /* those behind came later */
        }
    }
}

void line_tick(struct pool *pool, uint64_t now_us) {
    note_lack(pool, now_us);
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) tick_line(pool, line, now_us);
    if (pool->lines[POOL_LINE_REPLICA].count > 0) line_rejudge(pool);
}

size_t pool_waiters(const struct pool *pool) {
    return pool->lines[POOL_LINE_PRIMARY].count + pool->lines[POOL_LINE_REPLICA].count;
}

uint64_t pool_oldest_us(const struct pool *pool) {
    uint64_t oldest_us = 0;
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        struct link *first = list_first(&pool->lines[line]);
        if (first == NULL) continue;
        uint64_t since_us = LIST_OWNER(first, struct borrower, waiting)->since_us;
        if (oldest_us == 0 || since_us < oldest_us) oldest_us = since_us;
    }
    return oldest_us;
}
