/* Files on disk: %include, what cannot be read, and RELOAD. */
#include "config/effective.h"
#include "config/load.h"

#include "core/check.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define P "[pgbouncer]\nauth_file = users.txt\n"

static char folder[] = "/tmp/weir-test-XXXXXX";
static char start[4096];

/* Each test works in a fresh folder, since paths count from the working directory. */
static int enter_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/weir-test-XXXXXX");
    if (getcwd(start, sizeof start) == NULL || mkdtemp(folder) == NULL) return -1;
    return chdir(folder);
}

static int leave_folder(void **state) {
    (void)state;
    static const char *const names[] = {"a.ini", "b.ini", "c.ini", "d"};
    for (size_t i = 0; i < COUNT(names); i++) (void)remove(names[i]);
    for (int i = 0; i < 20; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%d.ini", i);
        (void)remove(name);
    }
    return chdir(start) == 0 ? rmdir(folder) : -1;
}

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static struct config *load_right(const char *name) {
    struct config_errors errors = {0};
    struct config *config = config_load(name, &errors);
    if (config == NULL) fail_msg("%s", buf_text(&errors.text));
    config_errors_release(&errors);
    return config;
}

static void assert_error(const char *name, const char *expected) {
    struct config_errors errors = {0};
    assert_null(config_load(name, &errors));
    assert_string_equal(buf_text(&errors.text), expected);
    config_errors_release(&errors);
}

static void test_include(void **state) {
    (void)state;
    write_file("a.ini", P "%include b.ini\nverbose = 2\n%include ./c.ini  \n%include b.ini\n");
    write_file("b.ini", "verbose = 1\nlisten_port = 7000\n[databases]\na = host=h\n[pgbouncer]");
    write_file("c.ini", "");
    struct config *config = load_right("a.ini");
    assert_int_equal(config->verbose, 1);
    assert_int_equal(config->listen_port, 7000);
    assert_int_equal(config->entries[SETTING_SCOPE_DATABASE].count, 1);
    assert_string_equal(config_database_at(config, 0)->entry.where, "b.ini:4");
    assert_string_equal(config->conffile, "a.ini");
    config_unref(&config);
}

static void test_a_section_goes_on(void **state) {
    (void)state;
    write_file("a.ini", P "[databases]\n%include b.ini\nu = pool_size=5\n");
    write_file("b.ini", "a = host=h\n[users]\n");
    struct config *config = load_right("a.ini");
    assert_non_null(config_database(config, bytes_of_text("a")));
    assert_int_equal(config_user(config, bytes_of_text("u"))->pool_size, 5);
    config_unref(&config);
}

static void test_errors_name_the_included_file(void **state) {
    (void)state;
    write_file("a.ini", P "x\n%include b.ini\ny\n");
    write_file("b.ini", "\n\nz\n");
    assert_error("a.ini",
                 "syntax error in configuration (a.ini:3), stopping loading: expected KEY = VALUE, "
                 "[SECTION] or %include FILE\n"
                 "syntax error in configuration (b.ini:3), stopping loading: expected KEY = VALUE, "
                 "[SECTION] or %include FILE\n"
                 "syntax error in configuration (a.ini:5), stopping loading: expected KEY = VALUE, "
                 "[SECTION] or %include FILE\n");
}

static void test_what_cannot_be_read(void **state) {
    (void)state;
    assert_error("a.ini", "cannot read configuration file \"a.ini\": No such file or directory\n");
    assert_error(".", "cannot read configuration file \".\": Is a directory\n");
    write_file("a.ini", P "%include b.ini\n%include .\n%include\n");
    assert_error("a.ini",
                 "syntax error in configuration (a.ini:3), stopping loading: cannot read "
                 "\"b.ini\": No such file or directory\n"
                 "syntax error in configuration (a.ini:4), stopping loading: cannot read \".\": Is "
                 "a directory\n"
                 "syntax error in configuration (a.ini:5), stopping loading: expected %include "
                 "FILE\n");
}

static void test_circles(void **state) {
    (void)state;
    write_file("a.ini", P "%include a.ini\n");
    assert_error("a.ini", "syntax error in configuration (a.ini:3), stopping loading: \"a.ini\" "
                          "includes itself\n");
    write_file("a.ini", P "%include b.ini\n");
    write_file("b.ini", "%include c.ini\n");
    write_file("c.ini", "verbose = 1\n%include ./a.ini\n");
    assert_error("a.ini", "syntax error in configuration (c.ini:2), stopping loading: \"./a.ini\" "
                          "includes itself\n");
}

/* Files 0 to `last`, each of which includes the next. */
static void write_chain(int last) {
    for (int i = 0; i <= last; i++) {
        struct buf name = {0};
        struct buf text = {0};
        buf_append_format(&name, "%d.ini", i);
        if (i == 0) buf_append_text(&text, P);
        if (i < last)
            buf_append_format(&text, "%%include %d.ini\n", i + 1);
        else
            buf_append_text(&text, "verbose = 3\n");
        write_file(buf_text(&name), buf_text(&text));
        buf_release(&name);
        buf_release(&text);
    }
}

