/* See pool/moved.h. It runs when an answer has lacked an address of the one before, and looks at
 * all servers: it is rare, and asking again does no harm. A probed node goes where its probe goes,
 * which resets it when it has arrived there. */
#include "pool/moved.h"

#include "net/dns.h"
#include "pool/pool.h"

static void judge(struct server *server, struct dns *dns) {
    const struct node *place = cluster_node_const(server->node->cluster, server->host);
    int fd = stream_descriptor(&server->stream);
    char address[ENDPOINT_TEXT_SIZE];
    unsigned port = 0;
    if (fd < 0 || server->is_own) return; /* an own one ends with its borrower anyhow */
    endpoint_describe(fd, true, address, &port);
    if (port > 0 && dns_has_left(dns, place->host, address)) pool_replace(server);
}

static void judge_node(struct pool_node *node, struct dns *dns) {
    if (cluster_is_probed(node->cluster)) return;
    for (unsigned state = SERVER_LOGIN; state < SERVER_CLOSED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            judge(LIST_OWNER(l, struct server, link), dns);
        }
    }
}

void moved_replace(struct pool_set *set, struct dns *dns) {
    LIST_EACH (&set->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (size_t i = 0; i < pool->nodes_count; i++) judge_node(pool->nodes[i], dns);
    }
}
