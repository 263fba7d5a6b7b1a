/*
 * libpq on our loop; see net/pqconn.h.
 *
 * libpq owns the socket and may close it and open another with the same number while it connects,
 * so the poll handle is closed before each PQconnectPoll and made anew after it. Once the
 * connection stands one handle stays to its end. A handle is memory of its own, freed in its close
 * callback, while the connection's memory goes at once: no callback of ours touches the connection
 * after it has called its owner, who may have closed it.
 *
 * libpq resolves no names here (the address stands beside the host), reads no service and no
 * password file, and never blocks: the connection is set non-blocking as soon as it stands, so
 * that even PQfinish does not wait for a hung server.
 */
#include "net/pqconn.h"

#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "net/endpoint.h"
#include "net/loop.h"
#include "net/resolve.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

enum pqconn_state { PQCONN_LOOKUP, PQCONN_CONNECTING, PQCONN_IDLE, PQCONN_ASKING, PQCONN_FAILED };

struct pqconn {
    struct loop *loop;
    enum pqconn_state state;
    const struct pqconn_ops *ops;
    void *owner;
    struct resolve *resolve;
    struct loop_timer deadline;
    uv_poll_t *poll;
    int wanted; /* events of the poll handle */
    PGconn *pg;
    PGresult *result; /* the first result of the question in flight */
    char *host;
    char *user;
    char *password;
    char *database;
    struct pqconn_security security;
    bool may_try_plain; /* sslmode prefer, and TLS was not tried in vain yet */
    char *application_name;
    unsigned port;
    char address[ENDPOINT_TEXT_SIZE];
    char notice[PQCONN_ERROR_SIZE]; /* what the server said last without being asked */
};

struct pqconn_rows {
    const PGresult *result;
};

/* A path that cannot exist: libpq then has no password file, no certificate and no CA. An empty
 * text would mean its default, and /dev/null makes it complain. */
static const char no_file[] = "/dev/null/none";

/* ---- security */

void pqconn_security_copy(struct pqconn_security *to, const struct pqconn_security *from) {
    *to = (struct pqconn_security){.sslmode = memory_copy_text(from->sslmode),
                                   .ca_file = memory_copy_text(from->ca_file),
                                   .cert_file = memory_copy_text(from->cert_file),
                                   .key_file = memory_copy_text(from->key_file),
                                   .oldest = memory_copy_text(from->oldest),
                                   .newest = memory_copy_text(from->newest)};
}

void pqconn_security_release(struct pqconn_security *security) {
    const char *texts[] = {security->sslmode,  security->ca_file, security->cert_file,
                           security->key_file, security->oldest,  security->newest};
    for (size_t i = 0; i < COUNT(texts); i++) memory_free((void *)(uintptr_t)texts[i]);
    *security = (struct pqconn_security){0};
}

static const char *or_no_file(const char *file) {
    return file == NULL || file[0] == '\0' ? no_file : file;
}

/* libpq's own `prefer` would try twice as well, and log in twice with a wrong password. */
static const char *sslmode_of(const struct pqconn *conn) {
    const char *mode = conn->security.sslmode;
    if (mode == NULL) return "disable";
    if (strcmp(mode, "prefer") == 0) return conn->may_try_plain ? "require" : "disable";
    return mode;
}

/* ---- rows */

unsigned pqconn_rows_count(const struct pqconn_rows *rows) {
    return (unsigned)PQntuples(rows->result);
}

unsigned pqconn_rows_columns(const struct pqconn_rows *rows) {
    return (unsigned)PQnfields(rows->result);
}

const char *pqconn_value(const struct pqconn_rows *rows, unsigned row, unsigned column) {
    CHECK(row < pqconn_rows_count(rows) && column < pqconn_rows_columns(rows));
    if (PQgetisnull(rows->result, (int)row, (int)column)) return NULL;
    return PQgetvalue(rows->result, (int)row, (int)column);
}

/* ---- words */

