/* The log: the layout of a line, where lines go, and threads that write and reopen at once. */
#undef _FORTIFY_SOURCE /* which would make syslog an inline function */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/check.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#define HEAD "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} UTC \\[%d\\] "

static char folder[] = "/tmp/weir-test-log-XXXXXX";
static char log_path[64];
static char old_path[64];
static char stderr_path[64];

static int set_up(void **unused) {
    (void)unused;
    if (mkdtemp(folder) == NULL) return -1;
    (void)snprintf(log_path, sizeof log_path, "%s/log", folder);
    (void)snprintf(old_path, sizeof old_path, "%s/old", folder);
    (void)snprintf(stderr_path, sizeof stderr_path, "%s/stderr", folder);
    return log_open(log_path, true) ? 0 : -1;
}

static int tear_down(void **unused) {
    (void)unused;
    (void)unlink(old_path);
    (void)unlink(stderr_path);
    return log_open(NULL, false) && unlink(log_path) == 0 && rmdir(folder) == 0 ? 0 : -1;
}

/* What is in a file, which is empty afterwards. */
static void take(const char *path, struct buf *content) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    buf_clear(content);
    ssize_t n;
    while ((n = read(fd, buf_room(content, 65536), 65536)) > 0) buf_grown(content, (size_t)n);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(close(fd), 0);
}

/* Leaves the body of a line, when its head is right. */
static const char *body_of(const char *line) {
    char pattern[160];
    regex_t expression;
    regmatch_t head;
    (void)snprintf(pattern, sizeof pattern, HEAD, (int)getpid());
    assert_int_equal(regcomp(&expression, pattern, REG_EXTENDED), 0);
    if (regexec(&expression, line, 1, &head, 0) != 0) fail_msg("head of \"%.60s\"", line);
    regfree(&expression);
    return line + head.rm_eo;
}

static void lines_have_their_layout(void **unused) {
    (void)unused;
    static const struct {
        enum log_level level;
        int verbose;
        const char *text;
        const char *line; /* without its head; empty: no line */
    } rows[] = {
        {LOG_LEVEL_FATAL, 0, "cannot start", "FATAL cannot start\n"},
        {LOG_LEVEL_ERROR, 0, "an error", "ERROR an error\n"},
        {LOG_LEVEL_WARNING, 0, "a warning", "WARNING a warning\n"},
        {LOG_LEVEL_LOG, 0, "some news", "LOG some news\n"},
        {LOG_LEVEL_DEBUG, 0, "a detail", ""},
        {LOG_LEVEL_DEBUG, 1, "a detail", "DEBUG a detail\n"},
        {LOG_LEVEL_NOISE, 1, "a trifle", ""},
        {LOG_LEVEL_NOISE, 2, "a trifle", "NOISE a trifle\n"},
        {LOG_LEVEL_LOG, 2, "some news", "LOG some news\n"},
        {LOG_LEVEL_LOG, 0, "", "LOG \n"},
        {LOG_LEVEL_LOG, 0, "100%s %n", "LOG 100%s %n\n"},
        /* whatever a stranger calls himself, it is one line */
        {LOG_LEVEL_LOG, 0, "a\nb\r\nc\td\x1B[1m\x7F", "LOG a b  c d [1m \n"},
        {LOG_LEVEL_LOG, 0,
         "Gr\xC3\xBC\xC3\x9F"
         "e",
         "LOG Gr\xC3\xBC\xC3\x9F"
         "e\n"},
    };
    struct buf content = {0};
    for (size_t i = 0; i < COUNT(rows); i++) {
        log_set_verbose(rows[i].verbose);
        log_line(rows[i].level, "%s", rows[i].text);
        take(log_path, &content);
        if (rows[i].line[0] == '\0') {
            assert_int_equal(buf_length(&content), 0);
        } else {
            assert_string_equal(body_of(buf_text(&content)), rows[i].line);
        }
    }
    log_set_verbose(0);
    buf_release(&content);
}

/* A line has a bound; what is too long is cut, and the line still ends. */
static void long_lines_are_cut(void **unused) {
    (void)unused;
    struct buf content = {0};
    for (int width = 4000; width < 4200; width++) {
        log_line(LOG_LEVEL_LOG, "%0*d", width, 0);
        log_line(LOG_LEVEL_LOG, "next");
        take(log_path, &content);
        const char *first = buf_text(&content);
        const char *end = strchr(first, '\n');
        assert_non_null(end);
        size_t len = (size_t)(end - first) + 1;
        assert_true(len <= 4096);
        size_t whole = (size_t)(body_of(first) - first) + strlen("LOG ") + (size_t)width + 1;
        assert_true(len == whole || (whole > 4095 && len == 4095));
        assert_string_equal(body_of(end + 1), "LOG next\n");
    }
    buf_release(&content);
}

