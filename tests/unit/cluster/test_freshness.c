/*
 * Freshness: positions, histories, what a connection shows, and the rule itself between threads:
 * a reader that has learnt of a write never finds a node that covers the floor without the write.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/freshness.h"
#include "core/check.h"

#include <pthread.h>
#include <sched.h>

#define MB (1024u * 1024)

static const struct {
    const char *insert;
    uint32_t segment_bytes;
    const char *goal;
} goals[] = {
    {"0/4019170", 16 * MB, "0/4019170"},
    {"0/4000028", 16 * MB, "0/4000000"}, /* behind a segment's long header */
    {"0/4002018", 16 * MB, "0/4002000"}, /* behind a page's short header */
    {"0/4000018", 16 * MB, "0/4000018"}, /* within a long header: not a position PostgreSQL gives */
    {"0/4002028", 16 * MB, "0/4002028"}, /* a record of 16 bytes behind a short header */
    {"0/4002000", 16 * MB, "0/4002000"},
    {"0/4001FF8", 16 * MB, "0/4001FF8"},
    {"0/100028", 1 * MB, "0/100000"},
    {"0/100028", 16 * MB, "0/100028"}, /* no start of a segment here */
    {"0/100018", 16 * MB, "0/100000"},
    {"3/40000028", 1024 * MB, "3/40000000"},
    {"1/00000028", 16 * MB, "1/0"},
    {"0/0", 16 * MB, "0/0"},
};

static uint64_t lsn_of(const char *text) {
    uint64_t lsn = 0;
    assert_true(freshness_parse_lsn(text, &lsn));
    return lsn;
}

static void insert_positions_become_goals(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(goals); i++) {
        uint64_t goal = freshness_replay_goal(lsn_of(goals[i].insert), goals[i].segment_bytes);
        if (goal != lsn_of(goals[i].goal)) fail_msg("row %zu: %lx", i, goal);
    }
}

static const struct {
    const char *text;
    bool is_good;
    uint64_t lsn;
} positions[] = {
    {"0/0", true, 0},
    {"16/B374D848", true, 0x16B374D848},
    {"FFFFFFFF/FFFFFFFF", true, UINT64_MAX},
    {"a/b", true, 0xA0000000B},
    {"", false, 0},
    {"/", false, 0},
    {"0/", false, 0},
    {"/0", false, 0},
    {"0", false, 0},
    {"0/0 ", false, 0},
    {"0/0/0", false, 0},
    {"123456789/0", false, 0},
    {"0/123456789", false, 0},
    {"0x1/0", false, 0},
    {"-1/0", false, 0},
};

static void positions_are_read(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(positions); i++) {
        uint64_t lsn = 0;
        bool is_good = freshness_parse_lsn(positions[i].text, &lsn);
        if (is_good != positions[i].is_good || (is_good && lsn != positions[i].lsn)) {
            fail_msg("row %zu (%s): %d %lx", i, positions[i].text, is_good, lsn);
        }
    }
}

/* The floor's stick: node 0, incarnation 1. The node is given its pair after `renewals`. */
static const struct {
    uint32_t covers, sampled;
    struct freshness_need need;
    uint32_t login_round;
    bool may_cover, covers_login;
} covering[] = {
    {10, 11, {.floor = 9, .stick_node = -1}, 10, true, true},
    {10, 11, {.floor = 10, .stick_node = -1}, 10, false, false},
    {10, 11, {.floor = 11, .stick_node = -1}, 10, false, false},
    {10, 11, {.floor = 9, .stick_node = -1}, 11, true, false}, /* requested before the login */
    {10, 11, {.floor = 9, .stick_node = -1}, 12, true, false},
    {10, 11, {.floor = 0, .stick_node = -1}, 10, true, true},
    {0, 11, {.floor = 0, .stick_node = -1}, 10, true, true}, /* eventual: no primary needed */
    {0, 11, {.floor = 1, .stick_node = -1}, 10, false, false},
    {0, 0, {.floor = 0, .stick_node = -1}, 0, false, false}, /* void */
    /* the session has read from another node */
    {10, 11, {.floor = 1, .stick_round = 9, .stick_node = 5}, 10, true, true},
    {10, 11, {.floor = 1, .stick_round = 10, .stick_node = 5}, 10, false, false},
    {10, 11, {.floor = 0, .stick_round = 10, .stick_node = 5}, 10, false, false},
    /* from this one, in this and in an earlier incarnation */
    {10, 11, {.floor = 1, .stick_round = 10, .stick_incarnation = 1}, 10, true, true},
    {10, 11, {.floor = 10, .stick_round = 10, .stick_incarnation = 1}, 10, false, false},
    {10, 11, {.floor = 1, .stick_round = 10, .stick_incarnation = 0}, 10, false, false},
    {10, 11, {.floor = 1, .stick_round = 9, .stick_incarnation = 0}, 10, true, true},
};

