/*
 * LDAP options, as auth_ldap_options and HBA lines with the method ldap have them: NAME=VALUE pairs
 * divided by blanks or commas, where quotes may stand around a name, a value or both.
 *
 *      ldapserver ldapport ldapscheme ldaptls         where the directory is
 *      ldapprefix ldapsuffix                          bind as PREFIX user SUFFIX
 *      ldapbasedn ldapbinddn ldapbindpasswd           or search for the user first,
 *      ldapsearchattribute ldapsearchfilter           by attribute (uid) or filter ($username)
 *      ldapurl ldap[s]://HOST:PORT/BASEDN?ATTRIBUTE?SCOPE?FILTER
 */
#ifndef WEIR_AUTH_LDAP_OPTIONS_H
#define WEIR_AUTH_LDAP_OPTIONS_H

#include "core/buf.h"

enum ldap_scope { LDAP_SCOPE_OF_SUBTREE, LDAP_SCOPE_OF_BASE, LDAP_SCOPE_OF_ONE };

/* Texts are owned, and NULL where the option was not given. */
struct ldap_options {
    char *server; /* names divided by blanks */
    char *scheme; /* "ldap" or "ldaps" */
    unsigned port;
    bool is_tls;
    char *prefix;
    char *suffix;
    char *basedn;
    char *binddn;
    char *bindpasswd;
    char *searchattribute;
    char *searchfilter;
    enum ldap_scope scope;
};

/* Reads the options; false with a sentence in `why`, which never holds a secret, where they do not
 * make sense. To be released in both cases. */
bool ldap_options_parse(struct ldap_options *options, const char *text, struct buf *why);
void ldap_options_release(struct ldap_options *options);

#endif
