/*
 * SCRAM-SHA-256 against RFC 7677's example, against itself, and against messages that are wrong
 * in each of their fields.
 */
#include "auth/scram.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define NONCES       CLIENT_NONCE SERVER_NONCE
#define SALT         "W22ZaJ0SNY7soEsUEjb6gQ=="
#define STORED_KEY   "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define SERVER_KEY   "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define PENCIL       "SCRAM-SHA-256$4096:" SALT "$" STORED_KEY ":" SERVER_KEY
#define SERVER_FIRST "r=" NONCES ",s=" SALT ",i=4096"

/* Of the user name "user", as in RFC 7677, and of the empty one that PostgreSQL's clients send. */
#define PROOF_USER      "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define SIGNATURE_USER  "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define PROOF_EMPTY     "qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k="
#define SIGNATURE_EMPTY "3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg="

static struct scram_verifier pencil_verifier(void) {
    struct scram_verifier verifier;
    assert_true(scram_verifier_parse(&verifier, bytes_of_text(PENCIL)));
    return verifier;
}

static const unsigned char *salt_of_text(const char *text) {
    assert_int_equal(strlen(text), SCRAM_SALT_BYTES);
    return (const unsigned char *)text;
}

static void test_rfc_7677_server(void **state) {
    (void)state;
    struct scram_verifier verifier = pencil_verifier();
    struct scram_server server;
    struct buf out = {0};
    scram_server_begin(&server, &verifier, &(struct scram_channel){.nonce = SERVER_NONCE});
    assert_int_equal(
        scram_server_message(&server, bytes_of_text("n,,n=user,r=" CLIENT_NONCE), &out),
        SCRAM_MORE);
    assert_string_equal(buf_text(&out), SERVER_FIRST);
    buf_clear(&out);
    struct bytes final = bytes_of_text("c=biws,r=" NONCES ",p=" PROOF_USER);
    assert_int_equal(scram_server_message(&server, final, &out), SCRAM_DONE);
    assert_string_equal(buf_text(&out), "v=" SIGNATURE_USER);
    scram_server_release(&server);
    buf_release(&out);
}

static void test_client_vector(void **state) {
    (void)state;
    struct scram_client client;
    struct buf out = {0};
    scram_client_begin(&client, bytes_of_text("pencil"), NULL,
                       &(struct scram_channel){.nonce = CLIENT_NONCE}, &out);
    assert_string_equal(buf_text(&out), "n,,n=,r=" CLIENT_NONCE);
    buf_clear(&out);
    assert_int_equal(scram_client_message(&client, bytes_of_text(SERVER_FIRST), &out), SCRAM_MORE);
    assert_string_equal(buf_text(&out), "c=biws,r=" NONCES ",p=" PROOF_EMPTY);
    buf_clear(&out);
    assert_int_equal(scram_client_message(&client, bytes_of_text("v=" SIGNATURE_EMPTY), &out),
                     SCRAM_DONE);
    assert_int_equal(buf_length(&out), 0);
    /* A server that goes on talking is refused, not believed. */
    assert_int_equal(scram_client_message(&client, bytes_of_text("v=" SIGNATURE_EMPTY), &out),
                     SCRAM_FAILED);
    scram_client_release(&client);
    buf_release(&out);
}

static void test_derived_verifier_is_the_stored_one(void **state) {
    (void)state;
    struct scram_verifier stored = pencil_verifier();
    struct scram_verifier derived;
    scram_verifier_derive(&derived, bytes_of_text("pencil"), 4096, stored.salt);
    assert_memory_equal(derived.stored_key, stored.stored_key, SCRAM_KEY_BYTES);
    assert_memory_equal(derived.server_key, stored.server_key, SCRAM_KEY_BYTES);
    assert_true(scram_verifier_fits(&stored, bytes_of_text("pencil")));
    assert_false(scram_verifier_fits(&stored, bytes_of_text("pencil ")));
    assert_false(scram_verifier_fits(&stored, bytes_of_text("")));
}

