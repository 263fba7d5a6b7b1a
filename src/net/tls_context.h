/* What tls.c needs of a context. */
#ifndef WEIR_NET_TLS_CONTEXT_H
#define WEIR_NET_TLS_CONTEXT_H

#include "net/tls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#define TLS_SESSIONS_MAX 64 /* hosts beyond that are given long handshakes */

struct tls_context {
    _Atomic unsigned references;
    enum tls_side side;
    enum tls_verify verify;
    SSL_CTX *ssl;
    /* Of TLS_SERVERS; see tls_session.c. */
    pthread_mutex_t lock;
    struct {
        char *host;
        SSL_SESSION *session;
    } sessions[TLS_SESSIONS_MAX];
    size_t sessions_count;
};

void tls_sessions_init(struct tls_context *context);
void tls_sessions_release(struct tls_context *context);

/* Offers the last session with that host, if there is one; `host` lives as long as `ssl`. */
void tls_session_offer(struct tls_context *context, SSL *ssl, const char *host);

/* The protocol's name for ALPN, with its length in front. */
#define TLS_PROTOCOL_NAME_BYTES 11
extern const unsigned char tls_protocol_name[TLS_PROTOCOL_NAME_BYTES + 1];

/* Appends what OpenSSL's error queue, or errno, says was wrong first, and empties the queue. */
void tls_append_reason(struct buf *text, int error);

#endif
