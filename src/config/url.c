/*
 * Reading connection URLs; see config/url.h.
 *
 *      postgres://user:secret@host:port,host:port/database?name=value&name=value
 *                 `--------- authority ---------'
 *
 * The authority ends at the first '/' or '?'. A secret that holds '@', '/' or '?' and was not
 * encoded moves these borders, so a URL with an '@' anywhere but once in its authority is refused
 * before a part of it is looked at; no message quotes anything from before the '?'.
 */
#include "config/url.h"

#include "core/check.h"
#include "core/memory.h"
#include "snapshot.h"

#define PORT_DEFAULT     5432
#define NAME_BYTES_MAX   127
#define HOST_BYTES_MAX   255
#define DBNAME_BYTES_MAX 63
#define SECRET_BYTES_MAX 4096
#define CONNECT_S_MAX    86400

static const char *const schemes[] = {"postgres://", "postgresql://"};

static size_t scheme_length(const char *text) {
    for (size_t i = 0; i < COUNT(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (strncmp(text, schemes[i], len) == 0) return len;
    }
    return 0;
}

bool url_is_url(const char *text) {
    return scheme_length(text) > 0;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A copy without percent-encoding, or NULL if the encoding is broken or gives a NUL byte. */
static char *decoded(struct bytes text) {
    char *copy = memory_new(text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_value(text.at[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_value(text.at[i + 2]) : -1;
            c = high < 0 || low < 0 ? '\0' : (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0') {
            memory_wipe(copy, len);
            memory_free(copy);
            return NULL;
        }
        copy[len++] = c;
    }
    return copy;
}

/* Cuts `text` at the first byte of `ends`; the rest begins with that byte, or is empty. */
static struct bytes cut(struct bytes text, const char *ends, struct bytes *rest) {
    size_t len = 0;
    while (len < text.len && strchr(ends, text.at[len]) == NULL) len++;
    *rest = bytes_of(text.at + len, text.len - len);
    return bytes_of(text.at, len);
}

/* The text behind its first byte. */
static struct bytes behind(struct bytes text) {
    return text.len == 0 ? text : bytes_of(text.at + 1, text.len - 1);
}

static bool has_control(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) return true;
    }
    return false;
}

/* Decodes one part into `*place`, which is freed first. */
static bool part_read(struct bytes text, const char *what, size_t bytes_max, char **place,
                      struct buf *why) {
    char *part = decoded(text);
    if (part == NULL) {
        buf_append_format(why, "the %s is not percent-encoded correctly", what);
        return false;
    }
    memory_free_secret(*place);
    *place = part;
    if (part[0] == '\0')
        buf_append_format(why, "the %s is missing", what);
    else if (strlen(part) > bytes_max)
        buf_append_format(why, "the %s is longer than %zu bytes", what, bytes_max);
    else if (has_control(part))
        buf_append_format(why, "the %s has a control character", what);
    return buf_length(why) == 0;
}

static bool number_read(struct bytes text, int maximum, int *number) {
    int64_t read;
    bool has_sign = text.len > 0 && (text.at[0] < '0' || text.at[0] > '9');
    if (has_sign || !setting_leading_number(text, &read) || read < 1 || read > maximum)
        return false;
    *number = (int)read;
    return true;
}

static bool host_read(struct bytes text, struct url *url, struct buf *why) {
    if (url->hosts_count == CONFIG_HOSTS_MAX) {
        buf_append_format(why, "there are more than %d hosts", CONFIG_HOSTS_MAX);
        return false;
    }
    struct config_host *host = &url->hosts[url->hosts_count++];
    struct bytes port;
    struct bytes name;
    bool is_bracketed = text.len > 0 && text.at[0] == '[';
    if (is_bracketed) {
        name = cut(behind(text), "]", &port);
        if (port.len == 0 || (port.len > 1 && port.at[1] != ':')) {
            buf_append_text(why, "an address in brackets does not end in ']' or ']:PORT'");
            return false;
        }
        port = behind(port);
    } else {
        name = cut(text, ":", &port);
    }
    host->port = PORT_DEFAULT;
    if (port.len > 0 && !number_read(behind(port), UINT16_MAX, &host->port)) {
        buf_append_format(why, "the port of host %zu is not a number from 1 to 65535",
                          url->hosts_count);
        return false;
    }
    if (!part_read(name, "host", HOST_BYTES_MAX, &host->name, why)) return false;
    bool is_odd = strpbrk(host->name, " ,\t\r\n") != NULL;
    if (is_odd) buf_append_format(why, "host %zu has a blank or a comma", url->hosts_count);
    return !is_odd;
}

static bool authority_read(struct bytes text, struct url *url, struct buf *why) {
    struct bytes rest;
    struct bytes login = cut(text, "@", &rest);
    if (rest.len == 0) {
        buf_append_text(why, "user and password are missing: expected user:password@host");
        return false;
    }
    struct bytes secret;
    struct bytes user = cut(login, ":", &secret);
    if (!part_read(user, "user", NAME_BYTES_MAX, &url->user, why)) return false;
    if (!part_read(behind(secret), "password", SECRET_BYTES_MAX, &url->secret, why)) return false;
    struct bytes hosts = rest;
    do {
        struct bytes host = cut(behind(hosts), ",", &hosts);
        if (!host_read(host, url, why)) return false;
    } while (hosts.len > 0);
    return true;
}

static bool sslmode_read(const char *value, struct url *url, struct buf *why) {
    static const struct {
        const char *name;
        enum sslmode sslmode;
    } modes[] = {{"disable", SSLMODE_DISABLE},     {"allow", SSLMODE_ALLOW},
                 {"prefer", SSLMODE_PREFER},       {"require", SSLMODE_REQUIRE},
                 {"verify-ca", SSLMODE_VERIFY_CA}, {"verify-full", SSLMODE_VERIFY_FULL}};
    for (size_t i = 0; i < COUNT(modes); i++) {
        if (strcmp(value, modes[i].name) != 0) continue;
        url->sslmode = modes[i].sslmode;
        return true;
    }
    buf_append_text(why, "unknown sslmode: expected disable, allow, prefer, require, verify-ca or "
                         "verify-full");
    return false;
}

static bool sslrootcert_read(const char *value, struct url *url, struct buf *why) {
    (void)why;
    memory_free(url->sslrootcert);
    url->sslrootcert = memory_copy_text(value);
    return true;
}

static bool application_name_read(const char *value, struct url *url, struct buf *why) {
    (void)why;
    memory_free(url->application_name);
    url->application_name = memory_copy_text(value);
    return true;
}

static bool connect_timeout_read(const char *value, struct url *url, struct buf *why) {
    if (number_read(bytes_of_text(value), CONNECT_S_MAX, &url->connect_timeout_s)) return true;
    buf_append_format(why, "connect_timeout is not a number of seconds from 1 to %d",
                      CONNECT_S_MAX);
    return false;
}

static const struct {
    const char *name;
    bool (*read)(const char *value, struct url *url, struct buf *why);
} parameters[] = {
    {"sslmode", sslmode_read},
    {"sslrootcert", sslrootcert_read},
    {"application_name", application_name_read},
    {"connect_timeout", connect_timeout_read},
};

static bool parameter_read(struct bytes text, struct url *url, struct buf *why) {
    struct bytes rest;
    struct bytes name = cut(text, "=", &rest);
    size_t i = 0;
    while (i < COUNT(parameters) && !bytes_equal_text(name, parameters[i].name)) i++;
    if (i == COUNT(parameters)) {
        buf_append_text(why, "unknown parameter ");
        errors_quote(why, name, false);
        buf_append_text(why,
                        ": expected sslmode, sslrootcert, application_name or connect_timeout");
        return false;
    }
    char *value = NULL;
    bool is_right = part_read(behind(rest), parameters[i].name, NAME_BYTES_MAX, &value, why) &&
                    parameters[i].read(value, url, why);
    memory_free(value);
    return is_right;
}

static bool database_read(struct bytes path, struct url *url, struct buf *why) {
    struct bytes name = behind(path);
    if (name.len > 0) return part_read(name, "database", DBNAME_BYTES_MAX, &url->database, why);
    url->database = memory_copy_text(url->user);
    return true;
}

bool url_parse(const char *text, struct url *url, struct buf *why) {
    *url = (struct url){.sslmode = SSLMODE_PREFER};
    size_t scheme = scheme_length(text);
    struct bytes rest = bytes_of_text(text + scheme);
    if (scheme == 0 || rest.len > URL_BYTES_MAX) {
        buf_append_text(why, scheme == 0 ? "expected postgres://user:password@host:port/database"
                                         : "it is longer than 16384 bytes");
        return false;
    }
    struct bytes path;
    struct bytes authority = cut(rest, "/?", &path);
    const char *at = memchr(rest.at, '@', rest.len);
    if (at != NULL && (at >= path.at || strchr(at + 1, '@') != NULL)) {
        buf_append_text(why, "an '@', '/' or '?' in the user or password must be written %40, %2F "
                             "or %3F, and an '@' elsewhere %40");
        return false;
    }
    if (!authority_read(authority, url, why)) return false;
    struct bytes query;
    path = cut(path, "?", &query);
    if (!database_read(path, url, why)) return false;
    for (query = behind(query); query.len > 0; query = behind(query)) {
        if (!parameter_read(cut(query, "&", &query), url, why)) return false;
    }
    return true;
}

void url_release(struct url *url) {
    memory_free_secret(url->user);
    memory_free_secret(url->secret);
    memory_free_secret(url->database);
    memory_free_secret(url->application_name);
    memory_free(url->sslrootcert);
    for (size_t i = 0; i < url->hosts_count; i++) memory_free_secret(url->hosts[i].name);
    memory_wipe(url, sizeof *url);
}
