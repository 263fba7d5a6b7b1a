/*
 * Making TLS contexts; see net/tls.h.
 *
 * One row for each setting says how it is taken over, and the first that fails ends the making.
 * What no setting changes stands in set_constants: no renegotiation and no compression; buffers
 * go back when they are empty, so that an idle connection holds none; a peer that closes without
 * a closing alert has closed all the same, since PostgreSQL's protocol knows its own end.
 *
 * No names of CAs are sent to clients: a file of all the system's CAs would make every handshake
 * 20 kB longer, and a client that has a certificate for us knows which.
 *
 * Tickets, with which a client shortens its next handshake, are given only where no certificate is
 * asked of it: otherwise one that has expired meanwhile would pass.
 */
#include "tls_context.h"

#include "core/check.h"
#include "core/list.h"
#include "core/memory.h"

#include <errno.h>
#include <openssl/err.h>

const unsigned char tls_protocol_name[TLS_PROTOCOL_NAME_BYTES + 1] = "\012postgresql";

struct making {
    SSL_CTX *ssl;
    const struct tls_settings *settings;
    struct buf *error;
};

void tls_append_reason(struct buf *text, int error) {
    unsigned long code = ERR_get_error();
    const char *reason = NULL;
    if (code != 0) {
        reason =
            ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    } else if (error != 0) {
        reason = strerror(error);
    }
    buf_append_text(text, reason == NULL ? "unknown error" : reason);
    ERR_clear_error();
}

static const char *prefix_of(const struct making *making) {
    return making->settings->side == TLS_CLIENTS ? "client" : "server";
}

static bool is_set(const char *text) {
    return text != NULL && text[0] != '\0';
}

/* 'failed to WHAT "VALUE": REASON (client_tls_NAME)'; without a reason of OpenSSL's `why`. */
static bool refuse(struct making *making, const char *what, const char *value, const char *name) {
    buf_append_format(making->error, "failed to %s \"%s\": ", what, value);
    tls_append_reason(making->error, 0);
    buf_append_format(making->error, " (%s_%s)", prefix_of(making), name);
    return false;
}

static bool refuse_value(struct making *making, const char *what, const char *value,
                         const char *name) {
    ERR_clear_error();
    buf_append_format(making->error, "%s: \"%s\" (%s_%s)", what, value, prefix_of(making), name);
    return false;
}

/* ---- files */

static bool take_ca(struct making *making) {
    const struct tls_settings *settings = making->settings;
    if (settings->verify == TLS_VERIFY_NONE) return true;
    const char *file = settings->ca_file;
    if (!is_set(file) && settings->side == TLS_CLIENTS) {
        buf_append_text(making->error, "client_tls_sslmode requires client_tls_ca_file");
        return false;
    }
    if (!is_set(file)) file = TLS_SYSTEM_CA_FILE;
    if (SSL_CTX_load_verify_file(making->ssl, file) == 1) return true;
    return refuse(making, "load CA file", file, "tls_ca_file");
}

static bool take_certificate(struct making *making) {
    const struct tls_settings *settings = making->settings;
    bool has_both = is_set(settings->cert_file) && is_set(settings->key_file);
    bool has_none = !is_set(settings->cert_file) && !is_set(settings->key_file);
    if (settings->side == TLS_CLIENTS && !has_both) {
        buf_append_text(making->error, "TLS for clients requires both client_tls_key_file and "
                                       "client_tls_cert_file");
        return false;
    }
    if (has_none) return true;
    if (!has_both) {
        buf_append_text(making->error,
                        "server_tls_key_file and server_tls_cert_file require each other");
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(making->ssl, settings->cert_file) != 1)
        return refuse(making, "load certificate file", settings->cert_file, "tls_cert_file");
    if (SSL_CTX_use_PrivateKey_file(making->ssl, settings->key_file, SSL_FILETYPE_PEM) != 1)
        return refuse(making, "load private key file", settings->key_file, "tls_key_file");
    return true;
}

/* ---- protocols and ciphers */

