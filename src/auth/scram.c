/*
 * SCRAM-SHA-256 in both roles; see auth/scram.h. The letters of RFC 5802 section 3:
 *
 *      SaltedPassword = PBKDF2(SASLprep(password), salt, iterations)
 *      ClientKey      = HMAC(SaltedPassword, "Client Key")     StoredKey = SHA-256(ClientKey)
 *      ServerKey      = HMAC(SaltedPassword, "Server Key")
 *      AuthMessage    = client-first-bare "," server-first "," client-final-without-proof
 *      proof          = ClientKey XOR HMAC(StoredKey, AuthMessage)
 *      signature      = HMAC(ServerKey, AuthMessage)
 *
 * Only the first line costs time; everything else is a handful of hashes. OpenSSL's functions fail
 * here only when memory is short or the library is broken, so their results are CHECKed.
 */
#include "auth/scram.h"

#include "core/check.h"
#include "core/memory.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stringprep.h>

#define VERIFIER_PREFIX "SCRAM-SHA-256$"

/* Sorting combining characters takes quadratic time; beyond this length a password counts as its
 * bytes. */
#define SASLPREP_BYTES_MAX 1024u

/* Base64 of n bytes has 4 characters for each started 3. */
#define BASE64_SIZE(n)   (((n) + 2) / 3 * 4 + 1)
#define BASE64_BYTES_MAX 128u /* a salt, or a hash behind its header */

#define BINDING_TYPE "p=tls-server-end-point"

static void random_bytes(unsigned char *at, size_t len) {
    ERR_clear_error();
    CHECK(RAND_bytes(at, (int)len) == 1);
}

static void hmac(unsigned char out[SCRAM_KEY_BYTES], const unsigned char key[SCRAM_KEY_BYTES],
                 struct bytes data) {
    unsigned len = 0;
    ERR_clear_error();
    CHECK(HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, (const unsigned char *)data.at, data.len, out,
               &len) != NULL);
    CHECK(len == SCRAM_KEY_BYTES);
}

static void hash(unsigned char out[SCRAM_KEY_BYTES], const unsigned char in[SCRAM_KEY_BYTES]) {
    ERR_clear_error();
    CHECK(EVP_Digest(in, SCRAM_KEY_BYTES, out, NULL, EVP_sha256(), NULL) == 1);
}

static void xor_keys(unsigned char out[SCRAM_KEY_BYTES], const unsigned char a[SCRAM_KEY_BYTES],
                     const unsigned char b[SCRAM_KEY_BYTES]) {
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++) out[i] = a[i] ^ b[i];
}

static bool equal_keys(const unsigned char a[SCRAM_KEY_BYTES],
                       const unsigned char b[SCRAM_KEY_BYTES]) {
    return CRYPTO_memcmp(a, b, SCRAM_KEY_BYTES) == 0;
}

static void append_base64(struct buf *out, const unsigned char *at, size_t len) {
    char text[BASE64_SIZE(BASE64_BYTES_MAX)];
    CHECK(len <= BASE64_BYTES_MAX);
    buf_append(out, text, (size_t)EVP_EncodeBlock((unsigned char *)text, at, (int)len));
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

/* Strict: whole groups of four, padding at the end only, no white space. False also if more than
 * `max` bytes come out, or none. */
static bool read_base64(struct bytes text, unsigned char *out, unsigned max, unsigned *len) {
    if (text.len == 0 || text.len % 4 != 0 || text.len > (max + 2) / 3 * 4) return false;
    size_t digits = text.len;
    for (int pad = 0; pad < 2 && text.at[digits - 1] == '='; pad++) digits--;
    unsigned bits = 0;
    unsigned bits_count = 0;
    *len = 0;
    for (size_t i = 0; i < digits; i++) {
        int digit = base64_digit(text.at[i]);
        if (digit < 0) return false;
        bits = (bits << 6 | (unsigned)digit) & 0xFFFFFF;
        bits_count += 6;
        if (bits_count < 8) continue;
        bits_count -= 8;
        if (*len == max) return false;
        out[(*len)++] = (unsigned char)(bits >> bits_count);
    }
    return true;
}

static bool read_key(struct bytes text, unsigned char out[SCRAM_KEY_BYTES]) {
    unsigned len;
    return read_base64(text, out, SCRAM_KEY_BYTES, &len) && len == SCRAM_KEY_BYTES;
}

static bool read_iterations(struct bytes text, unsigned *iterations) {
    *iterations = 0;
    if (text.len == 0 || text.len > 7) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') return false;
        *iterations = *iterations * 10 + (unsigned)(text.at[i] - '0');
    }
    return *iterations >= 1 && *iterations <= SCRAM_ITERATIONS_MAX;
}

