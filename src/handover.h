/*
 * The online restart: a new process takes over from the one that runs; see handover.c.
 */
#ifndef WEIR_HANDOVER_H
#define WEIR_HANDOVER_H

#include "client/client.h"

struct process;
struct worker;
struct handover;

/* ---- the new process */

/* Asks the running process for its listening sockets, which process->listeners has then; false with
 * a FATAL line. Nothing has changed for the other process yet. */
bool handover_ask(struct process *process);
/* This process can serve: the other one stops listening, gives up its pidfile and its HTTP page,
 * and sends its clients. Without a hand-over it does nothing. */
void handover_go(struct process *process);
/* Receives clients from now on. */
void handover_begin(struct process *process);

/* A cancel request that fits no client here may be for one that is still there. */
bool handover_cancel(struct process *process, const char key[8]);

/* ---- the old process */

/* The console asks for a hand-over: NULL if it has begun, with the console's connection taken from
 * it, else why not. */
const char *handover_start(struct process *process, struct client *console, const char *version);

/* On a worker's own thread: sends away what can go now. */
void handover_sweep(struct worker *worker);

/* ---- both */

bool handover_is_giving(const struct process *process);
void handover_tick(struct process *process);
void handover_free(struct process *process);

#endif
