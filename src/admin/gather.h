/*
 * A question to all workers: a message goes to each, is run on its thread, comes back, and when the
 * last one is back the answer is complete.
 *
 *      gather_new -> gather_send -> run (on every worker) -> done (on worker 0) -> freed
 *
 * The plan and what the gather points to must not change until `done`.
 */
#ifndef WEIR_ADMIN_GATHER_H
#define WEIR_ADMIN_GATHER_H

#include "census.h"

struct gather;

/* One worker's part. */
struct gather_part {
    struct loop_mail mail;
    struct gather *gather;
    const struct admin_worker *worker;
    unsigned index;
    struct census census;
    uint32_t found;
};

struct gather_plan {
    /* On each worker's thread: may touch its pools and clients and fills in the part. */
    void (*run)(struct gather_part *part);
    /* On worker 0, once; the gather is freed after it. */
    void (*done)(struct gather *gather);
};

struct gather {
    struct link link; /* in the admin's list */
    struct admin *admin;
    const struct gather_plan *plan;
    void *owner;
    const void *subject; /* what `run` needs to know, */
    uint32_t number;     /* and a number */
    unsigned left;
    unsigned count;
    struct gather_part parts[];
};

struct gather *gather_new(struct admin *admin, const struct gather_plan *plan, void *owner);
void gather_send(struct gather *gather);

/* For `run`: the worker's census. */
void gather_census(struct gather_part *part);

/* For `done`: the census of all workers, finished; it belongs to the gather. */
struct census *gather_merge(struct gather *gather);

/* Frees what never came back, when the threads have ended. */
void gather_free_all(struct admin *admin);

#endif
