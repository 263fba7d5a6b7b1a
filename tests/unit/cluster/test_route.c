/*
 * Routes: one row per rule and per order of two rules, then one per state of the nodes, then the
 * sentences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/fitness.h"
#include "cluster/route.h"
#include "core/check.h"
#include "sql/traits.h"

enum { WRITES = TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_KNOWN_WRITE };
enum { UNKNOWN = TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_ANYTHING };

static const struct {
    uint32_t flags;
    enum route_mode mode;
    enum route_hint hint;
    int transaction_node;
    const char *state;
    enum route_target target;
    enum route_reason reason;
    bool retryable;
} wishes[] = {
#define RW ROUTE_MODE_READ_WRITE
    {0, ROUTE_MODE_OFF, 0, -1, NULL, ROUTE_ANY, ROUTE_OFF, false},
    {WRITES, ROUTE_MODE_OFF, 0, 1, NULL, ROUTE_ANY, ROUTE_OFF, false},
    {0, RW, 0, 1, NULL, ROUTE_ANY, ROUTE_TRANSACTION, false},
    {WRITES, RW, 0, 1, NULL, ROUTE_ANY, ROUTE_TRANSACTION, false},
    {WRITES, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_WRITE, false},
    {WRITES | TRAITS_HINT_REPLICA, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_WRITE, false},
    {WRITES, ROUTE_MODE_REPLICA, ROUTE_HINT_REPLICA, -1, NULL, ROUTE_PRIMARY, ROUTE_WRITE, false},
    {0, ROUTE_MODE_PRIMARY, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_FIXED_PRIMARY, true},
    {TRAITS_HINT_REPLICA, ROUTE_MODE_PRIMARY, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_FIXED_PRIMARY,
     true},
    {TRAITS_HINT_PRIMARY, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_HINTED_PRIMARY, true},
    {TRAITS_HINT_PRIMARY | TRAITS_HINT_REPLICA, RW, 0, -1, NULL, ROUTE_PRIMARY,
     ROUTE_HINTED_PRIMARY, true},
    {0, RW, ROUTE_HINT_PRIMARY, -1, NULL, ROUTE_PRIMARY, ROUTE_HINTED_PRIMARY, true},
    {TRAITS_HINT_REPLICA, RW, ROUTE_HINT_PRIMARY, -1, NULL, ROUTE_REPLICA, ROUTE_HINTED_REPLICA,
     true},
    {0, RW, 0, -1, "work_mem", ROUTE_PRIMARY, ROUTE_SESSION_STATE, true},
    {TRAITS_HINT_REPLICA, RW, 0, -1, "role", ROUTE_PRIMARY, ROUTE_SESSION_STATE, true},
    {TRAITS_BEGINS | TRAITS_SERIALIZABLE | TRAITS_READ_ONLY, RW, 0, -1, NULL, ROUTE_PRIMARY,
     ROUTE_SERIALIZABLE, false},
    {TRAITS_SERIALIZABLE, ROUTE_MODE_REPLICA, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_SERIALIZABLE, true},
    {TRAITS_BEGINS | TRAITS_READ_WRITE | TRAITS_READ_ONLY, RW, 0, -1, NULL, ROUTE_PRIMARY,
     ROUTE_READ_WRITE, false},
    {TRAITS_READ_WRITE | TRAITS_HINT_REPLICA, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_READ_WRITE,
     true},
    {UNKNOWN | TRAITS_HINT_REPLICA, RW, 0, -1, NULL, ROUTE_REPLICA, ROUTE_HINTED_REPLICA, false},
    {TRAITS_NEEDS_PRIMARY, RW, ROUTE_HINT_REPLICA, -1, NULL, ROUTE_REPLICA, ROUTE_HINTED_REPLICA,
     false},
    {TRAITS_BEGINS, ROUTE_MODE_REPLICA, 0, -1, NULL, ROUTE_REPLICA, ROUTE_FIXED_REPLICA, false},
    {TRAITS_BEGINS, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_PLAIN_TRANSACTION, false},
    {UNKNOWN, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_NOT_UNDERSTOOD, false},
    {TRAITS_NEEDS_PRIMARY, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_NEEDS_PRIMARY, false},
    {TRAITS_MAY_WRITE, RW, 0, -1, NULL, ROUTE_PRIMARY, ROUTE_NEEDS_PRIMARY, false},
    {TRAITS_BEGINS | TRAITS_READ_ONLY | TRAITS_NEEDS_PRIMARY, RW, 0, -1, NULL, ROUTE_PRIMARY,
     ROUTE_NEEDS_PRIMARY, false},
    {TRAITS_BEGINS | TRAITS_READ_ONLY, RW, 0, -1, NULL, ROUTE_REPLICA, ROUTE_READ_TRANSACTION,
     true},
    {0, RW, 0, -1, NULL, ROUTE_REPLICA, ROUTE_READ, true},
    {TRAITS_EMPTY, RW, 0, -1, NULL, ROUTE_REPLICA, ROUTE_READ, true},
    {TRAITS_USES_CURSOR, RW, 0, -1, NULL, ROUTE_REPLICA, ROUTE_READ, true},
#undef RW
};

static void rules_match_in_order(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(wishes); i++) {
        struct route_request request = {
            .flags = wishes[i].flags,
            .mode = wishes[i].mode,
            .hint = wishes[i].hint,
            .transaction_node = wishes[i].transaction_node,
            .session_state = wishes[i].state,
        };
        struct route route = route_wish(&request);
        if (route.target != wishes[i].target || route.reason != wishes[i].reason ||
            route.retryable != wishes[i].retryable) {
            fail_msg("row %zu: target %d, reason %d, retryable %d", i, route.target, route.reason,
                     route.retryable);
        }
    }
}

/* A primary pg0 and the replicas pg1 and pg2. */
static struct cluster *make_cluster(bool is_probed) {
    static const struct cluster_member members[] = {{"pg0", 5432, 1, NULL, false},
                                                    {"pg1", 5432, 1, NULL, false},
                                                    {"pg2", 5432, 2, "west", false}};
    struct cluster *cluster = cluster_new("app", members, COUNT(members), is_probed);
    if (!is_probed) return cluster;
    node_become(cluster_node(cluster, 0), NODE_PRIMARY, NODE_UP);
    node_become(cluster_node(cluster, 1), NODE_REPLICA, NODE_UP);
    node_become(cluster_node(cluster, 2), NODE_REPLICA, NODE_UP);
    cluster_set_primary(cluster, 0);
    while (freshness_now() < 20) (void)freshness_next();
    return cluster;
}

