/*
 * Start, run, reload and end; see process.h.
 *
 *      databases, permits, workers -> listeners -> probers -> threads -> "process up"
 *      a shutdown closes the listeners, waits as its kind asks, then stops every loop; what is
 *      left is released on the main thread, when no other thread runs any more
 */
#include "process.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define SCRAM_ITERATIONS 4096u

/* ---- users */

static void *derive_all(void *argument) {
    struct users *users = argument;
    users_derive_all(users);
    users_free(&users);
    return NULL;
}

/* Makes the verifiers of plain secrets ahead of the first logins, on a thread of its own. */
static void derive_later(struct process *process) {
    if (process->config->auth_type == AUTH_TYPE_TRUST) return;
    if (process->has_deriver) CHECK(pthread_join(process->deriver, NULL) == 0);
    process->has_deriver = true;
    CHECK(pthread_create(&process->deriver, NULL, derive_all, users_retain(process->users)) == 0);
}

static struct users *make_users(struct process *process, const struct config *config) {
    struct users *users = users_new(&process->scram);
    struct buf error = {0};
    if (config->auth_file[0] != '\0' && !users_load(users, config->auth_file, &error))
        log_line(LOG_LEVEL_ERROR, "%s", buf_text(&error));
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_USER].count; i++) {
        const struct config_user *user = config_user_at(config, i);
        if (user->secret == NULL) continue;
        buf_clear(&error);
        if (!users_add(users, bytes_of_text(user->entry.name), bytes_of_text(user->secret), &error))
            log_line(LOG_LEVEL_ERROR, "%s", buf_text(&error));
    }
    buf_release(&error);
    return users;
}

/* ---- probers */

static void on_probe_changed(void *owner, struct cluster *cluster) {
    struct process *process = owner;
    (void)cluster;
    for (unsigned i = 0; i < process->workers_count; i++) worker_serve(&process->workers[i]);
}

static void on_probe_reset(void *owner, struct cluster *cluster, unsigned node, const char *why) {
    struct process *process = owner;
    for (unsigned i = 0; i < process->workers_count; i++)
        worker_reset_node(&process->workers[i], cluster, node, why);
}

static const struct probe_ops probe_callbacks = {.changed = on_probe_changed,
                                                 .reset = on_probe_reset};

/* The secret to probe with: the one that is set, else the user's own where it is a plain one. */
static const char *probe_secret(const struct process *process,
                                const struct config_probe_login *login, struct buf *room) {
    if (login->password != NULL && login->password[0] != '\0') return login->password;
    struct user *user = users_find(process->users, bytes_of_text(login->user));
    if (user == NULL || user->kind != USER_SECRET_PLAIN) return NULL;
    buf_append_bytes(room, user->secret);
    return buf_text(room);
}

/* Starts a prober; NULL, told in the log, where there is nobody to probe as. */
static struct probe *open_probe(struct process *process, struct database *database,
                                struct cluster *cluster) {
    const struct config *config = process->config;
    const struct config_database *entry = config_database(config, bytes_of_text(database->name));
    if (entry == NULL) return NULL;
    struct config_probe_login login = config_probe_login(config, entry);
    if (login.user == NULL) {
        log_line(LOG_LEVEL_ERROR,
                 "database %s is routed, but there is no user to probe its nodes with: set "
                 "probe_user, or user in its entry",
                 database->name);
        return NULL;
    }
    struct buf room = {0};
    struct bytes dbname = config_dbname(entry, bytes_of_text(database->name));
    char *name = memory_copy(dbname.at, dbname.len);
    struct probe_settings settings = {
        .user = login.user,
        .password = probe_secret(process, &login, &room),
        .database = name,
        .interval_ms = (unsigned)(config->probe_interval_us / US_PER_MS),
        .connect_timeout_ms = (unsigned)(config->probe_timeout_us / US_PER_MS),
        .query_timeout_ms = (unsigned)(config->probe_timeout_us / US_PER_MS),
        .rise = (unsigned)config->probe_rise,
        .fall = (unsigned)config->probe_fall};
    struct probe *probe =
        probe_open(process->workers[0].loop, cluster, &settings, &probe_callbacks, process);
    memory_free(name);
    memory_wipe(room.memory, room.size);
    buf_release(&room);
    return probe;
}

