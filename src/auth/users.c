/*
 * Users and their secrets; see auth/users.h.
 *
 * A snapshot is read by many threads at once and written by none, but for two things, both atomic:
 * its reference count, and the verifier of a plain secret. That one is made by whichever thread
 * needs it first; where two are as quick, the first to publish wins and the other throws its own
 * away. Salts come from the name and the key of the process, so both made the same.
 */
#include "auth/users.h"

#include "auth/md5.h"
#include "core/check.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRAM_PREFIX "SCRAM-SHA-256$"

/* A secret that no password gives. */
#define NO_HASH "md500000000000000000000000000000000"

#define USER_SECRET_COUNT (USER_SECRET_SCRAM + 1)

/* Snapshots that differ in other things share their rules. */
struct users_rules {
    _Atomic size_t references;
    struct hba *hba;     /* NULL: none */
    struct ident *ident; /* NULL: none */
};

struct users {
    _Atomic size_t references;
    struct users_scram scram;
    struct map map;
    struct users_rules *rules; /* NULL: none */
    _Atomic bool is_deriving_over;
    size_t kinds[USER_SECRET_COUNT]; /* how many users have a secret of each kind */
};

void users_scram_init(struct users_scram *scram, unsigned iterations) {
    CHECK(iterations >= 1 && iterations <= SCRAM_ITERATIONS_MAX);
    scram->iterations = iterations;
    scram_key_make(scram->key);
}

struct users *users_new(const struct users_scram *scram) {
    struct users *users = memory_new(sizeof *users);
    users->scram = *scram;
    atomic_init(&users->references, 1);
    return users;
}

struct users *users_new_like(const struct users *users) {
    return users_new(&users->scram);
}

struct users *users_retain(struct users *users) {
    atomic_fetch_add_explicit(&users->references, 1, memory_order_relaxed);
    return users;
}

static void user_free(struct user *user) {
    struct scram_verifier *verifier = atomic_load(&user->verifier);
    if (verifier != NULL) memory_wipe(verifier, sizeof *verifier);
    memory_free(verifier);
    memory_free((char *)user->name.at);
    memory_free_secret((char *)user->secret.at);
    memory_free(user);
}

static void rules_free(struct users_rules *rules) {
    if (rules == NULL) return;
    if (atomic_fetch_sub_explicit(&rules->references, 1, memory_order_acq_rel) > 1) return;
    hba_free(&rules->hba);
    ident_free(&rules->ident);
    memory_free(rules);
}

void users_free(struct users **users) {
    struct users *gone = *users;
    *users = NULL;
    if (gone == NULL) return;
    if (atomic_fetch_sub_explicit(&gone->references, 1, memory_order_acq_rel) > 1) return;
    const struct map_node *node = map_next(&gone->map, NULL);
    while (node != NULL) {
        const struct map_node *next = map_next(&gone->map, node);
        user_free(MAP_OWNER(node, struct user, node));
        node = next;
    }
    map_release(&gone->map);
    rules_free(gone->rules);
    memory_wipe(gone, sizeof *gone);
    memory_free(gone);
}

static bool starts_with(struct bytes text, const char *prefix) {
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.at, prefix, len) == 0;
}

static bool has_nul(struct bytes text) {
    return text.len > 0 && memchr(text.at, '\0', text.len) != NULL;
}

enum user_secret users_secret_kind(struct bytes secret) {
    if (secret.len == 0) return USER_SECRET_NONE;
    if (md5_is_secret(secret)) return USER_SECRET_MD5;
    return starts_with(secret, SCRAM_PREFIX) ? USER_SECRET_SCRAM : USER_SECRET_PLAIN;
}

/* What is wrong with a user, or NULL. */
static const char *judge_user(struct bytes name, struct bytes secret) {
    if (name.len == 0) return "the user name is empty";
    if (name.len > USERS_NAME_BYTES_MAX) return "the user name is longer than 127 bytes";
    if (secret.len > USERS_SECRET_BYTES_MAX) return "the secret is longer than 65530 bytes";
    if (has_nul(name) || has_nul(secret)) return "there is a zero byte in a string";
    return NULL;
}

/* The kind of a secret, and the verifier that it holds. One that only starts like a verifier is
 * none: taken as a plain one, it would let in who has read it where it was stored. */
static enum user_secret read_secret(struct bytes secret, struct scram_verifier *verifier,
                                    struct buf *error) {
    enum user_secret kind = users_secret_kind(secret);
    if (kind != USER_SECRET_SCRAM || scram_verifier_parse(verifier, secret)) return kind;
    buf_append_text(error, "the secret starts with SCRAM-SHA-256$ but "
                           "ITERATIONS:SALT$STOREDKEY:SERVERKEY does not follow, or its salt or "
                           "iterations are too large: it lets nobody in");
    return USER_SECRET_NONE;
}

