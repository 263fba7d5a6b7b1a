/*
 * From the first byte to ReadyForQuery; see client/client.h and pgbouncer's order of checks:
 *
 *      [SSLRequest -> 'S' and TLS, or 'N'] [GSSENCRequest -> 'N'] -> StartupMessage -> TLS needed?
 *      -> parameters -> a user? -> max_client_conn -> a short name? -> limits of database and user
 *      -> authentication -> database known? -> the pool's greeting -> welcome
 *
 * An unknown database is told only after the authentication, so that nobody can try out names.
 * The first client of a pool waits here until a server has told what ParameterStatus to give.
 */
#include "auth/ldap.h"
#include "auth/pam.h"
#include "client/asked.h"
#include "client/lookup.h"
#include "client/parts.h"
#include "client/quota.h"
#include "client/request_cancel.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/tls.h"
#include "pool/secrets.h"
#include "proto/startup.h"

#include <stdio.h>
#include <unistd.h>

#define PASSWORD_BYTES_MAX 131072u

static void write_and_release(struct client *client, struct buf *out) {
    if (buf_length(out) > 0) {
        log_flush();
        stream_write_bytes(&client->stream, buf_content(out));
    }
    buf_release(out);
}

/* ---- welcome */

/* Adds the greeting, with the client's own values where it gave some, and gives it the others. With
 * a server that has taken what the client gave, all are as that server has them. */
static void add_greeting(struct client *client, struct bytes greeting, const struct server *server,
                         struct buf *out) {
    struct client_set *set = client->set;
    client->reported = 0;
    bool is_own = server != NULL;
    struct text **is_read_only = &client->parameters.values[TRACKED_DEFAULT_TRANSACTION_READ_ONLY];
    bool is_given = *is_read_only != NULL, is_standby = false;
    struct bytes rest = greeting;
    while (rest.len >= MESSAGE_HEAD_BYTES) {
        uint32_t length = message_length(rest.at);
        CHECK(length > MESSAGE_HEAD_BYTES && length <= rest.len);
        struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        struct bytes name, value, tail;
        CHECK(message_text(body, &name, &tail) && message_text(tail, &value, &tail));
        int index = parameters_index(set->pools, name);
        const struct text *there = is_own && index >= 0 ? server->parameters[index] : NULL;
        if (there != NULL) value = bytes_of(there->at, there->len);
        if (index >= 0 && (is_own || client->parameters.values[index] == NULL))
            parameters_set(&client->parameters, set->texts, index, value);
        if (index < 0 && bytes_equal_text(name, "in_hot_standby"))
            is_standby = bytes_equal_text(value, "on");
        if (index >= 0) {
            client->reported |= UINT32_C(1) << index;
            const struct text *mine = client->parameters.values[index];
            value = bytes_of(mine->at, mine->len);
        }
        message_write_parameter_status(out, name, value);
        rest = bytes_of(rest.at + length, rest.len - length);
    }
    /* What is the default on a standby alone must not follow the client to the primary. */
    if (is_standby && !is_given && !is_own) text_unref(set->texts, is_read_only);
}

static void keep_setting(struct client *client, struct bytes name, const struct text *value) {
    session_start_with(client->session, client->set->texts, name, bytes_of(value->at, value->len));
}

/* Drops what the client gave and its servers do not report, since it cannot follow the client,
 * unless its session is tracked; true with the name of one that nobody has allowed to be dropped.
 * What PgBouncer has always tracked is allowed: drivers give it, and not every server reports it.
 */
static bool drop_unreported(struct client *client, const char **name) {
    const struct pool_set *pools = client->set->pools;
    const struct setting_list *ignored = &pools->config->ignore_startup_parameters;
    *name = NULL;
    for (unsigned i = 0; i < pools->tracked_count; i++) {
        if (client->parameters.values[i] == NULL || client->reported & UINT32_C(1) << i) continue;
        struct bytes dropped = bytes_of_text(pools->tracked[i]);
        bool is_ignored = setting_list_has_nocase(ignored, dropped);
        if (client->session != NULL && !is_ignored)
            keep_setting(client, dropped, client->parameters.values[i]);
        text_unref(client->set->texts, &client->parameters.values[i]);
        if (i > TRACKED_APPLICATION_NAME && client->session == NULL && !is_ignored &&
            !setting_list_has_nocase(&pools->config->track_extra_parameters, dropped) &&
            !setting_list_has_nocase(ignored, bytes_of_text("options")))
            *name = pools->tracked[i];
    }
    return *name != NULL;
}

