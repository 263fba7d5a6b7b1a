/*
 * Reports on nodes; see cluster/report.h.
 *
 * One mutex for each cluster guards its texts. It is held for the copy of one report and never
 * while anything else is done, and no data path takes it. Role, state, incarnation and freshness
 * are not kept here: they are read from the node's atomics when a report is asked for.
 */
#include "cluster/report.h"

#include "cluster/fitness.h"
#include "cluster/freshness.h"
#include "core/check.h"
#include "core/memory.h"

#include <pthread.h>
#include <stdio.h>

struct report_board {
    pthread_mutex_t mutex;
    size_t count;
    char trouble[CLUSTER_TROUBLE_SIZE];
    struct node_report reports[];
};

struct report_board *report_board_new(size_t count) {
    struct report_board *board = memory_new(sizeof *board + count * sizeof board->reports[0]);
    CHECK(pthread_mutex_init(&board->mutex, NULL) == 0);
    board->count = count;
    return board;
}

void report_board_free(struct report_board **board_at) {
    struct report_board *board = *board_at;
    if (board == NULL) return;
    *board_at = NULL;
    CHECK(pthread_mutex_destroy(&board->mutex) == 0);
    memory_free(board);
}

static void lock(struct report_board *board) {
    CHECK(pthread_mutex_lock(&board->mutex) == 0);
}

static void unlock(struct report_board *board) {
    CHECK(pthread_mutex_unlock(&board->mutex) == 0);
}

void node_report_get(struct cluster *cluster, size_t index, struct node_report *report) {
    struct report_board *board = cluster_board(cluster);
    CHECK(index < board->count);
    lock(board);
    *report = board->reports[index];
    unlock(board);
    const struct node *node = cluster_node_const(cluster, index);
    uint64_t pair = atomic_load_explicit(&node->freshness, memory_order_acquire);
    report->role = node_role(node);
    report->state = node_state(node);
    report->incarnation = node_incarnation(node);
    report->errors = atomic_load_explicit(&node->errors, memory_order_relaxed);
    report->share = node_share(node);
    report->covers = freshness_covers(pair);
    report->sampled = freshness_sampled(pair);
}

void node_report_set(struct cluster *cluster, size_t index, const struct node_report *report) {
    struct report_board *board = cluster_board(cluster);
    CHECK(index < board->count);
    lock(board);
    board->reports[index] = *report;
    unlock(board);
}

void cluster_trouble_get(struct cluster *cluster, char trouble[CLUSTER_TROUBLE_SIZE]) {
    struct report_board *board = cluster_board(cluster);
    lock(board);
    memcpy(trouble, board->trouble, CLUSTER_TROUBLE_SIZE);
    unlock(board);
}

void cluster_trouble_set(struct cluster *cluster, const char *trouble) {
    struct report_board *board = cluster_board(cluster);
    lock(board);
    (void)snprintf(board->trouble, sizeof board->trouble, "%s", trouble);
    unlock(board);
}
