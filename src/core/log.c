/* The log; see core/log.h. Only the descriptor and the level are shared between threads. */
#include "core/log.h"

#include "core/buf.h"
#include "core/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LOG_BUFFER_BYTES 65536u
#define LOG_LINE_BYTES   4096u

static _Atomic int log_fd = STDERR_FILENO; /* -1: nowhere */
static _Atomic int log_verbose;

static _Thread_local bool is_buffered;
static _Thread_local size_t buffered;
static _Thread_local char buffer[LOG_BUFFER_BYTES];

static const char *const level_names[] = {"FATAL", "ERROR", "WARNING", "LOG", "DEBUG"};

bool log_open(const char *file, bool quiet) {
    static int file_fd = -1;
    int fd = quiet ? -1 : STDERR_FILENO;
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
    atomic_store(&log_fd, fd);
    return true;
}

void log_set_verbose(int verbose) {
    atomic_store_explicit(&log_verbose, verbose, memory_order_relaxed);
}

void log_thread_buffered(void) {
    is_buffered = true;
}

void log_flush(void) {
    int fd = atomic_load_explicit(&log_fd, memory_order_relaxed);
    size_t done = 0;
    while (fd >= 0 && done < buffered) {
        ssize_t n = write(fd, buffer + done, buffered - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break; /* a full disk must not stop the pooler */
        done += (size_t)n;
    }
    buffered = 0;
}

void log_line(enum log_level level, const char *format, ...) {
    if (level > LOG_LEVEL_LOG && atomic_load_explicit(&log_verbose, memory_order_relaxed) == 0)
        return;
    char line[LOG_LINE_BYTES];
    char when[CLOCK_TEXT_SIZE];
    clock_format(when, clock_wall_us(), 1);
    int head =
        snprintf(line, sizeof line, "%s UTC [%d] %s ", when, (int)getpid(), level_names[level]);
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
    line[len++] = '\n';
    if (buffered + len > sizeof buffer) log_flush();
    memcpy(buffer + buffered, line, len);
    buffered += len;
    if (!is_buffered) log_flush();
}