static bool is_nonce(struct bytes text) {
    if (text.len == 0 || text.len > SCRAM_NONCE_BYTES_MAX) return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '!' || text.at[i] > '~' || text.at[i] == ',') return false;
    }
    return true;
}

static void set_nonce(char nonce[SCRAM_NONCE_SIZE], const char *given) {
    unsigned char random[18];
    if (given != NULL) {
        CHECK(strlen(given) < SCRAM_NONCE_SIZE);
        memcpy(nonce, given, strlen(given) + 1);
        return;
    }
    random_bytes(random, sizeof random);
    CHECK(EVP_EncodeBlock((unsigned char *)nonce, random, sizeof random) > 0);
}

/* Takes what stands before the first `end`, which must be there. */
static bool take_until(struct bytes *rest, char end, struct bytes *text) {
    const char *at = rest->len == 0 ? NULL : memchr(rest->at, end, rest->len);
    if (at == NULL) return false;
    *text = bytes_of(rest->at, (size_t)(at - rest->at));
    *rest = bytes_of(at + 1, rest->len - text->len - 1);
    return true;
}

/* Takes `NAME=value` and the comma behind it; the last attribute has none. */
static bool take_attribute(struct bytes *rest, char name, struct bytes *value) {
    struct bytes text;
    if (!take_until(rest, ',', &text)) {
        text = *rest;
        *rest = bytes_of(NULL, 0);
    }
    if (text.len < 2 || text.at[0] != name || text.at[1] != '=') return false;
    *value = bytes_of(text.at + 2, text.len - 2);
    return true;
}

/* SASLprep's result, or NULL where the password counts as it stands. Freed by the caller with
 * memory_free_secret. */
static char *prepare_password(struct bytes password) {
    bool is_ascii = true;
    for (size_t i = 0; i < password.len; i++) {
        if (password.at[i] == '\0') return NULL;
        if ((unsigned char)password.at[i] >= 0x80) is_ascii = false;
    }
    if (is_ascii || password.len > SASLPREP_BYTES_MAX) return NULL;
    char *text = memory_copy(password.at, password.len);
    char *prepared = NULL;
    int status = stringprep_profile(text, &prepared, "SASLprep", STRINGPREP_NO_UNASSIGNED);
    memory_free_secret(text);
    if (status == STRINGPREP_OK && prepared[0] != '\0') return prepared;
    if (status == STRINGPREP_OK) memory_free(prepared);
    return NULL;
}

/* The expensive step: from a password to both keys, for the salt and the iterations that stand in
 * `keys` already. */
static void derive_keys(struct scram_client_cache *keys, struct bytes password) {
    unsigned char salted[SCRAM_KEY_BYTES];
    char *prepared = prepare_password(password);
    struct bytes text = prepared == NULL ? password : bytes_of_text(prepared);
    ERR_clear_error();
    CHECK(PKCS5_PBKDF2_HMAC(text.at, (int)text.len, keys->salt, (int)keys->salt_bytes,
                            (int)keys->iterations, EVP_sha256(), sizeof salted, salted) == 1);
    memory_free_secret(prepared);
    hmac(keys->client_key, salted, bytes_of_text("Client Key"));
    hmac(keys->server_key, salted, bytes_of_text("Server Key"));
    memory_wipe(salted, sizeof salted);
}

bool scram_verifier_parse(struct scram_verifier *verifier, struct bytes text) {
    struct bytes part;
    size_t prefix = strlen(VERIFIER_PREFIX);
    if (text.len < prefix || memcmp(text.at, VERIFIER_PREFIX, prefix) != 0) return false;
    text = bytes_of(text.at + prefix, text.len - prefix);
    if (!take_until(&text, ':', &part) || !read_iterations(part, &verifier->iterations))
        return false;
    if (!take_until(&text, '$', &part) ||
        !read_base64(part, verifier->salt, SCRAM_SALT_BYTES_MAX, &verifier->salt_bytes))
        return false;
    if (!take_until(&text, ':', &part) || !read_key(part, verifier->stored_key)) return false;
    return read_key(text, verifier->server_key);
}