enum { WAIT = 1, NO_FALLBACK = 2, NO_PRIMARY = 4, PG1_DOWN = 8, PG2_DOWN = 16, WRITE = 32 };

static const struct {
    unsigned options;
    uint32_t covers1, covers2; /* both are sampled in round 20 */
    uint32_t floor;
    enum route_target target;
    enum route_outcome outcome;
    uint64_t nodes, stale;
    int node; /* -2: any of nodes */
    bool waits;
    const char *sentence;
} choices[] = {
    {0, 18, 18, 17, ROUTE_REPLICA, ROUTE_SERVED, 6, 0, -2, false, NULL},
    {0, 18, 17, 17, ROUTE_REPLICA, ROUTE_SERVED, 2, 4, 1, false,
     "replica pg1: plain read, the only one that can serve it"},
    {0, 16, 17, 18, ROUTE_PRIMARY, ROUTE_NOT_FRESH, 1, 6, 0, false,
     "primary: plain read, no replica has replayed this database's last write (probe 17, floor "
     "18)"},
    {WAIT, 16, 17, 18, ROUTE_REPLICA, ROUTE_NOT_FRESH, 6, 6, -2, true,
     "replica: plain read, waits until a replica has replayed this database's last write (probe "
     "17, floor 18)"},
    {NO_FALLBACK, 16, 17, 18, ROUTE_REPLICA, ROUTE_NOT_FRESH, 6, 6, -2, true, NULL},
    {0, 0, 0, 0, ROUTE_REPLICA, ROUTE_SERVED, 6, 0, -2, false, NULL}, /* eventual */
    {PG1_DOWN, 18, 18, 17, ROUTE_REPLICA, ROUTE_SERVED, 4, 0, 2, false, NULL},
    {PG1_DOWN | PG2_DOWN, 18, 18, 17, ROUTE_PRIMARY, ROUTE_NO_REPLICA, 1, 0, 0, false,
     "primary: plain read, no replica is up"},
    {PG1_DOWN | PG2_DOWN | WAIT, 18, 18, 17, ROUTE_PRIMARY, ROUTE_NO_REPLICA, 1, 0, 0, false, NULL},
    {PG1_DOWN | PG2_DOWN | NO_FALLBACK, 18, 18, 17, ROUTE_REPLICA, ROUTE_NO_REPLICA, 0, 0, -1,
     false, "replica: plain read, no replica is up"},
    {WRITE, 18, 18, 17, ROUTE_PRIMARY, ROUTE_SERVED, 1, 0, 0, false, "primary: INSERT"},
    {WRITE | NO_PRIMARY, 18, 18, 17, ROUTE_PRIMARY, ROUTE_SERVED, 0, 0, -1, false,
     "primary: INSERT; no primary is known"},
    {NO_PRIMARY, 16, 16, 17, ROUTE_PRIMARY, ROUTE_NOT_FRESH, 0, 6, -1, false, NULL},
    {NO_PRIMARY, 18, 18, 17, ROUTE_REPLICA, ROUTE_SERVED, 6, 0, -2, false, NULL},
};

