/*
 * Start, run, reload and end; see process.h.
 *
 *      databases, permits, workers -> listeners -> probers -> threads -> "process up"
 *      ... -> every loop is stopped (modes.c); what is left is released on the main thread, when no
 *      other thread runs any more
 */
#include "process.h"

#include "auth/access.h"
#include "auth/blocking.h"
#include "client/request_cancel.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "handover.h"
#include "net/dns.h"
#include "net/resolver.h"
#include "net/zones.h"
#include "notify.h"
#include "pool/listener.h"
#include "start.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- users */

static void *derive_all(void *argument) {
    users_derive_all(argument);
    return NULL;
}

static void stop_deriving(struct process *process) {
    if (process->derived == NULL) return;
    users_stop_deriving(process->derived);
    CHECK(pthread_join(process->deriver, NULL) == 0);
    users_free(&process->derived);
}

/* Makes the verifiers of plain secrets ahead of the first logins, on a thread of its own. */
static void derive_later(struct process *process) {
    enum auth_type type = process->config->auth_type;
    if (type != AUTH_TYPE_SCRAM_SHA_256 && type != AUTH_TYPE_HBA) return;
    stop_deriving(process);
    process->derived = users_retain(process->users);
    CHECK(pthread_create(&process->deriver, NULL, derive_all, process->derived) == 0);
}

static struct users_scram scram_of(const struct process *process, const struct config *config) {
    struct users_scram scram = process->scram;
    scram.iterations = (unsigned)config->scram_iterations;
    return scram;
}

/* What was wrong with the files of users and rules is logged; where that forbids to go on it goes
 * to `errors` instead, and the users are let go. */
static struct users *judge_users(struct process *process, struct users *users,
                                 struct rules_report *report, bool is_refused,
                                 struct config_errors *errors) {
    if (is_refused) {
        buf_append_bytes(&errors->text, buf_content(&report->errors));
        errors->count += report->errors_count;
        users_free(&users);
    } else {
        access_log(report);
        if (process->users != NULL) users_keep_verifiers(users, process->users);
    }
    rules_report_release(report);
    return users;
}

/* Reads the files of users and rules; NULL with errors. */
static struct users *load_users(struct process *process, const struct config *config,
                                struct config_errors *errors) {
    struct rules_report report = {.errors_count = 0};
    struct users_scram scram = scram_of(process, config);
    struct users *users = access_load(config, &scram, &report);
    bool is_refused = access_is_refused(config, &report, process->users != NULL);
    return judge_users(process, users, &report, is_refused, errors);
}

