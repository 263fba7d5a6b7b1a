/*
 * Runs; see world.h. What worker.c and process.c do for a real process is done here for one
 * worker: the sets are made, ticked and released, and cancel requests find their clients.
 */
#include "world.h"

#include "client/request_cancel.h"
#include "cluster/probe.h"
#include "config/load.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "fake_loop.h"
#include "pool/transport.h"
#include "proto/startup.h"
#include "script.h"

#include <stdio.h>

#define TURNS_MAX        200000u
#define TICK_MS          100u
#define STANDSTILL_TURNS 4u
#define STANDSTILL_US    (200ull * US_PER_S)
#define SETTLE_US        (12ull * US_PER_S) /* cancel requests and cleaning are over by then */
#define EMPTY_STEP_US    (3ull * US_PER_S)  /* so much time goes by at once with nobody there */
#define FIRST_PORT       5432u

static const char fixed_settings[] =
    "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\npool_mode = transaction\n"
    "log_connections = 0\nlog_disconnections = 0\nserver_login_retry = 1\n"
    "probe_user = probe\nquery_timeout = 300\nidle_transaction_timeout = 90\n"
    "client_idle_timeout = 900\nserver_tls_sslmode = disable\n";

/* After each script one comes that may be told that the server was away, for whose sake it is tried
 * again. */
#define FIRST_FRESH "E login secret\nE Q SELECT $\nE X\n- time 2\n"

/* Whoever logs in then finds every server in order, and no stranger's settings. Both hold a server
 * at once where there are two. */
static const char fresh_clients[] =
    FIRST_FRESH "F login secret\n"
                "F& Q BEGIN | Q SHOW TimeZone $\n"
                "G login secret\n"
                "G Q SHOW application_name $\n"
                "F wait\n"
                "F P - SELECT $ | B - - $ | E - | S\n"
                "F Q COMMIT\n"
                "G P fresh SELECT $ | B - fresh $ | D P - | E - | S\n"
                "F Q SELECT $;SELECT $\n"
                "F X\n"
                "G X";

/* Two standing clients at once would wait for each other's transaction with one server only. */
static const char fresh_client[] =
    FIRST_FRESH "F login secret\n"
                "F Q BEGIN | Q SHOW TimeZone $ | Q COMMIT\n"
                "F P fresh SELECT $ | B - fresh $ | D P - | E - | S\n"
                "F Q SHOW application_name $;SELECT $\n"
                "F X";

/* ---- what the runs share */

static struct {
    const struct scenario *scenario;
    struct config *config;
    struct users *users;
    struct users_scram scram;
    struct transport *transport;
} shared;

static void load_settings(const struct scenario *scenario) {
    struct buf text = {0};
    struct config_errors errors = {0};
    if (shared.scenario == scenario) return;
    config_unref(&shared.config);
    const char *nodes = scenario->is_routed ? "host=one,two port=5432,5433 routing=read_write"
                                            : "host=one port=5432";
    buf_append_format(&text, "[databases]\ndb = %s\n%s%s\n", nodes, fixed_settings,
                      scenario->settings);
    shared.config = config_load_text(scenario->name, buf_content(&text), &errors);
    if (shared.config == NULL) (void)fprintf(stderr, "%s", buf_text(&errors.text));
    CHECK(shared.config != NULL);
    transport_unref(&shared.transport);
    shared.transport = transport_new(shared.config, &text);
    CHECK(shared.transport != NULL);
    shared.scenario = scenario;
    config_errors_release(&errors);
    buf_release(&text);
}

static void make_users(void) {
    struct buf error = {0};
    if (shared.users != NULL) return;
    users_scram_init(&shared.scram, 1);
    shared.users = users_new(&shared.scram);
    CHECK(users_add(shared.users, bytes_of_text("app"), bytes_of_text("secret"), &error));
}

void world_forget(void) {
    config_unref(&shared.config);
    transport_unref(&shared.transport);
    users_free(&shared.users);
    shared.scenario = NULL;
}

void world_fail(struct world *world, const char *format, ...) {
    if (buf_length(world->failure) > 0) return;
    va_list list;
    va_start(list, format);
    buf_append_format_list(world->failure, format, list);
    va_end(list);
}

/* ---- wires, servers */

