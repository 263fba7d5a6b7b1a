/* Connection URLs, and the configuration that one stands for. */
#include "config/url.h"

#include "config/effective.h"
#include "config/load.h"
#include "core/check.h"
#include "core/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* What a URL says: user|secret|database|host:port,...|sslmode|application_name|connect_timeout */
static const struct {
    const char *url;
    const char *parts;
} right[] = {
    {"postgres://u:s@h", "u|s|u|h:5432,|2||0"},
    {"postgresql://u:s@h", "u|s|u|h:5432,|2||0"},
    {"postgres://u:s@h/", "u|s|u|h:5432,|2||0"},
    {"postgres://u:s@h/app", "u|s|app|h:5432,|2||0"},
    {"postgres://u:s@h:1/app", "u|s|app|h:1,|2||0"},
    {"postgres://u:s@h:65535/app", "u|s|app|h:65535,|2||0"},
    {"postgres://u:s@h1:5432,h2:5433/app", "u|s|app|h1:5432,h2:5433,|2||0"},
    {"postgres://u:s@h1,h2,h3:1/app", "u|s|app|h1:5432,h2:5432,h3:1,|2||0"},
    {"postgres://u:s@127.0.0.1/app", "u|s|app|127.0.0.1:5432,|2||0"},
    {"postgres://u:s@[::1]/app", "u|s|app|::1:5432,|2||0"},
    {"postgres://u:s@[fe80::1]:7,h/app", "u|s|app|fe80::1:7,h:5432,|2||0"},
    {"postgres://u:s@%2Frun%2Fpg:7/app", "u|s|app|/run/pg:7,|2||0"},
    {"postgres://u:s%40%3a%2F%3F@h/app", "u|s@:/?|app|h:5432,|2||0"},
    {"postgres://u:a:b@h/app", "u|a:b|app|h:5432,|2||0"},
    {"postgres://a%20b:%C3%A4@h/c%25d", "a b|\xc3\xa4|c%d|h:5432,|2||0"},
    {"postgres://u:s@h/app?", "u|s|app|h:5432,|2||0"},
    {"postgres://u:s@h?sslmode=disable", "u|s|u|h:5432,|0||0"},
    {"postgres://u:s@h/app?sslmode=allow", "u|s|app|h:5432,|1||0"},
    {"postgres://u:s@h/app?sslmode=prefer", "u|s|app|h:5432,|2||0"},
    {"postgres://u:s@h/app?sslmode=require", "u|s|app|h:5432,|3||0"},
    {"postgres://u:s@h/app?sslmode=verify-ca", "u|s|app|h:5432,|4||0"},
    {"postgres://u:s@h/app?sslmode=verify-full", "u|s|app|h:5432,|5||0"},
    {"postgres://u:s@h/app?application_name=my%20app&connect_timeout=10&sslmode=disable",
     "u|s|app|h:5432,|0|my app|10"},
    {"postgres://u:s@h/app?sslmode=allow&sslmode=disable", "u|s|app|h:5432,|0||0"},
};

static void test_right_urls(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(right); i++) {
        struct url url;
        struct buf why = {0};
        struct buf parts = {0};
        if (!url_parse(right[i].url, &url, &why)) fail_msg("%s: %s", right[i].url, buf_text(&why));
        buf_append_format(&parts, "%s|%s|%s|", url.user, url.secret, url.database);
        for (size_t j = 0; j < url.hosts_count; j++)
            buf_append_format(&parts, "%s:%d,", url.hosts[j].name, url.hosts[j].port);
        buf_append_format(&parts, "|%d|%s|%d", (int)url.sslmode,
                          url.application_name == NULL ? "" : url.application_name,
                          url.connect_timeout_s);
        assert_string_equal(buf_text(&parts), right[i].parts);
        assert_int_equal(buf_length(&why), 0);
        url_release(&url);
        assert_null(url.secret);
        buf_release(&parts);
        buf_release(&why);
    }
}

#define BORDERS                                                                                    \
    "an '@', '/' or '?' in the user or password must be written %40, %2F or %3F, and an '@' "      \
    "elsewhere %40"
#define LOGIN "user and password are missing: expected user:password@host"