/* The users after a SET of `key`: nearly always those that there are; NULL with errors. */
static struct users *users_after_set(struct process *process, const struct config *config,
                                     const char *key, struct config_errors *errors) {
    unsigned parts;
    if (config == process->config || !access_is_setting(key, &parts))
        return users_retain(process->users);
    struct rules_report report = {.errors_count = 0};
    struct users_scram scram = scram_of(process, config);
    struct users *users = access_load_parts(config, &scram, process->users, parts, &report);
    return judge_users(process, users, &report, access_is_refused(config, &report, false), errors);
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

static struct fitness_limits limits_of(const struct config *config,
                                       const struct config_database *entry) {
    struct config_choice choice = config_choice(config, entry);
    return (struct fitness_limits){
        .lag_bytes = (uint64_t)choice.max_replica_lag,
        .lag_ms = choice.max_replica_lag_time_us / US_PER_MS,
        .slow_start_us = config->fitness.slow_start_us,
        .error_window_us = config->fitness.error_window_us,
        .error_limit = (unsigned)config->fitness.error_limit,
    };
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
        .patroni_url = config_patroni_url(config, entry),
        .database_hash = database->hash,
        .allowed = config_replica_allow(config, entry),
        .security = transport_security(process->transport),
        .interval_ms = (unsigned)(config->probe_interval_us / US_PER_MS),
        .connect_timeout_ms = (unsigned)(config->probe_timeout_us / US_PER_MS),
        .query_timeout_ms = (unsigned)(config->probe_timeout_us / US_PER_MS),
        .rise = (unsigned)config->probe_rise,
        .fall = (unsigned)config->probe_fall,
        .limits = limits_of(config, entry)};
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

static void end_probe(struct process *process, const struct database *database) {
    for (unsigned i = 0; i < process->probes_count; i++) {
        if (process->probes[i].database != database) continue;
        probe_close(&process->probes[i].probe);
        process->probes[i] = process->probes[--process->probes_count];
        break;
    }
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
    end_probe(process, made->database);
    if (cluster_is_probed(made->cluster)) start_probe(process, made->database, made->cluster);
    cluster_free(&made->cluster);
    memory_free(made);
}

static void on_dropped(void *owner, struct database *database) {
    end_probe(owner, database);
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

void process_cancel(struct process *process, const char *key, struct cancel_ticket ticket) {
    /* A key of a worker that is not there is nobody's: any worker says so. */
    unsigned worker = client_key_worker(key, process->workers_count);
    worker_cancel(&process->workers[worker], key, ticket);
}

struct unknown_mail {
    struct loop_mail mail;
    char key[CANCEL_KEY_BYTES];
    struct cancel_ticket ticket;
};

static void run_unknown(struct loop_mail *mail, void *context) {
    struct unknown_mail *unknown = (struct unknown_mail *)(void *)mail;
    struct worker *worker = context;
    bool is_sent = handover_cancel(worker->process, unknown->key);
    cancel_answer(&worker->pools, unknown->ticket,
                  is_sent ? "successfully sent cancel request" : "failed cancel request");
    memory_free(unknown);
}

void process_cancel_unknown(struct process *process, const char *key, struct cancel_ticket ticket) {
    struct unknown_mail *unknown = memory_new(sizeof *unknown);
    unknown->mail.run = run_unknown;
    memcpy(unknown->key, key, sizeof unknown->key);
    unknown->ticket = ticket;
    loop_post(process->workers[0].loop, &unknown->mail);
}

static bool on_choose(void *owner, const char *node, struct buf *error) {
    struct process *process = owner;
    bool is_chosen = false;
    for (unsigned i = 0; i < process->probes_count; i++) {
        struct buf why = {0};
        struct probe *probe = process->probes[i].probe;
        if (probe != NULL && probe_choose(probe, node, &why)) is_chosen = true;
        if (buf_length(error) == 0) buf_append_bytes(error, buf_content(&why));
        buf_release(&why);
    }
    if (process->probes_count == 0) buf_append_text(error, "no database is routed");
    return is_chosen;
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
    return texts_differ(config_patroni_url(from, old), config_patroni_url(to, new)) ||
           texts_differ(config_replica_allow(from, old), config_replica_allow(to, new)) ||
           texts_differ(a.user, b.user) || texts_differ(a.password, b.password) ||
           from->probe_interval_us != to->probe_interval_us ||
           from->probe_timeout_us != to->probe_timeout_us || from->probe_rise != to->probe_rise ||
           from->probe_fall != to->probe_fall;
}

/* Starts the probers anew that are to work otherwise; what they know stays with the nodes. */
static void restart_probes(struct process *process, const struct config *from, bool is_needed) {
    for (unsigned i = 0; i < process->probes_count; i++) {
        struct database *database = process->probes[i].database;
        const struct config_database *entry =
            config_database(process->config, bytes_of_text(database->name));
        if (!is_needed && !probing_differs(database, from, process->config)) {
            if (process->probes[i].probe != NULL && entry != NULL) {
                struct fitness_limits limits = limits_of(process->config, entry);
                probe_limit(process->probes[i].probe, &limits);
            }
            continue;
        }
        struct cluster *cluster = database_cluster(process->databases, database);
        probe_close(&process->probes[i].probe);
        process->probes[i].probe = open_probe(process, database, cluster);
        cluster_free(&cluster);
    }
}

/* Connections are secured otherwise from now on; takes over the reference, NULL: as before. True
 * if servers are reached otherwise. */
static bool take_transport(struct process *process, struct transport *transport) {
    if (transport == NULL) return false;
    bool do_servers_differ = transport_servers_differ(process->transport, transport);
    if (do_servers_differ) databases_recycle(process->databases);
    transport_unref(&process->transport);
    process->transport = transport;
    return do_servers_differ;
}

/* How names are looked up from now on; nothing is watched before the first start. */
static void set_dns(struct process *process, const struct config *config) {
    dns_set_ttls(process->dns, config->dns_max_ttl_us, config->dns_nxdomain_ttl_us);
    zones_set_period(process->zones, config->dns_zone_check_period_us);
}

/* Puts a new configuration in force, its users, and a transport if there is one, all of which it
 * takes over; false, without any of it, if there are no users. */
static bool apply(struct process *process, struct config *config, struct users *users,
                  struct transport *transport) {
    if (users == NULL) {
        config_unref(&config);
        transport_unref(&transport);
        return false;
    }
    bool do_servers_differ = take_transport(process, transport);
    (void)process_open_log(config, &process->options);
    struct config *from = config_ref(process->config);
    databases_apply(process->databases, process->config, config);
    config_unref(&process->config);
    process->config = config;
    bool are_other = users != process->users;
    users_free(&process->users);
    process->users = users;
    if (are_other) derive_later(process);
    set_dns(process, config);
    process_set_listeners(process);
    databases_make_all(process->databases, config);
    restart_probes(process, from, do_servers_differ);
    config_unref(&from);
    for (unsigned i = 0; i < process->workers_count; i++)
        worker_apply(&process->workers[i], config_ref(config), users_retain(users));
    admin_apply(process->admin, config);
    return true;
}

static bool reload(struct process *process, struct config_errors *errors) {
    struct config *config = config_reload(process->config, errors);
    if (config == NULL) return false;
    struct buf error = {0};
    struct transport *transport = transport_new(config, &error);
    if (transport == NULL) {
        log_line(LOG_LEVEL_ERROR, "%s", buf_text(&error));
        log_line(LOG_LEVEL_ERROR, "TLS configuration could not be reloaded, keeping old "
                                  "configuration");
        buf_release(&error);
        config_unref(&config);
        return false;
    }
    return apply(process, config, load_users(process, config, errors), transport);
}

bool process_reload(void *owner, struct config_errors *errors) {
    notify_reloading();
    bool is_applied = reload(owner, errors);
    notify_ready();
    return is_applied;
}

static const char *on_hand_over(void *owner, struct client *console, const char *version) {
    return handover_start(owner, console, version);
}

static void on_status(void *owner, const char *text) {
    (void)owner;
    notify_status(text);
}

/* Settings of TLS come one at a time and need not fit until the last of them. */
static struct transport *try_transport(struct config *config, struct config_errors *errors) {
    struct buf error = {0};
    struct transport *transport = transport_new(config, &error);
    if (transport == NULL) {
        log_line(LOG_LEVEL_ERROR, "%s", buf_text(&error));
        errors->notice = "TLS settings could not be applied, still using old configuration";
    }
    buf_release(&error);
    return transport;
}

static bool on_set(void *owner, const char *key, const char *value, struct config_errors *errors) {
    struct process *process = owner;
    struct config *config = config_with(process->config, key, value, errors);
    if (config == NULL) return false;
    struct transport *transport = transport_is_setting(key) ? try_transport(config, errors) : NULL;
    return apply(process, config, users_after_set(process, config, key, errors), transport);
}

void process_follow_names(struct process *process) {
    for (unsigned i = 0; i < process->probes_count; i++)
        probe_follow_names(process->probes[i].probe, process->dns);
}

void process_vacate(struct process *process, const char *host, unsigned port,
                    const char *database) {
    for (unsigned i = 0; i < process->probes_count; i++)
        probe_vacate(process->probes[i].probe, host, port, database);
}

void process_tick(struct process *process) {
    process_tick_modes(process);
    handover_tick(process);
    databases_sweep(process->databases, loop_now_us(process->workers[0].loop),
                    process->config->autodb_idle_timeout_us);
    admin_tick(process->admin);
}

/* ---- start and end */

/* Clients, and every pool that could come to be at its full size. */
static unsigned long long expected_descriptors(const struct config *config) {
    const unsigned long long console = 2, others = 10;
    size_t users = config->entries[SETTING_SCOPE_USER].count;
    unsigned long long sum = (unsigned long long)config->max_client_conn + others + console;
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        const struct config_database *entry = config_database_at(config, i);
        unsigned long long size = (unsigned long long)config_pool_size(config, entry, NULL);
        sum += size * (entry->user != NULL || users == 0 ? 1 : users);
    }
    return sum;
}

static void raise_descriptor_limit(const struct config *config) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    unsigned long long before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    log_line(
        LOG_LEVEL_LOG,
        "kernel file descriptor limit: %llu (hard: %llu); max_client_conn: %d, max expected fd "
        "use: %llu",
        before, (unsigned long long)limit.rlim_max, config->max_client_conn,
        expected_descriptors(config));
}

