/*
 * Lending, returning, and the line; see pool/pool.h.
 *
 * Nobody is called back from within a call: a returned server, a freed permit, news from the
 * prober and timeouts put the pool on its set's service list, and the end of the turn serves each
 * listed pool (pool/line.c). Servers that were closed in the turn are freed there too, after their
 * borrowers have been told.
 */
#include "pool/pool.h"

#include "auth/users.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "pool/cancel.h"
#include "pool/ended.h"
#include "pool/line.h"
#include "pool/listener.h"
#include "pool/own.h"
#include "pool/room.h"
#include "pool/secrets.h"
#include "pool/tracked.h"
#include "pool/transport.h"

#include <stdio.h>

/* Whoever waited is told of a failure before the next attempt, whatever server_login_retry is; and
 * a server that refuses is not asked more often than that. */
#define LOGIN_RETRY_US_MIN ((uint64_t)100 * US_PER_MS)

/* ---- nodes of a pool */

static int pool_size_of(const struct pool *pool) {
    const struct config *config = pool->set->config;
    const struct config_database *entry =
        config_database(config, bytes_of_text(pool->database->name));
    if (entry == NULL) return 1;
    return config_pool_size(config, entry, config_user(config, bytes_of_text(pool->user)));
}

static struct pool_node *node_new(struct pool *pool, struct cluster *cluster, unsigned index) {
    struct pool_node *node = memory_new(sizeof *node);
    struct buf key = {0};
    node->pool = pool;
    node->cluster = cluster_share(cluster);
    node->index = index;
    for (unsigned i = 0; i < SERVER_STATE_COUNT; i++) list_init(&node->servers[i]);
    buf_append(&key, pool->node.key.at, pool->node.key.len);
    buf_append_format(&key, "/%u", pool->generation);
    node->shared = permits_get(pool->set->permits, buf_content(&key));
    node->permit = &node->shared->permits[index];
    buf_release(&key);
    return node;
}

/* What was counted on a node that goes stays in the pool's sums. */
static void keep_counts(struct pool *pool, const struct stats *stats) {
    struct stats_values values = {0};
    stats_sum(&values, stats);
#define STATS_KEEP(name, metric, help) stats_add(&pool->stats.name, values.name);
    STATS_COUNTERS(STATS_KEEP)
#undef STATS_KEEP
}

static void node_free(struct pool_node *node) {
    struct pool_set *set = node->pool->set;
    const struct pool_node *other = node->pool->nodes_count > 0 ? node->pool->nodes[0] : node;
    bool is_shared = other != node && other->shared == node->shared; /* its heads live on */
    keep_counts(node->pool, &node->stats);
    for (unsigned line = 0; line < POOL_LINE_COUNT && !is_shared; line++)
        pool_shared_publish(node->shared, set->worker, line, 0);
    permits_put(set->permits, &node->shared);
    cluster_free(&node->cluster);
    memory_free(node);
}

static void make_nodes(struct pool *pool) {
    struct cluster *cluster = database_cluster(pool->set->databases, pool->database);
    pool->nodes_count = cluster_is_probed(cluster) ? cluster_count(cluster) : 1;
    pool->nodes = memory_new(pool->nodes_count * sizeof(struct pool_node *));
    for (size_t i = 0; i < pool->nodes_count; i++) {
        pool->nodes[i] = node_new(pool, cluster, (unsigned)i);
        atomic_store(&pool->nodes[i]->permit->limit, pool_size_of(pool));
    }
    cluster_learn(cluster, &pool->facts);
    cluster_free(&cluster);
}

