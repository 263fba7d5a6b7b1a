/*
 * The configuration that a connection URL stands for; see config/load.h.
 *
 * It is written in the terms of a file, row by row, and only what a file would not say is
 * set directly: the secret with which the URL's user logs in. One database entry, one user, TCP
 * on the local machine only.
 */
#include "config/url.h"
#include "snapshot.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/list.h"
#include "core/memory.h"

#define PLACE "connection URL"

static const struct {
    const char *name;
    const char *text;
} pooler_values[] = {
    {"listen_addr", "127.0.0.1"},
    {"pool_mode", "transaction"},
    {"routing", "read_write"},
    {"auth_type", "scram-sha-256"},
};

/* Sets what is known to fit. */
static void set(enum setting_scope scope, void *object, const char *name, const char *text) {
    const struct setting *setting = setting_find(scope, bytes_of_text(name));
    struct buf why = {0};
    CHECK(setting != NULL);
    bool is_set = setting_set(setting, object, bytes_of_text(text), &why);
    CHECK(is_set);
    buf_release(&why);
}

static void add_database(struct config *config, const struct url *url) {
    struct config_entry *entry =
        snapshot_entry_new(SETTING_SCOPE_DATABASE, bytes_of_text(url->database), PLACE);
    struct buf hosts = {0};
    struct buf ports = {0};
    for (size_t i = 0; i < url->hosts_count; i++) {
        buf_append_format(&hosts, "%s%s", i == 0 ? "" : ",", url->hosts[i].name);
        buf_append_format(&ports, "%s%d", i == 0 ? "" : ",", url->hosts[i].port);
    }
    set(SETTING_SCOPE_DATABASE, entry, "host", buf_text(&hosts));
    set(SETTING_SCOPE_DATABASE, entry, "port", buf_text(&ports));
    set(SETTING_SCOPE_DATABASE, entry, "dbname", url->database);
    set(SETTING_SCOPE_DATABASE, entry, "user", url->user);
    set(SETTING_SCOPE_DATABASE, entry, "password", url->secret);
    if (url->application_name != NULL)
        set(SETTING_SCOPE_DATABASE, entry, "application_name", url->application_name);
    buf_release(&hosts);
    buf_release(&ports);
    bool is_added = snapshot_add(config, SETTING_SCOPE_DATABASE, entry);
    CHECK(is_added);
}

static void add_user(struct config *config, const struct url *url) {
    struct config_entry *entry =
        snapshot_entry_new(SETTING_SCOPE_USER, bytes_of_text(url->user), PLACE);
    LIST_OWNER(entry, struct config_user, entry)->secret = memory_copy_text(url->secret);
    bool is_added = snapshot_add(config, SETTING_SCOPE_USER, entry);
    CHECK(is_added);
}

static struct config *config_of(const struct url *url, struct config_errors *errors) {
    struct config *config = snapshot_new();
    for (size_t i = 0; i < COUNT(pooler_values); i++)
        set(SETTING_SCOPE_POOLER, config, pooler_values[i].name, pooler_values[i].text);
    config->server_tls_sslmode = url->sslmode;
    if (url->sslrootcert != NULL)
        set(SETTING_SCOPE_POOLER, config, "server_tls_ca_file", url->sslrootcert);
    if (url->connect_timeout_s > 0)
        config->server_connect_timeout_us = (uint64_t)url->connect_timeout_s * US_PER_S;
    add_database(config, url);
    add_user(config, url);
    if (!snapshot_finish(config, errors)) config_unref(&config);
    return config;
}

struct config *config_from_url(const char *url, struct config_errors *errors) {
    struct url parts;
    struct buf why = {0};
    struct config *config = NULL;
    bool is_right = url_parse(url, &parts, &why);
    if (is_right &&
        (strcmp(parts.database, "pgbouncer") == 0 || strcmp(parts.database, "*") == 0)) {
        buf_append_text(&why, "the database's name has a meaning of its own: expected another one");
        is_right = false;
    }
    if (is_right)
        config = config_of(&parts, errors);
    else
        errors_add(errors, PLACE ": %s", buf_text(&why));
    url_release(&parts);
    buf_release(&why);
    return config;
}