static void a_file_that_cannot_be_had(void **unused) {
    (void)unused;
    struct buf content = {0};
    errno = 0;
    assert_false(log_open("/no/such/folder/log", false));
    assert_int_equal(errno, ENOENT);
    log_line(LOG_LEVEL_LOG, "still here");
    take(log_path, &content);
    assert_string_equal(body_of(buf_text(&content)), "LOG still here\n");
    buf_release(&content);
}

static void opening_again_follows_the_name(void **unused) {
    (void)unused;
    struct buf content = {0};
    struct stat status;
    log_line(LOG_LEVEL_LOG, "one");
    assert_int_equal(rename(log_path, old_path), 0);
    log_line(LOG_LEVEL_LOG, "two");
    assert_true(log_open(log_path, true));
    log_line(LOG_LEVEL_LOG, "three");
    assert_int_equal(stat(log_path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    take(log_path, &content);
    assert_string_equal(body_of(buf_text(&content)), "LOG three\n");
    take(old_path, &content);
    const char *second = strchr(buf_text(&content), '\n') + 1;
    assert_string_equal(body_of(second), "LOG two\n");
    buf_release(&content);
}

static unsigned open_descriptors(void) {
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* The log's descriptor is one, however often and wherever it is opened. */
static void opening_leaks_nothing(void **unused) {
    (void)unused;
    unsigned before = open_descriptors();
    for (int i = 0; i < 20; i++) {
        assert_true(log_open(log_path, true));
        if (i % 3 == 0) assert_true(log_open(NULL, true));
        if (i % 5 == 0) assert_false(log_open("/no/such/folder/log", true));
    }
    assert_true(log_open(log_path, true));
    assert_int_equal(open_descriptors(), before);
}

/* Runs with standard error in a file, and puts everything back. */
static void standard_error(void **unused) {
    (void)unused;
    static const struct {
        const char *file;
        bool quiet;
        bool is_written;
    } rows[] = {{NULL, false, true}, {"", false, true}, {NULL, true, false}, {"", true, false}};
    struct buf content = {0};
    int kept = dup(STDERR_FILENO);
    for (size_t i = 0; i < COUNT(rows); i++) {
        int fd = open(stderr_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        bool is_moved = fd >= 0 && dup2(fd, STDERR_FILENO) >= 0;
        bool is_open = log_open(rows[i].file, rows[i].quiet);
        log_line(LOG_LEVEL_LOG, "seen");
        bool is_back = dup2(kept, STDERR_FILENO) >= 0;
        assert_true(is_moved && is_open && is_back);
        assert_int_equal(close(fd), 0);
        take(stderr_path, &content);
        assert_int_equal(buf_length(&content) > 0, rows[i].is_written);
    }
    assert_int_equal(close(kept), 0);
    assert_true(log_open(log_path, true));
    take(log_path, &content);
    assert_int_equal(buf_length(&content), 0);
    buf_release(&content);
}

/* Both places, as a daemon's supervisor expects. */
static void a_file_and_standard_error(void **unused) {
    (void)unused;
    struct buf content = {0};
    int kept = dup(STDERR_FILENO);
    int fd = open(stderr_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_moved = fd >= 0 && dup2(fd, STDERR_FILENO) >= 0;
    bool is_open = log_open(log_path, false);
    log_line(LOG_LEVEL_LOG, "seen twice");
    bool is_back = dup2(kept, STDERR_FILENO) >= 0;
    assert_true(is_moved && is_open && is_back);
    assert_int_equal(close(kept) + close(fd), 0);
    assert_true(log_open(log_path, true));
    take(log_path, &content);
    assert_string_equal(body_of(buf_text(&content)), "LOG seen twice\n");
    take(stderr_path, &content);
    assert_string_equal(body_of(buf_text(&content)), "LOG seen twice\n");
    buf_release(&content);
}

/* What the log gives to syslog, instead of the machine's. */
static struct {
    char ident[64];
    int facility;
    int priority;
    char text[128];
} sent;

void openlog(const char *ident, int option, int facility) {
    (void)option;
    (void)snprintf(sent.ident, sizeof sent.ident, "%s", ident);
    sent.facility = facility;
}

static void keep_sent(int priority, const char *format, va_list list) {
    sent.priority = priority;
    (void)vsnprintf(sent.text, sizeof sent.text, format, list);
}

void syslog(int priority, const char *format, ...) {
    va_list list;
    va_start(list, format);
    keep_sent(priority, format, list);
    va_end(list);
}

/* What the release build calls. */
void __syslog_chk(int priority, int flag, const char *format, ...);
void __syslog_chk(int priority, int flag, const char *format, ...) {
    (void)flag;
    va_list list;
    va_start(list, format);
    keep_sent(priority, format, list);
    va_end(list);
}

static void lines_go_to_syslog(void **unused) {
    (void)unused;
    static const struct {
        enum log_level level;
        int priority;
    } rows[] = {{LOG_LEVEL_FATAL, LOG_CRIT},      {LOG_LEVEL_ERROR, LOG_ERR},
                {LOG_LEVEL_WARNING, LOG_WARNING}, {LOG_LEVEL_LOG, LOG_INFO},
                {LOG_LEVEL_DEBUG, LOG_DEBUG},     {LOG_LEVEL_NOISE, LOG_DEBUG}};
    struct buf content = {0};
    log_set_verbose(2);
    log_open_syslog(LOG_LOCAL3, "a name");
    assert_string_equal(sent.ident, "a name");
    assert_int_equal(sent.facility, LOG_LOCAL3);
    for (size_t i = 0; i < COUNT(rows); i++) {
        log_line(rows[i].level, "line %zu 100%%", i);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "line %zu 100%%", i);
        assert_string_equal(sent.text, expected);
        assert_int_equal(sent.priority, rows[i].priority);
    }
    log_close_syslog();
    sent.text[0] = '\0';
    log_line(LOG_LEVEL_LOG, "not there");
    assert_string_equal(sent.text, "");
    log_set_verbose(0);
    take(log_path, &content); /* the file had them all */
    assert_non_null(strstr(buf_text(&content), "NOISE line 5"));
    assert_non_null(strstr(buf_text(&content), "not there"));
    buf_release(&content);
}

static off_t log_size(void) {
    struct stat status;
    return stat(log_path, &status) == 0 ? status.st_size : -1;
}

struct buffered_run {
    off_t before_flush;
    off_t after_flush;
    off_t after_many;
    unsigned lines;
};

static void *write_buffered(void *argument) {
    struct buffered_run *run = argument;
    log_thread_buffered();
    log_line(LOG_LEVEL_LOG, "waits");
    run->before_flush = log_size();
    log_flush();
    run->after_flush = log_size();
    /* A full buffer goes out by itself. */
    for (run->lines = 0; run->lines < 100; run->lines++) log_line(LOG_LEVEL_LOG, "%01000d", 0);
    run->after_many = log_size();
    log_flush();
    return NULL;
}

static void a_buffered_thread_waits(void **unused) {
    (void)unused;
    struct buffered_run run;
    struct buf content = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_buffered, &run), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(run.before_flush, 0);
    assert_true(run.after_flush > 0);
    assert_true(run.after_many > run.after_flush);
    assert_true(log_size() > run.after_many);
    take(log_path, &content);
    unsigned lines = 0;
    for (size_t i = 0; i < buf_length(&content); i++) lines += buf_content(&content).at[i] == '\n';
    assert_int_equal(lines, run.lines + 1);
    buf_release(&content);
}

#define WRITERS      3
#define WRITER_LINES 2000

static void *write_many(void *argument) {
    const int *number = argument;
    for (int i = 0; i < WRITER_LINES; i++) log_line(LOG_LEVEL_LOG, "writer %d line %d", *number, i);
    return NULL;
}

/* Each writer's lines are whole, in order and all there, while the file is opened again. */
static void threads_share_the_file(void **unused) {
    (void)unused;
    struct buf content = {0};
    pthread_t threads[WRITERS];
    int numbers[WRITERS], next[WRITERS] = {0};
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &numbers[i]), 0);
    }
    for (int i = 0; i < 200; i++) assert_true(log_open(log_path, true));
    for (int i = 0; i < WRITERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    take(log_path, &content);
    const char *line = buf_text(&content);
    for (int i = 0; i < WRITERS * WRITER_LINES; i++) {
        const char *word = strstr(line, "LOG writer ");
        assert_non_null(word);
        int writer = word[11] - '0';
        assert_in_range(writer, 0, WRITERS - 1);
        assert_int_equal(strtol(word + 18, NULL, 10), next[writer]++);
        line = strchr(word, '\n') + 1;
    }
    assert_string_equal(line, "");
    buf_release(&content);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_have_their_layout),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(a_file_that_cannot_be_had),
        cmocka_unit_test(opening_again_follows_the_name),
        cmocka_unit_test(opening_leaks_nothing),
        cmocka_unit_test(standard_error),
        cmocka_unit_test(a_file_and_standard_error),
        cmocka_unit_test(lines_go_to_syslog),
        cmocka_unit_test(a_buffered_thread_waits),
        cmocka_unit_test(threads_share_the_file),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
