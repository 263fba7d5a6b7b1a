/*
 * The table of settings; see config/setting.h. Values are read and shown in value.c.
 *
 * PgBouncer's settings come first, in the order of its own SHOW CONFIG, then Weir's own. What
 * PgBouncer has and this version of Weir has not stands in tables of its own: such a setting is
 * refused by name, never passed over in silence, unless its value asks for nothing.
 */
#include "config/config.h"
#include "core/check.h"
#include "core/clock.h"

#include <limits.h>

#define TIME_MAX ((int64_t)INT_MAX * US_PER_S)
#define HOUR     ((int64_t)3600 * US_PER_S)
#define AUTH_QUERY_DEFAULT                                                                         \
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "              \
    "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
#define PROBE_MIN        ((int64_t)10 * US_PER_MS)
#define POOL_SIZE_MAX    1000000
#define NAME_BYTES_MAX   64
#define SCRAM_ITERATIONS 1000000 /* more would hold up a worker for long */
#define DISTANCE_MAX(n)  ((n) < 6 ? 2u : 3u)

#define POOLER(member) offsetof(struct config, member), sizeof(((struct config *)NULL)->member)
#define DATABASE(member)                                                                           \
    offsetof(struct config_database, member), sizeof(((struct config_database *)NULL)->member)
#define USER(member)                                                                               \
    offsetof(struct config_user, member), sizeof(((struct config_user *)NULL)->member)
#define NODE(member)                                                                               \
    offsetof(struct config_node, member), sizeof(((struct config_node *)NULL)->member)

#define PEER(member)                                                                               \
    offsetof(struct config_peer, member), sizeof(((struct config_peer *)NULL)->member)

#define NONE      0
#define LIVE      SETTING_FLAG_LIVE
#define OWN       SETTING_FLAG_OWN
#define SECRET    SETTING_FLAG_SECRET
#define RECONNECT SETTING_FLAG_RECONNECT
#define COMPAT    SETTING_FLAG_COMPAT
#define EXACT     SETTING_FLAG_EXACT

#define BOOL    SETTING_TYPE_BOOL
#define INT     SETTING_TYPE_INT
#define BYTES   SETTING_TYPE_BYTES
#define TIME    SETTING_TYPE_TIME
#define STRING  SETTING_TYPE_STRING
#define LIST    SETTING_TYPE_LIST
#define ENUM    SETTING_TYPE_ENUM
#define ADDRESS SETTING_TYPE_ADDRESS

static const struct setting_choice auth_types[] = {
    {"any", AUTH_TYPE_ANY},
    {"trust", AUTH_TYPE_TRUST},
    {"plain", AUTH_TYPE_PLAIN},
    {"md5", AUTH_TYPE_MD5},
    {"scram-sha-256", AUTH_TYPE_SCRAM_SHA_256},
    {"cert", AUTH_TYPE_CERT},
    {"hba", AUTH_TYPE_HBA},
    {"pam", AUTH_TYPE_PAM},
    {"ldap", AUTH_TYPE_LDAP},
    {NULL, 0},
};

static const struct setting_choice pool_modes[] = {
    {"session", POOL_MODE_SESSION},
    {"transaction", POOL_MODE_TRANSACTION},
    {"statement", POOL_MODE_STATEMENT},
    {NULL, 0},
};

static const struct setting_choice sslmodes[] = {
    {"disable", SSLMODE_DISABLE},
    {"allow", SSLMODE_ALLOW},
    {"prefer", SSLMODE_PREFER},
    {"require", SSLMODE_REQUIRE},
    {"verify-ca", SSLMODE_VERIFY_CA},
    {"verify-full", SSLMODE_VERIFY_FULL},
    {NULL, 0},
};

static const struct setting_choice sslnegotiations[] = {
    {"postgres", SSLNEGOTIATION_POSTGRES},
    {"direct", SSLNEGOTIATION_DIRECT},
    {NULL, 0},
};

static const struct setting_choice facilities[] = {
    {"auth", SYSLOG_FACILITY_AUTH},         {"authpriv", SYSLOG_FACILITY_AUTHPRIV},
    {"daemon", SYSLOG_FACILITY_DAEMON},     {"user", SYSLOG_FACILITY_USER},
    {"local0", SYSLOG_FACILITY_LOCAL0},     {"local1", SYSLOG_FACILITY_LOCAL0 + 1},
    {"local2", SYSLOG_FACILITY_LOCAL0 + 2}, {"local3", SYSLOG_FACILITY_LOCAL0 + 3},
    {"local4", SYSLOG_FACILITY_LOCAL0 + 4}, {"local5", SYSLOG_FACILITY_LOCAL0 + 5},
    {"local6", SYSLOG_FACILITY_LOCAL0 + 6}, {"local7", SYSLOG_FACILITY_LOCAL7},
    {NULL, SYSLOG_FACILITY_DAEMON}, /* as in PgBouncer */
};

static const struct setting_choice routings[] = {
    {"off", ROUTING_OFF},         {"read_write", ROUTING_READ_WRITE}, {"primary", ROUTING_PRIMARY},
    {"replica", ROUTING_REPLICA}, {"shadow", ROUTING_SHADOW},         {NULL, 0},
};

static const struct setting_choice replica_choices[] = {
    {"least_busy", REPLICA_CHOICE_LEAST_BUSY},
    {"round_robin", REPLICA_CHOICE_ROUND_ROBIN},
    {"latency", REPLICA_CHOICE_LATENCY},
    {NULL, 0},
};

static const struct setting_choice replica_fallbacks[] = {
    {"0", REPLICA_FALLBACK_OFF},
    {"1", REPLICA_FALLBACK_ON},
    {NULL, 0},
};

static const struct setting_choice read_consistencies[] = {
    {"auto", READ_CONSISTENCY_AUTO},       {"database", READ_CONSISTENCY_DATABASE},
    {"session", READ_CONSISTENCY_SESSION}, {"eventual", READ_CONSISTENCY_EVENTUAL},
    {"cluster", READ_CONSISTENCY_CLUSTER}, {NULL, 0},
};

static const struct setting_choice session_states[] = {
    {"off", SESSION_STATE_OFF},
    {"track", SESSION_STATE_TRACK},
    {NULL, 0},
};

static const struct setting_choice backend_pids[] = {
    {"weir", BACKEND_PID_WEIR},
    {"server", BACKEND_PID_SERVER},
    {NULL, 0},
};