/* The database has other nodes now: idle servers of the old ones end, busy ones when released. */
static void retire_nodes(struct pool *pool) {
    for (size_t i = pool->nodes_count; i-- > 0;) {
        struct pool_node *node = pool->nodes[i];
        node->is_old = true;
        list_append(&pool->old_nodes, &node->old);
        for (unsigned state = 0; state < SERVER_CLOSED; state++) {
            LIST_EACH_SAFE (&node->servers[state], l, following) {
                pool_replace(LIST_OWNER(l, struct server, link));
            }
        }
        if (node->servers_count == 0) {
            list_remove(&pool->old_nodes, &node->old);
            node_free(node);
        }
    }
    memory_free(pool->nodes);
    pool->nodes = NULL;
    pool->nodes_count = 0;
}

/* ---- pools */

static void take_settings(struct pool *pool) {
    const struct config *config = pool->set->config;
    struct bytes name = bytes_of_text(pool->database->name);
    const struct config_database *entry = config_database(config, name);
    pool->is_kept = false;
    if (entry == NULL) return;
    const struct config_user *user = config_user(config, bytes_of_text(pool->user));
    pool->mode = config_pool_mode(config, entry, user);
    pool->routing = config_routing(config, entry, user);
    pool->consistency = config_read_consistency(config, entry, user);
    pool->choice = config_choice(config, entry);
    bool is_tracked = config_session_state(config, entry) == SESSION_STATE_TRACK;
    pool->tracks_sessions = is_tracked && pool->mode != POOL_MODE_SESSION;
    pool->starts_servers = is_tracked && pool->mode == POOL_MODE_SESSION;
    pool->shares_listen = pool->tracks_sessions && config_shares_listen(config, entry);
    pool->on_session_state = config_on_session_state(config, entry, user);
    pool->pin_limit = config->pin_limit;
    pool->is_balanced = config_load_balance_hosts(entry) != BALANCE_DISABLE;
    pool->query_wait_us = config_query_wait_timeout_us(config, entry, user);
    pool->lifetime_us = config_server_lifetime_us(config, entry);
    pool->min_size = config_min_pool_size(config, entry);
    pool->reserve_size =
        config->reserve_pool_timeout_us == 0 ? 0 : config_reserve_pool_size(config, entry, user);
    pool->is_kept = pool->min_size > 0 && entry->user != NULL && pool->set->worker == 0;
    const int limits[LIMIT_SERVER_KINDS] = {
        [LIMIT_DATABASE_SERVERS] = config_max_db_connections(config, entry),
        [LIMIT_USER_SERVERS] = config_max_user_connections(config, user)};
    room_set_limits(pool, limits);
    for (size_t i = 0; i < pool->nodes_count; i++)
        atomic_store(&pool->nodes[i]->permit->limit, pool_size_of(pool));
}

struct pool *pool_get(struct pool_set *set, struct database *database, struct bytes user) {
    struct buf key = {0};
    buf_append_text0(&key, database->name);
    buf_append_bytes(&key, user);
    struct map_node *found = map_find(&set->pools, buf_content(&key));
    if (found != NULL) {
        buf_release(&key);
        return MAP_OWNER(found, struct pool, node);
    }
    struct pool *pool = memory_new(sizeof *pool);
    pool->set = set;
    pool->database = database;
    pool->key = memory_copy(buf_content(&key).at, buf_length(&key));
    pool->user = memory_copy(user.at, user.len);
    list_init(&pool->old_nodes);
    for (unsigned i = 0; i < POOL_LINE_COUNT; i++) list_init(&pool->lines[i]);
    map_add(&set->pools, &pool->node, bytes_of(pool->key, buf_length(&key)));
    list_append(&set->all, &pool->link);
    buf_release(&key);
    database_hold(database);
    pool->generation = atomic_load(&database->generation);
    room_begin(pool);
    make_nodes(pool);
    take_settings(pool);
    return pool;
}

