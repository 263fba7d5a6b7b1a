/* Files: what they may look like, and every error that one can have. */
#include "config/effective.h"
#include "config/load.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define P "[pgbouncer]\n" /* what every file needs */

static struct config *load(const char *text, struct config_errors *errors) {
    return config_load_text("f.ini", bytes_of_text(text), errors);
}

/* A file, and all errors it has, as lines. The name is given as f.ini. */
static const struct {
    const char *text;
    const char *errors;
} broken[] = {
    {"", "no [pgbouncer] section in configuration (f.ini)\n"},
    {"[databases]\na = host=h\n", "no [pgbouncer] section in configuration (f.ini)\n"},
    {"a = b\n" P, "syntax error in configuration (f.ini:1), stopping loading: expected [pgbouncer] "
                  "or another section first\n"},
    {P "[pgbouncers]\nx = y\nz = 1\n",
     "invalid section \"pgbouncers\" in configuration (f.ini:2): expected pgbouncer, databases, "
     "users, peers or nodes\n"},
    {P "[Databases]\n", "invalid section \"Databases\" in configuration (f.ini:2): expected "
                        "pgbouncer, databases, users, peers or nodes\n"},
    {P "[databases", "syntax error in configuration (f.ini:2), stopping loading: expected KEY = "
                     "VALUE, [SECTION] or %include FILE\n"},
    {P "[databases] x\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY "
                          "= VALUE, [SECTION] or %include FILE\n"},
    {P "verbose\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY = "
                    "VALUE, [SECTION] or %include FILE\n"},
    {P "verbose : 1\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY "
                        "= VALUE, [SECTION] or %include FILE\n"},
    {P "verb:ose = 1\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY "
                         "= VALUE, [SECTION] or %include FILE\n"},
    {P "= 1\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY = VALUE, "
                "[SECTION] or %include FILE\n"},
    {P "\"verbose\" = 1\n", "syntax error in configuration (f.ini:2), stopping loading: expected "
                            "KEY = VALUE, [SECTION] or %include FILE\n"},
    {P "'verbose = 1\n", "syntax error in configuration (f.ini:2), stopping loading: a quoted key "
                         "has no closing quote\n"},
    {P "'verbose' 1\n", "syntax error in configuration (f.ini:2), stopping loading: expected '=' "
                        "behind the quoted key\n"},
    {P "%include x\n", "syntax error in configuration (f.ini:2), stopping loading: %include works "
                       "in files only\n"},
    {P "%includex\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY = "
                      "VALUE, [SECTION] or %include FILE\n"},
    {P "listen_prot = 1\n",
     "unknown parameter: \"listen_prot\" in configuration (f.ini:2): did you mean listen_port?\n"},
    {P "colour = red\n", "unknown parameter: \"colour\" in configuration (f.ini:2)\n"},
    {P "col\tour\n", "syntax error in configuration (f.ini:2), stopping loading: expected KEY = "
                     "VALUE, [SECTION] or %include FILE\n"},
    {P "'col\tour' = 1\n", "unknown parameter: \"col?our\" in configuration (f.ini:2)\n"},
    {P "verbose = 1 ; more\n", "invalid value \"1 ; more\" for parameter verbose in configuration "
                               "(f.ini:2): expected a whole number from 0 to 10\n"},
    {P "verbose = \n", "invalid value \"\" for parameter verbose in configuration (f.ini:2): "
                       "expected a whole number from 0 to 10\n"},
    {P "verbose = 1\n  2\n", "syntax error in configuration (f.ini:3), stopping loading: expected "
                             "KEY = VALUE, [SECTION] or %include FILE\n"},
    {P "listen_port = x\n\n# c\npool_mode = y\n",
     "invalid value \"x\" for parameter listen_port in configuration (f.ini:2): expected a whole "
     "number from 0 to 65535\n"
     "invalid value \"y\" for parameter pool_mode in configuration (f.ini:5): expected one of "
     "session, transaction, statement\n"},
    {P "http_listen = 9127\n", "invalid value \"9127\" for parameter http_listen in configuration "
                               "(f.ini:2): expected HOST:PORT, such as 127.0.0.1:9127, or "
                               "nothing\n"},
    {P "unix_socket_dir =\n", "nowhere to listen: expected listen_addr, unix_socket_dir or both\n"},
    {P "[peers]\n1 = port=7000\n", "no host in peer \"1\" (f.ini:3): expected one\n"},
    {P "[peers]\n0 = host=h\n",
     "invalid peer name \"0\" (f.ini:3): expected a number from 1 to 65535\n"},
    {P "[peers]\n65536 = host=h\n",
     "invalid peer name \"65536\" (f.ini:3): expected a number from 1 to 65535\n"},
    {P "[peers]\n1x = host=h\n",
     "invalid peer name \"1x\" (f.ini:3): expected a number from 1 to 65535\n"},
    {P "[peers]\n1 = host=h user=u\n",
     "unrecognized connection parameter: \"user\" in peer \"1\" (f.ini:3)\n"},
    {P "[databases]\npgbouncer = host=h\n",
     "invalid database name \"pgbouncer\" in configuration (f.ini:3): it is reserved for the "
     "console\n"},
    {P "[databases]\n'' = host=h\n", "invalid database name \"\" in configuration (f.ini:3): "
                                     "expected 1 to 63 bytes\n"},
    {P "[databases]\n"
       "n234567890123456789012345678901234567890123456789012345678901234 = host=h\n",
     "invalid database name \"n234567890123456789012345678901234567890123456789012345678901234\" "
     "in configuration (f.ini:3): expected 1 to 63 bytes\n"},
    {P "[databases]\na = hots=h\n", "unrecognized connection parameter: \"hots\" in database \"a\" "
                                    "(f.ini:3): did you mean host?\n"},
    {P "[databases]\na = Host=h x=y\n",
     "unrecognized connection parameter: \"Host\" in database \"a\" (f.ini:3): did you mean "
     "host?\n"
     "unrecognized connection parameter: \"x\" in database \"a\" (f.ini:3)\n"},
    {P "[databases]\na = host\n", "syntax error in database \"a\" (f.ini:3), stopping loading: a "
                                  "word has no '=' behind it; a value with blanks stands in "
                                  "'...'\n"},
    {P "[databases]\na = host=\n", "syntax error in database \"a\" (f.ini:3), stopping loading: a "
                                   "value is empty; leave the key out instead\n"},
    {P "[databases]\na = host=''\n", "syntax error in database \"a\" (f.ini:3), stopping loading: "
                                     "a value is empty; leave the key out instead\n"},
    {P "[databases]\na = host='h\n", "syntax error in database \"a\" (f.ini:3), stopping loading: "
                                     "a value has no closing quote; a quote inside is written "
                                     "''\n"},
    {P "[databases]\na = host='h'x\n", "syntax error in database \"a\" (f.ini:3), stopping "
                                       "loading: text follows a closing quote without a blank; a "
                                       "quote inside is written ''\n"},
    {P "[databases]\na = =h\n", "syntax error in database \"a\" (f.ini:3), stopping loading: a "
                                "word has no '=' behind it; a value with blanks stands in "
                                "'...'\n"},
    {P "[databases]\na = pool_mode=statements\n",
     "invalid value \"statements\" for parameter pool_mode in database \"a\" (f.ini:3): expected "
     "one "
     "of session, transaction, statement\n"},
    {P "[databases]\na = host=h port=0\n",
     "invalid value \"0\" for parameter port in database \"a\" (f.ini:3): expected numbers from 1 "
     "to 65535\n"},
    {P "[databases]\na = host=h,i port=1,65536\n",
     "invalid value \"1,65536\" for parameter port in database \"a\" (f.ini:3): expected numbers "
     "from 1 to 65535\n"},
    {P "[databases]\na = host=h,i port=1,2x\n",
     "invalid value \"1,2x\" for parameter port in database \"a\" (f.ini:3): expected numbers "
     "from 1 to 65535\n"},
    {P "[databases]\na = host=h,i,j port=1,2\n",
     "2 ports for 3 hosts in database \"a\" (f.ini:3): expected one port, or one for each host\n"},
    {P "[databases]\na = port=1,2\n",
     "2 ports for 1 hosts in database \"a\" (f.ini:3): expected one port, or one for each host\n"},
    {P "pool_mode=transaction\nlisten_addr=h\nunix_socket_dir=\n[databases]\na = routing=primary\n",
     "no host in database \"a\" (f.ini:6), which is routed: expected one\n"},
    {P "pool_mode=transaction\n[databases]\na = host=h,h routing=read_write\n",
     "host h port 5432 occurs twice in database \"a\" (f.ini:4)\n"},
    {P "[databases]\na = probe_password=x\n",
     "probe_password without probe_user in database \"a\" (f.ini:3)\n"},
    {P "[databases]\na = alert_active_servers=5x\n",
     "invalid value \"5x\" for parameter alert_active_servers in database \"a\" (f.ini:3): "
     "expected a whole number from 0 to 1000000\n"},
    {P "[users]\nu = pool_sise=1\n", "unrecognized user parameter: \"pool_sise\" in user \"u\" "
                                     "(f.ini:3): did you mean pool_size?\n"},
    {P "[databases]\na = host=pg1\n[nodes]\npg2 = weight=1\n",
     "unknown node \"pg2\" (f.ini:5): expected a host, or HOST:PORT, that a database lists\n"},
    {P "[databases]\na = host=pg1\n[nodes]\n'pg1:5433' = weight=1\n",
     "unknown node \"pg1:5433\" (f.ini:5): expected a host, or HOST:PORT, that a database "
     "lists\n"},
    {P "[databases]\na = host=pg1\n[nodes]\npg1 = weight=1x\n",
     "invalid value \"1x\" for parameter weight in node \"pg1\" (f.ini:5): expected a whole "
     "number from 0 to 1000\n"},
    /* Secrets are never told, not even where they break the line. */
    {P "[databases]\na = password=my secret\n",
     "syntax error in database \"a\" (f.ini:3), stopping loading: a word has no '=' behind it; a "
     "value with blanks stands in '...'\n"},
    {P "[databases]\na = password=my secret=x host=y\n",
     "unrecognized connection parameter: **** in database \"a\" (f.ini:3)\n"},
    {P "[databases]\na : password=secret\n",
     "syntax error in configuration (f.ini:3), stopping loading: expected KEY = VALUE, [SECTION] "
     "or %include FILE\n"},
};

