/*
 * An errand: one question that Weir itself has for PostgreSQL, asked on a server of an ordinary
 * pool. It borrows like a client, in line and under the pool's limits, sends one statement with
 * one parameter by the extended protocol, and gives the server back. No parameter of a client is
 * set on that server.
 *
 *      errand_begin --> in line --> lent, asked --> rows... --> done
 *                          `--------- refused, failed ----------> done
 */
#ifndef WEIR_POOL_ERRAND_H
#define WEIR_POOL_ERRAND_H

#include "core/buf.h"
#include "pool/borrower.h"

#define ERRAND_COLUMNS_MAX 2u /* of an answer; more are counted, not passed on */
#define ERRAND_REASON_SIZE 256

/* How an errand ended. */
struct errand_end {
    bool is_answered;
    /* Where it is not: nobody served it (`fault` is not FAULT_NONE; `argument` and `fields` as in
     * borrower_ops.refused), or the server failed to answer, which the log has told. */
    enum fault_id fault;
    const char *argument;
    const struct fault_fields *fields;
};

struct errand_ops {
    /* One row: `count` values, of which the first ERRAND_COLUMNS_MAX are there, each valid during
     * the call; NULL has at == NULL. False: the answer is not what was asked for, which ends the
     * errand with the reason that was written. */
    bool (*row)(void *owner, const struct bytes *values, unsigned count,
                char reason[ERRAND_REASON_SIZE]);
    /* It is over, by itself; errand_end is not needed any more, and the errand may be freed. */
    void (*done)(void *owner, const struct errand_end *end);
    void *owner;
};

/* Belongs to its owner, in zeroed memory that does not move. */
struct errand {
    struct borrower borrower;
    struct route route;
    struct route_request request;
    struct errand_ops ops;
    const char *doing; /* for log lines: "auth_query" */
    struct buf question;
    struct buf input;
};

/* Begins: `text` is one statement with the parameter $1, whose value is `argument`. Both are
 * copied; `doing` is not. May call `done` only later. */
void errand_begin(struct errand *errand, struct pool *pool, const char *text,
                  struct bytes argument);

/* Whether a server is at work on it. */
static inline bool errand_is_asking(const struct errand *errand) {
    return errand->borrower.server != NULL;
}

/* Gives it up without a call: out of the line, or with the server closed. Idempotent. */
void errand_give_up(struct errand *errand);

#endif
