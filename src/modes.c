/*
 * What the process as a whole can be asked to do: pause, suspend, go on, end; and the signals that
 * ask it.
 *
 *      PAUSE     no server is lent; done when none is lent any more
 *      SUSPEND   nothing is read, but consoles; done when everything was sent
 *      shutdown  TCP is closed at once (with so_reuseport a moment later), the Unix socket, for
 *                consoles, at the end; the process ends when no client (TERM) or no lent server
 *                (INT) is left, or at once (QUIT)
 */
#include "core/log.h"
#include "core/memory.h"
#include "handover.h"
#include "notify.h"
#include "process.h"

#include <signal.h>

#define LISTEN_ON_US 200000u

static int console_count(const struct process *process) {
    return (int)process->workers[0].clients.clients[CLIENT_CONSOLE].count;
}

/* Those that are on their way to their worker count. */
bool process_has_clients(const struct process *process) {
    int count = 0;
    for (unsigned i = 0; i < process->workers_count; i++)
        count += atomic_load(&process->workers[i].load);
    return count > console_count(process);
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

static struct pause *add_pause(struct process *process, struct database *database,
                               void (*done)(void *context), void *context) {
    struct pause *pause = memory_new(sizeof *pause);
    pause->process = process;
    pause->database = database;
    pause->done = done;
    pause->context = context;
    list_append(&process->pauses, &pause->link);
    return pause;
}

void process_pause(void *owner, struct database *database, void (*done)(void *context),
                   void *context) {
    struct process *process = owner;
    if (database == NULL) {
        process->is_paused = true;
    } else {
        atomic_store(&database->is_paused, true);
    }
    set_mode(process, WORKER_HOLD, database);
    (void)add_pause(process, database, done, context);
}

void process_suspend(void *owner, void (*done)(void *context), void *context) {
    struct process *process = owner;
    process->is_suspended = true;
    process_hold_accepting(process);
    set_mode(process, WORKER_SUSPEND, NULL);
    struct pause *pause = add_pause(process, NULL, done, context);
    pause->is_suspend = true;
    pause->since_us = loop_now_us(process->workers[0].loop);
}

bool process_resume(void *owner, struct database *database) {
    struct process *process = owner;
    bool was_paused = database == NULL ? process->is_paused || process->is_suspended
                                       : atomic_load(&database->is_paused);
    if (!was_paused) return false;
    if (database == NULL) {
        if (process->is_suspended) process_accept(process);
        process->is_paused = process->is_suspended = false;
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

static void ask_workers(struct pause *pause) {
    struct process *process = pause->process;
    uint64_t limit_us = process->config->suspend_timeout_us;
    uint64_t waited_us = loop_now_us(process->workers[0].loop) - pause->since_us;
    struct worker_question question = {.database = pause->database,
                                       .is_suspend = pause->is_suspend,
                                       .is_late = limit_us > 0 && waited_us >= limit_us,
                                       .answer = on_quiet,
                                       .context = pause};
    pause->is_quiet = true;
    pause->answers_owed = process->workers_count;
    for (unsigned i = 0; i < process->workers_count; i++)
        worker_ask_quiet(&process->workers[i], &question);
}

/* A console that has suspended everything and left cannot resume it. */
static void tick_suspension(struct process *process) {
    if (!process->is_suspended || console_count(process) > 0) return;
    log_line(LOG_LEVEL_LOG, "admin disappeared when suspended, doing RESUME");
    (void)process_resume(process, NULL);
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
        ask_workers(pause);
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

/* Another process may take clients on the same port, of which the kernel has led some here already
 * and shows them only once they have sent something (tcp_defer_accept). They have a moment for
 * that, since a close would reset them. */
static void end_listening(struct process *process) {
    process->listens_until_us = loop_now_us(process->workers[0].loop) + LISTEN_ON_US;
    process_set_listeners(process);
}

static void tick_listening(struct process *process) {
    if (process->listens_until_us == 0) return;
    if (loop_now_us(process->workers[0].loop) < process->listens_until_us) return;
    process->listens_until_us = 0;
    process_stop_listening(process, true);
}

void process_shut_down(void *owner, enum admin_shutdown mode) {
    struct process *process = owner;
    bool is_again = process->is_shutting_down;
    process->is_shutting_down = true;
    process->shutdown = mode;
    if (process->config->so_reuseport && mode == ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS && !is_again) {
        end_listening(process);
    } else {
        process_stop_listening(process, mode != ADMIN_SHUTDOWN_NOW);
    }
    if (!handover_is_giving(process)) notify_stopping();
    if (is_again || mode == ADMIN_SHUTDOWN_NOW) {
        stop_now(process);
    } else if (mode == ADMIN_SHUTDOWN_WAIT_FOR_SERVERS) {
        set_mode(process, WORKER_DRAIN, NULL);
        (void)add_pause(process, NULL, on_drained, process);
    } else {
        set_mode(process, WORKER_REFUSE, NULL);
    }
}

static void tick_shutdown(struct process *process) {
    if (!process->is_shutting_down || process->shutdown != ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS) return;
    if (process_has_clients(process) || process->listens_until_us != 0) return;
    log_line(LOG_LEVEL_LOG, "client connections dropped, exiting");
    stop_now(process);
}

void process_tick_modes(struct process *process) {
    tick_pauses(process);
    tick_suspension(process);
    tick_listening(process);
    tick_shutdown(process);
}

/* ---- signals */

static void reload_by_signal(struct process *process) {
    struct config_errors errors = {0};
    log_line(LOG_LEVEL_LOG, "got SIGHUP, re-reading config");
    bool is_loaded = process_reload(process, &errors);
    config_errors_log(&errors);
    if (!is_loaded) log_line(LOG_LEVEL_WARNING, "config file loading failed");
    config_errors_release(&errors);
}

static void nothing(void *context) {
    (void)context;
}

static void pause_by_signal(struct process *process) {
    if (process->is_paused || process->is_suspended) {
        log_line(LOG_LEVEL_LOG, "got SIGUSR1, but already paused/suspended");
        return;
    }
    log_line(LOG_LEVEL_LOG, "got SIGUSR1, pausing all activity");
    process_pause(process, NULL, nothing, NULL);
}

static void resume_by_signal(struct process *process) {
    if (process->is_shutting_down) {
        log_line(LOG_LEVEL_LOG, "got SIGUSR2 while shutting down, ignoring");
    } else if (!process->is_paused && !process->is_suspended) {
        log_line(LOG_LEVEL_LOG, "got SIGUSR2, but not paused/suspended");
    } else {
        log_line(LOG_LEVEL_LOG, "got SIGUSR2, continuing from %s",
                 process->is_suspended ? "SUSPEND" : "PAUSE");
        (void)process_resume(process, NULL);
    }
}

static void end_by_signal(struct process *process, int number) {
    const char *name = number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "SIGQUIT";
    enum admin_shutdown mode = number == SIGINT    ? ADMIN_SHUTDOWN_WAIT_FOR_SERVERS
                               : number == SIGTERM ? ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS
                                                   : ADMIN_SHUTDOWN_NOW;
    bool is_taken = handover_is_giving(process);
    if ((process->is_suspended || is_taken) && mode != ADMIN_SHUTDOWN_NOW) {
        log_line(LOG_LEVEL_FATAL, "%s was in progress, going down immediately",
                 is_taken ? "takeover" : "suspend");
        process->status = 1;
        mode = ADMIN_SHUTDOWN_NOW;
    } else if (process->is_shutting_down || mode == ADMIN_SHUTDOWN_NOW) {
        log_line(LOG_LEVEL_LOG, "got %s%s, fast exit", name,
                 process->is_shutting_down ? " while shutting down" : "");
        mode = ADMIN_SHUTDOWN_NOW;
    } else {
        log_line(LOG_LEVEL_LOG, "got %s, shutting down, waiting for all %s", name,
                 number == SIGINT ? "servers connections to be released" : "clients disconnect");
    }
    process_shut_down(process, mode);
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

void process_take_signals(struct process *process) {
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < COUNT(signals); i++)
        loop_on_signal(process->workers[0].loop, signals[i], on_signal);
}
