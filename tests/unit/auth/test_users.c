/* The auth_file, and snapshots of users that many threads share. */
#include "auth/users.h"

#include "core/check.h"
#include "core/memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define VERIFIER                                                                                   \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="     \
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define MD5 "md5a6b3f9f2c1d0e8f7a6b5c4d3e2f1a0b9"

static struct users *users_of(const char *text) {
    struct users_scram scram;
    struct buf error = {0};
    users_scram_init(&scram, 2);
    struct users *users = users_new(&scram);
    assert_true(users_parse(users, bytes_of_text(text), "userlist.txt", &error));
    assert_int_equal(buf_length(&error), 0);
    buf_release(&error);
    return users;
}

static struct user *find(const struct users *users, const char *name) {
    return users_find(users, bytes_of_text(name));
}

static void test_files(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *name;
        const char *secret; /* NULL: the name is not there */
        enum user_secret kind;
    } rows[] = {
        {"", 0, "ann", NULL, USER_SECRET_NONE},
        {"\n\n  \t\r\n", 0, "ann", NULL, USER_SECRET_NONE},
        {"\"ann\" \"secret\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\" \"secret\"", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\" \"secret\"\r\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\"\t \"secret\"  \n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"  \"ann\" \"secret\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"; \"bob\" \"x\"\n\"ann\" \"secret\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"  ; note\n\"ann\" \"secret\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\" \"secret\" \"third\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\" \"secret\" anything ; at all\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"a\"\"n\" \"se\"\"cr\"\"\"\n", 1, "a\"n", "se\"cr\"", USER_SECRET_PLAIN},
        {"\"a b;\" \" secret \"\n", 1, "a b;", " secret ", USER_SECRET_PLAIN},
        {"\"ann\" \"\"\n", 1, "ann", "", USER_SECRET_NONE},
        {"\"\" \"x\"\n\"ann\" \"secret\"\n", 1, "ann", "secret", USER_SECRET_PLAIN},
        {"\"ann\" \"\"\"\"\n", 1, "ann", "\"", USER_SECRET_PLAIN},
        {"\"ann\" \"old\"\n\"bob\" \"x\"\n\"ann\" \"new\"\n", 2, "ann", "new", USER_SECRET_PLAIN},
        {"\"ann\" \"" MD5 "\"\n", 1, "ann", MD5, USER_SECRET_MD5},
        {"\"ann\" \"" MD5 "0\"\n", 1, "ann", MD5 "0", USER_SECRET_PLAIN},
        {"\"ann\" \"md5 is my hobby, it has 35 letters\"\n", 1, "ann",
         "md5 is my hobby, it has 35 letters", USER_SECRET_PLAIN},
        {"\"ann\" \"" VERIFIER "\"\n", 1, "ann", VERIFIER, USER_SECRET_SCRAM},
        {"\"\xC3\xA4\" \"\xC3\xB6\"\n", 1, "\xC3\xA4", "\xC3\xB6", USER_SECRET_PLAIN},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct users *users = users_of(rows[i].text);
        struct user *user = find(users, rows[i].name);
        if (users_count(users) != rows[i].count) print_error("row %zu\n", i);
        assert_int_equal(users_count(users), rows[i].count);
        assert_int_equal(user != NULL, rows[i].secret != NULL);
        if (user != NULL) {
            assert_true(bytes_equal_text(user->secret, rows[i].secret));
            assert_int_equal(user->kind, rows[i].kind);
        }
        users_free(&users);
    }
}

/* Where reading ends, and how many users came before. */
static void test_broken_files(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t count;
        const char *error;
    } rows[] = {
        {"ann secret\n", 0, "broken auth file (F:1): a line starts with the user name in quotes"},
        {"\"ann\" \"x\"\n\n# note\n\"bob\" \"x\"\n", 1,
         "broken auth file (F:3): a line starts with the user name in quotes"},
        {"\"ann\n\" \"x\"\n", 0,
         "broken auth file (F:1): a line starts with the user name in quotes"},
        {"\"ann\"\n", 0,
         "broken auth file (F:1): the user name is followed by the secret in "
         "quotes"},
        {"\"ann\" secret\n", 0,
         "broken auth file (F:1): the user name is followed by the secret "
         "in quotes"},
        {"\"ann\" \"secret\n", 0,
         "broken auth file (F:1): the user name is followed by the "
         "secret in quotes"},
        {"\"ann\" \"secret\"\"", 0,
         "broken auth file (F:1): the user name is followed by the "
         "secret in quotes"},
        {"\"ann\"\"secret\"\n", 0,
         "broken auth file (F:1): the user name is followed by the "
         "secret in quotes"},
        {"\"ann\" \"SCRAM-SHA-256$4096:nonsense\"\n\"bob\" \"x\"\n\"eve\"\n\"joe\" \"x\"\n", 2,
         "auth file (F:1): the secret starts with SCRAM-SHA-256$ but "
         "ITERATIONS:SALT$STOREDKEY:SERVERKEY does not follow, or its salt or iterations are too "
         "large: it lets nobody in\n"
         "broken auth file (F:3): the user name is followed by the secret in quotes"},
    };
    struct users_scram scram;
    users_scram_init(&scram, 2);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct users *users = users_new(&scram);
        struct buf error = {0};
        assert_false(users_parse(users, bytes_of_text(rows[i].text), "F", &error));
        assert_string_equal(buf_text(&error), rows[i].error);
        assert_int_equal(users_count(users), rows[i].count);
        buf_release(&error);
        users_free(&users);
    }
}