void scram_verifier_derive(struct scram_verifier *verifier, struct bytes password,
                           unsigned iterations, const unsigned char salt[SCRAM_SALT_BYTES]) {
    struct scram_client_cache keys = {.iterations = iterations, .salt_bytes = SCRAM_SALT_BYTES};
    CHECK(iterations >= 1 && iterations <= SCRAM_ITERATIONS_MAX);
    memcpy(keys.salt, salt, SCRAM_SALT_BYTES);
    derive_keys(&keys, password);
    *verifier = (struct scram_verifier){.iterations = iterations, .salt_bytes = SCRAM_SALT_BYTES};
    memcpy(verifier->salt, salt, SCRAM_SALT_BYTES);
    memcpy(verifier->server_key, keys.server_key, SCRAM_KEY_BYTES);
    hash(verifier->stored_key, keys.client_key);
    memory_wipe(&keys, sizeof keys);
}

void scram_key_make(unsigned char key[SCRAM_KEY_BYTES]) {
    random_bytes(key, SCRAM_KEY_BYTES);
}

bool scram_secrets_equal(struct bytes a, struct bytes b, const unsigned char key[SCRAM_KEY_BYTES]) {
    unsigned char digest_a[SCRAM_KEY_BYTES];
    unsigned char digest_b[SCRAM_KEY_BYTES];
    hmac(digest_a, key, a);
    hmac(digest_b, key, b);
    return equal_keys(digest_a, digest_b);
}

void scram_salt(unsigned char salt[SCRAM_SALT_BYTES], struct bytes name,
                const unsigned char key[SCRAM_KEY_BYTES]) {
    unsigned char digest[SCRAM_KEY_BYTES];
    hmac(digest, key, name);
    memcpy(salt, digest, SCRAM_SALT_BYTES);
}

void scram_verifier_mock(struct scram_verifier *verifier, struct bytes name, unsigned iterations,
                         const unsigned char key[SCRAM_KEY_BYTES]) {
    *verifier = (struct scram_verifier){.iterations = iterations, .salt_bytes = SCRAM_SALT_BYTES};
    scram_salt(verifier->salt, name, key);
    random_bytes(verifier->stored_key, SCRAM_KEY_BYTES);
    random_bytes(verifier->server_key, SCRAM_KEY_BYTES);
}

bool scram_verifier_fits(const struct scram_verifier *verifier, struct bytes password) {
    unsigned char stored_key[SCRAM_KEY_BYTES];
    struct scram_client_cache keys = {.iterations = verifier->iterations,
                                      .salt_bytes = verifier->salt_bytes};
    memcpy(keys.salt, verifier->salt, sizeof keys.salt);
    derive_keys(&keys, password);
    hash(stored_key, keys.client_key);
    memory_wipe(&keys, sizeof keys);
    return equal_keys(stored_key, verifier->stored_key);
}

static enum scram_result server_fail(struct scram_server *server, const char *reason) {
    server->state = SCRAM_STATE_OVER;
    server->reason = reason;
    return SCRAM_FAILED;
}

/* ---- channel binding */

static void set_binding(struct scram_binding *binding, const struct scram_channel *channel) {
    if (channel == NULL) return;
    CHECK(channel->end_point.len <= sizeof binding->data);
    CHECK(!channel->is_plus || channel->end_point.len > 0);
    binding->is_plus = channel->is_plus;
    binding->len = channel->end_point.len;
    if (binding->len > 0) memcpy(binding->data, channel->end_point.at, binding->len);
}

/* Appends what the final message says of the channel: the first message's header again, and the
 * hash where that promised one. */
static void append_binding(struct buf *out, const struct scram_binding *binding, char flag) {
    struct buf data = {0};
    if (flag == 'p') {
        buf_append_text(&data, BINDING_TYPE ",,");
        buf_append(&data, (const char *)binding->data, binding->len);
    } else {
        buf_append_format(&data, "%c,,", flag);
    }
    struct bytes content = buf_content(&data);
    append_base64(out, (const unsigned char *)content.at, content.len);
    buf_release(&data);
}

/* What a client says of the channel in its first message. */
static char flag_of(const struct scram_client *client) {
    if (client->binding.is_plus) return 'p';
    return client->is_tls ? 'y' : 'n';
}

/* ---- the server's role */

