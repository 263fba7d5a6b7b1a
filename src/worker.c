/*
 * One worker; see worker.h.
 *
 * Everything that other threads want of a worker comes as a message through its loop's mailbox
 * and runs on its own thread. Messages own what they carry.
 */
#include "worker.h"

#include "client/parts.h"
#include "client/request_cancel.h"
#include "client/subscribe.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/dns.h"
#include "net/resolver.h"
#include "pool/listener.h"
#include "pool/moved.h"
#include "pool/vacate.h"
#include "process.h"

#define TICK_MS 100u

/* ---- what the layers ask */

static void server_forget(void *owner, struct server *server) {
    struct worker *worker = owner;
    struct server_memory *memory = server->memory;
    server->memory = NULL;
    server_memory_free(&memory, &worker->clients.statements, &worker->texts);
}

static void server_forget_statements(void *owner, struct server *server) {
    struct worker *worker = owner;
    struct server_memory *memory = server->memory;
    if (memory != NULL) server_memory_clear(memory, &worker->clients.statements);
}

static bool server_scrub(void *owner, struct server *server) {
    (void)owner;
    return settings_scrub(server);
}

struct wake_mail {
    struct loop_mail mail;
    size_t len;
    char key[];
};

static void run_wake(struct loop_mail *mail, void *context) {
    struct wake_mail *wake = (struct wake_mail *)(void *)mail;
    struct worker *worker = context;
    pool_set_wake(&worker->pools, bytes_of(wake->key, wake->len));
    memory_free(wake);
}

static void wake_other(void *owner, unsigned index, struct bytes key) {
    struct worker *worker = owner;
    struct wake_mail *wake = memory_new(sizeof *wake + key.len);
    wake->mail.run = run_wake;
    wake->len = key.len;
    memcpy(wake->key, key.at, key.len);
    process_post(worker->process, index, &wake->mail);
}

static bool console_login(void *owner, struct client *client, bool is_local_owner) {
    struct worker *worker = owner;
    CHECK(worker->index == 0);
    return admin_console_login(worker->process->admin, client, is_local_owner);
}

static void console_query(void *owner, struct client *client, const char *text) {
    struct worker *worker = owner;
    admin_console_query(worker->process->admin, client, text);
}

static void console_left(void *owner, struct client *client) {
    struct worker *worker = owner;
    admin_console_left(worker->process->admin, client);
}

static void console_cancel(void *owner, struct client *client) {
    struct worker *worker = owner;
    admin_console_cancel(worker->process->admin, client);
}

static bool move_to_console(void *owner, struct socket_parts parts, struct bytes packet) {
    struct worker *worker = owner;
    if (worker->index == 0) return false;
    worker_give(&worker->process->workers[0], parts, packet);
    return true;
}

struct vacate_mail {
    struct loop_mail mail;
    bool is_first;
    unsigned port;
    struct bytes database; /* in `texts`, behind the host */
    char texts[];
};

static void run_vacate(struct loop_mail *mail, void *context) {
    struct vacate_mail *vacate = (struct vacate_mail *)(void *)mail;
    struct worker *worker = context;
    vacate_close_idle(&worker->pools, vacate->texts, vacate->port, vacate->database.at);
    if (worker->index == 0 && vacate->is_first)
        process_vacate(worker->process, vacate->texts, vacate->port, vacate->database.at);
    memory_free(vacate);
}

static void vacate(void *owner, const struct node *place, const char *database, bool is_first) {
    struct worker *worker = owner;
    size_t host_len = strlen(place->host), name_len = strlen(database);
    for (unsigned i = 0; i < worker->process->workers_count; i++) {
        struct vacate_mail *mail = memory_new(sizeof *mail + host_len + name_len + 2);
        mail->mail.run = run_vacate;
        mail->is_first = is_first;
        mail->port = place->port;
        memcpy(mail->texts, place->host, host_len);
        memcpy(mail->texts + host_len + 1, database, name_len);
        mail->database = bytes_of(mail->texts + host_len + 1, name_len);
        process_post(worker->process, i, &mail->mail);
    }
}

static void cancel(void *owner, const char *key, struct cancel_ticket ticket) {
    struct worker *worker = owner;
    process_cancel(worker->process, key, ticket);
}

struct cancel_end_mail {
    struct loop_mail mail;
    uint32_t id;
    const char *reason;
};

static void run_cancel_end(struct loop_mail *mail, void *context) {
    struct cancel_end_mail *end = (struct cancel_end_mail *)(void *)mail;
    struct worker *worker = context;
    client_cancel_ended(&worker->clients, end->id, end->reason);
    memory_free(end);
}

struct cancel_news_mail {
    struct loop_mail mail;
    uint32_t asked_by;
    uint32_t id;
    char database[];
};

