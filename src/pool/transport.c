/* See pool/transport.h. */
#include "pool/transport.h"

#include "core/memory.h"
#include "net/tls.h"

/* What each sslmode asks of the peer's certificate. */
static const enum tls_verify verifications[] = {
    [SSLMODE_DISABLE] = TLS_VERIFY_NONE, [SSLMODE_ALLOW] = TLS_VERIFY_NONE,
    [SSLMODE_PREFER] = TLS_VERIFY_NONE,  [SSLMODE_REQUIRE] = TLS_VERIFY_NONE,
    [SSLMODE_VERIFY_CA] = TLS_VERIFY_CA, [SSLMODE_VERIFY_FULL] = TLS_VERIFY_FULL,
};

static bool make_clients(struct transport *transport, struct buf *error) {
    const struct config *config = transport->config;
    if (config->client_tls_sslmode == SSLMODE_DISABLE) return true;
    const struct tls_settings settings = {.side = TLS_CLIENTS,
                                          .verify = verifications[config->client_tls_sslmode],
                                          .ca_file = config->client_tls_ca_file,
                                          .cert_file = config->client_tls_cert_file,
                                          .key_file = config->client_tls_key_file,
                                          .ciphers = config->client_tls_ciphers,
                                          .ciphers13 = config->client_tls13_ciphers,
                                          .protocols = config->client_tls_protocols,
                                          .dheparams = config->client_tls_dheparams,
                                          .ecdhcurve = config->client_tls_ecdhcurve};
    transport->clients = tls_context_new(&settings, error);
    return transport->clients != NULL;
}

static bool make_servers(struct transport *transport, struct buf *error) {
    const struct config *config = transport->config;
    if (config->server_tls_sslmode == SSLMODE_DISABLE) return true;
    const struct tls_settings settings = {.side = TLS_SERVERS,
                                          .verify = verifications[config->server_tls_sslmode],
                                          .ca_file = config->server_tls_ca_file,
                                          .cert_file = config->server_tls_cert_file,
                                          .key_file = config->server_tls_key_file,
                                          .ciphers = config->server_tls_ciphers,
                                          .ciphers13 = config->server_tls13_ciphers,
                                          .protocols = config->server_tls_protocols};
    transport->servers = tls_context_new(&settings, error);
    return transport->servers != NULL;
}

/* Of a SET of auth_type alone nothing comes but failed logins, as in PgBouncer. */
static bool serves_certificates(const struct config *config, struct buf *error) {
    if (config->auth_type != AUTH_TYPE_CERT) return true;
    if (config->client_tls_sslmode == SSLMODE_VERIFY_FULL && config->client_tls_ca_file[0] != '\0')
        return true;
    buf_append_text(error, "auth_type = cert: expected client_tls_sslmode = verify-full and a "
                           "client_tls_ca_file");
    return false;
}

struct transport *transport_new(struct config *config, struct buf *error) {
    struct transport *transport = memory_new(sizeof *transport);
    struct buf why = {0};
    transport->references = 1;
    transport->config = config_ref(config);
    if (!serves_certificates(config, &why) || !make_clients(transport, &why) ||
        !make_servers(transport, &why)) {
        buf_append_format(error, "TLS setup failed: %s", buf_text(&why));
        transport_unref(&transport);
    }
    buf_release(&why);
    return transport;
}

struct transport *transport_ref(struct transport *transport) {
    (void)atomic_fetch_add(&transport->references, 1);
    return transport;
}

void transport_unref(struct transport **transport_at) {
    struct transport *transport = *transport_at;
    *transport_at = NULL;
    if (transport == NULL || atomic_fetch_sub(&transport->references, 1) > 1) return;
    tls_context_unref(&transport->clients);
    tls_context_unref(&transport->servers);
    config_unref(&transport->config);
    memory_free(transport);
}

struct pqconn_security transport_security(const struct transport *transport) {
    static const char *const modes[] = {
        [SSLMODE_DISABLE] = "disable",     [SSLMODE_ALLOW] = "prefer",
        [SSLMODE_PREFER] = "prefer",       [SSLMODE_REQUIRE] = "require",
        [SSLMODE_VERIFY_CA] = "verify-ca", [SSLMODE_VERIFY_FULL] = "verify-full",
    };
    const struct config *config = transport->config;
    enum sslmode mode = config->server_tls_sslmode;
    bool is_verified = mode >= SSLMODE_VERIFY_CA;
    const char *ca_file = config->server_tls_ca_file;
    struct pqconn_security security = {.sslmode = modes[mode],
                                       .ca_file = !is_verified         ? NULL
                                                  : ca_file[0] != '\0' ? ca_file
                                                                       : TLS_SYSTEM_CA_FILE,
                                       .cert_file = config->server_tls_cert_file,
                                       .key_file = config->server_tls_key_file};
    if (transport->servers != NULL)
        tls_context_versions(transport->servers, &security.oldest, &security.newest);
    return security;
}

static bool begins_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool transport_is_setting(const char *name) {
    return begins_with(name, "client_tls") || begins_with(name, "server_tls");
}

bool transport_servers_differ(const struct transport *from, const struct transport *to) {
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_POOLER, i);
        if (begins_with(setting->name, "server_tls") &&
            !setting_is_same(setting, from->config, to->config))
            return true;
    }
    return false;
}
