/*
 * Writing rows; see rows.h.
 *
 *      'T' Int32 length, Int16 count { name NUL, Int32 0, Int16 0, Int32 type, Int16 size,
 *                                      Int32 -1, Int16 0 }
 *      'D' Int32 length, Int16 count { Int32 length or -1, bytes }
 */
#include "rows.h"

#include "core/check.h"
#include "core/clock.h"

static const struct {
    uint32_t oid; /* as in pg_type */
    int16_t size;
} types[] = {
    [COLUMN_INT4] = {23, 4},  [COLUMN_INT8] = {20, 8},   [COLUMN_NUMERIC] = {1700, -1},
    [COLUMN_TEXT] = {25, -1}, [COLUMN_BYTEA] = {17, -1},
};

static void set_length(struct buf *out, size_t start) {
    bytes_put_u32(out->memory + out->start + start + 1, (uint32_t)(buf_length(out) - start - 1));
}

static bool is_shown(const struct rows *rows, const struct column *column) {
    return (column->kind & COLUMN_GROUPS & ~rows->groups) == 0;
}

void rows_init(struct rows *rows, const struct column *columns, unsigned count, unsigned groups) {
    *rows = (struct rows){.columns = columns, .count = count, .groups = groups};
    for (unsigned i = 0; i < count; i++)
        if (is_shown(rows, &columns[i])) rows->shown++;
}

static void describe_column(struct buf *out, const struct column *column) {
    unsigned type = column->kind & ~(unsigned)COLUMN_GROUPS;
    buf_append_text0(out, column->name);
    buf_append_u32(out, 0);
    buf_append_u16(out, 0);
    buf_append_u32(out, types[type].oid);
    buf_append_u16(out, (uint16_t)types[type].size);
    buf_append_u32(out, UINT32_MAX);
    buf_append_u16(out, 0);
}

void rows_describe(struct buf *out, const struct rows *rows) {
    size_t start = buf_length(out);
    buf_append_u8(out, 'T');
    buf_append_u32(out, 0);
    buf_append_u16(out, (uint16_t)rows->shown);
    for (unsigned i = 0; i < rows->count; i++)
        if (is_shown(rows, &rows->columns[i])) describe_column(out, &rows->columns[i]);
    set_length(out, start);
}

void rows_begin(struct rows *rows) {
    rows->row_at = buf_length(&rows->out);
    rows->filled = 0;
    buf_append_u8(&rows->out, 'D');
    buf_append_u32(&rows->out, 0);
    buf_append_u16(&rows->out, (uint16_t)rows->shown);
}

void rows_end(struct rows *rows) {
    CHECK(rows->filled == rows->count);
    set_length(&rows->out, rows->row_at);
}

/* Counts a cell; false if its column is not shown. */
static bool next_cell(struct rows *rows) {
    CHECK(rows->filled < rows->count);
    return is_shown(rows, &rows->columns[rows->filled++]);
}

static void append_cell(struct rows *rows, const char *at, size_t len) {
    if (!next_cell(rows)) return;
    buf_append_u32(&rows->out, (uint32_t)len);
    buf_append(&rows->out, at, len);
}

void rows_text(struct rows *rows, const char *value) {
    if (value == NULL) {
        rows_null(rows);
    } else {
        append_cell(rows, value, strlen(value));
    }
}

void rows_null(struct rows *rows) {
    if (next_cell(rows)) buf_append_u32(&rows->out, UINT32_MAX);
}

void rows_number(struct rows *rows, uint64_t value) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    append_cell(rows, digits + at, sizeof digits - at);
}

void rows_time(struct rows *rows, int64_t wall_us) {
    if (wall_us == 0) {
        rows_null(rows);
        return;
    }
    static const char zone[] = " UTC";
    char text[CLOCK_TEXT_SIZE + sizeof zone];
    clock_format(text, wall_us, 0);
    size_t len = strlen(text);
    memcpy(text + len, zone, sizeof zone);
    append_cell(rows, text, len + sizeof zone - 1);
}

void rows_wait(struct rows *rows, uint64_t wait_us) {
    rows_number(rows, wait_us / US_PER_S);
    rows_number(rows, wait_us % US_PER_S);
}
