/*
 * Routes; the rules stand in cluster/route.h.
 *
 * Two steps that do not mix: `judge` looks at the statements, the session and the settings and
 * finds the first rule that matches; what follows looks at the nodes only. A needless trip to the
 * primary costs capacity, a wrong one to a replica costs data, so the rules that lead to the
 * primary stand before those that lead away from it, but for hints, which somebody wrote on
 * purpose and which may send anything but a known write to a replica.
 */
#include "cluster/route.h"

#include "cluster/fitness.h"
#include "core/check.h"
#include "sql/traits.h"

/* How a reason is put into words: `text` has a %s where `argument` of the request belongs. */
enum argument { ARGUMENT_NONE, ARGUMENT_WHY, ARGUMENT_STATE };

struct rule {
    enum route_target target;
    enum argument argument;
    const char *text; /* before the argument */
    const char *rest; /* behind it */
};

static const struct rule rules[] = {
    [ROUTE_OFF] = {ROUTE_ANY, ARGUMENT_NONE, "routing is off", ""},
    [ROUTE_TRANSACTION] = {ROUTE_ANY, ARGUMENT_NONE, "the transaction began there", ""},
    [ROUTE_WRITE] = {ROUTE_PRIMARY, ARGUMENT_WHY, "", ""},
    [ROUTE_FIXED_PRIMARY] = {ROUTE_PRIMARY, ARGUMENT_NONE, "routing = primary", ""},
    [ROUTE_HINTED_PRIMARY] = {ROUTE_PRIMARY, ARGUMENT_NONE, "a hint asks for it", ""},
    [ROUTE_SESSION_STATE] = {ROUTE_PRIMARY, ARGUMENT_STATE, "the session has set ",
                             ", which is not replayed on replicas"},
    [ROUTE_SERIALIZABLE] = {ROUTE_PRIMARY, ARGUMENT_NONE, "standbys refuse SERIALIZABLE", ""},
    [ROUTE_READ_WRITE] = {ROUTE_PRIMARY, ARGUMENT_NONE, "a READ WRITE transaction", ""},
    [ROUTE_FIXED_REPLICA] = {ROUTE_REPLICA, ARGUMENT_NONE, "routing = replica", ""},
    [ROUTE_HINTED_REPLICA] = {ROUTE_REPLICA, ARGUMENT_NONE, "a hint asks for it", ""},
    [ROUTE_PLAIN_TRANSACTION] = {ROUTE_PRIMARY, ARGUMENT_NONE,
                                 "a transaction that is not declared READ ONLY", ""},
    [ROUTE_NOT_UNDERSTOOD] = {ROUTE_PRIMARY, ARGUMENT_WHY, "", ""},
    [ROUTE_NEEDS_PRIMARY] = {ROUTE_PRIMARY, ARGUMENT_WHY, "", ""},
    [ROUTE_READ_TRANSACTION] = {ROUTE_REPLICA, ARGUMENT_NONE, "a READ ONLY transaction", ""},
    [ROUTE_READ] = {ROUTE_REPLICA, ARGUMENT_NONE, "plain read", ""},
};

static enum route_reason judge(const struct route_request *request) {
    uint32_t flags = request->flags;
    if (request->mode == ROUTE_MODE_OFF) return ROUTE_OFF;
    if (request->transaction_node >= 0) return ROUTE_TRANSACTION;
    if (flags & TRAITS_KNOWN_WRITE) return ROUTE_WRITE;
    if (request->mode == ROUTE_MODE_PRIMARY) return ROUTE_FIXED_PRIMARY;
    if (flags & TRAITS_HINT_PRIMARY) return ROUTE_HINTED_PRIMARY;
    /* A comment says more about its statement than the session's setting does. */
    bool has_hint = (flags & TRAITS_HINT_REPLICA) != 0;
    if (!has_hint && request->hint == ROUTE_HINT_PRIMARY) return ROUTE_HINTED_PRIMARY;
    if (request->session_state != NULL) return ROUTE_SESSION_STATE;
    if (flags & TRAITS_SERIALIZABLE) return ROUTE_SERIALIZABLE;
    if (flags & TRAITS_READ_WRITE) return ROUTE_READ_WRITE;
    if (has_hint || request->hint == ROUTE_HINT_REPLICA) return ROUTE_HINTED_REPLICA;
    if (request->mode == ROUTE_MODE_REPLICA) return ROUTE_FIXED_REPLICA;
    if (flags & TRAITS_ANYTHING) return ROUTE_NOT_UNDERSTOOD;
    if (flags & (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE)) return ROUTE_NEEDS_PRIMARY;
    if (!(flags & TRAITS_BEGINS)) return ROUTE_READ;
    return flags & TRAITS_READ_ONLY ? ROUTE_READ_TRANSACTION : ROUTE_PLAIN_TRANSACTION;
}