/* In all of these "hush" is a part of the secret, which no message may tell. */
static const struct {
    const char *url;
    const char *why;
} broken[] = {
    {"", "expected postgres://user:password@host:port/database"},
    {"postgres:/u:hush@h", "expected postgres://user:password@host:port/database"},
    {"mysql://u:hush@h", "expected postgres://user:password@host:port/database"},
    {"Postgres://u:hush@h", "expected postgres://user:password@host:port/database"},
    {"postgres://", LOGIN},
    {"postgres:///app", LOGIN},
    {"postgres://h/app", LOGIN},
    {"postgres://u@h/app", "the password is missing"},
    {"postgres://u:@h/app", "the password is missing"},
    {"postgres://:hush@h/app", "the user is missing"},
    {"postgres://@h/app", "the user is missing"},
    {"postgres://u:hush@/app", "the host is missing"},
    {"postgres://u:hush@h,/app", "the host is missing"},
    {"postgres://u:hush@:5432/app", "the host is missing"},
    {"postgres://u:hush@[]/app", "the host is missing"},
    {"postgres://u:hush@h:/app", "the port of host 1 is not a number from 1 to 65535"},
    {"postgres://u:hush@h:0/app", "the port of host 1 is not a number from 1 to 65535"},
    {"postgres://u:hush@h,i:65536/app", "the port of host 2 is not a number from 1 to 65535"},
    {"postgres://u:hush@h:12345678901/app", "the port of host 1 is not a number from 1 to 65535"},
    {"postgres://u:hush@h:x/app", "the port of host 1 is not a number from 1 to 65535"},
    {"postgres://u:hush@::1/app", "the port of host 1 is not a number from 1 to 65535"},
    {"postgres://u:hush@[::1/app", "an address in brackets does not end in ']' or ']:PORT'"},
    {"postgres://u:hush@[::1]5432/app", "an address in brackets does not end in ']' or ']:PORT'"},
    {"postgres://u:hush@h%20i/app", "host 1 has a blank or a comma"},
    {"postgres://u:hush@h%2Ci/app", "host 1 has a blank or a comma"},
    {"postgres://u:a%hush@h/app", "the password is not percent-encoded correctly"},
    {"postgres://u:hush%4@h/app", "the password is not percent-encoded correctly"},
    {"postgres://u:hush%@h/app", "the password is not percent-encoded correctly"},
    {"postgres://u:hush%00@h/app", "the password is not percent-encoded correctly"},
    {"postgres://u%0a:hush@h/app", "the user has a control character"},
    {"postgres://u:hush@h/a%7Fb", "the database has a control character"},
    {"postgres://u:hu@sh@h/app", BORDERS},
    {"postgres://u:hu/sh@h/app", BORDERS},
    {"postgres://u:hu?sh@h/app", BORDERS},
    {"postgres://u:12/hush@h/app", BORDERS},
    {"postgres://u:hush@h/app?application_name=a@b", BORDERS},
    {"postgres://u:hush@h/app?sslmode=on",
     "unknown sslmode: expected disable, allow, prefer, require, verify-ca or verify-full"},
    {"postgres://u:hush@h/app?sslmode=", "the sslmode is missing"},
    {"postgres://u:hush@h/app?sslmode", "the sslmode is missing"},
    {"postgres://u:hush@h/app?target_session_attrs=any",
     "unknown parameter \"target_session_attrs\": expected sslmode, sslrootcert, "
     "application_name or connect_timeout"},
    {"postgres://u:hush@h/app?&",
     "unknown parameter \"\": expected sslmode, sslrootcert, application_name or "
     "connect_timeout"},
    {"postgres://u:hush@h/app?connect_timeout=0",
     "connect_timeout is not a number of seconds from 1 to 86400"},
    {"postgres://u:hush@h/app?connect_timeout=1.5",
     "connect_timeout is not a number of seconds from 1 to 86400"},
    {"postgres://u:hush@h/n234567890123456789012345678901234567890123456789012345678901234",
     "the database is longer than 63 bytes"},
    {"postgres://u:hush@a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,1,2,3,4,5,6,7/app",
     "there are more than 32 hosts"},
};

static void test_broken_urls(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        struct url url;
        struct buf why = {0};
        assert_false(url_parse(broken[i].url, &url, &why));
        if (strcmp(buf_text(&why), broken[i].why) != 0)
            fail_msg("%s: %s", broken[i].url, buf_text(&why));
        assert_null(strstr(buf_text(&why), "hush"));
        url_release(&url);
        buf_release(&why);
    }
}

