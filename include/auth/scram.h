/*
 * SCRAM-SHA-256 (RFC 5802, RFC 7677) in both roles, as state machines over bytes.
 *
 *      client                                         server
 *      client-first   n,,n=USER,r=NONCE           ->
 *                     <-  r=NONCE...,s=SALT,i=ITERATIONS   server-first
 *      client-final   c=biws,r=NONCE...,p=PROOF   ->
 *                     <-  v=SIGNATURE                      server-final
 *
 * Over TLS both roles speak SCRAM-SHA-256-PLUS too: the messages then hold a hash of the TLS
 * server's certificate (channel binding tls-server-end-point, RFC 5929), so that nobody can sit
 * between the two. There is no authorization identity. The user name inside the messages is not
 * looked at, as in PostgreSQL: the startup packet's counts. Messages are untrusted and bounded;
 * comparisons take constant time; what was secret is wiped by the _release functions.
 */
#ifndef WEIR_AUTH_SCRAM_H
#define WEIR_AUTH_SCRAM_H

#include "auth/scram_channel.h"
#include "core/buf.h"

#define SCRAM_KEY_BYTES         32u
#define SCRAM_SALT_BYTES        16u /* of salts made here */
#define SCRAM_SALT_BYTES_MAX    64u
#define SCRAM_NONCE_SIZE        64u /* of a nonce made here, with its NUL */
#define SCRAM_NONCE_BYTES_MAX   256u
#define SCRAM_ITERATIONS_MAX    1000000u /* PBKDF2 rounds; more would hold up a worker for long */
#define SCRAM_MESSAGE_BYTES_MAX 1024u

/* What a server must know of a password. No password can be computed from it, but its server key
 * must stay secret. It owns nothing. */
struct scram_verifier {
    unsigned iterations;
    unsigned salt_bytes;
    unsigned char salt[SCRAM_SALT_BYTES_MAX];
    unsigned char stored_key[SCRAM_KEY_BYTES];
    unsigned char server_key[SCRAM_KEY_BYTES];
};

/* What a client computes from a password, kept by whoever logs in to servers with it: as long as
 * the servers name the same salt and iterations, a login costs no PBKDF2. Zeroed memory is an
 * empty cache. It is for one password; wipe it with memory_wipe. */
struct scram_client_cache {
    unsigned iterations; /* 0: empty */
    unsigned salt_bytes;
    unsigned char salt[SCRAM_SALT_BYTES_MAX];
    unsigned char client_key[SCRAM_KEY_BYTES];
    unsigned char server_key[SCRAM_KEY_BYTES];
};

/* Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`, as PostgreSQL stores it. */
bool scram_verifier_parse(struct scram_verifier *verifier, struct bytes text);

/* Makes the verifier of a plain password: one PBKDF2 of `iterations` rounds (1 to
 * SCRAM_ITERATIONS_MAX), a fraction of a microsecond each. The password goes through SASLprep; one
 * that is not valid UTF-8, prohibited or very long counts as its bytes, as in PostgreSQL. */
void scram_verifier_derive(struct scram_verifier *verifier, struct bytes password,
                           unsigned iterations, const unsigned char salt[SCRAM_SALT_BYTES]);

/* Fills a key with random bytes. */
void scram_key_make(unsigned char key[SCRAM_KEY_BYTES]);

/* Compares two secrets by hashes under that key, so that neither content nor length shows in the
 * time it takes. */
bool scram_secrets_equal(struct bytes a, struct bytes b, const unsigned char key[SCRAM_KEY_BYTES]);

/* A salt that depends on the name and on a key of this process alone, so that those of known and
 * of unknown users cannot be told apart. */
void scram_salt(unsigned char salt[SCRAM_SALT_BYTES], struct bytes name,
                const unsigned char key[SCRAM_KEY_BYTES]);

/* Makes a verifier that no password fits, with the salt of scram_salt. */
void scram_verifier_mock(struct scram_verifier *verifier, struct bytes name, unsigned iterations,
                         const unsigned char key[SCRAM_KEY_BYTES]);

/* Whether a password in clear text fits; costs one PBKDF2. */
bool scram_verifier_fits(const struct scram_verifier *verifier, struct bytes password);

enum scram_result {
    SCRAM_MORE,  /* an answer was appended; the other side speaks next */
    SCRAM_DONE,  /* proved; a server appended its last message, a client has nothing to say */
    SCRAM_FAILED /* `reason` says why, for the log; nothing was appended */
};

/* Where both roles stand. */
enum scram_state { SCRAM_STATE_FIRST, SCRAM_STATE_FINAL, SCRAM_STATE_OVER };

struct scram_server {
    enum scram_state state;
    const char *reason;
    struct scram_verifier verifier;
    char nonce[SCRAM_NONCE_SIZE];
    char gs2_flag; /* 'n', 'y' or 'p', as the client said */
    struct scram_binding binding;
    struct buf auth_message; /* client-first-bare "," server-first; client-final is added last */
    uint32_t nonces_at;      /* the client's nonce and ours stand here in auth_message */
    uint32_t nonces_bytes;
    unsigned char client_key[SCRAM_KEY_BYTES]; /* after SCRAM_DONE */
};

/* Copies the verifier. Where the channel has an end_point, SCRAM_NAME_PLUS was offered too. */
void scram_server_begin(struct scram_server *server, const struct scram_verifier *verifier,
                        const struct scram_channel *channel);

/* The client has chosen SCRAM_NAME_PLUS; before its first message. */
void scram_server_choose_plus(struct scram_server *server);

/* Takes the client's next message and appends the answer to `out`. */
enum scram_result scram_server_message(struct scram_server *server, struct bytes message,
                                       struct buf *out);

/* After SCRAM_DONE: the keys that the client proved, with which its user can be logged in to a
 * server that holds the very same secret. */
void scram_server_keys(const struct scram_server *server, struct scram_client_cache *keys);
void scram_server_release(struct scram_server *server);

struct scram_client {
    enum scram_state state;
    const char *reason;
    struct bytes password;
    struct scram_client_cache *cache;
    struct scram_client_cache own; /* stands in where the caller has no cache */
    char nonce[SCRAM_NONCE_SIZE];
    struct buf auth_message;
    bool is_tls;
    struct scram_binding binding;
};

/* Whether the list in AuthenticationSASL (behind its code: names that end in a NUL, then an empty
 * one) holds a mechanism. */
bool scram_is_offered(struct bytes mechanisms, const char *name);

/* Appends client-first. `password` and `cache` are borrowed until the release. An empty password
 * means that the cache holds keys from scram_server_keys, which must then fit. `cache` may be
 * NULL. */
void scram_client_begin(struct scram_client *client, struct bytes password,
                        struct scram_client_cache *cache, const struct scram_channel *channel,
                        struct buf *out);

/* Takes the server's next message: server-first gives SCRAM_MORE with client-final appended,
 * server-final gives SCRAM_DONE once the server too has proved that it knows the password. */
enum scram_result scram_client_message(struct scram_client *client, struct bytes message,
                                       struct buf *out);
void scram_client_release(struct scram_client *client);

#endif