static void run_cancel_news(struct loop_mail *mail, void *context) {
    struct cancel_news_mail *news = (struct cancel_news_mail *)(void *)mail;
    struct worker *worker = context;
    client_cancel_news(&worker->clients, news->asked_by, news->database, news->id);
    memory_free(news);
}

static void cancel_news(void *owner, struct cancel_ticket ticket, const char *database,
                        uint32_t id) {
    struct worker *worker = owner;
    size_t size = strlen(database) + 1;
    struct cancel_news_mail *news = memory_new(sizeof *news + size);
    news->mail.run = run_cancel_news;
    news->asked_by = ticket.id;
    news->id = id;
    memcpy(news->database, database, size);
    process_post(worker->process, ticket.worker, &news->mail);
}

static void cancel_ended(void *owner, struct cancel_ticket ticket, const char *reason) {
    struct worker *worker = owner;
    struct cancel_end_mail *end = memory_new(sizeof *end);
    end->mail.run = run_cancel_end;
    end->id = ticket.id;
    end->reason = reason;
    process_post(worker->process, ticket.worker, &end->mail);
}

static void run_listen(struct loop_mail *mail, void *context) {
    struct listen_mail *listen = (struct listen_mail *)(void *)mail;
    struct worker *worker = context;
    if (listen->kind < LISTEN_READY) {
        listener_take(&worker->pools, listen);
    } else {
        subscribe_take(&worker->clients, listen);
    }
    memory_free(listen);
}

static void listen_post(void *owner, unsigned index, struct listen_mail *mail) {
    struct worker *worker = owner;
    mail->mail.run = run_listen;
    process_post(worker->process, index, &mail->mail);
}

static bool parse_later(void *owner, struct traits_job *job) {
    struct worker *worker = owner;
    return process_parse_later(worker->process, worker, job);
}

/* ---- life */

/* Servers at an address that their host's name has left are replaced. */
static void follow_names(struct worker *worker) {
    struct dns *dns = worker->process->dns;
    uint32_t changes = dns_changes(dns);
    if (changes == worker->dns_changes) return;
    worker->dns_changes = changes;
    moved_replace(&worker->pools, dns);
    if (worker->index == 0) process_follow_names(worker->process);
}

static void on_tick(struct loop_timer *timer) {
    struct worker *worker = LIST_OWNER(timer, struct worker, tick);
    if (!worker->pools.is_suspended) {
        follow_names(worker);
        pool_set_tick(&worker->pools);
        client_set_tick(&worker->clients);
    }
    if (worker->index == 0) process_tick(worker->process);
}

static bool is_understood(const struct config *config, const struct config_database *entry) {
    return config_routing(config, entry, NULL) != ROUTING_OFF ||
           config_session_state(config, entry) == SESSION_STATE_TRACK;
}

/* Whether statements have to be understood in some database. */
static bool is_anything_understood(const struct config *config) {
    const struct config_database *other = config_database(config, bytes_of_text("*"));
    if (other != NULL && is_understood(config, other)) return true;
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        if (is_understood(config, config_database_at(config, i))) return true;
    }
    return false;
}

/* The cache costs memory only where statements have to be understood. */
static void need_traits(struct worker *worker, const struct config *config) {
    if (worker->clients.traits != NULL || config->entries[SETTING_SCOPE_DATABASE].count == 0 ||
        !is_anything_understood(config))
        return;
    worker->sink = (struct traits_job_sink){.post = parse_later, .owner = worker};
    worker->clients.traits = traits_cache_new((size_t)config->shapes_max,
                                              (unsigned)config->parse_inline_tokens, &worker->sink);
}

void worker_init(struct worker *worker, struct process *process, unsigned index,
                 struct config *config, struct users *users) {
    worker->process = process;
    worker->index = index;
    worker->loop = loop_new();
    loop_set_context(worker->loop, worker);
    worker->pools = (struct pool_set){.loop = worker->loop,
                                      .worker = index,
                                      .workers = process->workers_count,
                                      .databases = process->databases,
                                      .permits = process->permits,
                                      .listeners = process->shared_listeners,
                                      .texts = &worker->texts,
                                      .transport = transport_ref(process->transport),
                                      .ops = {.server_forget = server_forget,
                                              .server_forget_statements = server_forget_statements,
                                              .server_scrub = server_scrub,
                                              .wake = wake_other,
                                              .cancel_news = cancel_news,
                                              .cancel_ended = cancel_ended,
                                              .listen = listen_post,
                                              .owner = worker}};
    pool_set_init(&worker->pools, config, users);
    worker->clients = (struct client_set){.loop = worker->loop,
                                          .pools = &worker->pools,
                                          .texts = &worker->texts,
                                          .blocking = process->blocking,
                                          .total = &process->clients_total,
                                          .load = &worker->load,
                                          .ops = {.console_login = console_login,
                                                  .console_query = console_query,
                                                  .console_left = console_left,
                                                  .console_cancel = console_cancel,
                                                  .move_to_console = move_to_console,
                                                  .cancel = cancel,
                                                  .vacate = vacate,
                                                  .owner = worker}};
    client_set_init(&worker->clients);
    need_traits(worker, config);
    worker->tick.run = on_tick;
    loop_timer_start(worker->loop, &worker->tick, TICK_MS, TICK_MS);
}