static void test_errors(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        struct config_errors errors = {0};
        struct config *config = load(broken[i].text, &errors);
        if (config != NULL || strcmp(buf_text(&errors.text), broken[i].errors) != 0)
            fail_msg("%s\ngave:\n%s\ninstead of:\n%s", broken[i].text, buf_text(&errors.text),
                     broken[i].errors);
        assert_null(strstr(buf_text(&errors.warnings), "secret"));
        config_errors_release(&errors);
    }
}

/* A file without errors, and one setting of the pooler as it is shown afterwards. */
static const struct {
    const char *text;
    const char *name;
    const char *shown;
} right[] = {
    {P, "listen_port", "6432"},
    {"[pgbouncer]", "auth_type", "md5"},
    {P "verbose=1", "verbose", "1"},
    {"  [pgbouncer]  \n\t verbose \t=\t 1 \t\r\n", "verbose", "1"},
    {"\n\n; c\n  # c\n" P ";verbose = 1\n#verbose = 1\n", "verbose", "0"},
    {P "verbose = 1\nverbose = 2\n", "verbose", "2"},
    {P "verbose = +1\ntcp_keepalive = 00\n", "verbose", "1"},
    {P "tcp_keepalive = 0x0\n", "tcp_keepalive", "0"},
    {P "[databases] ; those\n[pgbouncer]# these\nverbose = 2\n", "verbose", "2"},
    {P "verbose = 1\n[databases]\n[pgbouncer]\nverbose = 2\n", "verbose", "2"},
    {P "'verbose' = 1\n", "verbose", "1"},
    {P "'verbose'=1\n", "verbose", "1"},
    {P "pidfile =\n", "pidfile", ""},
    {P "pidfile = a b ; c # d\n", "pidfile", "a b ; c # d"},
    {P "pidfile = a=b:c = d\n", "pidfile", "a=b:c = d"},
    {P "pidfile = 'a'\n", "pidfile", "'a'"},
    {P "pidfile = \"a\"\n", "pidfile", "\"a\""},
    {P "pidfile = [x]\n", "pidfile", "[x]"},
    {P "server_reset_query = SET a = ':'; SET b = ';'\n", "server_reset_query",
     "SET a = ':'; SET b = ';'"},
    {P "min_pool_size = 0\nreserve_pool_size=0\nauth_user =\n", "verbose", "0"},
    {P "job_name = x\npkt_buf = 1\nsbuf_loopcnt = 0\n", "job_name", "x"},
    {P "[peers]\n", "verbose", "0"},
};