static void start_probe(struct process *process, struct database *database,
                        struct cluster *cluster) {
    if (process->probes_count == PROBES_MAX) {
        log_line(LOG_LEVEL_ERROR, "database %s is not probed: at most %d are", database->name,
                 PROBES_MAX);
        return;
    }
    struct probe *probe = open_probe(process, database, cluster);
    if (probe == NULL) return;
    unsigned place = process->probes_count++;
    process->probes[place].database = database;
    process->probes[place].cluster = cluster;
    process->probes[place].probe = probe;
}

struct made_mail {
    struct loop_mail mail;
    struct process *process;
    struct database *database;
    struct cluster *cluster;
};

/* A database has another cluster now: its former prober ends, a new one starts. */
static void run_made(struct loop_mail *mail, void *context) {
    struct made_mail *made = (struct made_mail *)(void *)mail;
    struct process *process = made->process;
    (void)context;
    for (unsigned i = 0; i < process->probes_count; i++) {
        if (process->probes[i].database != made->database) continue;
        probe_close(&process->probes[i].probe);
        process->probes[i] = process->probes[--process->probes_count];
        break;
    }
    if (cluster_is_probed(made->cluster)) start_probe(process, made->database, made->cluster);
    cluster_free(&made->cluster);
    memory_free(made);
}

static void on_cluster_made(void *owner, struct database *database,
                            const struct config_database *entry) {
    struct process *process = owner;
    (void)entry;
    struct made_mail *made = memory_new(sizeof *made);
    made->mail.run = run_made;
    made->process = process;
    made->database = database;
    made->cluster = cluster_share(database->cluster);
    loop_post(process->workers[0].loop, &made->mail);
}

/* ---- messages between workers */

void process_post(struct process *process, unsigned worker, struct loop_mail *mail) {
    CHECK(worker < process->workers_count);
    loop_post(process->workers[worker].loop, mail);
}

bool process_parse_later(struct process *process, struct worker *worker, struct traits_job *job) {
    return parser_post(process->parser, worker, job);
}

void process_cancel(struct process *process, const char key[8]) {
    unsigned worker = (unsigned char)key[0] >> 2;
    if (worker >= process->workers_count) {
        log_line(LOG_LEVEL_LOG, "failed cancel request");
        return;
    }
    worker_cancel(&process->workers[worker], key);
}

/* ---- listening */

static void on_accept(void *owner, int fd) {
    struct process *process = owner;
    struct worker *least = &process->workers[0];
    for (unsigned i = 1; i < process->workers_count; i++) {
        if (atomic_load(&process->workers[i].load) < atomic_load(&least->load))
            least = &process->workers[i];
    }
    if (least->index != 0) {
        worker_give(least, fd, bytes_of(NULL, 0));
        return;
    }
    (void)atomic_fetch_add(&least->load, 1);
    client_accept(&least->clients, fd, bytes_of(NULL, 0));
}

static bool add_listener(struct process *process, struct endpoint_listener *listener,
                         const char *what, const char *error) {
    if (listener == NULL) {
        log_line(LOG_LEVEL_FATAL, "%s", error);
        return false;
    }
    if (process->listeners_count == LISTENERS_MAX) {
        log_line(LOG_LEVEL_FATAL, "too many addresses to listen on");
        endpoint_listener_close(&listener);
        return false;
    }
    log_line(LOG_LEVEL_LOG, "listening on %s", what);
    process->listeners[process->listeners_count++] = listener;
    return true;
}

