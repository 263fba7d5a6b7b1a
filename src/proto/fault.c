/*
 * The table of faults, and ErrorResponse in both directions; see proto/fault.h.
 *
 *      'E' Int32 length { Byte1 field, String value } ... Byte1 0
 *
 * Where PgBouncer knows the fault, its text and its SQLSTATE (08P01, protocol_violation, for
 * nearly all) stand here unchanged: drivers map the class 08 to a lost connection, and scripts
 * match on the words. DETAIL and HINT are ours. What PgBouncer does not know carries the SQLSTATE
 * that PostgreSQL gives in the same case. So does a server that went away: 08006, 08007 or 57P01
 * tell an application more than 08P01 would.
 */
#include "proto/fault.h"

#include "core/check.h"

#define PROTOCOL_VIOLATION "08P01"

static const struct fault faults[FAULT_COUNT] = {
    [FAULT_BAD_PACKET_HEADER] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "bad packet header: '%s'",
         NULL, "Only PostgreSQL clients are served here; TLS starts with an SSLRequest."},
    [FAULT_STARTUP_LENGTH] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                              "bad packet header: '%s'",
                              "The length of the first packet is not one that it may have.",
                              "Only PostgreSQL clients are served here."},
    [FAULT_STARTUP_LAYOUT] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "invalid startup packet layout: expected terminator as last byte",
         "Names and values have to end in a zero byte, and the list of them too.",
         "Use a client library that speaks PostgreSQL's protocol."},
    [FAULT_STARTUP_TOO_MANY] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                "too many startup parameters", "At most %s are taken.",
                                "Set parameters with SET after the login."},
    [FAULT_PROTOCOL_2] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "old V2 protocol not supported", NULL,
         "Use a client library that speaks protocol 3.0 (PostgreSQL 7.4 or newer)."},
    [FAULT_PROTOCOL_UNSUPPORTED] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "bad packet header: '%s'",
         "The version of the protocol that it asks for is not known.",
         "Use a client library that speaks protocol 3.0 (PostgreSQL 7.4 or newer)."},
    [FAULT_BYTES_AFTER_SSL_REQUEST] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "received unencrypted data after SSL request",
         "This may be a bug of the client or somebody between it and this server.", NULL},
    [FAULT_BYTES_AFTER_GSS_REQUEST] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "received unencrypted data after GSSAPI encryption request",
         "This may be a bug of the client or somebody between it and this server.", NULL},
    [FAULT_SSL_AGAIN] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                         "SSL req inside SSL", NULL, NULL},
    [FAULT_SSL_REQUIRED] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                            "SSL required", NULL, "Connect with sslmode=require or stricter."},
    [FAULT_PARAMETER_UNSUPPORTED] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "unsupported startup parameter: %s",
         "It is neither among the parameters that follow a client nor ignored.",
         "Name it in track_extra_parameters to have it follow the client, or in "
         "ignore_startup_parameters to have it dropped."},
    [FAULT_OPTION_UNSUPPORTED] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "unsupported startup parameter in options: %s",
         "It is neither among the parameters that follow a client nor ignored.",
         "Name it in track_extra_parameters to have it follow the client, or in "
         "ignore_startup_parameters to have it dropped; options there drops all that are unknown."},
    [FAULT_OPTIONS_SYNTAX] =
        {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "unsupported options startup parameter: only '-c config=val' and '--config=val' are "
         "allowed",
         "Each option needs a name and a value.",
         "Set other things with SET after the login, or add options to ignore_startup_parameters."},
    [FAULT_REPLICATION_VALUE] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                 "invalid value for parameter \"replication\": \"%s\"", NULL,
                                 "Give \"database\" or a truth value."},
    [FAULT_NO_USERNAME] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "no username supplied", "The first packet of the client has no user.",
                           "Give a user name in the connection string."},
    [FAULT_USERNAME_TOO_LONG] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                 "username too long", "User names may have up to 127 bytes.", NULL},
    [FAULT_STARTUP_AGAIN] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                             "client re-sent startup pkt", "The login was under way already.",
                             NULL},
    [FAULT_PASSWORD_TOO_EARLY] = {FAULT_COUNTER_STARTUP, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                  "client password pkt before startup packet",
                                  "A connection begins with a startup packet.", NULL},
    [FAULT_MAX_CLIENT_CONN] = {FAULT_COUNTER_LIMIT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                               "no more connections allowed (max_client_conn)",
                               "The pooler has as many clients as it may have.",
                               "Close connections that are not needed, or raise max_client_conn."},
    [FAULT_MAX_DB_CLIENT_CONNECTIONS] =
        {FAULT_COUNTER_LIMIT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "client connections exceeded (max_db_client_connections)",
         "The database has as many clients as it may have.",
         "Close connections that are not needed, or raise max_db_client_connections."},
    [FAULT_MAX_USER_CLIENT_CONNECTIONS] =
        {FAULT_COUNTER_LIMIT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "client connections exceeded (max_user_client_connections)",
         "The user has as many clients as it may have.",
         "Close connections that are not needed, or raise max_user_client_connections."},
    [FAULT_AUTH_PASSWORD] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                             "password authentication failed", NULL,
                             "Check user name and password; the log of the pooler has the reason."},
    [FAULT_AUTH_SASL] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                         "SASL authentication failed", NULL,
                         "Check user name and password; the log of the pooler has the reason."},
    [FAULT_AUTH_TRUST] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                          "\"trust\" authentication failed", "The user is not known here.",
                          "Add the user to auth_file or [users], or set auth_query."},
    [FAULT_AUTH_PEER] =
        {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "unix socket login rejected",
         NULL, "The system user must be that user, or a map of auth_ident_file must allow it."},
    [FAULT_AUTH_CERT] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                         "certificate authentication failed", NULL,
                         "The name in a valid client certificate must be that user, or a map of "
                         "auth_ident_file must allow it."},
    [FAULT_AUTH_PAM] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                        "PAM authentication failed", NULL, NULL},
    [FAULT_AUTH_LDAP] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                         "LDAP authentication failed", NULL, NULL},
    [FAULT_AUTH_REJECT] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "login rejected", NULL, NULL},
    [FAULT_AUTH_NO_METHOD] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                              "no authentication method is found", NULL,
                              "auth_hba_file has no rule for this user, database and address."},
    [FAULT_AUTH_EMPTY_PASSWORD] =
        {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "empty password returned by client", NULL,
         "Give a password in the connection string or in the password file."},
    [FAULT_AUTH_MECHANISM] =
        {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "client selected an invalid SASL authentication mechanism",
         "Only SCRAM-SHA-256 is offered here.",
         "Use a client library that speaks SCRAM-SHA-256, without channel binding."},
    [FAULT_AUTH_NO_USER] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                            "no such user", "The auth_query returned no row for this name.", NULL},
    [FAULT_AUTH_DATABASE_DISABLED] =
        {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "authentication database \"%s\" is disabled", NULL,
         "ENABLE in the admin console lets auth_query run there again."},
    [FAULT_AUTH_CONFIG] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "bouncer config error", NULL,
                           "The log of the pooler names the setting."},
    [FAULT_NOT_ALLOWED] = {FAULT_COUNTER_LOGIN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "not allowed", NULL,
                           "The console is for the users in admin_users and stats_users."},
    [FAULT_NO_DATABASE] = {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "no such database: %s", NULL,
                           "The [databases] section lists the names that exist here."},
    [FAULT_DATABASE_DISABLED] = {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                 "database \"%s\" is disabled", NULL,
                                 "ENABLE in the admin console lets clients in again."},
    [FAULT_DATABASE_PAUSED] = {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                               "database \"%s\" is paused", NULL,
                               "RESUME in the admin console lets queries through again."},
    [FAULT_DATABASE_CHANGED] =
        {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "database configuration changed",
         "The connection of the server was made for the entry as it was before.", "Connect again."},
    [FAULT_DATABASE_REMOVED] = {FAULT_COUNTER_DATABASE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                "database removed",
                                "Its entry was taken out of the configuration, or KILL closed it.",
                                "Connect again once it is back."},
    [FAULT_LOGIN_TIMEOUT] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "client_login_timeout",
         "The login was not done in client_login_timeout.",
         "Look for a client that connects and says nothing, or raise client_login_timeout."},
    [FAULT_LOGIN_TIMEOUT_SERVER] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "client_login_timeout (server down)",
         "No server connection could be made in client_login_timeout.",
         "The log of the pooler has the reason; see whether the PostgreSQL server is up."},
    [FAULT_QUERY_WAIT_TIMEOUT] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "query_wait_timeout",
         "No server connection became free in that time.",
         "Keep transactions short, raise pool_size, or raise query_wait_timeout."},
    [FAULT_QUERY_TIMEOUT] = {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                             "query timeout", "The query ran longer than query_timeout.",
                             "Make the query faster, or raise query_timeout."},
    [FAULT_QUERY_TIMEOUT_WAITING] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "query_timeout",
         "The query was still waiting for a server connection.",
         "Keep transactions short, raise pool_size, or raise query_timeout."},
    [FAULT_IDLE_TRANSACTION_TIMEOUT] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "idle transaction timeout",
         "The client rested in a transaction longer than idle_transaction_timeout.",
         "End each transaction at once, or raise idle_transaction_timeout."},
    [FAULT_TRANSACTION_TIMEOUT] = {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                   "transaction timeout",
                                   "The transaction took longer than transaction_timeout.",
                                   "Make it shorter, or raise transaction_timeout."},
    [FAULT_CLIENT_IDLE_TIMEOUT] =
        {FAULT_COUNTER_TIMEOUT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "client_idle_timeout",
         "The client asked nothing for client_idle_timeout.",
         "Connect again; let the application's pool close idle connections sooner."},
    [FAULT_SERVER_LOGIN_FAILING] =
        {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "server login has been failing, cached error: %s (server_login_retry)",
         "The last attempts to connect to the PostgreSQL server have failed.",
         "The next attempt follows after server_login_retry; connect again then."},
    [FAULT_SERVER_LOGIN] = {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                            "login failed", "The PostgreSQL server has refused the connection.",
                            "The log of the pooler holds the server's own words."},
    [FAULT_SERVER_PASSWORD_TYPE] =
        {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "server login failed: wrong password type", NULL,
         "The stored secret does not serve the method that the server asks for."},
    [FAULT_SERVER_PARAMETER] = {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                "invalid server parameter", NULL,
                                "Correct the value that the client sets when it connects."},
    [FAULT_SERVER_LOST] = {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, "08006",
                           "server conn crashed?",
                           "The connection to the PostgreSQL server was lost.",
                           "Connect again; what was not committed has to be repeated."},
    [FAULT_SERVER_LOST_UNRESOLVED] =
        {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, "08007", "server conn crashed?",
         "The connection was lost before the server told whether it had committed.",
         "Look whether the change is there before repeating it."},
    [FAULT_SERVER_TERMINATED] = {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, "57P01",
                                 "terminating connection due to administrator command",
                                 "The PostgreSQL server ended the connection.", NULL},
    [FAULT_TRANSACTION_LOST] = {FAULT_COUNTER_SERVER, FAULT_EFFECT_CLOSE, "57P01",
                                "server conn crashed?",
                                "The connection to the PostgreSQL server was lost within a "
                                "transaction, which was not committed.",
                                "Connect again and repeat the transaction."},
    [FAULT_PIN_LIMIT] =
        {FAULT_COUNTER_LIMIT, FAULT_EFFECT_CLOSE, "53300",
         "too many clients keep their servers (pin_limit)",
         "The session has %s, which only its server can keep.",
         "Raise pin_limit or pool_size, or give it up before the transaction ends."},
    [FAULT_SESSION_STATE] =
        {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "0A000", "the session would have %s", NULL,
         "Only one server could keep it: on_session_state = reject refuses that, and so does "
         "every transaction on a replica."},
    [FAULT_SEQUENCE_ELSEWHERE] =
        {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "55000",
         "the last value of the sequence is not known in this session",
         "The transaction that used it ran on another server connection, or others have used this "
         "one.",
         "From now on this client keeps its server: repeat what used the sequence. RETURNING, or "
         "currval in the same transaction, need no server of one's own."},
    [FAULT_ROUTE_VALUE] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "22023",
                           "invalid value for parameter \"weir.route\": \"%s\"", NULL,
                           "Available values: auto, primary, replica."},
    [FAULT_LISTENER_SLOW] =
        {FAULT_COUNTER_LIMIT, FAULT_EFFECT_CLOSE, "53400", "too many unread notifications",
         "The client listens, and has not read what was waiting for it, or has not ended its "
         "transaction, for too long.",
         "Read notifications as they come, end transactions soon, or UNLISTEN."},
    [FAULT_NO_PRIMARY] = {FAULT_COUNTER_NODE, FAULT_EFFECT_CLOSE, "57P03",
                          "no primary is available", "Nodes asked: %s.",
                          "SHOW NODES in the admin console tells the state of each node."},
    [FAULT_TWO_PRIMARIES] = {FAULT_COUNTER_NODE, FAULT_EFFECT_CLOSE, "57P03",
                             "more than one primary answers, writes are stopped", "Primaries: %s.",
                             "Stop the node that must not take writes, or decide in the admin "
                             "console: SET weir_primary = 'node'."},
    [FAULT_NO_REPLICA] = {FAULT_COUNTER_NODE, FAULT_EFFECT_CLOSE, "57P03",
                          "no replica is available", "Nodes asked: %s.",
                          "SHOW NODES in the admin console tells the state of each node."},
    [FAULT_PQEXEC] = {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                      "PQexec disallowed",
                      "disable_pqexec is set: the simple query protocol is refused.",
                      "Send statements with the extended protocol, one in each Parse."},
    [FAULT_MESSAGE_UNKNOWN] = {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                               "unknown pkt",
                               "Message type \"%s\" is none that a client may send now.",
                               "Use a client library that speaks protocol 3.0."},
    [FAULT_MESSAGE_LENGTH] = {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                              "bad packet header: '%s'",
                              "The length of the message is not one that it may have.", NULL},
    [FAULT_MESSAGE_MALFORMED] =
        {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION, "failed to parse packet",
         "A message does not have the form that its type has.",
         "This is a bug of the client library, or of something between it and the pooler."},
    [FAULT_MESSAGE_TOO_LARGE] = {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                 "bad packet header: '%s'",
                                 "The message is longer than max_packet_size, or than can be "
                                 "kept to be understood as a whole (16 MB).",
                                 "Raise max_packet_size, or send large values as parameters."},
    [FAULT_OUT_OF_SYNC] = {FAULT_COUNTER_PROTOCOL, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                           "lost synchronization with client", "%s", NULL},
    [FAULT_STATEMENT_MISSING] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                 "prepared statement did not exist", "Its name is \"%s\".",
                                 "Prepare it on this connection first. A driver that uses PREPARE "
                                 "in SQL needs session pooling."},
    [FAULT_STATEMENT_EXISTS] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                "prepared statement name is already in use", "Its name is \"%s\".",
                                "Close it first, or take another name."},
    [FAULT_TRANSACTION_BLOCK] =
        {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
         "transaction blocks not allowed in statement pooling mode", NULL,
         "Connect to a database whose pool_mode is transaction or session."},
    [FAULT_CANCELED] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "57014",
                        "canceling statement due to user request", NULL, NULL},
    [FAULT_TRANSACTION_FAILED] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "25P02",
                                  "current transaction is aborted, commands ignored until end of "
                                  "transaction block",
                                  NULL, NULL},
    [FAULT_ROUTE_READ_ONLY] = {FAULT_COUNTER_STATEMENT, FAULT_EFFECT_KEEP, "25006",
                               "cannot execute a statement that may write on a read-only route",
                               NULL, "Connect to a database whose routing includes the primary."},
    [FAULT_CONSOLE_ADMIN_NEEDED] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                    "admin access needed", NULL, NULL},
    [FAULT_CONSOLE_EXTENDED] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                "extended query protocol not supported by admin console", NULL,
                                "Use a client that sends simple queries, such as psql."},
    [FAULT_CONSOLE_MESSAGE] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                               "unsupported packet type for admin console: %s", NULL, NULL},
    [FAULT_CONSOLE_BAD_PACKET] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                  "bad packet", NULL, NULL},
    [FAULT_CONSOLE_COMMAND] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                               "invalid command '%s', use SHOW HELP;", NULL, NULL},
    [FAULT_CONSOLE_ARGUMENTS] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                 "bad arguments", NULL, NULL},
    [FAULT_CONSOLE_SET] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                           "SET failed", NULL, NULL},
    [FAULT_CONSOLE_RELOAD] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, "F0000",
                              "RELOAD failed, see logs for additional details", NULL, NULL},
    [FAULT_CONSOLE_PAUSED] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                              "already suspended/paused", NULL, NULL},
    [FAULT_CONSOLE_NOT_PAUSED] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                  "pooler is not paused/suspended", NULL, NULL},
    [FAULT_CONSOLE_DATABASE_NOT_PAUSED] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP,
                                           PROTOCOL_VIOLATION, "database %s is not paused", NULL,
                                           NULL},
    [FAULT_CONSOLE_ADMIN_DATABASE] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                      "cannot %s", NULL, NULL},
    [FAULT_CONSOLE_DATABASE_MISSING] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP,
                                        PROTOCOL_VIOLATION, "a database is required", NULL,
                                        "SHOW DATABASES lists them."},
    [FAULT_CONSOLE_SUSPEND] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                               "cannot suspend with paused databases", NULL,
                               "RESUME them first; SHOW DATABASES tells which."},
    [FAULT_CONSOLE_CLIENT_ID] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                 "invalid client pointer supplied", NULL,
                                 "Give a number of the column id of SHOW CLIENTS."},
    [FAULT_CONSOLE_CLIENT_GONE] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                   "client not found", NULL, NULL},
    [FAULT_CONSOLE_NO_DATABASE] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                   "no such database: %s", NULL, NULL},
    [FAULT_CONSOLE_SHUTTING_DOWN] = {FAULT_COUNTER_CONSOLE, FAULT_EFFECT_KEEP, PROTOCOL_VIOLATION,
                                     "pooler is shutting down", NULL, NULL},
    [FAULT_ADMIN_DISCONNECT] = {FAULT_COUNTER_SHUTDOWN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                "admin forced disconnect",
                                "KILL_CLIENT in the admin console ended the connection.",
                                "Connect again."},
    [FAULT_POOLER_SHUTTING_DOWN] = {FAULT_COUNTER_SHUTDOWN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                    "pooler is shutting down", "It takes no new logins.",
                                    "Connect again once it is back, or to another one."},
    [FAULT_SERVER_SHUTTING_DOWN] = {FAULT_COUNTER_SHUTDOWN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                                    "server shutting down",
                                    "The pooler ends; server connections are not lent any more.",
                                    "Connect again once it is back, or to another one."},
    [FAULT_SUSPEND_TIMEOUT] = {FAULT_COUNTER_SHUTDOWN, FAULT_EFFECT_CLOSE, PROTOCOL_VIOLATION,
                               "suspend_timeout",
                               "The connection could not be brought to rest for SUSPEND.",
                               "Connect again."},
};

