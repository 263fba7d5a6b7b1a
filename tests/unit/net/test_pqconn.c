/*
 * libpq on the loop, without a server: its reports in the server's own words, and connections
 * that fail or are closed at every stage. What needs a server is tested by the prober's
 * integration tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "net/pqconn.h"
#include "resolving.h"

#include <stdlib.h>

static const struct {
    const char *message;
    const char *tidy;
} reports[] = {
    {"connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  password authentication "
     "failed for user \"app\"\n",
     "password authentication failed for user \"app\""},
    {"connection to server at \"pg1\" (10.0.0.1), port 5432 failed: Connection refused\n\tIs the "
     "server running on that host and accepting TCP/IP connections?\n",
     "connect failed: Connection refused"},
    {"connection to server on socket \"/run/.s.PGSQL.5432\" failed: No such file or directory\n\t"
     "Is the server running locally and accepting connections on that socket?\n",
     "connect failed: No such file or directory"},
    {"connection to server at \"::1\", port 1 failed: FEHLER:  die Datenbank gibt es nicht\n",
     "die Datenbank gibt es nicht"},
    {"FATAL:  terminating connection due to administrator command\nserver closed the connection "
     "unexpectedly\n",
     "terminating connection due to administrator command"},
    {"server closed the connection unexpectedly\n\tThis probably means the server terminated "
     "abnormally\n",
     "server closed the connection unexpectedly"},
    {"invalid sslmode value: \"x\"\n", "invalid sslmode value: \"x\""},
    {"", "the connection failed without a reason"},
    {"\n", "the connection failed without a reason"},
    {"FATAL:  \n", "the connection failed without a reason"},
};

static void reports_become_short(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(reports); i++) {
        char error[PQCONN_ERROR_SIZE];
        pqconn_tidy(reports[i].message, error);
        assert_string_equal(error, reports[i].tidy);
    }
}

struct attempt {
    struct loop *loop;
    struct pqconn *conn;
    char error[PQCONN_ERROR_SIZE];
    unsigned failures;
    bool closes_itself;
};

static void on_connected(void *owner, const char *address) {
    (void)owner;
    (void)address;
    CHECK(owner == NULL); /* nobody listens where these tests connect to */
}

static void on_answered(void *owner, const struct pqconn_rows *rows, const char *sqlstate,
                        const char *error) {
    (void)rows;
    (void)sqlstate;
    (void)error;
    CHECK(owner == NULL);
}

static void on_failed(void *owner, const char *error) {
    struct attempt *attempt = owner;
    attempt->failures++;
    for (size_t i = 0; i < sizeof attempt->error - 1 && error[i] != '\0'; i++) {
        attempt->error[i] = error[i];
    }
    if (attempt->closes_itself) pqconn_close(&attempt->conn);
    loop_stop(attempt->loop);
}

static const struct pqconn_ops ops = {on_connected, on_answered, on_failed};

static struct pqconn_target target_of(const char *host, unsigned port) {
    return (struct pqconn_target){.host = host,
                                  .port = port,
                                  .user = "u",
                                  .password = "p",
                                  .database = "d",
                                  .application_name = "t",
                                  .timeout_ms = 3000};
}

static const struct {
    const char *host;
    unsigned port;
    const char *error; /* its beginning */
} failures[] = {
    {"127.0.0.1", 1, "connect failed: Connection refused"},
    {"/nowhere/at/all", 5432, "connect failed: No such file or directory"},
    {"no.such.host.invalid", 5432, "server DNS lookup failed: no.such.host.invalid"},
};

static void failures_are_told_once(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(failures) * 2; i++) {
        struct attempt attempt = {.loop = loop_new(), .closes_itself = i % 2 == 1};
        struct dns *dns = dns_new();
        struct resolver *resolver = resolving_new(attempt.loop, dns);
        struct pqconn_target target = target_of(failures[i / 2].host, failures[i / 2].port);
        attempt.conn = pqconn_open(attempt.loop, &target, &ops, &attempt);
        loop_run(attempt.loop);
        assert_int_equal(attempt.failures, 1);
        assert_memory_equal(attempt.error, failures[i / 2].error, strlen(failures[i / 2].error));
        pqconn_close(&attempt.conn);
        assert_null(attempt.conn);
        resolver_close(&resolver);
        loop_free(&attempt.loop);
        dns_free(&dns);
    }
}

static void closing_at_once_is_silent(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(failures); i++) {
        struct attempt attempt = {.loop = loop_new()};
        struct dns *dns = dns_new();
        struct resolver *resolver = resolving_new(attempt.loop, dns);
        struct pqconn_target target = target_of(failures[i].host, failures[i].port);
        attempt.conn = pqconn_open(attempt.loop, &target, &ops, &attempt);
        assert_false(pqconn_is_idle(attempt.conn));
        pqconn_close(&attempt.conn);
        pqconn_close(&attempt.conn);
        resolver_close(&resolver);
        loop_free(&attempt.loop);
        dns_free(&dns);
        assert_int_equal(attempt.failures, 0);
    }
}

static void the_environment_is_forgotten(void **unused) {
    (void)unused;
    assert_int_equal(setenv("PGSERVICE", "nowhere", 1), 0);
    assert_int_equal(setenv("PGOPTIONS", "-c x=y", 1), 0);
    assert_int_equal(setenv("PGSSLMODE", "require", 1), 0);
    assert_int_equal(setenv("PATH_OF_OURS", "stays", 1), 0);
    pqconn_forget_environment();
    assert_null(getenv("PGSERVICE"));
    assert_null(getenv("PGOPTIONS"));
    assert_null(getenv("PGSSLMODE"));
    assert_string_equal(getenv("PATH_OF_OURS"), "stays");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_is_forgotten),
        cmocka_unit_test(reports_become_short),
        cmocka_unit_test(failures_are_told_once),
        cmocka_unit_test(closing_at_once_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