void scram_server_begin(struct scram_server *server, const struct scram_verifier *verifier,
                        const struct scram_channel *channel) {
    *server = (struct scram_server){.state = SCRAM_STATE_FIRST, .verifier = *verifier};
    set_nonce(server->nonce, channel == NULL ? NULL : channel->nonce);
    set_binding(&server->binding, channel);
}

void scram_server_choose_plus(struct scram_server *server) {
    CHECK(server->state == SCRAM_STATE_FIRST && server->binding.len > 0);
    server->binding.is_plus = true;
}

/* What is wrong with the flag that the first message begins with, or NULL. */
static const char *judge_flag(const struct scram_binding *binding, struct bytes flag) {
    bool is_known = flag.len == 1 && (flag.at[0] == 'n' || flag.at[0] == 'y');
    if (flag.at[0] == 'p') {
        if (binding->len == 0)
            return "client requires SCRAM channel binding, but it is not supported";
        if (!binding->is_plus)
            return "malformed SCRAM message (channel binding with the wrong mechanism)";
        if (bytes_equal_text(flag, BINDING_TYPE)) return NULL;
        return "client asks for another kind of SCRAM channel binding";
    }
    if (!is_known || binding->is_plus) return "malformed SCRAM message (channel binding flag)";
    /* It can bind and was not told that we can: somebody between us has changed the offer. */
    if (flag.at[0] == 'y' && binding->len > 0)
        return "client supports SCRAM channel binding but thinks that it was not offered";
    return NULL;
}

/* Reads the header that comes before client-first-bare. NULL, or what is wrong with it. */
static const char *read_gs2_header(struct scram_server *server, struct bytes *message) {
    struct bytes flag;
    struct bytes authorization;
    if (!take_until(message, ',', &flag) || flag.len == 0) return "malformed SCRAM message";
    const char *reason = judge_flag(&server->binding, flag);
    if (reason != NULL) return reason;
    if (!take_until(message, ',', &authorization)) return "malformed SCRAM message";
    if (authorization.len > 0)
        return "client uses an authorization identity, but it is not supported";
    server->gs2_flag = flag.at[0];
    return NULL;
}

static enum scram_result server_first(struct scram_server *server, struct bytes message,
                                      struct buf *out) {
    const char *reason = read_gs2_header(server, &message);
    if (reason != NULL) return server_fail(server, reason);
    struct bytes bare = message;
    struct bytes name;
    struct bytes nonce;
    if (bare.len >= 2 && memcmp(bare.at, "m=", 2) == 0)
        return server_fail(server, "client requires an unsupported SCRAM extension");
    if (!take_attribute(&message, 'n', &name) || !take_attribute(&message, 'r', &nonce) ||
        !is_nonce(nonce))
        return server_fail(server, "malformed SCRAM message (name or nonce)");

    struct buf *text = &server->auth_message;
    buf_append_bytes(text, bare);
    buf_append_text(text, ",");
    size_t answer_at = buf_length(text);
    buf_append_text(text, "r=");
    server->nonces_at = (uint32_t)buf_length(text);
    buf_append_bytes(text, nonce);
    buf_append_text(text, server->nonce);
    server->nonces_bytes = (uint32_t)buf_length(text) - server->nonces_at;
    buf_append_text(text, ",s=");
    append_base64(text, server->verifier.salt, server->verifier.salt_bytes);
    buf_append_format(text, ",i=%u", server->verifier.iterations);
    struct bytes all = buf_content(text);
    buf_append(out, all.at + answer_at, all.len - answer_at);
    server->state = SCRAM_STATE_FINAL;
    return SCRAM_MORE;
}

/* Whether the proof is that of the verifier's password; keeps the client key. */
static bool is_proved(struct scram_server *server, const unsigned char proof[SCRAM_KEY_BYTES]) {
    unsigned char signature[SCRAM_KEY_BYTES];
    unsigned char stored_key[SCRAM_KEY_BYTES];
    hmac(signature, server->verifier.stored_key, buf_content(&server->auth_message));
    xor_keys(server->client_key, proof, signature);
    hash(stored_key, server->client_key);
    return equal_keys(stored_key, server->verifier.stored_key);
}

