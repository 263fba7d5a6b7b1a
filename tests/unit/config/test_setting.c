/* The table of settings, and how texts become values. */
#include "config/config.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define NOT_A_NUMBER "expected a whole number from "
#define NOT_A_TIME   "expected seconds from "
#define NOT_A_BOOL   "expected 0 or 1"
#define BENT         "it counts as "

/* A setting of the pooler, a text, and the value as SHOW CONFIG gives it; the start of what is
 * wrong, or of what the text counts as. */
static const struct {
    const char *name;
    const char *text;
    const char *shown;
    const char *why;
} values[] = {
    {"listen_port", "1", "1", NULL},
    {"listen_port", "65535", "65535", NULL},
    {"listen_port", "0", "0", NULL},
    {"listen_port", "65536", NULL, NOT_A_NUMBER "0 to 65535"},
    {"listen_port", "-1", NULL, NOT_A_NUMBER},
    {"listen_port", "", NULL, NOT_A_NUMBER},
    {"listen_port", "-", NULL, NOT_A_NUMBER},
    {"listen_port", "6432x", NULL, NOT_A_NUMBER},
    {"listen_port", "6432 ", NULL, NOT_A_NUMBER},
    {"listen_port", "+1", "1", NULL},
    {"listen_port", "+", NULL, NOT_A_NUMBER},
    {"listen_port", "+-1", NULL, NOT_A_NUMBER},
    {"listen_port", "99999999999999999999999999999999", NULL, NOT_A_NUMBER},
    {"unix_socket_mode", "0777", "511", NULL},
    {"unix_socket_mode", "0", "0", NULL},
    {"unix_socket_mode", "0x1ff", "511", NULL},
    {"unix_socket_mode", "0X1FF", "511", NULL},
    {"unix_socket_mode", "01777", "1023", NULL},
    {"unix_socket_mode", "010000", "4095", BENT "4095"},
    {"unix_socket_mode", "08", NULL, NOT_A_NUMBER},
    {"unix_socket_mode", "0x", NULL, NOT_A_NUMBER},
    {"unix_socket_mode", "0xg", NULL, NOT_A_NUMBER},
    {"max_packet_size", "2147483647", "2147483647", NULL},
    {"max_packet_size", "4294967295", "2147483647", NULL},
    {"max_packet_size", "4294967296", "2147483647", BENT "2147483647"},
    {"max_packet_size", "-1", "2147483647", BENT "2147483647"},
    {"max_packet_size", "x", NULL, "expected a whole number of bytes from 0 to "},
    {"default_pool_size", "0", "0", NULL},
    {"default_pool_size", "-1", "0", BENT "0"},
    {"default_pool_size", "99999999999999999999999999", "1000000", BENT "1000000"},
    {"default_pool_size", "1e1", NULL, NOT_A_NUMBER},
    {"max_client_conn", "-1", "0", BENT "0"},
    {"listen_backlog", "-1", "-1", NULL},
    {"listen_backlog", "100000", "100000", NULL},
    {"stats_period", "0", "0", NULL},
    {"stats_period", "-1", "0", BENT "0"},
    {"scram_iterations", "0", "1", BENT "1"},
    {"peer_id", "16384", NULL, NOT_A_NUMBER "0 to 16383"},
    {"verbose", "11", "10", BENT "10"},
    {"workers", "0", NULL, NOT_A_NUMBER "1 to 64"},
    {"workers", "64", "64", NULL},
    {"workers", "65", NULL, NOT_A_NUMBER "1 to 64"},
    {"gather_bytes", "0x4000", "16384", NULL},
    {"query_timeout", "0", "0", NULL},
    {"query_timeout", "1.5", "1.5", NULL},
    {"query_timeout", "0.000001", "0.000001", NULL},
    {"query_timeout", "0.0000019", "0.000001", NULL},
    {"query_timeout", "1.050", "1.05", NULL},
    {"query_timeout", ".5", "0.5", NULL},
    {"query_timeout", "5.", "5", NULL},
    {"query_timeout", "2147483647", "2147483647", NULL},
    {"query_timeout", "2147483648", "2147483647", BENT "2147483647"},
    {"query_timeout", "99999999999999999999999", "2147483647", BENT "2147483647"},
    {"query_timeout", "inf", "2147483647", BENT "2147483647"},
    {"query_timeout", "1e400", NULL, NOT_A_TIME},
    {"query_timeout", "1.5e-3", "0.0015", NULL},
    {"query_timeout", "0x10", "16", NULL},
    {"query_timeout", "-0", "0", NULL},
    {"query_timeout", "1,5", NULL, NOT_A_TIME},
    {"query_timeout", ".", NULL, NOT_A_TIME},
    {"query_timeout", "", NULL, NOT_A_TIME},
    {"query_timeout", "-1", NULL, NOT_A_TIME},
    {"query_timeout", "1s", NULL, NOT_A_TIME},
    {"query_timeout", "1 s", NULL, NOT_A_TIME},
    {"query_timeout", "1e3", "1000", NULL},
    {"query_timeout", "1d", NULL, NOT_A_TIME},
    {"query_timeout", "1.2.3", NULL, NOT_A_TIME},
    {"probe_interval", "0.01", "0.01", NULL},
    {"probe_interval", "0.009", NULL, NOT_A_TIME "0.01 to 3600"},
    {"probe_interval", "3600.5", NULL, NOT_A_TIME "0.01 to 3600"},
    {"tcp_keepalive", "0", "0", NULL},
    {"tcp_keepalive", "1", "1", NULL},
    {"tcp_keepalive", "2", "1", BENT "1"},
    {"tcp_keepalive", "-1", "1", BENT "1"},
    {"tcp_keepalive", "1.0", NULL, NOT_A_BOOL},
    {"replica_fallback", "0", "0", NULL},
    {"max_replica_lag", "64kB", "65536", NULL},
    {"max_replica_lag", "16MB", "16777216", NULL},
    {"max_replica_lag", "1GB", "1073741824", NULL},
    {"max_replica_lag", "2GB", NULL, "expected a whole number of bytes from 0 to 2147483647"},
    {"max_replica_lag", "99999999999999999999GB", NULL, "expected a whole number of bytes from 0"},
    {"max_replica_lag", "1mb", NULL, "expected a whole number of bytes from 0 to 2147483647"},
    {"max_replica_lag", "MB", NULL, "expected a whole number of bytes from 0 to 2147483647"},
    {"max_packet_size", "1MB", NULL, "expected a whole number of bytes from 0 to "},
    {"max_replica_lag", "-1", NULL, "expected a whole number of bytes from 0 to 2147483647"},
    {"syslog_facility", "Local3", "local3", NULL},
    {"syslog_facility", "mail", "daemon", BENT "daemon"},
    {"syslog_facility", "", "daemon", BENT "daemon"},
    {"tcp_keepalive", "yes", NULL, NOT_A_BOOL},
    {"tcp_keepalive", "", NULL, NOT_A_BOOL},
    {"pool_mode", "transaction", "transaction", NULL},
    {"pool_mode", "Session", "session", NULL},
    {"pool_mode", "statement", "statement", NULL},
    {"pool_mode", "", NULL, "expected one of session, transaction, statement"},
    {"auth_type", "scram-sha-256", "scram-sha-256", NULL},
    {"auth_type", "trust", "trust", NULL},
    {"auth_type", "md5", "md5", NULL},
    {"auth_type", "any", "any", NULL},
    {"auth_type", "hba", "hba", NULL},
    {"auth_type", "pam", "pam", NULL},
    {"auth_type", "cert", "cert", NULL},
    {"auth_type", "scram", NULL,
     "expected one of any, trust, plain, md5, scram-sha-256, cert, hba"},
    {"client_tls_sslmode", "disable", "disable", NULL},
    {"client_tls_sslmode", "verify-ca", "verify-ca", NULL},
    {"client_tls_sslmode", "on", NULL,
     "expected one of disable, allow, prefer, require, verify-ca, verify-full"},
    {"server_tls_sslmode", "prefer", "prefer", NULL},
    {"server_tls_sslmode", "Verify-Full", "verify-full", NULL},
    {"routing", "read_write", "read_write", NULL},
    {"routing", "shadow", "shadow", NULL},
    {"read_consistency", "eventual", "eventual", NULL},
    {"read_consistency", "cluster", "cluster", NULL},
    {"admin_users", "a, b ,,c,", "a, b ,,c,", NULL},
    {"admin_users", "", "", NULL},
    {"server_reset_query", "DISCARD ALL; SET x = 'y'", "DISCARD ALL; SET x = 'y'", NULL},
    {"server_reset_query", "", "", NULL},
    {"probe_password", "secret", "****", NULL},
    {"probe_password", "", "", NULL},
    {"http_listen", "", "", NULL},
    {"http_listen", "127.0.0.1:9127", "127.0.0.1:9127", NULL},
    {"http_listen", "[::1]:9127", "[::1]:9127", NULL},
    {"http_listen", "*:9127", "*:9127", NULL},
    {"http_listen", "::1:9127", NULL, "expected HOST:PORT"},
    {"http_listen", "9127", NULL, "expected HOST:PORT"},
    {"http_listen", ":9127", NULL, "expected HOST:PORT"},
    {"http_listen", "[]:9127", NULL, "expected HOST:PORT"},
    {"http_listen", "h:", NULL, "expected HOST:PORT"},
    {"http_listen", "h:0", NULL, "expected HOST:PORT"},
    {"http_listen", "h:65536", NULL, "expected HOST:PORT"},
    {"http_listen", "h:0x10", NULL, "expected HOST:PORT"},
};

