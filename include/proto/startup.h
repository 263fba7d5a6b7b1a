/*
 * The first packet of a connection, and the messages of a login in both directions.
 *
 * The first packet has no type byte: Int32 length (itself included), Int32 code, then what the
 * code asks for. PostgreSQL manual, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
 * CancelRequest, NegotiateProtocolVersion.
 *
 * Everything read is a view into the packet and lives as long as the packet does. Every
 * message_write_ function appends one whole message.
 */
#ifndef WEIR_PROTO_STARTUP_H
#define WEIR_PROTO_STARTUP_H

#include "core/buf.h"
#include "proto/fault_id.h"

#define STARTUP_LENGTH_MIN           8u
#define STARTUP_LENGTH_MAX           10004u /* PostgreSQL's: 10,000 behind the length word */
#define STARTUP_PARAMETERS_MAX       64u
#define STARTUP_PROTOCOL_OPTIONS_MAX 16u
#define STARTUP_USER_BYTES_MAX       127u

enum startup_kind {
    STARTUP_LOGIN,
    STARTUP_SSL_REQUEST,
    STARTUP_GSS_REQUEST,
    STARTUP_CANCEL,
    STARTUP_CANCEL_BAD, /* its length is wrong; nobody is told */
    STARTUP_BAD         /* `fault` and `argument` say why */
};

enum startup_replication {
    STARTUP_REPLICATION_NONE,
    STARTUP_REPLICATION_PHYSICAL,
    STARTUP_REPLICATION_LOGICAL
};

/* Name and value; in a packet's parameters both are followed by a NUL. */
struct startup_parameter {
    struct bytes name;
    struct bytes value;
};

struct startup {
    enum fault_id fault; /* of STARTUP_BAD; of STARTUP_LOGIN if its rest is malformed */
    char argument[24];   /* for fault_write; may be empty */
    uint32_t cancel_pid; /* of STARTUP_CANCEL */
    uint32_t cancel_secret;
    /* Of STARTUP_LOGIN. */
    unsigned minor; /* the minor version asked for; what follows is always 3.0 */
    enum startup_replication replication;
    struct bytes user;     /* may be empty, or longer than STARTUP_USER_BYTES_MAX */
    struct bytes database; /* the user's name where none was given */
    struct bytes options;  /* see startup_option_next */
    /* All other parameters, each name once (case does not count, the last value wins). Those that
     * start with "_pq_." ask for extensions of the protocol; their names stand apart. */
    struct startup_parameter parameters[STARTUP_PARAMETERS_MAX];
    unsigned parameters_count;
    struct bytes protocol_options[STARTUP_PROTOCOL_OPTIONS_MAX];
    unsigned protocol_options_count;
};

/* Judges the first bytes of a connection before the packet is whole. `*length` becomes the length
 * of the packet, or 0 while fewer than four bytes are there. FAULT_NONE, FAULT_STARTUP_LENGTH,
 * FAULT_PASSWORD_TOO_EARLY, or FAULT_BAD_PACKET_HEADER: a first byte other than 0 (a TLS
 * ClientHello, HTTP) is refused alone. */
enum fault_id startup_length(struct bytes head, uint32_t *length);

/* Writes the first bytes, eight at most, in hex: the argument of FAULT_BAD_PACKET_HEADER. */
#define STARTUP_HEX_SIZE 17
void startup_header_hex(char text[STARTUP_HEX_SIZE], struct bytes head);

/* Reads one whole packet, its length included. What is wrong with a StartupMessage is told by
 * `fault` alone, since there are things that a client is to be told before. */
enum startup_kind startup_parse(struct bytes packet, struct startup *startup);

/* Whether NegotiateProtocolVersion must be sent before the authentication. */
bool startup_needs_negotiation(const struct startup *startup);

/*
 * Splits the startup parameter `options` into settings. Accepted are `-c name=value`,
 * `-cname=value` and `--name=value`, divided by white space, a backslash making the next character
 * part of the word; a dash in a name becomes an underscore, as in PostgreSQL.
 *
 *      struct startup_options options = {.rest = startup.options};
 *      struct startup_parameter option;
 *      while ((step = startup_option_next(&options, &option)) == STARTUP_OPTION_FOUND) ...
 *      startup_options_release(&options);
 */
struct startup_options {
    struct bytes rest;
    struct buf word;
};
enum startup_option { STARTUP_OPTION_FOUND, STARTUP_OPTION_END, STARTUP_OPTION_BAD };

/* The next setting; its views are valid until the next call. BAD is FAULT_OPTIONS_SYNTAX. */
enum startup_option startup_option_next(struct startup_options *options,
                                        struct startup_parameter *option);
void startup_options_release(struct startup_options *options);

/* Toward a client. */
void message_write_negotiate(struct buf *out, const struct startup *startup);
void message_write_authentication_ok(struct buf *out);
void message_write_authentication_cleartext(struct buf *out);
void message_write_authentication_md5(struct buf *out, const char salt[4]);
void message_write_authentication_sasl(struct buf *out, bool has_plus); /* SCRAM-SHA-256[-PLUS] */
void message_write_sasl_continue(struct buf *out, struct bytes data);
void message_write_sasl_final(struct buf *out, struct bytes data);
void message_write_parameter_status(struct buf *out, struct bytes name, struct bytes value);
void message_write_backend_key_data(struct buf *out, uint32_t pid, uint32_t secret);
void message_write_ready_for_query(struct buf *out, char status); /* 'I', 'T' or 'E' */

/* Toward a server. A name or value must not contain a NUL; that is checked as our own bug. */
void message_write_startup(struct buf *out, const struct startup_parameter *parameters,
                           size_t count);
void message_write_ssl_request(struct buf *out);
void message_write_cancel_request(struct buf *out, uint32_t pid, uint32_t secret);
void message_write_password(struct buf *out, struct bytes password);
void message_write_sasl_initial_response(struct buf *out, const char *mechanism, struct bytes data);
void message_write_sasl_response(struct buf *out, struct bytes data);

#endif
