/* What tls.c needs of a context. */
#ifndef WEIR_NET_TLS_CONTEXT_H
#define WEIR_NET_TLS_CONTEXT_H

#include "net/tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct tls_context {
    _Atomic unsigned references;
    enum tls_side side;
    enum tls_verify verify;
    SSL_CTX *ssl;
};

/* The protocol's name for ALPN, with its length in front. */
#define TLS_PROTOCOL_NAME_BYTES 11
extern const unsigned char tls_protocol_name[TLS_PROTOCOL_NAME_BYTES + 1];

/* Appends what OpenSSL's error queue, or errno, says was wrong first, and empties the queue. */
void tls_append_reason(struct buf *text, int error);

#endif