static enum scram_result server_final(struct scram_server *server, struct bytes message,
                                      struct buf *out) {
    /* The proof comes last, behind extensions, and holds no comma. */
    const char *comma = message.len == 0 ? NULL : memrchr(message.at, ',', message.len);
    if (comma == NULL) return server_fail(server, "malformed SCRAM message (no proof)");
    struct bytes head = bytes_of(message.at, (size_t)(comma - message.at));
    struct bytes tail = bytes_of(comma + 1, message.len - head.len - 1);
    struct bytes rest = head;
    struct bytes binding;
    struct bytes nonces;
    struct bytes proof_text;
    unsigned char proof[SCRAM_KEY_BYTES];
    if (!take_attribute(&rest, 'c', &binding) || !take_attribute(&rest, 'r', &nonces) ||
        !take_attribute(&tail, 'p', &proof_text) || !read_key(proof_text, proof))
        return server_fail(server, "malformed SCRAM message (final message)");
    struct buf expected = {0};
    append_binding(&expected, &server->binding, server->gs2_flag);
    bool is_bound = bytes_equal(binding, buf_content(&expected));
    buf_release(&expected);
    if (!is_bound)
        return server_fail(server,
                           server->gs2_flag == 'p'
                               ? "SCRAM channel binding is for another connection"
                               : "SCRAM channel binding data differ from the first message");
    struct bytes ours =
        bytes_of(buf_content(&server->auth_message).at + server->nonces_at, server->nonces_bytes);
    if (!bytes_equal(nonces, ours)) return server_fail(server, "SCRAM nonce does not match");

    buf_append_text(&server->auth_message, ",");
    buf_append_bytes(&server->auth_message, head);
    if (!is_proved(server, proof)) return server_fail(server, "wrong password");
    unsigned char signature[SCRAM_KEY_BYTES];
    hmac(signature, server->verifier.server_key, buf_content(&server->auth_message));
    buf_append_text(out, "v=");
    append_base64(out, signature, sizeof signature);
    server->state = SCRAM_STATE_OVER;
    return SCRAM_DONE;
}

enum scram_result scram_server_message(struct scram_server *server, struct bytes message,
                                       struct buf *out) {
    if (message.len > SCRAM_MESSAGE_BYTES_MAX)
        return server_fail(server, "SCRAM message is too long");
    if (message.len > 0 && memchr(message.at, '\0', message.len) != NULL)
        return server_fail(server, "malformed SCRAM message (a NUL in it)");
    if (server->state == SCRAM_STATE_FIRST) return server_first(server, message, out);
    CHECK(server->state == SCRAM_STATE_FINAL);
    return server_final(server, message, out);
}

void scram_server_keys(const struct scram_server *server, struct scram_client_cache *keys) {
    CHECK(server->state == SCRAM_STATE_OVER && server->reason == NULL);
    keys->iterations = server->verifier.iterations;
    keys->salt_bytes = server->verifier.salt_bytes;
    memcpy(keys->salt, server->verifier.salt, sizeof keys->salt);
    memcpy(keys->client_key, server->client_key, SCRAM_KEY_BYTES);
    memcpy(keys->server_key, server->verifier.server_key, SCRAM_KEY_BYTES);
}

void scram_server_release(struct scram_server *server) {
    buf_release(&server->auth_message);
    memory_wipe(server, sizeof *server);
}

static enum scram_result client_fail(struct scram_client *client, const char *reason) {
    client->state = SCRAM_STATE_OVER;
    client->reason = reason;
    return SCRAM_FAILED;
}

bool scram_is_offered(struct bytes mechanisms, const char *name) {
    struct bytes found;
    while (take_until(&mechanisms, '\0', &found) && found.len > 0) {
        if (bytes_equal_text(found, name)) return true;
    }
    return false;
}

void scram_client_begin(struct scram_client *client, struct bytes password,
                        struct scram_client_cache *cache, const struct scram_channel *channel,
                        struct buf *out) {
    *client = (struct scram_client){.password = password, .cache = cache};
    client->is_tls = channel != NULL && channel->is_tls;
    set_nonce(client->nonce, channel == NULL ? NULL : channel->nonce);
    set_binding(&client->binding, channel);
    buf_append_format(&client->auth_message, "n=,r=%s", client->nonce);
    if (client->binding.is_plus) buf_append_text(out, BINDING_TYPE ",,");
    if (!client->binding.is_plus) buf_append_format(out, "%c,,", flag_of(client));
    buf_append_bytes(out, buf_content(&client->auth_message));
}