static const char *const counter_names[] = {
    [FAULT_COUNTER_STARTUP] = "startup",     [FAULT_COUNTER_LIMIT] = "limit",
    [FAULT_COUNTER_LOGIN] = "login",         [FAULT_COUNTER_DATABASE] = "database",
    [FAULT_COUNTER_TIMEOUT] = "timeout",     [FAULT_COUNTER_SERVER] = "server",
    [FAULT_COUNTER_NODE] = "node",           [FAULT_COUNTER_PROTOCOL] = "protocol",
    [FAULT_COUNTER_STATEMENT] = "statement", [FAULT_COUNTER_CONSOLE] = "console",
    [FAULT_COUNTER_SHUTDOWN] = "shutdown",
};
_Static_assert(COUNT(counter_names) == FAULT_COUNTER_COUNT, "each counter has a name");

const struct fault *fault_of(enum fault_id id) {
    CHECK(id > FAULT_NONE && id < FAULT_COUNT && faults[id].text != NULL);
    return &faults[id];
}

const char *fault_counter_name(enum fault_counter counter) {
    CHECK(counter < FAULT_COUNTER_COUNT);
    return counter_names[counter];
}

/* The length to cut a text to so that it has at most `max` bytes and ends in a whole character. */
static size_t cut_length(const char *text, size_t max) {
    size_t len = strnlen(text, max + 1);
    if (len <= max) return len;
    len = max;
    while (len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80) len--;
    return len;
}

