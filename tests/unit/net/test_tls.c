/*
 * TLS between two ends of our own, with the test as the wire between them: it carries as many
 * bytes at a time as it likes. Certificates are made here, in a folder of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/memory.h"
#include "net/socket.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUNDS_MAX 100000u
#define BULK_BYTES 3000000u

/* ---- certificates */

static char folder[] = "/tmp/weir-test-tls-XXXXXX";

struct issued {
    EVP_PKEY *key;
    X509 *certificate;
};

static void path_of(char path[64], const char *name, const char *kind) {
    (void)snprintf(path, 64, "%s/%s.%s", folder, name, kind);
}

static void add_extension(X509 *certificate, int nid, const char *value) {
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* A key and a certificate in NAME.key and NAME.pem; signed by itself without an issuer. */
static struct issued issue(const char *name, struct bytes common_name, const char *alternatives,
                           const struct issued *issuer) {
    char path[64];
    struct issued made = {EVP_EC_gen("P-256"), X509_new()};
    X509 *certificate = made.certificate;
    X509_NAME *subject = X509_get_subject_name(certificate);
    assert_int_equal(X509_set_version(certificate, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1 + name[0]), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400));
    assert_int_equal(X509_set_pubkey(certificate, made.key), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC,
                                                (const unsigned char *)"Weir", -1, -1, 0),
                     1);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                                (const unsigned char *)common_name.at,
                                                (int)common_name.len, -1, 0),
                     1);
    const X509 *signer = issuer == NULL ? certificate : issuer->certificate;
    assert_int_equal(X509_set_issuer_name(certificate, X509_get_subject_name(signer)), 1);
    if (issuer == NULL) add_extension(certificate, NID_basic_constraints, "CA:TRUE");
    if (alternatives != NULL) add_extension(certificate, NID_subject_alt_name, alternatives);
    assert_true(X509_sign(certificate, issuer == NULL ? made.key : issuer->key, EVP_sha384()) > 0);
    path_of(path, name, "pem");
    FILE *file = fopen(path, "w");
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    assert_int_equal(fclose(file), 0);
    path_of(path, name, "key");
    file = fopen(path, "w");
    assert_int_equal(PEM_write_PrivateKey(file, made.key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    return made;
}

static void issued_release(struct issued *issued) {
    EVP_PKEY_free(issued->key);
    X509_free(issued->certificate);
}

static int make_certificates(void **unused) {
    (void)unused;
    if (mkdtemp(folder) == NULL) return -1;
    struct issued ca = issue("ca", bytes_of_text("our CA"), NULL, NULL);
    struct issued server = issue("server", bytes_of_text("server"),
                                 "DNS:localhost,DNS:*.local.test,IP:127.0.0.1", &ca);
    struct issued joe = issue("joe", bytes_of_text("joe"),
                              "DNS:joe.test,email:joe@test,IP:10.0.0.1,IP:fe80::1", &ca);
    struct issued nul = issue("nul", bytes_of("joe\0.evil", 9), NULL, &ca);
    struct issued stranger = issue("stranger", bytes_of_text("joe"), NULL, NULL);
    issued_release(&ca);
    issued_release(&server);
    issued_release(&joe);
    issued_release(&nul);
    issued_release(&stranger);
    return 0;
}

static int remove_certificates(void **unused) {
    static const char *const names[] = {"ca", "server", "joe", "nul", "stranger"};
    (void)unused;
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[64];
        path_of(path, names[i], "pem");
        (void)unlink(path);
        path_of(path, names[i], "key");
        (void)unlink(path);
    }
    return rmdir(folder);
}

/* ---- two ends and the wire between them */

/* What a run is about; texts may be NULL. */
struct plan {
    const char *host;        /* that is dialled; NULL: localhost */
    const char *certificate; /* of the end that dials */
    const char *protocols;   /* of the end that dials */
    enum tls_verify accepting;
    enum tls_verify dialling;
    bool is_direct;
    size_t step; /* bytes that the wire carries at a time; 0: all */
};

struct end {
    struct tls *tls;
    int fd;   /* TLS's */
    int wire; /* the other end of that */
    bool is_made;
    bool is_failed;
};

struct run {
    struct plan plan;
    struct end accepting;
    struct end dialling;
};

