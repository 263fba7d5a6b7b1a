/* See pool/opening.h. */
#include "pool/opening.h"

#include "net/tls.h"
#include "pool/transport.h"
#include "proto/startup.h"

void opening_release(struct opening *opening) {
    tls_free(&opening->tls);
}

static enum opening_result secure(struct opening *opening, struct stream *stream) {
    struct tls *tls = opening->tls;
    opening->tls = NULL;
    stream_secure(stream, tls);
    return OPENING_MORE;
}

enum opening_result opening_begin(struct opening *opening, struct stream *stream,
                                  const struct transport *transport, const char *host,
                                  enum sslnegotiation negotiation) {
    bool is_unix = host[0] == '/' || host[0] == '@';
    bool is_direct = negotiation == SSLNEGOTIATION_DIRECT;
    *opening = (struct opening){0};
    if (is_unix || transport->servers == NULL) return OPENING_DONE;
    opening->is_plain_allowed = transport->config->server_tls_sslmode < SSLMODE_REQUIRE;
    opening->tls = tls_connect(transport->servers, host, is_direct);
    if (is_direct) return secure(opening, stream);
    struct buf request = {0};
    message_write_ssl_request(&request);
    stream_write_bytes(stream, buf_content(&request));
    buf_release(&request);
    return OPENING_MORE;
}

enum opening_result opening_bytes(struct opening *opening, struct stream *stream,
                                  struct bytes said) {
    char answer = said.at[0];
    if (said.len > 1 && answer == 'S') {
        /* Whoever sits between the two could have put these in before the encryption began. */
        opening->trouble = "received unencrypted data after SSL response";
    } else if (said.len == 1 && answer == 'S') {
        return secure(opening, stream);
    } else if (said.len == 1 && answer == 'N' && opening->is_plain_allowed) {
        opening_release(opening);
        return OPENING_DONE;
    } else if (said.len == 1 && answer == 'N') {
        opening->trouble = "server refused SSL";
    } else {
        opening->trouble = "bad sslreq answer";
    }
    return OPENING_FAILED;
}
