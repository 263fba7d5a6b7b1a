/*
 * The log: one line per event, in PgBouncer's layout
 *
 *      2026-11-22 07:45:53.846 UTC [PID] LEVEL text
 *
 * Each thread formats into a buffer of its own of bounded size; log_flush puts the buffer out,
 * which the loop calls at the end of a tick, before the answers of that tick are written, so that
 * a line is in the file before its effect can be seen. A thread that never calls
 * log_thread_buffered writes each line at once.
 */
#ifndef WEIR_CORE_LOG_H
#define WEIR_CORE_LOG_H

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_FATAL,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_LOG,
    LOG_LEVEL_DEBUG
};

/* Where lines go: `file` is a path that is appended to, or NULL or empty for standard error. With
 * `quiet` nothing goes to standard error. False, with errno, if the file cannot be opened; the
 * log then stays as it was. Calling it again reopens the file. One thread only. */
bool log_open(const char *file, bool quiet);

/* 0: up to LOG; 1 and more: DEBUG too. */
void log_set_verbose(int verbose);

/* Appends one line; `format` has no line end. Control characters become spaces, and what is longer
 * than 4 kB is cut. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* From here on this thread's lines wait for log_flush (or for a full buffer). */
void log_thread_buffered(void);

/* Writes out what this thread has buffered. */
void log_flush(void);

#endif