void worker_run(struct worker *worker) {
    log_thread_buffered();
    log_line(LOG_LEVEL_DEBUG, "worker %u is running", worker->index);
    loop_run(worker->loop);
    log_flush();
}

static void thread_main(void *argument) {
    worker_run(argument);
}

void worker_start(struct worker *worker) {
    CHECK(uv_thread_create(&worker->thread, thread_main, worker) == 0);
    worker->has_thread = true;
}

void worker_join(struct worker *worker) {
    if (!worker->has_thread) return;
    CHECK(uv_thread_join(&worker->thread) == 0);
    worker->has_thread = false;
}

void worker_release(struct worker *worker) {
    loop_timer_stop(&worker->tick);
    client_set_release(&worker->clients);
    pool_set_release(&worker->pools);
    if (worker->clients.traits != NULL) traits_cache_free(&worker->clients.traits);
    statements_release(&worker->clients.statements);
    texts_release(&worker->texts);
}

void worker_free_loop(struct worker *worker) {
    resolver_close(&worker->resolver);
    loop_free(&worker->loop);
}

/* ---- messages */

static void run_stop(struct loop_mail *mail, void *context) {
    struct worker *worker = context;
    memory_free(mail);
    loop_stop(worker->loop);
}

void worker_stop(struct worker *worker) {
    struct loop_mail *mail = memory_new(sizeof *mail);
    mail->run = run_stop;
    loop_post(worker->loop, mail);
}

struct give_mail {
    struct loop_mail mail;
    struct socket_parts parts;
    size_t len;
    char packet[];
};

static void run_give(struct loop_mail *mail, void *context) {
    struct give_mail *give = (struct give_mail *)(void *)mail;
    struct worker *worker = context;
    client_accept(&worker->clients, give->parts, bytes_of(give->packet, give->len));
    memory_free(give);
}

void worker_give(struct worker *worker, struct socket_parts parts, struct bytes packet) {
    struct give_mail *give = memory_new(sizeof *give + packet.len);
    give->mail.run = run_give;
    give->parts = parts;
    give->len = packet.len;
    if (packet.len > 0) memcpy(give->packet, packet.at, packet.len);
    (void)atomic_fetch_add(&worker->load, 1);
    loop_post(worker->loop, &give->mail);
}

struct cancel_mail {
    struct loop_mail mail;
    struct cancel_ticket ticket;
    char key[CANCEL_KEY_BYTES];
};

static void run_cancel(struct loop_mail *mail, void *context) {
    struct cancel_mail *request = (struct cancel_mail *)(void *)mail;
    struct worker *worker = context;
    if (client_has_key(&worker->clients, request->key)) {
        client_cancel(&worker->clients, request->key, request->ticket);
    } else {
        process_cancel_unknown(worker->process, request->key, request->ticket);
    }
    memory_free(request);
}

void worker_cancel(struct worker *worker, const char *key, struct cancel_ticket ticket) {
    struct cancel_mail *request = memory_new(sizeof *request);
    request->mail.run = run_cancel;
    request->ticket = ticket;
    memcpy(request->key, key, sizeof request->key);
    loop_post(worker->loop, &request->mail);
}

struct apply_mail {
    struct loop_mail mail;
    struct config *config;
    struct users *users;
    struct transport *transport;
};

static void close_removed(struct worker *worker) {
    LIST_EACH (&worker->pools.all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (!atomic_load(&pool->database->is_removed)) continue;
        client_set_close_database(&worker->clients, pool->database, FAULT_DATABASE_REMOVED);
        pool_set_close_idle(&worker->pools, pool->database, "database removed");
    }
}

static void run_apply(struct loop_mail *mail, void *context) {
    struct apply_mail *apply = (struct apply_mail *)(void *)mail;
    struct worker *worker = context;
    need_traits(worker, apply->config);
    pool_set_apply(&worker->pools, apply->config, apply->users, apply->transport);
    client_set_apply(&worker->clients);
    close_removed(worker);
    memory_free(apply);
}

void worker_apply(struct worker *worker, struct config *config, struct users *users) {
    struct apply_mail *apply = memory_new(sizeof *apply);
    apply->mail.run = run_apply;
    apply->config = config;
    apply->users = users;
    apply->transport = transport_ref(worker->process->transport);
    loop_post(worker->loop, &apply->mail);
}

