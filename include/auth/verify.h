/*
 * The login conversation of one client, without its socket: which challenge to send, and what to
 * make of the answer. A known user with a wrong password and an unknown user get the same
 * messages in the same order. The caller writes AuthenticationOk when it welcomes the client, and
 * the fault when the conversation failed.
 *
 *      verify_begin --MORE--> verify_message --MORE--> verify_message --> OK or FAILED
 *          |                       |
 *          +-> OK or FAILED        +-> OK or FAILED
 */
#ifndef WEIR_AUTH_VERIFY_H
#define WEIR_AUTH_VERIFY_H

#include "auth/scram.h"
#include "auth/users.h"
#include "proto/fault_id.h"

enum verify_method {
    VERIFY_TRUST, /* the user must be known, nothing is asked */
    VERIFY_PLAIN, /* the password in clear text */
    VERIFY_MD5,   /* SCRAM, which every secret that PostgreSQL writes today serves */
    VERIFY_SCRAM
};

enum verify_result {
    VERIFY_MORE,  /* a challenge was appended; the client's next 'p' message is awaited */
    VERIFY_OK,    /* the client is who it says */
    VERIFY_FAILED /* see `fault` and `reason` */
};

/* Zeroed memory is a conversation that has not begun; verify_release is legal on it. */
struct verify {
    enum verify_method method;
    enum fault_id fault; /* after VERIFY_FAILED: what the client is told */
    const char *reason;  /* after VERIFY_FAILED: what the log is told; a literal */
    struct users *users; /* one reference, until the end */
    struct user *user;   /* NULL: unknown */
    struct scram_server *scram;
};

/* Starts the conversation and appends the first challenge, if there is one. `user` is borrowed for
 * this call only. */
enum verify_result verify_begin(struct verify *verify, enum verify_method method,
                                struct users *users, struct bytes user, struct buf *out);

/* Takes the body of a 'p' message (behind type and length) and appends the answer, if there is
 * one. Called only while the last result was VERIFY_MORE. */
enum verify_result verify_message(struct verify *verify, struct bytes body, struct buf *out);

/* After VERIFY_OK by SCRAM, before the release: the proved keys, for logging in to servers with.
 * False where there are none. */
bool verify_keys(const struct verify *verify, struct scram_client_cache *keys);

/* Wipes and gives back everything; idempotent. */
void verify_release(struct verify *verify);

#endif