static void test_depth(void **state) {
    (void)state;
    write_chain(CONFIG_INCLUDES_MAX);
    struct config *config = load_right("0.ini");
    assert_int_equal(config->verbose, 3);
    config_unref(&config);
    write_chain(CONFIG_INCLUDES_MAX + 1);
    assert_error("0.ini", "syntax error in configuration (10.ini:1), stopping loading: %include "
                          "goes deeper than 10 files\n");
}

/* Each file includes the next one twice and the last is large: the sum is bounded, not only each
 * file. */
static void test_bytes_in_all(void **state) {
    (void)state;
    for (int i = 0; i < 9; i++) {
        struct buf name = {0};
        struct buf text = {0};
        buf_append_format(&name, "%d.ini", i);
        if (i == 0) buf_append_text(&text, P);
        for (int j = 0; j < 2; j++) buf_append_format(&text, "%%include %d.ini\n", i + 1);
        write_file(buf_text(&name), buf_text(&text));
        buf_release(&name);
        buf_release(&text);
    }
    struct buf large = {0};
    while (buf_length(&large) < 100000) buf_append_text(&large, "; a comment that says little\n");
    write_file("9.ini", buf_text(&large));
    buf_release(&large);
    struct config_errors errors = {0};
    assert_null(config_load("0.ini", &errors));
    assert_non_null(strstr(buf_text(&errors.text), "cannot read \"9.ini\": File too large\n"));
    config_errors_release(&errors);
}

static void test_reload(void **state) {
    (void)state;
    struct config_errors errors = {0};
    write_file("a.ini", P "default_pool_size = 5\nlisten_port = 7000\nverbose = 1\n"
                          "[databases]\na = host=h\nb = host=h\n");
    struct config *old = load_right("a.ini");
    struct config *set = config_with(old, "default_pool_size", "9", &errors);
    assert_int_equal(set->default_pool_size, 9);
    write_file("a.ini", P "listen_port = 7001\nmax_client_conn = 7\n"
                          "[databases]\na = host=i\nc = host=h\n");
    struct config *fresh = config_reload(set, &errors);
    assert_non_null(fresh);
    assert_int_equal(fresh->default_pool_size, 20); /* SET is lost, absent is default */
    assert_int_equal(fresh->verbose, 0);
    assert_int_equal(fresh->max_client_conn, 7);
    assert_int_equal(fresh->listen_port, 7000); /* not live */
    assert_null(config_database(fresh, bytes_of_text("b")));
    assert_string_equal(config_database(old, bytes_of_text("a"))->hosts[0].name, "h");
    struct buf diff = {0};
    config_diff(set, fresh, &diff);
    assert_string_equal(buf_text(&diff), "default_pool_size \"9\" -> \"20\"\n"
                                         "max_client_conn \"100\" -> \"7\"\n"
                                         "verbose \"1\" -> \"0\"\n"
                                         "database b: removed\n"
                                         "database a: host\n"
                                         "database c: added\n");
    buf_release(&diff);
    config_unref(&old);
    config_unref(&set);
    config_unref(&fresh);
    config_errors_release(&errors);
}

static void test_a_reload_that_fails(void **state) {
    (void)state;
    struct config_errors errors = {0};
    write_file("a.ini", P "verbose = 1\n");
    struct config *old = load_right("a.ini");
    write_file("a.ini", P "verbose = x\n");
    assert_null(config_reload(old, &errors));
    assert_int_equal(errors.count, 1);
    assert_int_equal(old->verbose, 1);
    config_errors_release(&errors);
    assert_int_equal(remove("a.ini"), 0);
    assert_null(config_reload(old, &errors));
    assert_string_equal(buf_text(&errors.text),
                        "cannot read configuration file \"a.ini\": No such file or directory\n");
    config_unref(&old);
    config_errors_release(&errors);
}

static void test_conffile(void **state) {
    (void)state;
    struct config_errors errors = {0};
    write_file("a.ini", P "verbose = 1\n");
    write_file("b.ini", P "verbose = 2\n");
    struct config *old = load_right("a.ini");
    struct config *set = config_with(old, "conffile", "b.ini", &errors);
    struct config *fresh = config_reload(set, &errors);
    assert_int_equal(fresh->verbose, 2);
    assert_string_equal(fresh->conffile, "b.ini");
    config_unref(&old);
    config_unref(&set);
    config_unref(&fresh);
    config_errors_release(&errors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_include, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_section_goes_on, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_errors_name_the_included_file, enter_folder,
                                        leave_folder),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_read, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_circles, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_depth, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_bytes_in_all, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_reload, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_a_reload_that_fails, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_conffile, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