static bool read_users(struct process *process, const struct config *config) {
    struct config_errors errors = {0};
    users_scram_init(&process->scram, (unsigned)config->scram_iterations);
    process->users = load_users(process, config, &errors);
    config_errors_log(&errors);
    config_errors_release(&errors);
    if (process->users != NULL) return true;
    log_line(LOG_LEVEL_FATAL, "hba_strict = 1 forbids to start with files that have errors");
    return false;
}

static void init(struct process *process, struct config *config, struct transport *transport) {
    process->transport = transport;
    process->config = config;
    list_init(&process->pauses);
    process->workers_count = (unsigned)config->workers;
    process->workers = memory_new(process->workers_count * sizeof(struct worker));
    process->admin_workers = memory_new(process->workers_count * sizeof(struct admin_worker));
    struct databases_ops ops = {
        .cluster_made = on_cluster_made, .dropped = on_dropped, .owner = process};
    process->databases = databases_new(&ops);
    process->permits = permits_new(process->workers_count);
    process->shared_listeners = listeners_new();
    process->dns = dns_new();
    process->parser = parser_new();
    process->blocking = blocking_new();
    for (unsigned i = 0; i < process->workers_count; i++) {
        struct worker *worker = &process->workers[i];
        worker_init(worker, process, i, config_ref(config), users_retain(process->users));
        process->admin_workers[i] = (struct admin_worker){
            .loop = worker->loop, .pools = &worker->pools, .clients = &worker->clients};
    }
    struct admin_ops admin_ops = {.reload = process_reload,
                                  .set = on_set,
                                  .pause = process_pause,
                                  .resume = process_resume,
                                  .suspend = process_suspend,
                                  .hand_over = on_hand_over,
                                  .choose = on_choose,
                                  .shutdown = process_shut_down,
                                  .status = on_status,
                                  .owner = process};
    process->admin = admin_new(process->admin_workers, process->workers_count, process->databases,
                               config, &admin_ops);
    process_take_signals(process);
}