static struct tls_context *context_of(const struct plan *plan, enum tls_side side) {
    bool is_accepting = side == TLS_CLIENTS;
    char ca[64], pem[64] = "", key[64] = "";
    const char *name = is_accepting ? "server" : plan->certificate;
    path_of(ca, "ca", "pem");
    if (name != NULL) path_of(pem, name, "pem");
    if (name != NULL) path_of(key, name, "key");
    const char *protocols = is_accepting || plan->protocols == NULL ? "all" : plan->protocols;
    struct tls_settings settings = {.side = side,
                                    .verify = is_accepting ? plan->accepting : plan->dialling,
                                    .ca_file = ca,
                                    .cert_file = pem,
                                    .key_file = key,
                                    .ciphers = "default",
                                    .ciphers13 = "",
                                    .protocols = protocols,
                                    .dheparams = "auto",
                                    .ecdhcurve = "auto"};
    struct buf error = {0};
    struct tls_context *context = tls_context_new(&settings, &error);
    assert_non_null(context);
    return context;
}

static void open_wire(struct end *end) {
    int ends[2];
    int bytes = 8192;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    end->fd = ends[0];
    end->wire = ends[1];
}

/* Carries what it may in one direction; true if anything moved. */
static bool carry(const struct run *run, int from, int to) {
    char bytes[65536];
    size_t size = run->plan.step == 0 ? sizeof bytes : run->plan.step;
    ssize_t n = recv(from, bytes, size, MSG_PEEK);
    if (n <= 0) return false;
    n = send(to, bytes, (size_t)n, MSG_NOSIGNAL);
    if (n <= 0) return false;
    assert_int_equal(recv(from, bytes, (size_t)n, 0), n);
    return true;
}

static bool carry_both(const struct run *run) {
    bool has_moved = carry(run, run->dialling.wire, run->accepting.wire);
    return carry(run, run->accepting.wire, run->dialling.wire) || has_moved;
}

static void shake(struct end *end) {
    if (end->is_made || end->is_failed || end->tls == NULL) return;
    ssize_t n = tls_handshake(end->tls);
    end->is_made = n == 0;
    end->is_failed = n == SOCKET_FAILED;
}

/* The direct connection's first bytes are read before there is TLS. */
static void take_hello(struct run *run, struct tls_context *context) {
    char hello[20];
    shake(&run->dialling);
    while (carry_both(run)) {
    }
    ssize_t n = recv(run->accepting.fd, hello, sizeof hello, 0);
    assert_int_equal(n, sizeof hello);
    assert_int_equal(hello[0], TLS_RECORD_HANDSHAKE);
    run->accepting.tls = tls_accept(context, bytes_of(hello, (size_t)n));
    tls_set_descriptor(run->accepting.tls, run->accepting.fd);
}

static void begin(struct run *run, const struct plan *plan) {
    *run = (struct run){.plan = *plan};
    struct tls_context *accepting = context_of(plan, TLS_CLIENTS);
    struct tls_context *dialling = context_of(plan, TLS_SERVERS);
    open_wire(&run->accepting);
    open_wire(&run->dialling);
    const char *host = plan->host == NULL ? "localhost" : plan->host;
    run->dialling.tls = tls_connect(dialling, host, plan->is_direct);
    tls_set_descriptor(run->dialling.tls, run->dialling.fd);
    if (plan->is_direct) {
        take_hello(run, accepting);
    } else {
        run->accepting.tls = tls_accept(accepting, bytes_of(NULL, 0));
        tls_set_descriptor(run->accepting.tls, run->accepting.fd);
    }
    tls_context_unref(&accepting);
    tls_context_unref(&dialling);
    for (unsigned i = 0; i < ROUNDS_MAX; i++) {
        shake(&run->accepting);
        shake(&run->dialling);
        bool has_moved = carry_both(run);
        bool is_over = (run->accepting.is_made || run->accepting.is_failed) &&
                       (run->dialling.is_made || run->dialling.is_failed);
        if (is_over && !has_moved) return;
        if (!has_moved && (run->accepting.is_failed || run->dialling.is_failed)) return;
    }
    fail_msg("the handshake does not end");
}

static void end(struct run *run) {
    struct end *ends[] = {&run->accepting, &run->dialling};
    for (size_t i = 0; i < COUNT(ends); i++) {
        tls_free(&ends[i]->tls);
        assert_null(ends[i]->tls);
        assert_int_equal(close(ends[i]->fd), 0);
        assert_int_equal(close(ends[i]->wire), 0);
    }
}

/* ---- tests */

static const struct plan plans[] = {
    {.step = 0},
    {.step = 1},
    {.step = 7, .protocols = "tlsv1.2"},
    {.dialling = TLS_VERIFY_FULL},
    {.dialling = TLS_VERIFY_FULL, .host = "127.0.0.1"},
    {.dialling = TLS_VERIFY_FULL, .host = "a.local.test", .protocols = "tlsv1.2"},
    {.accepting = TLS_VERIFY_CA, .certificate = "joe"},
    {.accepting = TLS_VERIFY_FULL, .certificate = "joe", .protocols = "tlsv1.2"},
    {.is_direct = true, .step = 3},
};

