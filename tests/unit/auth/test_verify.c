/* The login conversation, spoken from the client's side with the library's own SCRAM client. */
#include "auth/verify.h"

#include "core/check.h"
#include "proto/fault.h"
#include "proto/startup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define VERIFIER                                                                                   \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="     \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

/* Of the password "pencil" and the name "old". */
#define MD5_OF_OLD "md5b15721e6326bc6e9a7c72a38963ec03d"

static struct users *users;

static enum verify_result begin(struct verify *verify, enum verify_method method, const char *name,
                                struct buf *out) {
    struct verify_request request = {.method = method, .users = users, .user = bytes_of_text(name)};
    return verify_begin(verify, &request, out);
}

static int set_up(void **state) {
    (void)state;
    struct users_scram scram;
    struct buf error = {0};
    users_scram_init(&scram, 2);
    users = users_new(&scram);
    bool is_good = users_parse(users,
                               bytes_of_text("\"ann\" \"secret\"\n"
                                             "\"stored\" \"" VERIFIER "\"\n"
                                             "\"old\" \"" MD5_OF_OLD "\"\n"
                                             "\"empty\" \"\"\n"),
                               "F", &error);
    buf_release(&error);
    return is_good ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    users_free(&users);
    return 0;
}

/* The data of one authentication message with the given code; the framing must be right. */
static struct bytes data_of(const struct buf *out, unsigned code) {
    struct bytes all = buf_content(out);
    assert_true(all.len >= 9);
    assert_int_equal(all.at[0], 'R');
    assert_int_equal(bytes_get_u32(all.at + 1), all.len - 1);
    assert_int_equal(bytes_get_u32(all.at + 5), code);
    return bytes_of(all.at + 9, all.len - 9);
}

static void assert_reason(const struct verify *verify, const char *reason) {
    if (strstr(verify->reason, reason) == NULL) {
        print_error("reason is \"%s\", expected \"%s\"\n", verify->reason, reason);
        fail();
    }
}

static void test_trust(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum verify_result result;
    } rows[] = {{"ann", VERIFY_OK},        {"stored", VERIFY_OK},   {"old", VERIFY_OK},
                {"nobody", VERIFY_FAILED}, {"annx", VERIFY_FAILED}, {"", VERIFY_FAILED}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verify verify;
        struct buf out = {0};
        assert_int_equal(begin(&verify, VERIFY_TRUST, rows[i].name, &out), rows[i].result);
        assert_int_equal(buf_length(&out), 0);
        assert_int_equal(verify.fault, rows[i].result == VERIFY_OK ? FAULT_NONE : FAULT_AUTH_TRUST);
        verify_release(&verify);
        struct verify_request listed = {.method = VERIFY_TRUST,
                                        .users = users,
                                        .user = bytes_of_text(rows[i].name),
                                        .is_listed = true};
        assert_int_equal(verify_begin(&verify, &listed, &out), VERIFY_OK);
        verify_release(&verify);
        assert_int_equal(begin(&verify, VERIFY_ANY, rows[i].name, &out), VERIFY_OK);
        verify_release(&verify);
        buf_release(&out);
    }
}

#define BODY(text) text, sizeof(text)

