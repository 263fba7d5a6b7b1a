/*
 * Everything that a stranger can say before it is known who it is, and what a server says to a
 * login. The first byte of an input chooses the parser, the rest is what it reads:
 *
 *      0  a first packet         1  the options parameter     2  an error's fields
 *      3  messages to a SCRAM server, divided by a NUL        4  the same to a SCRAM client
 *      5  a stored verifier      6  an auth_file              7  'p' messages to a login
 *
 * Beside what the sanitizers find, each parser's own promises are CHECKed.
 */
#include "auth/users.h"
#include "auth/verify.h"
#include "core/check.h"
#include "proto/fault.h"
#include "proto/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VERIFIER                                                                                   \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="     \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"

static struct scram_verifier verifier;
static struct scram_client_cache cache;

/* Made once: a verifier, and the keys for it, so that no input costs a PBKDF2. */
static void set_up(void) {
    if (cache.iterations != 0) return;
    struct scram_client_cache keys = {0};
    struct scram_client client;
    struct buf out = {0};
    CHECK(scram_verifier_parse(&verifier, bytes_of_text(VERIFIER)));
    scram_client_begin(&client, bytes_of_text("pencil"), &keys,
                       &(struct scram_channel){.nonce = CLIENT_NONCE}, &out);
    struct bytes first =
        bytes_of_text("r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    CHECK(scram_client_message(&client, first, &out) == SCRAM_MORE);
    scram_client_release(&client);
    buf_release(&out);
    cache = keys;
}

/* Takes what stands before the first NUL. */
static struct bytes take_part(struct bytes *input) {
    const char *end = input->len == 0 ? NULL : memchr(input->at, '\0', input->len);
    struct bytes part = bytes_of(input->at, end == NULL ? input->len : (size_t)(end - input->at));
    size_t taken = end == NULL ? part.len : part.len + 1;
    *input = bytes_of(input->at + taken, input->len - taken);
    return part;
}

static void fuzz_options(struct bytes input) {
    struct startup_options options = {.rest = input};
    struct startup_parameter option;
    size_t count = 0;
    while (startup_option_next(&options, &option) == STARTUP_OPTION_FOUND) {
        CHECK(option.name.len > 0);
        CHECK(++count <= input.len);
    }
    startup_options_release(&options);
}

static bool lies_in(struct bytes part, struct bytes whole) {
    return part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len);
}

static void fuzz_packet(struct bytes input) {
    struct startup startup;
    struct buf out = {0};
    enum startup_kind kind = startup_parse(input, &startup);
    CHECK(kind != STARTUP_BAD || startup.fault != FAULT_NONE);
    CHECK(kind == STARTUP_BAD || kind == STARTUP_LOGIN || startup.fault == FAULT_NONE);
    if (startup.fault != FAULT_NONE) fault_write(&out, startup.fault, startup.argument);
    if (kind == STARTUP_LOGIN && startup.fault == FAULT_NONE) {
        CHECK(startup.user.len == 0 || startup.database.len > 0);
        CHECK(lies_in(startup.user, input) && lies_in(startup.options, input));
        for (unsigned i = 0; i < startup.parameters_count; i++)
            CHECK(lies_in(startup.parameters[i].value, input));
        message_write_negotiate(&out, &startup);
        CHECK(bytes_get_u32(buf_content(&out).at + 1) == buf_length(&out) - 1);
        fuzz_options(startup.options);
    }
    buf_release(&out);
}

static void fuzz_fault(struct bytes input) {
    struct fault_fields fields;
    struct fault_fields again;
    struct buf out = {0};
    (void)fault_read(input, &fields);
    (void)fault_refusal_of(&fields);
    fault_write_custom(&out, &fields);
    struct bytes written = buf_content(&out);
    CHECK(fault_read(bytes_of(written.at + 5, written.len - 5), &again));
    CHECK(fields.message.len == 0 || bytes_equal(fields.message, again.message));
    buf_release(&out);
}

static void fuzz_scram_server(struct bytes input) {
    struct scram_server server;
    struct buf out = {0};
    scram_server_begin(&server, &verifier, &(struct scram_channel){.nonce = SERVER_NONCE});
    enum scram_result result = scram_server_message(&server, take_part(&input), &out);
    CHECK(result == SCRAM_MORE || (result == SCRAM_FAILED && buf_length(&out) == 0));
    buf_clear(&out);
    if (result == SCRAM_MORE) result = scram_server_message(&server, input, &out);
    CHECK((result == SCRAM_FAILED) == (buf_length(&out) == 0));
    CHECK((result == SCRAM_FAILED) == (server.reason != NULL));
    scram_server_release(&server);
    buf_release(&out);
}

static void fuzz_scram_client(struct bytes input) {
    struct scram_client client;
    struct scram_client_cache keys = cache;
    struct buf out = {0};
    scram_client_begin(&client, bytes_of(NULL, 0), &keys,
                       &(struct scram_channel){.nonce = CLIENT_NONCE}, &out);
    enum scram_result result = SCRAM_MORE;
    while (result == SCRAM_MORE) result = scram_client_message(&client, take_part(&input), &out);
    CHECK((result == SCRAM_FAILED) == (client.reason != NULL));
    scram_client_release(&client);
    buf_release(&out);
}

static void fuzz_verifier(struct bytes input) {
    struct scram_verifier read;
    if (!scram_verifier_parse(&read, input)) return;
    CHECK(read.iterations >= 1 && read.iterations <= SCRAM_ITERATIONS_MAX);
    CHECK(read.salt_bytes >= 1 && read.salt_bytes <= SCRAM_SALT_BYTES_MAX);
}

static struct users *make_users(struct bytes text, struct buf *error) {
    static const struct users_scram scram = {.iterations = 1};
    struct users *users = users_new(&scram);
    CHECK(users_parse(users, text, "FILE", error) == (buf_length(error) == 0));
    return users;
}

static void fuzz_users(struct bytes input) {
    struct buf error = {0};
    struct users *users = make_users(input, &error);
    (void)users_find(users, input);
    users_free(&users);
    buf_release(&error);
}

/* Every kind of conversation, with the input as each of the messages. */
static void fuzz_login(struct bytes input) {
    struct buf error = {0};
    struct buf out = {0};
    struct users *users = make_users(bytes_of_text("\"ann\" \"secret\"\n"), &error);
    for (enum verify_method method = VERIFY_PLAIN; method <= VERIFY_SCRAM; method++) {
        struct verify verify;
        struct verify_request request = {
            .method = method, .users = users, .user = bytes_of_text("ann")};
        enum verify_result result = verify_begin(&verify, &request, &out);
        for (int i = 0; i < 3 && result == VERIFY_MORE; i++)
            result = verify_message(&verify, input, &out);
        CHECK(result != VERIFY_MORE);
        CHECK((result == VERIFY_FAILED) == (verify.fault != FAULT_NONE));
        verify_release(&verify);
    }
    users_free(&users);
    buf_release(&error);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(struct bytes input) = {
        fuzz_packet,       fuzz_options,  fuzz_fault, fuzz_scram_server,
        fuzz_scram_client, fuzz_verifier, fuzz_users, fuzz_login,
    };
    if (size == 0) return 0;
    set_up();
    targets[data[0] % COUNT(targets)](bytes_of((const char *)data + 1, size - 1));
    return 0;
}
