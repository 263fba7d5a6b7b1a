/*
 * Nodes and clusters; see cluster/node.h.
 *
 * A cluster never changes its members: a reload that changes them makes a new cluster, and the old
 * one lives until the last server and the last waiter that came from it have gone. Which of its
 * fields may be read by whom is said in the header; locks are taken for reports and facts only.
 */
#include "cluster/node.h"

#include "cluster/fitness.h"
#include "cluster/nudge.h"
#include "cluster/report.h"
#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/facts.h"

#include <pthread.h>

struct cluster {
    atomic_uint references;
    _Atomic int primary;
    bool is_probed;
    char *name;
    size_t count;
    struct cluster_nudge nudge;
    struct report_board *board;
    pthread_mutex_t mutex; /* of: */
    struct facts *facts;
    _Atomic uint32_t generation; /* of the facts; 0: none */
    struct node nodes[];
};

static const char *const role_texts[] = {
    [NODE_UNKNOWN] = "unknown", [NODE_PRIMARY] = "primary",   [NODE_REPLICA] = "replica",
    [NODE_RIVAL] = "rival",     [NODE_STRANGER] = "stranger", [NODE_ANY] = "any",
};

static const char *const state_texts[] = {
    [NODE_UNTRIED] = "untried",
    [NODE_UP] = "up",
    [NODE_DOWN] = "down",
};

const char *node_role_text(enum node_role role) {
    return role_texts[role];
}

const char *node_state_text(enum node_state state) {
    return state_texts[state];
}

/* The host alone where no other member has it. */
static char *display_name(const struct cluster_member *members, size_t count, size_t at) {
    size_t same = 0;
    for (size_t i = 0; i < count; i++) same += strcmp(members[i].host, members[at].host) == 0;
    struct buf text = {0};
    buf_append_text(&text, members[at].host);
    if (same > 1) buf_append_format(&text, ":%u", members[at].port);
    struct bytes content = buf_content(&text);
    char *name = memory_copy(content.at, content.len);
    buf_release(&text);
    return name;
}

struct cluster *cluster_new(const char *name, const struct cluster_member *members, size_t count,
                            bool is_probed) {
    CHECK(count >= 1 && count <= CLUSTER_NODES_MAX);
    struct cluster *cluster = memory_new(sizeof *cluster + count * sizeof cluster->nodes[0]);
    atomic_init(&cluster->references, 1);
    atomic_init(&cluster->primary, -1);
    cluster->is_probed = is_probed;
    cluster->name = memory_copy_text(name);
    cluster->count = count;
    cluster->board = report_board_new(count);
    CHECK(pthread_mutex_init(&cluster->mutex, NULL) == 0);
    for (size_t i = 0; i < count; i++) {
        struct node *node = &cluster->nodes[i];
        node->index = (unsigned)i;
        node->name = display_name(members, count, i);
        node->host = memory_copy_text(members[i].host);
        node->port = members[i].port;
        node->ramp = NODE_RAMP_FULL;
        node_weigh(node, &members[i]);
        atomic_init(&node->role, is_probed ? NODE_UNKNOWN : NODE_ANY);
        atomic_init(&node->state, is_probed ? NODE_UNTRIED : NODE_UP);
    }
    return cluster;
}

struct cluster *cluster_share(struct cluster *cluster) {
    /* Who shares has a reference already, so nothing has to be ordered. */
    unsigned before = atomic_fetch_add_explicit(&cluster->references, 1, memory_order_relaxed);
    CHECK(before >= 1);
    return cluster;
}

void cluster_free(struct cluster **cluster_at) {
    struct cluster *cluster = *cluster_at;
    if (cluster == NULL) return;
    *cluster_at = NULL;
    /* Release: what this thread did with the cluster is over for whoever frees it; acquire: that
     * is so for the freeing thread. */
    unsigned before = atomic_fetch_sub_explicit(&cluster->references, 1, memory_order_acq_rel);
    CHECK(before >= 1);
    if (before > 1) return;
    for (size_t i = 0; i < cluster->count; i++) {
        memory_free(cluster->nodes[i].name);
        memory_free(cluster->nodes[i].host);
        memory_free(cluster->nodes[i].zone);
    }
    report_board_free(&cluster->board);
    facts_free(&cluster->facts);
    CHECK(pthread_mutex_destroy(&cluster->mutex) == 0);
    memory_free(cluster->name);
    memory_free(cluster);
}

const char *cluster_name(const struct cluster *cluster) {
    return cluster->name;
}

size_t cluster_count(const struct cluster *cluster) {
    return cluster->count;
}

bool cluster_is_probed(const struct cluster *cluster) {
    return cluster->is_probed;
}

struct node *cluster_node(struct cluster *cluster, size_t index) {
    CHECK(index < cluster->count);
    return &cluster->nodes[index];
}

const struct node *cluster_node_const(const struct cluster *cluster, size_t index) {
    CHECK(index < cluster->count);
    return &cluster->nodes[index];
}

int cluster_primary(const struct cluster *cluster) {
    return atomic_load_explicit(&cluster->primary, memory_order_acquire);
}

uint64_t cluster_all(const struct cluster *cluster) {
    return UINT64_MAX >> (CLUSTER_NODES_MAX - cluster->count);
}

void cluster_learn(struct cluster *cluster, struct facts **facts) {
    if (cluster == NULL) {
        facts_free(facts);
        return;
    }
    uint32_t newest = atomic_load_explicit(&cluster->generation, memory_order_acquire);
    if (newest == (*facts == NULL ? 0 : facts_generation(*facts))) return;
    facts_free(facts);
    CHECK(pthread_mutex_lock(&cluster->mutex) == 0);
    if (cluster->facts != NULL) *facts = facts_share(cluster->facts);
    CHECK(pthread_mutex_unlock(&cluster->mutex) == 0);
}

void cluster_set_facts(struct cluster *cluster, struct facts *facts) {
    CHECK(pthread_mutex_lock(&cluster->mutex) == 0);
    struct facts *old = cluster->facts;
    cluster->facts = facts;
    CHECK(pthread_mutex_unlock(&cluster->mutex) == 0);
    atomic_store_explicit(&cluster->generation, facts_generation(facts), memory_order_release);
    facts_free(&old);
}

void node_become(struct node *node, enum node_role role, enum node_state state) {
    CHECK(node_role(node) != NODE_ANY && role != NODE_ANY);
    atomic_store_explicit(&node->role, role, memory_order_release);
    atomic_store_explicit(&node->state, state, memory_order_release);
}

void cluster_set_primary(struct cluster *cluster, int index) {
    CHECK(cluster->is_probed && index >= -1 && index < (int)cluster->count);
    atomic_store_explicit(&cluster->primary, index, memory_order_release);
}

struct cluster_nudge *cluster_nudge(struct cluster *cluster) {
    return &cluster->nudge;
}

struct report_board *cluster_board(struct cluster *cluster) {
    return cluster->board;
}