static void append_argument(struct buf *out, const char *argument) {
    if (argument == NULL) return;
    size_t len = cut_length(argument, FAULT_ARGUMENT_BYTES_MAX);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)argument[i];
        buf_append_u8(out, c < 0x20 || c == 0x7F ? '?' : c);
    }
}

static void append_expanded(struct buf *out, const char *text, const char *argument) {
    const char *place = strstr(text, "%s");
    if (place == NULL) {
        buf_append_text(out, text);
        return;
    }
    buf_append(out, text, (size_t)(place - text));
    append_argument(out, argument);
    buf_append_text(out, place + 2);
}

void fault_append_text(struct buf *out, enum fault_id id, const char *argument) {
    append_expanded(out, fault_of(id)->text, argument);
}

/* Starts a message whose length is not known yet; end_message fills it in. Returns its place. */
static size_t start_message(struct buf *out, char type) {
    buf_append_u8(out, (unsigned char)type);
    size_t place = buf_length(out);
    buf_append_u32(out, 0);
    return place;
}

static void end_message(struct buf *out, size_t place) {
    buf_append_u8(out, 0);
    bytes_put_u32(out->memory + out->start + place, (uint32_t)(buf_length(out) - place));
}

/* Appends one field; a NUL would end it early and shift all that follows, so it is cut there. */
static void append_field(struct buf *out, char type, struct bytes value) {
    buf_append_u8(out, (unsigned char)type);
    buf_append(out, value.at, value.len == 0 ? 0 : strnlen(value.at, value.len));
    buf_append_u8(out, 0);
}

