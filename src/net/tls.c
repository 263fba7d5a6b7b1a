/*
 * One connection's TLS; see net/tls.h.
 *
 * OpenSSL reads and writes through a BIO of ours, which calls recv and send on the descriptor. At
 * first it gives what had been read before TLS began: the ClientHello of a direct connection.
 *
 * Bytes that OpenSSL has read and not given yet are announced by no event. A part of a record
 * among them is no news, though, until more comes: `is_dry` remembers that the last read had
 * nothing to give, and is forgotten with the next.
 *
 * After a fatal error OpenSSL must not be called again, not even for the closing alert.
 */
#include "net/tls.h"

#include "net/socket.h"
#include "tls_context.h"

#include "core/check.h"
#include "core/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <sys/socket.h>

/* The most that one record carries; what comes in smaller parts is put together up to that. */
#define RECORD_BYTES 16384u

struct tls {
    SSL *ssl;
    struct tls_context *context;
    int fd;
    bool is_direct;
    bool is_done;   /* the handshake is over */
    bool is_failed; /* nothing may be called any more */
    bool is_at_end; /* the descriptor has */
    bool is_dry;
    struct buf ahead;
    char *host;  /* TLS_SERVERS */
    char *error; /* NULL: none */
};

/* ---- the BIO */

static bool is_again(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int read_ahead(struct tls *tls, char *at, int len) {
    struct bytes content = buf_content(&tls->ahead);
    size_t n = content.len < (size_t)len ? content.len : (size_t)len;
    memcpy(at, content.at, n);
    buf_consume(&tls->ahead, n);
    if (buf_length(&tls->ahead) == 0) buf_release(&tls->ahead);
    return (int)n;
}

static int on_bio_read(BIO *bio, char *at, int len) {
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (buf_length(&tls->ahead) > 0) return read_ahead(tls, at, len);
    ssize_t n = recv(tls->fd, at, (size_t)len, 0);
    if (n < 0 && is_again()) BIO_set_retry_read(bio);
    if (n == 0) tls->is_at_end = true;
    return (int)n;
}

static int on_bio_write(BIO *bio, const char *at, int len) {
    const struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = send(tls->fd, at, (size_t)len, MSG_NOSIGNAL);
    if (n < 0 && is_again()) BIO_set_retry_write(bio);
    return (int)n;
}

static long on_bio_control(BIO *bio, int command, long number, void *pointer) {
    const struct tls *tls = BIO_get_data(bio);
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF) return tls->is_at_end;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void make_bio_method(void) {
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir");
    CHECK(bio_method != NULL);
    CHECK(BIO_meth_set_read(bio_method, on_bio_read) == 1);
    CHECK(BIO_meth_set_write(bio_method, on_bio_write) == 1);
    CHECK(BIO_meth_set_ctrl(bio_method, on_bio_control) == 1);
}

/* ---- beginning and end */

static struct tls *tls_new(struct tls_context *context) {
    struct tls *tls = memory_new(sizeof *tls);
    CHECK(pthread_once(&bio_once, make_bio_method) == 0);
    tls->context = tls_context_ref(context);
    tls->fd = -1;
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(bio_method);
    CHECK(tls->ssl != NULL && bio != NULL); /* only for lack of memory */
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    return tls;
}

struct tls *tls_accept(struct tls_context *context, struct bytes ahead) {
    CHECK(context->side == TLS_CLIENTS);
    struct tls *tls = tls_new(context);
    tls->is_direct = ahead.len > 0;
    buf_append_bytes(&tls->ahead, ahead);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

static bool is_address(const char *host) {
    unsigned char room[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, room) == 1 || inet_pton(AF_INET6, host, room) == 1;
}

struct tls *tls_connect(struct tls_context *context, const char *host, bool is_direct) {
    CHECK(context->side == TLS_SERVERS);
    struct tls *tls = tls_new(context);
    tls->is_direct = is_direct;
    tls->host = memory_copy_text(host);
    SSL_set_connect_state(tls->ssl);
    tls_session_offer(context, tls->ssl, tls->host);
    /* RFC 6066, section 3: names only. One that is too long to be sent cannot be verified. */
    if (!is_address(host) && SSL_set_tlsext_host_name(tls->ssl, host) != 1) ERR_clear_error();
    if (is_direct)
        CHECK(SSL_set_alpn_protos(tls->ssl, tls_protocol_name, TLS_PROTOCOL_NAME_BYTES) == 0);
    return tls;
}

void tls_set_descriptor(struct tls *tls, int fd) {
    tls->fd = fd;
}

void tls_free(struct tls **tls_at) {
    struct tls *tls = *tls_at;
    if (tls == NULL) return;
    *tls_at = NULL;
    if (tls->is_done && !tls->is_failed) {
        ERR_clear_error();
        (void)SSL_shutdown(tls->ssl);
    }
    SSL_free(tls->ssl);
    ERR_clear_error();
    tls_context_unref(&tls->context);
    buf_release(&tls->ahead);
    memory_free(tls->host);
    memory_free(tls->error);
    memory_free(tls);
}

/* ---- failures */

static ssize_t fail(struct tls *tls, struct buf *text) {
    tls->is_failed = true;
    memory_free(tls->error);
    tls->error = memory_copy_text(buf_text(text));
    buf_release(text);
    errno = EPROTO;
    return SOCKET_FAILED;
}

/* A failure in OpenSSL's words, and what it had against the peer's certificate. */
static ssize_t fail_as_library_says(struct tls *tls, const char *what) {
    struct buf text = {0};
    buf_append_format(&text, "%s: ", what);
    tls_append_reason(&text, 0);
    long verified = SSL_get_verify_result(tls->ssl);
    if (!tls->is_done && verified != X509_V_OK)
        buf_append_format(&text, " (%s)", X509_verify_cert_error_string(verified));
    return fail(tls, &text);
}

/* What a call of OpenSSL that did not succeed comes to; `at_end` at the peer's end. */
static ssize_t judge(struct tls *tls, int result, const char *what, ssize_t at_end) {
    int error = errno;
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return SOCKET_WANTS_READ;
    case SSL_ERROR_WANT_WRITE:
        return SOCKET_WANTS_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        errno = ECONNRESET;
        return at_end;
    case SSL_ERROR_SSL:
        return fail_as_library_says(tls, what);
    default: /* the descriptor's own trouble */
        tls->is_failed = true;
        errno = error == 0 ? ECONNRESET : error;
        return SOCKET_FAILED;
    }
}

const char *tls_error(const struct tls *tls) {
    return tls->error == NULL ? "" : tls->error;
}

/* ---- the handshake */

/* Whether the certificate is made out to the host. A name in the subject counts only where there
 * is no alternative name of the kind, which is OpenSSL's rule too. */
static bool is_for_host(const struct tls *tls) {
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    if (certificate == NULL) return false;
    if (X509_check_ip_asc(certificate, tls->host, 0) == 1) return true;
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    return X509_check_host(certificate, tls->host, strlen(tls->host), flags, NULL) == 1;
}

static bool has_protocol(const struct tls *tls) {
    const unsigned char *name;
    unsigned len;
    SSL_get0_alpn_selected(tls->ssl, &name, &len);
    return len > 0; /* OpenSSL sees to it that it is one that was offered */
}

/* What OpenSSL leaves to us. */
static ssize_t finish_handshake(struct tls *tls) {
    struct buf text = {0};
    if (tls->is_direct && !has_protocol(tls))
        buf_append_text(&text, "handshake failed: a direct TLS connection needs ALPN");
    else if (tls->context->side == TLS_SERVERS && tls->context->verify == TLS_VERIFY_FULL &&
             !is_for_host(tls))
        buf_append_format(&text, "handshake failed: the certificate is not for host \"%s\"",
                          tls->host);
    if (buf_length(&text) > 0) return fail(tls, &text);
    tls->is_done = true;
    return 0;
}

ssize_t tls_handshake(struct tls *tls) {
    CHECK(!tls->is_done && !tls->is_failed);
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1) return finish_handshake(tls);
    return judge(tls, result, "handshake failed", SOCKET_FAILED);
}