/* Runs a whole exchange; the client's password and cache against a verifier. */
static bool exchange(const struct scram_verifier *verifier, const char *password,
                     struct scram_client_cache *cache, struct scram_client_cache *proved) {
    struct scram_server server;
    struct scram_client client;
    struct buf to_server = {0};
    struct buf to_client = {0};
    scram_server_begin(&server, verifier, NULL);
    scram_client_begin(&client, bytes_of_text(password), cache, NULL, &to_server);
    assert_int_equal(scram_server_message(&server, buf_content(&to_server), &to_client),
                     SCRAM_MORE);
    buf_clear(&to_server);
    enum scram_result result = scram_client_message(&client, buf_content(&to_client), &to_server);
    if (result == SCRAM_MORE) {
        buf_clear(&to_client);
        result = scram_server_message(&server, buf_content(&to_server), &to_client);
    }
    if (result == SCRAM_DONE) {
        assert_int_equal(scram_client_message(&client, buf_content(&to_client), &to_server),
                         SCRAM_DONE);
        if (proved != NULL) scram_server_keys(&server, proved);
    }
    scram_server_release(&server);
    scram_client_release(&client);
    buf_release(&to_server);
    buf_release(&to_client);
    return result == SCRAM_DONE;
}

/* A password in the verifier, one at the client, and whether they are the same to SASLprep. */
static void test_passwords(void **state) {
    (void)state;
    static const struct {
        const char *stored;
        const char *given;
        bool fits;
    } rows[] = {
        {"secret", "secret", true},
        {"secret", "Secret", false},
        {"secret", "secre", false},
        {"secret", "secret2", false},
        {"a,b=c", "a,b=c", true},
        {"IX", "I\xC2\xADX", true}, /* soft hyphen: mapped to nothing */
        {"user", "USER", false},
        {"a", "\xC2\xAA", true},      /* compatibility form of a */
        {"IX", "\xE2\x85\xA8", true}, /* Roman numeral nine */
        {"a b",
         "a\xC2\xA0"
         "b",
         true},                                 /* no-break space becomes a space */
        {"caf\xC3\xA9", "cafe\xCC\x81", true},  /* composed, decomposed */
        {"\xD8\xA7\x31", "\xD8\xA7\x31", true}, /* bidi rule broken: as it stands */
        {"\xFF\xFEpass", "\xFF\xFEpass", true}, /* not UTF-8: as it stands */
        {"\xFF\xFEpass", "\xFF\xFFpass", false},
        {"\xC2\xAA\xFF", "a\xFF", false},               /* not UTF-8: nothing is mapped */
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80", true}, /* newer than Unicode 3.2 */
        {"\xC2\xAD", "\xC2\xAD", true},                 /* nothing would be left: as it stands */
        {"\xC2\xAA\xF0\x9F\x98\x80", "a\xF0\x9F\x98\x80", false}, /* so nothing else is mapped */
        {"\xC3\xA9\x07", "e\xCC\x81\x07", false}, /* a prohibited character: as it stands */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_verifier verifier;
        scram_verifier_derive(&verifier, bytes_of_text(rows[i].stored), 1,
                              salt_of_text("0123456789abcdef"));
        if (exchange(&verifier, rows[i].given, NULL, NULL) != rows[i].fits ||
            scram_verifier_fits(&verifier, bytes_of_text(rows[i].given)) != rows[i].fits) {
            print_error("row %zu: %s\n", i, rows[i].given);
            fail();
        }
    }
}

/* Passwords of the greatest length, with characters that are costly to sort. */
static void test_long_passwords(void **state) {
    (void)state;
    static char password[65531];
    for (size_t i = 0; i + 4 <= sizeof password; i += 4)
        memcpy(password + i, "\xCC\x81\xCC\xA3", 4);
    for (size_t len = 1000; len < sizeof password; len += 64530) {
        struct scram_verifier verifier;
        char end = password[len];
        password[len] = '\0';
        scram_verifier_derive(&verifier, bytes_of_text(password), 1,
                              salt_of_text("0123456789abcdef"));
        assert_true(exchange(&verifier, password, NULL, NULL));
        password[len] = end;
    }
}

