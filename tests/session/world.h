/*
 * One run: Weir's clients, pools and sessions between scripted applications and scripted
 * PostgreSQL servers, turn by turn, on one thread.
 *
 *      turn:  clock + 1 ms -> the disturbance, if it is its turn -> the script's next line
 *             -> applications and servers move their bytes -> sockets, mail, timers, hooks
 *             -> every invariant is checked
 *
 * After the script all clients leave, fresh ones log in and must find every server in order; then
 * everything is released.
 */
#ifndef WEIR_TESTS_SESSION_WORLD_H
#define WEIR_TESTS_SESSION_WORLD_H

#include "application.h"
#include "client/client.h"
#include "fake_endpoint.h"

#define WORLD_APPLICATIONS_MAX 8
#define WORLD_SERVERS_MAX      9
#define WORLD_WIRES_MAX        32

struct scenario {
    const char *name;
    const char *settings; /* lines for the file; `pool_size` and whatever the script is about */
    const char *script;   /* lines; see script.h */
    const char *password; /* with which Weir has to log in to servers, NULL: trust */
    bool is_routed;       /* two nodes: a primary, and a standby that is always fresh */
    bool is_bulky;        /* too much data for a run at each of its bytes and turns */
};

enum disturbance {
    DISTURBANCE_NONE,
    DISTURBANCE_CLIENT_ENDS,
    DISTURBANCE_CLIENT_CLOSES,
    DISTURBANCE_CLIENT_BREAKS,
    DISTURBANCE_SERVER_ENDS,
    DISTURBANCE_SERVER_BREAKS,
    DISTURBANCE_SERVER_FATAL, /* its last words, then the end */
    DISTURBANCE_CANCEL,
    DISTURBANCE_TIME, /* `target` seconds pass at once */
    DISTURBANCE_COUNT
};

/* What is special about a run. */
struct plan {
    const struct scenario *scenario;
    uint64_t seed;
    bool is_mixed; /* each wire has a mood of chance; else all have: */
    enum wire_mood mood;
    unsigned cut_wire; /* the wire, in order of making, ... */
    uint64_t cut_at;   /* ... of which a read ends behind so many bytes; 0: none */
    enum disturbance disturbance;
    unsigned turn; /* when it happens */
    unsigned target;
};

/* What a run was like, for planning others. */
struct outcome {
    unsigned turns;
    unsigned wires;
    unsigned applications_since[WORLD_APPLICATIONS_MAX]; /* the turn when each came, 0: never */
    unsigned servers_since[WORLD_SERVERS_MAX];           /* the same of each server's place */
    uint64_t read_totals[WORLD_WIRES_MAX];               /* of wires in order of making */
    bool is_servers[WORLD_WIRES_MAX];
    char line[160]; /* the script's line, where it failed */
};

struct world_server {
    struct wire *wire; /* NULL: a free place */
    struct postgres postgres;
    unsigned cancel_turns;
};

struct world {
    const struct plan *plan;
    struct dice dice;
    struct buf *failure;
    struct outcome *outcome;
    unsigned turn;
    unsigned idle_turns; /* nothing has moved for so long */
    uint64_t idle_us;    /* and the clock went on by so much */
    bool is_past_script;
    bool is_rough;    /* errors may come to anybody */
    const char *line; /* of the script, NULL at its end */
    bool is_line_begun;
    uint64_t wait_until_us;
    bool are_servers_stalled;
    struct network network;
    struct postgres_rules rules[2]; /* by node */
    struct application applications[WORLD_APPLICATIONS_MAX];
    unsigned applications_count;
    struct world_server servers[WORLD_SERVERS_MAX];
    struct wire *wires[WORLD_WIRES_MAX];
    /* Weir */
    struct loop *loop;
    struct loop_timer tick;
    struct databases *databases;
    struct permits *permits;
    struct texts texts;
    struct pool_set pools;
    struct client_set clients;
    _Atomic int clients_total;
    _Atomic int load;
};

/* Runs a plan. What went wrong is appended to `failure`. */
void world_run(const struct plan *plan, struct buf *failure, struct outcome *outcome);

/* Frees what the runs share: settings and users. */
void world_forget(void);

/*
 * For script.c and verify.c.
 */
struct wire *world_wire_new(struct world *world);
struct application *world_application(struct world *world, char letter);
void world_cancel(struct world *world, struct application *application);
void world_disturb_servers(struct world *world, enum disturbance how);
bool world_is_disturbed(const struct world *world);
void world_fail(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* In verify.c: everything that must be true between two turns, and at the end of all clients. */
void verify_turn(struct world *world);
void verify_rest(struct world *world);

/* Fails for the clients that are still there after all have left. */
void verify_gone(struct world *world);

#endif