static void pool_free(struct pool *pool) {
    for (size_t i = pool->nodes_count; i-- > 0;) node_free(pool->nodes[i]);
    pool->nodes_count = 0;
    LIST_EACH_SAFE (&pool->old_nodes, l, following) {
        node_free(LIST_OWNER(l, struct pool_node, old));
    }
    ended_keep(pool->set, pool->database, &pool->stats);
    room_end(pool);
    map_remove(&pool->set->pools, &pool->node);
    list_remove(&pool->set->all, &pool->link);
    if (link_is_listed(&pool->service)) list_remove(&pool->set->service, &pool->service);
    memory_wipe(&pool->scram, sizeof pool->scram);
    users_free(&pool->met);
    cluster_learn(NULL, &pool->facts);
    memory_free_secret(pool->password);
    database_release(pool->database);
    memory_free(pool->nodes);
    memory_free(pool->key);
    memory_free(pool->user);
    memory_free(pool);
}

void pool_serve_later(struct pool *pool) {
    struct pool_set *set = pool->set;
    if (!link_is_listed(&pool->service)) list_append(&set->service, &pool->service);
    loop_at_end(set->loop, &set->hook);
}

bool pool_is_greeted(const struct pool *pool) {
    const struct greeting *greeting = pool_shared_greeting(pool->nodes[0]->shared);
    return greeting != NULL &&
           atomic_load(&greeting->epoch) == atomic_load(&pool->database->reconnects);
}

size_t pool_count(const struct pool *pool, enum server_state state) {
    size_t count = 0;
    for (size_t i = 0; i < pool->nodes_count; i++) count += pool->nodes[i]->servers[state].count;
    LIST_EACH (&pool->old_nodes, l) {
        count += LIST_OWNER(l, struct pool_node, old)->servers[state].count;
    }
    return count;
}

/* ---- borrowing and returning */

bool pool_server_stays(const struct server *server) {
    const struct pool *pool = server->pool;
    bool is_strange = server->start != NULL && !pool->starts_servers; /* it would suit nobody */
    if (server->is_close_needed || server->node->is_old || is_strange) return false;
    return server->generation == atomic_load(&pool->database->generation);
}

/* Closes a server that may not stay; where its database is gone that is the reason. */
static void close_obsolete(struct server *server, const char *reason) {
    if (atomic_load(&server->pool->database->is_removed))
        server_close_for(server, FAULT_DATABASE_REMOVED);
    else
        server_close(server, "%s", reason);
}

static void close_changed(struct server *server) {
    bool is_removed = atomic_load(&server->pool->database->is_removed);
    server_close_for(server, is_removed ? FAULT_DATABASE_REMOVED : FAULT_DATABASE_CHANGED);
}

void pool_replace(struct server *server) {
    server->is_close_needed = true;
    if (server->state == SERVER_CONNECTING || server->state == SERVER_LOGIN) {
        close_obsolete(server, "connect string changed");
    } else if (server->is_own || server->state == SERVER_IDLE || server->state == SERVER_USED) {
        close_changed(server);
    }
}

/* A server that was marked while it was in use comes back. */
static bool is_replaced(struct server *server) {
    if (pool_server_stays(server)) return false;
    close_obsolete(server, "close_needed");
    return true;
}

static bool is_overdue(const struct server *server) {
    const struct pool *pool = server->pool;
    uint64_t now_us = loop_now_us(pool->set->loop);
    if (pool->lifetime_us == 0) return true;
    if (now_us - server->connected_us < pool->lifetime_us) return false;
    /* Many servers that were made together shall not all be replaced together. */
    int size = atomic_load(&server->node->permit->limit);
    uint64_t gap_us = size > 0 ? pool->lifetime_us / (uint64_t)size : 0;
    return pool_shared_may_end(server->node->shared, now_us, gap_us);
}

void pool_server_ready(struct server *server) {
    struct pool *pool = server->pool;
    bool was_used = server->state != SERVER_LOGIN;
    bool is_check_due = was_used && !server->is_checked;
    server_become(server, is_check_due ? pool->set->rest : SERVER_IDLE);
    if (!is_replaced(server) && was_used && is_overdue(server))
        server_close(server, "server lifetime over");
    pool_serve_later(pool);
}