/* Beyond the limit nothing is mapped: the same sign, below and above it. */
static void test_saslprep_limit(void **state) {
    (void)state;
    static const struct {
        size_t signs; /* of two bytes, each mapped to one "a" */
        bool fits;
    } rows[] = {{512, true}, {513, false}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_verifier verifier;
        struct buf signs = {0};
        struct buf letters = {0};
        for (size_t n = 0; n < rows[i].signs; n++) {
            buf_append_text(&signs, "\xC2\xAA");
            buf_append_text(&letters, "a");
        }
        scram_verifier_derive(&verifier, buf_content(&signs), 1, salt_of_text("0123456789abcdef"));
        assert_int_equal(scram_verifier_fits(&verifier, buf_content(&letters)), rows[i].fits);
        buf_release(&signs);
        buf_release(&letters);
    }
}

static void test_verifier_texts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_good;
    } rows[] = {
        {PENCIL, true},
        {"SCRAM-SHA-256$1:c2FsdA==$" STORED_KEY ":" SERVER_KEY, true},
        {"SCRAM-SHA-256$1000000:c2FsdA==$" STORED_KEY ":" SERVER_KEY, true},
        {"", false},
        {"SCRAM-SHA-256", false},
        {"SCRAM-SHA-256$", false},
        {"SCRAM-SHA-256$4096", false},
        {"SCRAM-SHA-256$4096:", false},
        {"SCRAM-SHA-256$4096:" SALT, false},
        {"SCRAM-SHA-256$4096:" SALT "$", false},
        {"SCRAM-SHA-256$4096:" SALT "$" STORED_KEY, false},
        {"SCRAM-SHA-256$4096:" SALT "$" STORED_KEY ":", false},
        {"SCRAM-SHA-1$4096:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"scram-sha-256$4096:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$0:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$-1:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$ 4096:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$1000001:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4294967297:" SALT "$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:W22Za$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:W22Z\n===$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:W=2Z$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:====$" STORED_KEY ":" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:" SALT "$c2FsdA==:" SERVER_KEY, false},
        {"SCRAM-SHA-256$4096:" SALT "$" STORED_KEY ":c2FsdA==", false},
        {"SCRAM-SHA-256$4096:" SALT "$" STORED_KEY ":" SERVER_KEY "AAAA", false},
        {PENCIL " ", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_verifier verifier;
        if (scram_verifier_parse(&verifier, bytes_of_text(rows[i].text)) != rows[i].is_good) {
            print_error("%s\n", rows[i].text);
            fail();
        }
    }
}

static void test_long_salts(void **state) {
    (void)state;
    for (unsigned groups = 21; groups <= 23; groups++) { /* 63, 66 and 69 bytes */
        struct buf text = {0};
        struct scram_verifier verifier;
        buf_append_text(&text, "SCRAM-SHA-256$1:");
        for (unsigned i = 0; i < groups; i++) buf_append_text(&text, "AAAA");
        buf_append_text(&text, "$" STORED_KEY ":" SERVER_KEY);
        assert_int_equal(scram_verifier_parse(&verifier, buf_content(&text)), groups == 21);
        buf_release(&text);
    }
}

static void test_malformed_client_first(void **state) {
    (void)state;
    static const struct {
        const char *message;
        enum scram_result result;
        const char *reason; /* a part of it */
    } rows[] = {
        {"n,,n=,r=abc", SCRAM_MORE, ""},
        {"y,,n=,r=abc", SCRAM_MORE, ""},
        {"n,,n=someone,r=abc,x=extension", SCRAM_MORE, ""},
        {"p=tls-server-end-point,,n=,r=abc", SCRAM_FAILED, "channel binding"},
        {"n,a=other,n=,r=abc", SCRAM_FAILED, "authorization identity"},
        {"n,,m=x,n=,r=abc", SCRAM_FAILED, "extension"},
        {"", SCRAM_FAILED, "malformed"},
        {"n", SCRAM_FAILED, "malformed"},
        {"n,", SCRAM_FAILED, "malformed"},
        {"n,,", SCRAM_FAILED, "malformed"},
        {",,n=,r=abc", SCRAM_FAILED, "malformed"},
        {"x,,n=,r=abc", SCRAM_FAILED, "malformed"},
        {"nn,,n=,r=abc", SCRAM_FAILED, "malformed"},
        {"n,,n=", SCRAM_FAILED, "malformed"},
        {"n,,n=,", SCRAM_FAILED, "malformed"},
        {"n,,n=,r=", SCRAM_FAILED, "malformed"},
        {"n,,n,r=abc", SCRAM_FAILED, "malformed"},
        {"n,,r=abc", SCRAM_FAILED, "malformed"},
        {"n,,r=abc,n=", SCRAM_FAILED, "malformed"},
        {"n,,n=,r=a b", SCRAM_FAILED, "malformed"},
        {"n,,n=,r=a\x7F", SCRAM_FAILED, "malformed"},
        {"n,,n=,r=\xC3\xA4", SCRAM_FAILED, "malformed"},
    };
    struct scram_verifier verifier = pencil_verifier();
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_server server;
        struct buf out = {0};
        scram_server_begin(&server, &verifier, NULL);
        if (scram_server_message(&server, bytes_of_text(rows[i].message), &out) != rows[i].result) {
            print_error("%s\n", rows[i].message);
            fail();
        }
        if (rows[i].result == SCRAM_FAILED) {
            assert_non_null(strstr(server.reason, rows[i].reason));
            assert_int_equal(buf_length(&out), 0);
        }
        scram_server_release(&server);
        buf_release(&out);
    }
}

