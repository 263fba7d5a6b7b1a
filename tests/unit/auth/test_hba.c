/* HBA rules and ident maps: what is understood, what is told, and which rule counts. */
#include "auth/hba.h"

#include "core/check.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAPS "m \"CN=Ann\" ann\nm bob all\nother x \"all\"\n"

static bool read_file(const char *path, struct buf *text) {
    if (strcmp(path, "/etc/names") == 0) {
        buf_append_text(text, "one, \"two words\"\n# three\n\nfour\n@more\n");
    } else if (strcmp(path, "/etc/more") == 0) {
        buf_append_text(text, "five");
    } else if (strcmp(path, "/etc/loop") == 0) {
        buf_append_text(text, "@loop,around\n");
    } else if (strncmp(path, "/etc/endless", 12) == 0) {
        buf_append_format(text, "@%sx", path);
    } else if (strcmp(path, "/etc/bad") == 0) {
        buf_append_text(text, "one\n+group\n");
    } else {
        return false;
    }
    return true;
}

static bool judge_ldap(const char *options, struct buf *why) {
    if (strstr(options, "ldapserver=") != NULL) return true;
    buf_append_text(why, "no server");
    return false;
}

static struct hba *rules_of(const char *text, struct rules_report *report) {
    struct rules_report of_maps = {.errors_count = 0};
    struct ident *ident = ident_new(bytes_of_text(MAPS), "/etc/ident", &of_maps);
    assert_int_equal(of_maps.errors_count, 0);
    struct hba_source source = {
        .file = "/etc/hba", .ident = ident, .read = read_file, .judge_ldap = judge_ldap};
    struct hba *hba = hba_new(bytes_of_text(text), &source, report);
    ident_free(&ident);
    rules_report_release(&of_maps);
    return hba;
}

static struct hba_connection connection_of(const char *how, const char *database,
                                           const char *user) {
    struct hba_connection connection = {.database = bytes_of_text(database),
                                        .user = bytes_of_text(user)};
    connection.is_tls = strncmp(how, "tls:", 4) == 0;
    if (connection.is_tls) how += 4;
    connection.is_physical = strncmp(how, "physical:", 9) == 0;
    if (connection.is_physical) how += 9;
    connection.is_unix = strcmp(how, "unix") == 0;
    if (inet_pton(AF_INET, how, connection.address) == 1) connection.address_bytes = 4;
    if (inet_pton(AF_INET6, how, connection.address) == 1) connection.address_bytes = 16;
    return connection;
}

