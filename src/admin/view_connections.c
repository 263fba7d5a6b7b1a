/*
 * SHOW CLIENTS and SHOW SERVERS: each worker writes the rows of its own connections, on its own
 * thread. `ptr` and `link` are made from the numbers of connections, as in the log; addresses of
 * memory are nobody's business.
 */
#include "views.h"

static void write_ptr(struct rows *rows, uint32_t id) {
    struct buf text = {0};
    if (id != 0) buf_append_format(&text, "0x%x", id);
    rows_text(rows, buf_text(&text));
    buf_release(&text);
}

/* Address and port of both ends; true for a Unix socket, whose port is the one that names it. */
static bool write_addresses(struct rows *rows, const struct stream *stream, unsigned unix_port,
                            const char *host) {
    char peer[ENDPOINT_TEXT_SIZE] = "", local[ENDPOINT_TEXT_SIZE] = "";
    unsigned peer_port = unix_port, local_port = 0;
    if (stream_is_open(stream)) {
        int fd = stream_descriptor(stream);
        endpoint_describe(fd, true, peer, &peer_port);
        endpoint_describe(fd, false, local, &local_port);
    }
    bool is_unix = strcmp(peer, "unix") == 0;
    if (is_unix) peer_port = local_port = unix_port;
    rows_text(rows, peer[0] != '\0' ? peer : host);
    rows_number(rows, peer_port);
    rows_text(rows, local);
    rows_number(rows, local_port);
    return is_unix;
}

static int application_name_index(const struct pool_set *set) {
    return parameters_index(set, bytes_of_text("application_name"));
}

static void write_application_name(struct rows *rows, struct text *const *values, int index) {
    rows_text(rows, index < 0 || values[index] == NULL ? "" : values[index]->at);
}

/* ---- clients */

static bool is_waiting(const struct client *client) {
    return client->state == CLIENT_WAITING || client->state == CLIENT_WELCOME;
}

static int unix_peer_pid(const struct stream *stream) {
    unsigned uid;
    int pid;
    return endpoint_is_unix(stream_descriptor(stream), &uid, &pid) ? pid : 0;
}

static const char *client_node(const struct client *client) {
    const struct server *server = client->borrower.server;
    if (server == NULL) return "";
    return cluster_node_const(server->node->cluster, server->host)->name;
}

static void write_client(struct gather_part *part, const struct client *client, int name_index) {
    struct rows *rows = &part->rows;
    const struct pool_set *set = part->worker->pools;
    const struct server *server = client->borrower.server;
    uint64_t now_us = loop_now_us(part->worker->loop);
    uint64_t since_us = is_waiting(client) ? client->borrower.since_us : 0;
    rows_begin(rows);
    rows_text(rows, "C");
    rows_text(rows, client->user == NULL ? "(nouser)" : client->user->at);
    rows_text(rows, client->database == NULL ? "(nodb)" : client->database->at);
    rows_text(rows, "none");
    rows_text(rows, client->state == CLIENT_CONSOLE ? "idle" : client_state_text(client));
    bool is_unix = write_addresses(rows, &client->stream, (unsigned)set->config->listen_port, "");
    rows_time(rows, client->connected_wall_us);
    rows_time(rows,
              client->request_wall_us != 0 ? client->request_wall_us : client->connected_wall_us);
    rows_wait(rows, since_us == 0 || since_us > now_us ? 0 : now_us - since_us);
    rows_number(rows, 0);
    write_ptr(rows, client->id);
    write_ptr(rows, server == NULL ? 0 : server->id);
    rows_number(rows, is_unix ? (uint64_t)unix_peer_pid(&client->stream) : 0);
    rows_text(rows, "");
    write_application_name(rows, client->parameters.values, name_index);
    rows_number(rows, client->names.map.count);
    rows_number(rows, client->id);
    rows_text(rows, client_node(client));
    rows_number(rows, part->index);
    rows_text(rows, client->sticky == NULL ? "" : client->sticky->at);
    rows_end(rows);
}

void view_clients(struct gather_part *part) {
    int name_index = application_name_index(part->worker->pools);
    for (unsigned state = CLIENT_WELCOME; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&part->worker->clients->clients[state], l) {
            write_client(part, LIST_OWNER(l, struct client, link), name_index);
        }
    }
}

/* ---- servers */

/* All who borrow are clients. */
static uint32_t borrower_id(const struct server *server) {
    if (server->borrower == NULL) return 0;
    return LIST_OWNER(server->borrower, struct client, borrower)->id;
}

static void write_server(struct gather_part *part, const struct server *server, int name_index) {
    struct rows *rows = &part->rows;
    const struct node *node = cluster_node_const(server->node->cluster, server->host);
    const struct server_memory *memory = server->memory;
    rows_begin(rows);
    rows_text(rows, "S");
    rows_text(rows, server->pool->user);
    rows_text(rows, server->pool->database->name);
    rows_text(rows, "none");
    rows_text(rows, server_state_text(server));
    (void)write_addresses(rows, &server->stream, node->port, node->host);
    rows_time(rows, server->connected_wall_us);
    rows_time(rows,
              server->request_wall_us != 0 ? server->request_wall_us : server->connected_wall_us);
    rows_wait(rows, 0);
    rows_number(rows, server->is_close_needed);
    write_ptr(rows, server->id);
    write_ptr(rows, borrower_id(server));
    rows_number(rows, server->backend_pid);
    rows_text(rows, "");
    write_application_name(rows, server->parameters, name_index);
    rows_number(rows, memory == NULL ? 0 : memory->lru.count);
    rows_number(rows, server->id);
    rows_text(rows, node->name);
    rows_number(rows, part->index);
    rows_end(rows);
}

static void write_node_servers(struct gather_part *part, const struct pool_node *node,
                               int name_index) {
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        LIST_EACH (&node->servers[state], l) {
            write_server(part, LIST_OWNER(l, struct server, link), name_index);
        }
    }
}

void view_servers(struct gather_part *part) {
    int name_index = application_name_index(part->worker->pools);
    LIST_EACH (&part->worker->pools->all, l) {
        const struct pool *pool = LIST_OWNER(l, struct pool, link);
        for (size_t i = 0; i < pool->nodes_count; i++)
            write_node_servers(part, pool->nodes[i], name_index);
        LIST_EACH (&pool->old_nodes, old) {
            write_node_servers(part, LIST_OWNER(old, struct pool_node, old), name_index);
        }
    }
}
