/*
 * The users that clients may log in as: an immutable snapshot with a reference count, shared by
 * all workers. It is built by one thread (users_new, then users_add or users_load) and published;
 * from then on it is only read. A reload builds another one.
 *
 * The file is PgBouncer's auth_file: one `"name" "secret"` per line, `""` for a quote inside; what
 * follows the second string is passed over; a line that starts with `;` is a comment.
 */
#ifndef WEIR_AUTH_USERS_H
#define WEIR_AUTH_USERS_H

#include "auth/hba.h"
#include "auth/md5.h"
#include "auth/scram.h"
#include "core/map.h"

#include <stdatomic.h>

#define USERS_NAME_BYTES_MAX   127u
#define USERS_SECRET_BYTES_MAX 65530u
#define USERS_FILE_BYTES_MAX   (256u << 20)

enum user_secret {
    USER_SECRET_NONE, /* an empty secret never authenticates */
    USER_SECRET_PLAIN,
    USER_SECRET_MD5, /* "md5" and 32 hex digits, of password and name */
    USER_SECRET_SCRAM
};

/* The kind of a secret by its looks. */
enum user_secret users_secret_kind(struct bytes secret);

struct user {
    struct map_node node; /* its key is the name */
    struct bytes name;
    struct bytes secret; /* as it stands in the file */
    enum user_secret kind;
    /* From the secret, or made from a plain one by the first thread that needs it. */
    _Atomic(struct scram_verifier *) verifier;
};

/* What SCRAM exchanges with users of this process have in common. The key is random, made once per
 * process, so that salts survive a reload. */
struct users_scram {
    unsigned iterations; /* for plain secrets and unknown users; 1 to SCRAM_ITERATIONS_MAX */
    unsigned char key[SCRAM_KEY_BYTES];
};

/* Fills the key with random bytes. */
void users_scram_init(struct users_scram *scram, unsigned iterations);

struct users;

/* An empty snapshot with one reference, the caller's. */
struct users *users_new(const struct users_scram *scram);

/* An empty snapshot whose salts and iterations are those of another one. */
struct users *users_new_like(const struct users *users);

/* One reference more; returns `users`. May be called from any thread that holds one. */
struct users *users_retain(struct users *users);

/* Gives one reference back and sets the pointer to NULL; the last one wipes and frees. */
void users_free(struct users **users);

/* Adds a user; a name that is there already gets the new secret. False, with a reason in `error`,
 * if the name is empty, or either is too long or holds a NUL. True with a reason: the secret starts
 * like a SCRAM verifier and is none, so that the user is known but cannot log in with it. */
bool users_add(struct users *users, struct bytes name, struct bytes secret, struct buf *error);

/* Adds the users of an auth_file, from the file or from its text. At the first broken line reading
 * ends, `error` gets `broken auth file (NAME:LINE): REASON`, and the users before it stay. A secret
 * that is no SCRAM verifier is told as `auth file (NAME:LINE): REASON`, and reading goes on. False
 * if there is anything in `error`: lines, without an end at the last. */
bool users_load(struct users *users, const char *path, struct buf *error);
bool users_parse(struct users *users, struct bytes text, const char *name, struct buf *error);

/* Reads a file of at most `max` bytes whole; false with errno. */
bool users_read_file(const char *path, size_t max, struct buf *text);

/* Adds all users of another snapshot; verifiers of plain secrets are made anew. */
void users_copy_all(struct users *users, const struct users *from);

/* Goes by the rules of another snapshot, and no longer by those that it may have. */
void users_share_rules(struct users *users, const struct users *from);

/* The rules by which these users log in go with them: they are read together and change together.
 * Takes over both, which may be NULL. */
void users_take_rules(struct users *users, struct hba *hba, struct ident *ident);
const struct hba *users_hba(const struct users *users);
const struct ident *users_ident(const struct users *users);

size_t users_count(const struct users *users);

/* Walks all users in no particular order: NULL starts, NULL ends. */
const struct user *users_next(const struct users *users, const struct user *user);

/* The user with that name, or NULL; lives as long as the snapshot. */
struct user *users_find(const struct users *users, struct bytes name);

/* Copies the verifier to authenticate `name` with. For an unknown user (NULL), or one whose secret
 * does not serve SCRAM, it is a mock that looks the same and fits no password; false then. The
 * first call for a plain secret costs one PBKDF2, later ones none. */
bool users_verifier(const struct users *users, struct user *user, struct bytes name,
                    struct scram_verifier *verifier);

/* Makes the verifiers of all plain secrets at once, so that no login pays for one or shows by its
 * time that the user exists. Takes about 1.5 ms per user at 4096 iterations: meant for a thread of
 * its own that holds a reference. */
void users_derive_all(const struct users *users);

/* Has it, on another thread, end soon. */
void users_stop_deriving(struct users *users);

/* Takes over the verifiers that an earlier snapshot of this process has made for secrets that are
 * the same here, before the snapshot is published. */
void users_keep_verifiers(struct users *users, const struct users *from);

/* Whether a password in clear text is the user's, whatever its secret is kept as. NULL is refused,
 * in the time that the commonest kind of secret takes. */
bool users_password_fits(const struct users *users, struct user *user, struct bytes password);

/* Whether a user is asked by SCRAM where the method is md5: one with a SCRAM secret, and an unknown
 * one (NULL) where most have such secrets. */
bool users_wants_scram(const struct users *users, const struct user *user);

/* Whether `answer` is what the user (NULL: unknown) should say to an MD5 challenge. */
bool users_md5_fits(const struct users *users, const struct user *user,
                    const char salt[MD5_SALT_BYTES], struct bytes answer);

/* Writes what `name` says to an MD5 challenge; false if the secret is neither plain nor MD5. */
bool users_md5_answer(struct bytes name, struct bytes secret, const char salt[MD5_SALT_BYTES],
                      char answer[MD5_SECRET_LEN + 1]);

#endif
