/*
 * Which value counts: looking up entries, and the order user, database, global that PgBouncer
 * defined for each setting that may stand in several places.
 *
 * `database` and `user` come from the same snapshot; `user` is NULL for a user that [users] does
 * not list. For what belongs to a pool it is the pool's user: the forced one where the database
 * has one (see config_pool_user), so that a client's own sizes do not count there.
 */
#ifndef WEIR_CONFIG_EFFECTIVE_H
#define WEIR_CONFIG_EFFECTIVE_H

#include "config/config.h"

/* The entry of that name, else the entry `*`, else NULL. An entry `*` has the name "*". */
const struct config_database *config_database(const struct config *config, struct bytes name);

/* The entry of [users], or NULL. */
const struct config_user *config_user(const struct config *config, struct bytes name);

/* The entry of [nodes] called HOST:PORT, else the one called HOST, else NULL. */
/* The peer of that number, or NULL; how many requests may be on the way to it, 0 without limit. */
const struct config_peer *config_peer(const struct config *config, unsigned id);
unsigned config_peer_id(const struct config_entry *entry);
int config_peer_pool_size(const struct config *config, const struct config_peer *peer);
const struct config_node *config_node(const struct config *config, const char *host, int port);

/* Weight and zone of a node, listed or not: 1 and "" are the defaults. It is far where it stands in
 * another zone than this process; who has no zone is near to all. */
int config_node_weight(const struct config *config, const char *host, int port);
const char *config_node_zone(const struct config *config, const char *host, int port);
bool config_node_is_far(const struct config *config, const char *host, int port);

/* The entries by index, below config->entries[SETTING_SCOPE_...].count, in the file's order. */
const struct config_database *config_database_at(const struct config *config, size_t index);
const struct config_user *config_user_at(const struct config *config, size_t index);

/* Whether a database name means the console: "pgbouncer" always, "weir" unless it is listed. */
bool config_is_console(const struct config *config, struct bytes name);

/* Whether a database has an entry of its own; `*` does not count. */
bool config_is_listed(const struct config *config, struct bytes name);

/* The database's name on the server for a client that asked for `name`. */
struct bytes config_dbname(const struct config_database *database, struct bytes name);

/* The user whose pool serves `client_user`: the forced one, else the client's own. */
struct bytes config_pool_user(const struct config_database *database, struct bytes client_user);

/* How users who are not in auth_file are asked for by clients of `database` (NULL: of the
 * console). `user` is NULL if nobody is, `dbname` is NULL for the client's own database. */
struct config_auth_lookup {
    const char *user;
    const char *query;
    const char *dbname;
};
struct config_auth_lookup config_auth_lookup(const struct config *config,
                                             const struct config_database *database);

/* Per node; 0 = no limit. */
int config_pool_size(const struct config *config, const struct config_database *database,
                     const struct config_user *user);

/* Per node. */
int config_min_pool_size(const struct config *config, const struct config_database *database);
int config_reserve_pool_size(const struct config *config, const struct config_database *database,
                             const struct config_user *user);

/* 0 = no limit. The entry's own counts if it is above 0; `database` NULL: the console's. */
int config_max_db_connections(const struct config *config, const struct config_database *database);
int config_max_db_client_connections(const struct config *config,
                                     const struct config_database *database);
int config_max_user_connections(const struct config *config, const struct config_user *user);
int config_max_user_client_connections(const struct config *config, const struct config_user *user);

/* Never POOL_MODE_UNSET. */
enum pool_mode config_pool_mode(const struct config *config, const struct config_database *database,
                                const struct config_user *user);

/* Microseconds; 0 = never. A 0 that is set counts for the first; for the others the user's
 * counts if it is above 0. */
uint64_t config_query_wait_timeout_us(const struct config *config,
                                      const struct config_database *database,
                                      const struct config_user *user);
uint64_t config_query_timeout_us(const struct config *config, const struct config_user *user);
uint64_t config_idle_transaction_timeout_us(const struct config *config,
                                            const struct config_user *user);
uint64_t config_transaction_timeout_us(const struct config *config, const struct config_user *user);
uint64_t config_client_idle_timeout_us(const struct config *config, const struct config_user *user);

/* Microseconds; 0 = a server is closed after one use. A database's 0 means "as global". */
uint64_t config_server_lifetime_us(const struct config *config,
                                   const struct config_database *database);

/* Never ROUTING_UNSET. A database whose routing is off is not routed for anybody; in another one
 * the user's counts first, where off counts as primary. With pool_mode = session, read_write and
 * shadow count as primary. */
enum routing config_routing(const struct config *config, const struct config_database *database,
                            const struct config_user *user);

/* Never SESSION_STATE_UNSET. Nothing has to be tracked with pool_mode = session. */
enum session_state config_session_state(const struct config *config,
                                        const struct config_database *database);

/* Never ON_STATE_UNSET: the user's, the database's or the global one. */
enum backend_pid config_backend_pid(const struct config *config,
                                    const struct config_database *database);
bool config_shares_listen(const struct config *config, const struct config_database *database);
enum on_state config_on_session_state(const struct config *config,
                                      const struct config_database *database,
                                      const struct config_user *user);

/* Never READ_CONSISTENCY_UNSET nor _AUTO; the user's, the database's or the global one. */
enum read_consistency config_read_consistency(const struct config *config,
                                              const struct config_database *database,
                                              const struct config_user *user);

/* Which replica serves a read of this database; nothing in it is unset. */
struct config_choice config_choice(const struct config *config,
                                   const struct config_database *database);

/* Never BALANCE_UNSET. */
enum load_balance_hosts config_load_balance_hosts(const struct config_database *database);

/* Where Patroni's REST API of a database's nodes is; empty: nowhere. */
const char *config_patroni_url(const struct config *config, const struct config_database *database);
const char *config_replica_allow(const struct config *config,
                                 const struct config_database *database);

/* Who probes the nodes of a database: its probe_user, else the global one, else the entry's
 * user; NULL if there is none. The password goes with the user and may be NULL. */
struct config_probe_login {
    const char *user;
    const char *password;
};
struct config_probe_login config_probe_login(const struct config *config,
                                             const struct config_database *database);

#endif