/* Names can be looked up from now on; the file is read by each worker's resolver, once. */
static bool start_dns(struct process *process) {
    const struct config *config = process->config;
    const char *file = config->resolv_conf;
    const char *error;
    if (file[0] != '\0' && access(file, R_OK) != 0)
        log_line(LOG_LEVEL_WARNING, "could not read resolv_conf file %s: %s", file,
                 strerror(errno));
    for (unsigned i = 0; i < process->workers_count; i++) {
        struct worker *worker = &process->workers[i];
        worker->resolver = resolver_new(worker->loop, process->dns, file, &error);
        if (worker->resolver == NULL) {
            log_line(LOG_LEVEL_FATAL, "cannot look up names: %s", error);
            return false;
        }
    }
    process->zones = zones_new(process->workers[0].loop);
    set_dns(process, config);
    return true;
}

static bool start(struct process *process) {
    const struct config *config = process->config;
    struct buf error = {0};
    raise_descriptor_limit(config);
    if (!start_dns(process)) return false;
    bool is_reboot = process->options.is_reboot;
    if (!(is_reboot ? handover_ask(process) : process_listen(process))) return false;
    handover_go(process); /* what fails from here on does not stop a process that has taken over */
    bool is_up = admin_http_start(process->admin, config->http_listen, &error);
    if (!is_up) log_line(is_reboot ? LOG_LEVEL_ERROR : LOG_LEVEL_FATAL, "%s", buf_text(&error));
    buf_release(&error);
    if (!is_up && !is_reboot) return false;
    process->has_pidfile = config->pidfile[0] != '\0' && start_write_pidfile(config->pidfile);
    if (config->pidfile[0] != '\0' && !process->has_pidfile && !is_reboot) return false;
    databases_make_all(process->databases, config);
    derive_later(process);
    for (unsigned i = 1; i < process->workers_count; i++) worker_start(&process->workers[i]);
    handover_begin(process);
    process_accept(process);
    admin_started(process->admin);
    log_line(LOG_LEVEL_LOG,
             "process up: PgBouncer %s, libuv %s (epoll), adns: c-ares %s, tls: %s, weir %s",
             PGBOUNCER_VERSION, uv_version_string(), resolver_version(),
             OpenSSL_version(OPENSSL_VERSION), WEIR_VERSION);
    start_tell_ready(process->options.ready_fd);
    notify_ready();
    return true;
}