static void test_a_long_url(void **state) {
    (void)state;
    struct buf text = {0};
    struct buf why = {0};
    struct url url;
    buf_append_text(&text, "postgres://u:s@h/");
    while (buf_length(&text) < URL_BYTES_MAX + 20) buf_append_u8(&text, 'x');
    assert_false(url_parse(buf_text(&text), &url, &why));
    assert_string_equal(buf_text(&why), "it is longer than 16384 bytes");
    url_release(&url);
    buf_release(&text);
    buf_release(&why);
}

static void test_is_url(void **state) {
    (void)state;
    assert_true(url_is_url("postgres://"));
    assert_true(url_is_url("postgresql://x"));
    assert_false(url_is_url("weir.ini"));
    assert_false(url_is_url("postgres:/"));
    assert_false(url_is_url(""));
}

static void test_configuration(void **state) {
    (void)state;
    struct config_errors errors = {0};
    struct config *config =
        config_from_url("postgres://u:s%40@h1,[::1]:5433/app?sslmode=verify-ca&connect_timeout=3"
                        "&sslrootcert=%2Fca.pem",
                        &errors);
    assert_non_null(config);
    assert_int_equal(errors.count + errors.warnings_count, 0);
    assert_int_equal(config->listen_addr.count, 1);
    assert_string_equal(config->listen_addr.items[0], "127.0.0.1");
    assert_int_equal(config->listen_port, 6432);
    assert_string_equal(config->unix_socket_dir, "/tmp");
    assert_int_equal(config->auth_type, AUTH_TYPE_SCRAM_SHA_256);
    assert_int_equal(config->server_tls_sslmode, SSLMODE_VERIFY_CA);
    assert_string_equal(config->server_tls_ca_file, "/ca.pem");
    assert_int_equal(config->server_connect_timeout_us, 3 * (uint64_t)US_PER_S);
    const struct config_database *database = config_database(config, bytes_of_text("app"));
    assert_int_equal(config_routing(config, database, NULL), ROUTING_READ_WRITE);
    assert_int_equal(config_pool_mode(config, database, NULL), POOL_MODE_TRANSACTION);
    assert_string_equal(database->user, "u");
    assert_string_equal(database->password, "s@");
    assert_string_equal(database->dbname, "app");
    assert_int_equal(database->hosts_count, 2);
    assert_string_equal(database->hosts[1].name, "::1");
    assert_int_equal(database->hosts[1].port, 5433);
    assert_string_equal(config_user(config, bytes_of_text("u"))->secret, "s@");
    assert_null(config_user(config, bytes_of_text("v")));
    assert_null(config_database(config, bytes_of_text("other")));
    struct config *same = config_reload(config, &errors);
    assert_ptr_equal(same, config);
    struct config *copy = config_with(config, "verbose", "1", &errors);
    assert_string_equal(config_user(copy, bytes_of_text("u"))->secret, "s@");
    assert_string_equal(config_database(copy, bytes_of_text("app"))->hosts[1].name, "::1");
    config_unref(&same);
    config_unref(&config);
    config_unref(&copy);
    config_errors_release(&errors);
}

static void test_configuration_errors(void **state) {
    (void)state;
    static const struct {
        const char *url;
        const char *errors;
    } rows[] = {
        {"postgres://u:hush@h:x/app",
         "connection URL: the port of host 1 is not a number from 1 to 65535\n"},
        {"postgres://u:hush@h/pgbouncer", "connection URL: the database's name has a meaning of "
                                          "its own: expected another one\n"},
        {"postgres://u:hush@h/*", "connection URL: the database's name has a meaning of its own: "
                                  "expected another one\n"},
        {"postgres://u:hush@h,h:5432/app",
         "host h port 5432 occurs twice in database \"app\" (connection URL)\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config_errors errors = {0};
        assert_null(config_from_url(rows[i].url, &errors));
        assert_string_equal(buf_text(&errors.text), rows[i].errors);
        config_errors_release(&errors);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right_urls),    cmocka_unit_test(test_broken_urls),
        cmocka_unit_test(test_a_long_url),    cmocka_unit_test(test_is_url),
        cmocka_unit_test(test_configuration), cmocka_unit_test(test_configuration_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
