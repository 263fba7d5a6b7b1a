/*
 * A worker: one thread with its loop, its pools and its clients. Worker 0 runs on the main thread
 * and also accepts connections, probes, and serves the console; see process.h.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "client/client.h"

#include <uv.h>

struct process;
struct resolver;

struct worker {
    struct process *process;
    unsigned index;
    uv_thread_t thread; /* not of worker 0 */
    bool has_thread;
    struct loop *loop;
    struct resolver *resolver; /* made by process.c, closed here */
    uint32_t dns_changes;      /* that its servers have followed */
    struct texts texts;
    struct pool_set pools;
    struct client_set clients;
    struct loop_timer tick;
    struct traits_job_sink sink;
    _Atomic int load;             /* clients, those on their way included */
    _Atomic bool is_serve_posted; /* news of the prober is under way */
};

/* Makes the loop and the sets; takes over one reference each of config and users. */
void worker_init(struct worker *worker, struct process *process, unsigned index,
                 struct config *config, struct users *users);

/* Starts the thread of a worker other than 0. */
void worker_start(struct worker *worker);

/* Runs the loop until worker_stop; worker 0 calls it itself. */
void worker_run(struct worker *worker);

/* Asks the loop to end; any thread. */
void worker_stop(struct worker *worker);

/* Waits for the thread. */
void worker_join(struct worker *worker);

/* Closes all clients and servers; then, once every worker is released, the loop. */
void worker_release(struct worker *worker);
void worker_free_loop(struct worker *worker);

/* Messages, to be called from any thread: */
/* A new connection, with its first packet where that was read already. */
void worker_give(struct worker *worker, struct socket_parts parts, struct bytes packet);
/* A cancel request for a client of this worker. */
void worker_cancel(struct worker *worker, const char *key, struct cancel_ticket ticket);
/* New settings; takes over the references. */
void worker_apply(struct worker *worker, struct config *config, struct users *users);
/* Waiters may be served now. */
void worker_serve(struct worker *worker);
/* Closes the servers of a node; takes a reference of its own. */
void worker_reset_node(struct worker *worker, struct cluster *cluster, unsigned node,
                       const char *why);

/* What a change of mode asks of each worker. */
enum worker_mode {
    WORKER_HOLD,    /* PAUSE: no waiter is served, idle servers end */
    WORKER_SUSPEND, /* SUSPEND: nothing is read but consoles */
    WORKER_GO_ON,   /* RESUME */
    WORKER_REFUSE,  /* no new logins */
    WORKER_DRAIN    /* whoever needs a server is told that the pooler ends */
};
/* `database` NULL: all. Called on worker 0's thread. */
void worker_set_mode(struct worker *worker, enum worker_mode mode, struct database *database);

/* Whether no server is lent any more, or, for a suspension, whether all that was to be sent has
 * gone; who is late then is closed. `answer` is called on worker 0's thread. */
struct worker_question {
    struct database *database; /* NULL: all */
    bool is_suspend;
    bool is_late;
    void (*answer)(void *context, bool is_quiet);
    void *context;
};
void worker_ask_quiet(struct worker *worker, const struct worker_question *question);

#endif