static void test_judging(void **state) {
    (void)state;
    static const struct {
        const char *rules;
        const char *how;
        const char *database;
        const char *user;
        enum hba_method method;
    } rows[] = {
        {"", "unix", "d", "u", HBA_NONE},
        {"# nothing\n   \n\n", "unix", "d", "u", HBA_NONE},
        {"local all all trust", "unix", "d", "u", HBA_TRUST},
        {"local all all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"host all all all trust", "unix", "d", "u", HBA_NONE},
        {"host all all all trust", "127.0.0.1", "d", "u", HBA_TRUST},
        {"host all all all trust", "::1", "d", "u", HBA_TRUST},
        {"host all all 0.0.0.0/0 trust", "::1", "d", "u", HBA_NONE},
        {"host all all ::/0 trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"\t host \t all\tall  all   md5  # why\r\n", "127.0.0.1", "d", "u", HBA_MD5},
        {"hostssl all all all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"hostssl all all all trust", "tls:127.0.0.1", "d", "u", HBA_TRUST},
        {"hostnossl all all all trust", "tls:127.0.0.1", "d", "u", HBA_NONE},
        {"hostnossl all all all trust", "127.0.0.1", "d", "u", HBA_TRUST},
        {"host all all all trust", "tls:127.0.0.1", "d", "u", HBA_TRUST},
        {"host all all 10.0.0.0/8 password", "10.1.2.3", "d", "u", HBA_PASSWORD},
        {"host all all 10.0.0.0/8 password", "11.1.2.3", "d", "u", HBA_NONE},
        {"host all all 10.0.0.0 255.0.0.0 password", "10.1.2.3", "d", "u", HBA_PASSWORD},
        {"host all all 10.9.9.9/8 password", "10.1.2.3", "d", "u", HBA_NONE},
        {"host all all 10.9.9.9/8 password", "10.9.9.9", "d", "u", HBA_NONE},
        {"host all all 10.1.2.3/32 scram-sha-256", "10.1.2.3", "d", "u", HBA_SCRAM},
        {"host all all 10.1.2.3/32 scram-sha-256", "10.1.2.4", "d", "u", HBA_NONE},
        {"host all all 10.1.2.4/31 scram-sha-256", "10.1.2.5", "d", "u", HBA_SCRAM},
        {"host all all fe80::/10 trust", "fe80::1", "d", "u", HBA_TRUST},
        {"host all all fe80::/10 trust", "fec0::1", "d", "u", HBA_NONE},
        {"host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust", "::1", "d", "u",
         HBA_TRUST},
        /* names */
        {"host d u all trust", "127.0.0.1", "d", "u", HBA_TRUST},
        {"host d u all trust", "127.0.0.1", "d", "U", HBA_NONE},
        {"host d u all trust", "127.0.0.1", "dd", "u", HBA_NONE},
        {"host a,d , e u all trust", "127.0.0.1", "e", "u", HBA_TRUST},
        {"host \"d\" \"u\" all trust", "127.0.0.1", "d", "u", HBA_TRUST},
        {"host \"a \"\"b\"\", c\" all all trust", "127.0.0.1", "a \"b\", c", "u", HBA_TRUST},
        {"host \"all\" all all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"host \"all\" all all trust", "127.0.0.1", "all", "u", HBA_TRUST},
        {"host all \"all\" all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"host \"+d\" \"@u\" all trust", "127.0.0.1", "+d", "@u", HBA_TRUST},
        {"host sameuser all all trust", "127.0.0.1", "u", "u", HBA_TRUST},
        {"host sameuser all all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"host all sameuser all trust", "127.0.0.1", "d", "u", HBA_NONE},
        {"host @names all all trust", "127.0.0.1", "two words", "u", HBA_TRUST},
        {"host @names all all trust", "127.0.0.1", "four", "u", HBA_TRUST},
        {"host x,@names,y all all trust", "127.0.0.1", "five", "u", HBA_TRUST},
        {"host @/etc/names all all trust", "127.0.0.1", "three", "u", HBA_NONE},
        {"host all @more all trust", "127.0.0.1", "d", "five", HBA_TRUST},
        {"host @loop all all trust", "127.0.0.1", "around", "u", HBA_TRUST},
        /* physical replication */
        {"host all all all trust", "physical:127.0.0.1", "d", "u", HBA_NONE},
        {"host replication all all trust", "physical:127.0.0.1", "d", "u", HBA_TRUST},
        {"host replication all all trust", "127.0.0.1", "replication", "u", HBA_NONE},
        {"host \"replication\" all all trust", "127.0.0.1", "replication", "u", HBA_TRUST},
        {"host all,replication all all trust", "physical:127.0.0.1", "d", "u", HBA_TRUST},
        /* the first one counts, a broken one does not */
        {"host d all all reject\nhost all all all trust", "127.0.0.1", "d", "u", HBA_REJECT},
        {"host d all all reject\nhost all all all trust", "127.0.0.1", "e", "u", HBA_TRUST},
        {"host d all all rejekt\nhost all all all trust", "127.0.0.1", "d", "u", HBA_TRUST},
        {"local all all peer map=m", "unix", "d", "u", HBA_PEER},
        {"hostssl all all all cert", "tls:127.0.0.1", "d", "u", HBA_CERT},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rules_report report = {.errors_count = 0};
        struct hba *hba = rules_of(rows[i].rules, &report);
        struct hba_connection connection =
            connection_of(rows[i].how, rows[i].database, rows[i].user);
        struct hba_verdict verdict = hba_judge(hba, &connection);
        if (verdict.method != rows[i].method) print_error("row %zu: %s\n", i, rows[i].rules);
        assert_int_equal(verdict.method, rows[i].method);
        hba_free(&hba);
        rules_report_release(&report);
    }
    struct hba_connection connection = connection_of("unix", "d", "u");
    assert_int_equal(hba_judge(NULL, &connection).method, HBA_NONE);
}

static void test_options(void **state) {
    (void)state;
    static const struct {
        const char *rule;
        const char *map;
        const char *ldap;
    } rows[] = {
        {"local all all peer", NULL, NULL},
        {"local all all peer map=m", "m", NULL},
        {"local all all peer map=\"m\"", "m", NULL},
        {"local all all peer map=other map=m # last", "m", NULL},
        {"local all all ldap ldapserver=a, ldapprefix=\"x \"", NULL,
         "ldapserver=a, ldapprefix=\"x \""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rules_report report = {.errors_count = 0};
        struct hba *hba = rules_of(rows[i].rule, &report);
        struct hba_connection connection = connection_of("unix", "d", "u");
        struct hba_verdict verdict = hba_judge(hba, &connection);
        assert_int_equal(report.errors_count, 0);
        assert_int_equal(verdict.line, 1);
        assert_int_equal(verdict.map == NULL, rows[i].map == NULL);
        if (verdict.map != NULL) assert_string_equal(verdict.map, rows[i].map);
        assert_int_equal(verdict.ldap == NULL, rows[i].ldap == NULL);
        if (verdict.ldap != NULL) assert_non_null(strstr(verdict.ldap, rows[i].ldap));
        hba_free(&hba);
        rules_report_release(&report);
    }
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *rule;
        const char *error;
    } rows[] = {
        {"hosts all all all trust", "connection type \"hosts\": expected one of local, host, "
                                    "hostssl, hostnossl"},
        {"\"host\" all all all trust", "connection type"},
        {"host", "a database is missing or broken: expected all, sameuser, replication, names or "
                 "@FILE"},
        {"host all", "a user is missing or broken: expected all, names or @FILE"},
        {"host all,, all all trust", "a database is missing"},
        {"host all all", "the address is missing: expected all, ADDRESS/BITS or ADDRESS MASK"},
        {"host all all trust", "\"trust\" is no address"},
        {"host all all localhost trust", "\"localhost\" is no address (names, samehost"},
        {"host all all samenet trust", "\"samenet\" is no address"},
        {"host all all 10.0.0.0/33 trust", "no mask that fits"},
        {"host all all 10.0.0.0/ trust", "no mask that fits"},
        {"host all all 10.0.0.0/+8 trust", "no mask that fits"},
        {"host all all 10.0.0.0/8x trust", "no mask that fits"},
        {"host all all 10.0.0.0 trust", "no mask that fits"},
        {"host all all 10.0.0.0 ffff:: trust", "no mask that fits"},
        {"host all all 256.0.0.0/8 trust", "is no address"},
        {"host all all ::1/129 trust", "no mask that fits"},
        {"host all all all", "method \"\": expected one of trust, reject, md5, password, "
                             "scram-sha-256, peer, cert, ldap"},
        {"host all all all pam", "method \"pam\": expected one of"},
        {"host all all all \"trust\"", "method \"trust\": expected one of"},
        {"host all all all trust map=m", "\"map=m\" behind the method: expected the end"},
        {"host all all all md5 clientcert=1", "\"clientcert=1\" behind the method"},
        {"local all all peer clientcert=1", "option \"clientcert=1\": expected map=NAME"},
        {"local all all peer map=none", "map \"none\": expected a map that auth_ident_file has"},
        {"local all all peer map=", "map \"\": expected a map"},
        {"host all +admins all trust", "\"+admins\": +group is not supported"},
        {"host +admins all all trust", "\"+admins\": +group is not supported"},
        {"host samerole all all trust", "samerole and samegroup are not supported"},
        {"host samegroup all all trust", "samerole and samegroup are not supported"},
        {"host /^a all all trust", "\"/^a\": regular expressions are not supported"},
        {"host @missing all all trust", "the file \"/etc/missing\" cannot be read"},
        {"host @endless all all trust", "the list leads to more than 100 files"},
        {"host @bad all all trust", "(/etc/bad:2): \"+group\": +group is not supported"},
        {"host \"all all all trust", "a database is missing or broken"},
        {"include other.conf", "connection type \"include\""},
        {"host all all all ldap ldapport=1", "no server"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rules_report report = {.errors_count = 0};
        struct buf text = {0};
        buf_append_format(&text, "# first\n%s\n", rows[i].rule);
        struct hba *hba = rules_of(buf_text(&text), &report);
        assert_int_equal(hba_count(hba), 0);
        assert_int_equal(report.errors_count, 1);
        const char *found = buf_text(&report.errors);
        if (strstr(found, rows[i].error) == NULL) print_error("%s: %s\n", rows[i].rule, found);
        assert_non_null(strstr(found, rows[i].error));
        assert_int_equal(strncmp(found, "could not parse hba config line ", 32), 0);
        hba_free(&hba);
        rules_report_release(&report);
        buf_release(&text);
    }
}

static void test_warnings(void **state) {
    (void)state;
    static const struct {
        const char *rule;
        const char *warning;
    } rows[] = {
        {"host all all 10.0.0.1/8 trust", "address does not match mask"},
        {"host all all all peer", "peer can only let in over local"},
        {"hostnossl all all all cert", "cert can only let in over hostssl"},
        {"host all all 10.0.0.0/8 trust", ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rules_report report = {.errors_count = 0};
        struct hba *hba = rules_of(rows[i].rule, &report);
        assert_int_equal(hba_count(hba), 1);
        assert_int_equal(report.errors_count, 0);
        assert_int_equal(buf_length(&report.warnings) > 0, rows[i].warning[0] != '\0');
        assert_non_null(strstr(buf_text(&report.warnings), rows[i].warning));
        hba_free(&hba);
        rules_report_release(&report);
    }
}

static void test_maps(void **state) {
    (void)state;
    static const struct {
        const char *map;
        const char *system_name;
        const char *user;
        bool is_allowed;
    } rows[] = {
        {NULL, "ann", "ann", true},       {NULL, "ann", "Ann", false},
        {"m", "CN=Ann", "ann", true},     {"m", "CN=Ann", "bob", false},
        {"m", "ann", "ann", false},       {"m", "bob", "anybody", true},
        {"other", "x", "anybody", false}, {"other", "x", "all", true},
        {"none", "ann", "ann", false},
    };
    struct rules_report report = {.errors_count = 0};
    struct ident *ident = ident_new(bytes_of_text(MAPS), "F", &report);
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(ident_allows(ident, rows[i].map, bytes_of_text(rows[i].system_name),
                                      bytes_of_text(rows[i].user)),
                         rows[i].is_allowed);
        if (rows[i].map != NULL)
            assert_false(ident_allows(NULL, rows[i].map, bytes_of_text(rows[i].system_name),
                                      bytes_of_text(rows[i].user)));
    }
    ident_free(&ident);
    rules_report_release(&report);
}

static void test_map_errors(void **state) {
    (void)state;
    static const struct {
        const char *line;
        const char *error; /* empty: none */
    } rows[] = {
        {"m a b", ""},
        {"# m a", ""},
        {"m a b # c", ""},
        {"m", "expected a map, a system name and a database user"},
        {"m a", "expected a map"},
        {"m a b c", "expected a map"},
        {"m a, b", "expected a map"},
        {"m \"a b", "expected a map"},
        {"m /^a b", "regular expressions are not supported"},
        {"m a +b", "+group is not supported"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct rules_report report = {.errors_count = 0};
        struct ident *ident = ident_new(bytes_of_text(rows[i].line), "F", &report);
        const char *found = buf_text(&report.errors);
        assert_int_equal(report.errors_count, rows[i].error[0] == '\0' ? 0 : 1);
        assert_non_null(strstr(found, rows[i].error));
        if (report.errors_count > 0)
            assert_non_null(strstr(found, "could not parse ident config line 1 (F:1): "));
        ident_free(&ident);
        rules_report_release(&report);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judging), cmocka_unit_test(test_options),
        cmocka_unit_test(test_errors),  cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_maps),    cmocka_unit_test(test_map_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