void pqconn_tidy(const char *message, char error[PQCONN_ERROR_SIZE]) {
    static const char preamble[] = "connection to server ";
    static const char failed[] = " failed: ";
    const char *prefix = "";
    if (strncmp(message, preamble, sizeof preamble - 1) == 0) {
        const char *words = strstr(message, failed);
        if (words != NULL) {
            message = words + sizeof failed - 1;
            prefix = "connect failed: ";
        }
    }
    size_t len = strcspn(message, "\n");
    /* The server's own words follow a severity (in any language), a colon and two blanks. */
    const char *said = strstr(message, ":  ");
    if (said != NULL && (size_t)(said - message) < len) {
        len -= (size_t)(said + 3 - message);
        message = said + 3;
        prefix = "";
    }
    if (len == 0) {
        message = "the connection failed without a reason";
        len = strlen(message);
    }
    (void)snprintf(error, PQCONN_ERROR_SIZE, "%s%.*s", prefix, (int)len, message);
}

static void on_notice(void *context, const char *message) {
    struct pqconn *conn = context;
    pqconn_tidy(message, conn->notice);
}

void pqconn_forget_environment(void) {
    /* PGSERVICE first: with a service that does not exist PQconndefaults has nothing to give. */
    static const char *const others[] = {"PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR", "PGREALM"};
    for (size_t i = 0; i < COUNT(others); i++) CHECK(unsetenv(others[i]) == 0);
    PQconninfoOption *options = PQconndefaults();
    CHECK(options != NULL);
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->envvar != NULL) CHECK(unsetenv(option->envvar) == 0);
    }
    PQconninfoFree(options);
}

/* ---- the poll handle */

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_poll_closed(uv_handle_t *handle) {
    memory_free(handle);
}

static void drop_poll(struct pqconn *conn) {
    if (conn->poll == NULL) return;
    uv_close((uv_handle_t *)conn->poll, on_poll_closed);
    conn->poll = NULL;
    conn->wanted = 0;
}

static bool want(struct pqconn *conn, int events) {
    if (conn->poll == NULL) {
        uv_poll_t *poll = memory_new(sizeof *poll);
        if (uv_poll_init(loop_uv(conn->loop), poll, PQsocket(conn->pg)) != 0) {
            memory_free(poll);
            return false;
        }
        poll->data = conn;
        conn->poll = poll;
    }
    if (conn->wanted == events) return true;
    conn->wanted = events;
    return uv_poll_start(conn->poll, events, on_poll) == 0;
}

/* ---- the end */

/* Gives up all that a connection holds but its own memory and its texts. */
static void let_go(struct pqconn *conn) {
    conn->state = PQCONN_FAILED;
    loop_timer_stop(&conn->deadline);
    resolve_close(&conn->resolve);
    drop_poll(conn); /* before libpq closes the descriptor */
    if (conn->result != NULL) PQclear(conn->result);
    conn->result = NULL;
    if (conn->pg != NULL) PQfinish(conn->pg);
    conn->pg = NULL;
}

/* The last thing its caller does: the owner may close the connection in its callback. */
static void fail(struct pqconn *conn, const char *why) {
    char error[PQCONN_ERROR_SIZE];
    (void)snprintf(error, sizeof error, "%s", why);
    let_go(conn);
    conn->ops->failed(conn->owner, error);
}

static void fail_as_libpq_says(struct pqconn *conn) {
    char error[PQCONN_ERROR_SIZE];
    pqconn_tidy(PQerrorMessage(conn->pg), error);
    fail(conn, conn->notice[0] != '\0' ? conn->notice : error);
}

static void on_deadline(struct loop_timer *timer) {
    struct pqconn *conn = LIST_OWNER(timer, struct pqconn, deadline);
    switch (conn->state) {
    case PQCONN_LOOKUP:
        fail(conn, "server DNS lookup failed: no answer in time");
        return;
    case PQCONN_CONNECTING:
        fail(conn, "connect timeout");
        return;
    case PQCONN_ASKING:
        fail(conn, PQCONN_SILENT);
        return;
    case PQCONN_IDLE:
    case PQCONN_FAILED:
        break;
    }
    CHECK(conn->deadline.handle == NULL); /* these states have none */
}

/* ---- connecting */

static void stand(struct pqconn *conn) {
    if (PQsetnonblocking(conn->pg, 1) != 0 || !want(conn, UV_READABLE)) {
        fail(conn, "connect failed: the socket cannot be polled");
        return;
    }
    loop_timer_stop(&conn->deadline);
    conn->state = PQCONN_IDLE;
    conn->ops->connected(conn->owner, conn->address);
}

