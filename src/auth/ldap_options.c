/*
 * LDAP options; see auth/ldap_options.h. One row for each; an URL is taken apart by libldap and
 * fills several of them.
 */
#include "auth/ldap_options.h"

#include "core/check.h"
#include "core/memory.h"

#include <ldap.h>
#include <stdlib.h>

#define PORT_PLAIN 389u
#define PORT_TLS   636u

/* ---- rows */

static bool set_text(char **place, const char *value) {
    memory_free_secret(*place);
    *place = memory_copy_text(value);
    return true;
}

static bool set_port(struct ldap_options *options, const char *value) {
    char *end;
    unsigned long port = strtoul(value, &end, 10);
    options->port = (unsigned)port;
    return value[0] >= '0' && value[0] <= '9' && *end == '\0' && port >= 1 && port <= 65535;
}

static bool set_scheme(struct ldap_options *options, const char *value) {
    if (strcmp(value, "ldap") != 0 && strcmp(value, "ldaps") != 0) return false;
    return set_text(&options->scheme, value);
}

static bool set_tls(struct ldap_options *options, const char *value) {
    options->is_tls = strcmp(value, "1") == 0;
    return options->is_tls || strcmp(value, "0") == 0;
}

/* What an URL may say of the search; false if it asks for a scope that there is none of. */
static bool take_search(struct ldap_options *options, const LDAPURLDesc *url) {
    if (url->lud_dn != NULL && url->lud_dn[0] != '\0')
        (void)set_text(&options->basedn, url->lud_dn);
    if (url->lud_attrs != NULL && url->lud_attrs[0] != NULL)
        (void)set_text(&options->searchattribute, url->lud_attrs[0]);
    if (url->lud_filter != NULL) (void)set_text(&options->searchfilter, url->lud_filter);
    switch (url->lud_scope) {
    case LDAP_SCOPE_BASE:
        options->scope = LDAP_SCOPE_OF_BASE;
        return true;
    case LDAP_SCOPE_ONELEVEL:
        options->scope = LDAP_SCOPE_OF_ONE;
        return true;
    case LDAP_SCOPE_SUBTREE:
    case LDAP_SCOPE_DEFAULT:
        return true;
    default:
        return false;
    }
}

static bool set_url(struct ldap_options *options, const char *value) {
    LDAPURLDesc *url = NULL;
    if (ldap_url_parse(value, &url) != LDAP_SUCCESS) return false;
    bool is_good = set_scheme(options, url->lud_scheme) && take_search(options, url);
    if (url->lud_host != NULL && url->lud_host[0] != '\0')
        (void)set_text(&options->server, url->lud_host);
    if (url->lud_port > 0) options->port = (unsigned)url->lud_port;
    ldap_free_urldesc(url);
    return is_good;
}

static const struct {
    const char *name;
    size_t text; /* offset of a text member; 0: see `set` */
    bool (*set)(struct ldap_options *options, const char *value);
    const char *allowed;
} rows[] = {
#define TEXT(member) offsetof(struct ldap_options, member), NULL, NULL
    {"ldapprefix", TEXT(prefix)},
    {"ldapsuffix", TEXT(suffix)},
    {"ldapbasedn", TEXT(basedn)},
    {"ldapbinddn", TEXT(binddn)},
    {"ldapbindpasswd", TEXT(bindpasswd)},
    {"ldapsearchattribute", TEXT(searchattribute)},
    {"ldapsearchfilter", TEXT(searchfilter)},
#undef TEXT
    {"ldapserver", 0, NULL, NULL}, /* the first member */
    {"ldapport", 0, set_port, "a number from 1 to 65535"},
    {"ldapscheme", 0, set_scheme, "ldap or ldaps"},
    {"ldaptls", 0, set_tls, "0 or 1"},
    {"ldapurl", 0, set_url, "ldap://HOST:PORT/BASEDN?ATTRIBUTE?SCOPE?FILTER or ldaps://..."},
};

/* ---- reading */

static void append_names(struct buf *why) {
    for (size_t i = 0; i < COUNT(rows); i++)
        buf_append_format(why, "%s%s", i == 0 ? "" : ", ", rows[i].name);
}