struct wire *world_wire_new(struct world *world) {
    const struct plan *plan = world->plan;
    enum wire_mood mood = plan->mood;
    unsigned number = world->outcome->wires++;
    CHECK(number < WORLD_WIRES_MAX);
    if (plan->is_mixed) mood = (enum wire_mood)dice_roll(&world->dice, WIRE_MOODS);
    struct wire *wire = wire_new(&world->dice, mood);
    wire->number = number;
    if (number == plan->cut_wire) wire->cut_at = plan->cut_at;
    return wire;
}

static void wire_gone(struct world *world, struct wire **wire) {
    world->outcome->read_totals[(*wire)->number] = (*wire)->read_total;
    wire_free(wire);
}

static int on_connected(void *owner, unsigned port) {
    struct world *world = owner;
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        struct world_server *server = &world->servers[i];
        if (server->wire != NULL) continue;
        server->wire = world_wire_new(world);
        world->outcome->is_servers[server->wire->number] = true;
        if (world->outcome->servers_since[i] == 0) world->outcome->servers_since[i] = world->turn;
        server->cancel_turns = 1 + (unsigned)dice_roll(&world->dice, 3);
        postgres_init(&server->postgres, &world->rules[port - FIRST_PORT], false);
        return server->wire->fd;
    }
    check_failed("too many servers at once", __FILE__, __LINE__);
    return -1;
}

static void run_cancel(struct world *world, const struct postgres *request) {
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        struct world_server *server = &world->servers[i];
        bool is_it = server->wire != NULL && !server->postgres.is_cancel_request &&
                     server->postgres.pid == request->pid &&
                     server->postgres.secret == request->secret;
        if (is_it) postgres_cancel(&server->postgres);
    }
}

/* A server that has ended sends what is left, then closes. */
static bool end_server(struct world *world, struct world_server *server) {
    struct postgres *postgres = &server->postgres;
    if (postgres->state != POSTGRES_ENDED || buf_length(&postgres->out) > 0 ||
        server->wire->is_ended)
        return false;
    if (postgres->is_cancel_request) {
        if (--server->cancel_turns > 0) return true;
        run_cancel(world, postgres);
    }
    wire_end(server->wire);
    return true;
}

static bool work_server(struct world *world, struct world_server *server) {
    struct postgres *postgres = &server->postgres;
    struct wire *wire = server->wire;
    bool has_moved = false;
    if (wire->is_closed) {
        postgres_release(postgres);
        wire_gone(world, &server->wire);
        return true;
    }
    struct bytes received = wire_received(wire);
    bool is_behind = world->are_servers_stalled || buf_length(&postgres->in) > 65536u;
    if (!is_behind && received.len > 0) {
        postgres_feed(postgres, received);
        buf_clear(&wire->outward);
        has_moved = true;
    }
    if (postgres_work(postgres)) has_moved = true;
    size_t sent = wire_send(wire, buf_content(&postgres->out));
    buf_consume(&postgres->out, sent);
    if (postgres->trouble != NULL) world_fail(world, "%s", postgres->trouble);
    return end_server(world, server) || has_moved || sent > 0;
}

/* ---- applications */

struct application *world_application(struct world *world, char letter) {
    for (unsigned i = 0; i < world->applications_count; i++) {
        if (world->applications[i].letter == letter) return &world->applications[i];
    }
    CHECK(world->applications_count < WORLD_APPLICATIONS_MAX);
    struct application *application = &world->applications[world->applications_count++];
    application_init(application, letter, world->failure);
    application->is_rough = world->is_rough || letter == 'E';
    if (!world->is_past_script)
        world->outcome->applications_since[world->applications_count - 1] = world->turn;
    return application;
}

/* A client that has just come; it does not show before its first byte. */
static void accept_client(struct world *world, struct application *application) {
    if (application->wire == NULL || application->is_accepted) return;
    application->is_accepted = true;
    atomic_fetch_add(&world->load, 1);
    struct socket_parts parts = {.fd = application->wire->fd};
    client_accept(&world->clients, parts, bytes_of(NULL, 0));
}

struct cancel_mail {
    struct loop_mail mail;
    char key[8];
};

static void run_cancel_mail(struct loop_mail *mail, void *context) {
    struct cancel_mail *request = (struct cancel_mail *)(void *)mail;
    struct world *world = context;
    client_cancel(&world->clients, request->key, (struct cancel_ticket){0});
    memory_free(request);
}

