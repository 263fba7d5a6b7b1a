/* Snapshots: SET, copies, references and differences. */
#include "config/effective.h"
#include "config/load.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

#define P "[pgbouncer]\nauth_file = users.txt\n"

static struct config *load(const char *text) {
    struct config_errors errors = {0};
    struct config *config = config_load_text("f.ini", bytes_of_text(text), &errors);
    if (config == NULL) fail_msg("%s", buf_text(&errors.text));
    config_errors_release(&errors);
    return config;
}

/* SET key = value on a file's snapshot: the difference that it makes, or the error. */
static const struct {
    const char *key;
    const char *value;
    const char *diff;
    const char *errors;
} sets[] = {
    {"default_pool_size", "30", "default_pool_size \"20\" -> \"30\"\n", ""},
    {"default_pool_size", "20", "", ""},
    {"query_wait_timeout", "0.5", "query_wait_timeout \"120\" -> \"0.5\"\n", ""},
    {"admin_users", "joe, ann", "admin_users \"\" -> \"joe, ann\"\n", ""},
    {"probe_password", "hush", "probe_password \"\" -> \"****\"\n", ""},
    {"pool_mode", "transaction", "pool_mode \"session\" -> \"transaction\"\n", ""},
    {"listen_port", "7000", "", ""}, /* not live: answered, and nothing changes */
    {"listen_port", "x", "", ""},
    {"workers", "2", "", ""},
    {"min_pool_size", "0", "", ""},
    {"default_pool_size", "x", NULL,
     "invalid value \"x\" for parameter default_pool_size in configuration (SET): expected a whole "
     "number from 0 to 1000000\n"},
    {"default_poolsize", "1", NULL,
     "unknown parameter: \"default_poolsize\" in configuration (SET): did you mean "
     "default_pool_size?\n"},
    {"min_pool_size", "-1", "", ""}, /* counts as 0, which it is */
    {"probe_rise", "0", NULL,
     "invalid value \"0\" for parameter probe_rise in configuration (SET): expected a whole number "
     "from 1 to 1000\n"},
    {"auth_type", "ident", NULL,
     "invalid value \"ident\" for parameter auth_type in configuration (SET): expected one of any, "
     "trust, plain, md5, scram-sha-256, cert, hba, pam, ldap\n"},
    {"routing", "primary", NULL, "host h port 5432 occurs twice in database \"twice\" (f.ini:5)\n"},
};

static void test_set(void **state) {
    (void)state;
    struct config *config =
        load(P "[databases]\na = host=g password=hush user=u\ntwice = host=h,h\n"
               "[users]\nu = pool_size=3\n[nodes]\ng = weight=2\n");
    for (size_t i = 0; i < COUNT(sets); i++) {
        struct config_errors errors = {0};
        struct buf diff = {0};
        struct config *changed = config_with(config, sets[i].key, sets[i].value, &errors);
        assert_string_equal(buf_text(&errors.text), sets[i].errors);
        assert_int_equal(changed == NULL, sets[i].diff == NULL);
        if (changed != NULL) {
            config_diff(config, changed, &diff);
            assert_string_equal(buf_text(&diff), sets[i].diff);
            assert_string_equal(config_database_at(changed, 0)->password, "hush");
            assert_string_equal(config_database_at(changed, 0)->entry.where, "f.ini:4");
            assert_int_equal(config_database_at(changed, 1)->hosts_count, 2);
            assert_int_equal(config_user(changed, bytes_of_text("u"))->pool_size, 3);
            assert_int_equal(config_node_weight(changed, "g", 5432), 2);
        }
        config_unref(&changed);
        buf_release(&diff);
        config_errors_release(&errors);
    }
    assert_int_equal(config->default_pool_size, 20);
    config_unref(&config);
}

static void test_references(void **state) {
    (void)state;
    struct config *config = load(P);
    struct config *second = config_ref(config);
    assert_ptr_equal(second, config);
    config_unref(&config);
    assert_null(config);
    assert_int_equal(second->listen_port, 6432);
    config_unref(&second);
    config_unref(&second); /* a pointer to NULL is legal */
}

/* Pairs of one entry before and after, the difference, and whether servers must be replaced. */
static const struct {
    const char *before;
    const char *after;
    const char *diff;
    bool is_reconnect;
} changes[] = {
    {"host=h", "host=h", "", false},
    {"host=h", "host=i", "database a: host\n", true},
    {"host=h", "host=h port=5432", "database a: port\n", false},
    {"host=h", "host=h port=5433", "database a: port\n", true},
    {"host=h", "host=h,i", "database a: host\n", true},
    {"host=h,i", "host='h, i'", "database a: host\n", false},
    {"host=h,i", "host=i,h", "database a: host\n", true},
    {"host=h", "host=h dbname=x", "database a: dbname\n", true},
    {"host=h", "host=h user=u", "database a: user\n", true},
    {"host=h user=u password=x", "host=h user=u password=y", "database a: password\n", false},
    {"host=h", "host=h timezone=UTC", "database a: timezone\n", false},
    {"host=h", "host=h load_balance_hosts=disable", "database a: load_balance_hosts\n", true},
    {"host=h", "host=h pool_size=1 pool_mode=session", "database a: pool_size, pool_mode\n", false},
    {"host=h routing=off", "host=h routing=primary", "database a: routing\n", false},
};

static void test_changes(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(changes); i++) {
        struct buf text = {0};
        struct buf diff = {0};
        buf_append_format(&text, P "[databases]\na = %s\n", changes[i].before);
        struct config *from = load(buf_text(&text));
        buf_clear(&text);
        buf_append_format(&text, P "[databases]\na = %s\n", changes[i].after);
        struct config *to = load(buf_text(&text));
        config_diff(from, to, &diff);
        assert_string_equal(buf_text(&diff), changes[i].diff);
        assert_int_equal(
            config_is_reconnect_needed(config_database_at(from, 0), config_database_at(to, 0)),
            changes[i].is_reconnect);
        config_unref(&from);
        config_unref(&to);
        buf_release(&text);
        buf_release(&diff);
    }
}

/* Without a host the servers are in unix_socket_dir, whose change moves them. */
static void test_the_socket_directory_counts(void **state) {
    (void)state;
    struct config *from = load(P "[databases]\na =\n");
    struct config *to = load(P "unix_socket_dir = /run\n[databases]\na =\n");
    assert_true(config_is_reconnect_needed(config_database_at(from, 0), config_database_at(to, 0)));
    config_unref(&from);
    config_unref(&to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_the_socket_directory_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
