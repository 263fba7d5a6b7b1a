/*
 * The log; see core/log.h. Descriptors, level and syslog's facility are what threads share.
 */
#include "core/log.h"

#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LOG_BUFFER_BYTES 65536u
#define LOG_LINE_BYTES   4096u
#define LOG_IDENT_BYTES  64u

static _Atomic int log_file = -1; /* -1: none */
static _Atomic bool is_to_stderr = true;
static _Atomic bool is_to_syslog;
static _Atomic int log_verbose;

static _Thread_local bool is_buffered;
static _Thread_local size_t buffered;
static _Thread_local char buffer[LOG_BUFFER_BYTES];

static const struct {
    const char *name;
    int priority;
    int verbose; /* the least with which it is written */
} levels[] = {
    [LOG_LEVEL_FATAL] = {"FATAL", LOG_CRIT, 0},        [LOG_LEVEL_ERROR] = {"ERROR", LOG_ERR, 0},
    [LOG_LEVEL_WARNING] = {"WARNING", LOG_WARNING, 0}, [LOG_LEVEL_LOG] = {"LOG", LOG_INFO, 0},
    [LOG_LEVEL_DEBUG] = {"DEBUG", LOG_DEBUG, 1},       [LOG_LEVEL_NOISE] = {"NOISE", LOG_DEBUG, 2},
};

bool log_open(const char *file, bool quiet) {
    static int file_fd = -1;
    int fd = -1;
    if (file != NULL && file[0] != '\0') {
        fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0) return false;
        /* Another thread may be about to write to the old file: its number stays the log's for
         * ever, and no other number is shown, lest a line goes into what gets that number next. */
        if (file_fd < 0) {
            file_fd = fd;
        } else {
            (void)dup3(fd, file_fd, O_CLOEXEC);
            (void)close(fd);
        }
        fd = file_fd;
    }
    atomic_store(&log_file, fd);
    atomic_store(&is_to_stderr, !quiet);
    return true;
}

void log_open_syslog(int facility, const char *ident) {
    /* syslog keeps a pointer to the name: another thread may be reading the one in use. */
    static char idents[2][LOG_IDENT_BYTES];
    static unsigned turn;
    char *name = idents[turn++ % 2];
    (void)snprintf(name, LOG_IDENT_BYTES, "%s", ident);
    openlog(name, LOG_PID | LOG_NDELAY, facility);
    atomic_store(&is_to_syslog, true);
}

void log_close_syslog(void) {
    atomic_store(&is_to_syslog, false);
}

void log_set_verbose(int verbose) {
    atomic_store_explicit(&log_verbose, verbose, memory_order_relaxed);
}

void log_thread_buffered(void) {
    is_buffered = true;
}

static void put_out(int fd) {
    size_t done = 0;
    while (fd >= 0 && done < buffered) {
        ssize_t n = write(fd, buffer + done, buffered - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break; /* a full disk must not stop the pooler */
        done += (size_t)n;
    }
}

void log_flush(void) {
    if (buffered == 0) return;
    put_out(atomic_load_explicit(&log_file, memory_order_relaxed));
    if (atomic_load_explicit(&is_to_stderr, memory_order_relaxed)) put_out(STDERR_FILENO);
    buffered = 0;
}

bool log_is_on(enum log_level level) {
    return levels[level].verbose <= atomic_load_explicit(&log_verbose, memory_order_relaxed);
}

void log_line(enum log_level level, const char *format, ...) {
    if (!log_is_on(level)) return;
    char line[LOG_LINE_BYTES];
    char when[CLOCK_TEXT_SIZE];
    clock_format(when, clock_wall_us(), 1);
    int head =
        snprintf(line, sizeof line, "%s UTC [%d] %s ", when, (int)getpid(), levels[level].name);
    va_list list;
    va_start(list, format);
    int body = vsnprintf(line + head, sizeof line - (size_t)head - 1, format, list);
    va_end(list);
    size_t len = (size_t)head + (size_t)(body < 0 ? 0 : body);
    if (len > sizeof line - 2) len = sizeof line - 2;
    /* A name that a stranger has chosen must not look like a line of ours. */
    for (size_t i = (size_t)head; i < len; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7F) line[i] = ' ';
    }
    if (atomic_load_explicit(&is_to_syslog, memory_order_relaxed))
        syslog(levels[level].priority, "%.*s", (int)(len - (size_t)head), line + head);
    line[len++] = '\n';
    if (buffered + len > sizeof buffer) log_flush();
    memcpy(buffer + buffered, line, len);
    buffered += len;
    if (!is_buffered) log_flush();
}