void pool_return(struct server *server) {
    CHECK(server->state == SERVER_LENT && server->transaction == 'I');
    struct pool *pool = server->pool;
    server->borrower->server = NULL;
    server->borrower = NULL;
    bool is_reset_wanted =
        pool->set->always_resets || pool->mode == POOL_MODE_SESSION || server->reset_owed != 0;
    if (server->cancels > 0 || is_reset_wanted) {
        server_clean(server, 0, false);
        return;
    }
    server->doing = "idle";
    server_become(server, pool->set->rest);
    if (is_replaced(server)) return;
    if (is_overdue(server)) {
        server_close(server, "server lifetime over");
    } else if (line_has_waiters(pool, server->node)) {
        pool_serve_later(pool);
    }
}

void pool_abandon(struct server *server, unsigned owed_ready, bool is_cancel_wanted) {
    CHECK(server->state == SERVER_LENT);
    server->borrower->server = NULL;
    if (pool_server_stays(server)) {
        server_clean(server, owed_ready, is_cancel_wanted);
    } else {
        server->borrower = NULL;
        close_obsolete(server, "close_needed");
    }
}

/* ---- what server.c tells */

void pool_server_closed(struct server *server) {
    struct pool_node *node = server->node;
    if (!server->is_listener) {
        room_release(node);
        line_permit_freed(server->pool, node);
    }
    pool_serve_later(server->pool);
}

void pool_login_failed(struct pool_node *node, const struct fault_fields *fields,
                       const char *error) {
    struct pool *pool = node->pool;
    struct pool_set *set = pool->set;
    stats_add(&node->stats.server_failures, 1);
    node->has_failed = true;
    if (!pool->is_balanced) pool->host++; /* the next one, where hosts are tried in order */
    uint64_t retry_us = set->config->server_login_retry_us;
    node->retry_at_us =
        loop_now_us(set->loop) + (retry_us > LOGIN_RETRY_US_MIN ? retry_us : LOGIN_RETRY_US_MIN);
    if (fields != NULL) {
        (void)snprintf(node->last_error, sizeof node->last_error, "%.*s", (int)fields->message.len,
                       fields->message.at);
        (void)snprintf(node->last_sqlstate, sizeof node->last_sqlstate, "%.*s",
                       (int)fields->sqlstate.len, fields->sqlstate.at);
        node->is_refusal_news = true;
    } else {
        (void)snprintf(node->last_error, sizeof node->last_error, "%s", error);
        node->last_sqlstate[0] = '\0';
    }
    pool_serve_later(pool);
}

/* ---- the end of a turn */

static void free_server(struct server *server) {
    struct pool_set *set = server->pool->set;
    struct pool_node *node = server->node;
    if (server->memory != NULL) set->ops.server_forget(set->ops.owner, server);
    for (unsigned i = 0; i < SERVER_PARAMETERS_MAX; i++)
        text_unref(set->texts, &server->parameters[i]);
    text_unref(set->texts, &server->start);
    text_unref(set->texts, &server->greeting);
    buf_release(&server->gather);
    memory_free(server);
    CHECK(node->servers_count > 0);
    if (--node->servers_count > 0 || !node->is_old) return;
    list_remove(&node->pool->old_nodes, &node->old);
    node_free(node);
}

static void end_closed(struct pool_set *set) {
    LIST_EACH_SAFE (&set->closed, l, following) {
        struct server *server = LIST_OWNER(l, struct server, link);
        struct borrower *borrower = server->borrower;
        own_closed(server);
        if (borrower != NULL) {
            server->borrower = NULL;
            borrower->server = NULL;
            borrower->ops->lost(borrower, server, server->close_reason);
        }
        if (server->cancels > 0) continue;
        list_remove(&set->closed, &server->link);
        free_server(server);
    }
}

