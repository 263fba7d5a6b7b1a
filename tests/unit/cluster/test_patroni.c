/* What GET /cluster answers, as Patroni 3 and others write it, and what is no such answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/patroni.h"
#include "core/check.h"

#define LEADER(host, port)                                                                         \
    "{\"name\": \"a\", \"role\": \"leader\", \"state\": \"running\", \"host\": \"" host            \
    "\", \"port\": " port ", \"timeline\": 2}"
#define REPLICA                                                                                    \
    "{\"name\": \"b\", \"role\": \"replica\", \"state\": \"running\", \"host\": \"10.0.0.2\", "    \
    "\"port\": 5432, \"lag\": 0}"
#define MEMBERS(list) "{\"members\": [" list "], \"scope\": \"main\"}"

static const struct {
    const char *body;
    bool is_good;
    const char *host;
    unsigned port;
} rows[] = {
    {MEMBERS(LEADER("10.0.0.1", "5432") ", " REPLICA), true, "10.0.0.1", 5432},
    {MEMBERS(REPLICA ", " LEADER("pg1.example", "5433")), true, "pg1.example", 5433},
    {MEMBERS(REPLICA), true, "", 0},
    {MEMBERS(""), true, "", 0},
    {MEMBERS("{\"role\": \"leader\", \"state\": \"stopped\", \"host\": \"a\", \"port\": 1}"), true,
     "", 0},
    {MEMBERS(
         "{\"role\": \"standby_leader\", \"state\": \"running\", \"host\": \"a\", \"port\": 1}"),
     true, "", 0},
    {MEMBERS("{\"role\": \"primary\", \"state\": \"running\", \"host\": \"a\", \"port\": 1}"), true,
     "a", 1},
    {MEMBERS("7, null, [], \"leader\""), true, "", 0},
    {MEMBERS(LEADER("a", "1") ", " LEADER("b", "1")), false, NULL, 0},
    {MEMBERS(LEADER("", "1")), false, NULL, 0},
    {MEMBERS(LEADER("a", "0")), false, NULL, 0},
    {MEMBERS(LEADER("a", "65536")), false, NULL, 0},
    {MEMBERS(LEADER("a", "\"1\"")), false, NULL, 0},
    {MEMBERS("{\"role\": \"leader\", \"state\": \"running\"}"), false, NULL, 0},
    {"{\"members\": {}}", false, NULL, 0},
    {"{\"scope\": \"main\"}", false, NULL, 0},
    {"[]", false, NULL, 0},
    {"<html>", false, NULL, 0},
    {"", false, NULL, 0},
    {MEMBERS(LEADER("a", "1")) "x", false, NULL, 0},
    {"{\"members\": [" LEADER("a", "1"), false, NULL, 0},
};

static void answers_are_read(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct patroni_leader leader;
        bool is_good = patroni_read(bytes_of_text(rows[i].body), &leader);
        if (is_good != rows[i].is_good) fail_msg("row %zu: %s", i, rows[i].body);
        if (!is_good) continue;
        assert_string_equal(leader.host, rows[i].host);
        assert_int_equal(leader.port, rows[i].port);
    }
}

/* A host that is longer than any name is no host. */
static void hosts_have_a_bound(void **unused) {
    (void)unused;
    char body[1024] = "{\"members\": [{\"role\": \"leader\", \"state\": \"running\", \"port\": 1, "
                      "\"host\": \"";
    size_t len = strlen(body);
    memset(body + len, 'h', PATRONI_HOST_SIZE);
    memcpy(body + len + PATRONI_HOST_SIZE, "\"}]}", 5);
    struct patroni_leader leader;
    assert_false(patroni_read(bytes_of_text(body), &leader));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(hosts_have_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
