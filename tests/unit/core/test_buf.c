/* Buffers: what each append writes, where the borders of growth lie, and a long random life. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "unit/dies.h"

#define TEXT(text) text, sizeof(text) - 1

enum append { AT, BYTES, CLOSED, PLAIN, U8, U16, U32 };

static void append(struct buf *buf, enum append how, const char *text, uint32_t number) {
    switch (how) {
    case AT:
        buf_append(buf, text, number);
        break;
    case BYTES:
        buf_append_bytes(buf, bytes_of_text(text));
        break;
    case CLOSED:
        buf_append_text0(buf, text);
        break;
    case PLAIN:
        buf_append_text(buf, text);
        break;
    case U8:
        buf_append_u8(buf, number);
        break;
    case U16:
        buf_append_u16(buf, (uint16_t)number);
        break;
    case U32:
        buf_append_u32(buf, number);
        break;
    }
}

static void appends_write_what_they_say(void **unused) {
    (void)unused;
    static const struct {
        enum append how;
        const char *text;
        uint32_t number;
        const char *expected;
        size_t len;
    } rows[] = {
        {AT, "abcdef", 3, TEXT("abc")},
        {AT, "a\0b", 3, TEXT("a\0b")},
        {AT, NULL, 0, TEXT("")},
        {BYTES, "abc", 0, TEXT("abc")},
        {BYTES, NULL, 0, TEXT("")},
        {PLAIN, "abc", 0, TEXT("abc")},
        {PLAIN, "", 0, TEXT("")},
        {CLOSED, "abc", 0, TEXT("abc\0")},
        {CLOSED, "", 0, TEXT("\0")},
        {U8, NULL, 0x41, TEXT("A")},
        {U8, NULL, 0xFF, TEXT("\xFF")},
        {U8, NULL, 0x1FE, TEXT("\xFE")},
        {U16, NULL, 0x0102, TEXT("\x01\x02")},
        {U16, NULL, 0xFFFE, TEXT("\xFF\xFE")},
        {U32, NULL, 0x01020304, TEXT("\x01\x02\x03\x04")},
        {U32, NULL, 0xFFFEFDFC, TEXT("\xFF\xFE\xFD\xFC")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf buf = {0};
        append(&buf, rows[i].how, rows[i].text, rows[i].number);
        assert_int_equal(buf_length(&buf), rows[i].len);
        buf_append_u8(&buf, '|'); /* nothing is written behind the end */
        struct bytes content = buf_content(&buf);
        if (content.len != rows[i].len + 1 ||
            memcmp(content.at, rows[i].expected, rows[i].len) != 0 ||
            content.at[content.len - 1] != '|')
            fail_msg("row %zu", i);
        buf_release(&buf);
    }
}

/* Up to 511 characters pass through a text on the stack, longer ones do not. */
static void formats_of_any_length(void **unused) {
    (void)unused;
    static const int lengths[] = {0, 1, 255, 256, 510, 511, 512, 513, 5000, 100000};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct buf buf = {0};
        buf_append_text(&buf, "head:");
        buf_append_format(&buf, "%0*d%s", lengths[i], 7, "!");
        size_t digits = lengths[i] == 0 ? 1 : (size_t)lengths[i];
        assert_int_equal(buf_length(&buf), 5 + digits + 1);
        struct bytes content = buf_content(&buf);
        assert_memory_equal(content.at, "head:", 5);
        for (size_t at = 5; at < 5 + digits - 1; at++) assert_int_equal(content.at[at], '0');
        assert_memory_equal(content.at + content.len - 2, "7!", 2);
        buf_release(&buf);
    }
}

static void an_empty_one_owns_nothing(void **unused) {
    (void)unused;
    struct buf buf = {0};
    assert_int_equal(buf_length(&buf), 0);
    assert_int_equal(buf_content(&buf).len, 0);
    assert_non_null(buf_content(&buf).at);
    buf_append(&buf, NULL, 0);
    assert_null(buf.memory);
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf_length(&buf), 0);
    buf_release(&buf);
    assert_null(buf.memory);
    buf_release(&buf);
    buf_append_text(&buf, "again");
    assert_string_equal(buf_text(&buf), "again");
    buf_release(&buf);
}