void world_cancel(struct world *world, struct application *application) {
    struct cancel_mail *request = memory_new(sizeof *request);
    request->mail.run = run_cancel_mail;
    bytes_put_u32(request->key, application->pid);
    bytes_put_u32(request->key + 4, application->secret);
    application->has_cancelled = true;
    /* Whether it comes in time, the model can say only where all goes as planned. */
    if (world_is_disturbed(world)) application->is_rough = application->is_loose = true;
    loop_post(world->loop, &request->mail);
    postgres_cancel(&application->model);
}

/* ---- disturbances */

bool world_is_disturbed(const struct world *world) {
    return world->plan->disturbance != DISTURBANCE_NONE;
}

/* Whoever is there, and whoever comes yet, may be told of it. */
static void roughen(struct world *world) {
    world->is_rough = true;
    for (unsigned i = 0; i < world->applications_count; i++) world->applications[i].is_rough = true;
}

static void disturb_server(struct world_server *server, enum disturbance how) {
    struct postgres *postgres = &server->postgres;
    if (how == DISTURBANCE_SERVER_BREAKS) {
        wire_break(server->wire);
        return;
    }
    if (how == DISTURBANCE_SERVER_FATAL)
        postgres_error(postgres, "FATAL", "57P01", bytes_of_text("terminating connection"));
    postgres->state = POSTGRES_ENDED;
}

void world_disturb_servers(struct world *world, enum disturbance how) {
    if (world_is_disturbed(world)) roughen(world);
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        if (world->servers[i].wire != NULL) disturb_server(&world->servers[i], how);
    }
}

static void disturb_client(struct world *world, struct application *application) {
    if (application->wire == NULL || application->state == APPLICATION_ENDED) return;
    if (world->plan->disturbance == DISTURBANCE_CANCEL) {
        if (application->state != APPLICATION_READY) return;
        roughen(world); /* who was not served as planned may keep others waiting too long */
        world_cancel(world, application);
        return;
    }
    application->has_left = true;
    if (world->plan->disturbance == DISTURBANCE_CLIENT_ENDS) {
        wire_end(application->wire);
    } else if (world->plan->disturbance == DISTURBANCE_CLIENT_CLOSES) {
        wire_close(application->wire);
    } else {
        wire_break(application->wire);
    }
}

static void disturb(struct world *world) {
    const struct plan *plan = world->plan;
    switch (plan->disturbance) {
    case DISTURBANCE_CLIENT_ENDS:
    case DISTURBANCE_CLIENT_CLOSES:
    case DISTURBANCE_CLIENT_BREAKS:
    case DISTURBANCE_CANCEL:
        if (plan->target < world->applications_count)
            disturb_client(world, &world->applications[plan->target]);
        break;
    case DISTURBANCE_TIME:
        roughen(world);
        fake_loop_advance(world->loop, (uint64_t)plan->target * US_PER_S);
        break;
    default:
        roughen(world);
        if (world->servers[plan->target].wire != NULL)
            disturb_server(&world->servers[plan->target], plan->disturbance);
        break;
    }
}

/* ---- Weir */

static void server_forget(void *owner, struct server *server) {
    struct world *world = owner;
    struct server_memory *memory = server->memory;
    server->memory = NULL;
    server_memory_free(&memory, &world->clients.statements, &world->texts);
}

static void server_forget_statements(void *owner, struct server *server) {
    struct world *world = owner;
    struct server_memory *memory = server->memory;
    if (memory != NULL) server_memory_clear(memory, &world->clients.statements);
}

static bool server_scrub(void *owner, struct server *server) {
    (void)owner;
    return settings_scrub(server);
}

/* There is no other worker. */
static void wake(void *owner, unsigned worker, struct bytes key) {
    (void)owner;
    (void)key;
    CHECK(worker == 0);
}

static bool console_login(void *owner, struct client *client, bool is_local_owner) {
    (void)owner;
    (void)client;
    (void)is_local_owner;
    return false;
}

