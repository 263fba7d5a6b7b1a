/* Counting clients; see client/quota.h, and pool/limit.h for what is shared by all workers. */
#include "client/quota.h"

#include "client/parts.h"

#define CONSOLE_NAME "pgbouncer"

static struct bytes bytes_of_shared(const struct text *text) {
    return bytes_of(text->at, text->len);
}

/* What is counted, and how many there may be: 0 for no limit, negative for what does not exist. */
struct share {
    struct bytes name;
    int max;
};

static struct share share_of_database(const struct client *client) {
    const struct config *config = client->set->pools->config;
    struct bytes name = bytes_of_shared(client->database);
    if (config_is_console(config, name))
        return (struct share){bytes_of_text(CONSOLE_NAME),
                              config_max_db_client_connections(config, NULL)};
    const struct config_database *entry = config_database(config, name);
    if (entry == NULL) return (struct share){.max = -1};
    return (struct share){name, config_max_db_client_connections(config, entry)};
}

static struct share share_of_user(const struct client *client) {
    const struct config *config = client->set->pools->config;
    struct bytes name = bytes_of_shared(client->user);
    return (struct share){name,
                          config_max_user_client_connections(config, config_user(config, name))};
}

static const struct {
    struct share (*share)(const struct client *client);
    enum limit_kind kind;
    enum fault_id fault;
} quotas[CLIENT_QUOTAS] = {
    {share_of_database, LIMIT_DATABASE_CLIENTS, FAULT_MAX_DB_CLIENT_CONNECTIONS},
    {share_of_user, LIMIT_USER_CLIENTS, FAULT_MAX_USER_CLIENT_CONNECTIONS},
};

enum fault_id quota_take(struct client *client, bool is_exempt) {
    if (!client->set->has_quotas) return FAULT_NONE;
    struct limits *limits = permits_limits(client->set->pools->permits);
    for (unsigned i = 0; i < CLIENT_QUOTAS; i++) {
        struct share share = quotas[i].share(client);
        if (client->quotas[i] != NULL || share.max < 0) continue;
        struct limit *limit = limit_get(limits, quotas[i].kind, share.name);
        if (!permit_take_within(&limit->permit, is_exempt ? 0 : share.max)) {
            limit_put(limits, &limit);
            return quotas[i].fault;
        }
        client->quotas[i] = limit;
    }
    return FAULT_NONE;
}

void quota_release(struct client *client) {
    struct limits *limits = permits_limits(client->set->pools->permits);
    for (unsigned i = 0; i < CLIENT_QUOTAS; i++) {
        if (client->quotas[i] == NULL) continue;
        permit_release(&client->quotas[i]->permit);
        limit_put(limits, &client->quotas[i]);
    }
}

static bool is_any_set(const struct config *config) {
    if (config->max_db_client_connections > 0 || config->max_user_client_connections > 0)
        return true;
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        if (config_database_at(config, i)->max_db_client_connections > 0) return true;
    }
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_USER].count; i++) {
        if (config_user_at(config, i)->max_user_client_connections > 0) return true;
    }
    return false;
}

void quota_apply(struct client_set *set) {
    set->has_quotas = is_any_set(set->pools->config);
    if (!set->has_quotas) return;
    for (unsigned state = CLIENT_LOGIN; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&set->clients[state], l) {
            (void)quota_take(LIST_OWNER(l, struct client, link), true);
        }
    }
}
