/*
 * Passwords that an LDAP directory judges; see auth/ldap.h, and PostgreSQL's manual, "LDAP
 * Authentication", whose two modes these are.
 *
 * The system's LDAP configuration (ldap.conf, LDAPCONF) applies, which is where CAs are named. An
 * empty password never comes here: a directory takes a bind without one for an anonymous login.
 */
#include "auth/ldap.h"

#include "auth/ldap_options.h"
#include "core/check.h"
#include "core/memory.h"

#include <errno.h>
#include <lber.h>
#include <ldap.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/time.h>

#define TIMEOUT_SECONDS 10
#define FILTER_VARIABLE "$username"

struct check {
    const struct blocking_job *job;
    struct ldap_options options;
    LDAP *ldap;
    struct ldap_conncb callbacks; /* as long as the connection */
    int wait_ms;                  /* for the next bytes of the directory */
    char *reason;
};

static bool fail(struct check *check, const char *what, int result) {
    char *more = NULL;
    if (check->ldap != NULL) (void)ldap_get_option(check->ldap, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more);
    (void)snprintf(check->reason, BLOCKING_REASON_BYTES, "%s: %s%s%s", what,
                   ldap_err2string(result), more == NULL ? "" : ": ", more == NULL ? "" : more);
    ldap_memfree(more);
    return false;
}

static void disconnect(struct check *check) {
    if (check->ldap != NULL) (void)ldap_unbind_ext_s(check->ldap, NULL, NULL);
    check->ldap = NULL;
}

/* "scheme://name:port" for each of the names, divided by blanks. */
static void append_uris(const struct ldap_options *options, struct buf *uris) {
    const char *at = options->server;
    while (*at != '\0') {
        size_t len = strcspn(at, " ");
        bool is_v6 = memchr(at, ':', len) != NULL;
        if (len > 0)
            buf_append_format(uris, "%s%s://%s%.*s%s:%u", buf_length(uris) > 0 ? " " : "",
                              options->scheme, is_v6 ? "[" : "", (int)len, at, is_v6 ? "]" : "",
                              options->port);
        at += len;
        at += strspn(at, " ");
    }
}

/* ---- waiting */

/* Puts a bound to an option of the system's configuration that has none; the bound in force. */
static int bound_ms(LDAP *ldap, int option) {
    const struct timeval ours = {.tv_sec = TIMEOUT_SECONDS};
    struct timeval *given = NULL;
    (void)ldap_get_option(ldap, option, &given);
    if (given == NULL) (void)ldap_set_option(ldap, option, &ours);
    const struct timeval *counts = given == NULL ? &ours : given;
    long ms = (long)counts->tv_sec * 1000 + (long)counts->tv_usec / 1000;
    ldap_memfree(given);
    return ms < 0 || ms > INT_MAX ? INT_MAX : (int)ms;
}

/* False once nothing has come, or could be sent, for so long. */
static bool await(Sockbuf_IO_Desc *layer, short events) {
    const struct check *check = layer->sbiod_pvt;
    struct pollfd waiting = {.fd = -1, .events = events};
    if (ber_sockbuf_ctrl(layer->sbiod_sb, LBER_SB_OPT_GET_FD, &waiting.fd) != 1) return false;
    int ready = poll(&waiting, 1, check->wait_ms);
    if (ready == 0) errno = ETIMEDOUT;
    return ready > 0;
}

static int layer_setup(Sockbuf_IO_Desc *layer, void *check) {
    layer->sbiod_pvt = check;
    return 0;
}

static int layer_end(Sockbuf_IO_Desc *layer) {
    (void)layer;
    return 0;
}

static int layer_control(Sockbuf_IO_Desc *layer, int option, void *argument) {
    return LBER_SBIOD_CTRL_NEXT(layer, option, argument);
}

