/*
 * Sessions with servers: what a server gave us (a ticket, or a session of its own) so that the
 * next handshake with the same host is a short one. PostgreSQL gives none, poolers and proxies in
 * front of it do.
 *
 * They belong to a context, whose verification they have passed, and end with it: after a RELOAD
 * every certificate is verified anew. A lock guards them, taken once for each new connection.
 */
#include "tls_context.h"

#include "core/check.h"
#include "core/memory.h"

static int on_new_session(SSL *ssl, SSL_SESSION *session) {
    const char *host = SSL_get_app_data(ssl);
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    CHECK(pthread_mutex_lock(&context->lock) == 0);
    size_t place = 0;
    while (place < context->sessions_count && strcmp(context->sessions[place].host, host) != 0)
        place++;
    bool is_kept = place < TLS_SESSIONS_MAX;
    if (is_kept && place == context->sessions_count) {
        context->sessions[place].host = memory_copy_text(host);
        context->sessions_count++;
    }
    if (is_kept) {
        SSL_SESSION_free(context->sessions[place].session);
        context->sessions[place].session = session;
    }
    CHECK(pthread_mutex_unlock(&context->lock) == 0);
    return is_kept;
}

void tls_sessions_init(struct tls_context *context) {
    CHECK(pthread_mutex_init(&context->lock, NULL) == 0);
    if (context->side != TLS_SERVERS) return;
    (void)SSL_CTX_set_app_data(context->ssl, context);
    (void)SSL_CTX_set_session_cache_mode(context->ssl,
                                         SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ssl, on_new_session);
}

void tls_sessions_release(struct tls_context *context) {
    for (size_t i = 0; i < context->sessions_count; i++) {
        SSL_SESSION_free(context->sessions[i].session);
        memory_free(context->sessions[i].host);
    }
    CHECK(pthread_mutex_destroy(&context->lock) == 0);
}

void tls_session_offer(struct tls_context *context, SSL *ssl, const char *host) {
    (void)SSL_set_app_data(ssl, (char *)(uintptr_t)host);
    CHECK(pthread_mutex_lock(&context->lock) == 0);
    for (size_t i = 0; i < context->sessions_count; i++) {
        if (strcmp(context->sessions[i].host, host) == 0)
            (void)SSL_set_session(ssl, context->sessions[i].session);
    }
    CHECK(pthread_mutex_unlock(&context->lock) == 0);
}