static void run_serve(struct loop_mail *mail, void *context) {
    struct worker *worker = context;
    memory_free(mail);
    atomic_store(&worker->is_serve_posted, false);
    pool_set_serve_all(&worker->pools);
}

void worker_serve(struct worker *worker) {
    if (atomic_exchange(&worker->is_serve_posted, true)) return;
    struct loop_mail *mail = memory_new(sizeof *mail);
    mail->run = run_serve;
    loop_post(worker->loop, mail);
}

struct reset_mail {
    struct loop_mail mail;
    struct cluster *cluster;
    unsigned node;
    char *why;
};

static void run_reset(struct loop_mail *mail, void *context) {
    struct reset_mail *reset = (struct reset_mail *)(void *)mail;
    struct worker *worker = context;
    pool_set_reset_node(&worker->pools, reset->cluster, reset->node, reset->why);
    cluster_free(&reset->cluster);
    memory_free(reset->why);
    memory_free(reset);
}

void worker_reset_node(struct worker *worker, struct cluster *cluster, unsigned node,
                       const char *why) {
    struct reset_mail *reset = memory_new(sizeof *reset);
    reset->mail.run = run_reset;
    reset->cluster = cluster_share(cluster);
    reset->node = node;
    reset->why = memory_copy_text(why);
    loop_post(worker->loop, &reset->mail);
}

struct mode_mail {
    struct loop_mail mail;
    enum worker_mode mode;
    struct database *database;
};

static void suspend(struct worker *worker, bool is_suspended) {
    worker->pools.is_suspended = is_suspended;
    pool_set_hold(&worker->pools, is_suspended);
    client_set_hold(&worker->clients, is_suspended);
}

static void take_mode(struct worker *worker, enum worker_mode mode, struct database *database) {
    switch (mode) {
    case WORKER_HOLD:
        if (database == NULL) worker->pools.is_paused = true;
        pool_set_close_idle(&worker->pools, database, "pause mode");
        break;
    case WORKER_SUSPEND:
        suspend(worker, true);
        break;
    case WORKER_GO_ON:
        if (database == NULL) worker->pools.is_paused = false;
        if (database == NULL && worker->pools.is_suspended) suspend(worker, false);
        pool_set_serve_all(&worker->pools);
        break;
    case WORKER_DRAIN:
        worker->pools.is_draining = true;
        worker->clients.is_refusing = true;
        pool_set_serve_all(&worker->pools);
        break;
    default:
        worker->clients.is_refusing = true;
        break;
    }
}

static void run_mode(struct loop_mail *mail, void *context) {
    struct mode_mail *change = (struct mode_mail *)(void *)mail;
    take_mode(context, change->mode, change->database);
    memory_free(change);
}

void worker_set_mode(struct worker *worker, enum worker_mode mode, struct database *database) {
    /* The console's own worker has the mode before the command is answered. */
    if (worker->index == 0) {
        take_mode(worker, mode, database);
        return;
    }
    struct mode_mail *change = memory_new(sizeof *change);
    change->mail.run = run_mode;
    change->mode = mode;
    change->database = database;
    loop_post(worker->loop, &change->mail);
}

struct quiet_mail {
    struct loop_mail mail;
    struct loop *asker;
    struct worker_question question;
    bool is_quiet;
};

static void run_answer(struct loop_mail *mail, void *context) {
    struct quiet_mail *asked = (struct quiet_mail *)(void *)mail;
    (void)context;
    asked->question.answer(asked->question.context, asked->is_quiet);
    memory_free(asked);
}

static void run_question(struct loop_mail *mail, void *context) {
    struct quiet_mail *asked = (struct quiet_mail *)(void *)mail;
    struct worker *worker = context;
    struct database *database = asked->question.database;
    if (asked->question.is_suspend) {
        bool is_late = asked->question.is_late;
        bool are_clients_done = client_set_is_sent(&worker->clients, is_late);
        asked->is_quiet = pool_set_is_sent(&worker->pools, is_late) && are_clients_done;
    } else {
        asked->is_quiet = pool_set_is_quiet(&worker->pools, database);
        if (asked->is_quiet) {
            listener_pause(&worker->pools, database, "pause mode");
            pool_set_close_idle(&worker->pools, database, "pause mode");
        }
    }
    asked->mail.run = run_answer;
    loop_post(asked->asker, &asked->mail);
}

void worker_ask_quiet(struct worker *worker, const struct worker_question *question) {
    struct quiet_mail *asked = memory_new(sizeof *asked);
    asked->mail.run = run_question;
    asked->asker = worker->process->workers[0].loop;
    asked->question = *question;
    loop_post(worker->loop, &asked->mail);
}
