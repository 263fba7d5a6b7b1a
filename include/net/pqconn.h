/*
 * A libpq connection on our loop, for Weir's own questions (probes, catalog facts); the data path
 * never passes through here. This is the only home of libpq.
 *
 *      lookup -> connecting -> idle <-> asking
 *          `---------`---------`---------`-> failed: one call of `failed`, then only closing is
 * left
 *
 * One question is in flight at a time. Every state but idle has a deadline. pqconn_close is legal
 * at any time, also from within each callback.
 */
#ifndef WEIR_NET_PQCONN_H
#define WEIR_NET_PQCONN_H

#include "core/bytes.h"

struct loop;
struct pqconn;

/* What `failed` is told of a server that has left a question open for too long. */
#define PQCONN_SILENT "the server does not answer"

/* How to secure the connection; what is NULL or empty is not set. Nothing is taken from the home
 * directory of the process. */
struct pqconn_security {
    /* disable (also NULL), prefer, require, verify-ca or verify-full. With prefer a connection
     * whose TLS cannot be made is tried again without. */
    const char *sslmode;
    const char *ca_file; /* needed by the last two */
    const char *cert_file;
    const char *key_file; /* libpq wants it to be readable by its owner alone */
    const char *oldest;   /* versions of TLS, TLSv1 to TLSv1.3; NULL: libpq's own bounds */
    const char *newest;
};
void pqconn_security_copy(struct pqconn_security *to, const struct pqconn_security *from);
void pqconn_security_release(struct pqconn_security *security);

/* Whom to connect to, as whom; all texts are copied. */
struct pqconn_target {
    const char *host; /* a name, an address, or a socket's directory ("/run/x", "@x") */
    unsigned port;
    const char *user;
    const char *password; /* NULL: none */
    const char *database;
    struct pqconn_security security;
    const char *application_name;
    unsigned timeout_ms; /* for the lookup and the login together */
};

/* The rows of an answer, valid during the callback. */
struct pqconn_rows;
unsigned pqconn_rows_count(const struct pqconn_rows *rows);
unsigned pqconn_rows_columns(const struct pqconn_rows *rows);
/* One value as PostgreSQL writes it, NUL-terminated; NULL for an SQL null. */
const char *pqconn_value(const struct pqconn_rows *rows, unsigned row, unsigned column);

struct pqconn_ops {
    /* The connection stands; a question may be asked. `address` is what the host resolved to,
     * empty for a Unix socket. */
    void (*connected)(void *owner, const char *address);
    /* The answer of the question: its rows, or NULL with the SQLSTATE and the server's own words.
     * The connection stands in both cases. */
    void (*answered)(void *owner, const struct pqconn_rows *rows, const char *sqlstate,
                     const char *error);
    /* The connection could not be made, broke, or ran over a deadline: "connect failed: Connection
     * refused", "server DNS lookup failed: HOST", "password authentication failed for user ...". */
    void (*failed)(void *owner, const char *error);
};

/* Removes the environment variables that libpq takes defaults from (PGSERVICE, PGOPTIONS, ...).
 * To be called once by main, before the first thread. */
void pqconn_forget_environment(void);

/* Starts to connect. No callback comes from within the call. */
struct pqconn *pqconn_open(struct loop *loop, const struct pqconn_target *target,
                           const struct pqconn_ops *ops, void *owner);

/* Closes without a further callback; *conn becomes NULL. Idempotent. */
void pqconn_close(struct pqconn **conn);

/* Asks one statement of SQL with `count` text parameters ($1...; a NULL is an SQL null). The
 * connection must stand and have no question in flight (pqconn_is_idle). Failures come by
 * callback, never from within the call. */
void pqconn_ask(struct pqconn *conn, const char *sql, const char *const *parameters, unsigned count,
                unsigned timeout_ms);

bool pqconn_is_idle(const struct pqconn *conn);

#define PQCONN_ERROR_SIZE 256

/* libpq's report of a failed connection in the server's own words, or in ours: its preamble and
 * its advice are cut off. For pqconn.c and its test. */
void pqconn_tidy(const char *message, char error[PQCONN_ERROR_SIZE]);

#endif
