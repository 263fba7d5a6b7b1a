/*
 * The whole process: its workers, listeners, probers, parser thread and console, from start to
 * end. Everything here runs on worker 0's thread.
 */
#ifndef WEIR_PROCESS_H
#define WEIR_PROCESS_H

#include "admin/admin.h"
#include "cluster/probe.h"
#include "pool/transport.h"
#include "worker.h"

#define LISTENERS_MAX 64
#define PROBES_MAX    256

struct blocking;
struct parser;
struct handover;

/* What the command line says about how to run. */
struct process_options {
    bool is_quiet;  /* nothing on standard error */
    bool is_reboot; /* takes over from the running process */
    int verbose;    /* at least so much */
    int ready_fd;   /* for start_tell_ready, or -1 */
};

/* A PAUSE that waits until no server is lent, or a SUSPEND until everything was sent. */
struct pause {
    struct link link;
    struct process *process;
    struct database *database; /* NULL: all */
    unsigned answers_owed;
    bool is_suspend;
    bool is_quiet;
    bool is_over;
    uint64_t since_us;
    void (*done)(void *context);
    void *context;
};

struct process {
    struct config *config;
    struct process_options options;
    struct users_scram scram;
    struct users *users;
    struct transport *transport;
    struct dns *dns;
    struct zones *zones; /* whose watch is worker 0's */
    struct databases *databases;
    struct permits *permits;
    struct listeners *shared_listeners;
    struct worker *workers;
    unsigned workers_count;
    _Atomic int clients_total;
    struct parser *parser;
    struct blocking *blocking;
    bool has_stuck_thread; /* at the end: one of its threads hangs */
    struct admin *admin;
    struct admin_worker *admin_workers;
    struct endpoint_listener *listeners[LISTENERS_MAX];
    unsigned listeners_count;
    struct {
        struct database *database;
        struct cluster *cluster; /* only compared */
        struct probe *probe;
    } probes[PROBES_MAX];
    unsigned probes_count;
    struct list pauses;
    enum admin_shutdown shutdown;
    bool is_shutting_down;
    uint64_t listens_until_us; /* where others take over the port; 0: not ending */
    struct handover *handover; /* while another process takes over, or this one does */
    bool is_paused;
    bool is_suspended;
    int status; /* to exit with */
    uint64_t stats_due_us;
    pthread_t deriver;
    struct users *derived; /* whose verifiers that thread makes; NULL: there is none */
    bool has_pidfile;      /* ours, to be removed at the end */
};

/* Starts, runs and ends; takes over the reference of config. Returns the exit status. */
int process_run(struct config *config, const struct process_options *options);

/* For worker.c. */
void process_follow_names(struct process *process);
/* A database is wanted without sessions: none of the probers stays connected to it. */
void process_vacate(struct process *process, const char *host, unsigned port, const char *database);
void process_tick(struct process *process);
void process_post(struct process *process, unsigned worker, struct loop_mail *mail);
bool process_parse_later(struct process *process, struct worker *worker, struct traits_job *job);
void process_cancel(struct process *process, const char *key, struct cancel_ticket ticket);
/* No client of the worker that the key names has it. */
void process_cancel_unknown(struct process *process, const char *key, struct cancel_ticket ticket);

/* New settings from the file; false with errors, and everything stays as it was. */
bool process_reload(void *owner, struct config_errors *errors);

/* In start.c. Opens the log as settings and command line say; false, told there, if not. */
bool process_open_log(const struct config *config, const struct process_options *options);

/* In listen.c. Opens every listening socket that is configured; false with a FATAL line. */
bool process_listen(struct process *process);
/* Applies the socket options of the present settings. */
void process_set_listeners(struct process *process);
/* Takes connections from now on, not for a while, or no more. */
void process_accept(struct process *process);
void process_hold_accepting(struct process *process);
void process_stop_listening(struct process *process, bool is_tcp_only);

/* In modes.c; the first four serve as admin_ops. */
void process_pause(void *owner, struct database *database, void (*done)(void *context),
                   void *context);
void process_suspend(void *owner, void (*done)(void *context), void *context);
bool process_resume(void *owner, struct database *database);
void process_shut_down(void *owner, enum admin_shutdown mode);
/* Besides those of the console. */
bool process_has_clients(const struct process *process);
void process_tick_modes(struct process *process);
void process_take_signals(struct process *process);

/* A thread of its own that parses long statements. */
struct parser *parser_new(void);
void parser_free(struct parser **parser);
/* False if the queue is full. The result is posted to the worker. */
bool parser_post(struct parser *parser, struct worker *worker, struct traits_job *job);

#endif
