/* The shared listener's pure parts: marks, texts, and which worker has which. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pool/listener.h"

static void marks_are_read(void **unused) {
    static const struct {
        const char *payload;
        uint32_t id;
        unsigned worker;
    } rows[] = {
        {"0/1", 1, 0},
        {"63/4294967289", 4294967289u, 63},
        {"7/0", 0, 7},
        {"", 0, 0},
        {"7", 0, 7},
        {"/5", 5, 0},
        {"1/2/3", 0, 0},
        {"1/2 ", 0, 0},
        {"-1/2", 0, 0},
        {"1/99999999999", 0, 0},
        {"x", 0, 0},
        {"99999999999999999999/1", 0, 0},
        {"1/42949672900", 0, 0},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned worker = 0;
        uint32_t id = listeners_mark_id(bytes_of_text(rows[i].payload), &worker);
        if (id != rows[i].id || (id != 0 && worker != rows[i].worker))
            fail_msg("%s: %u of %u", rows[i].payload, id, worker);
    }
}

static void a_mark_is_read_as_it_is_written(void **unused) {
    struct listeners *listeners = listeners_new();
    struct buf query = {0};
    unsigned worker = 0;
    (void)unused;
    listeners_append_mark(listeners, &query, 5, 77);
    const char *payload = strchr(buf_text(&query), '\'') + 1;
    size_t len = strcspn(payload, "'");
    assert_int_equal(listeners_mark_id(bytes_of(payload, len), &worker), 77);
    assert_int_equal(worker, 5);
    assert_int_equal(listeners_mark_channel(listeners).len, strlen("weir_") + 16);
    buf_release(&query);
    listeners_free(&listeners);
}

static void notifications_are_read(void **unused) {
    struct notification one;
    (void)unused;
    assert_true(notification_read(bytes_of("\0\0\1\2news\0hello", 16), &one));
    assert_int_equal(one.pid, 258);
    assert_true(bytes_equal_text(one.channel, "news") && bytes_equal_text(one.payload, "hello"));
    assert_true(notification_read(bytes_of("\0\0\0\1a\0", 8), &one));
    assert_int_equal(one.payload.len, 0);
    for (size_t len = 0; len < 15; len++)
        assert_false(notification_read(bytes_of("\0\0\1\2news\0hello", len), &one));
}

static void names_are_quoted(void **unused) {
    static const char *const rows[][2] = {
        {"a", "LISTEN \"a\";"}, {"a\"b", "LISTEN \"a\"\"b\";"}, {"\\; x", "LISTEN \"\\; x\";"}};
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf query = {0};
        listener_append_command(&query, "LISTEN", bytes_of_text(rows[i][0]));
        assert_string_equal(buf_text(&query), rows[i][1]);
        buf_release(&query);
    }
}

static void the_first_has_it_until_all_are_gone(void **unused) {
    struct listeners *listeners = listeners_new();
    struct bytes one = bytes_of_text("db/one"), two = bytes_of_text("db/two");
    (void)unused;
    assert_int_equal(listeners_claim(listeners, one, 3), 3);
    assert_int_equal(listeners_claim(listeners, one, 1), 3);
    assert_int_equal(listeners_claim(listeners, two, 1), 1);
    listeners_release(listeners, one);
    assert_int_equal(listeners_claim(listeners, one, 2), 3);
    listeners_release(listeners, one);
    listeners_release(listeners, one);
    assert_int_equal(listeners_claim(listeners, one, 2), 2);
    listeners_release(listeners, one);
    assert_false(listeners_are_heard(listeners));
    listeners_note_ear(listeners);
    assert_true(listeners_are_heard(listeners));
    assert_false(listeners_are_heard(NULL));
    listeners_free(&listeners); /* two is still claimed: its entry goes too */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_are_read),
        cmocka_unit_test(a_mark_is_read_as_it_is_written),
        cmocka_unit_test(notifications_are_read),
        cmocka_unit_test(names_are_quoted),
        cmocka_unit_test(the_first_has_it_until_all_are_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
