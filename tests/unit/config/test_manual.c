/* The committed sample file and manual page are what the table makes; run from the top folder. */
#include "config/manual.h"

#include "config/load.h"
#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void read_file(const char *name, struct buf *text) {
    FILE *file = fopen(name, "r");
    if (file == NULL) fail_msg("cannot read %s", name);
    size_t n;
    while ((n = fread(buf_room(text, BUFSIZ), 1, BUFSIZ, file)) > 0) buf_grown(text, n);
    (void)fclose(file);
}

static void assert_fresh(const char *name, struct buf *committed, struct buf *made) {
    if (!bytes_equal(buf_content(committed), buf_content(made)))
        fail_msg("%s is stale: run scripts/generate-docs", name);
    buf_release(committed);
    buf_release(made);
}

static void test_the_sample_is_fresh(void **state) {
    (void)state;
    struct buf committed = {0};
    struct buf made = {0};
    read_file("conf/weir.ini", &committed);
    manual_append_sample(&made);
    assert_fresh("conf/weir.ini", &committed, &made);
}

static void test_the_page_is_fresh(void **state) {
    (void)state;
    struct buf committed = {0};
    struct buf made = {0};
    read_file("man/weir.ini.5", &committed);
    assert_true(manual_replace_settings(buf_content(&committed), &made));
    assert_fresh("man/weir.ini.5", &committed, &made);
}

/* The sample loads, as it is and with every comment that is a setting or an entry taken off. */
static void test_the_sample_loads(void **state) {
    (void)state;
    struct config_errors errors = {0};
    struct buf sample = {0};
    manual_append_sample(&sample);
    struct config *config = config_load_text("weir.ini", buf_content(&sample), &errors);
    assert_non_null(config);
    struct buf all = {0};
    struct bytes text = buf_content(&sample);
    for (size_t i = 0; i < text.len; i++) {
        bool is_start = i == 0 || text.at[i - 1] == '\n';
        bool is_setting = is_start && text.at[i] == ';' && text.at[i + 1] != ' ';
        if (!is_setting) buf_append(&all, text.at + i, 1);
    }
    struct config *full = config_load_text("weir.ini", buf_content(&all), &errors);
    if (full == NULL) fail_msg("%s", buf_text(&errors.text));
    struct buf diff = {0};
    config_diff(config, full, &diff);
    assert_null(strstr(buf_text(&diff), " -> ")); /* every default is the default */
    config_unref(&config);
    config_unref(&full);
    buf_release(&diff);
    buf_release(&all);
    buf_release(&sample);
    config_errors_release(&errors);
}

static void test_pages_without_marks(void **state) {
    (void)state;
    static const char *const pages[] = {"", MANUAL_BEGIN, MANUAL_END, MANUAL_END MANUAL_BEGIN};
    for (size_t i = 0; i < COUNT(pages); i++) {
        struct buf text = {0};
        assert_false(manual_replace_settings(bytes_of_text(pages[i]), &text));
        buf_release(&text);
    }
    struct buf text = {0};
    assert_true(
        manual_replace_settings(bytes_of_text("x\n" MANUAL_BEGIN "old\n" MANUAL_END "y\n"), &text));
    assert_true(strncmp(buf_text(&text), "x\n" MANUAL_BEGIN ".SH", 10) == 0);
    assert_null(strstr(buf_text(&text), "\nold\n"));
    assert_non_null(strstr(buf_text(&text), "\n" MANUAL_END "y\n"));
    buf_release(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_sample_is_fresh),
        cmocka_unit_test(test_the_page_is_fresh),
        cmocka_unit_test(test_the_sample_loads),
        cmocka_unit_test(test_pages_without_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