static bool listen_on(struct process *process, const char *address, bool is_needed) {
    const struct config *config = process->config;
    char error[ENDPOINT_TEXT_SIZE] = "";
    char what[ENDPOINT_TEXT_SIZE * 2];
    unsigned port = (unsigned)config->listen_port;
    (void)snprintf(what, sizeof what, "%s:%u", address, port);
    struct endpoint_listener *listener =
        endpoint_listen_tcp(process->workers[0].loop, address, port, config->listen_backlog, error);
    if (listener == NULL && !is_needed) return true;
    return add_listener(process, listener, what, error);
}

static bool listen_all(struct process *process) {
    const struct config *config = process->config;
    struct loop *loop = process->workers[0].loop;
    char error[ENDPOINT_TEXT_SIZE] = "";
    char what[ENDPOINT_TEXT_SIZE * 2];
    unsigned port = (unsigned)config->listen_port;
    for (size_t i = 0; i < config->listen_addr.count; i++) {
        const char *address = config->listen_addr.items[i];
        bool is_all = strcmp(address, "*") == 0;
        if (!listen_on(process, is_all ? "0.0.0.0" : address, true)) return false;
        /* A machine without IPv6 is a machine all the same. */
        if (is_all && !listen_on(process, "::", false)) return false;
    }
    if (config->unix_socket_dir[0] == '\0') return true;
    char path[ENDPOINT_TEXT_SIZE];
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%u", config->unix_socket_dir, port);
    (void)snprintf(what, sizeof what, "unix:%s", path);
    return add_listener(process,
                        endpoint_listen_unix(loop, path, (unsigned)config->unix_socket_mode,
                                             config->listen_backlog, error),
                        what, error);
}

static void set_listeners(struct process *process) {
    struct endpoint_options options = pool_socket_options(process->config);
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_set(process->listeners[i], &options);
}

static void accept_all(struct process *process) {
    set_listeners(process);
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_start(process->listeners[i], on_accept, process);
}

static void stop_listening(struct process *process) {
    while (process->listeners_count > 0)
        endpoint_listener_close(&process->listeners[--process->listeners_count]);
}

/* ---- new settings */

static bool texts_differ(const char *a, const char *b) {
    if (a == NULL || b == NULL) return a != b;
    return strcmp(a, b) != 0;
}

/* Whether the nodes of a database are probed otherwise in another snapshot. */
static bool probing_differs(const struct database *database, const struct config *from,
                            const struct config *to) {
    struct bytes name = bytes_of_text(database->name);
    const struct config_database *old = config_database(from, name);
    const struct config_database *new = config_database(to, name);
    if (old == NULL || new == NULL) return false;
    struct config_probe_login a = config_probe_login(from, old);
    struct config_probe_login b = config_probe_login(to, new);
    return texts_differ(a.user, b.user) || texts_differ(a.password, b.password) ||
           from->probe_interval_us != to->probe_interval_us ||
           from->probe_timeout_us != to->probe_timeout_us || from->probe_rise != to->probe_rise ||
           from->probe_fall != to->probe_fall;
}

/* Starts the probers anew that are to work otherwise; what they know stays with the nodes. */
static void restart_probes(struct process *process, const struct config *from) {
    for (unsigned i = 0; i < process->probes_count; i++) {
        struct database *database = process->probes[i].database;
        if (!probing_differs(database, from, process->config)) continue;
        struct cluster *cluster = database_cluster(process->databases, database);
        probe_close(&process->probes[i].probe);
        process->probes[i].probe = open_probe(process, database, cluster);
        cluster_free(&cluster);
    }
}

static void apply(struct process *process, struct config *config) {
    struct config *from = config_ref(process->config);
    databases_apply(process->databases, process->config, config);
    config_unref(&process->config);
    process->config = config;
    struct users *users = make_users(process, config);
    users_free(&process->users);
    process->users = users;
    derive_later(process);
    log_set_verbose(config->verbose);
    set_listeners(process);
    databases_make_all(process->databases, config);
    restart_probes(process, from);
    config_unref(&from);
    for (unsigned i = 0; i < process->workers_count; i++)
        worker_apply(&process->workers[i], config_ref(config), users_retain(users));
    admin_apply(process->admin, config);
}

