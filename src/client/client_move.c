/*
 * Clients that change the process; see client/move.h.
 *
 *      packed: key, pool, names of user and database, flags and times, parameters, prepared
 *      statements by name, the unnamed one, settings, bytes kept, [server]
 */
#include "client/move.h"

#include "client/parts.h"
#include "client/quota.h"
#include "client/request_cancel.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/socket.h"
#include "pool/move.h"

#include <unistd.h>

#define KEY_BYTES 8u

/* ---- whether it can go */

static bool can_ever_go(const struct client *client) {
    bool is_listening = client->session != NULL && client->session->subscription != NULL;
    return !is_listening && client->replication == STARTUP_REPLICATION_NONE &&
           stream_tls(&client->stream) == NULL && client->pool != NULL;
}

/* Nothing is half done. */
static bool is_between_messages(const struct client *client) {
    return client->request_skip == 0 && client->unsynced == 0 && !client->is_copying &&
           !client->is_syncing && !client->is_skipping && !client->is_failed &&
           client->sending == NULL && !pipeline_lacks_sync(&client->pipeline) &&
           (client->group_left == 0 || client->state == CLIENT_WAITING);
}

static bool is_answered(const struct client *client) {
    return pipeline_is_empty(&client->pipeline) && client->reply.skip == 0 &&
           buf_length(&client->reply.gather) == 0 && buf_length(&client->retry.request) == 0 &&
           buf_length(&client->retry.held) == 0 && buf_length(&client->last_words) == 0 &&
           client->effects == 0 && client->unnamed_owed == 0 && !client->is_release_due &&
           !client->is_release_late && stream_queued(&client->stream) == 0;
}

/* One that has prepared or sent more stays where it is. */
#define MOVED_BYTES_MAX ((size_t)256 << 20)

static bool is_small(const struct client *client) {
    size_t unnamed = client->unnamed == NULL ? 0 : client->unnamed->node.key.len;
    return client->names.bytes + unnamed + buf_length(&client->kept) <= MOVED_BYTES_MAX;
}

/* With its server it goes only where the statements of a transaction are neither routed nor
 * remembered. */
static bool can_go_with_server(const struct client *client) {
    const struct server *server = client->borrower.server;
    return !judge_is_on(client) && client->session == NULL && stream_tls(&server->stream) == NULL;
}

static bool can_go(const struct client *client) {
    if (!is_between_messages(client) || !is_answered(client)) return false;
    if (link_is_listed(&client->resume) || !stream_is_open(&client->stream)) return false;
    if (!is_small(client)) return false;
    const struct server *server = client->borrower.server;
    return server == NULL || (can_go_with_server(client) && server_may_move(server));
}

/* ---- packing */

static void pack_optional(struct buf *out, const struct text *text) {
    buf_append_u8(out, text != NULL);
    pack_text(out, text == NULL ? bytes_of("", 0) : bytes_of(text->at, text->len));
}

static void pack_statement(struct buf *out, const struct statement *statement) {
    size_t context_len = (size_t)(statement->body.at - statement->key) - 1;
    pack_text(out, bytes_of(statement->key, context_len));
    pack_text(out, statement->body);
}

static void pack_statements(struct buf *out, const struct client *client) {
    const struct map *names = &client->names.map;
    buf_append_u32(out, (uint32_t)names->count);
    for (struct map_node *node = map_next(names, NULL); node != NULL;
         node = map_next(names, node)) {
        const struct prepared_name *name = MAP_OWNER(node, struct prepared_name, node);
        pack_text(out, node->key);
        pack_statement(out, name->statement);
    }
    buf_append_u8(out, client->unnamed != NULL);
    if (client->unnamed != NULL) pack_statement(out, client->unnamed);
}

static bool has_its_unnamed(const struct client *client) {
    const struct server *server = client->borrower.server;
    const struct server_memory *memory = server == NULL ? NULL : server->memory;
    return memory != NULL && client->unnamed_number > 0 &&
           memory->unnamed_owner == client->unnamed_number;
}

static void pack(const struct client *client, struct buf *out) {
    const struct pool_set *pools = client->set->pools;
    buf_append(out, client->key, KEY_BYTES);
    pool_pack_name(client->pool, out);
    pack_text(out, bytes_of(client->user->at, client->user->len));
    buf_append_u8(out, (unsigned char)client->transaction);
    buf_append_u8(out, client->may_write);
    buf_append_u8(out, client->may_reach_out);
    buf_append_u8(out, client->has_ended);
    buf_append_u8(out, has_its_unnamed(client));
    uint64_t now_us = loop_now_us(client->set->loop);
    pack_u64(out, client->transaction_us == 0 ? 0 : now_us - client->transaction_us + 1);
    pack_u64(out, (uint64_t)client->connected_wall_us);
    pack_u64(out, client->request_us);
    pack_optional(out, client->sticky);
    buf_append_u8(out, client->hint.now);
    buf_append_u8(out, client->hint.start);
    buf_append_u8(out, pools->tracked_count);
    for (unsigned i = 0; i < pools->tracked_count; i++) {
        pack_text(out, bytes_of_text(pools->tracked[i]));
        pack_optional(out, client->parameters.values[i]);
    }
    pack_statements(out, client);
    const struct session *session = client->session;
    pack_optional(out, session == NULL ? NULL : session->settings);
    pack_optional(out, session == NULL ? NULL : session->startup);
    begin_pack(client, out);
    pack_text(out, buf_content(&client->kept));
}