static void on_cluster_made(void *owner, struct database *database,
                            const struct config_database *entry) {
    struct world *world = owner;
    struct cluster *cluster = database->cluster;
    (void)entry;
    if (!world->plan->scenario->is_routed) return;
    node_become(cluster_node(cluster, 0), NODE_PRIMARY, NODE_UP);
    node_become(cluster_node(cluster, 1), NODE_REPLICA, NODE_UP);
    cluster_set_primary(cluster, 0);
}

/* What the prober would do: the standby has replayed everything. */
static void freshen(void *owner, struct database *database) {
    (void)owner;
    uint32_t number = freshness_next();
    node_sample(cluster_node(database->cluster, 1), number, number);
}

static void on_tick(struct loop_timer *timer) {
    struct world *world = LIST_OWNER(timer, struct world, tick);
    pool_set_tick(&world->pools);
    client_set_tick(&world->clients);
}

static void make_weir(struct world *world) {
    struct databases_ops ops = {.cluster_made = on_cluster_made, .owner = world};
    world->loop = loop_new();
    loop_set_context(world->loop, world);
    world->databases = databases_new(&ops);
    world->permits = permits_new(1);
    world->pools = (struct pool_set){.loop = world->loop,
                                     .workers = 1,
                                     .databases = world->databases,
                                     .permits = world->permits,
                                     .texts = &world->texts,
                                     .transport = transport_ref(shared.transport),
                                     .ops = {.server_forget = server_forget,
                                             .server_forget_statements = server_forget_statements,
                                             .server_scrub = server_scrub,
                                             .wake = wake,
                                             .owner = world}};
    pool_set_init(&world->pools, config_ref(shared.config), users_retain(shared.users));
    world->clients = (struct client_set){.loop = world->loop,
                                         .pools = &world->pools,
                                         .texts = &world->texts,
                                         .total = &world->clients_total,
                                         .load = &world->load,
                                         .ops = {.console_login = console_login, .owner = world}};
    client_set_init(&world->clients);
    if (world->plan->scenario->is_routed) world->clients.traits = traits_cache_new(1000, 500, NULL);
    world->tick.run = on_tick;
    loop_timer_start(world->loop, &world->tick, TICK_MS, TICK_MS);
}

static void release_weir(struct world *world) {
    loop_timer_stop(&world->tick);
    client_set_release(&world->clients);
    pool_set_release(&world->pools);
    if (world->clients.traits != NULL) traits_cache_free(&world->clients.traits);
    statements_release(&world->clients.statements);
    texts_release(&world->texts);
    loop_free(&world->loop);
    databases_free(&world->databases);
    permits_free(&world->permits);
}

/* ---- turns */

static bool work_peers(struct world *world) {
    bool has_moved = false;
    size_t first = dice_roll(&world->dice, WORLD_SERVERS_MAX);
    for (unsigned i = 0; i < world->applications_count; i++) {
        accept_client(world, &world->applications[i]);
        if (application_work(&world->applications[i])) has_moved = true;
    }
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        struct world_server *server = &world->servers[(first + i) % WORLD_SERVERS_MAX];
        if (server->wire != NULL && work_server(world, server)) has_moved = true;
    }
    return has_moved;
}

static bool is_empty(const struct world *world) {
    return atomic_load(&world->clients_total) == 0;
}

static void take_turn(struct world *world) {
    world->turn++;
    fake_loop_advance(world->loop, US_PER_MS);
    if (world_is_disturbed(world) && world->turn == world->plan->turn) disturb(world);
    if (world->plan->scenario->is_routed) databases_each(world->databases, freshen, NULL);
    bool has_moved = script_step(world);
    if (work_peers(world)) has_moved = true;
    fake_loop_begin(world->loop);
    if (fake_sockets_poll(&world->dice)) has_moved = true;
    fake_loop_end(world->loop);
    verify_turn(world);
    if (world->turn > TURNS_MAX) world_fail(world, "it does not come to an end");
    world->idle_turns = has_moved ? 0 : world->idle_turns + 1;
    if (has_moved) world->idle_us = 0;
    if (world->idle_turns <= STANDSTILL_TURNS) return;
    uint64_t step_us = is_empty(world) ? EMPTY_STEP_US : TICK_MS * US_PER_MS;
    fake_loop_advance(world->loop, step_us);
    world->idle_us += step_us;
}

static bool has_failed(const struct world *world) {
    return buf_length(world->failure) > 0;
}

