/* The options of LDAP: how they are written, and which go together. */
#include "auth/ldap_options.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *or_nothing(const char *text) {
    return text == NULL ? "" : text;
}

/* What was read, in one line. */
static void describe(const struct ldap_options *options, struct buf *text) {
    buf_append_format(text, "%s://%s:%u tls=%d", or_nothing(options->scheme),
                      or_nothing(options->server), options->port, options->is_tls);
    buf_append_format(text, " [%s|%s]", or_nothing(options->prefix), or_nothing(options->suffix));
    buf_append_format(text, " [%s|%s|%s]", or_nothing(options->basedn), or_nothing(options->binddn),
                      or_nothing(options->bindpasswd));
    buf_append_format(text, " [%s|%s|%d]", or_nothing(options->searchattribute),
                      or_nothing(options->searchfilter), (int)options->scope);
}

static void test_options(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *read;
    } rows[] = {
        {"ldapserver=h ldapprefix=cn=", "ldap://h:389 tls=0 [cn=|] [||] [||0]"},
        {" , ldapserver=h,,ldapprefix=cn= ,\t", "ldap://h:389 tls=0 [cn=|] [||] [||0]"},
        {"ldapserver=h ldapport=7 ldaptls=1 ldapsuffix=\", dc=x\"",
         "ldap://h:7 tls=1 [|, dc=x] [||] [||0]"},
        {"\"ldapserver=a b\" \"ldapprefix\"=\"a \"\"b\"",
         "ldap://a b:389 tls=0 [a \"b|] [||] [||0]"},
        {"ldapserver=h ldapscheme=ldaps ldapprefix=x", "ldaps://h:636 tls=0 [x|] [||] [||0]"},
        {"ldapserver=h,ldaptls=1,\"ldapbasedn=cn=u,dc=x\",ldapbindpasswd=s,ldapsearchattribute=uid",
         "ldap://h:389 tls=1 [|] [cn=u,dc=x||s] [uid||0]"},
        {"ldapserver=h ldapbasedn=dc=x ldapbinddn=a ldapsearchfilter=(u=$username)",
         "ldap://h:389 tls=0 [|] [dc=x|a|] [|(u=$username)|0]"},
        {"ldapurl=\"ldap://h:7/dc=x,dc=y?cn?one?(a=b)\" ldapsearchattribute=\"\"", NULL},
        {"ldapurl=\"ldap://h:7/dc=x,dc=y?cn?one\"", "ldap://h:7 tls=0 [|] [dc=x,dc=y||] [cn||2]"},
        {"ldapurl=ldaps://h/dc=x??base", "ldaps://h:636 tls=0 [|] [dc=x||] [||1]"},
        {"ldapurl=ldap://h ldapprefix=x", "ldap://h:389 tls=0 [x|] [||] [||1]"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct ldap_options options;
        struct buf why = {0};
        struct buf text = {0};
        bool is_good = ldap_options_parse(&options, rows[i].text, &why);
        if (is_good != (rows[i].read != NULL))
            print_error("%s: %s\n", rows[i].text, buf_text(&why));
        assert_int_equal(is_good, rows[i].read != NULL);
        describe(&options, &text);
        if (is_good) assert_string_equal(buf_text(&text), rows[i].read);
        ldap_options_release(&options);
        buf_release(&text);
        buf_release(&why);
    }
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *why;
    } rows[] = {
        {"", "LDAP needs"},
        {"ldapserver=h", "LDAP needs ldapbasedn, ldapprefix or ldapsuffix"},
        {"ldapprefix=x", "LDAP needs ldapserver, or a host in ldapurl"},
        {"ldapserver=h ldapprefix=x ldapbasedn=y", "do not go with options for searches"},
        {"ldapserver=h ldapprefix=x ldapbinddn=y", "do not go with options for searches"},
        {"ldapserver=h ldapbinddn=y", "LDAP needs ldapbasedn"},
        {"ldapserver=h ldapbasedn=b ldapsearchattribute=a ldapsearchfilter=f",
         "do not go together"},
        {"ldapserver", "LDAP options are NAME=VALUE pairs"},
        {"ldapserver=h ldapbasedn=dc=x,dc=y", "LDAP option \"dc\": expected one of ldapprefix, "},
        {"ldapserver=\"h", "a quote in the LDAP options does not end"},
        {"ldapport=0", "LDAP option ldapport is \"0\": expected a number from 1 to 65535"},
        {"ldapport=65536", "expected a number from 1 to 65535"},
        {"ldapport=", "expected a number from 1 to 65535"},
        {"ldapscheme=http", "expected ldap or ldaps"},
        {"ldaptls=yes", "expected 0 or 1"},
        {"ldapurl=http://h/", "expected ldap://HOST:PORT/"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct ldap_options options;
        struct buf why = {0};
        assert_false(ldap_options_parse(&options, rows[i].text, &why));
        if (strstr(buf_text(&why), rows[i].why) == NULL)
            print_error("%s: %s\n", rows[i].text, buf_text(&why));
        assert_non_null(strstr(buf_text(&why), rows[i].why));
        ldap_options_release(&options);
        buf_release(&why);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
