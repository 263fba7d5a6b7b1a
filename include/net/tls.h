/*
 * TLS over a connected descriptor: contexts, which many connections share, and one connection's
 * own state. This and what begins with tls_ beside it are the only homes of OpenSSL's SSL.
 *
 * A context is made for one side: towards clients Weir is the TLS server, towards servers the TLS
 * client. It never changes and is counted, so that any thread may hold it. A struct tls belongs to
 * one thread at a time; net/socket.h puts it on a socket, which from then on owns it.
 */
#ifndef WEIR_NET_TLS_H
#define WEIR_NET_TLS_H

#include "core/buf.h"

#include <sys/types.h>

struct tls;
struct tls_context;

enum tls_side { TLS_CLIENTS, TLS_SERVERS };

/* What the peer's certificate has to be: nothing; signed by the CA; signed, and for servers made
 * out to the host that was dialled. */
enum tls_verify { TLS_VERIFY_NONE, TLS_VERIFY_CA, TLS_VERIFY_FULL };

/* What a context is made from, as PgBouncer's settings client_tls_... and server_tls_... have it;
 * the texts are only read during the call and may be empty. */
struct tls_settings {
    enum tls_side side;
    enum tls_verify verify;
    const char *ca_file; /* empty: for TLS_SERVERS the system's CAs */
    const char *cert_file;
    const char *key_file;
    const char *ciphers;   /* default, secure, fast, normal, all, or OpenSSL's list */
    const char *ciphers13; /* empty: the library's */
    const char *protocols; /* secure, all, or names from tlsv1.0 to tlsv1.3, divided by commas */
    const char *dheparams; /* auto or none; TLS_CLIENTS only, as the next */
    const char *ecdhcurve; /* auto, none or a curve's name */
};

/* The file of the CAs that this system trusts, which counts where no ca_file is set. */
#define TLS_SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

/* A context with one reference, or NULL and a sentence in `error` that names file and setting:
 * 'failed to load certificate file "P": No such file or directory (client_tls_cert_file)'. */
struct tls_context *tls_context_new(const struct tls_settings *settings, struct buf *error);
/* The oldest and the newest version that it takes, in OpenSSL's words: TLSv1, TLSv1.1, TLSv1.2 or
 * TLSv1.3. */
void tls_context_versions(const struct tls_context *context, const char **oldest,
                          const char **newest);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context **context);

/* The state of one connection; holds the context. For TLS_CLIENTS `ahead` is what was read of the
 * handshake before (copied; empty after an SSLRequest): such a client came without an SSLRequest
 * and must name its protocol (ALPN "postgresql"). */
struct tls *tls_accept(struct tls_context *context, struct bytes ahead);

/* For TLS_SERVERS: `host` (a name or address, copied) is what TLS_VERIFY_FULL compares. A direct
 * connection, without an SSLRequest, must be answered with ALPN. */
struct tls *tls_connect(struct tls_context *context, const char *host, bool is_direct);

/* The first byte of a ClientHello. */
#define TLS_RECORD_HANDSHAKE 0x16

/* Sends the closing alert if it can be sent at once. *tls becomes NULL; NULL is legal. */
void tls_free(struct tls **tls);

/* For net/socket.c; the answers are those of net/socket.h. tls_handshake is called until it gives
 * 0 (done) or SOCKET_FAILED, and nothing is read or written before. */
void tls_set_descriptor(struct tls *tls, int fd);
ssize_t tls_handshake(struct tls *tls);
ssize_t tls_read(struct tls *tls, char *at, size_t size);
ssize_t tls_write(struct tls *tls, const struct bytes *parts, size_t count);
bool tls_has_pending(const struct tls *tls);

/* What went wrong, in words for the log ("handshake failed: certificate verify failed"), after
 * SOCKET_FAILED; empty if it was not TLS that failed. */
const char *tls_error(const struct tls *tls);

/*
 * What is known after the handshake. Names come from the peer's certificate and only from one that
 * was verified against the CA; a name with a NUL in it is none.
 */

/* Appends "TLSv1.3/TLS_AES_256_GCM_SHA384", or "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=X25519"
 * where the cipher says how keys are exchanged. */
void tls_describe(const struct tls *tls, struct buf *text);

/* True if the peer gave a certificate and it was verified. */
bool tls_is_verified(const struct tls *tls);

/* Append the common name, or the whole subject as RFC 2253 writes it; false if there is none. */
bool tls_peer_common_name(const struct tls *tls, struct buf *text);
bool tls_peer_subject(const struct tls *tls, struct buf *text);

/* Calls `visit` with the common name and with each alternative name that is a DNS name or an IP
 * address, which is written as usual ("10.0.0.1", "fe80::1"). */
void tls_peer_each_name(const struct tls *tls, void (*visit)(void *owner, struct bytes name),
                        void *owner);

/* The channel binding data tls-server-end-point (RFC 5929, section 4.1): a hash of the TLS
 * server's certificate, which is ours towards clients and the peer's towards servers. Returns its
 * length, or 0 if the certificate's signature has no hash of its own. */
#define TLS_END_POINT_BYTES_MAX 64
size_t tls_server_end_point(const struct tls *tls, unsigned char hash[TLS_END_POINT_BYTES_MAX]);

#endif
