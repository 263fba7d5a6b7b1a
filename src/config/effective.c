/* Which value counts; see config/effective.h. */
#include "config/effective.h"

#include "core/check.h"

#include <stdio.h>

#define CONSOLE_NAME     "pgbouncer"
#define CONSOLE_NAME_OWN "weir"

static const void *entry_find(const struct config *config, enum setting_scope scope,
                              struct bytes name) {
    const struct map_node *node = map_find(&config->entries[scope].by_name, name);
    return node == NULL ? NULL : MAP_OWNER(node, struct config_entry, node);
}

static const void *entry_at(const struct config *config, enum setting_scope scope, size_t index) {
    CHECK(index < config->entries[scope].count);
    return config->entries[scope].at[index];
}

const struct config_database *config_database(const struct config *config, struct bytes name) {
    const struct config_database *database = entry_find(config, SETTING_SCOPE_DATABASE, name);
    if (database != NULL) return database;
    return entry_find(config, SETTING_SCOPE_DATABASE, bytes_of_text("*"));
}

const struct config_user *config_user(const struct config *config, struct bytes name) {
    return entry_find(config, SETTING_SCOPE_USER, name);
}

const struct config_peer *config_peer(const struct config *config, unsigned id) {
    char name[16];
    (void)snprintf(name, sizeof name, "%u", id);
    return entry_find(config, SETTING_SCOPE_PEER, bytes_of_text(name));
}

unsigned config_peer_id(const struct config_entry *entry) {
    unsigned id = 0;
    for (const char *digit = entry->name; *digit != '\0'; digit++)
        id = id * 10 + (unsigned)(*digit - '0');
    return id;
}

int config_peer_pool_size(const struct config *config, const struct config_peer *peer) {
    return peer->pool_size != SETTING_UNSET ? peer->pool_size : config->default_pool_size;
}

const struct config_node *config_node(const struct config *config, const char *host, int port) {
    if (config->entries[SETTING_SCOPE_NODE].count == 0) return NULL;
    struct buf text = {0};
    buf_append_format(&text, "%s:%d", host, port);
    const struct config_node *node = entry_find(config, SETTING_SCOPE_NODE, buf_content(&text));
    buf_release(&text);
    return node != NULL ? node : entry_find(config, SETTING_SCOPE_NODE, bytes_of_text(host));
}

int config_node_weight(const struct config *config, const char *host, int port) {
    const struct config_node *node = config_node(config, host, port);
    return node == NULL ? 1 : node->weight;
}

const char *config_node_zone(const struct config *config, const char *host, int port) {
    const struct config_node *node = config_node(config, host, port);
    return node == NULL || node->zone == NULL ? "" : node->zone;
}

bool config_node_is_far(const struct config *config, const char *host, int port) {
    const char *zone = config_node_zone(config, host, port);
    return config->fitness.zone[0] != '\0' && strcmp(zone, config->fitness.zone) != 0;
}

const struct config_database *config_database_at(const struct config *config, size_t index) {
    return entry_at(config, SETTING_SCOPE_DATABASE, index);
}

const struct config_user *config_user_at(const struct config *config, size_t index) {
    return entry_at(config, SETTING_SCOPE_USER, index);
}

bool config_is_console(const struct config *config, struct bytes name) {
    if (bytes_equal_text(name, CONSOLE_NAME)) return true;
    return bytes_equal_text(name, CONSOLE_NAME_OWN) &&
           entry_find(config, SETTING_SCOPE_DATABASE, name) == NULL;
}

bool config_is_listed(const struct config *config, struct bytes name) {
    return entry_find(config, SETTING_SCOPE_DATABASE, name) != NULL;
}

struct bytes config_dbname(const struct config_database *database, struct bytes name) {
    return database->dbname != NULL ? bytes_of_text(database->dbname) : name;
}

struct bytes config_pool_user(const struct config_database *database, struct bytes client_user) {
    return database->user != NULL ? bytes_of_text(database->user) : client_user;
}

/* The entry's own value, else the global one; NULL if that is empty. */
static const char *own_or_global(const char *own, const char *global) {
    const char *value = own != NULL ? own : global;
    return value[0] == '\0' ? NULL : value;
}