static void connections_are_judged(void **unused) {
    (void)unused;
    while (freshness_now() < 20) (void)freshness_next();
    static const struct cluster_member member = {"pg1", 5432, 1, NULL, false};
    for (size_t i = 0; i < COUNT(covering); i++) {
        struct cluster *cluster = cluster_new("app", &member, 1, true);
        struct node *node = cluster_node(cluster, 0);
        node_renew(node, false);
        node_sample(node, covering[i].covers, covering[i].sampled);
        bool may_cover = node_may_cover(node, &covering[i].need);
        bool covers = node_covers(node, &covering[i].need, covering[i].login_round);
        if (may_cover != covering[i].may_cover || covers != covering[i].covers_login) {
            fail_msg("row %zu: %d %d", i, may_cover, covers);
        }
        cluster_free(&cluster);
    }
}

static void a_reset_outdates_older_logins(void **unused) {
    (void)unused;
    static const struct cluster_member member = {"pg1", 5432, 1, NULL, false};
    struct cluster *cluster = cluster_new("app", &member, 1, true);
    struct node *node = cluster_node(cluster, 0);
    struct freshness_need need = {.floor = 1, .stick_node = -1};
    uint32_t login = freshness_now();
    uint32_t round = freshness_next();
    node_sample(node, round, round);
    assert_true(node_covers(node, &need, login));
    node_renew(node, true);
    assert_false(node_may_cover(node, &need));
    uint32_t new_login = freshness_now();
    round = freshness_next();
    node_sample(node, round, round);
    assert_false(node_covers(node, &need, login));
    assert_true(node_covers(node, &need, new_login));
    cluster_free(&cluster);
}

static void floors_only_rise(void **unused) {
    (void)unused;
    assert_int_equal(freshness_floor(100, NULL), 1);
    uint32_t first = freshness_raise(100, NULL);
    assert_int_equal(freshness_floor(100, NULL), first);
    assert_int_equal(first, freshness_now());
    uint32_t next = freshness_next();
    assert_int_equal(next, first + 1);
    assert_int_equal(freshness_floor(100, NULL), first);
    assert_int_equal(freshness_raise(100, NULL), next);
    assert_int_equal(freshness_floor(100, NULL), next);
    assert_int_equal(freshness_floor(201, NULL), 1); /* another database */
}

/* While another process writes, nothing is fresh enough; then only what is sampled later. */
static void held_floors_are_out_of_reach(void **unused) {
    (void)unused;
    freshness_hold();
    assert_int_equal(freshness_floor(100, NULL), UINT32_MAX);
    uint32_t now = freshness_next();
    assert_int_equal(freshness_raise(100, NULL), now);
    assert_int_equal(freshness_floor(100, NULL), UINT32_MAX);
    freshness_unhold();
    assert_int_equal(freshness_floor(100, NULL), now);
    assert_int_equal(freshness_floor(201, NULL), now);
}

static const struct {
    uint32_t timeline; /* 0: nothing is added, the replica is judged */
    uint64_t lsn;
    uint32_t number; /* added, or expected to be covered */
    uint32_t replica_timeline;
} steps[] = {
    {0, 100, 0, 1},                                                 /* nothing is known yet */
    {1, 100, 5, 0}, {0, 99, 0, 1},  {0, 100, 5, 1}, {0, 100, 0, 2}, /* another timeline */
    {0, 100, 0, 0},                                                 /* an unknown one */
    {1, 200, 6, 0}, {0, 100, 5, 1}, {0, 200, 6, 1}, {0, 999, 6, 1},
    {1, 200, 7, 0}, {0, 200, 7, 1}, {0, 199, 5, 1}, /* the same position, asked later */
    {2, 300, 8, 0}, {0, 300, 0, 1}, {0, 300, 8, 2}, {0, 250, 0, 2}, /* a new timeline */
    {2, 250, 9, 0}, {0, 260, 9, 2}, /* a primary that lost its tail in a crash */
};

static void histories_tell_what_is_covered(void **unused) {
    (void)unused;
    static struct freshness_history history;
    for (size_t i = 0; i < COUNT(steps); i++) {
        if (steps[i].timeline != 0) {
            freshness_history_add(&history, steps[i].number, steps[i].timeline, steps[i].lsn, 1);
            continue;
        }
        uint32_t covers =
            freshness_history_covers(&history, steps[i].replica_timeline, steps[i].lsn);
        if (covers != steps[i].number) fail_msg("row %zu: %u", i, covers);
    }
}

static void a_full_history_stays_true(void **unused) {
    (void)unused;
    static struct freshness_history history;
    for (uint32_t n = 1; n <= 10000; n++) {
        freshness_history_add(&history, n, 1, n * 10, n * 100);
        assert_true(history.count <= FRESHNESS_HISTORY_MAX);
        assert_int_equal(freshness_history_covers(&history, 1, n * 10), n);
    }
    /* Never more than was replayed, and not much less: by a fifth of its age at most. */
    for (uint32_t n = 1; n <= 10000; n++) {
        uint32_t covers = freshness_history_covers(&history, 1, n * 10);
        assert_true(covers <= n && covers > 0);
        assert_true(n - covers <= 1 + (10000 - covers) / 5);
    }
}

