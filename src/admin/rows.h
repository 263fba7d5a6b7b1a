/*
 * The rows of a SHOW as PostgreSQL's wire has them: a RowDescription, then DataRows, all values as
 * text. Rows are written cell by cell in the order of the view's columns; a row with too few or
 * too many cells is our own bug and is checked.
 *
 * Not everybody sees every column: those that are not PgBouncer's belong to a group, which an
 * answer shows or leaves out. Whoever writes a row writes all of its cells all the same.
 */
#ifndef WEIR_ADMIN_ROWS_H
#define WEIR_ADMIN_ROWS_H

#include "core/buf.h"

enum column_type { COLUMN_INT4, COLUMN_INT8, COLUMN_NUMERIC, COLUMN_TEXT, COLUMN_BYTEA };

/* Groups of columns; those in none are PgBouncer's, or any of a view that is Weir's own. */
enum column_group {
    COLUMN_OWN = 1 << 4, /* Weir's, in the console called weir */
    COLUMN_OLD = 1 << 5  /* of an earlier PgBouncer, with console_old_columns */
};
#define COLUMN_GROUPS (COLUMN_OWN | COLUMN_OLD)

struct column {
    const char *name;
    unsigned kind; /* enum column_type, and enum column_group where it is in one */
};

struct rows {
    struct buf out;
    const struct column *columns;
    unsigned count;  /* of all columns */
    unsigned shown;  /* of those that the answer has */
    unsigned groups; /* enum column_group: those that it has */
    unsigned filled; /* cells of the row under way */
    size_t row_at;   /* where the row under way starts */
};

/* An empty set of rows; `groups` are those that are shown. */
void rows_init(struct rows *rows, const struct column *columns, unsigned count, unsigned groups);

/* Appends the RowDescription of what `rows` shows. */
void rows_describe(struct buf *out, const struct rows *rows);

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