/* A nonce at its limit and above it, and a whole message at and above its own. */
static void test_long_client_first(void **state) {
    (void)state;
    static const struct {
        const char *start;
        size_t bytes; /* of the nonce, or of the message */
        bool is_message;
        enum scram_result result;
    } rows[] = {{"n,,n=,r=", SCRAM_NONCE_BYTES_MAX, false, SCRAM_MORE},
                {"n,,n=,r=", SCRAM_NONCE_BYTES_MAX + 1, false, SCRAM_FAILED},
                {"n,,n=,r=", 1u << 20, true, SCRAM_FAILED},
                {"n,,n=,r=abc,x=", SCRAM_MESSAGE_BYTES_MAX, true, SCRAM_MORE},
                {"n,,n=,r=abc,x=", SCRAM_MESSAGE_BYTES_MAX + 1, true, SCRAM_FAILED}};
    struct scram_verifier verifier = pencil_verifier();
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_server server;
        struct buf message = {0};
        struct buf out = {0};
        size_t len = rows[i].bytes - (rows[i].is_message ? strlen(rows[i].start) : 0);
        buf_append_text(&message, rows[i].start);
        memset(buf_room(&message, len), 'x', len);
        buf_grown(&message, len);
        scram_server_begin(&server, &verifier, NULL);
        assert_int_equal(scram_server_message(&server, buf_content(&message), &out),
                         rows[i].result);
        scram_server_release(&server);
        buf_release(&message);
        buf_release(&out);
    }
}

static void test_malformed_client_final(void **state) {
    (void)state;
    static const struct {
        const char *first;
        const char *final;
        enum scram_result result;
        const char *reason;
    } rows[] = {
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=" PROOF_USER, SCRAM_DONE, ""},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=" PROOF_EMPTY, SCRAM_FAILED,
         "wrong password"},
        /* An extension is a part of what is signed. */
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",x=y,p=" PROOF_USER, SCRAM_FAILED,
         "wrong password"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=eSws,r=" NONCES ",p=" PROOF_USER, SCRAM_FAILED, "binding"},
        {"y,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=" PROOF_USER, SCRAM_FAILED, "binding"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=,r=" NONCES ",p=" PROOF_USER, SCRAM_FAILED, "binding"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES "x,p=" PROOF_USER, SCRAM_FAILED, "nonce"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" CLIENT_NONCE ",p=" PROOF_USER, SCRAM_FAILED,
         "nonce"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=,p=" PROOF_USER, SCRAM_FAILED, "nonce"},
        {"n,,n=user,r=" CLIENT_NONCE, "", SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, ",", SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "p=" PROOF_USER, SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,p=" PROOF_USER, SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES, SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",", SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=", SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=AAAA", SCRAM_FAILED, "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=" PROOF_USER "AAAA", SCRAM_FAILED,
         "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "c=biws,r=" NONCES ",p=" PROOF_USER ",x=y", SCRAM_FAILED,
         "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE,
         "c=biws,r=" NONCES ",p=!HzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_FAILED,
         "malformed"},
        {"n,,n=user,r=" CLIENT_NONCE, "r=" NONCES ",c=biws,p=" PROOF_USER, SCRAM_FAILED,
         "malformed"},
    };
    struct scram_verifier verifier = pencil_verifier();
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_server server;
        struct buf out = {0};
        scram_server_begin(&server, &verifier, &(struct scram_channel){.nonce = SERVER_NONCE});
        assert_int_equal(scram_server_message(&server, bytes_of_text(rows[i].first), &out),
                         SCRAM_MORE);
        buf_clear(&out);
        if (scram_server_message(&server, bytes_of_text(rows[i].final), &out) != rows[i].result) {
            print_error("%s\n", rows[i].final);
            fail();
        }
        if (rows[i].result == SCRAM_FAILED) {
            assert_non_null(strstr(server.reason, rows[i].reason));
            assert_int_equal(buf_length(&out), 0);
        }
        scram_server_release(&server);
        buf_release(&out);
    }
}