/* Gone without a word: it lives on elsewhere. */
static void forget(struct client *client) {
    struct client_set *set = client->set;
    pool_leave(&client->borrower);
    if (client->state >= CLIENT_IDLE) client->pool->clients--;
    map_remove(&set->keys, &client->by_key);
    client->by_key.key = bytes_of(NULL, 0);
    client_become(client, CLIENT_CLOSED);
    loop_at_end(set->loop, &set->hook);
}

static bool move(struct client *client, const struct client_move_ops *ops) {
    struct buf packed = {0};
    struct socket_parts parts;
    int server_fd = -1;
    pack(client, &packed);
    struct server *server = client->borrower.server;
    if (!stream_detach(&client->stream, &parts)) {
        buf_release(&packed);
        return false;
    }
    CHECK(parts.tls == NULL);
    if (server != NULL && !server_pack(server, &packed, &server_fd)) {
        /* Its server has broken under its hands: the client ends with it. */
        client_close(client, "server conn crashed?");
        (void)close(parts.fd);
        buf_release(&packed);
        return true;
    }
    forget(client);
    ops->moved(ops->owner, parts.fd, server_fd, &packed);
    buf_release(&packed);
    return true;
}

static void move_or_hold(struct client *client, const struct client_move_ops *ops) {
    if (!can_ever_go(client) || (can_go(client) && move(client, ops))) return;
    bool is_kept_by_server = client->borrower.server != NULL && !can_go_with_server(client);
    stream_hold(&client->stream,
                is_between_messages(client) && !is_kept_by_server && client->state != CLIENT_IDLE);
}

void client_set_move(struct client_set *set, const struct client_move_ops *ops) {
    /* Those with servers go first: who waits would else have new ones made. */
    static const enum client_state order[] = {CLIENT_ACTIVE, CLIENT_IDLE, CLIENT_WAITING};
    for (unsigned i = 0; i < COUNT(order); i++) {
        enum client_state list = order[i] == CLIENT_WAITING ? CLIENT_WAITING : CLIENT_IDLE;
        LIST_EACH_SAFE (&set->clients[list], l, following) {
            struct client *client = LIST_OWNER(l, struct client, link);
            if (client->state == order[i]) move_or_hold(client, ops);
        }
    }
}

/* ---- unpacking */

unsigned client_packed_worker(struct bytes packed, unsigned count) {
    return packed.len < KEY_BYTES ? 0 : client_key_worker(packed.at, count);
}

static struct statement *unpack_statement(struct client *client, struct unpack *in) {
    struct client_set *set = client->set;
    bool is_new;
    struct bytes context = unpack_text(in);
    struct bytes body = unpack_text(in);
    struct bytes text, rest;
    struct statement *statement = statement_get(&set->statements, context, body, &is_new);
    if (!is_new || set->traits == NULL || !message_text(body, &text, &rest)) return statement;
    struct traits_context how = client_context(client);
    statement->traits = *traits_of(set->traits, text, &how, loop_now_us(set->loop));
    return statement;
}

static void unpack_statements(struct client *client, struct unpack *in) {
    struct client_set *set = client->set;
    for (uint32_t left = unpack_u32(in); left > 0 && !in->is_bad; left--) {
        struct bytes name = unpack_text(in);
        struct statement *statement = unpack_statement(client, in);
        if (prepared_find(&client->names, name) != NULL) {
            statement_unref(&set->statements, &statement);
        } else {
            (void)prepared_add(&client->names, name, statement);
        }
    }
    if (unpack_u8(in) == 0) return;
    client->unnamed = unpack_statement(client, in);
    client->unnamed_number = ++set->unnamed_last;
}

static void unpack_parameters(struct client *client, struct unpack *in) {
    struct client_set *set = client->set;
    for (unsigned left = unpack_u8(in); left > 0; left--) {
        int index = parameters_index(set->pools, unpack_text(in));
        bool is_known = unpack_u8(in) != 0;
        struct bytes value = unpack_text(in);
        if (!is_known || index < 0) continue;
        parameters_set(&client->parameters, set->texts, index, value);
        client->reported |= UINT32_C(1) << index;
    }
}