static void check_choice(size_t row, const struct route *route) {
    bool is_node = choices[row].node == route->node;
    if (choices[row].node == -2) is_node = route->node >= 0 && route->nodes >> route->node & 1;
    if (route->target != choices[row].target || route->outcome != choices[row].outcome ||
        route->nodes != choices[row].nodes || route->stale != choices[row].stale || !is_node ||
        route->waits != choices[row].waits) {
        fail_msg("row %zu: target %d outcome %d nodes %lx stale %lx node %d waits %d", row,
                 route->target, route->outcome, route->nodes, route->stale, route->node,
                 route->waits);
    }
}

static void nodes_are_chosen(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(choices); i++) {
        unsigned options = choices[i].options;
        struct cluster *cluster = make_cluster(true);
        node_sample(cluster_node(cluster, 1), choices[i].covers1, 20);
        node_sample(cluster_node(cluster, 2), choices[i].covers2, 20);
        if (options & NO_PRIMARY) cluster_set_primary(cluster, -1);
        if (options & PG1_DOWN) node_become(cluster_node(cluster, 1), NODE_REPLICA, NODE_DOWN);
        if (options & PG2_DOWN) node_become(cluster_node(cluster, 2), NODE_RIVAL, NODE_UP);
        struct route_request request = {
            .flags = options & WRITE ? WRITES : 0,
            .why = options & WRITE ? "INSERT" : "",
            .mode = ROUTE_MODE_READ_WRITE,
            .transaction_node = -1,
            .need = {.floor = choices[i].floor, .stick_node = -1},
            .may_wait = (options & WAIT) != 0,
            .replica_fallback = (options & NO_FALLBACK) == 0,
        };
        struct route route = route_choose(&request, cluster);
        check_choice(i, &route);
        struct buf text = {0};
        route_describe(&text, &route, &request, cluster);
        if (choices[i].sentence != NULL) assert_string_equal(buf_text(&text), choices[i].sentence);
        buf_release(&text);
        cluster_free(&cluster);
    }
}

/* pg1 and pg2 may serve; pg2 has twice the weight of pg1. */
static const struct {
    enum route_choice choice;
    uint32_t active1, active2;
    uint32_t latency1_us, latency2_us;
    unsigned ramp2;
    const char *turns; /* the nodes that are taken, one after the other */
} picks[] = {
    {ROUTE_LEAST_BUSY, 0, 0, 0, 0, 256, "212212"}, /* equals take turns by their shares */
    {ROUTE_LEAST_BUSY, 1, 2, 0, 0, 256, "212212"},
    {ROUTE_LEAST_BUSY, 1, 1, 0, 0, 256, "222222"},
    {ROUTE_LEAST_BUSY, 1, 3, 0, 0, 256, "111111"},
    {ROUTE_LEAST_BUSY, 1, 1, 0, 0, 64, "111111"}, /* half the share of pg1 for now */
    {ROUTE_LEAST_BUSY, 0, 0, 0, 0, 64, "121121"},
    {ROUTE_ROUND_ROBIN, 0, 0, 0, 0, 256, "212212"},
    {ROUTE_ROUND_ROBIN, 9, 0, 0, 0, 256, "212212"}, /* whatever the load */
    {ROUTE_ROUND_ROBIN, 0, 9, 900, 0, 64, "121121"},
    {ROUTE_LATENCY, 0, 0, 100, 5000, 256, "111111"},
    {ROUTE_LATENCY, 19, 0, 100, 5000, 256, "222222"}, /* it is busy */
    {ROUTE_LATENCY, 0, 0, 9000, 200, 256, "222222"},
    {ROUTE_LATENCY, 1, 3, 100, 200, 256, "212212"}, /* alike but for the load, which is equal */
};