/* What a broken or hostile server may answer; `final` is NULL where `first` is refused. */
static void test_malformed_server(void **state) {
    (void)state;
    static const struct {
        const char *first;
        const char *final;
        enum scram_result result;
    } rows[] = {
        {SERVER_FIRST, "v=" SIGNATURE_EMPTY, SCRAM_DONE},
        {SERVER_FIRST ",x=extension", "v=" SIGNATURE_EMPTY, SCRAM_FAILED}, /* signed as well */
        {SERVER_FIRST, "v=" SIGNATURE_USER, SCRAM_FAILED},
        {SERVER_FIRST, "v=", SCRAM_FAILED},
        {SERVER_FIRST, "v=AAAA", SCRAM_FAILED},
        {SERVER_FIRST, "", SCRAM_FAILED},
        {SERVER_FIRST, "e=other-error", SCRAM_FAILED},
        {SERVER_FIRST, "x=" SIGNATURE_EMPTY, SCRAM_FAILED},
        {"", NULL, SCRAM_FAILED},
        {"r=" NONCES, NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT, NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=0", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=-1", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=1x", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=2147483647", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=" SALT ",i=99999999999999999999", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=,i=4096", NULL, SCRAM_FAILED},
        {"r=" NONCES ",s=W22,i=4096", NULL, SCRAM_FAILED},
        {"r=" CLIENT_NONCE ",s=" SALT ",i=4096", NULL, SCRAM_FAILED}, /* added nothing */
        {"r=" SERVER_NONCE ",s=" SALT ",i=4096", NULL, SCRAM_FAILED}, /* not after ours */
        {"r=,s=" SALT ",i=4096", NULL, SCRAM_FAILED},
        {"r=" NONCES "\x01,s=" SALT ",i=4096", NULL, SCRAM_FAILED},
        {"m=x,r=" NONCES ",s=" SALT ",i=4096", NULL, SCRAM_FAILED},
        {"s=" SALT ",r=" NONCES ",i=4096", NULL, SCRAM_FAILED},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_client client;
        struct buf out = {0};
        scram_client_begin(&client, bytes_of_text("pencil"), NULL,
                           &(struct scram_channel){.nonce = CLIENT_NONCE}, &out);
        buf_clear(&out);
        enum scram_result result =
            scram_client_message(&client, bytes_of_text(rows[i].first), &out);
        if (rows[i].final != NULL) {
            assert_int_equal(result, SCRAM_MORE);
            result = scram_client_message(&client, bytes_of_text(rows[i].final), &out);
        }
        if (result != rows[i].result) {
            print_error("%s / %s\n", rows[i].first, rows[i].final);
            fail();
        }
        assert_int_equal(client.reason != NULL, result == SCRAM_FAILED);
        scram_client_release(&client);
        buf_release(&out);
    }
}

