/* See pool/vacate.h. It is rare, and looks at all pools: several entries may lead to one database.
 */
#include "pool/vacate.h"

#include "pool/pool.h"

static void close_node(const struct pool_node *node, const char *host, unsigned port) {
    for (unsigned state = SERVER_IDLE; state <= SERVER_USED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            struct server *server = LIST_OWNER(l, struct server, link);
            const struct node *place = cluster_node_const(node->cluster, server->host);
            if (place->port == port && strcmp(place->host, host) == 0)
                server_close(server, "its database is wanted without sessions");
        }
    }
}

void vacate_close_idle(struct pool_set *set, const char *host, unsigned port,
                       const char *database) {
    LIST_EACH (&set->all, l) {
        const struct pool *pool = LIST_OWNER(l, struct pool, link);
        struct bytes name = bytes_of_text(pool->database->name);
        const struct config_database *entry = config_database(set->config, name);
        if (entry == NULL || !bytes_equal_text(config_dbname(entry, name), database)) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) close_node(pool->nodes[i], host, port);
    }
}