static void remove_user(struct users *users, struct bytes name) {
    struct map_node *node = map_find(&users->map, name);
    if (node == NULL) return;
    struct user *user = MAP_OWNER(node, struct user, node);
    map_remove(&users->map, node);
    users->kinds[user->kind]--;
    user_free(user);
}

bool users_add(struct users *users, struct bytes name, struct bytes secret, struct buf *error) {
    struct scram_verifier verifier;
    const char *reason = judge_user(name, secret);
    if (reason != NULL) {
        buf_append_text(error, reason);
        return false;
    }
    enum user_secret kind = read_secret(secret, &verifier, error);
    remove_user(users, name);
    struct user *user = memory_new(sizeof *user);
    user->name = bytes_of(memory_copy(name.at, name.len), name.len);
    user->secret = bytes_of(memory_copy(secret.at, secret.len), secret.len);
    user->kind = kind;
    atomic_init(&user->verifier, NULL);
    if (kind == USER_SECRET_SCRAM) {
        struct scram_verifier *kept = memory_new(sizeof *kept);
        *kept = verifier;
        atomic_init(&user->verifier, kept);
    }
    users->kinds[kind]++;
    map_add(&users->map, &user->node, user->name);
    return true;
}

static void skip_blanks(struct bytes *line) {
    while (line->len > 0 && (line->at[0] == ' ' || (line->at[0] >= '\t' && line->at[0] <= '\r')))
        *line = bytes_of(line->at + 1, line->len - 1);
}

/* Takes a string in quotes off the front; false if there is none or it does not end. */
static bool take_quoted(struct bytes *line, struct buf *text) {
    if (line->len == 0 || line->at[0] != '"') return false;
    size_t at = 1;
    buf_clear(text);
    while (at < line->len) {
        const char *quote = memchr(line->at + at, '"', line->len - at);
        if (quote == NULL) return false;
        size_t end = (size_t)(quote - line->at);
        buf_append(text, line->at + at, end - at);
        at = end + 1;
        if (at == line->len || line->at[at] != '"') {
            *line = bytes_of(line->at + at, line->len - at);
            return true;
        }
        buf_append_text(text, "\""); /* a doubled quote is one, and the string goes on */
        at++;
    }
    return false;
}

struct line_texts {
    struct buf name;
    struct buf secret;
};

static bool add_line(struct users *users, struct bytes line, struct line_texts *texts,
                     struct buf *reason) {
    skip_blanks(&line);
    if (line.len == 0 || line.at[0] == ';') return true;
    if (!take_quoted(&line, &texts->name)) {
        buf_append_text(reason, "a line starts with the user name in quotes");
        return false;
    }
    skip_blanks(&line);
    if (!take_quoted(&line, &texts->secret)) {
        buf_append_text(reason, "the user name is followed by the secret in quotes");
        return false;
    }
    /* PgBouncer takes it for a user; nobody can come under that name. */
    if (buf_length(&texts->name) == 0) return true;
    return users_add(users, buf_content(&texts->name), buf_content(&texts->secret), reason);
}

static void report_line(struct buf *error, const char *what, const char *name, unsigned number,
                        struct buf *reason) {
    buf_append_format(error, "%s%s (%s:%u): %s", buf_length(error) == 0 ? "" : "\n", what, name,
                      number, buf_text(reason));
}

/* Releases a buffer that held secrets. */
static void release_secret(struct buf *buf) {
    if (buf->memory != NULL) memory_wipe(buf->memory, buf->size);
    buf_release(buf);
}

bool users_parse(struct users *users, struct bytes text, const char *name, struct buf *error) {
    struct line_texts texts = {{0}, {0}};
    struct buf reason = {0};
    bool is_good = true;
    bool goes_on = true;
    for (unsigned number = 1; goes_on && text.len > 0; number++) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.at);
        goes_on = add_line(users, bytes_of(text.at, len), &texts, &reason);
        if (!goes_on)
            report_line(error, "broken auth file", name, number, &reason);
        else if (buf_length(&reason) > 0)
            report_line(error, "auth file", name, number, &reason);
        is_good = is_good && buf_length(&reason) == 0;
        buf_clear(&reason);
        size_t taken = end == NULL ? len : len + 1;
        text = bytes_of(text.at + taken, text.len - taken);
    }
    release_secret(&texts.name);
    release_secret(&texts.secret);
    buf_release(&reason);
    return is_good;
}