static void release(struct process *process) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL); /* a late signal must not end it half-way */
    for (unsigned i = 1; i < process->workers_count; i++) worker_join(&process->workers[i]);
    handover_free(process);
    process_stop_listening(process, false);
    parser_free(&process->parser);
    /* Messages own what they carry; some post another one. */
    for (unsigned pass = 0; pass < 3; pass++) {
        for (unsigned i = 0; i < process->workers_count; i++)
            loop_run_mail(process->workers[i].loop);
    }
    while (process->probes_count > 0) probe_close(&process->probes[--process->probes_count].probe);
    for (unsigned i = 0; i < process->workers_count; i++) worker_release(&process->workers[i]);
    process->has_stuck_thread = !blocking_free(&process->blocking); /* all were abandoned */
    for (unsigned i = 0; i < process->workers_count; i++) loop_run_mail(process->workers[i].loop);
    admin_free(&process->admin);
    struct link *l;
    while ((l = list_pop(&process->pauses)) != NULL) memory_free(LIST_OWNER(l, struct pause, link));
    zones_free(&process->zones);
    for (unsigned i = 0; i < process->workers_count; i++) worker_free_loop(&process->workers[i]);
    dns_free(&process->dns);
    databases_free(&process->databases);
    permits_free(&process->permits);
    listeners_free(&process->shared_listeners);
    stop_deriving(process);
    if (process->has_pidfile) start_remove_pidfile(process->config->pidfile);
    users_free(&process->users);
    transport_unref(&process->transport);
    config_unref(&process->config);
    memory_free(process->workers);
    memory_free(process->admin_workers);
}

int process_run(struct config *config, const struct process_options *options) {
    struct process process = {.options = *options};
    struct buf error = {0};
    struct transport *transport = transport_new(config, &error);
    if (transport == NULL) {
        log_line(LOG_LEVEL_ERROR, "%s", buf_text(&error));
        log_flush();
        buf_release(&error);
        config_unref(&config);
        return 1;
    }
    if (!read_users(&process, config)) {
        config_unref(&config);
        transport_unref(&transport);
        log_flush();
        return 1;
    }
    init(&process, config, transport);
    bool is_up = start(&process);
    if (is_up) worker_run(&process.workers[0]);
    release(&process);
    log_flush();
    int status = is_up ? process.status : 1;
    if (process.has_stuck_thread) _exit(status);
    return status;
}