static void on_end_of_turn(struct loop_hook *hook) {
    struct pool_set *set = LIST_OWNER(hook, struct pool_set, hook);
    for (size_t left = set->service.count; left > 0; left--) {
        struct link *l = list_pop(&set->service);
        struct pool *pool = LIST_OWNER(l, struct pool, service);
        line_serve(pool);
#ifdef WEIR_DEBUG
        pool_verify(pool);
#endif
    }
    end_closed(set);
}

/* ---- the set */

struct endpoint_options pool_socket_options(const struct config *config) {
    return (struct endpoint_options){.keepalive = config->tcp_keepalive,
                                     .keepalive_count = config->tcp_keepcnt,
                                     .keepalive_idle_s = config->tcp_keepidle,
                                     .keepalive_interval_s = config->tcp_keepintvl,
                                     .user_timeout_ms = config->tcp_user_timeout,
                                     .buffer_bytes = config->tcp_socket_buffer,
                                     .defer_accept = config->tcp_defer_accept};
}

/* What each transaction asks of the settings. With no delay every server is checked before each
 * reuse. */
static void take_set_settings(struct pool_set *set) {
    const struct config *config = set->config;
    bool is_each_checked =
        config->server_check_delay_us == 0 && config->server_check_query[0] != '\0';
    set->rest = is_each_checked ? SERVER_USED : SERVER_IDLE;
    set->is_round_robin = config->server_round_robin;
    set->always_resets = config->server_reset_query_always;
    set->is_keeping_due = set->worker == 0;
    set->socket_options = pool_socket_options(config);
}

void pool_set_init(struct pool_set *set, struct config *config, struct users *users) {
    set->config = config;
    set->users = users;
    list_init(&set->all);
    list_init(&set->service);
    list_init(&set->closed);
    list_init(&set->cancels);
    set->hook.run = on_end_of_turn;
    take_set_settings(set);
    tracked_init(set, &config->track_extra_parameters);
}

static void close_servers(struct pool_node *node, const char *reason) {
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            server_close(LIST_OWNER(l, struct server, link), "%s", reason);
        }
    }
}

void pool_set_release(struct pool_set *set) {
    set->is_shutting_down = true;
    listener_release(set);
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (size_t i = 0; i < pool->nodes_count; i++)
            close_servers(pool->nodes[i], "pooler is shutting down");
        LIST_EACH (&pool->old_nodes, old) {
            close_servers(LIST_OWNER(old, struct pool_node, old), "pooler is shutting down");
        }
    }
    cancel_close_all(set);
    end_closed(set);
    LIST_EACH_SAFE (&set->all, l, following) {
        pool_free(LIST_OWNER(l, struct pool, link));
    }
    ended_release(set);
    map_release(&set->pools);
    map_release(&set->by_id);
    loop_not_at_end(set->loop, &set->hook);
    tracked_release(set);
    config_unref(&set->config);
    users_free(&set->users);
    transport_unref(&set->transport);
}

/* Keys made from a plain secret are made again: it may be another one now. */
void pool_set_apply(struct pool_set *set, struct config *config, struct users *users,
                    struct transport *transport) {
    config_unref(&set->config);
    users_free(&set->users);
    transport_unref(&set->transport);
    set->transport = transport;
    set->config = config;
    set->users = users;
    take_set_settings(set);
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        uint32_t generation = atomic_load(&pool->database->generation);
        pool_review_keys(pool);
        bool was_tracking = pool->tracks_sessions, did_start = pool->starts_servers;
        take_settings(pool);
        bool is_new = generation != pool->generation || was_tracking != pool->tracks_sessions ||
                      did_start != pool->starts_servers;
        if (is_new && !atomic_load(&pool->database->is_removed)) {
            pool->generation = generation;
            retire_nodes(pool);
            make_nodes(pool);
            line_moved(pool);
            line_rejudge(pool);
        }
        pool_serve_later(pool);
    }
}

