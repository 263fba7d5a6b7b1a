/*
 * What must be true between two turns; see world.h. pool_verify is the pools'
 * own; the rest looks at clients, at permits, and at how much memory a
 * connection holds.
 */
#include "core/check.h"
#include "world.h"

/* Up to two reads come on top of what was queued when the reading stopped. */
#define QUEUED_MAX (STREAM_HIGH_BYTES + 2 * LOOP_READ_BYTES)
#define KEPT_MAX   (STREAM_HIGH_BYTES + 2 * LOOP_READ_BYTES)
#define HELD_MAX   (65536u + LOOP_READ_BYTES)

static void verify_size(struct world *world, const char *what, size_t size, size_t max) {
    if (size > max) world_fail(world, "%s holds %zu bytes, at most %zu", what, size, max);
}

static void verify_client(struct world *world, const struct client *client) {
    bool has_server = client->borrower.server != NULL;
    bool is_waiting = link_is_listed(&client->borrower.waiting);
    verify_size(world, "a client's queue", stream_queued(&client->stream), QUEUED_MAX);
    verify_size(world, "a client's kept input", buf_length(&client->kept), KEPT_MAX);
    verify_size(world, "a client's held answers", buf_length(&client->retry.held), HELD_MAX);
    verify_size(world, "a client's gathered answer", buf_length(&client->reply.gather), 65536u);
    if (has_server != (client->state == CLIENT_ACTIVE))
        world_fail(world, "a client has a server and is not active, or the other way round");
    if (is_waiting != (client->state == CLIENT_WAITING || client->state == CLIENT_WELCOME))
        world_fail(world, "a client stands in line and does not wait, or the other way round");
    if (!has_server && !pipeline_is_empty(&client->pipeline))
        world_fail(world, "a client without a server is owed replies by one");
    enum begin_state begin = (enum begin_state)client->begin.state;
    bool is_begun = begin == BEGIN_HELD || begin == BEGIN_FAILED;
    if (client->state == CLIENT_IDLE && (client->transaction != 'I') != is_begun)
        world_fail(world, "a client in a transaction has lost its server, or the other way round");
    if ((begin == BEGIN_NONE) != (buf_length(&client->begin.texts) == 0))
        world_fail(world, "a client holds a BEGIN, or not, and its state tells otherwise");
    if (begin == BEGIN_SENT && !has_server)
        world_fail(world, "a BEGIN has been sent, and there is no server");
    if (begin == BEGIN_FAILED && has_server)
        world_fail(world, "a transaction that has failed before it began has a server");
    verify_size(world, "a client's held BEGIN", buf_length(&client->begin.texts), 2048u);
}

static void verify_server(struct world *world, const struct server *server) {
    verify_size(world, "a server's queue", stream_queued(&server->stream), QUEUED_MAX);
    verify_size(world, "a server's gathered message", buf_length(&server->gather), 65536u);
    if (server->state == SERVER_IDLE && server->transaction != 'I')
        world_fail(world, "an idle server is in a transaction");
    if (server->state == SERVER_IDLE && stream_queued(&server->stream) > 0 &&
        !world->are_servers_stalled && world->idle_turns > 3)
        world_fail(world, "an idle server has something to send");
}

static void verify_pool(struct world *world, const struct pool *pool) {
    pool_verify(pool);
    for (size_t i = 0; i < pool->nodes_count; i++) {
        const struct pool_node *node = pool->nodes[i];
        size_t count = 0;
        for (unsigned state = 0; state < SERVER_CLOSED; state++) {
            LIST_EACH (&node->servers[state], l) {
                verify_server(world, LIST_OWNER(l, struct server, link));
                count++;
            }
        }
        int used = atomic_load(&node->permit->used);
        int limit = atomic_load(&node->permit->limit);
        if (used != (int)count) world_fail(world, "%d permits for %zu servers", used, count);
        if (limit > 0 && used > limit) world_fail(world, "%d permits of %d", used, limit);
    }
}

void verify_turn(struct world *world) {
    for (unsigned state = 0; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&world->clients.clients[state], l) {
            verify_client(world, LIST_OWNER(l, struct client, link));
        }
    }
    LIST_EACH (&world->pools.all, l) {
        verify_pool(world, LIST_OWNER(l, struct pool, link));
    }
}

void verify_gone(struct world *world) {
    for (unsigned state = 0; state < CLIENT_CLOSED; state++) {
        struct link *first = list_first(&world->clients.clients[state]);
        if (first == NULL) continue;
        const struct client *client = LIST_OWNER(first, struct client, link);
        world_fail(world, "a client that left is still there: %s, %s, %s, %zu bytes kept",
                   client_state_text(client), client->doing,
                   client->stream.is_reading ? "reading" : "not reading",
                   buf_length(&client->kept));
    }
}

void verify_rest(struct world *world) {
    LIST_EACH (&world->pools.all, l) {
        const struct pool *pool = LIST_OWNER(l, struct pool, link);
        size_t idle = pool_count(pool, SERVER_IDLE) + pool_count(pool, SERVER_USED);
        size_t all = 0;
        for (unsigned state = 0; state <= SERVER_CLOSED; state++)
            all += pool_count(pool, (enum server_state)state);
        if (idle != all) world_fail(world, "%zu of %zu servers are not idle", all - idle, all);
        if (pool_waiters(pool) > 0) world_fail(world, "somebody waits who is not there");
    }
    if (world->pools.cancels.count > 0) world_fail(world, "a cancel request is left over");
    if (atomic_load(&world->clients_total) != 0) world_fail(world, "the count of clients is wrong");
}
