/*
 * The log: one line per event, in PgBouncer's layout
 *
 *      2026-11-22 07:45:53.846 UTC [PID] LEVEL text
 *
 * Each thread formats into a buffer of its own of bounded size; log_flush puts the buffer out,
 * which the loop calls at the end of a tick, before the answers of that tick are written, so that
 * a line is in the file before its effect can be seen. A thread that never calls
 * log_thread_buffered writes each line at once. syslog gets each line at once, without time and
 * level, which it adds itself.
 */
#ifndef WEIR_CORE_LOG_H
#define WEIR_CORE_LOG_H

#include <stdbool.h>

enum log_level {
    LOG_LEVEL_FATAL,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_LOG,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_NOISE
};

/* Where lines go: to standard error unless `quiet`, and to `file`, a path that is appended to, or
 * NULL or empty for none. False, with errno, if the file cannot be opened; the log then stays as
 * it was. Calling it again reopens the file. One thread only. */
bool log_open(const char *file, bool quiet);

/* Sends lines to syslog too, as a facility of <syslog.h> (LOG_DAEMON) and under a name of at most
 * 63 bytes; and no longer. One thread only. */
void log_open_syslog(int facility, const char *ident);
void log_close_syslog(void);

/* 0: up to LOG; 1: DEBUG too; 2 and more: NOISE too. */
void log_set_verbose(int verbose);

/* Whether lines of that level are written, for where making one is dear. */
bool log_is_on(enum log_level level);

/* Appends one line; `format` has no line end. Control characters become spaces, and what is longer
 * than 4 kB is cut. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* From here on this thread's lines wait for log_flush (or for a full buffer). */
void log_thread_buffered(void);

/* Writes out what this thread has buffered. */
void log_flush(void);

#endif