/* backend_pid = server: the key names the server's own process. */
static void take_backend_pid(struct client *client) {
    const struct config *config = client->set->pools->config;
    const struct server *server = client->borrower.server;
    const struct config_database *entry =
        config_database(config, bytes_of_text(client->pool->database->name));
    if (server == NULL || !client->pool->starts_servers || entry == NULL) return;
    if (config->peer_id != 0) return; /* which has to be in the key */
    if (config_backend_pid(config, entry) == BACKEND_PID_SERVER)
        client_take_pid(client, server->backend_pid);
}

/* What follows the parameters. */
static void end_welcome(struct client *client, struct buf *out) {
    message_write_backend_key_data(out, bytes_get_u32(client->key), bytes_get_u32(client->key + 4));
    const char *notice = client->set->pools->config->login_notify_message;
    if (notice[0] != '\0') fault_notice_write(out, notice, NULL);
    message_write_ready_for_query(out, 'I');
    stats_add(&client->pool->stats.client_logins, 1);
}

static void welcome(struct client *client, struct bytes greeting) {
    struct buf out = {0};
    const char *name;
    message_write_authentication_ok(&out);
    add_greeting(client, greeting, client->borrower.server, &out);
    if (client->borrower.server == NULL && drop_unreported(client, &name)) {
        buf_release(&out);
        client_fail(client, FAULT_PARAMETER_UNSUPPORTED, name);
        return;
    }
    if (client->session != NULL) session_begin(client->session);
    take_backend_pid(client);
    end_welcome(client, &out);
    client_become(client, CLIENT_IDLE);
    client->doing = "idle";
    client->pool->clients++;
    write_and_release(client, &out);
    stream_start(&client->stream);
    if (buf_length(&client->kept) > 0) relay_resume_later(client);
}

static struct bytes greeting_of(const struct client *client) {
    const struct greeting *greeting = pool_shared_greeting(client->pool->nodes[0]->shared);
    CHECK(greeting != NULL);
    return bytes_of(greeting->messages, greeting->len);
}

void client_login_welcome(struct client *client) {
    struct pool *pool = client->pool;
    bool is_tracked = client->session != NULL && pool->tracks_sessions;
    if (!is_tracked || asked_is_known(client, greeting_of(client))) {
        welcome(client, greeting_of(client));
        return;
    }
    client->doing = "waiting for a server to take what it asks for";
    client->is_greeting_due = client->is_forced_primary = true;
    if (judge_is_on(client)) judge_again(client);
    struct server *server = pool_borrow(pool, &client->borrower);
    if (server != NULL) client_login_check(client, server);
}

void client_login_check(struct client *client, struct server *server) {
    struct buf unused = {0};
    const char *name;
    add_greeting(client, greeting_of(client), NULL, &unused);
    buf_release(&unused);
    (void)drop_unreported(client, &name);
    session_begin(client->session);
    client_become(client, CLIENT_IDLE);
    client->pool->clients++;
    relay_bind_check(client, server);
    if (!client->is_syncing) relay_resume_later(client);
}

void client_login_checked(struct client *client) {
    struct buf out = {0};
    if (buf_length(&client->last_words) > 0) {
        client->set->faults[FAULT_COUNTER_SERVER]++;
        buf_append_u8(&out, 'E');
        buf_append_u32(&out, (uint32_t)(4 + buf_length(&client->last_words)));
        buf_append_bytes(&out, buf_content(&client->last_words));
        client_close_with(client, "the server refused a start-up parameter", buf_content(&out));
        buf_release(&out);
        return;
    }
    struct server *server = client->borrower.server;
    settings_accepted(&client->parameters, client->session, server);
    message_write_authentication_ok(&out);
    add_greeting(client, greeting_of(client), server, &out);
    asked_note(client);
    end_welcome(client, &out);
    client->is_greeting_due = false;
    write_and_release(client, &out);
    relay_end(client);
}

