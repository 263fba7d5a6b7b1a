/*
 * What comes before the first message to PostgreSQL: whether the connection is secured, and how.
 * Both server connections and cancel requests begin with it.
 *
 *      Unix socket, sslmode = disable              -> OPENING_DONE
 *      SSLRequest -> 'S' -> handshake              -> opening_secured
 *                 -> 'N', where the mode allows it -> OPENING_DONE
 *      sslnegotiation = direct: handshake          -> opening_secured
 *
 * PostgreSQL manual, "SSL Session Encryption".
 */
#ifndef WEIR_POOL_OPENING_H
#define WEIR_POOL_OPENING_H

#include "config/entry.h"
#include "net/stream.h"

struct transport;

enum opening_result {
    OPENING_MORE,  /* go on with opening_bytes, until that or on_secured of the stream says more */
    OPENING_DONE,  /* speak now */
    OPENING_FAILED /* close; `trouble` says why */
};

struct opening {
    struct tls *tls; /* until the stream has it */
    bool is_plain_allowed;
    const char *trouble;
};

/* Begins on a stream that was just opened to `host`. */
enum opening_result opening_begin(struct opening *opening, struct stream *stream,
                                  const struct transport *transport, const char *host,
                                  enum sslnegotiation negotiation);

/* Takes what the server said. */
enum opening_result opening_bytes(struct opening *opening, struct stream *stream,
                                  struct bytes said);

/* Frees what an opening that was not finished still has; idempotent. */
void opening_release(struct opening *opening);

#endif