static PGconn *start_libpq(const struct pqconn *conn) {
    char port[12];
    (void)snprintf(port, sizeof port, "%u", conn->port);
    const char *const given[][2] = {
        {"host", conn->host},
        {"hostaddr", conn->address},
        {"port", port},
        {"user", conn->user},
        {"password", conn->password},
        {"dbname", conn->database},
        {"application_name", conn->application_name},
        {"sslmode", sslmode_of(conn)},
        {"sslrootcert", or_no_file(conn->security.ca_file)},
        {"sslcert", or_no_file(conn->security.cert_file)},
        {"sslkey", or_no_file(conn->security.key_file)},
        {"ssl_min_protocol_version", conn->security.oldest},
        {"ssl_max_protocol_version", conn->security.newest},
        {"gssencmode", "disable"},
        {"passfile", no_file},
        {"client_encoding", "UTF8"},
        {"options", "-c search_path=pg_catalog"},
        {"target_session_attrs", "any"},
        {"connect_timeout", "0"},
    };
    const char *names[COUNT(given) + 1] = {0};
    const char *values[COUNT(given) + 1] = {0};
    size_t count = 0;
    for (size_t i = 0; i < COUNT(given); i++) {
        if (given[i][1] == NULL || given[i][1][0] == '\0') continue;
        names[count] = given[i][0];
        values[count++] = given[i][1];
    }
    PGconn *pg = PQconnectStartParams(names, values, 0);
    CHECK(pg != NULL); /* NULL is nothing but a lack of memory */
    return pg;
}

static void begin_connecting(struct pqconn *conn) {
    conn->state = PQCONN_CONNECTING;
    conn->pg = start_libpq(conn);
    (void)PQsetNoticeProcessor(conn->pg, on_notice, conn);
    if (PQstatus(conn->pg) == CONNECTION_BAD) {
        fail_as_libpq_says(conn);
        return;
    }
    if (!want(conn, UV_WRITABLE)) fail(conn, "connect failed: the socket cannot be polled");
}

/* Tries again without TLS where that is what failed. */
static bool tried_plain(struct pqconn *conn) {
    if (!conn->may_try_plain || PQsslInUse(conn->pg) == 1) return false;
    conn->may_try_plain = false;
    PQfinish(conn->pg);
    begin_connecting(conn);
    return true;
}

static void connect_on(struct pqconn *conn) {
    drop_poll(conn);
    int events = 0;
    switch (PQconnectPoll(conn->pg)) {
    case PGRES_POLLING_READING:
        events = UV_READABLE;
        break;
    case PGRES_POLLING_WRITING:
        events = UV_WRITABLE;
        break;
    case PGRES_POLLING_OK:
        stand(conn);
        return;
    case PGRES_POLLING_FAILED:
    default:
        if (!tried_plain(conn)) fail_as_libpq_says(conn);
        return;
    }
    if (!want(conn, events)) fail(conn, "connect failed: the socket cannot be polled");
}

static void on_lookup(void *owner, const char *address, const char *error) {
    struct pqconn *conn = owner;
    conn->resolve = NULL;
    if (address == NULL) {
        fail(conn, error);
        return;
    }
    bool is_unix = conn->host[0] == '/' || conn->host[0] == '@';
    (void)snprintf(conn->address, sizeof conn->address, "%s", is_unix ? "" : address);
    begin_connecting(conn);
}

/* ---- asking */

/* The question has been answered in full. */
static void finish(struct pqconn *conn) {
    PGresult *result = conn->result;
    conn->result = NULL;
    loop_timer_stop(&conn->deadline);
    conn->state = PQCONN_IDLE;
    struct pqconn_rows rows = {result};
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        conn->ops->answered(conn->owner, &rows, NULL, NULL);
    } else {
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
        conn->ops->answered(conn->owner, NULL, sqlstate == NULL ? "" : sqlstate,
                            words == NULL ? "the answer is of an unexpected kind" : words);
    }
    PQclear(result);
}

/* The connection broke: the server's last words are an error result, a notice, or libpq's own. */
static void lose(struct pqconn *conn) {
    const char *words = NULL;
    if (conn->result != NULL) words = PQresultErrorField(conn->result, PG_DIAG_MESSAGE_PRIMARY);
    if (words == NULL) {
        fail_as_libpq_says(conn);
        return;
    }
    fail(conn, words);
}