void client_login_own(struct client *client, struct bytes greeting) {
    bool is_replication = client->replication != STARTUP_REPLICATION_NONE;
    welcome(client, greeting);
    if (client->state != CLIENT_IDLE) return;
    if (!is_replication) client->borrower.own = NULL;
    client->is_routed = !is_replication && judge_is_on(client);
    relay_bind_own(client, client->borrower.server);
}

/* In session mode with session_state = track a client's server is asked, from its login on, for all
 * that the client asks for: these are the values that RESET goes back to. */
static void want_started(struct client *client) {
    struct client_set *set = client->set;
    struct session *session = client->session == NULL ? session_new() : client->session;
    client->session = NULL;
    for (unsigned i = 0; i < set->pools->tracked_count; i++) {
        const struct text *value = client->parameters.values[i];
        if (value == NULL) continue;
        session_start_with(session, set->texts, bytes_of_text(set->pools->tracked[i]),
                           bytes_of(value->at, value->len));
    }
    client->own = (struct server_own){.start = text_ref(session->startup)};
    session_free(&session, set->texts);
    client->borrower.own = &client->own;
    client->doing = "waiting for its server";
    if (judge_is_on(client)) judge_again(client);
}

/* A replication client has a server of its own from the start. */
static void want_own(struct client *client) {
    const struct text *options = client->own_options;
    client->own = (struct server_own){.replication = client->replication,
                                      .parameters = client->parameters.values};
    if (options != NULL) client->own.options = bytes_of(options->at, options->len);
    client->borrower.own = &client->own;
    client->doing = "waiting for its replication connection";
}

/* While clients are waited for, whoever came before the end belongs to them. Only Unix sockets
 * still take others in then. */
static bool is_too_late(const struct client *client) {
    const struct client_set *set = client->set;
    unsigned uid;
    int pid;
    if (!set->is_refusing || set->pools->is_draining) return set->is_refusing;
    return endpoint_is_unix(stream_descriptor(&client->stream), &uid, &pid);
}

/* The pool of the client's database and user; NULL if the client was refused. */
static struct pool *pool_of(struct client *client) {
    struct client_set *set = client->set;
    struct bytes name = bytes_of(client->database->at, client->database->len);
    const struct config *config = set->pools->config;
    struct database *database = databases_hold(set->pools->databases, config, name);
    struct pool *pool = NULL;
    if (database == NULL || atomic_load(&database->is_removed)) {
        client_log(client, LOG_LEVEL_LOG, "login failed: db=%s user=%s", client->database->at,
                   client->user->at);
        client_fail(client, FAULT_NO_DATABASE, client->database->at);
    } else if (atomic_load(&database->is_disabled)) {
        client_fail(client, FAULT_DATABASE_DISABLED, client->database->at);
    } else if (is_too_late(client)) {
        client_fail(client, FAULT_POOLER_SHUTTING_DOWN, NULL);
    } else {
        if (atomic_load(&database->is_auto) && !atomic_exchange(&database->is_announced, true))
            client_log(client, LOG_LEVEL_LOG, "registered new auto-database: %s", database->name);
        pool = pool_get(set->pools, database,
                        config_pool_user(config_database(config, name),
                                         bytes_of(client->user->at, client->user->len)));
    }
    if (database != NULL) database_release(database);
    return pool;
}

/* What the client has proved, and what auth_query told of it, serves to log in to servers too. */
static void give_proof(struct client *client) {
    struct scram_client_cache keys;
    if (client->met != NULL) pool_take_met(client->pool, &client->met);
    if (verify_keys(client->verify, &keys)) pool_take_keys(client->pool, &keys);
    memory_wipe(&keys, sizeof keys);
    if (client->verify->password != NULL)
        pool_take_password(client->pool, client->verify->password);
}

static void find_pool(struct client *client) {
    struct pool *pool = pool_of(client);
    if (pool == NULL) return;
    client->pool = pool;
    if (strcmp(pool->user, client->user->at) == 0) give_proof(client);
    client_become(client, CLIENT_WELCOME);
    client->route = (struct route){.target = ROUTE_ANY, .node = -1};
    if (client->replication != STARTUP_REPLICATION_NONE) {
        want_own(client);
    } else if (pool->starts_servers) {
        want_started(client);
    } else if (pool_is_greeted(client->pool)) {
        client_login_welcome(client);
        return;
    } else {
        client->doing = "waiting for the first server of its pool";
        client->borrower.wants_greeting_only = true;
    }
    (void)pool_borrow(client->pool, &client->borrower);
}

