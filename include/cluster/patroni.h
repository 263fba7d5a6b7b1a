/*
 * Patroni's word on who leads, asked over HTTP (GET /cluster of its REST API) on the loop: faster
 * than finding out, and a judge where two nodes answer as primaries. This is the only home of
 * libcurl and of libjansson.
 *
 * The URLs are asked in turn, beginning with the one that answered last, every interval. What is no
 * answer of that form is passed over, with one line in the log until an answer comes.
 */
#ifndef WEIR_CLUSTER_PATRONI_H
#define WEIR_CLUSTER_PATRONI_H

#include "core/bytes.h"

#define PATRONI_HOST_SIZE 256

struct loop;
struct patroni;

/* The member that leads, as Patroni tells the place of its PostgreSQL; an empty host: none does. */
struct patroni_leader {
    char host[PATRONI_HOST_SIZE]; /* a name or an address */
    unsigned port;
};

/* Told at each answer, and with NULL when no URL has answered: the word counts no more. False, and
 * nothing done, if no node stands at that place: then the host is told again as an address, and
 * where that is no node's either, that nobody leads. Must not free the asker. */
typedef bool (*patroni_told)(void *owner, const struct patroni_leader *leader);

/* Starts asking. `urls` are base URLs with commas between, at most 16; `interval_ms` from one
 * answer to the next question. */
struct patroni *patroni_new(struct loop *loop, const char *urls, unsigned interval_ms,
                            patroni_told told, void *owner);

/* Asks at once, unless a question is open or the last one was asked just now. */
void patroni_hurry(struct patroni *patroni);

/* *patroni becomes NULL. Idempotent. */
void patroni_free(struct patroni **patroni);

/* Reads the answer to GET /cluster; false if it is none. */
bool patroni_read(struct bytes body, struct patroni_leader *leader);

#endif