static void test_plain(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *body;
        size_t len;
        enum fault_id fault;
        const char *reason;
    } rows[] = {
        {"ann", BODY("secret"), FAULT_NONE, NULL},
        {"stored", BODY("pencil"), FAULT_NONE, NULL},
        {"ann", BODY("Secret"), FAULT_AUTH_PASSWORD, "wrong password"},
        {"stored", BODY("pen"), FAULT_AUTH_PASSWORD, "wrong password"},
        {"nobody", BODY("secret"), FAULT_AUTH_PASSWORD, "no such user"},
        {"old", BODY("pencil"), FAULT_NONE, NULL},
        {"old", BODY("pencils"), FAULT_AUTH_PASSWORD, "wrong password"},
        {"old", BODY(MD5_OF_OLD), FAULT_AUTH_PASSWORD,
         "wrong password"}, /* the hash is no password */
        {"empty", BODY("x"), FAULT_AUTH_PASSWORD, "secret is empty"},
        {"ann", BODY(""), FAULT_AUTH_EMPTY_PASSWORD, "empty password"},
        {"empty", BODY(""), FAULT_AUTH_EMPTY_PASSWORD, "empty password"},
        {"nobody", BODY(""), FAULT_AUTH_EMPTY_PASSWORD, "empty password"},
        {"ann", "", 0, FAULT_MESSAGE_MALFORMED, "malformed"},
        {"ann", "secret", 6, FAULT_MESSAGE_MALFORMED, "malformed"},
        {"ann", BODY("secret\0"), FAULT_MESSAGE_MALFORMED, "malformed"},
        {"ann", BODY("secret\0more"), FAULT_MESSAGE_MALFORMED, "malformed"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verify verify;
        struct buf out = {0};
        assert_int_equal(begin(&verify, VERIFY_PLAIN, rows[i].name, &out), VERIFY_MORE);
        assert_int_equal(data_of(&out, 3).len, 0);
        buf_clear(&out);
        enum verify_result result =
            verify_message(&verify, bytes_of(rows[i].body, rows[i].len), &out);
        assert_int_equal(result, rows[i].fault == FAULT_NONE ? VERIFY_OK : VERIFY_FAILED);
        assert_int_equal(verify.fault, rows[i].fault);
        if (result == VERIFY_FAILED) assert_reason(&verify, rows[i].reason);
        assert_int_equal(buf_length(&out), 0);
        verify_release(&verify);
        buf_release(&out);
    }
}

static void test_longest_password(void **state) {
    (void)state;
    for (size_t len = USERS_SECRET_BYTES_MAX; len <= USERS_SECRET_BYTES_MAX + 1; len++) {
        struct verify verify;
        struct buf out = {0};
        struct buf body = {0};
        struct buf error = {0};
        memset(buf_room(&body, len + 1), 'x', len);
        buf_grown(&body, len);
        struct bytes longest = bytes_of(buf_content(&body).at, USERS_SECRET_BYTES_MAX);
        assert_true(users_add(users, bytes_of_text("long"), longest, &error));
        buf_append_u8(&body, 0);
        (void)begin(&verify, VERIFY_PLAIN, "long", &out);
        enum verify_result result = verify_message(&verify, buf_content(&body), &out);
        assert_int_equal(result, len == USERS_SECRET_BYTES_MAX ? VERIFY_OK : VERIFY_FAILED);
        if (result == VERIFY_FAILED) assert_reason(&verify, "too long");
        verify_release(&verify);
        buf_release(&out);
        buf_release(&body);
        buf_release(&error);
    }
}

/* Speaks a whole SCRAM login; the salt and iterations that the client saw go to `seen`. Returns the
 * last result. */
static enum verify_result log_in(struct verify *verify, enum verify_method method, const char *name,
                                 const char *password, struct scram_client_cache *seen) {
    struct scram_client client;
    struct buf out = {0};
    struct buf data = {0};
    struct buf message = {0};
    assert_int_equal(begin(verify, method, name, &out), VERIFY_MORE);
    assert_true(scram_is_offered(data_of(&out, 10), SCRAM_NAME));
    scram_client_begin(&client, bytes_of_text(password), seen, NULL, &data);
    message_write_sasl_initial_response(&message, SCRAM_NAME, buf_content(&data));
    struct bytes all = buf_content(&message);
    buf_clear(&out);
    buf_clear(&data);
    assert_int_equal(verify_message(verify, bytes_of(all.at + 5, all.len - 5), &out), VERIFY_MORE);
    assert_int_equal(scram_client_message(&client, data_of(&out, 11), &data), SCRAM_MORE);
    buf_clear(&out);
    enum verify_result result = verify_message(verify, buf_content(&data), &out);
    if (result == VERIFY_OK) {
        assert_int_equal(scram_client_message(&client, data_of(&out, 12), &data), SCRAM_DONE);
    } else {
        assert_int_equal(buf_length(&out), 0);
    }
    scram_client_release(&client);
    buf_release(&out);
    buf_release(&data);
    buf_release(&message);
    return result;
}

