/*
 * SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS and FDS: each worker writes the rows of its own
 * connections, on its own thread. `ptr` and `link` are made from the numbers of connections, as in
 * the log; addresses of memory are nobody's business.
 */
#include "views.h"

#include "client/relay.h"
#include "core/clock.h"
#include "net/tls.h"

static void write_ptr(struct rows *rows, uint32_t id) {
    struct buf text = {0};
    if (id != 0) buf_append_format(&text, "0x%x", id);
    rows_text(rows, buf_text(&text));
    buf_release(&text);
}

/* The state's name in SHOW SOCKETS. */
static void write_socket_state(struct rows *rows, const char *prefix, const char *state) {
    struct buf text = {0};
    buf_append_format(&text, "%s%s", prefix, state);
    rows_text(rows, buf_text(&text));
    buf_release(&text);
}

/* A connection's two ends; those of a Unix socket have the port that names it. */
struct ends {
    char peer[ENDPOINT_TEXT_SIZE];
    char local[ENDPOINT_TEXT_SIZE];
    unsigned peer_port;
    unsigned local_port;
    bool is_unix;
};

static struct ends ends_of(const struct stream *stream, unsigned unix_port) {
    struct ends ends = {.peer_port = unix_port};
    if (stream_is_open(stream)) {
        int fd = stream_descriptor(stream);
        endpoint_describe(fd, true, ends.peer, &ends.peer_port);
        endpoint_describe(fd, false, ends.local, &ends.local_port);
    }
    ends.is_unix = strcmp(ends.peer, "unix") == 0;
    if (ends.is_unix) ends.peer_port = ends.local_port = unix_port;
    return ends;
}

static void write_ends(struct rows *rows, const struct ends *ends, const char *host) {
    rows_text(rows, ends->peer[0] != '\0' ? ends->peer : host);
    rows_number(rows, ends->peer_port);
    rows_text(rows, ends->local);
    rows_number(rows, ends->local_port);
}

static void write_tls(struct rows *rows, const struct stream *stream) {
    const struct tls *tls = stream_tls(stream);
    struct buf text = {0};
    if (tls != NULL) tls_describe(tls, &text);
    rows_text(rows, buf_text(&text));
    buf_release(&text);
}

static void write_application_name(struct rows *rows, struct text *const *values, int index) {
    rows_text(rows, index < 0 || values[index] == NULL ? "" : values[index]->at);
}

/* The seven positions of PgBouncer's buffers, of which two mean something here: bytes that came
 * and are not handled yet, and bytes that the socket did not take yet. */
static void write_buffers(struct rows *rows, size_t unread, size_t unsent) {
    for (unsigned i = 0; i < 5; i++) rows_number(rows, 0);
    rows_number(rows, unread);
    rows_number(rows, unsent);
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

static const char *const replications[] = {[STARTUP_REPLICATION_NONE] = "none",
                                           [STARTUP_REPLICATION_PHYSICAL] = "physical",
                                           [STARTUP_REPLICATION_LOGICAL] = "logical"};

static void write_client_name(const struct walk_place *place, const struct client *client) {
    rows_text(place->rows, client->user == NULL ? "(nouser)" : client->user->at);
    rows_text(place->rows, client->database == NULL ? "(nodb)" : client->database->at);
}

static uint32_t client_link(const struct client *client) {
    const struct server *server = client->borrower.server;
    return server == NULL ? client->cancel_id : server->id;
}

/* That of the last request, or while there was none, of the connection. */
static void write_request_time(struct rows *rows, uint64_t request_us, int64_t connected_wall_us) {
    rows_time(rows, request_us == 0 ? connected_wall_us : clock_wall_of(request_us));
}

/* From `addr` to `id`. */
static void write_client_facts(const struct walk_place *place, const struct client *client) {
    struct rows *rows = place->rows;
    unsigned unix_port = (unsigned)place->worker->pools->config->listen_port;
    struct ends ends = ends_of(&client->stream, unix_port);
    uint64_t now_us = loop_now_us(place->worker->loop);
    uint64_t since_us = is_waiting(client) ? client->borrower.since_us : 0;
    write_ends(rows, &ends, "");
    rows_time(rows, client->connected_wall_us);
    write_request_time(rows, client->request_us, client->connected_wall_us);
    rows_wait(rows, since_us == 0 || since_us > now_us ? 0 : now_us - since_us);
    rows_number(rows, 0);
    write_ptr(rows, client->id);
    write_ptr(rows, client_link(client));
    rows_number(rows, ends.is_unix ? (uint64_t)unix_peer_pid(&client->stream) : 0);
    write_tls(rows, &client->stream);
    write_application_name(rows, client->parameters.values, place->name_index);
    rows_number(rows, client->names.map.count);
    rows_number(rows, client->id);
}

/* Why it keeps its server, or NULL. */
static const char *pin_of(const struct client *client) {
    if (client->session == NULL) return NULL;
    bool is_listening = client->session->pins == 0 && client->session->subscription != NULL;
    return is_listening ? "LISTEN (shared)" : pins_text(client->session->pins);
}

static void write_client_own(const struct walk_place *place, const struct client *client) {
    rows_text(place->rows, client_node(client));
    rows_number(place->rows, place->index);
    const char *pin = pin_of(client);
    const char *hint = client->hint.now == ROUTE_HINT_PRIMARY ? "weir.route" : "";
    const char *why = client->sticky != NULL ? client->sticky->at : pin == NULL ? hint : pin;
    rows_text(place->rows, why);
}

void view_pin(const struct walk_place *place, const struct client *client) {
    struct rows *rows = place->rows;
    const struct session *session = client->session;
    if (session == NULL || session->pinned_us == 0) return;
    const struct server *server = client->borrower.server;
    uint64_t now_us = loop_now_us(place->worker->loop);
    struct buf reasons = {0};
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (!(session->pins & 1u << i)) continue;
        buf_append_format(&reasons, "%s%s", buf_length(&reasons) > 0 ? ", " : "",
                          pin_text((enum pin)i));
    }
    rows_begin(rows);
    write_client_name(place, client);
    rows_number(rows, client->id);
    rows_number(rows, server->id);
    rows_text(rows, client_node(client));
    rows_number(rows, server->backend_pid);
    rows_text(rows, buf_text(&reasons));
    rows_number(rows, (now_us - session->pinned_us) / US_PER_S);
    rows_end(rows);
    buf_release(&reasons);
}

