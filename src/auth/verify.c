/*
 * The login conversation; see auth/verify.h. One row per method: how it begins, and what it makes
 * of the client's answer.
 *
 * A user who is unknown, or whose secret does not serve the method, goes through the same
 * conversation as everybody else with a verifier that nothing fits, so the client learns no more
 * than that it failed. Only the log tells the reason.
 */
#include "auth/verify.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/fault.h"
#include "proto/message.h"
#include "proto/startup.h"

static enum verify_result fail(struct verify *verify, enum fault_id fault, const char *reason) {
    verify->fault = fault;
    verify->reason = reason;
    return VERIFY_FAILED;
}

/* What a client is told whose answer does not fit. */
static enum fault_id wrong_answer(const struct verify *verify) {
    if (verify->scram != NULL) return FAULT_AUTH_SASL;
    if (verify->method == VERIFY_PAM) return FAULT_AUTH_PAM;
    return verify->method == VERIFY_LDAP ? FAULT_AUTH_LDAP : FAULT_AUTH_PASSWORD;
}

/* Why the secret at hand can fit nothing; `otherwise` where it can. */
static const char *reason_of_secret(const struct verify *verify, const char *otherwise) {
    if (verify->user == NULL) return VERIFY_NO_SUCH_USER;
    if (verify->user->kind == USER_SECRET_NONE)
        return "the user's secret is empty, or starts like a verifier and is none";
    if (verify->user->kind == USER_SECRET_MD5 && verify->method == VERIFY_SCRAM)
        return "the user's secret is an md5 hash, which does not serve SCRAM";
    return otherwise;
}

static enum verify_result begin_any(struct verify *verify, const struct verify_request *request,
                                    struct buf *out) {
    (void)verify;
    (void)request;
    (void)out;
    return VERIFY_OK;
}

static enum verify_result begin_trust(struct verify *verify, const struct verify_request *request,
                                      struct buf *out) {
    (void)out;
    if (verify->user == NULL && !request->is_listed)
        return fail(verify, FAULT_AUTH_TRUST, VERIFY_NO_SUCH_USER);
    return VERIFY_OK;
}

/* Whether one of the names that the other side has elsewhere may be the user. */
static bool is_vouched_for(const struct verify_request *request) {
    struct bytes names = request->system_names;
    struct bytes name;
    while (message_text(names, &name, &names)) {
        if (ident_allows(request->ident, request->map, name, request->user)) return true;
    }
    return false;
}

/* Somebody else vouches for a known user. */
static enum verify_result begin_vouched(struct verify *verify, const struct verify_request *request,
                                        struct buf *out) {
    enum fault_id fault = request->method == VERIFY_PEER ? FAULT_AUTH_PEER : FAULT_AUTH_CERT;
    (void)out;
    if (request->system_names.len == 0)
        return fail(verify, fault, "no name of the other side is known");
    if (verify->user == NULL && !request->is_listed)
        return fail(verify, fault, VERIFY_NO_SUCH_USER);
    if (!is_vouched_for(request))
        return fail(verify, fault, "the other side's name may not be that user");
    return VERIFY_OK;
}

static enum verify_result begin_reject(struct verify *verify, const struct verify_request *request,
                                       struct buf *out) {
    (void)request;
    (void)out;
    return fail(verify, FAULT_AUTH_REJECT, "a rule rejects it");
}

static enum verify_result begin_nothing(struct verify *verify, const struct verify_request *request,
                                        struct buf *out) {
    (void)request;
    (void)out;
    return fail(verify, FAULT_AUTH_NO_METHOD, "no rule matches");
}

static enum verify_result begin_plain(struct verify *verify, const struct verify_request *request,
                                      struct buf *out) {
    (void)verify;
    (void)request;
    message_write_authentication_cleartext(out);
    return VERIFY_MORE;
}

static enum verify_result begin_scram(struct verify *verify, const struct verify_request *request,
                                      struct buf *out) {
    struct scram_verifier verifier;
    (void)users_verifier(verify->users, verify->user, request->user, &verifier);
    verify->scram = memory_new(sizeof *verify->scram);
    const struct scram_channel channel = {.end_point = request->end_point};
    scram_server_begin(verify->scram, &verifier, &channel);
    memory_wipe(&verifier, sizeof verifier);
    message_write_authentication_sasl(out, request->end_point.len > 0);
    return VERIFY_MORE;
}

static enum verify_result begin_md5(struct verify *verify, const struct verify_request *request,
                                    struct buf *out) {
    if (users_wants_scram(verify->users, verify->user)) return begin_scram(verify, request, out);
    md5_salt(verify->salt);
    message_write_authentication_md5(out, verify->salt);
    return VERIFY_MORE;
}

/* PasswordMessage: String password. Leaves the password in `body`; false after fail. */
static bool read_password(struct verify *verify, struct bytes *body) {
    if (body->len == 0 || memchr(body->at, '\0', body->len) != body->at + body->len - 1) {
        (void)fail(verify, FAULT_MESSAGE_MALFORMED, "malformed password message");
        return false;
    }
    body->len--;
    if (body->len == 0)
        (void)fail(verify, FAULT_AUTH_EMPTY_PASSWORD, "empty password returned by client");
    if (body->len > USERS_SECRET_BYTES_MAX) (void)verify_refuse_long(verify);
    return verify->fault == FAULT_NONE;
}

static enum verify_result answer_plain(struct verify *verify, struct bytes body, struct buf *out) {
    (void)out;
    if (!read_password(verify, &body)) return VERIFY_FAILED;
    if (!users_password_fits(verify->users, verify->user, body))
        return fail(verify, FAULT_AUTH_PASSWORD, reason_of_secret(verify, "wrong password"));
    return VERIFY_OK;
}