static void append_row_field(struct buf *out, char type, const char *text, const char *argument) {
    if (text == NULL) return;
    buf_append_u8(out, (unsigned char)type);
    append_expanded(out, text, argument);
    buf_append_u8(out, 0);
}

void fault_write(struct buf *out, enum fault_id id, const char *argument) {
    const struct fault *fault = fault_of(id);
    const char *severity = fault->effect == FAULT_EFFECT_CLOSE ? "FATAL" : "ERROR";
    size_t place = start_message(out, 'E');
    append_field(out, 'S', bytes_of_text(severity));
    append_field(out, 'C', bytes_of_text(fault->sqlstate));
    append_row_field(out, 'M', fault->text, argument);
    append_row_field(out, 'D', fault->detail, argument);
    append_row_field(out, 'H', fault->hint, argument);
    end_message(out, place);
}

static struct bytes or_default(struct bytes value, const char *text) {
    return value.len > 0 ? value : bytes_of_text(text);
}

void fault_write_custom(struct buf *out, const struct fault_fields *fields) {
    size_t place = start_message(out, 'E');
    append_field(out, 'S', or_default(fields->severity, "FATAL"));
    append_field(out, 'C', or_default(fields->sqlstate, PROTOCOL_VIOLATION));
    append_field(out, 'M', or_default(fields->message, "unknown error"));
    if (fields->detail.len > 0) append_field(out, 'D', fields->detail);
    if (fields->hint.len > 0) append_field(out, 'H', fields->hint);
    if (fields->routine.len > 0) append_field(out, 'R', fields->routine);
    end_message(out, place);
}