static const struct setting_choice shared_listens[] = {
    {"off", SHARED_LISTEN_OFF},
    {"on", SHARED_LISTEN_ON},
    {NULL, 0},
};

static const struct setting_choice on_session_states[] = {
    {"pin", ON_STATE_PIN},
    {"reject", ON_STATE_REJECT},
    {"log", ON_STATE_LOG},
    {"ignore", ON_STATE_IGNORE},
    {NULL, 0},
};

static const struct setting_choice load_balances[] = {
    {"round-robin", BALANCE_ROUND_ROBIN},
    {"disable", BALANCE_DISABLE},
    {NULL, 0},
};

static const struct setting pooler_settings[] = {
    {"admin_users", LIST, POOLER(admin_users), LIVE, "", 0, 0, NULL,
     "Users who may run every command of the console."},
    {"application_name_add_host", BOOL, POOLER(application_name_add_host), LIVE, "0", 0, 0, NULL,
     "Sends NAME - HOST:PORT as application_name, with the client's address; app without a name."},
    {"auth_dbname", STRING, POOLER(auth_dbname), LIVE, "", 0, 0, NULL,
     "Database in which auth_query runs; empty = the one that the client asks for."},
    {"auth_file", STRING, POOLER(auth_file), LIVE, "", 0, 0, NULL,
     "File with the users and their secrets, one \"user\" \"secret\" on each line."},
    {"auth_hba_file", STRING, POOLER(auth_hba_file), LIVE, "", 0, 0, NULL,
     "File with the rules of auth_type = hba, in the format of PostgreSQL's pg_hba.conf; its own "
     "section below says what may stand in it."},
    {"auth_ident_file", STRING, POOLER(auth_ident_file), LIVE, "", 0, 0, NULL,
     "File with the maps that rules with the methods peer and cert may name, one MAP SYSTEM-NAME "
     "DATABASE-USER on each line."},
    {"auth_ldap_options", STRING, POOLER(auth_ldap_options), LIVE | SECRET, "", 0, 0, NULL,
     "Where auth_type = ldap finds its directory: ldapserver, ldapport, ldapscheme, ldaptls, "
     "ldapprefix, ldapsuffix, ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, "
     "ldapsearchfilter and ldapurl with PostgreSQL's meaning."},
    {"auth_query", STRING, POOLER(auth_query), LIVE, AUTH_QUERY_DEFAULT, 0, 0, NULL,
     "Asks PostgreSQL for the secret of a user who is not in auth_file: $1 is the user's name, "
     "the answer is one row with the name and the secret, which is NULL for one who must not log "
     "in."},
    {"auth_type", ENUM, POOLER(auth_type), LIVE, "md5", 0, 0, auth_types,
     "How clients log in. any lets everybody in, for databases whose entry has a user; trust lets "
     "known users in; plain asks for the password in clear text; md5 sends an MD5 challenge, or "
     "SCRAM to users whose secret is a SCRAM secret; scram-sha-256 serves plain and SCRAM "
     "secrets; cert takes the names in the client's certificate, one of which has to be the "
     "user's, and needs "
     "client_tls_sslmode = verify-full; pam and ldap have the password, in clear text, judged by "
     "the PAM service pgbouncer "
     "or by the directory of auth_ldap_options, and log in to servers with it; hba chooses for "
     "each "
     "connection by the rules in auth_hba_file."},
    {"auth_user", STRING, POOLER(auth_user), LIVE, "", 0, 0, NULL,
     "Runs auth_query, on a pool of its own; empty = only the users in auth_file can log in."},
    {"autodb_idle_timeout", TIME, POOLER(autodb_idle_timeout_us), LIVE, "3600", 0, TIME_MAX, NULL,
     "Drops a database that was made from the entry * when nobody has used it for so long."},
    {"cancel_wait_timeout", TIME, POOLER(cancel_wait_timeout_us), LIVE, "10", 0, TIME_MAX, NULL,
     "How long a cancel request may take, and how long a server whose client has left may take to "
     "come to rest by a cancel and a ROLLBACK before it is closed; 0 = without end."},
    {"client_idle_timeout", TIME, POOLER(client_idle_timeout_us), LIVE, "0", 0, TIME_MAX, NULL,
     "Closes a client that has no server and has asked nothing for so long; 0 = never."},
    {"client_login_timeout", TIME, POOLER(client_login_timeout_us), LIVE, "60", 0, TIME_MAX, NULL,
     "How long a client may take to log in; 0 = without end."},
    {"client_tls13_ciphers", STRING, POOLER(client_tls13_ciphers), LIVE, "", 0, 0, NULL,
     "Cipher suites of TLS 1.3 for clients, divided by colons; empty = those of the library."},
    {"client_tls_ca_file", STRING, POOLER(client_tls_ca_file), LIVE, "", 0, 0, NULL,
     "File with the CAs that client certificates have to be signed by, where they are verified."},
    {"client_tls_cert_file", STRING, POOLER(client_tls_cert_file), LIVE, "", 0, 0, NULL,
     "File with the certificate that is shown to clients, and the chain behind it."},
    {"client_tls_ciphers", STRING, POOLER(client_tls_ciphers), LIVE, "default", 0, 0, NULL,
     "Ciphers of TLS 1.2 and older for clients: a list as OpenSSL has it, or default (all strong "
     "ones), secure (only those with forward secrecy and authenticated encryption), fast (the same "
     "first), normal (OpenSSL's own default) or all."},
    {"client_tls_dheparams", STRING, POOLER(client_tls_dheparams), LIVE, "auto", 0, 0, NULL,
     "auto: Diffie-Hellman groups that fit the certificate; none: no exchange of that kind."},
    {"client_tls_ecdhcurve", STRING, POOLER(client_tls_ecdhcurve), LIVE, "auto", 0, 0, NULL,
     "Curve for the exchange of keys with clients: auto (those of the library), none (finite "
     "fields instead of curves) or a name such as prime256v1."},
    {"client_tls_key_file", STRING, POOLER(client_tls_key_file), LIVE, "", 0, 0, NULL,
     "File with the private key of the certificate that is shown to clients, without a password."},
    {"client_tls_protocols", STRING, POOLER(client_tls_protocols), LIVE, "secure", 0, 0, NULL,
     "Versions of TLS for clients: secure (tlsv1.2 and tlsv1.3), all, or a list of tlsv1.0, "
     "tlsv1.1, tlsv1.2 and tlsv1.3, divided by commas."},
    {"client_tls_sslmode", ENUM, POOLER(client_tls_sslmode), LIVE, "disable", 0, 0, sslmodes,
     "Whether clients over TCP may use TLS (allow and prefer), must (require), and must show a "
     "certificate that the CA has signed (verify-ca and verify-full)."},
    {"conffile", STRING, POOLER(conffile), LIVE, "", 0, 0, NULL,
     "The file that the next RELOAD reads; at first the one given at start."},
    {"default_pool_size", INT, POOLER(default_pool_size), LIVE, "20", 0, POOL_SIZE_MAX, NULL,
     "Server connections of one pool, which serves one user of one database, on each node; "
     "0 = no limit."},
    {"disable_pqexec", BOOL, POOLER(disable_pqexec), NONE, "0", 0, 0, NULL,
     "Refuses simple queries, so that nobody can append a second statement to a first."},
    {"dns_max_ttl", TIME, POOLER(dns_max_ttl_us), LIVE, "15", 0, TIME_MAX, NULL,
     "How long the addresses of a host name are believed before it is looked up again, whatever "
     "time to live DNS gives them."},
    {"dns_nxdomain_ttl", TIME, POOLER(dns_nxdomain_ttl_us), LIVE, "15", 0, TIME_MAX, NULL,
     "How long a failed lookup is believed."},
    {"dns_zone_check_period", TIME, POOLER(dns_zone_check_period_us), LIVE, "0", 0, TIME_MAX, NULL,
     "How often the serials of the zones of all host names are asked for; where one has grown, its "
     "names are looked up again; 0 = never."},
    {"idle_transaction_timeout", TIME, POOLER(idle_transaction_timeout_us), LIVE, "0", 0, TIME_MAX,
     NULL, "Closes a client that rests in a transaction for so long; 0 = never."},
    {"ignore_startup_parameters", LIST, POOLER(ignore_startup_parameters), LIVE, "", 0, 0, NULL,
     "Parameters that clients may name at login and that are then dropped."},
    {"job_name", STRING, POOLER(job_name), COMPAT, "pgbouncer", 0, 0, NULL,
     "Accepted for old files, without effect."},
    {"listen_addr", LIST, POOLER(listen_addr), NONE, "", 0, 0, NULL,
     "Addresses or names on which clients are taken over TCP; * = all addresses, empty = none."},
    {"listen_backlog", INT, POOLER(listen_backlog), NONE, "128", INT_MIN, INT_MAX, NULL,
     "Connections that the kernel keeps until they are accepted; negative = as many as it allows."},
    {"listen_port", INT, POOLER(listen_port), EXACT, "6432", 0, 65535, NULL,
     "The TCP port, which is also part of the Unix socket's name; 0 = one that the system "
     "chooses."},
    {"log_connections", BOOL, POOLER(log_connections), LIVE, "1", 0, 0, NULL,
     "Logs each attempt of a client to log in, and each new connection to a server."},
    {"log_disconnections", BOOL, POOLER(log_disconnections), LIVE, "1", 0, 0, NULL,
     "Logs the end of each connection with the reason."},
    {"log_pooler_errors", BOOL, POOLER(log_pooler_errors), LIVE, "1", 0, 0, NULL,
     "Logs the errors that clients are told."},
    {"log_stats", BOOL, POOLER(log_stats), LIVE, "1", 0, 0, NULL,
     "Logs a line of totals in each stats_period."},
    {"logfile", STRING, POOLER(logfile), LIVE, "", 0, 0, NULL,
     "File to which the log is appended, beside standard error; empty = none."},
    {"login_notify_message", STRING, POOLER(login_notify_message), LIVE, "", 0, 0, NULL,
     "Sent to each client as a NOTICE at the end of its login; empty = nothing."},
    {"max_client_conn", INT, POOLER(max_client_conn), LIVE, "100", 0, INT_MAX, NULL,
     "Clients that may be connected at one time."},
    {"max_db_client_connections", INT, POOLER(max_db_client_connections), LIVE, "0", 0, INT_MAX,
     NULL, "Clients that one database may have, counted from the startup packet; 0 = no limit."},
    {"max_db_connections", INT, POOLER(max_db_connections), LIVE, "0", 0, POOL_SIZE_MAX, NULL,
     "Server connections that one database may have, of all users, nodes and workers together; "
     "0 = no limit."},
    {"max_packet_size", BYTES, POOLER(max_packet_size), LIVE, "2147483647", 0, UINT32_MAX, NULL,
     "The largest message that may pass, in bytes; never more than 1 GiB."},
    {"max_prepared_statements", INT, POOLER(max_prepared_statements), LIVE, "200", 0, 1000000, NULL,
     "Prepared statements kept on each server connection; 0 = names are passed on as they are."},
    {"max_user_client_connections", INT, POOLER(max_user_client_connections), LIVE, "0", 0, INT_MAX,
     NULL, "Clients that one user may have, counted from the startup packet; 0 = no limit."},
    {"max_user_connections", INT, POOLER(max_user_connections), LIVE, "0", 0, POOL_SIZE_MAX, NULL,
     "Server connections that one user may have, of all databases together; 0 = no limit."},
    {"min_pool_size", INT, POOLER(min_pool_size), LIVE, "0", 0, POOL_SIZE_MAX, NULL,
     "Server connections that each pool keeps on each node while it has clients, and "
     "always where its database entry has a user; 0 = none."},
    {"peer_id", INT, POOLER(peer_id), LIVE | EXACT, "0", 0, 16383, NULL,
     "Number of this process among its peers, which share cancel requests; 0 = it has none."},
    {"pidfile", STRING, POOLER(pidfile), NONE, "", 0, 0, NULL,
     "File that holds the process id while the process runs; empty = none."},
    {"pkt_buf", INT, POOLER(pkt_buf), COMPAT, "4096", INT_MIN, INT_MAX, NULL,
     "Accepted for old files, without effect: buffers need no tuning."},
    {"pool_mode", ENUM, POOLER(pool_mode), LIVE, "session", 0, 0, pool_modes,
     "When a server goes back to its pool: when the client leaves, or after each transaction; "
     "statement forbids transactions of several statements besides."},
    {"pool_idle_timeout", TIME, POOLER(pool_idle_timeout_us), LIVE, "0", 0, TIME_MAX, NULL,
     "Forgets a pool that has had neither clients nor servers for so long; 0 = never."},
    {"query_timeout", TIME, POOLER(query_timeout_us), LIVE, "0", 0, TIME_MAX, NULL,
     "Closes a client whose query takes longer, and cancels that; 0 = never."},
    {"query_wait_notify", INT, POOLER(query_wait_notify), LIVE, "5", 0, INT_MAX, NULL,
     "Seconds that a client waits for a server before a NOTICE tells it so; 0 = never."},
    {"query_wait_timeout", TIME, POOLER(query_wait_timeout_us), LIVE, "120", 0, TIME_MAX, NULL,
     "Closes a client that has waited so long for a server; 0 = never."},
    {"reserve_pool_size", INT, POOLER(reserve_pool_size), LIVE, "0", 0, POOL_SIZE_MAX, NULL,
     "Server connections beyond the pool size, on each node, for those who have waited "
     "reserve_pool_timeout; 0 = none."},
    {"reserve_pool_timeout", TIME, POOLER(reserve_pool_timeout_us), LIVE, "5", 0, TIME_MAX, NULL,
     "How long the first client in line waits before the reserve opens; 0 = the reserve is off."},
    {"resolv_conf", STRING, POOLER(resolv_conf), NONE, "", 0, 0, NULL,
     "File like /etc/resolv.conf that names the name servers, read at the start; empty = that "
     "one."},
    {"sbuf_loopcnt", INT, POOLER(sbuf_loopcnt), LIVE | COMPAT, "5", INT_MIN, INT_MAX, NULL,
     "Accepted for old files, without effect: reads are bounded by their size."},
    {"scram_iterations", INT, POOLER(scram_iterations), LIVE, "4096", 1, SCRAM_ITERATIONS, NULL,
     "Rounds of hashing that SCRAM asks of clients whose secret is a plain one."},
    {"server_check_delay", TIME, POOLER(server_check_delay_us), LIVE, "30", 0, TIME_MAX, NULL,
     "A server that has rested for so long is checked before it is lent; 0 = each one, each time."},
    {"server_check_query", STRING, POOLER(server_check_query), LIVE, "<empty>", 0, 0, NULL,
     "The query that it is checked with; <empty> = one without text, no value = no check."},
    {"server_connect_timeout", TIME, POOLER(server_connect_timeout_us), LIVE, "15", 0, TIME_MAX,
     NULL, "How long connecting and logging in to a server may take together; 0 = without end."},
    {"server_fast_close", BOOL, POOLER(server_fast_close), LIVE, "0", 0, 0, NULL,
     "In session mode a server that has to be replaced is closed, and its client told, as soon as "
     "it is between two transactions."},
    {"server_idle_timeout", TIME, POOLER(server_idle_timeout_us), LIVE, "600", 0, TIME_MAX, NULL,
     "Closes a server connection that was not used for so long; 0 = never."},
    {"server_lifetime", TIME, POOLER(server_lifetime_us), LIVE, "3600", 0, TIME_MAX, NULL,
     "Closes a server connection of that age when it is free; 0 = after one use."},
    {"server_login_retry", TIME, POOLER(server_login_retry_us), LIVE, "15", 0, TIME_MAX, NULL,
     "After a failed connect or login, how long to wait before the next; at least 0.1."},
    {"server_reset_query", STRING, POOLER(server_reset_query), LIVE, "DISCARD ALL", 0, 0, NULL,
     "Sent in session mode before a server goes to another client; empty = nothing."},
    {"server_reset_query_always", BOOL, POOLER(server_reset_query_always), LIVE, "0", 0, 0, NULL,
     "Sends it in every pool mode."},
    {"server_round_robin", BOOL, POOLER(server_round_robin), LIVE, "0", 0, 0, NULL,
     "Lends the server that rested longest instead of the one used last."},
    {"server_tls13_ciphers", STRING, POOLER(server_tls13_ciphers), LIVE, "", 0, 0, NULL,
     "Cipher suites of TLS 1.3 towards servers, divided by colons; empty = those of the library, "
     "which probes always take."},
    {"server_tls_ca_file", STRING, POOLER(server_tls_ca_file), LIVE, "", 0, 0, NULL,
     "File with the CAs that servers' certificates have to be signed by, where they are verified; "
     "empty = those that the system trusts."},
    {"server_tls_cert_file", STRING, POOLER(server_tls_cert_file), LIVE, "", 0, 0, NULL,
     "File with the certificate that is shown to servers which ask for one."},
    {"server_tls_ciphers", STRING, POOLER(server_tls_ciphers), LIVE, "default", 0, 0, NULL,
     "Ciphers of TLS 1.2 and older towards servers, as client_tls_ciphers. Probes, which libpq "
     "makes, take those of the system's OpenSSL configuration."},
    {"server_tls_key_file", STRING, POOLER(server_tls_key_file), LIVE, "", 0, 0, NULL,
     "File with the private key of that certificate, without a password. Where nodes are probed, "
     "libpq wants it to be readable for its owner alone."},
    {"server_tls_protocols", STRING, POOLER(server_tls_protocols), LIVE, "secure", 0, 0, NULL,
     "Versions of TLS towards servers, as client_tls_protocols. Probes take all from the oldest to "
     "the newest of them."},
    {"server_tls_sslmode", ENUM, POOLER(server_tls_sslmode), LIVE, "prefer", 0, 0, sslmodes,
     "Whether servers are reached over TLS: never over Unix sockets; if they offer it (allow and "
     "prefer); always (require); always, with a certificate that the CA has signed (verify-ca), "
     "for the host that is dialled (verify-full)."},
    {"so_reuseport", BOOL, POOLER(so_reuseport), NONE, "0", 0, 0, NULL,
     "Lets several processes listen on the same address and port; each needs a unix_socket_dir of "
     "its own. One that gets TERM takes clients for 0.2 seconds more, since the kernel may have "
     "led "
     "some to it already."},
    {"stats_period", INT, POOLER(stats_period), LIVE, "60", 0, INT_MAX, NULL,
     "Seconds over which averages are taken; 0 = none are, and log_stats logs nothing."},
    {"stats_users", LIST, POOLER(stats_users), LIVE, "", 0, 0, NULL,
     "Users who may look at everything in the console and change nothing."},
    {"suspend_timeout", TIME, POOLER(suspend_timeout_us), LIVE, "10", 0, TIME_MAX, NULL,
     "In SUSPEND, closes connections whose peer has not taken its bytes for so long; 0 = never."},
    {"syslog", BOOL, POOLER(syslog), LIVE, "0", 0, 0, NULL, "Sends the log to syslog too."},
    {"syslog_facility", ENUM, POOLER(syslog_facility), LIVE, "daemon", 0, 0, facilities,
     "Facility under which syslog files the lines."},
    {"syslog_ident", STRING, POOLER(syslog_ident), LIVE, "pgbouncer", 0, 0, NULL,
     "Name under which the lines appear in syslog."},
    {"tcp_defer_accept", BOOL, POOLER(tcp_defer_accept), LIVE, "1", 0, 0, NULL,
     "Lets the kernel show a new connection only when it has sent something, or after 45 "
     "seconds."},
    {"tcp_keepalive", BOOL, POOLER(tcp_keepalive), LIVE, "1", 0, 0, NULL,
     "Lets the kernel ask silent peers whether they are still there."},
    {"tcp_keepcnt", INT, POOLER(tcp_keepcnt), LIVE, "0", 0, 127, NULL,
     "Unanswered questions after which a connection is lost; 0 = the system's default."},
    {"tcp_keepidle", INT, POOLER(tcp_keepidle), LIVE, "0", 0, 32767, NULL,
     "Seconds of silence before the first question; 0 = the system's default."},
    {"tcp_keepintvl", INT, POOLER(tcp_keepintvl), LIVE, "0", 0, 32767, NULL,
     "Seconds between two questions; 0 = the system's default."},
    {"tcp_socket_buffer", INT, POOLER(tcp_socket_buffer), LIVE, "0", 0, 1 << 30, NULL,
     "Bytes of the kernel's buffers of a TCP connection, each way; 0 = the system's default."},
    {"tcp_user_timeout", INT, POOLER(tcp_user_timeout), LIVE, "0", 0, INT_MAX, NULL,
     "Milliseconds for which sent data may stay unacknowledged; 0 = the system's default."},
    {"track_extra_parameters", LIST, POOLER(track_extra_parameters), NONE, "IntervalStyle", 0, 0,
     NULL,
     "Further parameters that follow a client from server to server, besides all that PostgreSQL "
     "reports and lets a session set: client_encoding, DateStyle, TimeZone, "
     "standard_conforming_strings, application_name, IntervalStyle, session_authorization, "
     "default_transaction_read_only, and from newer versions scram_iterations and search_path. "
     "What "
     "a server does not report cannot follow."},
    {"transaction_timeout", TIME, POOLER(transaction_timeout_us), LIVE, "0", 0, TIME_MAX, NULL,
     "Closes a client and its server when a transaction takes longer, counted from its first "
     "query; "
     "0 = never."},
    {"unix_socket_dir", STRING, POOLER(unix_socket_dir), NONE, "/tmp", 0, 0, NULL,
     "Directory of the Unix socket, @NAME for an abstract one, empty for none; servers without "
     "a host are sought there too."},
    {"unix_socket_group", STRING, POOLER(unix_socket_group), NONE, "", 0, 0, NULL,
     "Group, by name or number, that the Unix socket is given to; empty = as the process has it."},
    {"unix_socket_mode", INT, POOLER(unix_socket_mode), NONE, "0777", 0, 07777, NULL,
     "Permissions of the Unix socket."},
    {"user", STRING, POOLER(user), NONE, "", 0, 0, NULL,
     "System user that the process becomes when root starts it."},
    {"verbose", INT, POOLER(verbose), LIVE, "0", 0, 10, NULL,
     "1 logs details (DEBUG), 2 and more all of them (NOISE)."},

    {"alert_active_servers", INT, POOLER(alert_active_servers), LIVE | OWN, "45", 0, POOL_SIZE_MAX,
     NULL, "More server connections in use than this count as saturation; 0 = no alert."},
    {"alert_for", TIME, POOLER(alert_for_us), LIVE | OWN, "60", 0, TIME_MAX, NULL,
     "How long saturation must last before the alert starts."},
    {"backend_pid", ENUM, POOLER(backend_pid), LIVE | OWN, "weir", 0, 0, backend_pids,
     "The process id that a client is told: a number of Weir's own, which no process has (weir), "
     "or, "
     "in session mode with session_state = track and without a peer_id, its server's (server), so "
     "that it is the one in pg_stat_activity and pg_locks. Cancel requests work with either."},
    {"console_old_columns", BOOL, POOLER(console_old_columns), LIVE | OWN, "0", 0, 0, NULL,
     "Adds the columns total_requests to SHOW STATS and reserve_pool to SHOW DATABASES, as the "
     "last ones: PgBouncer's former names of total_query_count and reserve_pool_size, which old "
     "exporters read."},
    {"defer_begin", BOOL, POOLER(defer_begin), LIVE | OWN, "1", 0, 0, NULL,
     "With routing = read_write in transaction mode: a BEGIN that comes alone is answered by Weir, "
     "and sent to a server together with the first statement behind it, which tells the node. "
     "Then "
     "now() is the time of that statement."},
    {"gather_bytes", BYTES, POOLER(gather_bytes), LIVE | OWN, "16384", 0, 1 << 20, NULL,
     "A group of messages up to this size is looked at as a whole to find its node; larger ones "
     "go to the primary."},
    {"hba_strict", BOOL, POOLER(hba_strict), LIVE | OWN, "0", 0, 0, NULL,
     "1 refuses to start or to reload with a file of users, rules or maps that has a wrong line or "
     "cannot be read; otherwise such a line is logged and left out."},
    {"http_listen", ADDRESS, POOLER(http_listen), OWN, "", 0, 0, NULL,
     "HOST:PORT for metrics, health and the live page; empty = off."},
    {"max_replica_lag", BYTES, POOLER(choice.max_replica_lag), LIVE | OWN, "0", 0, INT_MAX, NULL,
     "Bytes of WAL (16MB) by which a replica may be behind the primary; one that is farther behind "
     "gets "
     "no reads, whatever read_consistency allows; 0 = no limit."},
    {"max_replica_lag_time", TIME, POOLER(choice.max_replica_lag_time_us), LIVE | OWN, "0", 0, HOUR,
     NULL,
     "The same in time: how old what a replica shows may be, as of its last probe. One that has "
     "replayed everything has no lag, however long the primary has been idle; 0 = no limit."},
    {"on_session_state", ENUM, POOLER(on_session_state), LIVE | OWN, "pin", 0, 0, on_session_states,
     "With session_state = track: what becomes of a client whose session has what only one server "
     "can keep, such as a temporary table, an advisory lock or what a program has set. It keeps "
     "that server until the thing is gone (pin), the statement is refused (reject), a warning is "
     "logged (log), or nothing "
     "(ignore)."},
    {"parse_inline_tokens", INT, POOLER(parse_inline_tokens), OWN, "200", 0, 8000, NULL,
     "Statements up to so many tokens, and never more than 1000, are parsed at once, longer ones "
     "beside the work."},
    {"patroni_url", STRING, POOLER(patroni_url), LIVE | OWN, "", 0, 0, NULL,
     "Base URLs of Patroni's REST API, with commas between: one more source that tells which node "
     "is the primary, and the one that decides when two answer as primaries."},
    {"pin_limit", INT, POOLER(pin_limit), LIVE | OWN, "0", 0, POOL_SIZE_MAX, NULL,
     "How many clients of a pool may keep their servers for their sessions' sake; the connection "
     "of "
     "a further one ends. 0 = one less than the pool's size, and at least one."},
    {"primary_wait_timeout", TIME, POOLER(primary_wait_timeout_us), LIVE | OWN, "30", 0, TIME_MAX,
     NULL, "How long a client that needs the primary waits when there is none."},
    {"probe_fall", INT, POOLER(probe_fall), LIVE | OWN, "2", 1, 1000, NULL,
     "Failed probes after which a node counts as down."},
    {"probe_interval", TIME, POOLER(probe_interval_us), LIVE | OWN, "1.0", PROBE_MIN, HOUR, NULL,
     "Time from one probe of a node to the next."},
    {"probe_password", STRING, POOLER(probe_password), LIVE | OWN | SECRET, "", 0, 0, NULL,
     "Password of probe_user."},
    {"probe_rise", INT, POOLER(probe_rise), LIVE | OWN, "2", 1, 1000, NULL,
     "Good probes after which a node that was down counts as up."},
    {"probe_timeout", TIME, POOLER(probe_timeout_us), LIVE | OWN, "3", PROBE_MIN, HOUR, NULL,
     "How long the answer to a probe may take."},
    {"probe_user", STRING, POOLER(probe_user), LIVE | OWN, "", 0, 0, NULL,
     "User who asks the nodes for their role and progress; empty = the user of the database "
     "entry."},
    {"read_consistency", ENUM, POOLER(read_consistency), LIVE | OWN, "auto", 0, 0,
     read_consistencies,
     "What a read on a replica must see: every write that this process acknowledged to anyone "
     "before (database), the client's own writes (session), whatever is there (eventual), or every "
     "write that anyone committed before, past this process too (cluster): for that each read "
     "waits for the next probe, some milliseconds. auto is database, or cluster where so_reuseport "
     "or "
     "[peers] tell of other processes."},
    {"replica_allow", STRING, POOLER(replica_allow), LIVE | OWN, "", 0, 0, NULL,
     "Functions and foreign tables that may be used on replicas whatever the catalog says of them: "
     "names with or without their schema, divided by commas."},
    {"replica_choice", ENUM, POOLER(choice.replica_choice), LIVE | OWN, "least_busy", 0, 0,
     replica_choices,
     "Which of the replicas that may serve a read does: the one with the fewest busy servers for "
     "its weight (least_busy), one after the other by weight (round_robin), or the one whose "
     "probes are answered soonest, times its busy servers for its weight (latency)."},
    {"replica_error_limit", INT, POOLER(fitness.error_limit), LIVE | OWN, "20", 0, POOL_SIZE_MAX,
     NULL,
     "A replica whose servers fail more often than this within replica_error_window gets no reads "
     "for as long, if another one can serve them. It counts when they cannot be reached, refuse a "
     "login for want of room, are lost, or give up a read for the sake of recovery, but no error "
     "of a statement; 0 = no limit."},
    {"replica_error_window", TIME, POOLER(fitness.error_window_us), LIVE | OWN, "10", PROBE_MIN,
     HOUR, NULL,
     "Time in which these failures are counted, for which the replica is left out, and for which "
     "it is on trial afterwards: with a sixteenth of its weight, and left out for twice as long at "
     "the next failure."},
    {"replica_fallback", ENUM, POOLER(choice.replica_fallback), LIVE | OWN, "1", 0, 0,
     replica_fallbacks, "Lets the primary serve reads when no replica can (1), or not (0)."},
    {"replica_wait", TIME, POOLER(replica_wait_us), LIVE | OWN, "0", 0, TIME_MAX, NULL,
     "How long a read waits for a replica that is fresh enough before the primary serves it."},
    {"retry_timeout", TIME, POOLER(retry_timeout_us), LIVE | OWN, "60", 0, TIME_MAX, NULL,
     "How long after it came a read may be sent to another node, unseen by the client, when a "
     "replica refuses or cancels it or is lost; 0 = never."},
    {"routing", ENUM, POOLER(routing), LIVE | OWN, "off", 0, 0, routings,
     "Which node runs a statement: the next host of the list (off), replicas for reads and the "
     "primary for the rest (read_write), always the primary, or always a replica. shadow sends "
     "everything to the primary and counts in SHOW SHADOW what read_write would have done."},
    {"session_state", ENUM, POOLER(session_state), LIVE | OWN, "off", 0, 0, session_states,
     "Whether what a client sets in its session (SET, set_config, RESET, roles) follows it from "
     "server to server in transaction and statement mode (track), or stays where it was set (off). "
     "Start-up parameters of every kind are then taken. In session mode track gives a client at "
     "its "
     "login a server that was started with them, so that RESET goes back to them; it is cleaned "
     "with DISCARD ALL and then serves those who ask for the same."},
    {"shapes_max", INT, POOLER(shapes_max), OWN, "5000", 16, 1000000, NULL,
     "Statement shapes whose meaning each worker remembers."},
    {"shared_listen", ENUM, POOLER(shared_listen), LIVE | OWN, "on", 0, 0, shared_listens,
     "With session_state = track: clients that LISTEN are served by one connection for each "
     "database and user, beyond pool_size, and keep no server (on); or each keeps its server for "
     "as long as it listens (off). Who listens already goes on as it does."},
    {"slow_start", TIME, POOLER(fitness.slow_start_us), LIVE | OWN, "0", 0, HOUR, NULL,
     "How long a replica that was down or has been started anew takes from a sixteenth of its "
     "weight to all of it; 0 = it has it at once."},
    {"workers", INT, POOLER(workers), OWN, "1", 1, 64, NULL, "Threads that serve clients."},
    {"zone", STRING, POOLER(fitness.zone), LIVE | OWN, "", 0, 0, NULL,
     "Where this process stands, any word: reads go to replicas of the same zone, to those of "
     "others only while none of it can serve them; empty = all zones are alike."},
};

