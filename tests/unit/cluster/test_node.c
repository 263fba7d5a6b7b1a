/*
 * Nodes, clusters and their reports: names, sets, references, and reports that are read while
 * they are written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/freshness.h"
#include "cluster/report.h"
#include "core/check.h"

#include <pthread.h>
#include <stdio.h>

static const struct {
    struct cluster_member members[3];
    size_t count;
    const char *names[3];
    uint64_t all;
} names[] = {
    {{{"pg1", 5432, 1, NULL, false}}, 1, {"pg1"}, 1},
    {{{"pg1", 5432, 1, NULL, false}, {"pg2", 5432, 1, "x", false}}, 2, {"pg1", "pg2"}, 3},
    {{{"::1", 1, 1, NULL, false}, {"::1", 2, 1, NULL, false}}, 2, {"::1:1", "::1:2"}, 3},
    {{{"a", 1, 1, NULL, false}, {"a", 2, 1, NULL, false}, {"b", 1, 1, NULL, false}},
     3,
     {"a:1", "a:2", "b"},
     7},
};

static void nodes_have_names(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct cluster *cluster = cluster_new("app", names[i].members, names[i].count, true);
        assert_string_equal(cluster_name(cluster), "app");
        assert_int_equal(cluster_count(cluster), names[i].count);
        assert_int_equal(cluster_all(cluster), names[i].all);
        for (size_t n = 0; n < names[i].count; n++) {
            const struct node *node = cluster_node_const(cluster, n);
            assert_string_equal(node->name, names[i].names[n]);
            assert_int_equal(node->index, n);
            assert_int_equal(node_role(node), NODE_UNKNOWN);
            assert_int_equal(node_state(node), NODE_UNTRIED);
        }
        assert_int_equal(cluster_primary(cluster), -1);
        cluster_free(&cluster);
        assert_null(cluster);
    }
}

static void a_full_cluster_is_a_full_set(void **unused) {
    (void)unused;
    struct cluster_member members[CLUSTER_NODES_MAX];
    for (unsigned i = 0; i < COUNT(members); i++) {
        members[i] = (struct cluster_member){"h", i + 1, 1, NULL, false};
    }
    struct cluster *cluster = cluster_new("app", members, COUNT(members), false);
    assert_true(cluster_all(cluster) == UINT64_MAX);
    assert_int_equal(node_role(cluster_node(cluster, 63)), NODE_ANY);
    assert_int_equal(node_state(cluster_node(cluster, 63)), NODE_UP);
    cluster_free(&cluster);
}

static struct cluster *shared;

/* Takes and gives back references, counts servers, and reads reports. */
static void *use_cluster(void *unused) {
    (void)unused;
    for (unsigned i = 0; i < 2000; i++) {
        struct cluster *mine = cluster_share(shared);
        node_add_active(cluster_node(mine, 0), 1);
        struct node_report report;
        node_report_get(mine, 0, &report);
        /* A report is of one moment. */
        char expected[NODE_ERROR_SIZE];
        (void)snprintf(expected, sizeof expected, "%s%lu", report.error[0] == '\0' ? "" : "error ",
                       (unsigned long)report.lsn);
        if (report.error[0] != '\0') CHECK(strcmp(report.error, expected) == 0);
        char trouble[CLUSTER_TROUBLE_SIZE];
        cluster_trouble_get(mine, trouble);
        node_add_active(cluster_node(mine, 0), -1);
        cluster_free(&mine);
    }
    struct cluster *last = shared; /* this thread's own reference */
    cluster_free(&last);
    return NULL;
}

static void threads_share_a_cluster(void **unused) {
    (void)unused;
    static const struct cluster_member member = {"pg1", 5432, 1, NULL, false};
    shared = cluster_new("app", &member, 1, true);
    struct cluster *mine = shared;
    pthread_t threads[3];
    for (size_t i = 0; i < COUNT(threads); i++) {
        (void)cluster_share(shared);
        assert_int_equal(pthread_create(&threads[i], NULL, use_cluster, NULL), 0);
    }
    for (unsigned i = 1; i <= 2000; i++) {
        struct node_report report = {.lsn = i};
        (void)snprintf(report.error, sizeof report.error, "error %u", i);
        node_report_set(mine, 0, &report);
        cluster_trouble_set(mine, i % 2 == 0 ? "" : "no primary");
    }
    for (size_t i = 0; i < COUNT(threads); i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(node_active(cluster_node(mine, 0)), 0);
    cluster_free(&mine);
}

static void reports_follow_the_atomics(void **unused) {
    (void)unused;
    static const struct cluster_member member = {"pg1", 5432, 1, NULL, false};
    struct cluster *cluster = cluster_new("app", &member, 1, true);
    uint32_t now = freshness_next();
    node_become(cluster_node(cluster, 0), NODE_REPLICA, NODE_DOWN);
    node_renew(cluster_node(cluster, 0), false);
    node_sample(cluster_node(cluster, 0), now - 1, now);
    struct node_report report;
    node_report_get(cluster, 0, &report);
    assert_int_equal(report.role, NODE_REPLICA);
    assert_int_equal(report.state, NODE_DOWN);
    assert_int_equal(report.incarnation, 1);
    assert_int_equal(report.covers, now - 1);
    assert_int_equal(report.sampled, now);
    cluster_free(&cluster);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_have_names),
        cmocka_unit_test(a_full_cluster_is_a_full_set),
        cmocka_unit_test(threads_share_a_cluster),
        cmocka_unit_test(reports_follow_the_atomics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
