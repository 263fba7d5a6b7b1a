/*
 * The login conversation of one client, without its socket: which challenge to send, and what to
 * make of the answer. A known user with a wrong password and an unknown user get the same
 * messages in the same order. The caller writes AuthenticationOk when it welcomes the client, and
 * the fault when the conversation failed.
 *
 *      verify_begin --MORE--> verify_message --MORE--> verify_message --> OK or FAILED
 *          |                       |
 *          +-> OK or FAILED        +-> OK or FAILED
 *                                  +-> LATER --verify_finish--> OK or FAILED
 */
#ifndef WEIR_AUTH_VERIFY_H
#define WEIR_AUTH_VERIFY_H

#include "auth/blocking.h"
#include "auth/scram.h"
#include "auth/users.h"
#include "proto/fault_id.h"

enum verify_method {
    VERIFY_ANY,   /* nobody is refused */
    VERIFY_TRUST, /* the user must be known, nothing is asked */
    VERIFY_PLAIN, /* the password in clear text, for secrets of each kind */
    VERIFY_MD5,   /* an MD5 challenge; SCRAM where the secret is a SCRAM secret */
    VERIFY_SCRAM,
    VERIFY_PEER, /* the owner of the other end of a Unix socket is that user, or maps to it */
    VERIFY_CERT, /* so is the name in the client's certificate */
    VERIFY_PAM,  /* the password in clear text; others judge it, see auth/blocking.h */
    VERIFY_LDAP,
    VERIFY_REJECT,
    VERIFY_NOTHING /* no rule says how */
};

enum verify_result {
    VERIFY_MORE,  /* a challenge was appended; the client's next 'p' message is awaited */
    VERIFY_LATER, /* verify->password has to be judged; verify_finish tells how it went */
    VERIFY_OK,    /* the client is who it says */
    VERIFY_FAILED /* see `fault` and `reason` */
};

/* Who asks to be let in, and how that is found out. Only read during verify_begin. */
struct verify_request {
    enum verify_method method;
    struct users *users;
    struct bytes user;
    bool is_listed; /* [users] has an entry for it: known, even if it has no secret */
    /* For VERIFY_PEER and VERIFY_CERT: who the other side is elsewhere, names with a NUL behind
     * each (empty: nobody knows), and the map that applies; without a map one must be the user's.
     */
    struct bytes system_names;
    const struct ident *ident;
    const char *map;
    const char *ldap;       /* for VERIFY_LDAP: the options; copied */
    struct bytes end_point; /* for SCRAM: see struct scram_channel; empty: no channel binding */
};

/* The `reason` where the user is unknown. */
#define VERIFY_NO_SUCH_USER "no such user"

/* Zeroed memory is a conversation that has not begun; verify_release is legal on it. */
struct verify {
    enum verify_method method;
    enum fault_id fault; /* after VERIFY_FAILED: what the client is told */
    const char *reason;  /* after VERIFY_FAILED: what the log is told; a literal */
    struct users *users; /* one reference, until the end */
    struct user *user;   /* NULL: unknown */
    char salt[MD5_SALT_BYTES];
    struct scram_server *scram; /* NULL: not by SCRAM */
    char *ldap;                 /* options of VERIFY_LDAP */
    char *password;             /* of VERIFY_PAM and VERIFY_LDAP: what the client said */
    struct blocking_job *job;   /* who judges it now; abandoned by verify_release */
};

/* Starts the conversation and appends the first challenge, if there is one. */
enum verify_result verify_begin(struct verify *verify, const struct verify_request *request,
                                struct buf *out);

/* Takes the body of a 'p' message (behind type and length) and appends the answer, if there is
 * one. Called only while the last result was VERIFY_MORE. */
enum verify_result verify_message(struct verify *verify, struct bytes body, struct buf *out);

/* The same for a message that is longer than any password may be, which is not read. */
enum verify_result verify_refuse_long(struct verify *verify);

/* After VERIFY_LATER: what was found out. `reason` is why not, and is copied to nowhere: it must
 * live until the release. */
enum verify_result verify_finish(struct verify *verify, bool is_good, const char *reason);

/* After VERIFY_OK by SCRAM with a SCRAM secret, before the release: the proved keys, for logging in
 * to servers that hold the same secret. False where there are none; a plain secret needs none. */
bool verify_keys(const struct verify *verify, struct scram_client_cache *keys);

/* Wipes and gives back everything; idempotent. */
void verify_release(struct verify *verify);

#endif
