/* Memory: zeroed, resized, copied, and wiped where it held a secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/memory.h"
#include "unit/dies.h"

#include <stdint.h>
#include <string.h>

static const size_t sizes[] = {0, 1, 7, 4096, 100000};

static void new_memory_is_zeroed(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (int round = 0; round < 3; round++) { /* the second is likely to be used memory */
            unsigned char *memory = memory_new(sizes[i]);
            assert_non_null(memory);
            for (size_t at = 0; at < sizes[i]; at++) assert_int_equal(memory[at], 0);
            memset(memory, 0xAA, sizes[i]);
            memory_free(memory);
        }
    }
    memory_free(NULL);
}

static void resizing_keeps_the_content(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t j = 0; j < COUNT(sizes); j++) {
            unsigned char *memory = memory_resize(NULL, sizes[i]);
            memset(memory, 0x5A, sizes[i]);
            memory = memory_resize(memory, sizes[j]);
            assert_non_null(memory);
            for (size_t at = 0; at < sizes[i] && at < sizes[j]; at++)
                assert_int_equal(memory[at], 0x5A);
            if (sizes[j] > 0) memory[sizes[j] - 1] = 1;
            memory_free(memory);
        }
    }
}

static void copies_end_in_nul(void **unused) {
    (void)unused;
    static const struct {
        const char *at;
        size_t len;
        const char *copy;
    } rows[] = {{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"a\0b", 3, "a\0b"}, {NULL, 0, ""}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *copy = memory_copy(rows[i].at, rows[i].len);
        assert_memory_equal(copy, rows[i].copy, rows[i].len + 1);
        memory_free(copy);
    }
    char *text = memory_copy_text("text");
    assert_string_equal(text, "text");
    memory_free(text);
    assert_null(memory_copy_text(NULL));
}

static void secrets_are_wiped(void **unused) {
    (void)unused;
    char secret[] = "geheimnis";
    memory_wipe(secret + 1, 4);
    assert_memory_equal(secret, "g\0\0\0\0mnis", sizeof secret);
    memory_wipe(secret, 0);
    assert_int_equal(secret[0], 'g');
    memory_wipe(NULL, 0);
    memory_free_secret(memory_copy_text("hush"));
    memory_free_secret(NULL);
}

/* The sanitizers' allocators answer an absurd size as the system's does, instead of exiting. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "allocator_may_return_null=1";
}

static void ask_for_everything(void) {
    /* In two steps, so that no compiler judges the size by itself. */
    volatile size_t size = SIZE_MAX / 2;
    memory_free(memory_new(size));
}

static void running_out_ends_the_process(void **unused) {
    (void)unused;
    assert_true(dies(ask_for_everything));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zeroed),
        cmocka_unit_test(resizing_keeps_the_content),
        cmocka_unit_test(copies_end_in_nul),
        cmocka_unit_test(secrets_are_wiped),
        cmocka_unit_test(running_out_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