static void test_scram(void **state) {
    (void)state;
    static const struct {
        enum verify_method method;
        const char *name;
        const char *password;
        enum fault_id fault;
        const char *reason;
    } rows[] = {
        {VERIFY_SCRAM, "ann", "secret", FAULT_NONE, NULL},
        {VERIFY_SCRAM, "stored", "pencil", FAULT_NONE, NULL},
        {VERIFY_MD5, "stored", "pencil", FAULT_NONE, NULL},
        {VERIFY_MD5, "stored", "secret", FAULT_AUTH_SASL, "wrong password"},
        {VERIFY_SCRAM, "ann", "Secret", FAULT_AUTH_SASL, "wrong password"},
        {VERIFY_SCRAM, "stored", "secret", FAULT_AUTH_SASL, "wrong password"},
        {VERIFY_SCRAM, "nobody", "secret", FAULT_AUTH_SASL, "no such user"},
        {VERIFY_SCRAM, "", "secret", FAULT_AUTH_SASL, "no such user"},
        {VERIFY_SCRAM, "old", "secret", FAULT_AUTH_SASL, "md5"},
        {VERIFY_SCRAM, "empty", "x", FAULT_AUTH_SASL, "secret is empty"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verify verify;
        struct scram_client_cache keys;
        struct scram_client_cache seen = {0};
        enum verify_result result =
            log_in(&verify, rows[i].method, rows[i].name, rows[i].password, &seen);
        assert_int_equal(result, rows[i].fault == FAULT_NONE ? VERIFY_OK : VERIFY_FAILED);
        assert_int_equal(verify.fault, rows[i].fault);
        if (result == VERIFY_FAILED) assert_reason(&verify, rows[i].reason);
        /* With a plain secret at hand nobody needs the keys. */
        bool is_stored = strcmp(rows[i].name, "stored") == 0;
        assert_int_equal(verify_keys(&verify, &keys), result == VERIFY_OK && is_stored);
        if (result == VERIFY_OK && is_stored)
            assert_memory_equal(keys.client_key, seen.client_key, 32);
        verify_release(&verify);
        assert_null(verify.users);
        verify_release(&verify);
    }
}

static void test_md5(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *password;
        enum fault_id fault;
        const char *reason;
    } rows[] = {
        {"ann", "secret", FAULT_NONE, NULL},
        {"old", "pencil", FAULT_NONE, NULL},
        {"ann", "Secret", FAULT_AUTH_PASSWORD, "wrong password"},
        {"old", "secret", FAULT_AUTH_PASSWORD, "wrong password"},
        {"nobody", "secret", FAULT_AUTH_PASSWORD, "no such user"},
        {"empty", "x", FAULT_AUTH_PASSWORD, "secret is empty"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verify verify;
        struct buf out = {0};
        char hash[MD5_SECRET_LEN + 1];
        char answer[MD5_SECRET_LEN + 1];
        assert_int_equal(begin(&verify, VERIFY_MD5, rows[i].name, &out), VERIFY_MORE);
        struct bytes salt = data_of(&out, 5);
        assert_int_equal(salt.len, 4);
        assert_true(md5_secret(hash, bytes_of_text(rows[i].password), bytes_of_text(rows[i].name)));
        assert_true(md5_answer(answer, hash, salt.at));
        enum verify_result result = verify_message(&verify, bytes_of(answer, sizeof answer), &out);
        assert_int_equal(result, rows[i].fault == FAULT_NONE ? VERIFY_OK : VERIFY_FAILED);
        assert_int_equal(verify.fault, rows[i].fault);
        if (result == VERIFY_FAILED) assert_reason(&verify, rows[i].reason);
        verify_release(&verify);
        buf_release(&out);
    }
}

/* Where most secrets are SCRAM secrets, an unknown user is asked as most would be. */
static void test_md5_of_unknown_users(void **state) {
    (void)state;
    struct users_scram scram;
    struct buf error = {0};
    users_scram_init(&scram, 2);
    struct users *other = users_new(&scram);
    assert_true(users_add(other, bytes_of_text("a"), bytes_of_text(VERIFIER), &error));
    struct verify_request request = {
        .method = VERIFY_MD5, .users = other, .user = bytes_of_text("nobody")};
    struct verify verify;
    struct buf out = {0};
    assert_int_equal(verify_begin(&verify, &request, &out), VERIFY_MORE);
    assert_true(scram_is_offered(data_of(&out, 10), SCRAM_NAME));
    verify_release(&verify);
    users_free(&other);
    buf_release(&out);
    buf_release(&error);
}

/* An unknown user shows the salt that a known one of that name would, again and again, and the
 * same iterations. */
static void test_unknown_looks_known(void **state) {
    (void)state;
    struct scram_client_cache seen[3] = {{0}, {0}, {0}};
    struct verify verify;
    struct buf error = {0};
    assert_int_equal(log_in(&verify, VERIFY_SCRAM, "later", "x", &seen[0]), VERIFY_FAILED);
    verify_release(&verify);
    assert_int_equal(log_in(&verify, VERIFY_SCRAM, "later", "x", &seen[1]), VERIFY_FAILED);
    verify_release(&verify);
    assert_true(users_add(users, bytes_of_text("later"), bytes_of_text("secret"), &error));
    assert_int_equal(log_in(&verify, VERIFY_SCRAM, "later", "x", &seen[2]), VERIFY_FAILED);
    verify_release(&verify);
    for (size_t i = 1; i < COUNT(seen); i++) {
        assert_int_equal(seen[i].iterations, seen[0].iterations);
        assert_int_equal(seen[i].salt_bytes, seen[0].salt_bytes);
        assert_memory_equal(seen[i].salt, seen[0].salt, seen[0].salt_bytes);
    }
    buf_release(&error);
}

static void test_malformed_initial_response(void **state) {
    (void)state;
    static const struct {
        const char *body;
        size_t len;
        enum fault_id fault;
    } rows[] = {
        {"", 0, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256", 13, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0", 14, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0\0\0\0", 17, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0\xFF\xFF\xFF\xFF", 18, FAULT_MESSAGE_MALFORMED}, /* no data */
        {"SCRAM-SHA-256\0\x7F\xFF\xFF\xFFn,,n=,r=a", 27, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0\0\0\0\x08n,,n=,r=a", 27, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0\0\0\0\x0An,,n=,r=a", 27, FAULT_MESSAGE_MALFORMED},
        {"SCRAM-SHA-256\0\0\0\0\0", 18, FAULT_AUTH_SASL},
        {"SCRAM-SHA-256\0\0\0\0\x09p,,n=,r=a", 27, FAULT_AUTH_SASL},
        {"SCRAM-SHA-256-PLUS\0\0\0\0\x09n,,n=,r=a", 32, FAULT_AUTH_MECHANISM},
        {"PLAIN\0\0\0\0\x09n,,n=,r=a", 19, FAULT_AUTH_MECHANISM},
        {"secret\0", 7, FAULT_AUTH_MECHANISM}, /* a password in clear text */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verify verify;
        struct buf out = {0};
        (void)begin(&verify, VERIFY_SCRAM, "ann", &out);
        buf_clear(&out);
        assert_int_equal(verify_message(&verify, bytes_of(rows[i].body, rows[i].len), &out),
                         VERIFY_FAILED);
        if (verify.fault != rows[i].fault) print_error("row %zu\n", i);
        assert_int_equal(verify.fault, rows[i].fault);
        assert_non_null(verify.reason);
        assert_int_equal(buf_length(&out), 0);
        verify_release(&verify);
        buf_release(&out);
    }
}

/* The snapshot may be replaced while a conversation goes on. */
static void test_snapshot_outlives_reload(void **state) {
    (void)state;
    struct users_scram scram;
    struct buf error = {0};
    struct buf out = {0};
    struct verify verify;
    users_scram_init(&scram, 2);
    struct users *short_lived = users_new(&scram);
    assert_true(users_add(short_lived, bytes_of_text("ann"), bytes_of_text("secret"), &error));
    struct verify_request request = {
        .method = VERIFY_PLAIN, .users = short_lived, .user = bytes_of_text("ann")};
    (void)verify_begin(&verify, &request, &out);
    users_free(&short_lived);
    assert_int_equal(verify_message(&verify, bytes_of("secret", 7), &out), VERIFY_OK);
    verify_release(&verify);
    buf_release(&out);
    buf_release(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_longest_password),
        cmocka_unit_test(test_scram),
        cmocka_unit_test(test_md5),
        cmocka_unit_test(test_md5_of_unknown_users),
        cmocka_unit_test(test_unknown_looks_known),
        cmocka_unit_test(test_malformed_initial_response),
        cmocka_unit_test(test_snapshot_outlives_reload),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