/* Takes what has come; true if the question is answered in full. The first result counts: one
 * statement has one, and an error that ends the connection may be followed by libpq's own. */
static bool collect(struct pqconn *conn) {
    while (!PQisBusy(conn->pg)) {
        PGresult *result = PQgetResult(conn->pg);
        if (result == NULL) return true;
        if (conn->result == NULL) {
            conn->result = result;
        } else {
            PQclear(result);
        }
        if (PQstatus(conn->pg) == CONNECTION_BAD) return true;
    }
    return false;
}

static void read_on(struct pqconn *conn) {
    bool is_open = PQconsumeInput(conn->pg) == 1;
    if (conn->state == PQCONN_ASKING) {
        bool is_answered = collect(conn);
        if (PQstatus(conn->pg) == CONNECTION_BAD) {
            lose(conn);
        } else if (is_answered && conn->result != NULL) {
            finish(conn);
        } else if (is_answered) {
            fail(conn, "the server gave no answer");
        }
        return;
    }
    /* Nobody asked: a notice, or the server's last words. PQnotifies makes libpq read them. */
    PQfreemem(PQnotifies(conn->pg));
    if (!is_open || PQstatus(conn->pg) == CONNECTION_BAD) lose(conn);
}

static bool flush(struct pqconn *conn) {
    int left = PQflush(conn->pg);
    return left >= 0 && want(conn, left > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct pqconn *conn = poll->data;
    if (conn->state == PQCONN_CONNECTING) {
        connect_on(conn);
        return;
    }
    if (status < 0) conn->wanted = 0; /* libuv has stopped the handle */
    if ((events & UV_WRITABLE) != 0 || status < 0) {
        if (!flush(conn)) {
            lose(conn);
            return;
        }
    }
    read_on(conn);
}

/* ---- public */

struct pqconn *pqconn_open(struct loop *loop, const struct pqconn_target *target,
                           const struct pqconn_ops *ops, void *owner) {
    struct pqconn *conn = memory_new(sizeof *conn);
    conn->loop = loop;
    conn->ops = ops;
    conn->owner = owner;
    conn->host = memory_copy_text(target->host);
    conn->port = target->port;
    conn->user = memory_copy_text(target->user);
    conn->password = memory_copy_text(target->password);
    conn->database = memory_copy_text(target->database);
    pqconn_security_copy(&conn->security, &target->security);
    conn->may_try_plain =
        target->security.sslmode != NULL && strcmp(target->security.sslmode, "prefer") == 0;
    conn->application_name = memory_copy_text(target->application_name);
    conn->state = PQCONN_LOOKUP;
    conn->deadline.run = on_deadline;
    loop_timer_start(loop, &conn->deadline, target->timeout_ms, 0);
    conn->resolve = resolve_begin(loop, target->host, false, on_lookup, conn);
    return conn;
}

void pqconn_close(struct pqconn **conn_at) {
    struct pqconn *conn = *conn_at;
    if (conn == NULL) return;
    *conn_at = NULL;
    let_go(conn);
    memory_free(conn->host);
    memory_free(conn->user);
    memory_free_secret(conn->password);
    memory_free(conn->database);
    pqconn_security_release(&conn->security);
    memory_free(conn->application_name);
    memory_free(conn);
}

bool pqconn_is_idle(const struct pqconn *conn) {
    return conn->state == PQCONN_IDLE;
}

void pqconn_ask(struct pqconn *conn, const char *sql, const char *const *parameters, unsigned count,
                unsigned timeout_ms) {
    CHECK(conn->state == PQCONN_IDLE);
    conn->state = PQCONN_ASKING;
    loop_timer_start(conn->loop, &conn->deadline, timeout_ms, 0);
    /* Both fail only on a broken connection, which the poll handle is about to report: with both
     * events wanted it is called in any case. */
    int is_sent = PQsendQueryParams(conn->pg, sql, (int)count, NULL, parameters, NULL, NULL, 0);
    bool is_flushed = is_sent == 1 && flush(conn);
    if (!is_flushed) CHECK(want(conn, UV_READABLE | UV_WRITABLE));
}