static bool is_console(const struct client *client) {
    return config_is_console(client->set->pools->config,
                             bytes_of(client->database->at, client->database->len));
}

static void authenticated(struct client *client, bool is_local_owner) {
    struct client_set *set = client->set;
    if (buf_length(&client->kept) == 0) buf_release(&client->kept);
    if (!is_console(client)) {
        find_pool(client);
    } else {
        client_become(client, CLIENT_CONSOLE);
        if (!set->ops.console_login(set->ops.owner, client, is_local_owner))
            client_fail(client, FAULT_NOT_ALLOWED, NULL);
    }
    if (client->verify == NULL) return;
    verify_release(client->verify);
    memory_free(client->verify);
    client->verify = NULL;
}

/* ---- authentication */

static void judge_verify(struct client *client, enum verify_result result, struct buf *out);

/* PAM or LDAP has judged. */
static void on_judged(struct blocking_job *job) {
    struct client *client = job->owner;
    struct buf out = {0};
    client->verify->job = NULL;
    if (client->state == CLIENT_LOGIN) {
        stream_start(&client->stream);
        judge_verify(client, verify_finish(client->verify, job->is_good, job->reason), &out);
    }
    blocking_job_free(&job);
}

/* Has PAM or LDAP judge the password; meanwhile the client is not read. VERIFY_LATER, or
 * VERIFY_FAILED if they have too much to do. */
static enum verify_result ask_others(struct client *client) {
    struct verify *verify = client->verify;
    char address[ENDPOINT_TEXT_SIZE];
    unsigned port;
    endpoint_describe(stream_descriptor(&client->stream), true, address, &port);
    struct blocking_job *job = memory_new(sizeof *job);
    job->loop = client->set->loop;
    job->check = verify->method == VERIFY_PAM ? pam_check : ldap_check;
    job->done = on_judged;
    job->owner = client;
    job->user = memory_copy_text(client->user->at);
    job->password = memory_copy_text(verify->password);
    job->address = memory_copy_text(address);
    job->options = memory_copy_text(verify->ldap);
    client->doing = "waiting for its password to be judged";
    if (blocking_post(client->set->blocking, job)) {
        verify->job = job;
        stream_stop(&client->stream);
        return VERIFY_LATER;
    }
    blocking_job_free(&job);
    return verify_finish(verify, false, "too many passwords wait to be judged");
}

static void judge_verify(struct client *client, enum verify_result result, struct buf *out) {
    if (result == VERIFY_LATER) result = ask_others(client);
    if (result == VERIFY_FAILED) {
        buf_release(out);
        if (strcmp(client->verify->reason, VERIFY_NO_SUCH_USER) == 0) {
            client_log(client, LOG_LEVEL_LOG, "%s: %s", VERIFY_NO_SUCH_USER, client->user->at);
        } else if (strcmp(client->verify->reason, fault_of(client->verify->fault)->text) != 0) {
            client_log(client, LOG_LEVEL_LOG, "login refused: %s", client->verify->reason);
        }
        client_fail(client, client->verify->fault, NULL);
        return;
    }
    write_and_release(client, out);
    if (result == VERIFY_OK) authenticated(client, false);
}

static bool is_local_owner(const struct client *client) {
    unsigned uid;
    int pid;
    return is_console(client) && strcmp(client->user->at, "pgbouncer") == 0 &&
           endpoint_is_unix(stream_descriptor(&client->stream), &uid, &pid) && uid == getuid();
}

/* Whether it matters who the client is: its pool may have a user of its own. */
static bool has_forced_user(const struct client *client) {
    if (is_console(client)) return true;
    const struct config_database *database = config_database(
        client->set->pools->config, bytes_of(client->database->at, client->database->len));
    return database != NULL && database->user != NULL;
}

/* Whether PostgreSQL would be asked for the users of the client's database. */
static bool has_auth_user(const struct client *client) {
    const struct config *config = client->set->pools->config;
    const struct config_database *database =
        config_database(config, bytes_of(client->database->at, client->database->len));
    return config_auth_lookup(config, database).user != NULL;
}