/* ---- bytes */

ssize_t tls_read(struct tls *tls, char *at, size_t size) {
    if (tls->is_failed) {
        errno = ECONNRESET;
        return SOCKET_FAILED;
    }
    ERR_clear_error();
    errno = 0;
    int n = SSL_read(tls->ssl, at, size < INT_MAX ? (int)size : INT_MAX);
    ssize_t result = n > 0 ? n : judge(tls, n, "TLS read failed", 0);
    tls->is_dry = result <= 0;
    return result;
}

bool tls_has_pending(const struct tls *tls) {
    return !tls->is_dry && !tls->is_failed && SSL_has_pending(tls->ssl) == 1;
}

/* What goes into the next record, from byte `skip` on: a piece of one part, or several short parts
 * put together in `room`. */
static struct bytes next_record(const struct bytes *parts, size_t count, size_t skip, char *room) {
    size_t i = 0;
    while (skip >= parts[i].len) skip -= parts[i++].len;
    struct bytes first = bytes_of(parts[i].at + skip, parts[i].len - skip);
    if (first.len >= RECORD_BYTES || i + 1 == count) return first;
    size_t len = 0;
    for (; i < count && len < RECORD_BYTES; i++, skip = 0) {
        size_t n = parts[i].len - skip;
        if (n > RECORD_BYTES - len) n = RECORD_BYTES - len;
        memcpy(room + len, parts[i].at + skip, n);
        len += n;
    }
    return bytes_of(room, len);
}

