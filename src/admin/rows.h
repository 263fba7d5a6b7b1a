/*
 * The rows of a SHOW as PostgreSQL's wire has them: a RowDescription, then DataRows, all values as
 * text. Rows are written cell by cell in the order of the view's columns; a row with too few or
 * too many cells is our own bug and is checked.
 */
#ifndef WEIR_ADMIN_ROWS_H
#define WEIR_ADMIN_ROWS_H

#include "core/buf.h"

enum column_type { COLUMN_INT4, COLUMN_INT8, COLUMN_NUMERIC, COLUMN_TEXT };

struct column {
    const char *name;
    enum column_type type;
};

/* Zeroed memory with `columns` set is an empty set of rows. */
struct rows {
    struct buf out;
    unsigned columns;
    unsigned filled; /* cells of the row under way */
    size_t row_at;   /* where the row under way starts */
};

void rows_describe(struct buf *out, const struct column *columns, unsigned count);

void rows_begin(struct rows *rows);
void rows_end(struct rows *rows);

/* One cell; NULL is an SQL null. */
void rows_text(struct rows *rows, const char *value);
void rows_number(struct rows *rows, uint64_t value);
void rows_null(struct rows *rows);

/* "2026-11-22 08:25:55 UTC"; null for 0. */
void rows_time(struct rows *rows, int64_t wall_us);

/* Seconds, and the microseconds beyond them, in two cells. */
void rows_wait(struct rows *rows, uint64_t wait_us);

#endif