/* Only a statement that surely left nothing behind may run twice. */
static bool is_retryable(const struct route_request *request) {
    uint32_t unsafe = TRAITS_KNOWN_WRITE | TRAITS_MAY_WRITE | TRAITS_NEEDS_PRIMARY |
                      TRAITS_ANYTHING | TRAITS_COPIES_IN;
    const uint32_t modes = TRAITS_READ_ONLY | TRAITS_READ_WRITE | TRAITS_SERIALIZABLE;
    if ((request->flags & modes) != TRAITS_READ_ONLY) unsafe |= TRAITS_BEGINS;
    return request->mode != ROUTE_MODE_OFF && request->transaction_node < 0 &&
           (request->flags & unsafe) == 0;
}

struct route route_wish(const struct route_request *request) {
    enum route_reason reason = judge(request);
    return (struct route){
        .target = rules[reason].target,
        .reason = reason,
        .outcome = ROUTE_SERVED,
        .node = -1,
        .retryable = is_retryable(request),
    };
}

static uint64_t bit(unsigned index) {
    return (uint64_t)1 << index;
}

/* What it would cost to go there, before its share is looked at. Latencies that differ by less
 * than a quarter of a millisecond are alike: what a network adds at random is no reason. */
static uint64_t cost_of(const struct node *node, enum route_choice choice) {
    uint64_t active = node_active(node);
    if (choice != ROUTE_LATENCY) return active;
    uint32_t latency_us = atomic_load_explicit(&node->latency_us, memory_order_relaxed);
    return (active + 1) * ((latency_us >> 8) + 1);
}

/* Those that cost least for their share: nobody else has a smaller cost / share. */
static uint64_t cheapest(const struct cluster *cluster, uint64_t nodes, enum route_choice choice) {
    uint64_t best = 0, best_cost = 0, best_share = 0;
    for (uint64_t rest = nodes; rest != 0; rest &= rest - 1) {
        unsigned i = (unsigned)__builtin_ctzll(rest);
        const struct node *node = cluster_node_const(cluster, i);
        uint64_t cost = cost_of(node, choice), share = node_share(node);
        uint64_t mine = cost * best_share, its = best_cost * share;
        if (best == 0 || mine < its) {
            best = bit(i);
            best_cost = cost;
            best_share = share;
        } else if (mine == its) {
            best |= bit(i);
        }
    }
    return best;
}

/* Smooth weighted turns: each node earns its share, who has most goes and pays for all. */
static int next_turn(const struct cluster *cluster, uint64_t nodes, struct route_turns *turns) {
    int best = __builtin_ctzll(nodes);
    int32_t all = 0;
    if (turns == NULL) return best;
    for (uint64_t rest = nodes; rest != 0; rest &= rest - 1) {
        int i = __builtin_ctzll(rest);
        int32_t share = (int32_t)node_share(cluster_node_const(cluster, (size_t)i));
        turns->credit[i] += share;
        all += share;
        if (turns->credit[i] > turns->credit[best]) best = i;
    }
    turns->credit[best] -= all;
    return best;
}

int route_pick(const struct cluster *cluster, uint64_t nodes, enum route_choice choice,
               struct route_turns *turns) {
    nodes &= cluster_all(cluster);
    if ((nodes & (nodes - 1)) != 0 && choice != ROUTE_ROUND_ROBIN)
        nodes = cheapest(cluster, nodes, choice);
    if ((nodes & (nodes - 1)) != 0) return next_turn(cluster, nodes, turns);
    return nodes == 0 ? -1 : __builtin_ctzll(nodes);
}

static void go_to(struct route *route, enum route_target target, uint64_t nodes,
                  const struct route_request *request, const struct cluster *cluster) {
    route->target = target;
    route->nodes = nodes;
    route->node = route_pick(cluster, nodes, request->choice, request->turns);
}

static void go_to_primary(struct route *route, const struct route_request *request,
                          const struct cluster *cluster) {
    int primary = cluster_primary(cluster);
    go_to(route, ROUTE_PRIMARY, primary < 0 ? 0 : bit((unsigned)primary), request, cluster);
}

static bool is_replica(const struct node *node) {
    return node_role(node) == NODE_REPLICA && node_state(node) == NODE_UP;
}

/* The replicas of the lowest rank among those that are fresh enough: one of another zone serves
 * before anybody waits or goes to the primary, but only when no near one can. */
static void find_replicas(struct route *route, const struct route_request *request,
                          const struct cluster *cluster) {
    uint64_t fresh = 0;
    route->rank = NODE_RANK_SPARE;
    for (unsigned i = 0; i < cluster_count(cluster); i++) {
        const struct node *node = cluster_node_const(cluster, i);
        if (!is_replica(node) || (request->avoid & bit(i)) != 0) continue;
        enum node_rank rank = node_rank(node);
        if (rank == NODE_RANK_OUT) {
            route->out |= bit(i);
        } else if (!node_may_cover(node, &request->need)) {
            route->stale |= bit(i);
        } else if (fresh == 0 || rank <= route->rank) {
            fresh = fresh != 0 && rank == route->rank ? fresh | bit(i) : bit(i);
            route->rank = rank;
        }
    }
    if (fresh != 0) {
        go_to(route, ROUTE_REPLICA, fresh, request, cluster);
        return;
    }
    route->outcome = route->stale == 0 ? ROUTE_NO_REPLICA : ROUTE_NOT_FRESH;
    route->waits = route->stale != 0 && (request->may_wait || !request->replica_fallback);
    if (route->waits || !request->replica_fallback) {
        go_to(route, ROUTE_REPLICA, route->stale, request, cluster);
    } else {
        go_to_primary(route, request, cluster);
    }
}

