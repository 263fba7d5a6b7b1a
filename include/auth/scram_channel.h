/*
 * What SCRAM knows of the connection that it travels over: the hash of the TLS server's certificate
 * (tls-server-end-point, RFC 5929), to which SCRAM-SHA-256-PLUS binds an exchange.
 */
#ifndef WEIR_AUTH_SCRAM_CHANNEL_H
#define WEIR_AUTH_SCRAM_CHANNEL_H

#include "core/bytes.h"

#define SCRAM_BINDING_BYTES_MAX 64u /* of the hash of a certificate */

#define SCRAM_NAME      "SCRAM-SHA-256"
#define SCRAM_NAME_PLUS "SCRAM-SHA-256-PLUS"

/* What the exchange travels over; NULL and zeroed memory are a connection without TLS. */
struct scram_channel {
    const char *nonce; /* for tests, shorter than SCRAM_NONCE_SIZE; NULL: random */
    bool is_tls;
    bool is_plus;           /* the mechanism is SCRAM_NAME_PLUS */
    struct bytes end_point; /* the certificate's hash; empty: it has none. Copied */
};

/* The hash, and what is said of it in the first message. */
struct scram_binding {
    bool is_plus;
    size_t len; /* 0: there is none */
    unsigned char data[SCRAM_BINDING_BYTES_MAX];
};

#endif