/*
 * The rule between threads. `written` stands for the primary's log: a write increments it. The
 * prober reads it as L(n), `replayed` follows it, and a node covers n once replayed >= L(n). A
 * writer writes, gets its answer, raises the floor, and tells its write to the reader through
 * `told`. The reader then takes the floor; if the node covers it, the write must be replayed.
 */
#define RULE_WRITES 20000u
#define RULE_HASH   77u

static _Atomic uint64_t written, told, replayed;
static atomic_bool is_over;
static struct node *rule_node;

static void *write_and_tell(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < RULE_WRITES; i++) {
        uint64_t mine = atomic_fetch_add_explicit(&written, 1, memory_order_acq_rel) + 1;
        (void)freshness_raise(RULE_HASH, NULL);
        atomic_store_explicit(&told, mine, memory_order_release);
        if (i % 64 == 0) (void)sched_yield();
    }
    atomic_store(&is_over, true);
    return NULL;
}

static void *probe_rounds(void *unused) {
    (void)unused;
    while (!atomic_load(&is_over)) {
        uint32_t round = freshness_next();
        uint64_t goal = atomic_load_explicit(&written, memory_order_acquire);
        /* The replica has replayed up to the goal, and no further. */
        atomic_store_explicit(&replayed, goal, memory_order_release);
        node_sample(rule_node, round, round);
        (void)sched_yield();
    }
    return NULL;
}

static void read_what_was_told(unsigned *covered, unsigned *refused) {
    uint64_t known = atomic_load_explicit(&told, memory_order_acquire);
    struct freshness_need need = {.floor = freshness_floor(RULE_HASH, NULL), .stick_node = -1};
    if (node_may_cover(rule_node, &need)) {
        ++*covered;
        CHECK(atomic_load_explicit(&replayed, memory_order_acquire) >= known);
    } else {
        ++*refused;
    }
    if ((*covered + *refused) % 16 == 0) (void)sched_yield();
}

static void a_covered_floor_means_a_replayed_write(void **unused) {
    (void)unused;
    static const struct cluster_member member = {"pg1", 5432, 1, NULL, false};
    struct cluster *cluster = cluster_new("app", &member, 1, true);
    rule_node = cluster_node(cluster, 0);
    unsigned covered = 0, refused = 0;
    /* Again, where the threads did not happen to run at the same time. */
    for (unsigned turn = 0; turn < 100 && refused == 0; turn++) {
        pthread_t writer, prober;
        atomic_store(&is_over, false);
        assert_int_equal(pthread_create(&prober, NULL, probe_rounds, NULL), 0);
        assert_int_equal(pthread_create(&writer, NULL, write_and_tell, NULL), 0);
        while (!atomic_load(&is_over)) read_what_was_told(&covered, &refused);
        assert_int_equal(pthread_join(writer, NULL), 0);
        assert_int_equal(pthread_join(prober, NULL), 0);
    }
    assert_true(refused > 0); /* else the test has tried nothing */
    cluster_free(&cluster);
}

/* An idle primary stays at its position; what counts is when it was there last. */
static void ages_are_those_of_what_is_shown(void **unused) {
    (void)unused;
    struct freshness_history history = {0};
    static const struct {
        uint64_t lsn, now_us, age_us;
    } ages[] = {
        {9, 5000, UINT64_MAX}, /* behind all that is known */
        {10, 5000, 3000},      /* it was there until 2000 */
        {15, 5000, 3000},      /* between two */
        {20, 5000, 2000},      {30, 5000, 0}, {31, 9000, 0},
    };
    assert_true(freshness_history_age_us(&history, 1, 1) == UINT64_MAX);
    freshness_history_add(&history, 1, 1, 10, 1000);
    freshness_history_add(&history, 2, 1, 10, 2000);
    freshness_history_add(&history, 3, 1, 20, 3000);
    freshness_history_add(&history, 4, 1, 30, 4000);
    for (size_t i = 0; i < COUNT(ages); i++) {
        uint64_t age_us = freshness_history_age_us(&history, ages[i].lsn, ages[i].now_us);
        if (age_us != ages[i].age_us) fail_msg("row %zu: %lu", i, age_us);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_are_those_of_what_is_shown),
        cmocka_unit_test(floors_only_rise),
        cmocka_unit_test(insert_positions_become_goals),
        cmocka_unit_test(positions_are_read),
        cmocka_unit_test(connections_are_judged),
        cmocka_unit_test(a_reset_outdates_older_logins),
        cmocka_unit_test(held_floors_are_out_of_reach),
        cmocka_unit_test(histories_tell_what_is_covered),
        cmocka_unit_test(a_full_history_stays_true),
        cmocka_unit_test(a_covered_floor_means_a_replayed_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