static void nodes_are_picked(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(picks); i++) {
        struct cluster *cluster = make_cluster(true);
        struct route_turns turns = {{0}};
        char taken[] = "000000";
        node_add_active(cluster_node(cluster, 1), (int)picks[i].active1);
        node_add_active(cluster_node(cluster, 2), (int)picks[i].active2);
        atomic_store(&cluster_node(cluster, 1)->latency_us, picks[i].latency1_us);
        atomic_store(&cluster_node(cluster, 2)->latency_us, picks[i].latency2_us);
        (void)node_fit(cluster_node(cluster, 2), false, picks[i].ramp2);
        for (size_t turn = 0; turn < 6; turn++)
            taken[turn] = (char)('0' + route_pick(cluster, 6, picks[i].choice, &turns));
        if (strcmp(taken, picks[i].turns) != 0) fail_msg("row %zu: %s", i, taken);
        assert_int_equal(route_pick(cluster, 1, picks[i].choice, &turns), 0);
        assert_int_equal(route_pick(cluster, 0, picks[i].choice, &turns), -1);
        assert_int_equal(route_pick(cluster, 8, picks[i].choice, &turns), -1); /* no such node */
        assert_int_equal(route_pick(cluster, 3, ROUTE_ROUND_ROBIN, NULL), 0);
        cluster_free(&cluster);
    }
}

enum { STALE = 1, FAR = 2, SPARE = 4, OUT = 8, AVOIDED = 16, DOWN = 32 };

/* What is the matter with pg1 and pg2, and who then serves a read. */
static const struct {
    unsigned pg1, pg2;
    enum route_target target;
    enum route_outcome outcome;
    uint64_t nodes;
    unsigned suits; /* a fresh server of pg1 (2), of pg2 (4) may serve a waiter */
} ranks[] = {
    {0, 0, ROUTE_REPLICA, ROUTE_SERVED, 6, 6},
    {0, FAR, ROUTE_REPLICA, ROUTE_SERVED, 2, 2},
    {FAR, 0, ROUTE_REPLICA, ROUTE_SERVED, 4, 4},
    {FAR, FAR, ROUTE_REPLICA, ROUTE_SERVED, 6, 6},
    {STALE, FAR, ROUTE_REPLICA, ROUTE_SERVED, 4, 4}, /* before the primary, or a wait */
    {DOWN, FAR, ROUTE_REPLICA, ROUTE_SERVED, 4, 4},
    {OUT, FAR, ROUTE_REPLICA, ROUTE_SERVED, 4, 4},
    {AVOIDED, FAR, ROUTE_REPLICA, ROUTE_SERVED, 4, 4},
    {SPARE, FAR, ROUTE_REPLICA, ROUTE_SERVED, 4, 4},
    {SPARE, DOWN, ROUTE_REPLICA, ROUTE_SERVED, 2, 2},
    {SPARE, STALE, ROUTE_REPLICA, ROUTE_SERVED, 2, 2},
    {OUT, OUT, ROUTE_PRIMARY, ROUTE_NO_REPLICA, 1, 0},
    {OUT, STALE, ROUTE_PRIMARY, ROUTE_NOT_FRESH, 1, 0},
    {AVOIDED, AVOIDED, ROUTE_PRIMARY, ROUTE_NO_REPLICA, 1, 0},
};

static void become(struct cluster *cluster, size_t index, unsigned matter) {
    struct node *node = cluster_node(cluster, index);
    struct cluster_member member = {.weight = matter & SPARE ? 0 : 1,
                                    .is_far = (matter & FAR) != 0};
    node_weigh(node, &member);
    node_sample(node, matter & STALE ? 5 : 18, 20);
    (void)node_fit(node, (matter & OUT) != 0, NODE_RAMP_FULL);
    if (matter & DOWN) node_become(node, NODE_REPLICA, NODE_DOWN);
}

static void near_ones_come_first(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(ranks); i++) {
        struct cluster *cluster = make_cluster(true);
        unsigned matters[] = {0, ranks[i].pg1, ranks[i].pg2}, suits = 0;
        struct route_request request = {.mode = ROUTE_MODE_READ_WRITE,
                                        .transaction_node = -1,
                                        .need = {.floor = 17, .stick_node = -1},
                                        .replica_fallback = true};
        for (size_t n = 1; n < COUNT(matters); n++) {
            become(cluster, n, matters[n]);
            if (matters[n] & AVOIDED) request.avoid |= UINT64_C(1) << n;
        }
        struct route route = route_choose(&request, cluster);
        for (unsigned n = 1; n < COUNT(matters); n++)
            if (route_suits(&route, &request, cluster, n, 10)) suits |= 1u << n;
        if (route.target == ROUTE_PRIMARY) suits = 0;
        if (route.target != ranks[i].target || route.outcome != ranks[i].outcome ||
            route.nodes != ranks[i].nodes || suits != ranks[i].suits)
            fail_msg("row %zu: target %d outcome %d nodes %lx suits %x", i, route.target,
                     route.outcome, route.nodes, suits);
        cluster_free(&cluster);
    }
}

