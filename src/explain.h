/*
 * --explain-route: where statements would run with routing = read_write, printed to standard
 * output. No server is asked.
 */
#ifndef WEIR_EXPLAIN_H
#define WEIR_EXPLAIN_H

#include <stdbool.h>

/* One statement, with two replicas that have replayed everything. Returns the exit status, 0. */
int explain_statement(const char *sql);

/* Whether the argument means a file: it is one, or ends in .sql. */
bool explain_is_file(const char *argument);

/* All statements of a script as psql reads it, each with its line, target and reason, and a
 * summary. Returns the exit status: 0, 1 where the file cannot be read, 2 where it has what is not
 * understood. */
int explain_file(const char *path);

#endif