static void test_limits(void **state) {
    (void)state;
    static const struct {
        size_t name_bytes;
        size_t secret_bytes;
        bool is_good;
    } rows[] = {
        {127, 65530, true}, {128, 1, false}, {1, 65531, false}, {0, 1, false}, {1, 0, true},
    };
    static char text[70000];
    memset(text, 'x', sizeof text);
    struct users_scram scram;
    users_scram_init(&scram, 2);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct users *users = users_new(&scram);
        struct buf error = {0};
        assert_int_equal(users_add(users, bytes_of(text, rows[i].name_bytes),
                                   bytes_of(text, rows[i].secret_bytes), &error),
                         rows[i].is_good);
        assert_int_equal(users_count(users), rows[i].is_good);
        assert_int_equal(buf_length(&error) > 0, !rows[i].is_good);
        buf_release(&error);
        users_free(&users);
    }
    struct users *users = users_new(&scram);
    struct buf error = {0};
    assert_false(users_add(users, bytes_of("a\0b", 3), bytes_of_text("x"), &error));
    assert_false(users_add(users, bytes_of_text("a"), bytes_of("x\0y", 3), &error));
    buf_release(&error);
    users_free(&users);
}

static void test_load(void **state) {
    (void)state;
    char path[] = "/tmp/weir-test-users-XXXXXX";
    static const char text[] = "\"ann\" \"secret\"\n\"bob\" \"x\"\n";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(close(fd), 0);
    struct users *users = users_of("");
    struct buf error = {0};
    assert_true(users_load(users, path, &error));
    assert_int_equal(users_count(users), 2);
    assert_non_null(find(users, "bob"));
    assert_int_equal(unlink(path), 0);
    assert_false(users_load(users, path, &error));
    assert_non_null(strstr(buf_text(&error), "could not read auth file \"/tmp/weir-test-users-"));
    assert_non_null(strstr(buf_text(&error), "No such file or directory"));
    buf_clear(&error);
    assert_false(users_load(users, "/tmp", &error));
    assert_non_null(strstr(buf_text(&error), "Is a directory"));
    buf_release(&error);
    users_free(&users);
}

/* The verifier is made once, is the same in every snapshot of the process, and has a salt that an
 * unknown name would have had too. */