/* A cancel request may wait for room. */
static const char *client_state(const struct client *client) {
    bool is_queued = client->state == CLIENT_CANCEL && client->cancel_id == 0;
    return is_queued ? "waiting_cancel_req" : client_state_text(client);
}

void view_client(const struct walk_place *place, const struct client *client) {
    struct rows *rows = place->rows;
    if (client->state < CLIENT_WELCOME) return;
    rows_begin(rows);
    rows_text(rows, "C");
    write_client_name(place, client);
    rows_text(rows, replications[client->replication]);
    rows_text(rows, client_state(client));
    write_client_facts(place, client);
    write_client_own(place, client);
    rows_end(rows);
}

void view_client_socket(const struct walk_place *place, const struct client *client) {
    struct rows *rows = place->rows;
    if (client->state == CLIENT_CANCEL) return; /* as with PgBouncer */
    const char *state = client_state_text(client);
    rows_begin(rows);
    rows_text(rows, "C");
    write_client_name(place, client);
    rows_text(rows, replications[client->replication]);
    write_socket_state(rows, "cl_", strcmp(state, "idle") == 0 ? "active" : state);
    write_client_facts(place, client);
    write_buffers(rows, buf_length(&client->kept), stream_queued(&client->stream));
    write_client_own(place, client);
    rows_end(rows);
}

void view_client_socket_active(const struct walk_place *place, const struct client *client) {
    if (buf_length(&client->kept) > 0) view_client_socket(place, client);
}

/* ---- servers */

static void write_server_name(struct rows *rows, const struct server *server) {
    rows_text(rows, server->pool->user);
    rows_text(rows, server->pool->database->name);
}

/* 0 where the borrower is not a client. */
static uint32_t borrower_id(const struct server *server) {
    if (server->borrower == NULL || server->borrower->ops != &relay_borrower_ops) return 0;
    return LIST_OWNER(server->borrower, struct client, borrower)->id;
}

static const struct node *server_place(const struct server *server) {
    return cluster_node_const(server->node->cluster, server->host);
}

/* From `addr` to `id`. */
static void write_server_facts(const struct walk_place *place, const struct server *server) {
    struct rows *rows = place->rows;
    const struct node *node = server_place(server);
    const struct server_memory *memory = server->memory;
    struct ends ends = ends_of(&server->stream, node->port);
    write_ends(rows, &ends, node->host);
    rows_time(rows, server->connected_wall_us);
    write_request_time(rows, server->request_us, server->connected_wall_us);
    rows_wait(rows, 0);
    rows_number(rows, !pool_server_stays(server));
    write_ptr(rows, server->id);
    write_ptr(rows, borrower_id(server));
    rows_number(rows, server->backend_pid);
    write_tls(rows, &server->stream);
    write_application_name(rows, server->parameters, place->name_index);
    rows_number(rows, memory == NULL ? 0 : memory->lru.count);
    rows_number(rows, server->id);
}