static struct text *unpack_optional(struct client *client, struct unpack *in) {
    bool is_known = unpack_u8(in) != 0;
    struct bytes value = unpack_text(in);
    return is_known ? text_get(client->set->texts, value) : NULL;
}

static void unpack_session(struct client *client, struct unpack *in) {
    if (client->pool->tracks_sessions) client->session = session_new();
    struct text *settings = unpack_optional(client, in);
    struct text *startup = unpack_optional(client, in);
    if (client->session == NULL) {
        text_unref(client->set->texts, &settings);
        text_unref(client->set->texts, &startup);
        return;
    }
    client->session->settings = settings;
    client->session->startup = startup;
}

/* Brings a new client to where a login would have brought it. */
static bool enter(struct client *client, struct pool *pool, struct bytes key) {
    struct client_set *set = client->set;
    client_become(client, CLIENT_LOGIN);
    client_become(client, CLIENT_WELCOME);
    if (pool == NULL || map_find(&set->keys, key) != NULL) {
        client_fail(client, FAULT_DATABASE_REMOVED, NULL);
        return false;
    }
    memcpy(client->key, key.at, KEY_BYTES);
    map_add(&set->keys, &client->by_key, bytes_of(client->key, KEY_BYTES));
    client->pool = pool;
    client_become(client, CLIENT_IDLE);
    client->doing = "idle";
    pool->clients++;
    client->own_floor = freshness_raise(pool->database->hash, NULL);
    return true;
}

/* The rest of what was packed; whether the unnamed statement on the server is its own. */
static bool unpack_state(struct client *client, struct unpack *in) {
    struct client_set *set = client->set;
    client->transaction = (char)unpack_u8(in);
    client->may_write = unpack_u8(in) != 0;
    client->reach.writes.is_all = client->reach.changes_schema = client->may_write;
    client->may_reach_out = unpack_u8(in) != 0;
    client->has_ended = unpack_u8(in) != 0;
    bool has_unnamed = unpack_u8(in) != 0;
    uint64_t age_us = unpack_u64(in);
    uint64_t now_us = loop_now_us(set->loop);
    client->transaction_us = age_us == 0 || age_us >= now_us ? 0 : now_us - age_us;
    client->connected_wall_us = (int64_t)unpack_u64(in);
    client->request_us = unpack_u64(in);
    client->sticky = unpack_optional(client, in);
    client->hint.now = (unsigned char)(unpack_u8(in) % ROUTE_HINTS);
    client->hint.start = (unsigned char)(unpack_u8(in) % ROUTE_HINTS);
    unpack_parameters(client, in);
    unpack_statements(client, in);
    unpack_session(client, in);
    begin_unpack(client, in);
    buf_append_bytes(&client->kept, unpack_text(in));
    return has_unnamed;
}

static void take_server(struct client *client, struct unpack *in, int fd, bool has_unnamed) {
    struct server *server = server_unpack(client->pool, in, fd);
    if (server == NULL) {
        client_fail(client, FAULT_SERVER_LOST, NULL);
        return;
    }
    pool_lend(client->pool, &client->borrower, server);
    relay_bind_own(client, server);
    server->may_have_written = client->may_write;
    struct server_memory *memory = server->memory;
    if (!has_unnamed) return;
    if (client->unnamed_number == 0) client->unnamed_number = ++client->set->unnamed_last;
    memory->unnamed_owner = client->unnamed_number;
}

void client_unpack(struct client_set *set, struct unpack *in, int fd, int server_fd) {
    struct client *client = client_new(set, fd);
    struct bytes key = bytes_of(in->rest.at, in->rest.len < KEY_BYTES ? 0 : KEY_BYTES);
    for (unsigned i = 0; i < KEY_BYTES; i++) (void)unpack_u8(in);
    struct unpack names = *in;
    client->database = text_get(set->texts, unpack_text(&names));
    struct pool *pool = pool_unpack_name(set->pools, in);
    struct bytes user = unpack_text(in);
    client->user = text_get(set->texts, user);
    (void)quota_take(client, true);
    if (in->is_bad || key.len == 0 || !enter(client, pool, key)) {
        client_close(client, "could not be taken over");
        if (server_fd >= 0) (void)close(server_fd);
        return;
    }
    bool has_unnamed = unpack_state(client, in);
    if (server_fd >= 0) take_server(client, in, server_fd, has_unnamed);
    if (in->is_bad) client_close(client, "could not be taken over");
    if (client->state == CLIENT_CLOSED) return;
    client_log(client, LOG_LEVEL_DEBUG, "taken over");
    if (buf_length(&client->kept) > 0) relay_resume_later(client);
}