static bool set_option(struct ldap_options *options, const char *name, const char *value,
                       struct buf *why) {
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (strcmp(name, rows[i].name) != 0) continue;
        if (rows[i].set == NULL)
            return set_text((char **)(void *)((char *)options + rows[i].text), value);
        if (rows[i].set(options, value)) return true;
        buf_append_format(why, "LDAP option %s is \"%s\": expected %s", name, value,
                          rows[i].allowed);
        return false;
    }
    buf_append_format(why, "LDAP option \"%s\": expected one of ", name);
    append_names(why);
    buf_append_text(why, "; values with blanks or commas stand in quotes");
    return false;
}

static bool is_separator(char c) {
    return c == ' ' || c == ',' || (c >= '\t' && c <= '\r');
}

/* Takes one pair off the front, without its quotes, into `pair`. False if a quote does not end. */
static bool take_pair(const char **text, struct buf *pair) {
    bool is_quoted = false;
    const char *at = *text;
    buf_clear(pair);
    for (; *at != '\0' && (is_quoted || !is_separator(*at)); at++) {
        if (*at != '"') {
            buf_append_u8(pair, (unsigned char)*at);
        } else if (is_quoted && at[1] == '"') {
            buf_append_u8(pair, '"');
            at++;
        } else {
            is_quoted = !is_quoted;
        }
    }
    *text = at;
    return !is_quoted;
}

static bool read_pair(struct ldap_options *options, const char **text, struct buf *why) {
    struct buf pair = {0};
    bool is_good = take_pair(text, &pair);
    if (!is_good) buf_append_text(why, "a quote in the LDAP options does not end");
    if (is_good) {
        char *name = memory_copy_text(buf_text(&pair));
        char *value = strchr(name, '=');
        is_good = value != NULL;
        if (is_good) {
            *value++ = '\0';
            is_good = set_option(options, name, value, why);
        } else {
            buf_append_text(why, "LDAP options are NAME=VALUE pairs");
        }
        memory_free_secret(name);
    }
    memory_wipe(pair.memory, pair.size);
    buf_release(&pair);
    return is_good;
}

static bool judge(struct ldap_options *options, struct buf *why) {
    bool is_search = options->basedn != NULL;
    bool has_search = options->binddn != NULL || options->bindpasswd != NULL ||
                      options->searchattribute != NULL || options->searchfilter != NULL;
    bool has_affix = options->prefix != NULL || options->suffix != NULL;
    const char *wrong = NULL;
    if (options->server == NULL) wrong = "LDAP needs ldapserver, or a host in ldapurl";
    if (!is_search && has_search) wrong = "LDAP searches need ldapbasedn";
    if (!is_search && !has_affix) wrong = "LDAP needs ldapbasedn, ldapprefix or ldapsuffix";
    if (has_affix && (is_search || has_search))
        wrong = "ldapprefix and ldapsuffix do not go with options for searches";
    if (options->searchattribute != NULL && options->searchfilter != NULL)
        wrong = "ldapsearchattribute and ldapsearchfilter do not go together";
    if (wrong != NULL) buf_append_text(why, wrong);
    return wrong == NULL;
}

bool ldap_options_parse(struct ldap_options *options, const char *text, struct buf *why) {
    *options = (struct ldap_options){.scope = LDAP_SCOPE_OF_SUBTREE};
    for (;;) {
        while (is_separator(*text)) text++;
        if (*text == '\0') break;
        if (!read_pair(options, &text, why)) return false;
    }
    if (options->scheme == NULL) (void)set_text(&options->scheme, "ldap");
    bool is_tls = strcmp(options->scheme, "ldaps") == 0;
    if (options->port == 0) options->port = is_tls ? PORT_TLS : PORT_PLAIN;
    return judge(options, why);
}

void ldap_options_release(struct ldap_options *options) {
    char **texts[] = {&options->server,     &options->scheme,          &options->prefix,
                      &options->suffix,     &options->basedn,          &options->binddn,
                      &options->bindpasswd, &options->searchattribute, &options->searchfilter};
    for (size_t i = 0; i < COUNT(texts); i++) memory_free_secret(*texts[i]);
    *options = (struct ldap_options){.port = 0};
}