static const struct setting database_settings[] = {
    {"dbname", STRING, DATABASE(dbname), LIVE | RECONNECT, NULL, 0, 0, NULL,
     "Name of the database on the server; without it the entry's own name."},
    {"host", LIST, DATABASE(host), LIVE, NULL, 0, 0, NULL,
     "Host names, addresses or socket directories, divided by commas; without it the Unix socket "
     "in unix_socket_dir."},
    {"port", LIST, DATABASE(port), LIVE, NULL, 0, 0, NULL,
     "One port for all hosts, 5432 without it, or one for each."},
    {"user", STRING, DATABASE(user), LIVE | RECONNECT, NULL, 0, 0, NULL,
     "All clients of this entry share one pool that logs in as this user."},
    {"password", STRING, DATABASE(password), LIVE | SECRET, NULL, 0, 0, NULL,
     "Password of that user."},
    {"auth_user", STRING, DATABASE(auth_user), LIVE, NULL, 0, 0, NULL,
     "Instead of the global auth_user."},
    {"auth_query", STRING, DATABASE(auth_query), LIVE | RECONNECT, NULL, 0, 0, NULL,
     "Instead of the global auth_query."},
    {"auth_dbname", STRING, DATABASE(auth_dbname), LIVE | RECONNECT, NULL, 0, 0, NULL,
     "Instead of the global auth_dbname."},
    {"pool_size", INT, DATABASE(pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Instead of default_pool_size."},
    {"min_pool_size", INT, DATABASE(min_pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Instead of the global min_pool_size."},
    {"reserve_pool_size", INT, DATABASE(reserve_pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Instead of the global reserve_pool_size."},
    {"reserve_pool", INT, DATABASE(reserve_pool_size), LIVE | COMPAT, NULL, 0, POOL_SIZE_MAX, NULL,
     "The former name of reserve_pool_size."},
    {"max_db_connections", INT, DATABASE(max_db_connections), LIVE, NULL, INT_MIN, POOL_SIZE_MAX,
     NULL, "Before the global one; 0 or less = as global."},
    {"max_db_client_connections", INT, DATABASE(max_db_client_connections), LIVE, NULL, INT_MIN,
     INT_MAX, NULL, "Before the global one; 0 or less = as global."},
    {"pool_mode", ENUM, DATABASE(pool_mode), LIVE, NULL, 0, 0, pool_modes,
     "Instead of the global pool_mode."},
    {"query_wait_timeout", TIME, DATABASE(query_wait_timeout_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Instead of the global one, in whole seconds."},
    {"server_lifetime", TIME, DATABASE(server_lifetime_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Instead of the global one, in whole seconds; 0 = as global."},
    {"load_balance_hosts", ENUM, DATABASE(load_balance_hosts), LIVE | RECONNECT, NULL, 0, 0,
     load_balances,
     "Without routing each new connection takes the next host (round-robin), or the first one "
     "until "
     "it fails, then the next (disable)."},
    {"connect_query", STRING, DATABASE(connect_query), LIVE | RECONNECT, NULL, 0, 0, NULL,
     "Run after each login to a server; an error of it is logged and passed over."},
    {"client_encoding", STRING, DATABASE(client_encoding), LIVE, NULL, 0, 0, NULL,
     "Start-up value of new server connections."},
    {"datestyle", STRING, DATABASE(datestyle), LIVE, NULL, 0, 0, NULL,
     "Start-up value of new server connections."},
    {"timezone", STRING, DATABASE(timezone), LIVE, NULL, 0, 0, NULL,
     "Start-up value of new server connections."},
    {"application_name", STRING, DATABASE(application_name), LIVE, NULL, 0, 0, NULL,
     "Start-up value of new server connections."},
    {"routing", ENUM, DATABASE(routing), LIVE | OWN, NULL, 0, 0, routings,
     "Instead of the global routing."},
    {"read_consistency", ENUM, DATABASE(read_consistency), LIVE | OWN, NULL, 0, 0,
     read_consistencies, "Instead of the global read_consistency."},
    {"replica_allow", STRING, DATABASE(replica_allow), LIVE | OWN, NULL, 0, 0, NULL,
     "Instead of the global replica_allow."},
    {"replica_choice", ENUM, DATABASE(choice.replica_choice), LIVE | OWN, NULL, 0, 0,
     replica_choices, "Instead of the global replica_choice."},
    {"replica_fallback", ENUM, DATABASE(choice.replica_fallback), LIVE | OWN, NULL, 0, 0,
     replica_fallbacks, "Instead of the global replica_fallback."},
    {"max_replica_lag", BYTES, DATABASE(choice.max_replica_lag), LIVE | OWN, NULL, 0, INT_MAX, NULL,
     "Instead of the global max_replica_lag."},
    {"max_replica_lag_time", TIME, DATABASE(choice.max_replica_lag_time_us), LIVE | OWN, NULL, 0,
     HOUR, NULL, "Instead of the global max_replica_lag_time."},
    {"session_state", ENUM, DATABASE(session_state), LIVE | OWN | RECONNECT, NULL, 0, 0,
     session_states, "Instead of the global session_state."},
    {"backend_pid", ENUM, DATABASE(backend_pid), LIVE | OWN, NULL, 0, 0, backend_pids,
     "Instead of the global backend_pid."},
    {"on_session_state", ENUM, DATABASE(on_session_state), LIVE | OWN, NULL, 0, 0,
     on_session_states, "Instead of the global on_session_state."},
    {"shared_listen", ENUM, DATABASE(shared_listen), LIVE | OWN, NULL, 0, 0, shared_listens,
     "Instead of the global shared_listen."},
    {"sslnegotiation", ENUM, DATABASE(sslnegotiation), LIVE | OWN | RECONNECT, NULL, 0, 0,
     sslnegotiations,
     "How TLS begins: after a request (postgres), or at once, which saves a round trip and which "
     "PostgreSQL 17 and newer understand (direct); the latter needs server_tls_sslmode = require "
     "or stricter."},
    {"alert_active_servers", INT, DATABASE(alert_active_servers), LIVE | OWN, NULL, 0,
     POOL_SIZE_MAX, NULL, "An alert of its own for the servers of this database; 0 = none."},
    {"probe_user", STRING, DATABASE(probe_user), LIVE | OWN, NULL, 0, 0, NULL,
     "Instead of the global probe_user."},
    {"probe_password", STRING, DATABASE(probe_password), LIVE | OWN | SECRET, NULL, 0, 0, NULL,
     "Password of that user."},
    {"patroni_url", STRING, DATABASE(patroni_url), LIVE | OWN, NULL, 0, 0, NULL,
     "Instead of the global patroni_url."},
};

static const struct setting user_settings[] = {
    {"pool_size", INT, USER(pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Size of this user's pools, before the database's and the global one."},
    {"reserve_pool_size", INT, USER(reserve_pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Before the database's and the global one."},
    {"max_user_connections", INT, USER(max_user_connections), LIVE, NULL, INT_MIN, POOL_SIZE_MAX,
     NULL, "Before the global one; 0 or less = as global."},
    {"max_user_client_connections", INT, USER(max_user_client_connections), LIVE, NULL, INT_MIN,
     INT_MAX, NULL, "Before the global one; 0 or less = as global."},
    {"pool_mode", ENUM, USER(pool_mode), LIVE, NULL, 0, 0, pool_modes,
     "Before the database's and the global one."},
    {"routing", ENUM, USER(routing), LIVE | OWN, NULL, 0, 0, routings,
     "Before the database's and the global one, in databases that are routed; off counts as "
     "primary."},
    {"read_consistency", ENUM, USER(read_consistency), LIVE | OWN, NULL, 0, 0, read_consistencies,
     "Before the database's and the global one."},
    {"on_session_state", ENUM, USER(on_session_state), LIVE | OWN, NULL, 0, 0, on_session_states,
     "Instead of that of the database and the global one."},
    {"query_wait_timeout", TIME, USER(query_wait_timeout_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Before the database's and the global one, in whole seconds."},
    {"query_timeout", TIME, USER(query_timeout_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Before the global one, in whole seconds; 0 = as global."},
    {"idle_transaction_timeout", TIME, USER(idle_transaction_timeout_us), LIVE, NULL, 0, TIME_MAX,
     NULL, "Before the global one, in whole seconds; 0 = as global."},
    {"transaction_timeout", TIME, USER(transaction_timeout_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Before the global one, in whole seconds; 0 = as global."},
    {"client_idle_timeout", TIME, USER(client_idle_timeout_us), LIVE, NULL, 0, TIME_MAX, NULL,
     "Before the global one, in whole seconds; 0 = as global."},
};

static const struct setting node_settings[] = {
    {"weight", INT, NODE(weight), LIVE | OWN, "1", 0, 1000, NULL,
     "Share of the reads, against the other replicas' weights; 0 = reads only while no other "
     "replica can serve them."},
    {"zone", STRING, NODE(zone), LIVE | OWN, NULL, 0, 0, NULL,
     "Where the node stands, for zone in [pgbouncer]; any word."},
};

static const struct setting peer_settings[] = {
    {"host", STRING, PEER(host), LIVE, NULL, 0, 0, NULL,
     "Host name, address or socket directory of the peer; required."},
    {"port", INT, PEER(port), LIVE | EXACT, "6432", 1, 65535, NULL, "Its port."},
    {"pool_size", INT, PEER(pool_size), LIVE, NULL, 0, POOL_SIZE_MAX, NULL,
     "Cancel requests that may be on their way to it at one time, instead of "
     "default_pool_size; 0 = no limit."},
};

static const struct {
    const struct setting *settings;
    size_t count;
} scopes[SETTING_SCOPE_COUNT] = {
    [SETTING_SCOPE_POOLER] = {pooler_settings, COUNT(pooler_settings)},
    [SETTING_SCOPE_DATABASE] = {database_settings, COUNT(database_settings)},
    [SETTING_SCOPE_USER] = {user_settings, COUNT(user_settings)},
    [SETTING_SCOPE_NODE] = {node_settings, COUNT(node_settings)},
    [SETTING_SCOPE_PEER] = {peer_settings, COUNT(peer_settings)},
};

size_t setting_count(enum setting_scope scope) {
    return scopes[scope].count;
}

const struct setting *setting_at(enum setting_scope scope, size_t index) {
    CHECK(index < scopes[scope].count);
    return &scopes[scope].settings[index];
}

const struct setting *setting_find(enum setting_scope scope, struct bytes name) {
    for (size_t i = 0; i < scopes[scope].count; i++) {
        const struct setting *setting = &scopes[scope].settings[i];
        if (bytes_equal_text(name, setting->name)) return setting;
    }
    return NULL;
}

static unsigned smaller(unsigned a, unsigned b) {
    return a < b ? a : b;
}

/* Levenshtein's distance: single letters to insert, drop or replace. One row of the matrix is
 * kept; both texts are shorter than NAME_BYTES_MAX. */
static unsigned distance(struct bytes a, struct bytes b) {
    unsigned row[NAME_BYTES_MAX + 1];
    for (unsigned j = 0; j <= b.len; j++) row[j] = j;
    for (unsigned i = 0; i < a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (unsigned j = 0; j < b.len; j++) {
            unsigned replaced = diagonal + (a.at[i] == b.at[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = smaller(replaced, smaller(row[j], diagonal) + 1);
        }
    }
    return row[b.len];
}

const char *setting_nearest(enum setting_scope scope, struct bytes name) {
    if (name.len == 0 || name.len >= NAME_BYTES_MAX) return NULL;
    const char *nearest = NULL;
    unsigned least = DISTANCE_MAX(name.len) + 1;
    for (size_t i = 0; i < scopes[scope].count; i++) {
        const char *known = scopes[scope].settings[i].name;
        unsigned far = distance(name, bytes_of_text(known));
        if (far < least) {
            least = far;
            nearest = known;
        }
    }
    return nearest;
}
