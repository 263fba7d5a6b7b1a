/*
 * The words that settings may be, and the entries of [databases], [users] and [nodes].
 *
 * What each member means stands in its row in setting.c; setting.h says how one that was left
 * out looks. Entries belong to a snapshot (config/config.h) and never change.
 */
#ifndef WEIR_CONFIG_ENTRY_H
#define WEIR_CONFIG_ENTRY_H

#include "config/choice.h"
#include "config/setting.h"
#include "core/map.h"

#define CONFIG_HOSTS_MAX 32

enum pool_mode { POOL_MODE_UNSET, POOL_MODE_SESSION, POOL_MODE_TRANSACTION, POOL_MODE_STATEMENT };
enum auth_type {
    AUTH_TYPE_ANY,
    AUTH_TYPE_TRUST,
    AUTH_TYPE_PLAIN,
    AUTH_TYPE_MD5,
    AUTH_TYPE_SCRAM_SHA_256,
    AUTH_TYPE_HBA,
    AUTH_TYPE_CERT,
    AUTH_TYPE_PAM,
    AUTH_TYPE_LDAP
};
enum sslmode {
    SSLMODE_DISABLE,
    SSLMODE_ALLOW,
    SSLMODE_PREFER,
    SSLMODE_REQUIRE,
    SSLMODE_VERIFY_CA,
    SSLMODE_VERIFY_FULL
};
enum sslnegotiation { SSLNEGOTIATION_UNSET, SSLNEGOTIATION_POSTGRES, SSLNEGOTIATION_DIRECT };
enum session_state { SESSION_STATE_UNSET, SESSION_STATE_OFF, SESSION_STATE_TRACK };
enum backend_pid { BACKEND_PID_UNSET, BACKEND_PID_WEIR, BACKEND_PID_SERVER };
enum shared_listen { SHARED_LISTEN_UNSET, SHARED_LISTEN_OFF, SHARED_LISTEN_ON };
enum on_state { ON_STATE_UNSET, ON_STATE_PIN, ON_STATE_REJECT, ON_STATE_LOG, ON_STATE_IGNORE };
enum read_consistency {
    READ_CONSISTENCY_UNSET,
    READ_CONSISTENCY_AUTO,
    READ_CONSISTENCY_DATABASE,
    READ_CONSISTENCY_SESSION,
    READ_CONSISTENCY_EVENTUAL,
    READ_CONSISTENCY_CLUSTER
};
enum syslog_facility {
    SYSLOG_FACILITY_AUTH,
    SYSLOG_FACILITY_AUTHPRIV,
    SYSLOG_FACILITY_DAEMON,
    SYSLOG_FACILITY_USER,
    SYSLOG_FACILITY_LOCAL0, /* LOCAL1 to LOCAL7 follow */
    SYSLOG_FACILITY_LOCAL7 = SYSLOG_FACILITY_LOCAL0 + 7
};
enum load_balance_hosts { BALANCE_UNSET, BALANCE_ROUND_ROBIN, BALANCE_DISABLE };

/* What entries of [databases], [users] and [nodes] have in common. */
struct config_entry {
    struct map_node node;
    char *name;
    char *where; /* "FILE:LINE", for messages */
};

struct config_entries {
    struct map by_name;
    struct config_entry **at; /* in the file's order */
    size_t count;
};

/* Where servers of a database are: a name or address, a directory ("/run/postgresql") or an
 * abstract socket ("@name"). A node's name is the host, or HOST:PORT where one host occurs with
 * several ports. */
struct config_host {
    char *name;
    int port;
};

struct config_database {
    struct config_entry entry;
    char *dbname; /* NULL: the name that the client gave; see config_dbname */
    struct setting_list host;
    struct setting_list port;
    char *user; /* forced login, or NULL */
    char *password;
    char *auth_user; /* NULL, here and in the next two: as global */
    char *auth_query;
    char *auth_dbname;
    int pool_size;
    int min_pool_size;
    int reserve_pool_size;
    int max_db_connections;
    int max_db_client_connections;
    enum pool_mode pool_mode;
    uint64_t query_wait_timeout_us;
    uint64_t server_lifetime_us;
    enum load_balance_hosts load_balance_hosts;
    char *connect_query; /* NULL: none */
    char *client_encoding, *datestyle, *timezone, *application_name;
    struct config_choice choice;
    enum routing routing;
    enum read_consistency read_consistency;
    enum session_state session_state;
    enum backend_pid backend_pid;
    enum on_state on_session_state;
    enum shared_listen shared_listen;
    enum sslnegotiation sslnegotiation;
    int alert_active_servers;
    char *probe_user, *probe_password, *patroni_url, *replica_allow;
    /* Made from host, port and unix_socket_dir; never empty in a finished snapshot. */
    struct config_host hosts[CONFIG_HOSTS_MAX];
    size_t hosts_count;
};

struct config_user {
    struct config_entry entry;
    char *secret; /* what this user logs in with; only the user of a URL has one, else NULL */
    int pool_size;
    int reserve_pool_size;
    int max_user_connections;
    int max_user_client_connections;
    enum pool_mode pool_mode;
    enum routing routing;
    enum read_consistency read_consistency;
    enum on_state on_session_state;
    uint64_t query_wait_timeout_us;
    uint64_t query_timeout_us;
    uint64_t idle_transaction_timeout_us;
    uint64_t transaction_timeout_us;
    uint64_t client_idle_timeout_us;
};

/* Another process that shares cancel requests with this one; its name is its number. */
struct config_peer {
    struct config_entry entry;
    char *host; /* a name, an address or a socket's directory; never NULL in a finished snapshot */
    int port;
    int pool_size;
};

struct config_node {
    struct config_entry entry;
    int weight;
    char *zone; /* NULL: none */
};

#endif
