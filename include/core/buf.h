/*
 * struct buf: bytes that grow at the end and are taken from the front.
 *
 *      memory  |....consumed....|======= content =======|......room......|
 *              ^ memory         ^ memory + start         ^ memory + end  ^ memory + size
 *
 * Zeroed memory is an empty buffer that owns nothing; buf_release gives everything back and
 * leaves it so. A pointer into the content is valid until the next call that appends.
 */
#ifndef WEIR_CORE_BUF_H
#define WEIR_CORE_BUF_H

#include "core/bytes.h"

#include <stdarg.h>

struct buf {
    char *memory;
    uint32_t start;
    uint32_t end;
    uint32_t size;
};

/* Frees the memory; the buffer is empty and may be used again. */
void buf_release(struct buf *buf);

static inline size_t buf_length(const struct buf *buf) {
    return buf->end - buf->start;
}

static inline struct bytes buf_content(const struct buf *buf) {
    return bytes_of(buf->memory == NULL ? "" : buf->memory + buf->start, buf->end - buf->start);
}

/* Makes room for `len` more bytes and returns where they go; buf_grown says how many came. */
char *buf_room(struct buf *buf, size_t len);
void buf_grown(struct buf *buf, size_t len);

/* Drops `len` bytes from the front; an emptied buffer keeps its memory. */
void buf_consume(struct buf *buf, size_t len);

/* Drops everything, keeps the memory. */
static inline void buf_clear(struct buf *buf) {
    buf->start = buf->end = 0;
}

/* Shortens the content to its first `len` bytes. */
void buf_truncate(struct buf *buf, size_t len);

void buf_append(struct buf *buf, const char *at, size_t len);
void buf_append_bytes(struct buf *buf, struct bytes bytes);
/* The text without, and with, its closing NUL. */
void buf_append_text(struct buf *buf, const char *text);
void buf_append_text0(struct buf *buf, const char *text);
void buf_append_u8(struct buf *buf, unsigned value);
/* Big-endian, as on PostgreSQL's wire. */
void buf_append_u16(struct buf *buf, uint16_t value);
void buf_append_u32(struct buf *buf, uint32_t value);
/* Appends formatted text without a closing NUL. */
void buf_append_format(struct buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buf_append_format_list(struct buf *buf, const char *format, va_list list)
    __attribute__((format(printf, 2, 0)));

/* The content as a NUL-terminated text, valid until the next append; the NUL is not content. */
const char *buf_text(struct buf *buf);

#endif