struct route route_choose(const struct route_request *request, const struct cluster *cluster) {
    struct route route = route_wish(request);
    switch (route.target) {
    case ROUTE_ANY: {
        bool is_bound = route.reason == ROUTE_TRANSACTION;
        uint64_t nodes = cluster_all(cluster);
        if (is_bound) nodes &= bit((unsigned)request->transaction_node);
        go_to(&route, ROUTE_ANY, nodes, request, cluster);
        break;
    }
    case ROUTE_PRIMARY:
        go_to_primary(&route, request, cluster);
        break;
    case ROUTE_REPLICA:
        find_replicas(&route, request, cluster);
        break;
    }
    return route;
}

bool route_suits(const struct route *route, const struct route_request *request,
                 const struct cluster *cluster, unsigned index, uint32_t login_round) {
    const struct node *node = cluster_node_const(cluster, index);
    switch (route->target) {
    case ROUTE_PRIMARY:
        return cluster_primary(cluster) == (int)index;
    case ROUTE_REPLICA:
        return is_replica(node) && node_rank(node) <= route->rank &&
               !(request->avoid & bit(index)) && node_covers(node, &request->need, login_round);
    case ROUTE_ANY:
        break;
    }
    return (route->nodes & bit(index)) != 0;
}

/* ---- sentences */

static void describe_target(struct buf *buf, const struct route *route,
                            const struct cluster *cluster) {
    static const char *const words[] = {
        [ROUTE_ANY] = "any node", [ROUTE_PRIMARY] = "primary", [ROUTE_REPLICA] = "replica"};
    bool is_named = route->node >= 0 && !route->waits;
    if (is_named && (route->target == ROUTE_REPLICA || route->reason == ROUTE_TRANSACTION)) {
        const char *name = cluster_node_const(cluster, (size_t)route->node)->name;
        const char *word = route->target == ROUTE_REPLICA ? "replica" : "node";
        buf_append_format(buf, "%s %s: ", word, name);
        return;
    }
    buf_append_format(buf, "%s: ", words[route->target]);
}

static void describe_reason(struct buf *buf, const struct route *route,
                            const struct route_request *request) {
    const struct rule *rule = &rules[route->reason];
    const char *argument = "";
    if (rule->argument == ARGUMENT_WHY) argument = request->why == NULL ? "" : request->why;
    if (rule->argument == ARGUMENT_STATE) argument = request->session_state;
    if (rule->argument == ARGUMENT_WHY && argument[0] == '\0') argument = "it may write";
    buf_append_format(buf, "%s%s%s", rule->text, argument, rule->rest);
}

/* How far the best of the stale replicas is, and what it lacks. */
static void describe_staleness(struct buf *buf, const struct route *route,
                               const struct route_request *request, const struct cluster *cluster) {
    uint32_t covers = 0;
    for (uint64_t rest = route->stale; rest != 0; rest &= rest - 1) {
        const struct node *node = cluster_node_const(cluster, (size_t)__builtin_ctzll(rest));
        uint64_t pair = atomic_load_explicit(&node->freshness, memory_order_acquire);
        if (freshness_covers(pair) > covers) covers = freshness_covers(pair);
    }
    const struct freshness_need *need = &request->need;
    const char *verb = route->waits ? "waits until a replica" : "no replica";
    if (need->floor > 0 && covers <= need->floor) {
        buf_append_format(buf, ", %s has replayed this database's last write (probe %u, floor %u)",
                          verb, covers, need->floor);
    } else {
        buf_append_format(buf, ", %s has caught up with what the session saw (probe %u, seen %u)",
                          verb, covers, need->stick_round);
    }
}

static const char *const choices[] = {
    [ROUTE_LEAST_BUSY] = ", least busy of ",
    [ROUTE_ROUND_ROBIN] = ", in turn, one of ",
    [ROUTE_LATENCY] = ", least latency of ",
};

void route_describe(struct buf *buf, const struct route *route, const struct route_request *request,
                    const struct cluster *cluster) {
    describe_target(buf, route, cluster);
    describe_reason(buf, route, request);
    if (cluster == NULL) return;
    int count = __builtin_popcountll(route->nodes);
    if (route->outcome == ROUTE_NO_REPLICA)
        buf_append_text(buf, route->out == 0 ? ", no replica is up"
                                             : ", the replicas that are up are left out");
    if (route->outcome == ROUTE_NOT_FRESH) describe_staleness(buf, route, request, cluster);
    if (route->outcome == ROUTE_SERVED && route->target == ROUTE_REPLICA) {
        buf_append_text(buf,
                        count > 1 ? choices[request->choice] : ", the only one that can serve it");
        if (count > 1) buf_append_format(buf, "%d", count);
    }
    if (route->target == ROUTE_PRIMARY && count == 0) {
        buf_append_text(buf, "; no primary is known");
    }
}
