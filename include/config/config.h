/*
 * struct config: everything that was set, as one snapshot that never changes.
 *
 * A snapshot is read from a file, a text or a connection URL; SET and RELOAD make another one from
 * it. Any thread may hold and read it; a pointer into it lives as long as it does. Names in _us are
 * times in microseconds; "0 = never" and "0 = no limit" are kept as 0. What a member means stands
 * in its row in setting.c. Files are read on one thread: the ini library's switches are global.
 */
#ifndef WEIR_CONFIG_CONFIG_H
#define WEIR_CONFIG_CONFIG_H

#include "config/entry.h"

struct config {
    _Atomic unsigned references;
    /* PgBouncer's */
    struct setting_list admin_users;
    bool application_name_add_host;
    char *auth_dbname; /* empty: the client's own database */
    char *auth_file;
    char *auth_hba_file;
    char *auth_ident_file;
    char *auth_ldap_options;
    char *auth_query;
    enum auth_type auth_type;
    uint64_t autodb_idle_timeout_us;
    char *auth_user; /* empty: nobody is asked for */
    uint64_t cancel_wait_timeout_us;
    uint64_t client_idle_timeout_us;
    uint64_t client_login_timeout_us;
    char *client_tls13_ciphers;
    char *client_tls_ca_file;
    char *client_tls_cert_file;
    char *client_tls_ciphers;
    char *client_tls_dheparams;
    char *client_tls_ecdhcurve;
    char *client_tls_key_file;
    char *client_tls_protocols;
    enum sslmode client_tls_sslmode; /* in force is what pool/transport.h holds, of all these */
    char *conffile;                  /* empty: made from a URL or a text */
    int default_pool_size;
    bool disable_pqexec;
    uint64_t dns_max_ttl_us;
    uint64_t dns_nxdomain_ttl_us;
    uint64_t dns_zone_check_period_us;
    uint64_t idle_transaction_timeout_us;
    struct setting_list ignore_startup_parameters;
    char *job_name;
    struct setting_list listen_addr;
    int listen_backlog;
    int listen_port;
    bool log_connections;
    bool log_disconnections;
    bool log_pooler_errors;
    bool log_stats;
    char *logfile;
    char *login_notify_message;
    int max_client_conn;
    int max_db_client_connections;
    int max_db_connections;
    int max_packet_size;
    int max_prepared_statements;
    int max_user_client_connections;
    int max_user_connections;
    int min_pool_size;
    int peer_id; /* 0: no peers */
    char *pidfile;
    int pkt_buf;
    uint64_t pool_idle_timeout_us;
    enum pool_mode pool_mode;
    uint64_t query_timeout_us;
    int query_wait_notify; /* seconds */
    uint64_t query_wait_timeout_us;
    int reserve_pool_size;
    uint64_t reserve_pool_timeout_us;
    char *resolv_conf;
    int sbuf_loopcnt;
    int scram_iterations;
    uint64_t server_check_delay_us;
    char *server_check_query; /* "<empty>": without text; empty: none */
    uint64_t server_connect_timeout_us;
    bool server_fast_close;
    uint64_t server_idle_timeout_us;
    uint64_t server_lifetime_us;
    uint64_t server_login_retry_us;
    char *server_reset_query;
    bool server_reset_query_always;
    bool server_round_robin;
    char *server_tls13_ciphers;
    char *server_tls_ca_file;
    char *server_tls_cert_file;
    char *server_tls_ciphers;
    char *server_tls_key_file;
    char *server_tls_protocols;
    enum sslmode server_tls_sslmode; /* as for clients */
    bool so_reuseport;
    int stats_period; /* seconds */
    struct setting_list stats_users;
    uint64_t suspend_timeout_us;
    bool syslog;
    enum syslog_facility syslog_facility;
    char *syslog_ident;
    bool tcp_defer_accept;
    bool tcp_keepalive;
    int tcp_keepcnt;
    int tcp_keepidle;
    int tcp_keepintvl;
    int tcp_socket_buffer; /* bytes */
    int tcp_user_timeout;  /* milliseconds */
    struct setting_list track_extra_parameters;
    uint64_t transaction_timeout_us;
    char *unix_socket_dir;
    char *unix_socket_group;
    int unix_socket_mode;
    char *user;
    int verbose;
    /* Weir's own */
    int alert_active_servers;
    uint64_t alert_for_us;
    enum backend_pid backend_pid;
    bool console_old_columns, defer_begin;
    int gather_bytes;
    bool hba_strict;
    char *http_listen; /* HOST:PORT or empty: off */
    enum on_state on_session_state;
    int parse_inline_tokens, pin_limit;
    uint64_t primary_wait_timeout_us;
    int probe_fall, probe_rise;
    uint64_t probe_interval_us;
    char *probe_password, *patroni_url, *replica_allow;
    uint64_t probe_timeout_us;
    char *probe_user; /* empty: the database entry's user */
    enum read_consistency read_consistency;
    struct config_choice choice;
    struct config_fitness fitness;
    uint64_t replica_wait_us, retry_timeout_us;
    enum routing routing;
    enum session_state session_state;
    enum shared_listen shared_listen;
    int shapes_max;
    int workers;
    struct config_entries entries[SETTING_SCOPE_COUNT]; /* other sections; [0] is not used */
};

/* One more holder of a snapshot, which is returned; one less: the last one frees it and wipes its
 * secrets. Any thread may call these; a pointer to NULL is legal. */
struct config *config_ref(struct config *config);
void config_unref(struct config **config);

#endif