static void test_long_server_nonce(void **state) {
    (void)state;
    static const struct {
        size_t nonce_bytes;
        enum scram_result result;
    } rows[] = {{SCRAM_NONCE_BYTES_MAX, SCRAM_MORE},
                {SCRAM_NONCE_BYTES_MAX + 1, SCRAM_FAILED},
                {100000, SCRAM_FAILED}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_client client;
        struct buf message = {0};
        struct buf out = {0};
        size_t len = rows[i].nonce_bytes - strlen(CLIENT_NONCE);
        buf_append_text(&message, "r=" CLIENT_NONCE);
        memset(buf_room(&message, len), 'x', len);
        buf_grown(&message, len);
        buf_append_text(&message, ",s=" SALT ",i=1");
        scram_client_begin(&client, bytes_of_text("pencil"), NULL,
                           &(struct scram_channel){.nonce = CLIENT_NONCE}, &out);
        assert_int_equal(scram_client_message(&client, buf_content(&message), &out),
                         rows[i].result);
        scram_client_release(&client);
        buf_release(&message);
        buf_release(&out);
    }
}

/* The cache is filled by the first login, serves the second without the password, and is
 * replaced when the server's salt changes. */
static void test_client_cache(void **state) {
    (void)state;
    struct scram_verifier old;
    struct scram_verifier changed;
    struct scram_client_cache cache = {0};
    scram_verifier_derive(&old, bytes_of_text("secret"), 2, salt_of_text("0123456789abcdef"));
    scram_verifier_derive(&changed, bytes_of_text("secret"), 2, salt_of_text("fedcba9876543210"));
    assert_true(exchange(&old, "secret", &cache, NULL));
    assert_int_equal(cache.iterations, 2);
    assert_memory_equal(cache.salt, old.salt, SCRAM_SALT_BYTES);
    assert_true(exchange(&old, "", &cache, NULL)); /* so the keys came from the cache */
    assert_false(exchange(&changed, "", &cache, NULL));
    assert_true(exchange(&changed, "secret", &cache, NULL));
    assert_memory_equal(cache.salt, changed.salt, SCRAM_SALT_BYTES);
    changed.iterations = 3;
    assert_false(exchange(&changed, "secret", &cache, NULL));
    assert_int_equal(cache.iterations, 3);
}

/* The keys that a client proved open a server that has the same verifier, and no other. */
static void test_proved_keys(void **state) {
    (void)state;
    struct scram_verifier verifier = pencil_verifier();
    struct scram_verifier other;
    struct scram_client_cache keys = {0};
    scram_verifier_derive(&other, bytes_of_text("pencil"), 4096, salt_of_text("0123456789abcdef"));
    assert_true(exchange(&verifier, "pencil", NULL, &keys));
    assert_true(exchange(&verifier, "", &keys, NULL));
    assert_false(exchange(&other, "", &keys, NULL));
}

/* Nobody logs in with a mock; its salt depends on name and key alone. */
static void test_mock(void **state) {
    (void)state;
    static const unsigned char keys[2][SCRAM_KEY_BYTES] = {"a key of this process", "another"};
    struct scram_verifier first;
    struct scram_verifier again;
    struct scram_verifier other;
    unsigned char salt[SCRAM_SALT_BYTES];
    scram_verifier_mock(&first, bytes_of_text("ann"), 4096, keys[0]);
    scram_verifier_mock(&again, bytes_of_text("ann"), 4096, keys[0]);
    assert_int_equal(first.iterations, 4096);
    assert_int_equal(first.salt_bytes, SCRAM_SALT_BYTES);
    assert_memory_equal(first.salt, again.salt, SCRAM_SALT_BYTES);
    scram_salt(salt, bytes_of_text("ann"), keys[0]);
    assert_memory_equal(first.salt, salt, SCRAM_SALT_BYTES);
    scram_verifier_mock(&other, bytes_of_text("bob"), 4096, keys[0]);
    assert_memory_not_equal(first.salt, other.salt, SCRAM_SALT_BYTES);
    scram_verifier_mock(&other, bytes_of_text("ann"), 4096, keys[1]);
    assert_memory_not_equal(first.salt, other.salt, SCRAM_SALT_BYTES);
    assert_false(exchange(&first, "ann", NULL, NULL));
    assert_false(scram_verifier_fits(&first, bytes_of_text("ann")));
}

static void test_nonces_differ(void **state) {
    (void)state;
    struct scram_verifier verifier = pencil_verifier();
    struct scram_server servers[2];
    for (size_t i = 0; i < COUNT(servers); i++) scram_server_begin(&servers[i], &verifier, NULL);
    assert_int_equal(strlen(servers[0].nonce), 24);
    assert_string_not_equal(servers[0].nonce, servers[1].nonce);
    for (size_t i = 0; i < COUNT(servers); i++) scram_server_release(&servers[i]);
}