static const struct {
    const char *name;
    unsigned versions; /* a set of the next table's rows */
} protocol_names[] = {
    {"tlsv1.0", 1u << 0}, {"tlsv1.1", 1u << 1}, {"tlsv1.2", 1u << 2},
    {"tlsv1.3", 1u << 3}, {"tlsv1", 15u},       {"all", 15u},
    {"legacy", 15u},      {"secure", 12u},      {"default", 12u},
};

static const struct {
    uint64_t without;
    const char *name;
} versions_known[] = {{SSL_OP_NO_TLSv1, "TLSv1"},
                      {SSL_OP_NO_TLSv1_1, "TLSv1.1"},
                      {SSL_OP_NO_TLSv1_2, "TLSv1.2"},
                      {SSL_OP_NO_TLSv1_3, "TLSv1.3"}};

/* One word of the list, with '!' in front of what is not wanted. */
static bool add_protocol(struct bytes word, unsigned *versions) {
    bool is_negated = word.len > 0 && word.at[0] == '!';
    if (is_negated) word = bytes_of(word.at + 1, word.len - 1);
    for (size_t i = 0; i < COUNT(protocol_names); i++) {
        if (!bytes_equal_nocase(word, protocol_names[i].name)) continue;
        if (is_negated && *versions == 0) *versions = 15u;
        *versions = is_negated ? *versions & ~protocol_names[i].versions
                               : *versions | protocol_names[i].versions;
        return true;
    }
    return false;
}