static bool on_reload(void *owner, struct config_errors *errors) {
    struct process *process = owner;
    struct config *config = config_reload(process->config, errors);
    if (config == NULL) return false;
    if (!log_open(config->logfile, false))
        log_line(LOG_LEVEL_ERROR, "logfile %s: %s", config->logfile, strerror(errno));
    apply(process, config);
    return true;
}

static bool on_set(void *owner, const char *key, const char *value, struct config_errors *errors) {
    struct process *process = owner;
    struct config *config = config_with(process->config, key, value, errors);
    if (config == NULL) return false;
    apply(process, config);
    return true;
}

/* ---- pause */

static void pause_over(struct pause *pause) {
    if (pause->is_over) return;
    pause->is_over = true;
    pause->done(pause->context);
}

static void on_quiet(void *context, bool is_quiet) {
    struct pause *pause = context;
    if (!is_quiet) pause->is_quiet = false;
    if (--pause->answers_owed > 0) return;
    if (pause->is_quiet) pause_over(pause);
}

static void set_mode(struct process *process, enum worker_mode mode, struct database *database) {
    for (unsigned i = 0; i < process->workers_count; i++)
        worker_set_mode(&process->workers[i], mode, database);
}

static void add_pause(struct process *process, struct database *database,
                      void (*done)(void *context), void *context) {
    struct pause *pause = memory_new(sizeof *pause);
    pause->process = process;
    pause->database = database;
    pause->done = done;
    pause->context = context;
    list_append(&process->pauses, &pause->link);
}

static void on_pause(void *owner, struct database *database, void (*done)(void *context),
                     void *context) {
    struct process *process = owner;
    if (database == NULL) {
        process->is_paused = true;
    } else {
        atomic_store(&database->is_paused, true);
    }
    set_mode(process, WORKER_HOLD, database);
    add_pause(process, database, done, context);
}

static bool on_resume(void *owner, struct database *database) {
    struct process *process = owner;
    bool was_paused = database == NULL ? process->is_paused : atomic_load(&database->is_paused);
    if (!was_paused) return false;
    if (database == NULL) {
        process->is_paused = false;
    } else {
        atomic_store(&database->is_paused, false);
    }
    set_mode(process, WORKER_GO_ON, database);
    LIST_EACH (&process->pauses, l) {
        struct pause *pause = LIST_OWNER(l, struct pause, link);
        if (pause->database == database) pause_over(pause);
    }
    return true;
}

static void tick_pauses(struct process *process) {
    LIST_EACH_SAFE (&process->pauses, l, following) {
        struct pause *pause = LIST_OWNER(l, struct pause, link);
        if (pause->answers_owed > 0) continue;
        if (pause->is_over) {
            list_remove(&process->pauses, &pause->link);
            memory_free(pause);
            continue;
        }
        pause->is_quiet = true;
        pause->answers_owed = process->workers_count;
        for (unsigned i = 0; i < process->workers_count; i++)
            worker_ask_quiet(&process->workers[i], pause->database, on_quiet, pause);
    }
}

/* ---- the end */

static void stop_now(struct process *process) {
    for (unsigned i = 0; i < process->workers_count; i++) worker_stop(&process->workers[i]);
}

static void on_drained(void *context) {
    log_line(LOG_LEVEL_LOG, "server connections dropped, exiting");
    stop_now(context);
}

static void on_shutdown(void *owner, enum admin_shutdown mode) {
    struct process *process = owner;
    bool is_again = process->is_shutting_down;
    process->is_shutting_down = true;
    process->shutdown = mode;
    stop_listening(process);
    if (is_again || mode == ADMIN_SHUTDOWN_NOW) {
        stop_now(process);
    } else if (mode == ADMIN_SHUTDOWN_WAIT_FOR_SERVERS) {
        set_mode(process, WORKER_DRAIN, NULL);
        add_pause(process, NULL, on_drained, process);
    } else {
        set_mode(process, WORKER_REFUSE, NULL);
    }
}

