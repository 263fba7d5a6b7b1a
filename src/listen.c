/*
 * Where the process takes clients: its listening sockets, and which worker gets a connection.
 */
#include "core/log.h"
#include "notify.h"
#include "process.h"

#include <errno.h>
#include <stdio.h>

static void on_accept(void *owner, int fd) {
    struct process *process = owner;
    log_line(LOG_LEVEL_NOISE, "new fd from accept=%d", fd);
    struct worker *least = &process->workers[0];
    struct socket_parts parts = {.fd = fd};
    for (unsigned i = 1; i < process->workers_count; i++) {
        if (atomic_load(&process->workers[i].load) < atomic_load(&least->load))
            least = &process->workers[i];
    }
    if (least->index != 0) {
        worker_give(least, parts, bytes_of(NULL, 0));
        return;
    }
    (void)atomic_fetch_add(&least->load, 1);
    client_accept(&least->clients, parts, bytes_of(NULL, 0));
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

/* False only for a name that has no address. An address that cannot be had now is left out, as
 * PgBouncer does it: it may be another machine's at the moment. */
static bool listen_on(struct process *process, const char *address, bool is_wanted) {
    const struct config *config = process->config;
    char error[ENDPOINT_TEXT_SIZE] = "";
    char what[ENDPOINT_TEXT_SIZE * 2];
    unsigned port = (unsigned)config->listen_port;
    (void)snprintf(what, sizeof what, "%s:%u", address, port);
    struct endpoint_tcp where = {address, port, config->listen_backlog, config->so_reuseport};
    struct endpoint_listener *listener =
        endpoint_listen_tcp(process->workers[0].loop, &where, error);
    bool is_known = listener != NULL || errno != ENXIO;
    if (listener != NULL || !is_known) return add_listener(process, listener, what, error);
    if (is_wanted) log_line(LOG_LEVEL_WARNING, "%s", error);
    return true;
}

static void warn_ignored(const char *setting, bool is_set) {
    if (is_set)
        log_line(LOG_LEVEL_WARNING, "sockets passed from service manager, %s ignored", setting);
}

/* Takes the sockets that the service manager has opened. */
static bool listen_on_passed(struct process *process, int count) {
    warn_ignored("listen_addr", process->config->listen_addr.count > 0);
    warn_ignored("unix_socket_dir", process->config->unix_socket_dir[0] != '\0');
    for (int i = 0; i < count; i++) {
        int fd = NOTIFY_FIRST_DESCRIPTOR + i;
        char what[ENDPOINT_TEXT_SIZE];
        if (!notify_is_listening(fd)) {
            log_line(LOG_LEVEL_FATAL,
                     "failed to set up socket passed from service manager (fd %d): it does not "
                     "listen",
                     fd);
            return false;
        }
        (void)snprintf(what, sizeof what, "socket passed from service manager (fd %d)", fd);
        if (!add_listener(process, endpoint_listen_on(process->workers[0].loop, fd), what, ""))
            return false;
    }
    return true;
}

/* As in PgBouncer, a directory that is not there, or not ours, stops nobody who has TCP. */
static bool is_directory_missing(int number) {
    return number == ENOENT || number == ENOTDIR || number == EACCES || number == EROFS;
}

static bool listen_on_unix(struct process *process) {
    const struct config *config = process->config;
    char error[ENDPOINT_TEXT_SIZE] = "";
    char what[ENDPOINT_TEXT_SIZE * 2];
    char path[ENDPOINT_TEXT_SIZE];
    (void)snprintf(path, sizeof path, "%s/.s.PGSQL.%d", config->unix_socket_dir,
                   config->listen_port);
    (void)snprintf(what, sizeof what, "unix:%s", path);
    struct endpoint_unix where = {path, config->listen_backlog, (unsigned)config->unix_socket_mode,
                                  config->unix_socket_group};
    struct endpoint_listener *listener =
        endpoint_listen_unix(process->workers[0].loop, &where, error);
    if (listener == NULL && is_directory_missing(errno)) {
        log_line(LOG_LEVEL_WARNING, "%s", error);
        return true;
    }
    return add_listener(process, listener, what, error);
}

bool process_listen(struct process *process) {
    const struct config *config = process->config;
    int passed = notify_sockets();
    if (passed > 0) return listen_on_passed(process, passed);
    for (size_t i = 0; i < config->listen_addr.count; i++) {
        const char *address = config->listen_addr.items[i];
        bool is_all = strcmp(address, "*") == 0;
        if (!listen_on(process, is_all ? "0.0.0.0" : address, true)) return false;
        /* A machine without IPv6 is a machine all the same. */
        if (is_all && !listen_on(process, "::", false)) return false;
    }
    if (config->unix_socket_dir[0] != '\0' && !listen_on_unix(process)) return false;
    if (process->listeners_count == 0) log_line(LOG_LEVEL_FATAL, "nowhere to listen on");
    return process->listeners_count > 0;
}

void process_set_listeners(struct process *process) {
    struct endpoint_options options = pool_socket_options(process->config);
    options.defer_accept = options.defer_accept && process->listens_until_us == 0;
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_set(process->listeners[i], &options);
}

void process_accept(struct process *process) {
    process_set_listeners(process);
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_start(process->listeners[i], on_accept, process);
}

void process_hold_accepting(struct process *process) {
    for (unsigned i = 0; i < process->listeners_count; i++)
        endpoint_listener_stop(process->listeners[i]);
}

void process_stop_listening(struct process *process, bool is_tcp_only) {
    unsigned kept = 0;
    for (unsigned i = 0; i < process->listeners_count; i++) {
        if (is_tcp_only && endpoint_listener_is_unix(process->listeners[i])) {
            process->listeners[kept++] = process->listeners[i];
        } else {
            if (is_tcp_only) endpoint_listener_drain(process->listeners[i]);
            endpoint_listener_close(&process->listeners[i]);
        }
    }
    process->listeners_count = kept;
}