static bool take_protocols(struct making *making) {
    const char *text = making->settings->protocols;
    unsigned versions = 0;
    bool is_right = true;
    for (const char *at = text; is_right && *at != '\0';) {
        at += strspn(at, ",: \t");
        size_t len = strcspn(at, ",: \t");
        if (len > 0) is_right = add_protocol(bytes_of(at, len), &versions);
        at += len;
    }
    if (!is_right || versions == 0)
        return refuse_value(making, "failed to set the protocols", text, "tls_protocols");
    for (unsigned i = 0; i < COUNT(versions_known); i++) {
        if ((versions & 1u << i) == 0)
            (void)SSL_CTX_set_options(making->ssl, versions_known[i].without);
    }
    /* The system's configuration may set a bound; the setting counts. */
    return SSL_CTX_set_min_proto_version(making->ssl, TLS1_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(making->ssl, TLS1_3_VERSION) == 1;
}

static const struct {
    const char *name;
    const char *list;
} cipher_names[] = {
    {"default", "HIGH:!aNULL"},
    {"secure", "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL"},
    {"fast", "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:AESGCM:HIGH:!aNULL"},
    {"normal", "DEFAULT:!aNULL"},
    {"all", "ALL:!aNULL:!eNULL"},
};

static bool has_no_curves(const struct making *making) {
    return making->settings->side == TLS_CLIENTS &&
           strcmp(making->settings->ecdhcurve, "none") == 0;
}

static bool take_ciphers(struct making *making) {
    const char *text = making->settings->ciphers;
    const char *list = text;
    for (size_t i = 0; i < COUNT(cipher_names); i++) {
        if (bytes_equal_nocase(bytes_of_text(text), cipher_names[i].name))
            list = cipher_names[i].list;
    }
    struct buf whole = {0};
    buf_append_text(&whole, list);
    if (has_no_curves(making)) buf_append_text(&whole, ":!kECDHE");
    bool is_right = SSL_CTX_set_cipher_list(making->ssl, buf_text(&whole)) == 1;
    buf_release(&whole);
    if (is_right) return true;
    return refuse_value(making, "failed to set the cipher list", text, "tls_ciphers");
}

static bool take_ciphers13(struct making *making) {
    const char *text = making->settings->ciphers13;
    if (!is_set(text) || SSL_CTX_set_ciphersuites(making->ssl, text) == 1) return true;
    return refuse_value(making, "failed to set the TLSv1.3 cipher suites", text, "tls13_ciphers");
}

static bool take_dheparams(struct making *making) {
    if (making->settings->side != TLS_CLIENTS) return true;
    const char *text = making->settings->dheparams;
    bool is_auto = strcmp(text, "auto") == 0;
    if (!is_auto && strcmp(text, "none") != 0)
        return refuse_value(making, "expected auto or none", text, "tls_dheparams");
    (void)SSL_CTX_set_dh_auto(making->ssl, is_auto ? 1 : 0);
    return true;
}

static bool take_ecdhcurve(struct making *making) {
    if (making->settings->side != TLS_CLIENTS) return true;
    const char *text = making->settings->ecdhcurve;
    if (strcmp(text, "auto") == 0) return true;
    /* Without any curve TLS 1.3 still needs a group. */
    const char *groups = has_no_curves(making) ? "ffdhe2048:ffdhe3072:ffdhe4096" : text;
    if (SSL_CTX_set1_groups_list(making->ssl, groups) == 1) return true;
    return refuse_value(making, "failed to set the curve", text, "tls_ecdhcurve");
}

/* ---- what no setting changes */

/* OpenSSL's, which are more than ours may be. */
#define ALPN_PARAMETERS                                                                            \
    SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,          \
        unsigned in_len, void *argument

/* A client that names protocols must name ours. */
static int on_alpn(ALPN_PARAMETERS) {
    (void)ssl;
    (void)argument;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, tls_protocol_name, TLS_PROTOCOL_NAME_BYTES, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* A key that needs a password is not ours to ask for. */
static int no_password(char *to, int size, int is_writing, void *argument) {
    (void)to;
    (void)size;
    (void)is_writing;
    (void)argument;
    return -1;
}

static bool set_constants(struct making *making) {
    SSL_CTX *ssl = making->ssl;
    const struct tls_settings *settings = making->settings;
    bool is_server = settings->side == TLS_CLIENTS;
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_SSLv3 | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ssl, 1); /* one read for each record instead of two */
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    int verify = SSL_VERIFY_NONE;
    if (settings->verify != TLS_VERIFY_NONE)
        verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(ssl, verify, NULL);
    if (is_server) SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
    if (is_server && verify != SSL_VERIFY_NONE) (void)SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
    if (is_server && SSL_CTX_set_num_tickets(ssl, verify == SSL_VERIFY_NONE ? 1 : 0) != 1)
        return false;
    return true;
}

struct tls_context *tls_context_new(const struct tls_settings *settings, struct buf *error) {
    static bool (*const steps[])(struct making * making) = {
        set_constants,  take_protocols, take_ciphers,     take_ciphers13,
        take_dheparams, take_ecdhcurve, take_certificate, take_ca,
    };
    ERR_clear_error();
    SSL_CTX *ssl =
        SSL_CTX_new(settings->side == TLS_CLIENTS ? TLS_server_method() : TLS_client_method());
    CHECK(ssl != NULL);
    struct making making = {ssl, settings, error};
    for (size_t i = 0; i < COUNT(steps); i++) {
        if (steps[i](&making)) continue;
        if (buf_length(error) == 0) tls_append_reason(error, 0);
        SSL_CTX_free(ssl);
        return NULL;
    }
    struct tls_context *context = memory_new(sizeof *context);
    context->references = 1;
    context->side = settings->side;
    context->verify = settings->verify;
    context->ssl = ssl;
    tls_sessions_init(context);
    return context;
}

void tls_context_versions(const struct tls_context *context, const char **oldest,
                          const char **newest) {
    uint64_t options = SSL_CTX_get_options(context->ssl);
    *oldest = NULL;
    for (unsigned i = 0; i < COUNT(versions_known); i++) {
        if ((options & versions_known[i].without) != 0) continue;
        if (*oldest == NULL) *oldest = versions_known[i].name;
        *newest = versions_known[i].name;
    }
    CHECK(*oldest != NULL); /* no context is made for none */
}

struct tls_context *tls_context_ref(struct tls_context *context) {
    (void)atomic_fetch_add(&context->references, 1);
    return context;
}

void tls_context_unref(struct tls_context **context_at) {
    struct tls_context *context = *context_at;
    *context_at = NULL;
    if (context == NULL || atomic_fetch_sub(&context->references, 1) > 1) return;
    SSL_CTX_free(context->ssl);
    tls_sessions_release(context);
    memory_free(context);
}