static void test_right_files(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(right); i++) {
        struct config_errors errors = {0};
        struct buf shown = {0};
        struct config *config = load(right[i].text, &errors);
        if (config == NULL) fail_msg("%s\ngave: %s", right[i].text, buf_text(&errors.text));
        setting_show(setting_find(SETTING_SCOPE_POOLER, bytes_of_text(right[i].name)), config,
                     &shown);
        assert_string_equal(buf_text(&shown), right[i].shown);
        config_unref(&config);
        assert_null(config);
        buf_release(&shown);
        config_errors_release(&errors);
    }
}

/* The pairs of one database entry called `a`, and one key of it as it is shown afterwards. */
static const struct {
    const char *pairs;
    const char *key;
    const char *shown;
} entries[] = {
    {"", "host", ""},
    {"host=h", "host", "h"},
    {"host = h", "host", "h"},
    {" host= h\tport =1", "port", "1"},
    {"host=h host=i", "host", "i"},
    {"dbname='two words' host=h", "dbname", "two words"},
    {"dbname='it''s'", "dbname", "it's"},
    {"dbname=''''", "dbname", "'"},
    {"dbname=a'b", "dbname", "a'b"},
    {"dbname=a=b", "dbname", "a=b"},
    {"dbname=a;b", "dbname", "a;b"},
    {"host=h port=5432,5433", "port", ""}, /* an error, see below */
    {"password=secret", "password", "****"},
    {"pool_size=20", "pool_size", "20"},
    {"pool_size=0", "pool_size", "0"},
    {"pool_size=010", "pool_size", "10"},
    {"pool_size=20;", "pool_size", "20"},
    {"pool_size=x", "pool_size", "0"},
    {"pool_size=0x10", "pool_size", "0"},
    {"pool_size='  +5 '", "pool_size", "5"},
    {"pool_size=-5", "pool_size", ""},
    {"pool_size=99999999999999999999999", "pool_size", "1000000"},
    {"max_db_connections=-5", "max_db_connections", "-5"},
    {"query_wait_timeout=1.5", "query_wait_timeout", "1"},
    {"query_wait_timeout=-1", "query_wait_timeout", ""},
    {"query_wait_timeout=x", "query_wait_timeout", "0"},
    {"query_wait_timeout=0", "query_wait_timeout", "0"},
    {"server_lifetime=60s", "server_lifetime", "60"},
    {"load_balance_hosts=disable", "load_balance_hosts", "disable"},
    {"timezone='Europe/Berlin' datestyle=ISO", "timezone", "Europe/Berlin"},
    {"min_pool_size=0 max_db_connections=0", "pool_size", ""},
};