static void tick_shutdown(struct process *process) {
    if (!process->is_shutting_down || process->shutdown != ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS) return;
    int consoles = (int)process->workers[0].clients.clients[CLIENT_CONSOLE].count;
    if (atomic_load(&process->clients_total) > consoles) return;
    log_line(LOG_LEVEL_LOG, "client connections dropped, exiting");
    stop_now(process);
}

void process_tick(struct process *process) {
    tick_pauses(process);
    tick_shutdown(process);
    admin_tick(process->admin);
}

/* ---- signals */

static void reload_by_signal(struct process *process) {
    struct config_errors errors = {0};
    log_line(LOG_LEVEL_LOG, "got SIGHUP, re-reading config");
    if (!on_reload(process, &errors)) log_line(LOG_LEVEL_WARNING, "config file loading failed");
    config_errors_log(&errors);
    config_errors_release(&errors);
}

static void nothing(void *context) {
    (void)context;
}

static void pause_by_signal(struct process *process) {
    if (process->is_paused) {
        log_line(LOG_LEVEL_LOG, "got SIGUSR1, but already paused/suspended");
        return;
    }
    log_line(LOG_LEVEL_LOG, "got SIGUSR1, pausing all activity");
    on_pause(process, NULL, nothing, NULL);
}

static void resume_by_signal(struct process *process) {
    log_line(LOG_LEVEL_LOG, on_resume(process, NULL) ? "got SIGUSR2, continuing from PAUSE"
                                                     : "got SIGUSR2, but not paused/suspended");
}

static void end_by_signal(struct process *process, int number) {
    const char *name = number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "SIGQUIT";
    enum admin_shutdown mode = number == SIGINT    ? ADMIN_SHUTDOWN_WAIT_FOR_SERVERS
                               : number == SIGTERM ? ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS
                                                   : ADMIN_SHUTDOWN_NOW;
    if (process->is_shutting_down || mode == ADMIN_SHUTDOWN_NOW) {
        log_line(LOG_LEVEL_LOG, "got %s%s, fast exit", name,
                 process->is_shutting_down ? " while shutting down" : "");
        mode = ADMIN_SHUTDOWN_NOW;
    } else {
        log_line(LOG_LEVEL_LOG, "got %s, shutting down, waiting for all %s", name,
                 number == SIGINT ? "servers connections to be released" : "clients disconnect");
    }
    on_shutdown(process, mode);
}

static void on_signal(void *context, int number) {
    struct worker *worker = context;
    struct process *process = worker->process;
    switch (number) {
    case SIGHUP:
        reload_by_signal(process);
        break;
    case SIGUSR1:
        pause_by_signal(process);
        break;
    case SIGUSR2:
        resume_by_signal(process);
        break;
    default:
        end_by_signal(process, number);
        break;
    }
}

/* ---- start and end */

static void raise_descriptor_limit(const struct config *config) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    unsigned long long before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    log_line(LOG_LEVEL_LOG, "kernel file descriptor limit: %llu (hard: %llu); max_client_conn: %d",
             before, (unsigned long long)limit.rlim_max, config->max_client_conn);
}

static bool write_pidfile(const char *path) {
    if (path[0] == '\0') return true;
    char text[32];
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool is_written = fd >= 0 && write(fd, text, (size_t)len) == len;
    if (fd >= 0) (void)close(fd);
    if (!is_written) log_line(LOG_LEVEL_FATAL, "pidfile %s: %s", path, strerror(errno));
    return is_written;
}