static ber_slen_t layer_read(Sockbuf_IO_Desc *layer, void *at, ber_len_t size) {
    return await(layer, POLLIN) ? LBER_SBIOD_READ_NEXT(layer, at, size) : -1;
}

static ber_slen_t layer_write(Sockbuf_IO_Desc *layer, void *at, ber_len_t len) {
    return await(layer, POLLOUT) ? LBER_SBIOD_WRITE_NEXT(layer, at, len) : -1;
}

/* Debian's libldap makes TLS handshakes without any bound, so this layer between socket and TLS
 * has one. */
static Sockbuf_IO layer_functions = {layer_setup, layer_end,   layer_control,
                                     layer_read,  layer_write, layer_end};

/* The parameters are libldap's. */
static int on_connected(LDAP *ldap, Sockbuf *buffer, LDAPURLDesc *url, struct sockaddr *address,
                        struct ldap_conncb *callbacks) {
    (void)ldap;
    (void)url;
    (void)address;
    return ber_sockbuf_add_io(buffer, &layer_functions, LBER_SBIOD_LEVEL_PROVIDER + 1,
                              callbacks->lc_arg);
}

static void on_disconnected(LDAP *ldap, Sockbuf *buffer, struct ldap_conncb *callbacks) {
    (void)ldap;
    (void)buffer;
    (void)callbacks;
}

/* ---- connections */

