/*
 * A scripted client, which knows what it must be answered: every byte that it sends also goes to a
 * model backend of its own, and what comes through Weir has to be, byte for byte, what the model
 * says. Where a disturbance may have reached it (is_rough), an error of Weir's may take the place
 * of an answer; from then on only framing, tokens and the count of ReadyForQuery are held against
 * what comes.
 */
#ifndef WEIR_TESTS_SESSION_APPLICATION_H
#define WEIR_TESTS_SESSION_APPLICATION_H

#include "fake_socket.h"
#include "postgres.h"

enum application_state {
    APPLICATION_NEW,
    APPLICATION_LOGIN,
    APPLICATION_READY,
    APPLICATION_ENDED /* the connection is closed, and all that came was read */
};

struct application {
    char letter;
    enum application_state state;
    struct wire *wire;
    struct postgres model; /* its `out` is what is still to come */
    struct buf sending;    /* what the wire has not taken yet */
    struct buf received;   /* a message that is not whole yet */
    struct buf *failure;   /* what went wrong, for the report; empty: nothing yet */
    char password[32];     /* empty: it has none */
    struct scram_client scram;
    unsigned tokens;
    unsigned readies; /* ReadyForQuery that came */
    unsigned asked;   /* Query and Sync that were sent */
    uint32_t pid;     /* its cancel key */
    uint32_t secret;
    bool is_accepted; /* Weir knows of it */
    bool is_reading;
    bool is_rough;       /* errors in place of answers are no failures */
    bool is_loose;       /* one came: answers are no longer compared with the model's */
    unsigned surprises;  /* errors that the model did not foresee, not accounted for yet */
    char surprise[6];    /* the last one's SQLSTATE */
    bool skips_to_ready; /* the rest of a group that failed by surprise */
    bool has_cancelled;
    bool has_left;                                         /* it has closed, or said Terminate */
    char values[POSTGRES_PARAMETERS][POSTGRES_VALUE_SIZE]; /* parameters as it was told */
};

void application_init(struct application *application, char letter, struct buf *failure);
void application_release(struct application *application);

/* Sends the startup packet over a new wire; `words` are NAME=VALUE for it, and password=TEXT. */
void application_login(struct application *application, struct wire *wire, const char *words);

/*
 * Says messages, divided by `|`. A `$` becomes a new token of this client, `-` the empty name, and
 * `*N` in front repeats the message:
 *
 *      Q TEXT, P NAME TEXT, B PORTAL NAME [VALUE], D S|P NAME, E PORTAL [ROWS], C S|P NAME, S, H
 *      d SIZE, c, f, X
 */
void application_say(struct application *application, const char *words);

/* Moves bytes both ways and judges what came. True if anything moved. */
bool application_work(struct application *application);

/* Whether all that it said is answered, or its connection has ended. */
bool application_is_quiet(const struct application *application);

void application_fail(struct application *application, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