static void init(struct process *process, struct config *config) {
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2};
    process->config = config;
    list_init(&process->pauses);
    users_scram_init(&process->scram, SCRAM_ITERATIONS);
    process->users = make_users(process, config);
    process->workers_count = (unsigned)config->workers;
    process->workers = memory_new(process->workers_count * sizeof(struct worker));
    process->admin_workers = memory_new(process->workers_count * sizeof(struct admin_worker));
    struct databases_ops ops = {.cluster_made = on_cluster_made, .owner = process};
    process->databases = databases_new(&ops);
    process->permits = permits_new(process->workers_count);
    process->parser = parser_new();
    for (unsigned i = 0; i < process->workers_count; i++) {
        struct worker *worker = &process->workers[i];
        worker_init(worker, process, i, config_ref(config), users_retain(process->users));
        process->admin_workers[i] = (struct admin_worker){
            .loop = worker->loop, .pools = &worker->pools, .clients = &worker->clients};
    }
    struct admin_ops admin_ops = {.reload = on_reload,
                                  .set = on_set,
                                  .pause = on_pause,
                                  .resume = on_resume,
                                  .shutdown = on_shutdown,
                                  .owner = process};
    process->admin = admin_new(process->admin_workers, process->workers_count, process->databases,
                               config, &admin_ops);
    for (size_t i = 0; i < COUNT(signals); i++)
        loop_on_signal(process->workers[0].loop, signals[i], on_signal);
}

static bool start(struct process *process) {
    const struct config *config = process->config;
    struct buf error = {0};
    raise_descriptor_limit(config);
    bool is_up = listen_all(process);
    if (is_up && !admin_http_start(process->admin, config->http_listen, &error)) {
        log_line(LOG_LEVEL_FATAL, "%s", buf_text(&error));
        is_up = false;
    }
    buf_release(&error);
    if (!is_up || !write_pidfile(config->pidfile)) return false;
    process->has_pidfile = config->pidfile[0] != '\0';
    databases_make_all(process->databases, config);
    derive_later(process);
    for (unsigned i = 1; i < process->workers_count; i++) worker_start(&process->workers[i]);
    accept_all(process);
    admin_started(process->admin);
    log_line(LOG_LEVEL_LOG, "process up: weir %s, libuv %s, tls: %s", WEIR_VERSION,
             uv_version_string(), OpenSSL_version(OPENSSL_VERSION));
    return true;
}

static void release(struct process *process) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL); /* a late signal must not end it half-way */
    for (unsigned i = 1; i < process->workers_count; i++) worker_join(&process->workers[i]);
    stop_listening(process);
    parser_free(&process->parser);
    /* Messages own what they carry; some post another one. */
    for (unsigned pass = 0; pass < 3; pass++) {
        for (unsigned i = 0; i < process->workers_count; i++)
            loop_run_mail(process->workers[i].loop);
    }
    while (process->probes_count > 0) probe_close(&process->probes[--process->probes_count].probe);
    for (unsigned i = 0; i < process->workers_count; i++) worker_release(&process->workers[i]);
    for (unsigned i = 0; i < process->workers_count; i++) loop_run_mail(process->workers[i].loop);
    admin_free(&process->admin);
    struct link *l;
    while ((l = list_pop(&process->pauses)) != NULL) memory_free(LIST_OWNER(l, struct pause, link));
    for (unsigned i = 0; i < process->workers_count; i++) worker_free_loop(&process->workers[i]);
    databases_free(&process->databases);
    permits_free(&process->permits);
    if (process->has_deriver) CHECK(pthread_join(process->deriver, NULL) == 0);
    if (process->has_pidfile) (void)unlink(process->config->pidfile);
    users_free(&process->users);
    config_unref(&process->config);
    memory_free(process->workers);
    memory_free(process->admin_workers);
}

int process_run(struct config *config) {
    struct process process = {0};
    init(&process, config);
    bool is_up = start(&process);
    if (is_up) worker_run(&process.workers[0]);
    release(&process);
    log_flush();
    return is_up ? 0 : 1;
}