static bool connect_to(struct check *check) {
    struct buf uris = {0};
    append_uris(&check->options, &uris);
    int result = ldap_initialize(&check->ldap, buf_text(&uris));
    buf_release(&uris);
    if (result != LDAP_SUCCESS) return fail(check, "could not initialize LDAP", result);
    const int version = LDAP_VERSION3;
    (void)ldap_set_option(check->ldap, LDAP_OPT_PROTOCOL_VERSION, &version);
    (void)bound_ms(check->ldap, LDAP_OPT_TIMEOUT);
    check->wait_ms = bound_ms(check->ldap, LDAP_OPT_NETWORK_TIMEOUT);
    check->callbacks = (struct ldap_conncb){on_connected, on_disconnected, check};
    (void)ldap_set_option(check->ldap, LDAP_OPT_CONNECT_CB, &check->callbacks);
    (void)ldap_set_option(check->ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
    if (!check->options.is_tls) return true;
    result = ldap_start_tls_s(check->ldap, NULL, NULL);
    return result == LDAP_SUCCESS || fail(check, "could not start LDAP TLS session", result);
}

static bool bind_as(struct check *check, const char *what, const char *name, const char *password) {
    struct berval secret = {.bv_val = (char *)(uintptr_t)password, .bv_len = strlen(password)};
    int result = ldap_sasl_bind_s(check->ldap, name, LDAP_SASL_SIMPLE, &secret, NULL, NULL, NULL);
    return result == LDAP_SUCCESS || fail(check, what, result);
}

/* ---- the search */

/* The user's name becomes a part of the filter; what has a meaning there is refused, as in
 * PostgreSQL. */
static bool is_plain_name(const char *user) {
    return strpbrk(user, "*()\\/") == NULL;
}

static void append_filter(const struct check *check, struct buf *filter) {
    const char *user = check->job->user;
    const char *rest = check->options.searchfilter;
    if (rest == NULL) {
        const char *attribute = check->options.searchattribute;
        buf_append_format(filter, "(%s=%s)", attribute == NULL ? "uid" : attribute, user);
        return;
    }
    for (;;) {
        const char *place = strstr(rest, FILTER_VARIABLE);
        if (place == NULL) break;
        buf_append(filter, rest, (size_t)(place - rest));
        buf_append_text(filter, user);
        rest = place + strlen(FILTER_VARIABLE);
    }
    buf_append_text(filter, rest);
}

/* Leaves the name of the one entry that the filter finds in `name`. */
static bool search(struct check *check, const char *filter, struct buf *name) {
    static const int scopes[] = {[LDAP_SCOPE_OF_SUBTREE] = LDAP_SCOPE_SUBTREE,
                                 [LDAP_SCOPE_OF_BASE] = LDAP_SCOPE_BASE,
                                 [LDAP_SCOPE_OF_ONE] = LDAP_SCOPE_ONELEVEL};
    char no_attributes[] = LDAP_NO_ATTRS;
    char *attributes[] = {no_attributes, NULL};
    struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    LDAPMessage *answer = NULL;
    int result = ldap_search_ext_s(check->ldap, check->options.basedn, scopes[check->options.scope],
                                   filter, attributes, 0, NULL, NULL, &timeout, 2, &answer);
    bool is_good = result == LDAP_SUCCESS || result == LDAP_SIZELIMIT_EXCEEDED;
    if (!is_good) (void)fail(check, "could not search LDAP", result);
    int count = is_good ? ldap_count_entries(check->ldap, answer) : 0;
    if (is_good && count != 1) {
        (void)snprintf(check->reason, BLOCKING_REASON_BYTES,
                       count == 0 ? "LDAP user \"%.100s\" does not exist"
                                  : "LDAP user \"%.100s\" is not unique",
                       check->job->user);
        is_good = false;
    }
    char *found = is_good ? ldap_get_dn(check->ldap, ldap_first_entry(check->ldap, answer)) : NULL;
    if (found != NULL) buf_append_text(name, found);
    ldap_memfree(found);
    (void)ldap_msgfree(answer);
    return is_good && buf_length(name) > 0;
}

/* Finds the user's entry as the user of the search, and starts a new connection. */
static bool find_name(struct check *check, struct buf *name) {
    const struct ldap_options *options = &check->options;
    if (!is_plain_name(check->job->user)) {
        (void)snprintf(check->reason, BLOCKING_REASON_BYTES,
                       "invalid character in user name for LDAP authentication");
        return false;
    }
    if (!bind_as(check, "could not perform initial LDAP bind",
                 options->binddn == NULL ? "" : options->binddn,
                 options->bindpasswd == NULL ? "" : options->bindpasswd))
        return false;
    struct buf filter = {0};
    append_filter(check, &filter);
    bool is_found = search(check, buf_text(&filter), name);
    buf_release(&filter);
    disconnect(check);
    return is_found && connect_to(check);
}

static bool run(struct check *check, struct buf *name) {
    const struct ldap_options *options = &check->options;
    if (!connect_to(check)) return false;
    if (options->basedn != NULL) {
        if (!find_name(check, name)) return false;
    } else {
        buf_append_format(name, "%s%s%s", options->prefix == NULL ? "" : options->prefix,
                          check->job->user, options->suffix == NULL ? "" : options->suffix);
    }
    return bind_as(check, "LDAP login failed", buf_text(name), check->job->password);
}

/* The first use of libldap, and the first of its TLS, are not made for several threads at once.
 * What fails here does so again, with its reason, where it is needed. */
static void begin_library(void) {
    int version = 0;
    const int of_a_server = 0;
    (void)ldap_get_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
    (void)ldap_set_option(NULL, LDAP_OPT_X_TLS_NEWCTX, &of_a_server);
}

bool ldap_check(const struct blocking_job *job, char reason[BLOCKING_REASON_BYTES]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct check check = {.job = job, .reason = reason};
    struct buf why = {0};
    struct buf name = {0};
    CHECK(pthread_once(&once, begin_library) == 0);
    /* An empty password binds as nobody, which every directory grants. */
    bool is_good =
        job->password[0] != '\0' && ldap_options_parse(&check.options, job->options, &why);
    if (!is_good) (void)snprintf(reason, BLOCKING_REASON_BYTES, "%s", buf_text(&why));
    if (is_good) is_good = run(&check, &name);
    disconnect(&check);
    ldap_options_release(&check.options);
    buf_release(&name);
    buf_release(&why);
    return is_good;
}