static void test_verifiers(void **state) {
    (void)state;
    struct users_scram scram;
    struct buf error = {0};
    users_scram_init(&scram, 2);
    struct users *users = users_new(&scram);
    assert_true(users_parse(users,
                            bytes_of_text("\"ann\" \"secret\"\n\"stored\" \"" VERIFIER "\"\n"
                                          "\"old\" \"" MD5 "\"\n\"empty\" \"\"\n"),
                            "F", &error));
    struct scram_verifier first;
    struct scram_verifier again;
    struct user *ann = find(users, "ann");
    assert_null(atomic_load(&ann->verifier));
    assert_true(users_verifier(users, ann, bytes_of_text("ann"), &first));
    struct scram_verifier *kept = atomic_load(&ann->verifier);
    assert_non_null(kept);
    assert_true(users_verifier(users, ann, bytes_of_text("ann"), &again));
    assert_ptr_equal(atomic_load(&ann->verifier), kept);
    assert_memory_equal(&first, &again, sizeof first);
    assert_true(scram_verifier_fits(&first, bytes_of_text("secret")));
    assert_false(users_verifier(users, NULL, bytes_of_text("ann"), &again));
    assert_memory_equal(first.salt, again.salt, SCRAM_SALT_BYTES);
    assert_int_equal(first.iterations, again.iterations);
    assert_false(scram_verifier_fits(&again, bytes_of_text("secret")));

    assert_true(users_verifier(users, find(users, "stored"), bytes_of_text("stored"), &again));
    assert_int_equal(again.iterations, 4096);
    assert_true(scram_verifier_fits(&again, bytes_of_text("pencil")));
    assert_false(users_verifier(users, find(users, "old"), bytes_of_text("old"), &again));
    assert_false(users_verifier(users, find(users, "empty"), bytes_of_text("empty"), &again));

    struct users *reloaded = users_new(&scram);
    assert_true(users_add(reloaded, bytes_of_text("ann"), bytes_of_text("secret"), &error));
    users_derive_all(reloaded);
    assert_non_null(atomic_load(&find(reloaded, "ann")->verifier));
    assert_true(users_verifier(reloaded, find(reloaded, "ann"), bytes_of_text("ann"), &again));
    assert_memory_equal(&first, &again, sizeof first);

    /* A reload keeps what was made, for the same secret and as many iterations. */
    struct users *fresh = users_new(&scram);
    assert_true(users_add(fresh, bytes_of_text("ann"), bytes_of_text("secret"), &error));
    assert_true(users_add(fresh, bytes_of_text("new"), bytes_of_text("secret"), &error));
    users_keep_verifiers(fresh, reloaded);
    assert_non_null(atomic_load(&find(fresh, "ann")->verifier));
    assert_null(atomic_load(&find(fresh, "new")->verifier));
    assert_true(users_verifier(fresh, find(fresh, "ann"), bytes_of_text("ann"), &again));
    assert_memory_equal(&first, &again, sizeof first);
    users_free(&fresh);
    fresh = users_new(&scram);
    assert_true(users_add(fresh, bytes_of_text("ann"), bytes_of_text("another"), &error));
    users_keep_verifiers(fresh, reloaded);
    assert_null(atomic_load(&find(fresh, "ann")->verifier));
    users_stop_deriving(fresh);
    users_derive_all(fresh);
    assert_null(atomic_load(&find(fresh, "ann")->verifier));
    users_free(&fresh);
    struct users_scram other = scram;
    other.iterations++;
    fresh = users_new(&other);
    users_copy_all(fresh, reloaded);
    users_keep_verifiers(fresh, reloaded);
    assert_null(atomic_load(&find(fresh, "ann")->verifier));
    users_free(&fresh);
    users_free(&users);
    users_free(&reloaded);
    assert_null(users);
    buf_release(&error);
}

static void test_passwords(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *password;
        bool fits;
    } rows[] = {
        {"ann", "secret", true},     {"ann", "secret1", false},  {"ann", "secre", false},
        {"ann", "", false},          {"stored", "pencil", true}, {"stored", VERIFIER, false},
        {"stored", "pen", false},    {"old", MD5, false},        {"empty", "", false},
        {"nobody", "secret", false}, {"nobody", "?", false},
    };
    struct users *users = users_of("\"ann\" \"secret\"\n\"stored\" \"" VERIFIER "\"\n"
                                   "\"old\" \"" MD5 "\"\n\"empty\" \"\"\n");
    struct users *stored_only = users_of("\"stored\" \"" VERIFIER "\"\n");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct user *user = find(users, rows[i].name);
        assert_int_equal(users_password_fits(users, user, bytes_of_text(rows[i].password)),
                         rows[i].fits);
    }
    assert_false(users_password_fits(stored_only, NULL, bytes_of_text("pencil")));
    users_free(&users);
    users_free(&stored_only);
}

#define THREADS 4

static void *use_snapshot(void *argument) {
    struct users *users = argument;
    struct scram_verifier verifier;
    for (int i = 0; i < 200; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", i);
        struct user *user = find(users, name);
        if (!users_verifier(users, user, user->name, &verifier)) return users;
        if (!scram_verifier_fits(&verifier, user->secret)) return users;
    }
    users_free(&users);
    return NULL;
}

/* Several threads meet the same users for the first time; each gives back its reference. */
static void test_threads(void **state) {
    (void)state;
    struct users *users = users_of("");
    struct buf error = {0};
    for (int i = 0; i < 200; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "user%d", i);
        assert_true(users_add(users, bytes_of_text(name), bytes_of_text(name), &error));
    }
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_snapshot, users_retain(users)), 0);
    users_free(&users);
    for (size_t i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    buf_release(&error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),     cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_limits),    cmocka_unit_test(test_load),
        cmocka_unit_test(test_verifiers), cmocka_unit_test(test_passwords),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