static void verify_against(struct client *client, struct users *users) {
    struct verify_request request;
    struct buf room = {0};
    struct buf out = {0};
    client_method(client, &request, &room);
    request.users = users;
    client->doing = "authenticating";
    client->verify = memory_new(sizeof *client->verify);
    judge_verify(client, verify_begin(client->verify, &request, &out), &out);
    buf_release(&room);
}

static void begin_verify(struct client *client) {
    client_become(client, CLIENT_LOGIN);
    client->doing = "authenticating";
    if (is_local_owner(client)) {
        client_log(client, LOG_LEVEL_LOG, "pgbouncer access from unix socket");
        authenticated(client, true);
        return;
    }
    bool is_looked_up = true;
    const char *wrong = NULL;
    switch (client->set->pools->config->auth_type) {
    case AUTH_TYPE_ANY:
        is_looked_up = false;
        if (!has_forced_user(client)) wrong = "auth_type=any requires forced user";
        break;
    case AUTH_TYPE_PAM:
    case AUTH_TYPE_LDAP:
        is_looked_up = false;
        if (has_auth_user(client))
            wrong = "PAM and LDAP can't be used together with database authentication";
        break;
    default:
        break;
    }
    if (wrong != NULL) {
        client_log(client, LOG_LEVEL_ERROR, "%s", wrong);
        client_fail(client, FAULT_AUTH_CONFIG, NULL);
    } else if (!is_looked_up || !lookup_begin(client)) {
        verify_against(client, client->set->pools->users);
    }
}

/* ---- the startup packet */

/* Whether what the client asks for can follow it as what it sets later does. */
static bool tracks_session(const struct client *client, const struct startup *startup) {
    const struct config *config = client->set->pools->config;
    const struct config_database *entry = config_database(config, startup->database);
    if (entry == NULL || startup->replication != STARTUP_REPLICATION_NONE) return false;
    return config_session_state(config, entry) == SESSION_STATE_TRACK;
}

/* A tracked parameter is kept, an ignored one dropped, any other refused, unless the session is
 * tracked. */
static bool take_parameter(struct client *client, struct bytes name, struct bytes value) {
    struct client_set *set = client->set;
    int index = parameters_index(set->pools, name);
    if (index >= 0) {
        parameters_set(&client->parameters, set->texts, index, value);
        return true;
    }
    if (setting_list_has_nocase(&set->pools->config->ignore_startup_parameters, name)) return true;
    if (bytes_equal_nocase(name, "weir.route") && !hint_start(client, value)) return false;
    if (client->session == NULL) return bytes_equal_nocase(name, "weir.route");
    session_start_with(client->session, set->texts, name, value);
    return true;
}

static bool take_each(struct client *client, const struct startup *startup) {
    char name[256];
    for (unsigned i = 0; i < startup->parameters_count; i++) {
        const struct startup_parameter *parameter = &startup->parameters[i];
        if (take_parameter(client, parameter->name, parameter->value)) continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)parameter->name.len, parameter->name.at);
        client_fail(client, FAULT_PARAMETER_UNSUPPORTED, name);
        return false;
    }
    return true;
}

static bool take_options(struct client *client, struct bytes text) {
    const struct setting_list *ignored = &client->set->pools->config->ignore_startup_parameters;
    bool ignores_all = setting_list_has_nocase(ignored, bytes_of_text("options"));
    struct startup_options options = {.rest = text};
    struct startup_parameter option;
    enum startup_option step;
    char name[256] = "";
    while ((step = startup_option_next(&options, &option)) == STARTUP_OPTION_FOUND) {
        if (take_parameter(client, option.name, option.value) || ignores_all) continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)option.name.len, option.name.at);
        break;
    }
    startup_options_release(&options);
    if (step == STARTUP_OPTION_BAD) client_fail(client, FAULT_OPTIONS_SYNTAX, NULL);
    if (step == STARTUP_OPTION_FOUND) client_fail(client, FAULT_OPTION_UNSUPPORTED, name);
    return step == STARTUP_OPTION_END;
}

/* application_name_add_host: "NAME - HOST:PORT". */
static void add_host(struct client *client) {
    struct parameters *parameters = &client->parameters;
    const struct text *name = parameters->values[TRACKED_APPLICATION_NAME];
    char address[ENDPOINT_TEXT_SIZE];
    unsigned port;
    struct buf text = {0};
    endpoint_describe(stream_descriptor(&client->stream), true, address, &port);
    buf_append_format(&text, "%s - %s:%u", name == NULL ? "app" : name->at, address, port);
    parameters_set(parameters, client->set->texts, TRACKED_APPLICATION_NAME, buf_content(&text));
    buf_release(&text);
}

