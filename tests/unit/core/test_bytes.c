/* Views of memory: equality, case, integers on the wire, hashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/bytes.h"
#include "core/check.h"

#define TEXT(text) text, sizeof(text) - 1

static void equality(void **unused) {
    (void)unused;
    static const struct {
        const char *at;
        size_t len;
        const char *text;
        bool is_equal;
        bool is_equal_nocase;
    } rows[] = {
        {TEXT(""), "", true, true},
        {NULL, 0, "", true, true},
        {TEXT("a"), "a", true, true},
        {TEXT("a"), "A", false, true},
        {TEXT("DateStyle"), "datestyle", false, true},
        {TEXT("AZ"), "az", false, true},
        {TEXT("az"), "AZ", false, true},
        {TEXT("@"), "`", false, false}, /* the neighbours of A and Z have no case */
        {TEXT("["), "{", false, false},
        {TEXT("`"), "@", false, false},
        {TEXT("{"), "[", false, false},
        {TEXT("\xC4"), "\xE4", false, false}, /* nor has what is not ASCII */
        {TEXT("\xC4"), "\xC4", true, true},
        {TEXT("ab"), "a", false, false},
        {TEXT("a"), "ab", false, false},
        {TEXT("a\0"), "a", false, false},
        {TEXT("a\0b"), "a", false, false},
        {TEXT("ab"), "ac", false, false},
        {TEXT("1"), "1", true, true},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bytes bytes = bytes_of(rows[i].at, rows[i].len);
        if (bytes_equal_text(bytes, rows[i].text) != rows[i].is_equal ||
            bytes_equal_nocase(bytes, rows[i].text) != rows[i].is_equal_nocase)
            fail_msg("row %zu", i);
    }
    assert_int_equal(bytes_of_text(NULL).len, 0);
    assert_true(bytes_equal(bytes_of_text(NULL), bytes_of("x", 0)));
}

static void integers_are_big_endian(void **unused) {
    (void)unused;
    static const struct {
        uint32_t value;
        const char *wire;
    } rows[] = {
        {0, "\0\0\0\0"},
        {1, "\0\0\0\x01"},
        {0x01020304, "\x01\x02\x03\x04"},
        {0x80000000, "\x80\0\0\0"},
        {0xFFFFFFFF, "\xFF\xFF\xFF\xFF"},
        {0x00FF00FE, "\0\xFF\0\xFE"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char at[7] = "......"; /* written and read where nothing is aligned */
        bytes_put_u32(at + 1, rows[i].value);
        assert_memory_equal(at + 1, rows[i].wire, 4);
        assert_int_equal(at[0], '.');
        assert_int_equal(at[5], '.');
        assert_int_equal(bytes_get_u32(at + 1), rows[i].value);
        assert_int_equal(bytes_get_u16(at + 1), rows[i].value >> 16);
        bytes_put_u16(at + 3, (uint16_t)(rows[i].value >> 16));
        assert_memory_equal(at + 3, rows[i].wire, 2);
        assert_int_equal(at[5], '.');
    }
}

/* Every bit of a key counts, and the hash depends on nothing else. */
static void hashes(void **unused) {
    (void)unused;
    char key[40] = "";
    char copy[41] = "";
    uint64_t plain = bytes_hash(bytes_of(key, sizeof key));
    assert_true(plain == bytes_hash(bytes_of(copy + 1, sizeof key)));
    for (size_t bit = 0; bit < sizeof key * 8; bit++) {
        key[bit / 8] = (char)(1 << bit % 8);
        assert_true(bytes_hash(bytes_of(key, sizeof key)) != plain);
        key[bit / 8] = 0;
    }
    for (size_t len = 0; len < sizeof key; len++)
        assert_true(bytes_hash(bytes_of(key, len)) != bytes_hash(bytes_of(key, len + 1)));
    assert_true(bytes_hash(bytes_of(NULL, 0)) == bytes_hash(bytes_of(key, 0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality),
        cmocka_unit_test(integers_are_big_endian),
        cmocka_unit_test(hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