void view_server(const struct walk_place *place, const struct server *server) {
    struct rows *rows = place->rows;
    rows_begin(rows);
    rows_text(rows, "S");
    write_server_name(rows, server);
    rows_text(rows, replications[server->replication]);
    rows_text(rows, server_state_text(server));
    write_server_facts(place, server);
    rows_text(rows, server_place(server)->name);
    rows_number(rows, place->index);
    rows_end(rows);
}

/* A connection that carries a cancel request: nobody has logged in on it. */
void view_cancel(void *owner, const struct cancel_view *view) {
    const struct walk_place *place = owner;
    struct rows *rows = place->rows;
    const struct server *server = view->server;
    struct ends ends = ends_of(view->stream, view->port);
    rows_begin(rows);
    rows_text(rows, "S");
    rows_text(rows, server == NULL ? "(nouser)" : server->pool->user);
    rows_text(rows, server == NULL ? "(nodb)" : server->pool->database->name);
    rows_text(rows, replications[STARTUP_REPLICATION_NONE]);
    rows_text(rows, "active_cancel");
    write_ends(rows, &ends, view->host);
    rows_time(rows, view->dialled_wall_us);
    rows_time(rows, view->dialled_wall_us);
    rows_wait(rows, 0);
    rows_number(rows, 0);
    write_ptr(rows, view->id);
    write_ptr(rows, view->asked_by);
    rows_number(rows, 0);
    write_tls(rows, view->stream);
    rows_text(rows, "");
    rows_number(rows, 0);
    rows_number(rows, view->id);
    rows_text(rows, server == NULL ? "" : server_place(server)->name);
    rows_number(rows, place->index);
    rows_end(rows);
}

void view_server_socket(const struct walk_place *place, const struct server *server) {
    struct rows *rows = place->rows;
    const char *state = server_state_text(server);
    rows_begin(rows);
    rows_text(rows, "S");
    write_server_name(rows, server);
    rows_text(rows, replications[server->replication]);
    write_socket_state(rows, "sv_", strcmp(state, "new") == 0 ? "login" : state);
    write_server_facts(place, server);
    write_buffers(rows, buf_length(&server->gather), stream_queued(&server->stream));
    rows_text(rows, server_place(server)->name);
    rows_number(rows, place->index);
    rows_text(rows, "");
    rows_end(rows);
}

void view_server_socket_active(const struct walk_place *place, const struct server *server) {
    if (buf_length(&server->gather) > 0) view_server_socket(place, server);
}

/* ---- descriptors */

/* From `cancel` to the end. Nothing here is meant for another process: connections are handed over
 * in another way, and no secret is shown. */
static void write_fd_rest(struct rows *rows, uint32_t link, struct text *const *values) {
    static const enum pool_tracked tracked[] = {TRACKED_CLIENT_ENCODING,
                                                TRACKED_STANDARD_CONFORMING_STRINGS,
                                                TRACKED_DATESTYLE, TRACKED_TIMEZONE};
    rows_number(rows, 0);
    rows_number(rows, link);
    for (size_t i = 0; i < COUNT(tracked); i++)
        rows_text(rows, values[tracked[i]] == NULL ? NULL : values[tracked[i]]->at);
    for (unsigned i = 0; i < 3; i++) rows_null(rows);
}

static void write_fd_head(struct rows *rows, const struct stream *stream, const char *task) {
    rows_begin(rows);
    rows_number(rows, (uint64_t)stream_descriptor(stream));
    rows_text(rows, task);
}

static void write_fd_peer(struct rows *rows, const struct stream *stream, unsigned unix_port) {
    struct ends ends = ends_of(stream, unix_port);
    rows_text(rows, ends.peer);
    rows_number(rows, ends.peer_port);
}

void view_client_fd(const struct walk_place *place, const struct client *client) {
    struct rows *rows = place->rows;
    bool is_in = client->state >= CLIENT_IDLE && client->state != CLIENT_CONSOLE;
    if (!is_in || !stream_is_open(&client->stream)) return;
    const struct server *server = client->borrower.server;
    write_fd_head(rows, &client->stream, "client");
    write_client_name(place, client);
    write_fd_peer(rows, &client->stream, (unsigned)place->worker->pools->config->listen_port);
    write_fd_rest(rows, server == NULL ? 0 : server->id, client->parameters.values);
    rows_end(rows);
}

void view_server_fd(const struct walk_place *place, const struct server *server) {
    struct rows *rows = place->rows;
    if (!stream_is_open(&server->stream)) return;
    write_fd_head(rows, &server->stream, "server");
    write_server_name(rows, server);
    write_fd_peer(rows, &server->stream, server_place(server)->port);
    write_fd_rest(rows, server->borrower == NULL ? 0 : server->id, server->parameters);
    rows_end(rows);
}