static struct scram_client_cache *client_keys(struct scram_client *client) {
    return client->cache != NULL ? client->cache : &client->own;
}

/* Reads server-first into `nonces` and the salt and iterations of `asked`. */
static bool read_server_first(const struct scram_client *client, struct bytes message,
                              struct bytes *nonces, struct scram_client_cache *asked) {
    struct bytes salt;
    struct bytes iterations;
    if (!take_attribute(&message, 'r', nonces) || !take_attribute(&message, 's', &salt) ||
        !take_attribute(&message, 'i', &iterations))
        return false;
    size_t own = strlen(client->nonce);
    if (!is_nonce(*nonces) || nonces->len <= own || memcmp(nonces->at, client->nonce, own) != 0)
        return false;
    return read_base64(salt, asked->salt, SCRAM_SALT_BYTES_MAX, &asked->salt_bytes) &&
           read_iterations(iterations, &asked->iterations);
}

/* Fills the cache for the salt and the iterations asked for; false if there is no password to
 * do it with. */
static bool fill_keys(struct scram_client *client, struct scram_client_cache *asked) {
    struct scram_client_cache *keys = client_keys(client);
    if (keys->iterations == asked->iterations && keys->salt_bytes == asked->salt_bytes &&
        memcmp(keys->salt, asked->salt, asked->salt_bytes) == 0)
        return true;
    if (client->password.len == 0) return false;
    derive_keys(asked, client->password);
    *keys = *asked;
    return true;
}

static enum scram_result client_first(struct scram_client *client, struct bytes message,
                                      struct buf *out) {
    struct scram_client_cache asked = {0};
    struct bytes nonces;
    if (!read_server_first(client, message, &nonces, &asked))
        return client_fail(client, "malformed SCRAM message from the server");
    bool filled = fill_keys(client, &asked);
    memory_wipe(&asked, sizeof asked);
    if (!filled) return client_fail(client, "the SCRAM keys at hand are not for this server");

    struct buf *text = &client->auth_message;
    buf_append_text(text, ",");
    buf_append_bytes(text, message);
    buf_append_text(text, ",");
    size_t final_at = buf_length(text);
    buf_append_text(text, "c=");
    append_binding(text, &client->binding, flag_of(client));
    buf_append_text(text, ",r=");
    buf_append_bytes(text, nonces);
    unsigned char stored_key[SCRAM_KEY_BYTES];
    unsigned char proof[SCRAM_KEY_BYTES];
    hash(stored_key, client_keys(client)->client_key);
    hmac(proof, stored_key, buf_content(text));
    xor_keys(proof, proof, client_keys(client)->client_key);
    struct bytes all = buf_content(text);
    buf_append(out, all.at + final_at, all.len - final_at);
    buf_append_text(out, ",p=");
    append_base64(out, proof, sizeof proof);
    client->state = SCRAM_STATE_FINAL;
    return SCRAM_MORE;
}

static enum scram_result client_final(struct scram_client *client, struct bytes message) {
    struct bytes text;
    struct bytes rest = message;
    unsigned char given[SCRAM_KEY_BYTES];
    unsigned char expected[SCRAM_KEY_BYTES];
    if (take_attribute(&rest, 'e', &text))
        return client_fail(client, "the server refused the SCRAM exchange");
    rest = message;
    if (!take_attribute(&rest, 'v', &text) || !read_key(text, given))
        return client_fail(client, "malformed SCRAM message from the server (signature)");
    hmac(expected, client_keys(client)->server_key, buf_content(&client->auth_message));
    if (!equal_keys(given, expected))
        return client_fail(client, "the server did not prove that it knows the password");
    client->state = SCRAM_STATE_OVER;
    return SCRAM_DONE;
}

enum scram_result scram_client_message(struct scram_client *client, struct bytes message,
                                       struct buf *out) {
    if (message.len > SCRAM_MESSAGE_BYTES_MAX)
        return client_fail(client, "SCRAM message from the server is too long");
    if (client->state == SCRAM_STATE_FIRST) return client_first(client, message, out);
    /* A server may send one message too many. */
    if (client->state == SCRAM_STATE_OVER)
        return client_fail(client, "unexpected SCRAM message from the server");
    return client_final(client, message);
}

void scram_client_release(struct scram_client *client) {
    buf_release(&client->auth_message);
    memory_wipe(client, sizeof *client);
}