static void a_transaction_keeps_its_node(void **unused) {
    (void)unused;
    struct cluster *cluster = make_cluster(true);
    struct route_request request = {
        .flags = WRITES, .mode = ROUTE_MODE_READ_WRITE, .transaction_node = 2};
    struct route route = route_choose(&request, cluster);
    assert_int_equal(route.nodes, 4);
    assert_int_equal(route.node, 2);
    struct buf text = {0};
    route_describe(&text, &route, &request, cluster);
    assert_string_equal(buf_text(&text), "node pg2: the transaction began there");
    buf_release(&text);
    cluster_free(&cluster);
}

static void without_routing_any_node_serves(void **unused) {
    (void)unused;
    struct cluster *cluster = make_cluster(false);
    struct route_request request = {.flags = WRITES, .transaction_node = -1};
    struct route route = route_choose(&request, cluster);
    assert_int_equal(route.target, ROUTE_ANY);
    assert_int_equal(route.nodes, 7);
    assert_true(route_suits(&route, &request, cluster, 2, 0));
    cluster_free(&cluster);
}

static void a_server_is_judged_when_it_is_lent(void **unused) {
    (void)unused;
    struct cluster *cluster = make_cluster(true);
    node_sample(cluster_node(cluster, 1), 18, 19);
    struct route_request request = {.mode = ROUTE_MODE_READ_WRITE,
                                    .transaction_node = -1,
                                    .need = {.floor = 17, .stick_node = -1},
                                    .replica_fallback = true};
    struct route route = route_choose(&request, cluster);
    assert_int_equal(route.nodes, 2);
    assert_true(route_suits(&route, &request, cluster, 1, 18));
    assert_false(route_suits(&route, &request, cluster, 1, 19)); /* logged in after the sample */
    assert_false(route_suits(&route, &request, cluster, 2, 1));  /* not fresh */
    assert_false(route_suits(&route, &request, cluster, 0, 1));  /* the primary */
    node_sample(cluster_node(cluster, 2), 18, 19);
    assert_true(route_suits(&route, &request, cluster, 2, 1)); /* has caught up since */
    node_become(cluster_node(cluster, 2), NODE_PRIMARY, NODE_UP);
    assert_false(route_suits(&route, &request, cluster, 2, 1));
    request.flags = WRITES;
    route = route_choose(&request, cluster);
    assert_true(route_suits(&route, &request, cluster, 0, 19));
    cluster_set_primary(cluster, 2);
    assert_false(route_suits(&route, &request, cluster, 0, 19)); /* no longer the primary */
    assert_true(route_suits(&route, &request, cluster, 2, 19));
    cluster_free(&cluster);
}

static const struct {
    uint32_t flags;
    const char *why;
    const char *state;
    const char *sentence;
} sentences[] = {
    {0, "", NULL, "replica: plain read"},
    {WRITES, "DELETE", NULL, "primary: DELETE"},
    {WRITES, NULL, NULL, "primary: it may write"},
    {UNKNOWN, "too long to parse now", NULL, "primary: too long to parse now"},
    {0, "", "work_mem", "primary: the session has set work_mem, which is not replayed on replicas"},
    {TRAITS_BEGINS, "", NULL, "primary: a transaction that is not declared READ ONLY"},
    {TRAITS_HINT_REPLICA, "", NULL, "replica: a hint asks for it"},
};

static void wishes_have_sentences(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(sentences); i++) {
        struct route_request request = {.flags = sentences[i].flags,
                                        .why = sentences[i].why,
                                        .session_state = sentences[i].state,
                                        .mode = ROUTE_MODE_READ_WRITE,
                                        .transaction_node = -1};
        struct route route = route_wish(&request);
        struct buf text = {0};
        route_describe(&text, &route, &request, NULL);
        assert_string_equal(buf_text(&text), sentences[i].sentence);
        buf_release(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_match_in_order),
        cmocka_unit_test(nodes_are_chosen),
        cmocka_unit_test(nodes_are_picked),
        cmocka_unit_test(near_ones_come_first),
        cmocka_unit_test(a_transaction_keeps_its_node),
        cmocka_unit_test(without_routing_any_node_serves),
        cmocka_unit_test(a_server_is_judged_when_it_is_lent),
        cmocka_unit_test(wishes_have_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