void fault_notice_write(struct buf *out, const char *message, const char *detail) {
    size_t place = start_message(out, 'N');
    append_field(out, 'S', bytes_of_text("NOTICE"));
    append_field(out, 'C', bytes_of_text("00000"));
    append_field(out, 'M', bytes_of_text(message));
    if (detail != NULL) append_field(out, 'D', bytes_of_text(detail));
    end_message(out, place);
}

/* Where a field's value belongs; NULL for fields that nobody here asks for. */
static struct bytes *field_place(struct fault_fields *fields, char type) {
    switch (type) {
    case 'S':
        return fields->severity.len == 0 ? &fields->severity : NULL;
    case 'V':
        return &fields->severity;
    case 'C':
        return &fields->sqlstate;
    case 'M':
        return &fields->message;
    case 'D':
        return &fields->detail;
    case 'H':
        return &fields->hint;
    case 'R':
        return &fields->routine;
    default:
        return NULL;
    }
}

bool fault_read(struct bytes body, struct fault_fields *fields) {
    *fields = (struct fault_fields){0};
    while (body.len > 0 && body.at[0] != '\0') {
        const char *value = body.at + 1;
        const char *end = memchr(value, '\0', body.len - 1);
        if (end == NULL) return false;
        struct bytes *place = field_place(fields, body.at[0]);
        if (place != NULL) *place = bytes_of(value, (size_t)(end - value));
        body = bytes_of(end + 1, body.len - (size_t)(end + 1 - body.at));
    }
    return body.len == 1;
}

