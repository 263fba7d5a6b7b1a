/* Servers and pools that change the process; see pool/move.h. */
#include "pool/move.h"

#include "auth/users.h"
#include "core/clock.h"
#include "core/memory.h"
#include "net/socket.h"
#include "pool/room.h"
#include "pool/secrets.h"

#include <sys/socket.h>
#include <unistd.h>

/* ---- pools */

void pool_pack_name(const struct pool *pool, struct buf *out) {
    pack_text(out, bytes_of_text(pool->database->name));
    pack_text(out, bytes_of_text(pool->user));
}

struct pool *pool_unpack_name(struct pool_set *set, struct unpack *in) {
    struct bytes name = unpack_text(in);
    struct bytes user = unpack_text(in);
    struct database *database = databases_hold(set->databases, set->config, name);
    struct pool *pool = NULL;
    if (database == NULL) return NULL;
    if (!in->is_bad && !atomic_load(&database->is_removed)) pool = pool_get(set, database, user);
    database_release(database);
    return pool;
}

void pool_pack(const struct pool *pool, struct buf *out) {
    const struct greeting *greeting = pool_shared_greeting(pool->nodes[0]->shared);
    const struct user *met =
        pool->met == NULL ? NULL : users_find(pool->met, bytes_of_text(pool->user));
    pack_text(out,
              greeting == NULL ? bytes_of("", 0) : bytes_of(greeting->messages, greeting->len));
    pack_text(out, bytes_of((const char *)&pool->scram, sizeof pool->scram));
    pack_text(out, met == NULL ? bytes_of("", 0) : met->secret);
}

void pool_unpack(struct pool *pool, struct unpack *in) {
    struct bytes greeting = unpack_text(in);
    struct bytes keys = unpack_text(in);
    struct bytes secret = unpack_text(in);
    struct scram_client_cache scram;
    if (in->is_bad || keys.len != sizeof scram) return;
    if (greeting.len > 0)
        pool_shared_greet(pool->nodes[0]->shared, greeting,
                          atomic_load(&pool->database->reconnects));
    memcpy(&scram, keys.at, sizeof scram);
    if (scram.iterations > 0) pool_take_keys(pool, &scram);
    memory_wipe(&scram, sizeof scram);
    if (secret.len == 0) return;
    struct users *met = users_new_like(pool->set->users);
    struct buf error = {0};
    if (users_add(met, bytes_of_text(pool->user), secret, &error)) pool_take_met(pool, &met);
    users_free(&met);
    buf_release(&error);
}

/* ---- servers */

static struct bytes content(const struct text *text) {
    return text == NULL ? bytes_of("", 0) : bytes_of(text->at, text->len);
}

/* What its session has asked for at its start; without a greeting it can serve no other. */
static void unpack_start(struct server *server, struct unpack *in) {
    struct texts *texts = server->pool->set->texts;
    struct bytes start = unpack_text(in), greeting = unpack_text(in);
    if (start.len > 0) server->start = text_get(texts, start);
    if (greeting.len > 0) server->greeting = text_get(texts, greeting);
    if (server->pool->starts_servers != (greeting.len > 0)) server->is_close_needed = true;
}

/* What a server was set to for its last client stays behind: with session_state = track it does not
 * go. */
bool server_may_move(const struct server *server) {
    if (server->pool->tracks_sessions) return false;
    bool is_at_rest = server->cancels == 0 && server->skip == 0 && !server->is_own &&
                      buf_length(&server->gather) == 0 && !server->is_close_needed;
    bool is_state_right = server->state == SERVER_IDLE || server->state == SERVER_USED ||
                          server->state == SERVER_LENT;
    return is_at_rest && is_state_right && stream_tls(&server->stream) == NULL &&
           stream_queued(&server->stream) == 0;
}

bool server_pack(struct server *server, struct buf *out, int *fd) {
    struct pool_set *set = server->pool->set;
    struct socket_parts parts;
    if (!stream_detach(&server->stream, &parts)) return false;
    CHECK(parts.tls == NULL);
    *fd = parts.fd;
    const struct node *place = cluster_node_const(server->node->cluster, server->host);
    pack_text(out, bytes_of_text(place->host));
    buf_append_u32(out, place->port);
    buf_append_u8(out, (unsigned char)server->transaction);
    buf_append_u32(out, server->backend_pid);
    buf_append_u32(out, server->backend_secret);
    pack_u64(out, loop_now_us(set->loop) - server->connected_us);
    pack_u64(out, (uint64_t)server->connected_wall_us);
    pack_u64(out, server->request_us);
    pack_text(out, content(server->start));
    pack_text(out, content(server->greeting));
    buf_append_u8(out, set->tracked_count);
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = server->parameters[i];
        pack_text(out, bytes_of_text(set->tracked[i]));
        buf_append_u8(out, value != NULL);
        pack_text(out, value == NULL ? bytes_of("", 0) : bytes_of(value->at, value->len));
    }
    if (server->borrower != NULL) server->borrower->server = NULL;
    server->borrower = NULL;
    server_become(server, SERVER_CLOSED);
    pool_server_closed(server);
    return true;
}

/* The node of the pool, and the host in its cluster, with that name; NULL if there is none. */
static struct pool_node *find_node(const struct pool *pool, struct bytes host, unsigned port,
                                   unsigned *index) {
    const struct cluster *cluster = pool->nodes[0]->cluster;
    for (unsigned i = 0; i < cluster_count(cluster); i++) {
        const struct node *place = cluster_node_const(cluster, i);
        if (place->port != port || !bytes_equal_text(host, place->host)) continue;
        *index = i;
        return pool->nodes[cluster_is_probed(cluster) ? i : 0];
    }
    return NULL;
}

static void turn_away(int fd) {
    static const char terminate[] = {'X', 0, 0, 0, 4};
    (void)send(fd, terminate, sizeof terminate, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)close(fd);
}

struct server *server_unpack(struct pool *pool, struct unpack *in, int fd) {
    struct bytes host = unpack_text(in);
    unsigned index = 0;
    struct pool_node *node = find_node(pool, host, unpack_u32(in), &index);
    if (node == NULL || in->is_bad || fd < 0) {
        if (fd >= 0) turn_away(fd);
        return NULL;
    }
    room_take_anyway(node);
    struct server *server = server_adopt(pool, node, index, fd);
    server->transaction = (char)unpack_u8(in);
    server->backend_pid = unpack_u32(in);
    server->backend_secret = unpack_u32(in);
    uint64_t age_us = unpack_u64(in);
    server->connected_us -= age_us < server->connected_us ? age_us : 0;
    server->connected_wall_us = (int64_t)unpack_u64(in);
    server->request_us = unpack_u64(in);
    unpack_start(server, in);
    for (unsigned left = unpack_u8(in); left > 0; left--) {
        struct bytes name = unpack_text(in);
        bool is_known = unpack_u8(in) != 0;
        struct bytes value = unpack_text(in);
        if (is_known) (void)server_note_parameter(server, name, value);
    }
    server->login_round = freshness_now();
    server->doing = "idle";
    server_become(server, SERVER_IDLE);
    if (!in->is_bad) return server;
    server_close(server, "server conn crashed?");
    return NULL;
}