void pool_set_wake(struct pool_set *set, struct bytes key) {
    if (key.len > 0 && key.at[0] == '\0') {
        room_wake(set, key);
        return;
    }
    struct map_node *node = map_find(&set->pools, key);
    if (node != NULL) pool_serve_later(MAP_OWNER(node, struct pool, node));
}

void pool_set_serve_all(struct pool_set *set) {
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        cluster_learn(pool->nodes[0]->cluster, &pool->facts);
        if (pool_waiters(pool) == 0) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) {
            struct pool_node *node = pool->nodes[i];
            const struct node *place = cluster_node_const(node->cluster, node->index);
            if (cluster_is_probed(node->cluster) && node_state(place) == NODE_UP &&
                node->last_sqlstate[0] == '\0')
                node->retry_at_us = 0;
        }
        line_rejudge(pool);
        pool_serve_later(pool);
    }
}

void pool_set_reset_node(struct pool_set *set, const struct cluster *cluster, unsigned node_index,
                         const char *why) {
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (size_t i = 0; i < pool->nodes_count; i++) {
            struct pool_node *node = pool->nodes[i];
            if (node->cluster == cluster && node->index == node_index) close_servers(node, why);
        }
    }
}

bool pool_set_is_quiet(const struct pool_set *set, const struct database *database) {
    LIST_EACH (&set->all, l) {
        const struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (database != NULL && pool->database != database) continue;
        if (pool_count(pool, SERVER_LENT) + pool_count(pool, SERVER_CLEANING) > 0) return false;
    }
    return true;
}

static void close_idle(const struct pool_node *node, const char *reason) {
    for (unsigned state = SERVER_IDLE; state <= SERVER_USED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            server_close(LIST_OWNER(l, struct server, link), "%s", reason);
        }
    }
}

void pool_set_close_idle(struct pool_set *set, const struct database *database,
                         const char *reason) {
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (database != NULL && pool->database != database) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) close_idle(pool->nodes[i], reason);
    }
}

/* Calls `visit` for each open server of a node; true if all calls were. */
static bool each_of_node(struct pool_node *node, bool (*visit)(struct server *server, bool flag),
                         bool flag) {
    bool is_all = true;
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            if (!visit(LIST_OWNER(l, struct server, link), flag)) is_all = false;
        }
    }
    return is_all;
}

static bool each_server(struct pool_set *set, bool (*visit)(struct server *server, bool flag),
                        bool flag) {
    bool is_all = true;
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (size_t i = 0; i < pool->nodes_count; i++)
            is_all = each_of_node(pool->nodes[i], visit, flag) && is_all;
        LIST_EACH (&pool->old_nodes, old) {
            is_all = each_of_node(LIST_OWNER(old, struct pool_node, old), visit, flag) && is_all;
        }
    }
    return is_all;
}

static bool hold(struct server *server, bool is_held) {
    stream_hold(&server->stream, is_held);
    return true;
}

static bool is_sent(struct server *server, bool is_late) {
    if (stream_queued(&server->stream) == 0) return true;
    if (is_late) server_close(server, "suspend_timeout");
    return is_late;
}

void pool_set_hold(struct pool_set *set, bool is_held) {
    (void)each_server(set, hold, is_held);
}

bool pool_set_is_sent(struct pool_set *set, bool is_late) {
    return each_server(set, is_sent, is_late);
}
/* There may be more servers than pool size and reserve after a SET or RELOAD: idle ones go, those
 * that have to be checked first. One worker at a time, so that none goes too many. */
static void trim(struct pool_node *node) {
    int limit = atomic_load(&node->permit->limit);
    int size = limit + node->pool->reserve_size;
    if (limit == 0 || atomic_load(&node->permit->used) <= size) return;
    if (atomic_exchange(&node->shared->is_trimming, true)) return;
    for (unsigned state = SERVER_USED; state >= SERVER_IDLE; state--) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            if (atomic_load(&node->permit->used) <= size) break;
            server_close(LIST_OWNER(l, struct server, link), "too many servers in the pool");
        }
    }
    atomic_store(&node->shared->is_trimming, false);
}