/* Taken off the front and the end; the rest is what lies between. */
static void the_rest_stays(void **unused) {
    (void)unused;
    static const struct {
        size_t consumed;
        size_t truncated;
        const char *left;
    } rows[] = {
        {0, 6, "abcdef"}, {1, 5, "bcdef"}, {0, 5, "abcde"}, {2, 3, "cde"},
        {5, 1, "f"},      {5, 0, ""},      {6, 0, ""},      {0, 0, ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf buf = {0};
        buf_append_text(&buf, "abcdef");
        const char *memory = buf.memory;
        buf_consume(&buf, rows[i].consumed);
        buf_truncate(&buf, rows[i].truncated);
        assert_string_equal(buf_text(&buf), rows[i].left);
        buf_append_text(&buf, "+");
        assert_int_equal(buf_length(&buf), strlen(rows[i].left) + 1);
        assert_memory_equal(buf_content(&buf).at, rows[i].left, strlen(rows[i].left));
        assert_ptr_equal(buf.memory, memory);
        buf_clear(&buf);
        assert_int_equal(buf_length(&buf), 0);
        assert_ptr_equal(buf.memory, memory);
        buf_release(&buf);
    }
}

/* What was consumed makes room again before more memory is asked for. */
static void a_queue_does_not_grow(void **unused) {
    (void)unused;
    struct buf buf = {0};
    buf_append_text(&buf, "0123456789");
    uint32_t size = buf.size;
    for (unsigned i = 0; i < 10000; i++) {
        buf_append_u8(&buf, '0' + i % 10);
        buf_consume(&buf, 1);
    }
    assert_int_equal(buf.size, size);
    assert_string_equal(buf_text(&buf), "0123456789");
    buf_release(&buf);
}

static uint32_t random_next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Bytes are numbered as they go in; they come out in that order, whatever happens between. */
static void a_random_life(void **unused) {
    (void)unused;
    struct buf buf = {0};
    uint32_t seed = 1;
    uint8_t in = 0, out = 0;
    for (unsigned step = 0; step < 20000; step++) {
        size_t len = random_next(&seed) % 700;
        if (random_next(&seed) % 2 == 0) {
            char *room = buf_room(&buf, len + 1);
            for (size_t i = 0; i < len; i++) room[i] = (char)in++;
            buf_grown(&buf, len);
        } else {
            if (len > buf_length(&buf)) len = buf_length(&buf);
            struct bytes content = buf_content(&buf);
            for (size_t i = 0; i < len; i++) assert_int_equal((uint8_t)content.at[i], out++);
            buf_consume(&buf, len);
        }
        assert_int_equal((uint8_t)(out + buf_length(&buf)), in);
    }
    buf_release(&buf);
}

static struct buf three;

static void consume_more_than_there_is(void) {
    buf_consume(&three, 4);
}

static void truncate_to_more_than_there_is(void) {
    buf_truncate(&three, 4);
}

static void grow_beyond_the_room(void) {
    buf_grown(&three, three.size);
}

static void ask_for_gigabytes(void) {
    (void)buf_room(&three, SIZE_MAX);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    buf_append_text(&three, "abc");
    assert_true(dies(consume_more_than_there_is));
    assert_true(dies(truncate_to_more_than_there_is));
    assert_true(dies(grow_beyond_the_room));
    assert_true(dies(ask_for_gigabytes));
    buf_release(&three);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_write_what_they_say), cmocka_unit_test(formats_of_any_length),
        cmocka_unit_test(an_empty_one_owns_nothing),   cmocka_unit_test(the_rest_stays),
        cmocka_unit_test(a_queue_does_not_grow),       cmocka_unit_test(a_random_life),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