/* False if the client was refused. */
static bool take_parameters(struct client *client, const struct startup *startup) {
    client->replication = startup->replication;
    if (tracks_session(client, startup)) client->session = session_new();
    if (!take_each(client, startup)) return false;
    if (startup->replication != STARTUP_REPLICATION_NONE) {
        client->own_options = text_get(client->set->texts, startup->options);
    } else if (startup->options.len > 0 && !take_options(client, startup->options)) {
        return false;
    }
    if (client->set->pools->config->application_name_add_host) add_host(client);
    return true;
}

/* Admins get into the console however many clients there are. */
static bool is_exempt(const struct client *client) {
    const struct setting_list *admins = &client->set->pools->config->admin_users;
    return is_console(client) &&
           (is_local_owner(client) ||
            setting_list_has(admins, bytes_of(client->user->at, client->user->len)));
}

/* Hands a console client over to worker 0. True if this worker has nothing more to do. */
static bool moved(struct client *client, const struct startup *startup, struct bytes packet) {
    struct client_set *set = client->set;
    if (set->pools->worker == 0) return false;
    if (!config_is_console(set->pools->config, startup->database)) return false;
    struct buf copy = {0};
    struct socket_parts parts;
    buf_append_bytes(&copy, packet);
    if (!stream_detach(&client->stream, &parts)) {
        client_fail(client, FAULT_OUT_OF_SYNC, "The client went on before it was answered.");
    } else {
        (void)set->ops.move_to_console(set->ops.owner, parts, buf_content(&copy));
        client_become(client, CLIENT_CLOSED);
        map_remove(&set->keys, &client->by_key);
        loop_at_end(set->loop, &set->hook);
    }
    buf_release(&copy);
    return true;
}

/* As the log has them. */
static const char *const replications[] = {[STARTUP_REPLICATION_NONE] = "no",
                                           [STARTUP_REPLICATION_PHYSICAL] = "yes",
                                           [STARTUP_REPLICATION_LOGICAL] = "database"};

/* ---- first packets */

static void log_attempt(const struct client *client) {
    const struct tls *tls = stream_tls(&client->stream);
    struct buf text = {0};
    if (tls != NULL) tls_describe(tls, &text);
    client_log(client, LOG_LEVEL_LOG, "login attempt: db=%s user=%s tls=%s replication=%s",
               client->database->at, client->user->at, tls == NULL ? "no" : buf_text(&text),
               replications[client->replication]);
    buf_release(&text);
}

/* Answers a newer protocol, or extensions of it: this is 3.0. */
static void negotiate(struct client *client, const struct startup *startup) {
    if (!startup_needs_negotiation(startup)) return;
    struct buf out = {0};
    message_write_negotiate(&out, startup);
    write_and_release(client, &out);
}

/* Refuses what has to be refused before it counts who the client is, in PgBouncer's order. */
static bool is_welcome(struct client *client, const struct startup *startup) {
    const struct client_set *set = client->set;
    const struct config *config = set->pools->config;
    enum fault_id fault = startup->fault;
    if (client_tls_is_missing(client)) fault = FAULT_SSL_REQUIRED;
    if (fault == FAULT_NONE) {
        negotiate(client, startup);
        if (!take_parameters(client, startup)) return false;
        bool is_full = atomic_load(set->total) > config->max_client_conn;
        bool is_console = config_is_console(config, startup->database);
        if (startup->user.len == 0) {
            fault = FAULT_NO_USERNAME;
        } else if (is_full && !is_console) {
            fault = FAULT_MAX_CLIENT_CONN;
        } else if (startup->user.len > STARTUP_USER_BYTES_MAX) {
            fault = FAULT_USERNAME_TOO_LONG;
        }
    }
    if (fault != FAULT_NONE) client_fail(client, fault, startup->argument);
    return fault == FAULT_NONE;
}

