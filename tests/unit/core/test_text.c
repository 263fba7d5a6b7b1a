/* Interned texts: one object for equal texts, gone with its last reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "core/text.h"
#include "unit/dies.h"

#define TEXT(text) text, sizeof(text) - 1

static const struct {
    const char *at;
    size_t len;
} rows[] = {
    {TEXT("")}, {TEXT("a")}, {TEXT("A")}, {TEXT("a\0b")}, {TEXT("a\0c")}, {TEXT("Europe/Berlin")},
};

static void equal_texts_are_one(void **unused) {
    (void)unused;
    struct texts texts = {0};
    struct text *first[COUNT(rows)];
    for (size_t i = 0; i < COUNT(rows); i++) {
        first[i] = text_get(&texts, bytes_of(rows[i].at, rows[i].len));
        assert_int_equal(first[i]->len, rows[i].len);
        assert_memory_equal(first[i]->at, rows[i].at, rows[i].len + 1);
        for (size_t j = 0; j < i; j++) assert_ptr_not_equal(first[i], first[j]);
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        char copy[32] = "";
        memcpy(copy, rows[i].at, rows[i].len);
        struct text *again = text_get(&texts, bytes_of(copy, rows[i].len));
        assert_ptr_equal(again, first[i]);
        assert_int_equal(again->references, 2);
        text_unref(&texts, &again);
        assert_null(again);
        text_unref(&texts, &first[i]);
        assert_null(first[i]);
        assert_int_equal(texts.map.count, COUNT(rows) - i - 1);
    }
    texts_release(&texts);
}

/* A text is made anew once it has gone, and it may be made of a part of another one. */
static void texts_come_and_go(void **unused) {
    (void)unused;
    struct texts texts = {0};
    struct text *whole = text_get(&texts, bytes_of_text("whole"));
    struct text *part = text_get(&texts, bytes_of(whole->at, 3));
    struct text *more = text_ref(whole);
    assert_ptr_equal(more, whole);
    text_unref(&texts, &whole);
    assert_string_equal(more->at, "whole");
    text_unref(&texts, &more);
    assert_string_equal(part->at, "who");
    text_unref(&texts, &part);
    assert_int_equal(texts.map.count, 0);
    whole = text_get(&texts, bytes_of_text("whole"));
    assert_int_equal(whole->references, 1);
    text_unref(&texts, &whole);
    text_unref(&texts, &whole); /* nothing is legal */
    assert_null(text_ref(NULL));
    texts_release(&texts);
}

static struct texts kept;

static void release_what_is_held(void) {
    texts_release(&kept);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    struct text *text = text_get(&kept, bytes_of_text("held"));
    assert_true(dies(release_what_is_held));
    text_unref(&kept, &text);
    texts_release(&kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_texts_are_one),
        cmocka_unit_test(texts_come_and_go),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