/* SASLInitialResponse: String mechanism, Int32 length (-1: no data), data. Leaves the data in
 * `body`; FAULT_NONE, or what is wrong. */
static enum fault_id read_initial_response(struct scram_server *scram, struct bytes *body) {
    const char *end = body->len == 0 ? NULL : memchr(body->at, '\0', body->len);
    if (end == NULL) return FAULT_MESSAGE_MALFORMED;
    if (scram->binding.len > 0 && strcmp(body->at, SCRAM_NAME_PLUS) == 0) {
        scram_server_choose_plus(scram);
    } else if (strcmp(body->at, SCRAM_NAME) != 0) {
        return FAULT_AUTH_MECHANISM;
    }
    size_t head = (size_t)(end - body->at) + 1 + 4;
    if (body->len < head) return FAULT_MESSAGE_MALFORMED;
    uint32_t length = bytes_get_u32(end + 1);
    *body = bytes_of(body->at + head, body->len - head);
    return length == body->len ? FAULT_NONE : FAULT_MESSAGE_MALFORMED;
}

static enum verify_result answer_scram(struct verify *verify, struct bytes body, struct buf *out) {
    struct buf answer = {0};
    if (verify->scram->state == SCRAM_STATE_FIRST) {
        enum fault_id fault = read_initial_response(verify->scram, &body);
        if (fault != FAULT_NONE) return fail(verify, fault, fault_of(fault)->text);
    }
    enum verify_result result = VERIFY_MORE;
    enum scram_result step = scram_server_message(verify->scram, body, &answer);
    if (step == SCRAM_MORE) {
        message_write_sasl_continue(out, buf_content(&answer));
    } else if (step == SCRAM_DONE) {
        message_write_sasl_final(out, buf_content(&answer));
        result = VERIFY_OK;
    } else {
        result = fail(verify, FAULT_AUTH_SASL, reason_of_secret(verify, verify->scram->reason));
    }
    buf_release(&answer);
    return result;
}

static enum verify_result answer_md5(struct verify *verify, struct bytes body, struct buf *out) {
    if (verify->scram != NULL) return answer_scram(verify, body, out);
    if (!read_password(verify, &body)) return VERIFY_FAILED;
    if (!users_md5_fits(verify->users, verify->user, verify->salt, body))
        return fail(verify, FAULT_AUTH_PASSWORD, reason_of_secret(verify, "wrong password"));
    return VERIFY_OK;
}

static enum verify_result begin_outside(struct verify *verify, const struct verify_request *request,
                                        struct buf *out) {
    verify->ldap = memory_copy_text(request->ldap);
    message_write_authentication_cleartext(out);
    return VERIFY_MORE;
}

static enum verify_result answer_outside(struct verify *verify, struct bytes body,
                                         struct buf *out) {
    (void)out;
    if (!read_password(verify, &body)) return VERIFY_FAILED;
    verify->password = memory_copy(body.at, body.len);
    return VERIFY_LATER;
}

enum verify_result verify_finish(struct verify *verify, bool is_good, const char *reason) {
    CHECK(verify->password != NULL && verify->fault == FAULT_NONE);
    return is_good ? VERIFY_OK : fail(verify, wrong_answer(verify), reason);
}

static const struct {
    enum verify_result (*begin)(struct verify *verify, const struct verify_request *request,
                                struct buf *out);
    enum verify_result (*answer)(struct verify *verify, struct bytes body, struct buf *out);
} methods[] = {
    [VERIFY_ANY] = {begin_any, NULL},
    [VERIFY_TRUST] = {begin_trust, NULL},
    [VERIFY_PLAIN] = {begin_plain, answer_plain},
    [VERIFY_MD5] = {begin_md5, answer_md5},
    [VERIFY_SCRAM] = {begin_scram, answer_scram},
    [VERIFY_PEER] = {begin_vouched, NULL},
    [VERIFY_CERT] = {begin_vouched, NULL},
    [VERIFY_PAM] = {begin_outside, answer_outside},
    [VERIFY_LDAP] = {begin_outside, answer_outside},
    [VERIFY_REJECT] = {begin_reject, NULL},
    [VERIFY_NOTHING] = {begin_nothing, NULL},
};

enum verify_result verify_begin(struct verify *verify, const struct verify_request *request,
                                struct buf *out) {
    CHECK(request->method < COUNT(methods));
    *verify = (struct verify){.method = request->method, .users = users_retain(request->users)};
    verify->user = users_find(request->users, request->user);
    return methods[request->method].begin(verify, request, out);
}

enum verify_result verify_message(struct verify *verify, struct bytes body, struct buf *out) {
    CHECK(verify->users != NULL && verify->fault == FAULT_NONE);
    CHECK(methods[verify->method].answer != NULL);
    return methods[verify->method].answer(verify, body, out);
}

enum verify_result verify_refuse_long(struct verify *verify) {
    return fail(verify, wrong_answer(verify), "the password is too long");
}

bool verify_keys(const struct verify *verify, struct scram_client_cache *keys) {
    if (verify->scram == NULL || verify->fault != FAULT_NONE) return false;
    if (verify->scram->state != SCRAM_STATE_OVER) return false;
    if (verify->user == NULL || verify->user->kind != USER_SECRET_SCRAM) return false;
    scram_server_keys(verify->scram, keys);
    return true;
}

void verify_release(struct verify *verify) {
    if (verify->scram != NULL) scram_server_release(verify->scram);
    memory_free(verify->scram);
    memory_free_secret(verify->ldap);
    memory_free_secret(verify->password);
    if (verify->job != NULL) verify->job->is_abandoned = true;
    users_free(&verify->users);
    *verify = (struct verify){.fault = FAULT_NONE};
}
