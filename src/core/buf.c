/* Growing byte buffers; see core/buf.h. */
#include "core/buf.h"

#include "core/check.h"
#include "core/memory.h"

#include <stdio.h>

#define BUF_SIZE_MIN 256u
#define BUF_SIZE_MAX (UINT32_MAX / 2)

void buf_release(struct buf *buf) {
    memory_free(buf->memory);
    *buf = (struct buf){0};
}

char *buf_room(struct buf *buf, size_t len) {
    size_t used = buf_length(buf);
    CHECK(len <= BUF_SIZE_MAX && used + len <= BUF_SIZE_MAX);
    if (buf->end + len <= buf->size) return buf->memory + buf->end;
    if (buf->start > 0 && used + len <= buf->size) {
        memmove(buf->memory, buf->memory + buf->start, used);
    } else {
        size_t size = buf->size == 0 ? BUF_SIZE_MIN : buf->size;
        while (size < used + len) size *= 2;
        if (buf->start > 0) memmove(buf->memory, buf->memory + buf->start, used);
        buf->memory = memory_resize(buf->memory, size);
        buf->size = (uint32_t)size;
    }
    buf->start = 0;
    buf->end = (uint32_t)used;
    return buf->memory + buf->end;
}

void buf_grown(struct buf *buf, size_t len) {
    CHECK(buf->end + len <= buf->size);
    buf->end += (uint32_t)len;
}

void buf_consume(struct buf *buf, size_t len) {
    CHECK(len <= buf_length(buf));
    buf->start += (uint32_t)len;
    if (buf->start == buf->end) buf->start = buf->end = 0;
}

void buf_truncate(struct buf *buf, size_t len) {
    CHECK(len <= buf_length(buf));
    buf->end = buf->start + (uint32_t)len;
}

void buf_append(struct buf *buf, const char *at, size_t len) {
    if (len == 0) return;
    memcpy(buf_room(buf, len), at, len);
    buf->end += (uint32_t)len;
}

void buf_append_bytes(struct buf *buf, struct bytes bytes) {
    buf_append(buf, bytes.at, bytes.len);
}

void buf_append_text(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text));
}

void buf_append_text0(struct buf *buf, const char *text) {
    buf_append(buf, text, strlen(text) + 1);
}

void buf_append_u8(struct buf *buf, unsigned value) {
    char c = (char)value;
    buf_append(buf, &c, 1);
}

void buf_append_u16(struct buf *buf, uint16_t value) {
    char at[2];
    bytes_put_u16(at, value);
    buf_append(buf, at, sizeof at);
}

void buf_append_u32(struct buf *buf, uint32_t value) {
    char at[4];
    bytes_put_u32(at, value);
    buf_append(buf, at, sizeof at);
}

void buf_append_format_list(struct buf *buf, const char *format, va_list list) {
    va_list again;
    va_copy(again, list);
    char text[512];
    int len = vsnprintf(text, sizeof text, format, list);
    CHECK(len >= 0);
    if ((size_t)len < sizeof text) {
        buf_append(buf, text, (size_t)len);
    } else {
        (void)vsnprintf(buf_room(buf, (size_t)len + 1), (size_t)len + 1, format, again);
        buf->end += (uint32_t)len;
    }
    va_end(again);
}

void buf_append_format(struct buf *buf, const char *format, ...) {
    va_list list;
    va_start(list, format);
    buf_append_format_list(buf, format, list);
    va_end(list);
}

const char *buf_text(struct buf *buf) {
    *buf_room(buf, 1) = '\0';
    return buf->memory + buf->start;
}