ssize_t tls_write(struct tls *tls, const struct bytes *parts, size_t count) {
    char room[RECORD_BYTES];
    size_t total = 0, written = 0;
    if (tls->is_failed) {
        errno = EPIPE;
        return SOCKET_FAILED;
    }
    for (size_t i = 0; i < count; i++) total += parts[i].len;
    while (written < total) {
        struct bytes record = next_record(parts, count, written, room);
        ERR_clear_error();
        errno = 0;
        int n = SSL_write(tls->ssl, record.at, record.len < INT_MAX ? (int)record.len : INT_MAX);
        if (n <= 0) {
            ssize_t answer = judge(tls, n, "TLS write failed", SOCKET_FAILED);
            return written > 0 ? (ssize_t)written : answer;
        }
        written += (size_t)n;
    }
    return (ssize_t)written;
}

/* ---- what is known of the peer */

void tls_describe(const struct tls *tls, struct buf *text) {
    buf_append_format(text, "%s/%s", SSL_get_version(tls->ssl), SSL_get_cipher_name(tls->ssl));
    /* Up to TLS 1.2 the cipher says how keys are exchanged, but not on which curve. */
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    int exchange = cipher == NULL ? NID_undef : SSL_CIPHER_get_kx_nid(cipher);
    int group = (int)SSL_get_negotiated_group(tls->ssl);
    if (exchange == NID_kx_ecdhe && group != NID_undef)
        buf_append_format(text, "/ECDH=%s", OBJ_nid2sn(group));
}

bool tls_is_verified(const struct tls *tls) {
    return tls->is_done && tls->context->verify != TLS_VERIFY_NONE &&
           SSL_get0_peer_certificate(tls->ssl) != NULL &&
           SSL_get_verify_result(tls->ssl) == X509_V_OK;
}

/* Appends a string of a certificate as UTF-8; false if it holds a NUL. */
static bool append_string(struct buf *text, const ASN1_STRING *string) {
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, string);
    bool is_right = len > 0 && memchr(utf8, '\0', (size_t)len) == NULL;
    if (is_right) buf_append(text, (const char *)utf8, (size_t)len);
    OPENSSL_free(utf8);
    ERR_clear_error();
    return is_right;
}

static X509_NAME *subject_of(const struct tls *tls) {
    if (!tls_is_verified(tls)) return NULL;
    return X509_get_subject_name(SSL_get0_peer_certificate(tls->ssl));
}

bool tls_peer_common_name(const struct tls *tls, struct buf *text) {
    X509_NAME *subject = subject_of(tls);
    int place = subject == NULL ? -1 : X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (place < 0) return false;
    return append_string(text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, place)));
}

bool tls_peer_subject(const struct tls *tls, struct buf *text) {
    X509_NAME *subject = subject_of(tls);
    BIO *bio = subject == NULL ? NULL : BIO_new(BIO_s_mem());
    if (bio == NULL) return false;
    char *at = NULL;
    int result = X509_NAME_print_ex(bio, subject, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
    long len = BIO_get_mem_data(bio, &at);
    bool is_right = result >= 0 && len > 0 && memchr(at, '\0', (size_t)len) == NULL;
    if (is_right) buf_append(text, at, (size_t)len);
    (void)BIO_free(bio);
    ERR_clear_error();
    return is_right;
}

/* Appends an alternative name that is a DNS name or an IP address; false if it is neither. */
static bool append_alternative(struct buf *text, const GENERAL_NAME *name) {
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    if (type == GEN_DNS) return append_string(text, value);
    int len = type == GEN_IPADD ? ASN1_STRING_length(value) : 0;
    char address[INET6_ADDRSTRLEN];
    if (len != 4 && len != 16) return false;
    CHECK(inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), address,
                    sizeof address) != NULL);
    buf_append_text(text, address);
    return true;
}

void tls_peer_each_name(const struct tls *tls, void (*visit)(void *owner, struct bytes name),
                        void *owner) {
    struct buf common_name = {0};
    if (!tls_is_verified(tls)) return;
    if (tls_peer_common_name(tls, &common_name)) visit(owner, buf_content(&common_name));
    buf_release(&common_name);
    GENERAL_NAMES *names =
        X509_get_ext_d2i(SSL_get0_peer_certificate(tls->ssl), NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        struct buf text = {0};
        if (append_alternative(&text, sk_GENERAL_NAME_value(names, i)))
            visit(owner, buf_content(&text));
        buf_release(&text);
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
}

size_t tls_server_end_point(const struct tls *tls, unsigned char hash[TLS_END_POINT_BYTES_MAX]) {
    _Static_assert(TLS_END_POINT_BYTES_MAX >= EVP_MAX_MD_SIZE, "the longest hash fits");
    const X509 *certificate = tls->context->side == TLS_CLIENTS
                                  ? SSL_get_certificate(tls->ssl)
                                  : SSL_get0_peer_certificate(tls->ssl);
    int digest = NID_undef;
    unsigned len = 0;
    if (certificate == NULL ||
        X509_get_signature_info((X509 *)(uintptr_t)certificate, &digest, NULL, NULL, NULL) != 1)
        return 0;
    if (digest == NID_md5 || digest == NID_sha1) digest = NID_sha256;
    const EVP_MD *method = EVP_get_digestbynid(digest);
    bool is_done = method != NULL && X509_digest(certificate, method, hash, &len) == 1;
    ERR_clear_error();
    return is_done ? len : 0;
}