/* Reads an open file whole; false with errno. */
static bool read_whole(int fd, size_t max, struct buf *text) {
    struct stat status;
    if (fstat(fd, &status) != 0) return false;
    /* Room for everything at once, so that no copy of a secret is left behind by growing. */
    size_t expected = status.st_size > 0 ? (size_t)status.st_size : 0;
    for (;;) {
        if (expected > max || buf_length(text) > max) {
            errno = EFBIG;
            return false;
        }
        size_t room = expected > buf_length(text) ? expected - buf_length(text) + 1 : 4096;
        ssize_t got = read(fd, buf_room(text, room), room);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) return true;
        buf_grown(text, (size_t)got);
    }
}

bool users_read_file(const char *path, size_t max, struct buf *text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool is_good = read_whole(fd, max, text);
    int number = errno;
    (void)close(fd);
    errno = number;
    return is_good;
}

bool users_load(struct users *users, const char *path, struct buf *error) {
    struct buf text = {0};
    bool is_good = users_read_file(path, USERS_FILE_BYTES_MAX, &text);
    if (!is_good)
        buf_append_format(error, "could not read auth file \"%s\": %s", path, strerror(errno));
    if (is_good) is_good = users_parse(users, buf_content(&text), path, error);
    release_secret(&text);
    return is_good;
}

void users_copy_all(struct users *users, const struct users *from) {
    struct buf error = {0};
    const struct user *user = NULL;
    while ((user = users_next(from, user)) != NULL) {
        bool is_added = users_add(users, user->name, user->secret, &error);
        CHECK(is_added);
    }
    buf_release(&error);
}

void users_take_rules(struct users *users, struct hba *hba, struct ident *ident) {
    CHECK(users->rules == NULL);
    users->rules = memory_new(sizeof *users->rules);
    atomic_init(&users->rules->references, 1);
    users->rules->hba = hba;
    users->rules->ident = ident;
}

void users_share_rules(struct users *users, const struct users *from) {
    rules_free(users->rules);
    users->rules = from->rules;
    if (users->rules != NULL)
        atomic_fetch_add_explicit(&users->rules->references, 1, memory_order_relaxed);
}

const struct hba *users_hba(const struct users *users) {
    return users->rules == NULL ? NULL : users->rules->hba;
}

const struct ident *users_ident(const struct users *users) {
    return users->rules == NULL ? NULL : users->rules->ident;
}

size_t users_count(const struct users *users) {
    return users->map.count;
}

const struct user *users_next(const struct users *users, const struct user *user) {
    const struct map_node *node = map_next(&users->map, user == NULL ? NULL : &user->node);
    return node == NULL ? NULL : MAP_OWNER(node, struct user, node);
}

struct user *users_find(const struct users *users, struct bytes name) {
    struct map_node *node = map_find(&users->map, name);
    return node == NULL ? NULL : MAP_OWNER(node, struct user, node);
}

/* The verifier of a plain or a SCRAM secret. */
static const struct scram_verifier *user_verifier(const struct users *users, struct user *user) {
    struct scram_verifier *verifier = atomic_load_explicit(&user->verifier, memory_order_acquire);
    if (verifier != NULL) return verifier;
    unsigned char salt[SCRAM_SALT_BYTES];
    struct scram_verifier *fresh = memory_new(sizeof *fresh);
    scram_salt(salt, user->name, users->scram.key);
    scram_verifier_derive(fresh, user->secret, users->scram.iterations, salt);
    if (atomic_compare_exchange_strong(&user->verifier, &verifier, fresh)) return fresh;
    memory_wipe(fresh, sizeof *fresh);
    memory_free(fresh);
    return verifier;
}

static bool serves_scram(const struct user *user) {
    return user != NULL && (user->kind == USER_SECRET_PLAIN || user->kind == USER_SECRET_SCRAM);
}

bool users_verifier(const struct users *users, struct user *user, struct bytes name,
                    struct scram_verifier *verifier) {
    if (serves_scram(user)) {
        *verifier = *user_verifier(users, user);
        return true;
    }
    scram_verifier_mock(verifier, name, users->scram.iterations, users->scram.key);
    return false;
}

void users_keep_verifiers(struct users *users, const struct users *from) {
    if (users->scram.iterations != from->scram.iterations) return;
    const struct map_node *node = map_next(&users->map, NULL);
    for (; node != NULL; node = map_next(&users->map, node)) {
        struct user *user = MAP_OWNER(node, struct user, node);
        struct user *before = users_find(from, user->name);
        bool is_same = user->kind == USER_SECRET_PLAIN && before != NULL &&
                       bytes_equal(before->secret, user->secret);
        const struct scram_verifier *made =
            is_same ? atomic_load_explicit(&before->verifier, memory_order_acquire) : NULL;
        if (made == NULL || atomic_load(&user->verifier) != NULL) continue;
        struct scram_verifier *kept = memory_new(sizeof *kept);
        *kept = *made;
        atomic_store(&user->verifier, kept);
    }
}

