/* Numbers and texts in a row: what goes in comes out, and nothing is read beyond the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/pack.h"

static void pack_all(struct buf *out) {
    buf_append_u8(out, 200);
    buf_append_u32(out, 4000000000u);
    pack_u64(out, UINT64_C(12345678901234567890));
    pack_text(out, bytes_of("a\0b", 3));
    pack_text(out, bytes_of("", 0));
}

static bool reads_all(struct unpack *in) {
    bool is_same = unpack_u8(in) == 200;
    is_same = unpack_u32(in) == 4000000000u && is_same;
    is_same = unpack_u64(in) == UINT64_C(12345678901234567890) && is_same;
    is_same = bytes_equal(unpack_text(in), bytes_of("a\0b", 3)) && is_same;
    struct bytes empty = unpack_text(in);
    return is_same && empty.len == 0 && !in->is_bad;
}

static void what_goes_in_comes_out(void **unused) {
    (void)unused;
    struct buf out = {0};
    pack_all(&out);
    struct unpack in = {.rest = buf_content(&out)};
    assert_true(reads_all(&in));
    assert_int_equal(in.rest.len, 0);
    assert_int_equal(unpack_u8(&in), 0);
    assert_true(in.is_bad);
    buf_release(&out);
}

static void cut_anywhere_it_is_bad(void **unused) {
    (void)unused;
    struct buf out = {0};
    pack_all(&out);
    for (size_t len = 0; len < buf_length(&out); len++) {
        struct unpack in = {.rest = bytes_of(buf_content(&out).at, len)};
        assert_false(reads_all(&in));
        assert_true(in.is_bad);
        assert_int_equal(unpack_u64(&in), 0);
        assert_int_equal(unpack_text(&in).len, 0);
    }
    buf_release(&out);
}

/* A length that is not there is not believed. */
static void long_texts_are_not_believed(void **unused) {
    (void)unused;
    struct unpack in = {.rest = bytes_of("\xFF\xFF\xFF\xFFx", 5)};
    assert_int_equal(unpack_text(&in).len, 0);
    assert_true(in.is_bad);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(cut_anywhere_it_is_bad),
        cmocka_unit_test(long_texts_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