static void test_release_wipes(void **state) {
    (void)state;
    static const struct scram_server nothing;
    struct scram_verifier verifier = pencil_verifier();
    struct scram_server server;
    scram_server_begin(&server, &verifier, NULL);
    scram_server_release(&server);
    assert_memory_equal(&server, &nothing, sizeof server);
}

/* Both sides over a channel: what each knows of it, and whether they agree. */
static void test_channel_binding(void **state) {
    (void)state;
    static const struct {
        const char *server_end; /* NULL: plain */
        const char *client_end;
        bool is_tls; /* at the client */
        bool is_plus;
        const char *reason; /* NULL: they agree */
    } rows[] = {
        {"hash", "hash", true, true, NULL},
        {"hash", "other", true, true, "for another connection"},
        {"hash", "hash ", true, true, "for another connection"},
        {"hash", NULL, false, false, NULL},
        {NULL, NULL, true, false, NULL}, /* the server's certificate has no hash */
        {"hash", NULL, true, false, "thinks that it was not offered"},
    };
    struct scram_verifier verifier = pencil_verifier();
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct scram_server server;
        struct scram_client client;
        struct buf to_server = {0};
        struct buf to_client = {0};
        const struct scram_channel at_server = {.end_point = bytes_of_text(rows[i].server_end)};
        const struct scram_channel at_client = {.is_tls = rows[i].is_tls,
                                                .is_plus = rows[i].is_plus,
                                                .end_point = bytes_of_text(rows[i].client_end)};
        scram_server_begin(&server, &verifier, &at_server);
        scram_client_begin(&client, bytes_of_text("pencil"), NULL, &at_client, &to_server);
        if (rows[i].is_plus) scram_server_choose_plus(&server);
        enum scram_result result =
            scram_server_message(&server, buf_content(&to_server), &to_client);
        if (result == SCRAM_MORE) {
            buf_clear(&to_server);
            assert_int_equal(scram_client_message(&client, buf_content(&to_client), &to_server),
                             SCRAM_MORE);
            buf_clear(&to_client);
            result = scram_server_message(&server, buf_content(&to_server), &to_client);
        }
        assert_int_equal(result, rows[i].reason == NULL ? SCRAM_DONE : SCRAM_FAILED);
        if (rows[i].reason != NULL) assert_non_null(strstr(server.reason, rows[i].reason));
        scram_server_release(&server);
        scram_client_release(&client);
        buf_release(&to_server);
        buf_release(&to_client);
    }
}

static void test_offers(void **state) {
    (void)state;
    static const struct {
        const char *list;
        size_t len;
        bool is_offered;
    } rows[] = {
        {"SCRAM-SHA-256\0\0", 15, true},
        {"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", 34, true},
        {"SCRAM-SHA-256-PLUS\0\0", 20, false},
        {"\0SCRAM-SHA-256\0\0", 16, false}, /* behind the end */
        {"SCRAM-SHA-256", 13, false},       /* does not end */
        {"", 0, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(scram_is_offered(bytes_of(rows[i].list, rows[i].len), SCRAM_NAME),
                         rows[i].is_offered);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_7677_server),
        cmocka_unit_test(test_client_vector),
        cmocka_unit_test(test_derived_verifier_is_the_stored_one),
        cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_long_passwords),
        cmocka_unit_test(test_saslprep_limit),
        cmocka_unit_test(test_verifier_texts),
        cmocka_unit_test(test_long_salts),
        cmocka_unit_test(test_malformed_client_first),
        cmocka_unit_test(test_long_client_first),
        cmocka_unit_test(test_malformed_client_final),
        cmocka_unit_test(test_malformed_server),
        cmocka_unit_test(test_long_server_nonce),
        cmocka_unit_test(test_client_cache),
        cmocka_unit_test(test_proved_keys),
        cmocka_unit_test(test_mock),
        cmocka_unit_test(test_nonces_differ),
        cmocka_unit_test(test_release_wipes),
        cmocka_unit_test(test_channel_binding),
        cmocka_unit_test(test_offers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