static void test_pairs(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(entries); i++) {
        struct config_errors errors = {0};
        struct buf text = {0};
        struct buf shown = {0};
        buf_append_format(&text, P "[databases]\na =%s\n", entries[i].pairs);
        struct config *config = load(buf_text(&text), &errors);
        if (config != NULL) {
            const struct config_database *database = config_database_at(config, 0);
            setting_show(setting_find(SETTING_SCOPE_DATABASE, bytes_of_text(entries[i].key)),
                         database, &shown);
        }
        if (strcmp(buf_text(&shown), entries[i].shown) != 0)
            fail_msg("%s: got \"%s\", %s", entries[i].pairs, buf_text(&shown),
                     buf_text(&errors.text));
        config_unref(&config);
        buf_release(&text);
        buf_release(&shown);
        config_errors_release(&errors);
    }
}

static void test_names(void **state) {
    (void)state;
    struct config_errors errors = {0};
    struct config *config = load(P "[databases]\n'a b' = host=h1\na.b-c_1* = host=h2\n"
                                   "'it''s' = host=h3\n* = host=h4\n'a=b:c' = host=h5\n"
                                   "a.b-c_1* = host=h6\nweir = host=h7\n",
                                 &errors);
    assert_non_null(config);
    assert_int_equal(config->entries[SETTING_SCOPE_DATABASE].count, 6);
    static const struct {
        const char *name;
        const char *host;
    } rows[] = {{"a b", "h1"},   {"a.b-c_1*", "h6"}, {"it's", "h3"}, {"*", "h4"},
                {"a=b:c", "h5"}, {"unknown", "h4"},  {"weir", "h7"}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct config_database *database =
            config_database(config, bytes_of_text(rows[i].name));
        assert_string_equal(database->hosts[0].name, rows[i].host);
    }
    assert_string_equal(config_database_at(config, 1)->entry.where, "f.ini:8");
    config_unref(&config);
    config_errors_release(&errors);
}