struct config_auth_lookup config_auth_lookup(const struct config *config,
                                             const struct config_database *database) {
    return (struct config_auth_lookup){
        .user = own_or_global(database == NULL ? NULL : database->auth_user, config->auth_user),
        .query = database == NULL || database->auth_query == NULL ? config->auth_query
                                                                  : database->auth_query,
        .dbname =
            own_or_global(database == NULL ? NULL : database->auth_dbname, config->auth_dbname)};
}

int config_pool_size(const struct config *config, const struct config_database *database,
                     const struct config_user *user) {
    if (user != NULL && user->pool_size != SETTING_UNSET) return user->pool_size;
    if (database->pool_size != SETTING_UNSET) return database->pool_size;
    return config->default_pool_size;
}

int config_min_pool_size(const struct config *config, const struct config_database *database) {
    return database->min_pool_size != SETTING_UNSET ? database->min_pool_size
                                                    : config->min_pool_size;
}

int config_reserve_pool_size(const struct config *config, const struct config_database *database,
                             const struct config_user *user) {
    if (user != NULL && user->reserve_pool_size != SETTING_UNSET) return user->reserve_pool_size;
    if (database->reserve_pool_size != SETTING_UNSET) return database->reserve_pool_size;
    return config->reserve_pool_size;
}

int config_max_db_connections(const struct config *config, const struct config_database *database) {
    int own = database == NULL ? 0 : database->max_db_connections;
    return own > 0 ? own : config->max_db_connections;
}

int config_max_db_client_connections(const struct config *config,
                                     const struct config_database *database) {
    int own = database == NULL ? 0 : database->max_db_client_connections;
    return own > 0 ? own : config->max_db_client_connections;
}

int config_max_user_connections(const struct config *config, const struct config_user *user) {
    int own = user == NULL ? 0 : user->max_user_connections;
    return own > 0 ? own : config->max_user_connections;
}

int config_max_user_client_connections(const struct config *config,
                                       const struct config_user *user) {
    int own = user == NULL ? 0 : user->max_user_client_connections;
    return own > 0 ? own : config->max_user_client_connections;
}

enum pool_mode config_pool_mode(const struct config *config, const struct config_database *database,
                                const struct config_user *user) {
    if (user != NULL && user->pool_mode != POOL_MODE_UNSET) return user->pool_mode;
    if (database->pool_mode != POOL_MODE_UNSET) return database->pool_mode;
    return config->pool_mode;
}

uint64_t config_query_wait_timeout_us(const struct config *config,
                                      const struct config_database *database,
                                      const struct config_user *user) {
    if (user != NULL && user->query_wait_timeout_us != SETTING_UNSET_US)
        return user->query_wait_timeout_us;
    if (database->query_wait_timeout_us != SETTING_UNSET_US) return database->query_wait_timeout_us;
    return config->query_wait_timeout_us;
}

/* The first if it is set and above 0, else the second. */
static uint64_t above_zero(uint64_t own_us, uint64_t global_us) {
    return own_us != SETTING_UNSET_US && own_us > 0 ? own_us : global_us;
}

uint64_t config_query_timeout_us(const struct config *config, const struct config_user *user) {
    uint64_t own = user == NULL ? 0 : user->query_timeout_us;
    return above_zero(own, config->query_timeout_us);
}

uint64_t config_idle_transaction_timeout_us(const struct config *config,
                                            const struct config_user *user) {
    uint64_t own = user == NULL ? 0 : user->idle_transaction_timeout_us;
    return above_zero(own, config->idle_transaction_timeout_us);
}

uint64_t config_transaction_timeout_us(const struct config *config,
                                       const struct config_user *user) {
    uint64_t own = user == NULL ? 0 : user->transaction_timeout_us;
    return above_zero(own, config->transaction_timeout_us);
}

uint64_t config_client_idle_timeout_us(const struct config *config,
                                       const struct config_user *user) {
    uint64_t own = user == NULL ? 0 : user->client_idle_timeout_us;
    return above_zero(own, config->client_idle_timeout_us);
}

uint64_t config_server_lifetime_us(const struct config *config,
                                   const struct config_database *database) {
    return above_zero(database->server_lifetime_us, config->server_lifetime_us);
}