static void show(const struct setting *setting, const void *object, struct buf *text) {
    buf_clear(text);
    setting_show(setting, object, text);
}

static void test_values(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        struct config config = {0};
        struct buf before = {0};
        struct buf after = {0};
        struct buf why = {0};
        setting_init_all(SETTING_SCOPE_POOLER, &config);
        const struct setting *setting =
            setting_find(SETTING_SCOPE_POOLER, bytes_of_text(values[i].name));
        assert_non_null(setting);
        show(setting, &config, &before);
        bool is_set = setting_set(setting, &config, bytes_of_text(values[i].text), &why);
        show(setting, &config, &after);
        const char *expected = values[i].shown == NULL ? buf_text(&before) : values[i].shown;
        size_t len = values[i].why == NULL ? 0 : strlen(values[i].why);
        if (is_set != (values[i].shown != NULL) || (buf_length(&why) > 0) != (len > 0) ||
            strcmp(buf_text(&after), expected) != 0 ||
            strncmp(buf_text(&why), values[i].why == NULL ? "" : values[i].why, len) != 0)
            fail_msg("%s = \"%s\": got \"%s\", %s", values[i].name, values[i].text,
                     buf_text(&after), buf_text(&why));
        buf_release(&before);
        buf_release(&after);
        buf_release(&why);
        setting_release_all(SETTING_SCOPE_POOLER, &config);
    }
}

