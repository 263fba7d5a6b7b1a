/*
 * A scripted PostgreSQL backend: the protocol as PostgreSQL speaks it, over a toy language. It
 * plays two parts: the servers behind Weir, and for each client a private model, fed with the very
 * bytes the client sends, whose answers are what the client has to get through Weir.
 *
 * The language; TOKEN is the word by which a client knows its answers:
 *
 *      SELECT [...] TOKEN          one row: the token, and the Bind's value if it has one
 *      SELECT standby, TOKEN       the same, but refused by a standby (25006)
 *      SHOW NAME TOKEN             one row: the parameter's value and the token
 *      ROWS N SIZE TOKEN           N rows of SIZE bytes
 *      ERROR TOKEN, FATAL TOKEN, NOTICE TOKEN
 *      BEGIN, COMMIT, ROLLBACK; BEGIN ... DEFERRABLE fails (25001), in a model what follows it does
 *      SET NAME VALUE, SET NAME='VALUE'     VALUE "bad" is refused
 *      COPYIN TOKEN, COPYBAD TOKEN (fails at the first data), COPYOUT N SIZE TOKEN
 *      SLEEP N TOKEN               a row after N turns, or never if N is 0, unless cancelled
 *      DISCARD ALL, DEALLOCATE ALL, DEALLOCATE NAME
 */
#ifndef WEIR_TESTS_SESSION_POSTGRES_H
#define WEIR_TESTS_SESSION_POSTGRES_H

#include "auth/scram.h"
#include "core/buf.h"

#define POSTGRES_NAMES_MAX      96
#define POSTGRES_PARAMETERS     6
#define POSTGRES_VALUE_SIZE     64
#define POSTGRES_OUT_BYTES_HIGH (64u * 1024) /* it works on while less is unsent */

enum postgres_state {
    POSTGRES_STARTUP,
    POSTGRES_PASSWORD,
    POSTGRES_READY,
    POSTGRES_COPYING,
    POSTGRES_SLEEPING,
    POSTGRES_ENDED /* it closes when all is sent */
};

struct postgres_rules {
    const char *password;    /* SCRAM; NULL: trust */
    const char *login_error; /* SQLSTATE with which logins are refused, NULL: they are not */
    bool is_standby;
    unsigned statements_max; /* named ones; more are an error of the pooler; 0: no limit */
};

/* A prepared statement or a portal. */
struct postgres_name {
    char *name; /* NULL: a free place */
    char *text;
    char *value;   /* of a portal */
    unsigned sent; /* rows of a portal */
};

struct postgres {
    const struct postgres_rules *rules;
    enum postgres_state state;
    bool is_model;
    bool is_cancel_request; /* ENDED, and this came: */
    bool is_skipping;       /* up to the next Sync */
    bool is_simple;         /* what runs is a simple Query's */
    bool is_copy_bad;
    bool is_begun_badly; /* what comes next fails, in place of its BEGIN */
    char transaction;
    uint32_t pid;
    uint32_t secret;
    unsigned sleep_turns; /* 0: for ever */
    unsigned readies;     /* ReadyForQuery that it has sent */
    size_t copied;
    struct buf in;
    struct buf held; /* answers that no Sync or Flush has sent off yet */
    struct buf out;
    struct buf query;   /* what is left of a simple Query */
    struct buf running; /* the token of a COPY or SLEEP */
    struct scram_server scram;
    char values[POSTGRES_PARAMETERS][POSTGRES_VALUE_SIZE];
    char at_login[POSTGRES_PARAMETERS][POSTGRES_VALUE_SIZE];
    char at_begin[POSTGRES_PARAMETERS][POSTGRES_VALUE_SIZE];
    char reported[POSTGRES_PARAMETERS][POSTGRES_VALUE_SIZE];
    struct postgres_name statements[POSTGRES_NAMES_MAX];
    struct postgres_name portals[POSTGRES_NAMES_MAX];
    const char *trouble; /* what the pooler did wrong; NULL: nothing */
};

extern const char *const postgres_parameters[POSTGRES_PARAMETERS];

/* A server that awaits its first packet, or a model that is logged in once it has read one. */
void postgres_init(struct postgres *postgres, const struct postgres_rules *rules, bool is_model);
void postgres_release(struct postgres *postgres);

/* Bytes from the other side; then, once a turn, work. True if anything was done. */
void postgres_feed(struct postgres *postgres, struct bytes bytes);
bool postgres_work(struct postgres *postgres);

/* A cancel request with its key came. */
void postgres_cancel(struct postgres *postgres);

/* What it runs fails, if it runs anything. */
void postgres_abandon(struct postgres *postgres);

/* The index of a parameter in any case, or -1. */
int postgres_parameter(struct bytes name);

/*
 * For postgres_run.c.
 */
void postgres_reply(struct postgres *postgres, char type, struct bytes body);
void postgres_reply_text(struct postgres *postgres, char type, const char *text);
void postgres_error(struct postgres *postgres, const char *severity, const char *sqlstate,
                    struct bytes message);
bool postgres_forget_one(struct postgres_name names[POSTGRES_NAMES_MAX], struct bytes name);
void postgres_forget(struct postgres_name names[POSTGRES_NAMES_MAX], bool is_unnamed_kept);

enum postgres_outcome { POSTGRES_DONE, POSTGRES_FAILED, POSTGRES_GOES_ON };

/* One statement; `portal` is NULL in a simple Query. `rows_max` 0: all. */
enum postgres_outcome postgres_run(struct postgres *postgres, struct bytes text,
                                   struct postgres_name *portal, unsigned rows_max);

void postgres_flush(struct postgres *postgres);
void postgres_reply_columns(struct postgres *postgres);

/* Whether a statement returns rows. */
bool postgres_has_rows(struct bytes text);

/* SLEEP is over. */
void postgres_wake(struct postgres *postgres);

#endif