/*
 * Refusals. Texts follow lc_messages, while SQLSTATE and routine do not, so the routine decides
 * where there is one name for it. Where the server raises an error from many functions the
 * untranslated English text is the other way to know it. NULL in a row asks for nothing.
 */
struct refusal_row {
    const char *sqlstate;
    const char *routine;
    const char *text_end; /* what the message ends in */
    enum fault_refusal refusal;
};

static const struct refusal_row refusals[] = {
    {"25006", "PreventCommandIfReadOnly", NULL, FAULT_REFUSAL_PRIMARY},
    {"25006", "PreventCommandDuringRecovery", NULL, FAULT_REFUSAL_PRIMARY},
    {"25006", "replorigin_check_prerequisites", NULL, FAULT_REFUSAL_PRIMARY},
    {"0A000", "get_relation_info", NULL, FAULT_REFUSAL_PRIMARY},
    {"0A000", "BeginCopyTo", NULL, FAULT_REFUSAL_PRIMARY}, /* COPY of an unlogged table */
    {"0A000", "GetSerializableTransactionSnapshot", NULL, FAULT_REFUSAL_SESSION},
    {"0A000", "call_enum_check_hook", NULL, FAULT_REFUSAL_PRIMARY},
    {"0A000", "call_bool_check_hook", NULL, FAULT_REFUSAL_PRIMARY},
    {"0A000", "CheckLogicalDecodingRequirements", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "LockAcquireExtended", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_current_wal_lsn", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_current_wal_insert_lsn", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_current_wal_flush_lsn", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_switch_wal", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_walfile_name", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", "pg_walfile_name_offset", NULL, FAULT_REFUSAL_PRIMARY},
    {"55000", NULL, "recovery is in progress", FAULT_REFUSAL_PRIMARY},
    {"XX000", "GetNewTransactionId", "during recovery", FAULT_REFUSAL_PRIMARY},
    {"XX000", "GetNewObjectId", "during recovery", FAULT_REFUSAL_PRIMARY},
    {"XX000", "XLogBeginInsert", "during recovery", FAULT_REFUSAL_PRIMARY},
    {"40001", "ProcessInterrupts", NULL, FAULT_REFUSAL_CONFLICT},
    {"40001", "ProcessRecoveryConflictInterrupt", NULL, FAULT_REFUSAL_CONFLICT},
    {"40P01", "ProcessInterrupts", NULL, FAULT_REFUSAL_CONFLICT},
    {"40P01", "ProcessRecoveryConflictInterrupt", NULL, FAULT_REFUSAL_CONFLICT},
    {"57P01", NULL, NULL, FAULT_REFUSAL_LOST}, /* shut down, or terminated by hand */
    {"57P02", NULL, NULL, FAULT_REFUSAL_LOST}, /* another process of the server crashed */
    {"57P03", NULL, NULL, FAULT_REFUSAL_LOST}, /* starting up or shutting down */
    /* Made on the primary, and perhaps past this pooler: a replica may not have replayed it. */
    {"42P01", NULL, NULL, FAULT_REFUSAL_MISSING},
    {"42703", NULL, NULL, FAULT_REFUSAL_MISSING},
    {"42883", NULL, NULL, FAULT_REFUSAL_MISSING},
    {"3F000", NULL, NULL, FAULT_REFUSAL_MISSING},
    {"42704", NULL, NULL, FAULT_REFUSAL_MISSING},
    {"53300", NULL, NULL, FAULT_REFUSAL_LOST}, /* at login: no connection is left there */
};

static bool ends_in(struct bytes message, const char *text) {
    size_t len = strlen(text);
    return message.len >= len && memcmp(message.at + message.len - len, text, len) == 0;
}

enum fault_refusal fault_refusal_of(const struct fault_fields *fields) {
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const struct refusal_row *row = &refusals[i];
        if (!bytes_equal_text(fields->sqlstate, row->sqlstate)) continue;
        if (row->routine != NULL && !bytes_equal_text(fields->routine, row->routine)) continue;
        if (row->text_end != NULL && !ends_in(fields->message, row->text_end)) continue;
        return row->refusal;
    }
    return FAULT_REFUSAL_NOT;
}

bool fault_is_of_node(const struct fault_fields *fields) {
    enum fault_refusal refusal = fault_refusal_of(fields);
    bool is_wanted = bytes_equal_text(fields->sqlstate, "57P01");
    return !is_wanted && (refusal == FAULT_REFUSAL_CONFLICT || refusal == FAULT_REFUSAL_LOST);
}