static void test_times_are_microseconds(void **state) {
    (void)state;
    struct config config = {0};
    setting_init_all(SETTING_SCOPE_POOLER, &config);
    assert_int_equal(config.query_wait_timeout_us, 120 * (uint64_t)US_PER_S);
    assert_int_equal(config.probe_interval_us, US_PER_S);
    assert_int_equal(config.alert_for_us, 60 * (uint64_t)US_PER_S);
    setting_release_all(SETTING_SCOPE_POOLER, &config);
}

static void test_lists(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *items[4];
    } rows[] = {
        {"", {NULL}},
        {" , ,", {NULL}},
        {"a", {"a"}},
        {" a , b c,\td,", {"a", "b c", "d"}},
    };
    const struct setting *setting =
        setting_find(SETTING_SCOPE_POOLER, bytes_of_text("admin_users"));
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config config = {0};
        struct buf why = {0};
        setting_init_all(SETTING_SCOPE_POOLER, &config);
        assert_true(setting_set(setting, &config, bytes_of_text(rows[i].text), &why));
        size_t count = 0;
        while (rows[i].items[count] != NULL) {
            assert_true(count < config.admin_users.count);
            assert_string_equal(config.admin_users.items[count], rows[i].items[count]);
            count++;
        }
        assert_int_equal(config.admin_users.count, count);
        setting_release_all(SETTING_SCOPE_POOLER, &config);
    }
}