static void test_hosts(void **state) {
    (void)state;
    struct config_errors errors = {0};
    struct config *config = load(P "[databases]\na = host=h1,::1,/run,@x port=1\n"
                                   "b = host='h1, h2' port=5432,5433\nc =\nd = port=7\n",
                                 &errors);
    assert_non_null(config);
    static const struct {
        size_t database;
        struct {
            const char *name;
            int port;
        } hosts[5];
    } rows[] = {
        {0, {{"h1", 1}, {"::1", 1}, {"/run", 1}, {"@x", 1}}},
        {1, {{"h1", 5432}, {"h2", 5433}}},
        {2, {{"/tmp", 5432}}},
        {3, {{"/tmp", 7}}},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct config_database *database = config_database_at(config, rows[i].database);
        size_t count = 0;
        while (rows[i].hosts[count].name != NULL) {
            assert_string_equal(database->hosts[count].name, rows[i].hosts[count].name);
            assert_int_equal(database->hosts[count].port, rows[i].hosts[count].port);
            count++;
        }
        assert_int_equal(database->hosts_count, count);
    }
    config_unref(&config);
    config_errors_release(&errors);
}

static void test_warnings(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *warnings;
    } rows[] = {
        {P "auth_file = x\n", ""},
        {P "auth_type = trust\n", ""},
        {P, "auth_file is not set, so that nobody can log in with a password\n"},
        {P "auth_file = x\n[databases]\na = pool_size=20;\n",
         "value \"20;\" for parameter pool_size in database \"a\" (f.ini:4): only \"20\" is "
         "used\n"},
        {P "auth_file = x\n[databases]\na = pool_size=-2x\n",
         "value \"-2x\" for parameter pool_size in database \"a\" (f.ini:4): only \"-2\" is "
         "used, it counts as left out\n"},
        {P "auth_file = x\n[databases]\na = port=-1\n",
         "value \"-1\" for parameter port in database \"a\" (f.ini:4): it counts as 65535\n"},
        {P "auth_file = x\nlisten_addr = h\nunix_socket_dir =\n[databases]\na =\n",
         "no host in database \"a\" (f.ini:6): it cannot be reached, since unix_socket_dir is "
         "empty\n"},
        {P "auth_file = x\n[databases]\na = auth_dbname=pgbouncer\n",
         "cannot use the reserved \"pgbouncer\" database as an auth_dbname in database \"a\" "
         "(f.ini:4)\n"},
        {P "auth_file = x\ntcp_keepalive = 2\n",
         "value \"2\" for parameter tcp_keepalive in configuration (f.ini:3): it counts as 1\n"},
        {P "auth_file = x\nprobe_user = p\n[databases]\na = routing=read_write\n",
         "database \"a\" (f.ini:5): with pool_mode = session, routing = read_write counts as "
         "primary\n"},
        {P "auth_file = x\n[databases]\na = user=u routing=read_write pool_mode=transaction\n", ""},
        {P "auth_file = x\n[databases]\na = routing=primary\n",
         "database \"a\" (f.ini:4) is routed, but nobody is named to probe its nodes: set "
         "probe_user, or user in its entry\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config_errors errors = {0};
        struct config *config = load(rows[i].text, &errors);
        assert_non_null(config);
        assert_string_equal(buf_text(&errors.warnings), rows[i].warnings);
        config_unref(&config);
        config_errors_release(&errors);
    }
}