/* Channel binding binds to the same certificate on both sides, hashed as it was signed. */
static void handshakes_succeed(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(plans); i++) {
        struct run run;
        unsigned char mine[TLS_END_POINT_BYTES_MAX], theirs[TLS_END_POINT_BYTES_MAX];
        begin(&run, &plans[i]);
        assert_true(run.accepting.is_made && run.dialling.is_made);
        assert_int_equal(tls_server_end_point(run.accepting.tls, mine), 48);
        assert_int_equal(tls_server_end_point(run.dialling.tls, theirs), 48);
        assert_memory_equal(mine, theirs, 48);
        assert_int_equal(tls_is_verified(run.accepting.tls), plans[i].accepting != TLS_VERIFY_NONE);
        assert_int_equal(tls_is_verified(run.dialling.tls), plans[i].dialling != TLS_VERIFY_NONE);
        struct buf text = {0};
        tls_describe(run.dialling.tls, &text);
        bool is_old = plans[i].protocols != NULL;
        assert_int_equal(strncmp(buf_text(&text), is_old ? "TLSv1.2/ECDHE" : "TLSv1.3/TLS_", 12),
                         0);
        assert_int_equal(strstr(buf_text(&text), "/ECDH=") != NULL, is_old);
        buf_release(&text);
        end(&run);
    }
}

static const struct {
    struct plan plan;
    bool is_dialling; /* who notices */
    const char *error;
} failures[] = {
    {{.dialling = TLS_VERIFY_FULL, .host = "elsewhere"},
     true,
     "handshake failed: the certificate is not for host \"elsewhere\""},
    {{.dialling = TLS_VERIFY_FULL, .host = "127.0.0.2"},
     true,
     "handshake failed: the certificate is not for host \"127.0.0.2\""},
    {{.dialling = TLS_VERIFY_FULL, .host = "b.a.local.test"},
     true,
     "handshake failed: the certificate is not for host \"b.a.local.test\""},
    {{.accepting = TLS_VERIFY_CA}, false, "handshake failed: peer did not return a certificate"},
    {{.accepting = TLS_VERIFY_CA, .certificate = "stranger"},
     false,
     "handshake failed: certificate verify failed (self-signed certificate)"},
};

static void handshakes_fail(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(failures); i++) {
        struct run run;
        char byte;
        begin(&run, &failures[i].plan);
        const struct end *one = failures[i].is_dialling ? &run.dialling : &run.accepting;
        assert_true(one->is_failed);
        assert_string_equal(tls_error(one->tls), failures[i].error);
        assert_false(tls_is_verified(one->tls));
        assert_int_equal(tls_read(one->tls, &byte, 1), SOCKET_FAILED);
        struct bytes part = bytes_of("x", 1);
        assert_int_equal(tls_write(one->tls, &part, 1), SOCKET_FAILED);
        end(&run);
    }
}

static void append_name(void *owner, struct bytes name) {
    buf_append_bytes(owner, name);
    buf_append_text(owner, " ");
}

static void names_come_from_verified_certificates(void **unused) {
    (void)unused;
    struct run run;
    struct buf text = {0};
    begin(&run, &(struct plan){.accepting = TLS_VERIFY_FULL, .certificate = "joe"});
    assert_true(tls_peer_common_name(run.accepting.tls, &text));
    assert_string_equal(buf_text(&text), "joe");
    buf_clear(&text);
    assert_true(tls_peer_subject(run.accepting.tls, &text));
    assert_string_equal(buf_text(&text), "CN=joe,O=Weir");
    buf_clear(&text);
    tls_peer_each_name(run.accepting.tls, append_name, &text);
    assert_string_equal(buf_text(&text), "joe joe.test 10.0.0.1 fe80::1 ");
    buf_clear(&text);
    assert_false(tls_peer_common_name(run.dialling.tls, &text)); /* it verified nothing */
    assert_false(tls_peer_subject(run.dialling.tls, &text));
    end(&run);
    begin(&run, &(struct plan){.accepting = TLS_VERIFY_FULL, .certificate = "nul"});
    assert_true(tls_is_verified(run.accepting.tls));
    assert_false(tls_peer_common_name(run.accepting.tls, &text));
    assert_int_equal(buf_length(&text), 0);
    buf_release(&text);
    end(&run);
}

