/*
 * The prober without a server: nodes that refuse are named with their errors, threads may nudge
 * at any time, also while the prober is closed, and nudges do not multiply rounds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/freshness.h"
#include "cluster/probe.h"
#include "cluster/report.h"
#include "core/check.h"
#include "net/loop.h"

#include <pthread.h>
#include <sched.h>

static const struct cluster_member members[] = {{"127.0.0.1", 1, 1, NULL, false},
                                                {"127.0.0.1", 2, 1, NULL, false},
                                                {"/nowhere/at/all", 5432, 1, NULL, false}};
static const struct probe_settings settings = {.user = "u", .database = "d", .interval_ms = 20};

static void on_changed(void *owner, struct cluster *cluster) {
    (void)cluster;
    ++*(unsigned *)owner;
}

static void on_reset(void *owner, struct cluster *cluster, unsigned node, const char *why) {
    (void)cluster;
    (void)node;
    (void)why;
    CHECK(owner == NULL); /* no node has ever stood here */
}

static const struct probe_ops ops = {on_changed, on_reset};

struct stopper {
    struct loop_timer timer;
    struct loop *loop;
};

static void on_time(struct loop_timer *timer) {
    loop_stop(LIST_OWNER(timer, struct stopper, timer)->loop);
}

static void run_for(struct loop *loop, uint64_t ms) {
    struct stopper stopper = {.timer.run = on_time, .loop = loop};
    loop_timer_start(loop, &stopper.timer, ms, 0);
    loop_run(loop);
    loop_timer_stop(&stopper.timer);
}

static const struct {
    const char *name;
    const char *error;
} expected[] = {
    {"127.0.0.1:1", "connect failed: Connection refused"},
    {"127.0.0.1:2", "connect failed: Connection refused"},
    {"/nowhere/at/all", "connect failed: No such file or directory"},
};

static void refusing_nodes_are_down_and_say_why(void **unused) {
    (void)unused;
    struct loop *loop = loop_new();
    struct cluster *cluster = cluster_new("app", members, COUNT(members), true);
    unsigned changes = 0;
    struct probe *probe = probe_open(loop, cluster, &settings, &ops, &changes);
    run_for(loop, 400);
    for (size_t i = 0; i < COUNT(expected); i++) {
        struct node_report report;
        node_report_get(cluster, i, &report);
        assert_string_equal(cluster_node(cluster, i)->name, expected[i].name);
        assert_string_equal(report.error, expected[i].error);
        assert_int_equal(report.state, NODE_DOWN);
        assert_int_equal(report.role, NODE_UNKNOWN);
        assert_int_equal(report.sampled, 0);
    }
    char trouble[CLUSTER_TROUBLE_SIZE];
    cluster_trouble_get(cluster, trouble);
    assert_non_null(strstr(trouble, "no node answers as primary (127.0.0.1:1: connect failed"));
    assert_int_equal(changes, COUNT(expected)); /* each node was down once */
    probe_close(&probe);
    assert_null(probe);
    cluster_free(&cluster);
    loop_free(&loop);
}

static struct cluster *nudged;
static atomic_bool is_over;

static void *nudge(void *unused) {
    (void)unused;
    while (!atomic_load(&is_over)) {
        probe_nudge(nudged);
        (void)sched_yield();
    }
    return NULL;
}

static void threads_may_nudge_at_any_time(void **unused) {
    (void)unused;
    struct loop *loop = loop_new();
    nudged = cluster_new("app", members, 1, true);
    unsigned changes = 0;
    pthread_t threads[2];
    for (size_t i = 0; i < COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, nudge, NULL), 0);
    }
    for (unsigned i = 0; i < 5; i++) {
        struct probe *probe = probe_open(loop, nudged, &settings, &ops, &changes);
        uint32_t before = freshness_now();
        run_for(loop, 60);
        uint32_t rounds = freshness_now() - before;
        assert_true(rounds >= 1 && rounds <= 30); /* one in 5 ms at most, with leeway */
        probe_close(&probe);
    }
    atomic_store(&is_over, true);
    for (size_t i = 0; i < COUNT(threads); i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    run_for(loop, 5); /* takes the last nudge, which holds a reference, out of the mailbox */
    cluster_free(&nudged);
    loop_free(&loop);
}

static void a_nudge_brings_the_next_round_forward(void **unused) {
    (void)unused;
    static const struct probe_settings slow = {.user = "u", .database = "d", .interval_ms = 60000};
    struct loop *loop = loop_new();
    struct cluster *cluster = cluster_new("app", members, 1, true);
    unsigned changes = 0;
    probe_nudge(cluster); /* nobody probes yet: nothing happens */
    struct probe *probe = probe_open(loop, cluster, &slow, &ops, &changes);
    uint32_t before = freshness_now();
    run_for(loop, 20);
    assert_int_equal(freshness_now(), before);
    probe_nudge(cluster);
    probe_nudge(cluster);
    run_for(loop, 40);
    assert_int_equal(freshness_now(), before + 1);
    probe_close(&probe);
    cluster_free(&cluster);
    loop_free(&loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refusing_nodes_are_down_and_say_why),
        cmocka_unit_test(threads_may_nudge_at_any_time),
        cmocka_unit_test(a_nudge_brings_the_next_round_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