static void on_login(struct client *client, const struct startup *startup, struct bytes packet) {
    struct client_set *set = client->set;
    if (moved(client, startup, packet) || !is_welcome(client, startup)) return;
    client->user = text_get(set->texts, startup->user);
    client->database = text_get(set->texts, startup->database);
    if (set->pools->config->log_connections) log_attempt(client);
    enum fault_id over = quota_take(client, is_exempt(client));
    if (over != FAULT_NONE) {
        client_fail(client, over, NULL);
        return;
    }
    begin_verify(client);
}

static void on_packet(struct client *client, struct bytes packet, bool is_more_behind) {
    struct startup startup;
    enum startup_kind kind = startup_parse(packet, &startup);
    switch (kind) {
    case STARTUP_SSL_REQUEST:
        client_tls_request(client, is_more_behind);
        return;
    case STARTUP_GSS_REQUEST:
        if (is_more_behind) {
            client_fail(client, FAULT_BYTES_AFTER_GSS_REQUEST, NULL);
        } else {
            stream_write_bytes(&client->stream, bytes_of("N", 1));
        }
        return;
    case STARTUP_CANCEL:
        client_cancel_request(client, packet.at + 8);
        return;
    case STARTUP_CANCEL_BAD:
        client_close(client, "bad cancel request");
        return;
    case STARTUP_BAD:
        client_fail(client, startup.fault, startup.argument);
        return;
    default:
        on_login(client, &startup, packet);
        return;
    }
}

/* Reads first packets from what was kept. */
static void read_startup(struct client *client) {
    while (client->state == CLIENT_STARTUP) {
        struct bytes kept = buf_content(&client->kept);
        if (client_tls_take_hello(client)) return;
        uint32_t length;
        enum fault_id fault = startup_length(kept, &length);
        if (fault != FAULT_NONE) {
            char hex[STARTUP_HEX_SIZE];
            startup_header_hex(hex, kept);
            client_fail(client, fault, hex);
            return;
        }
        if (length == 0 || kept.len < length) return;
        struct buf packet = client->kept;
        client->kept = (struct buf){0};
        if (kept.len > length) buf_append(&client->kept, kept.at + length, kept.len - length);
        on_packet(client, bytes_of(kept.at, length), kept.len > length);
        buf_release(&packet);
    }
}

static void read_password(struct client *client) {
    while (client->state == CLIENT_LOGIN && client->lookup == NULL) {
        CHECK(client->verify != NULL);
        if (client->verify->job != NULL) return;
        struct bytes kept = buf_content(&client->kept);
        if (kept.len < MESSAGE_HEAD_BYTES) return;
        uint32_t length = message_length(kept.at);
        if (kept.at[0] == 'X') {
            client_close(client, "client close request");
            return;
        }
        if (kept.at[0] != 'p') {
            /* A second StartupMessage must never change who is being verified. */
            client_fail(client, kept.at[0] == '\0' ? FAULT_STARTUP_AGAIN : FAULT_MESSAGE_MALFORMED,
                        NULL);
            return;
        }
        struct buf out = {0};
        if (length == 0) {
            char hex[STARTUP_HEX_SIZE];
            startup_header_hex(hex, kept);
            client_fail(client, FAULT_MESSAGE_LENGTH, hex);
            return;
        }
        if (length > PASSWORD_BYTES_MAX) {
            judge_verify(client, verify_refuse_long(client->verify), &out);
            return;
        }
        if (kept.len < length) return;
        struct buf message = client->kept;
        client->kept = (struct buf){0};
        if (kept.len > length) buf_append(&client->kept, kept.at + length, kept.len - length);
        struct bytes body = bytes_of(kept.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        enum verify_result result = verify_message(client->verify, body, &out);
        memory_wipe(message.memory, message.size);
        buf_release(&message);
        judge_verify(client, result, &out);
    }
}

void client_login_found(struct client *client, struct users *found) {
    client->met = users_retain(found);
    stream_start(&client->stream);
    verify_against(client, found);
    if (client->state == CLIENT_LOGIN) read_password(client);
}

void client_login_bytes(struct client *client, const char *at, size_t len) {
    buf_append(&client->kept, at, len);
    if (client->state == CLIENT_WELCOME) {
        stream_stop(&client->stream); /* it talks before it was welcomed: later */
        return;
    }
    if (client->state == CLIENT_STARTUP) read_startup(client);
    if (client->state == CLIENT_LOGIN) read_password(client);
}