/* Writes all of `bulk`, in parts of all sizes, against a wire that is often full. */
static size_t write_some(struct end *end, struct bytes bulk, size_t from) {
    struct bytes parts[SOCKET_PARTS_MAX];
    size_t count = 0;
    for (size_t at = from, n = 1; at < bulk.len && count < COUNT(parts); at += n, count++) {
        n = (at * 7 + count * 31) % 2000 + 1;
        if (count % 9 == 8) n = 40000;
        if (n > bulk.len - at) n = bulk.len - at;
        parts[count] = bytes_of(bulk.at + at, n);
    }
    if (count == 0) return 0;
    ssize_t n = tls_write(end->tls, parts, count);
    assert_true(n != SOCKET_FAILED);
    return n > 0 ? (size_t)n : 0;
}

static void much_goes_through(void **unused) {
    (void)unused;
    struct run run;
    struct buf sent = {0}, arrived = {0};
    for (size_t i = 0; i < BULK_BYTES; i++) buf_append_u8(&sent, (unsigned)(i * i >> 7) & 255);
    begin(&run, &(struct plan){.step = 5000});
    size_t written = 0;
    for (unsigned i = 0; i < ROUNDS_MAX && buf_length(&arrived) < BULK_BYTES; i++) {
        written += write_some(&run.dialling, buf_content(&sent), written);
        (void)carry_both(&run);
        char room[20000];
        ssize_t n;
        do {
            n = tls_read(run.accepting.tls, room, sizeof room);
            if (n > 0) buf_append(&arrived, room, (size_t)n);
        } while (n > 0 && tls_has_pending(run.accepting.tls));
    }
    assert_true(bytes_equal(buf_content(&sent), buf_content(&arrived)));
    buf_release(&sent);
    buf_release(&arrived);
    end(&run);
}

/* A part of a record is nothing to be read, and must not be told as such for ever. */
static void half_a_record_is_not_pending(void **unused) {
    (void)unused;
    struct run run;
    struct bytes part = bytes_of("some words", 10);
    char room[100];
    begin(&run, &(struct plan){.step = 0});
    assert_int_equal(tls_write(run.dialling.tls, &part, 1), 10);
    run.plan.step = 9;
    assert_true(carry(&run, run.dialling.wire, run.accepting.wire));
    assert_int_equal(tls_read(run.accepting.tls, room, sizeof room), SOCKET_WANTS_READ);
    assert_false(tls_has_pending(run.accepting.tls));
    run.plan.step = 0;
    assert_true(carry(&run, run.dialling.wire, run.accepting.wire));
    assert_int_equal(tls_read(run.accepting.tls, room, 4), 4);
    assert_true(tls_has_pending(run.accepting.tls));
    assert_int_equal(tls_read(run.accepting.tls, room + 4, sizeof room - 4), 6);
    assert_false(tls_has_pending(run.accepting.tls));
    assert_memory_equal(room, "some words", 10);
    end(&run);
}

/* With and without the closing alert. */
static void ends_are_ends(void **unused) {
    (void)unused;
    for (unsigned i = 0; i < 2; i++) {
        struct run run;
        char byte;
        begin(&run, &(struct plan){.step = 0});
        if (i == 0) tls_free(&run.dialling.tls);
        (void)carry_both(&run);
        assert_int_equal(shutdown(run.accepting.wire, SHUT_WR), 0);
        assert_int_equal(tls_read(run.accepting.tls, &byte, 1), 0);
        assert_string_equal(tls_error(run.accepting.tls), "");
        end(&run);
    }
}

static void garbage_after_the_handshake(void **unused) {
    static const char garbage[] = "\x17\x03\x03\x00\x20 this is no record of ours at all";
    (void)unused;
    struct run run;
    char byte;
    begin(&run, &(struct plan){.step = 0});
    assert_int_equal(send(run.accepting.wire, garbage, sizeof garbage, 0), sizeof garbage);
    assert_int_equal(tls_read(run.accepting.tls, &byte, 1), SOCKET_FAILED);
    assert_int_equal(errno, EPROTO);
    assert_int_equal(strncmp(tls_error(run.accepting.tls), "TLS read failed: ", 17), 0);
    end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_succeed),
        cmocka_unit_test(handshakes_fail),
        cmocka_unit_test(names_come_from_verified_certificates),
        cmocka_unit_test(much_goes_through),
        cmocka_unit_test(half_a_record_is_not_pending),
        cmocka_unit_test(ends_are_ends),
        cmocka_unit_test(garbage_after_the_handshake),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