static void test_a_list_is_bounded(void **state) {
    (void)state;
    struct config config = {0};
    struct buf why = {0};
    struct buf text = {0};
    setting_init_all(SETTING_SCOPE_POOLER, &config);
    const struct setting *setting =
        setting_find(SETTING_SCOPE_POOLER, bytes_of_text("admin_users"));
    for (int i = 0; i < 1000; i++) buf_append_text(&text, "x,");
    assert_true(setting_set(setting, &config, buf_content(&text), &why));
    buf_append_text(&text, "x");
    assert_false(setting_set(setting, &config, buf_content(&text), &why));
    assert_string_equal(buf_text(&why), "expected a list of at most 1000 items");
    assert_int_equal(config.admin_users.count, 1000);
    assert_true(setting_list_has(&config.admin_users, bytes_of_text("x")));
    assert_false(setting_list_has(&config.admin_users, bytes_of_text("X")));
    assert_true(setting_list_has_nocase(&config.admin_users, bytes_of_text("X")));
    assert_false(setting_list_has_nocase(&config.admin_users, bytes_of_text("xx")));
    buf_release(&text);
    buf_release(&why);
    setting_release_all(SETTING_SCOPE_POOLER, &config);
}

static void test_a_text_has_no_nul(void **state) {
    (void)state;
    struct config config = {0};
    struct buf why = {0};
    setting_init_all(SETTING_SCOPE_POOLER, &config);
    const struct setting *setting = setting_find(SETTING_SCOPE_POOLER, bytes_of_text("logfile"));
    assert_false(setting_set(setting, &config, bytes_of("a\0b", 3), &why));
    assert_string_equal(buf_text(&why), "expected a text without NUL bytes");
    buf_release(&why);
    setting_release_all(SETTING_SCOPE_POOLER, &config);
}

static bool ends_whole(const char *help) {
    return help[0] != '\0' && help[strlen(help) - 1] == '.';
}

/* Names occur once, defaults fit and are shown. */
static void test_the_table(void **state) {
    (void)state;
    for (enum setting_scope scope = SETTING_SCOPE_POOLER; scope < SETTING_SCOPE_COUNT; scope++) {
        for (size_t i = 0; i < setting_count(scope); i++) {
            const struct setting *setting = setting_at(scope, i);
            struct bytes name = bytes_of_text(setting->name);
            assert_ptr_equal(setting_find(scope, name), setting);
            assert_true(ends_whole(setting->help));
            assert_true(scope != SETTING_SCOPE_POOLER || setting->default_text != NULL);
            assert_int_equal(setting->choices != NULL, setting->type == SETTING_TYPE_ENUM);
            for (size_t j = 0; j < i; j++) {
                const struct setting *other = setting_at(scope, j);
                bool is_apart = other->offset + other->size <= setting->offset ||
                                setting->offset + setting->size <= other->offset;
                /* A former name leads to the same place. */
                bool is_alias = setting->flags & SETTING_FLAG_COMPAT;
                if (!is_apart && !is_alias)
                    fail_msg("%s and %s share memory", setting->name, other->name);
            }
        }
    }
}

/* PgBouncer's settings in the order of its SHOW CONFIG, which is the alphabet's save in one place,
 * and Weir's own behind them. */