/* Whoever is owed an answer that no server is working at will never get it. */
static void check_owed(struct world *world) {
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        const struct world_server *server = &world->servers[i];
        bool is_at_work = server->wire != NULL && (server->postgres.state == POSTGRES_SLEEPING ||
                                                   server->postgres.state == POSTGRES_COPYING);
        if (is_at_work || world->network.mood != NETWORK_UP) return;
    }
    for (unsigned i = 0; i < world->applications_count; i++) {
        const struct application *application = &world->applications[i];
        bool is_served = application->state == APPLICATION_READY && !application->has_left &&
                         application->is_reading;
        /* The model's first one ended its login. */
        if (is_served && application->readies + 1 < application->model.readies)
            world_fail(world, "client %c is owed an answer that does not come",
                       application->letter);
    }
}

static void run_script(struct world *world, const char *script) {
    world->line = script;
    world->is_line_begun = false;
    while (world->line != NULL && !has_failed(world)) {
        take_turn(world);
        if (world->idle_us < STANDSTILL_US) continue;
        check_owed(world);
        if (has_failed(world)) break;
        struct bytes line = script_line(world);
        if (world_is_disturbed(world) && !world->is_past_script) {
            log_line(LOG_LEVEL_LOG, "the script is given up at <%.*s>", (int)line.len, line.at);
            break;
        }
        world_fail(world, "standstill at <%.*s>", (int)line.len, line.at);
    }
    struct bytes line = script_line(world);
    if (has_failed(world))
        (void)snprintf(world->outcome->line, sizeof world->outcome->line, "%.*s", (int)line.len,
                       line.at);
    world->line = NULL;
}

/* Everybody leaves, in the middle of whatever it is. */
static void leave_all(struct world *world) {
    for (unsigned i = 0; i < world->applications_count; i++) {
        struct application *application = &world->applications[i];
        if (application->surprises > 0 && !application->is_rough)
            application_fail(application, "an unforeseen error %s came", application->surprise);
        bool is_there = application->wire != NULL && application->state != APPLICATION_ENDED;
        application->has_left = true;
        application->is_reading = true;
        if (is_there) wire_close(application->wire);
    }
}

static void settle(struct world *world) {
    world->network.mood = NETWORK_UP;
    world->rules[0].password = world->rules[1].password = NULL;
    world->are_servers_stalled = false;
    world->idle_us = 0;
    uint64_t limit_us = world->is_past_script ? 0 : SETTLE_US;
    while (!has_failed(world) && (!is_empty(world) || world->idle_us < limit_us)) {
        take_turn(world);
        if (world->idle_us > STANDSTILL_US) verify_gone(world);
    }
    if (!has_failed(world) && !world->is_past_script) verify_rest(world);
}

static void release_peers(struct world *world) {
    for (unsigned i = 0; i < world->applications_count; i++) {
        struct application *application = &world->applications[i];
        if (application->wire != NULL) wire_gone(world, &application->wire);
        application_release(application);
    }
    for (size_t i = 0; i < WORLD_SERVERS_MAX; i++) {
        struct world_server *server = &world->servers[i];
        if (server->wire == NULL) continue;
        postgres_release(&server->postgres);
        wire_gone(world, &server->wire);
    }
}

void world_run(const struct plan *plan, struct buf *failure, struct outcome *outcome) {
    struct world *world = memory_new(sizeof *world);
    *outcome = (struct outcome){0};
    load_settings(plan->scenario);
    make_users();
    world->plan = plan;
    world->failure = failure;
    world->outcome = outcome;
    world->dice.state = plan->seed;
    world->rules[0] =
        (struct postgres_rules){.password = plan->scenario->password,
                                .statements_max = (unsigned)shared.config->max_prepared_statements};
    world->network =
        (struct network){.dice = &world->dice, .on_connected = on_connected, .owner = world};
    fake_network_set(&world->network);
    make_weir(world);
    run_script(world, plan->scenario->script);
    outcome->turns = world->turn;
    leave_all(world);
    settle(world);
    world->is_past_script = true;
    world->is_rough = false;
    bool has_two = shared.config->default_pool_size != 1;
    if (!has_failed(world)) run_script(world, has_two ? fresh_clients : fresh_client);
    settle(world);
    release_weir(world);
    release_peers(world);
    memory_free(world);
}