static void test_bounds(void **state) {
    (void)state;
    struct config_errors errors = {0};
    struct buf text = {0};
    buf_append_text(&text, P "pidfile =");
    for (int i = 0; i < CONFIG_LINE_BYTES - 10; i++) buf_append_u8(&text, 'x');
    buf_append_u8(&text, '\n'); /* "pidfile =" and 65526 bytes: one below the limit */
    struct config *config = load(buf_text(&text), &errors);
    assert_non_null(config);
    assert_int_equal(strlen(config->pidfile), CONFIG_LINE_BYTES - 10);
    config_unref(&config);
    buf_truncate(&text, buf_length(&text) - 1);
    buf_append_text(&text, "xx\nverbose = x\n");
    assert_null(load(buf_text(&text), &errors));
    assert_non_null(strstr(buf_text(&errors.text), "(f.ini:2), stopping loading: the line is "
                                                   "longer than 65536 bytes\n"));
    assert_int_equal(errors.count, 2);
    config_errors_release(&errors);
    buf_clear(&text);
    buf_append_text(&text, P "[databases]\n");
    for (int i = 0; i <= CONFIG_ENTRIES_MAX; i++) buf_append_format(&text, "d%d = host=h\n", i);
    assert_null(load(buf_text(&text), &errors));
    assert_string_equal(buf_text(&errors.text),
                        "too many entries in configuration (f.ini:10003): at most 10000 in a "
                        "section\n");
    config_errors_release(&errors);
    buf_clear(&text);
    for (int i = 0; i < CONFIG_ERRORS_MAX + 50; i++) buf_append_text(&text, "x\n");
    assert_null(load(buf_text(&text), &errors));
    assert_int_equal(errors.count, CONFIG_ERRORS_MAX + 51);
    assert_non_null(strstr(buf_text(&errors.text), "f.ini:100)"));
    assert_null(strstr(buf_text(&errors.text), "f.ini:101)"));
    config_errors_release(&errors);
    buf_release(&text);
}

static void test_bytes(void **state) {
    (void)state;
    struct config_errors errors = {0};
    static const char nul[] = P "pidfile = a\0b\n";
    assert_null(config_load_text("f.ini", bytes_of(nul, sizeof nul - 1), &errors));
    assert_non_null(strstr(buf_text(&errors.text), "(f.ini:2), stopping loading: the line holds a "
                                                   "NUL byte\n"));
    config_errors_release(&errors);
    static const char bom[] = "\xef\xbb\xbf" P;
    assert_null(load(bom, &errors));
    assert_non_null(strstr(buf_text(&errors.text), "syntax error in configuration (f.ini:1)"));
    config_errors_release(&errors);
    struct config *config = load(P "pidfile = \xc3\xa4\xff\n", &errors);
    assert_non_null(config);
    assert_string_equal(config->pidfile, "\xc3\xa4\xff");
    config_unref(&config);
    config_errors_release(&errors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors), cmocka_unit_test(test_right_files),
        cmocka_unit_test(test_pairs),  cmocka_unit_test(test_names),
        cmocka_unit_test(test_hosts),  cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