static void test_the_order(void **state) {
    (void)state;
    for (size_t i = 1; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *a = setting_at(SETTING_SCOPE_POOLER, i - 1);
        const struct setting *b = setting_at(SETTING_SCOPE_POOLER, i);
        bool is_own_a = a->flags & SETTING_FLAG_OWN;
        bool is_own_b = b->flags & SETTING_FLAG_OWN;
        if (strcmp(b->name, "pool_idle_timeout") == 0)
            assert_string_equal(a->name, "pool_mode");
        else if (is_own_a == is_own_b)
            assert_true(strcmp(a->name, b->name) < 0);
        else
            assert_true(is_own_b);
    }
}

static void test_what_is_left_out(void **state) {
    (void)state;
    struct config_database database = {0};
    setting_init_all(SETTING_SCOPE_DATABASE, &database);
    assert_int_equal(database.pool_size, SETTING_UNSET);
    assert_true(database.query_wait_timeout_us == SETTING_UNSET_US);
    assert_int_equal(database.pool_mode, POOL_MODE_UNSET);
    assert_null(database.dbname);
    assert_int_equal(database.host.count, 0);
    struct buf text = {0};
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_DATABASE); i++)
        setting_show(setting_at(SETTING_SCOPE_DATABASE, i), &database, &text);
    assert_int_equal(buf_length(&text), 0);
    buf_release(&text);
    setting_release_all(SETTING_SCOPE_DATABASE, &database);
}

static void test_nearest(void **state) {
    (void)state;
    static const struct {
        enum setting_scope scope;
        const char *name;
        const char *nearest;
    } rows[] = {
        {SETTING_SCOPE_POOLER, "listen_prot", "listen_port"},
        {SETTING_SCOPE_POOLER, "Pool_mode", "pool_mode"},
        {SETTING_SCOPE_POOLER, "default_poolsize", "default_pool_size"},
        {SETTING_SCOPE_POOLER, "min_pool_siz", "min_pool_size"},
        {SETTING_SCOPE_POOLER, "colour", NULL},
        {SETTING_SCOPE_POOLER, "", NULL},
        {SETTING_SCOPE_POOLER,
         "a_name_that_is_far_longer_than_any_setting_of_any_version_has_ever_been", NULL},
        {SETTING_SCOPE_DATABASE, "hots", "host"},
        {SETTING_SCOPE_DATABASE, "pool_sise", "pool_size"},
        {SETTING_SCOPE_USER, "query_timout", "query_timeout"},
        {SETTING_SCOPE_NODE, "wieght", "weight"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *nearest = setting_nearest(rows[i].scope, bytes_of_text(rows[i].name));
        if (rows[i].nearest == NULL)
            assert_null(nearest);
        else
            assert_string_equal(nearest, rows[i].nearest);
    }
}

static void test_copies_and_differences(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        if (values[i].shown == NULL) continue;
        struct config a = {0};
        struct config b = {0};
        struct buf why = {0};
        setting_init_all(SETTING_SCOPE_POOLER, &a);
        setting_init_all(SETTING_SCOPE_POOLER, &b);
        const struct setting *setting =
            setting_find(SETTING_SCOPE_POOLER, bytes_of_text(values[i].name));
        assert_true(setting_is_same(setting, &a, &b));
        assert_true(setting_set(setting, &a, bytes_of_text(values[i].text), &why));
        setting_copy_all(SETTING_SCOPE_POOLER, &b, &a);
        for (size_t j = 0; j < setting_count(SETTING_SCOPE_POOLER); j++)
            assert_true(setting_is_same(setting_at(SETTING_SCOPE_POOLER, j), &a, &b));
        setting_release_all(SETTING_SCOPE_POOLER, &a);
        setting_release_all(SETTING_SCOPE_POOLER, &b);
        buf_release(&why);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_times_are_microseconds),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_a_list_is_bounded),
        cmocka_unit_test(test_a_text_has_no_nul),
        cmocka_unit_test(test_the_table),
        cmocka_unit_test(test_the_order),
        cmocka_unit_test(test_what_is_left_out),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_copies_and_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
