/*
 * The name of everything that can go wrong on a connection. What each one says and does stands in
 * its row of the table in proto/fault.c; a comment here tells what the argument of fault_write is
 * where the row wants one.
 */
#ifndef WEIR_PROTO_FAULT_ID_H
#define WEIR_PROTO_FAULT_ID_H

enum fault_id {
    FAULT_NONE, /* nothing went wrong; has no row */
    /* The first packet. */
    FAULT_BAD_PACKET_HEADER, /* argument: the first bytes in hex */
    FAULT_STARTUP_LENGTH,    /* argument: the first bytes in hex */
    FAULT_STARTUP_LAYOUT,
    FAULT_STARTUP_TOO_MANY, /* argument: the limit */
    FAULT_PROTOCOL_2,
    FAULT_PROTOCOL_UNSUPPORTED, /* argument: the first bytes in hex */
    FAULT_BYTES_AFTER_SSL_REQUEST,
    FAULT_BYTES_AFTER_GSS_REQUEST,
    FAULT_SSL_AGAIN,
    FAULT_SSL_REQUIRED,
    FAULT_PARAMETER_UNSUPPORTED, /* argument: the name */
    FAULT_OPTION_UNSUPPORTED,    /* argument: the name */
    FAULT_OPTIONS_SYNTAX,
    FAULT_REPLICATION_VALUE, /* argument: the value */
    FAULT_NO_USERNAME,
    FAULT_USERNAME_TOO_LONG,
    FAULT_STARTUP_AGAIN,
    FAULT_PASSWORD_TOO_EARLY,
    /* Limits. */
    FAULT_MAX_CLIENT_CONN,
    FAULT_MAX_DB_CLIENT_CONNECTIONS,
    FAULT_MAX_USER_CLIENT_CONNECTIONS,
    /* Who is this? */
    FAULT_AUTH_PASSWORD,
    FAULT_AUTH_SASL,
    FAULT_AUTH_TRUST,
    FAULT_AUTH_PEER,
    FAULT_AUTH_CERT,
    FAULT_AUTH_PAM,
    FAULT_AUTH_LDAP,
    FAULT_AUTH_REJECT,
    FAULT_AUTH_NO_METHOD,
    FAULT_AUTH_EMPTY_PASSWORD,
    FAULT_AUTH_MECHANISM,
    FAULT_AUTH_NO_USER,
    FAULT_AUTH_DATABASE_DISABLED,
    FAULT_AUTH_CONFIG,
    FAULT_NOT_ALLOWED,
    FAULT_NO_DATABASE,       /* argument: the database */
    FAULT_DATABASE_DISABLED, /* argument: the database */
    FAULT_DATABASE_PAUSED,   /* argument: the database */
    FAULT_DATABASE_CHANGED,
    FAULT_DATABASE_REMOVED,
    /* Time. */
    FAULT_LOGIN_TIMEOUT,
    FAULT_LOGIN_TIMEOUT_SERVER,
    FAULT_QUERY_WAIT_TIMEOUT,
    FAULT_QUERY_TIMEOUT,         /* while the query runs */
    FAULT_QUERY_TIMEOUT_WAITING, /* while it waits for a server */
    FAULT_IDLE_TRANSACTION_TIMEOUT,
    FAULT_TRANSACTION_TIMEOUT,
    FAULT_CLIENT_IDLE_TIMEOUT,
    /* Servers and nodes. */
    FAULT_SERVER_LOGIN_FAILING, /* argument: the last error, in the server's words */
    FAULT_SERVER_LOGIN,
    FAULT_SERVER_PASSWORD_TYPE,
    FAULT_SERVER_PARAMETER,
    FAULT_SERVER_LOST,
    FAULT_SERVER_LOST_UNRESOLVED,
    FAULT_SERVER_TERMINATED,
    FAULT_TRANSACTION_LOST,
    FAULT_PIN_LIMIT,     /* argument: what the session has */
    FAULT_SESSION_STATE, /* argument: what the session would have */
    FAULT_SEQUENCE_ELSEWHERE,
    FAULT_ROUTE_VALUE, /* argument: what is no value of weir.route */
    FAULT_LISTENER_SLOW,
    FAULT_NO_PRIMARY,    /* argument: the nodes that were asked and what each said */
    FAULT_TWO_PRIMARIES, /* argument: both nodes */
    FAULT_NO_REPLICA,    /* argument: the nodes that were asked and what each said */
    /* Messages after login. */
    FAULT_PQEXEC,
    FAULT_MESSAGE_UNKNOWN, /* argument: the type byte */
    FAULT_MESSAGE_LENGTH,  /* argument: the first bytes in hex */
    FAULT_MESSAGE_MALFORMED,
    FAULT_MESSAGE_TOO_LARGE, /* argument: the first bytes in hex */
    FAULT_OUT_OF_SYNC,       /* argument: what came when, a whole sentence */
    FAULT_STATEMENT_MISSING, /* argument: the name */
    FAULT_STATEMENT_EXISTS,  /* argument: the name */
    FAULT_TRANSACTION_BLOCK, /* in statement pooling */
    FAULT_CANCELED,
    FAULT_TRANSACTION_FAILED,
    FAULT_ROUTE_READ_ONLY,
    /* The console, and the end. */
    FAULT_CONSOLE_ADMIN_NEEDED,
    FAULT_CONSOLE_EXTENDED,
    FAULT_CONSOLE_MESSAGE,    /* argument: the type byte, as a number */
    FAULT_CONSOLE_BAD_PACKET, /* what follows either of these two */
    FAULT_CONSOLE_COMMAND,    /* argument: the text */
    FAULT_CONSOLE_ARGUMENTS,
    FAULT_CONSOLE_SET,
    FAULT_CONSOLE_RELOAD,
    FAULT_CONSOLE_PAUSED,
    FAULT_CONSOLE_NOT_PAUSED,
    FAULT_CONSOLE_DATABASE_NOT_PAUSED, /* argument: the database */
    FAULT_CONSOLE_ADMIN_DATABASE,      /* argument: such as "pause admin db: pgbouncer" */
    FAULT_CONSOLE_DATABASE_MISSING,
    FAULT_CONSOLE_NO_DATABASE, /* argument: the database */
    FAULT_CONSOLE_SUSPEND,
    FAULT_CONSOLE_CLIENT_ID,
    FAULT_CONSOLE_CLIENT_GONE,
    FAULT_CONSOLE_SHUTTING_DOWN,
    FAULT_ADMIN_DISCONNECT,
    FAULT_POOLER_SHUTTING_DOWN,
    FAULT_SERVER_SHUTTING_DOWN,
    FAULT_SUSPEND_TIMEOUT,
    FAULT_COUNT
};

#endif