enum routing config_routing(const struct config *config, const struct config_database *database,
                            const struct config_user *user) {
    enum routing routing = database->routing == ROUTING_UNSET ? config->routing : database->routing;
    if (routing == ROUTING_OFF) return ROUTING_OFF; /* nobody knows the roles of its nodes */
    if (user != NULL && user->routing != ROUTING_UNSET) routing = user->routing;
    if (routing == ROUTING_OFF) return ROUTING_PRIMARY;
    bool is_session = config_pool_mode(config, database, user) == POOL_MODE_SESSION;
    bool is_parted = routing == ROUTING_READ_WRITE || routing == ROUTING_SHADOW;
    return is_parted && is_session ? ROUTING_PRIMARY : routing;
}

enum session_state config_session_state(const struct config *config,
                                        const struct config_database *database) {
    return database->session_state == SESSION_STATE_UNSET ? config->session_state
                                                          : database->session_state;
}

enum backend_pid config_backend_pid(const struct config *config,
                                    const struct config_database *database) {
    return database->backend_pid == BACKEND_PID_UNSET ? config->backend_pid : database->backend_pid;
}

bool config_shares_listen(const struct config *config, const struct config_database *database) {
    enum shared_listen own = database->shared_listen;
    return (own == SHARED_LISTEN_UNSET ? config->shared_listen : own) == SHARED_LISTEN_ON;
}

enum on_state config_on_session_state(const struct config *config,
                                      const struct config_database *database,
                                      const struct config_user *user) {
    if (user != NULL && user->on_session_state != ON_STATE_UNSET) return user->on_session_state;
    return database->on_session_state == ON_STATE_UNSET ? config->on_session_state
                                                        : database->on_session_state;
}

enum read_consistency config_read_consistency(const struct config *config,
                                              const struct config_database *database,
                                              const struct config_user *user) {
    enum read_consistency chosen = config->read_consistency;
    if (database->read_consistency != READ_CONSISTENCY_UNSET) chosen = database->read_consistency;
    if (user != NULL && user->read_consistency != READ_CONSISTENCY_UNSET)
        chosen = user->read_consistency;
    bool has_siblings = config->so_reuseport || config->entries[SETTING_SCOPE_PEER].count > 0;
    if (chosen != READ_CONSISTENCY_AUTO) return chosen;
    return has_siblings ? READ_CONSISTENCY_CLUSTER : READ_CONSISTENCY_DATABASE;
}

struct config_choice config_choice(const struct config *config,
                                   const struct config_database *database) {
    struct config_choice choice = config->choice;
    const struct config_choice *own = &database->choice;
    if (own->replica_choice != REPLICA_CHOICE_UNSET) choice.replica_choice = own->replica_choice;
    if (own->replica_fallback != REPLICA_FALLBACK_UNSET)
        choice.replica_fallback = own->replica_fallback;
    if (own->max_replica_lag != SETTING_UNSET) choice.max_replica_lag = own->max_replica_lag;
    if (own->max_replica_lag_time_us != SETTING_UNSET_US)
        choice.max_replica_lag_time_us = own->max_replica_lag_time_us;
    return choice;
}

enum load_balance_hosts config_load_balance_hosts(const struct config_database *database) {
    return database->load_balance_hosts == BALANCE_UNSET ? BALANCE_ROUND_ROBIN
                                                         : database->load_balance_hosts;
}

const char *config_patroni_url(const struct config *config,
                               const struct config_database *database) {
    return database->patroni_url != NULL ? database->patroni_url : config->patroni_url;
}

const char *config_replica_allow(const struct config *config,
                                 const struct config_database *database) {
    return database->replica_allow != NULL ? database->replica_allow : config->replica_allow;
}

struct config_probe_login config_probe_login(const struct config *config,
                                             const struct config_database *database) {
    if (database->probe_user != NULL)
        return (struct config_probe_login){database->probe_user, database->probe_password};
    if (config->probe_user[0] != '\0')
        return (struct config_probe_login){config->probe_user, config->probe_password};
    return (struct config_probe_login){database->user, database->password};
}