/* An idle server, checked or not: closed if its time is over, marked if it has to be checked. */
static void tick_idle(struct server *server, uint64_t now_us) {
    struct pool_node *node = server->node;
    const struct pool *pool = node->pool;
    const struct pool_set *set = pool->set;
    const struct config *config = set->config;
    uint64_t rested_us = now_us - server->state_us;
    bool is_check_on = config->server_check_query[0] != '\0';
    if (!pool_server_stays(server)) {
        close_changed(server);
    } else if (config->server_idle_timeout_us > 0 && rested_us >= config->server_idle_timeout_us &&
               atomic_load(&node->permit->used) > pool->min_size) {
        server_close(server, "server idle timeout");
    } else if (pool->lifetime_us > 0 && is_overdue(server)) {
        server_close(server, "server lifetime over");
    } else if (server->state == SERVER_IDLE && is_check_on &&
               rested_us >= config->server_check_delay_us) {
        server_become(server, SERVER_USED);
    } else if (server->state == SERVER_USED && !is_check_on) {
        server_become(server, SERVER_IDLE);
    }
}

static const char *const errand_reasons[] = {
    [ERRAND_NONE] = "client disconnected with query in progress",
    [ERRAND_ROLLBACK] = "client disconnected with query in progress",
    [ERRAND_RESET] = "server_reset_query takes too long",
    [ERRAND_CHECK] = "server_check_query takes too long",
};

static void tick_node(struct pool_node *node, uint64_t now_us) {
    const struct pool *pool = node->pool;
    const struct config *config = pool->set->config;
    trim(node);
    LIST_EACH_SAFE (&node->servers[SERVER_USED], l, following) {
        tick_idle(LIST_OWNER(l, struct server, link), now_us);
    }
    LIST_EACH_SAFE (&node->servers[SERVER_IDLE], l, following) {
        tick_idle(LIST_OWNER(l, struct server, link), now_us);
    }
    LIST_EACH_SAFE (&node->servers[SERVER_LENT], l, following) {
        struct server *server = LIST_OWNER(l, struct server, link);
        /* A replication connection may never come back. */
        if (server->is_own && !pool_server_stays(server)) close_changed(server);
    }
    for (unsigned state = SERVER_CONNECTING; state <= SERVER_LOGIN; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            struct server *server = LIST_OWNER(l, struct server, link);
            uint64_t limit_us = config->server_connect_timeout_us;
            if (limit_us > 0 && now_us - server->connected_us >= limit_us)
                server_connect_failed(server,
                                      state == SERVER_LOGIN ? "connect timeout" : "connect failed");
        }
    }
    LIST_EACH_SAFE (&node->servers[SERVER_CLEANING], l, following) {
        struct server *server = LIST_OWNER(l, struct server, link);
        uint64_t limit_us = config->cancel_wait_timeout_us;
        if (limit_us == 0 || now_us - server->state_us < limit_us) continue;
        bool is_pipeline = server->errand == ERRAND_NONE && server->owed_ready > 1;
        server_close(server, "%s",
                     is_pipeline ? "client disconnected with queries in progress"
                                 : errand_reasons[server->errand]);
    }
}

/* Whether anybody is, or is on the way to be, at either end of the pool. */
static bool is_in_use(const struct pool *pool) {
    if (pool->clients > 0 || pool->old_nodes.count > 0 || pool_waiters(pool) > 0) return true;
    for (size_t i = 0; i < pool->nodes_count; i++) {
        if (pool->nodes[i]->servers_count > 0) return true;
    }
    return listener_has_pool(pool->set, pool);
}