void users_stop_deriving(struct users *users) {
    atomic_store(&users->is_deriving_over, true);
}

void users_derive_all(const struct users *users) {
    const struct map_node *node = map_next(&users->map, NULL);
    for (; node != NULL && !atomic_load(&users->is_deriving_over);
         node = map_next(&users->map, node)) {
        struct user *user = MAP_OWNER(node, struct user, node);
        if (user->kind == USER_SECRET_PLAIN) (void)user_verifier(users, user);
    }
}

/* The commonest kind of secret, which stands in for that of an unknown user. */
static enum user_secret commonest_kind(const struct users *users) {
    enum user_secret kind = USER_SECRET_PLAIN;
    for (enum user_secret i = USER_SECRET_PLAIN; i < USER_SECRET_COUNT; i++) {
        if (users->kinds[i] > users->kinds[kind]) kind = i;
    }
    return kind;
}

/* As which kind a user is judged. One without a secret is nobody that a password lets in, and must
 * not be told apart from them either. */
static enum user_secret judged_kind(const struct users *users, const struct user *user) {
    return user == NULL || user->kind == USER_SECRET_NONE ? commonest_kind(users) : user->kind;
}

bool users_wants_scram(const struct users *users, const struct user *user) {
    return judged_kind(users, user) == USER_SECRET_SCRAM;
}

/* The MD5 hash of a plain secret, or the stored one; false if there is none. */
static bool md5_of(struct bytes name, struct bytes secret, char hash[MD5_SECRET_LEN + 1]) {
    enum user_secret kind = users_secret_kind(secret);
    if (kind == USER_SECRET_PLAIN) return md5_secret(hash, secret, name);
    if (kind != USER_SECRET_MD5) return false;
    memcpy(hash, secret.at, MD5_SECRET_LEN);
    return true;
}

bool users_md5_answer(struct bytes name, struct bytes secret, const char salt[MD5_SALT_BYTES],
                      char answer[MD5_SECRET_LEN + 1]) {
    char hash[MD5_SECRET_LEN + 1];
    bool is_done = md5_of(name, secret, hash) && md5_answer(answer, hash, salt);
    memory_wipe(hash, sizeof hash);
    return is_done;
}

bool users_md5_fits(const struct users *users, const struct user *user,
                    const char salt[MD5_SALT_BYTES], struct bytes answer) {
    char right[MD5_SECRET_LEN + 1];
    bool is_real =
        user != NULL && (user->kind == USER_SECRET_PLAIN || user->kind == USER_SECRET_MD5);
    bool is_hash = judged_kind(users, user) == USER_SECRET_MD5;
    struct bytes name = is_real ? user->name : bytes_of_text("?");
    struct bytes secret = is_real ? user->secret : bytes_of_text(is_hash ? NO_HASH : "?");
    if (!users_md5_answer(name, secret, salt, right)) return false;
    bool fits = scram_secrets_equal(bytes_of(right, MD5_SECRET_LEN), answer, users->scram.key);
    memory_wipe(right, sizeof right);
    return is_real && fits;
}

static bool scram_fits(const struct users *users, struct user *user, struct bytes password) {
    struct scram_verifier verifier;
    bool is_real = users_verifier(users, user, bytes_of_text("?"), &verifier);
    bool fits = scram_verifier_fits(&verifier, password);
    memory_wipe(&verifier, sizeof verifier);
    return is_real && fits;
}

static bool md5_fits(const struct users *users, const struct user *user, struct bytes password) {
    char given[MD5_SECRET_LEN + 1];
    struct bytes name = user == NULL ? bytes_of_text("?") : user->name;
    struct bytes secret = user == NULL ? bytes_of_text(NO_HASH) : user->secret;
    if (!md5_secret(given, password, name)) return false;
    bool fits = scram_secrets_equal(secret, bytes_of(given, MD5_SECRET_LEN), users->scram.key);
    memory_wipe(given, sizeof given);
    return user != NULL && fits;
}

bool users_password_fits(const struct users *users, struct user *user, struct bytes password) {
    enum user_secret kind = judged_kind(users, user);
    if (kind == USER_SECRET_SCRAM) return scram_fits(users, user, password);
    if (kind == USER_SECRET_MD5) return md5_fits(users, user, password);
    struct bytes secret = user == NULL ? bytes_of_text("?") : user->secret;
    bool fits = scram_secrets_equal(secret, password, users->scram.key);
    return user != NULL && user->kind == USER_SECRET_PLAIN && fits;
}