/* Pools that have servers without clients are there before the first client. */
static void make_kept(struct pool_set *set) {
    const struct config *config = set->config;
    set->is_keeping_due = false;
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        const struct config_database *entry = config_database_at(config, i);
        struct bytes name = bytes_of_text(entry->entry.name);
        bool is_kept = entry->user != NULL && config_min_pool_size(config, entry) > 0;
        if (!is_kept || bytes_equal_text(name, "*")) continue;
        struct database *database = databases_get(set->databases, config, name);
        if (database != NULL) (void)pool_get(set, database, bytes_of_text(entry->user));
    }
}

/* pool_idle_timeout. True if the pool is gone. */
static bool tick_empty(struct pool *pool, uint64_t now_us) {
    struct pool_set *set = pool->set;
    uint64_t limit_us = set->config->pool_idle_timeout_us;
    bool is_empty = !is_in_use(pool);
    if (!is_empty) pool->empty_us = 0;
    if (is_empty && pool->empty_us == 0) pool->empty_us = now_us;
    if (!is_empty || pool->is_kept || limit_us == 0 || now_us - pool->empty_us < limit_us)
        return false;
    if (atomic_load(&pool->nodes[0]->shared->references) == pool->nodes_count)
        log_line(LOG_LEVEL_LOG,
                 "cleaning up idle pool for user %s on db %s because: pool idle timeout (age= %us)",
                 pool->user, pool->database->name,
                 (unsigned)((now_us - pool->empty_us) / US_PER_S));
    pool_free(pool);
    return true;
}

void pool_set_tick(struct pool_set *set) {
    uint64_t now_us = loop_now_us(set->loop);
    if (set->is_keeping_due) make_kept(set);
    LIST_EACH_SAFE (&set->all, l, following) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (is_in_use(pool)) {
            atomic_store_explicit(&pool->database->used_us, now_us, memory_order_relaxed);
        } else if (atomic_load(&pool->database->is_idle)) {
            pool_free(pool);
            continue;
        }
        for (size_t i = 0; i < pool->nodes_count; i++) tick_node(pool->nodes[i], now_us);
        if (tick_empty(pool, now_us)) continue;
        line_fill(pool);
        if (pool_waiters(pool) == 0) continue;
        line_tick(pool, now_us);
        pool_serve_later(pool);
    }
    ended_tick(set);
    cancel_tick(set);
    listener_tick(set);
}

void pool_verify(const struct pool *pool) {
    for (size_t i = 0; i < pool->nodes_count; i++) {
        const struct pool_node *node = pool->nodes[i];
        size_t count = 0;
        for (unsigned state = 0; state < SERVER_CLOSED; state++) {
            LIST_EACH (&node->servers[state], l) {
                const struct server *server = LIST_OWNER(l, struct server, link);
                CHECK(server->state == state && server->node == node && server->pool == pool);
                bool is_lent = state == SERVER_LENT || state == SERVER_LISTENING;
                CHECK((server->borrower != NULL) == is_lent);
                CHECK(server->borrower == NULL || server->borrower->server == server);
                if (!server->is_listener) count++;
            }
        }
        CHECK(count <= node->servers_count);
        CHECK(atomic_load(&node->permit->used) >= (int)count);
    }
    for (unsigned line = 0; line < POOL_LINE_COUNT; line++) {
        LIST_EACH (&pool->lines[line], l) {
            const struct borrower *borrower = LIST_OWNER(l, struct borrower, waiting);
            CHECK(borrower->pool == pool && borrower->server == NULL && borrower->line == line);
        }
        struct link *first = list_first(&pool->lines[line]);
        uint64_t since_us =
            first == NULL ? 0 : LIST_OWNER(first, struct borrower, waiting)->since_us;
        const struct pool_shared *shared = pool->nodes[0]->shared;
        CHECK(atomic_load(&shared->heads[pool->set->worker][line]) == since_us);
    }
}
