/* A run of bytes for one write; see client/parts.h. */
#include "client/parts.h"

void outgoing_begin(struct outgoing *out, struct client_set *set, struct stream *stream) {
    out->stream = stream;
    out->scratch = &set->scratch;
    out->count = 0;
    buf_clear(out->scratch);
}

void outgoing_add(struct outgoing *out, const char *at, size_t len) {
    if (len == 0) return;
    if (out->count > 0) {
        size_t last = out->count - 1;
        if (out->parts[last].at != NULL && out->parts[last].at + out->parts[last].len == at) {
            out->parts[last].len += len;
            return;
        }
    }
    if (out->count == OUTGOING_PARTS_MAX) outgoing_flush(out);
    out->parts[out->count].at = at;
    out->parts[out->count].len = len;
    out->count++;
}

void outgoing_copy(struct outgoing *out, const char *at, size_t len) {
    if (len == 0) return;
    if (out->count == OUTGOING_PARTS_MAX) outgoing_flush(out);
    size_t offset = buf_length(out->scratch);
    buf_append(out->scratch, at, len);
    if (out->count > 0 && out->parts[out->count - 1].at == NULL) {
        out->parts[out->count - 1].len += len; /* copies follow each other in the scratch buffer */
        return;
    }
    out->parts[out->count].at = NULL;
    out->parts[out->count].offset = (uint32_t)offset;
    out->parts[out->count].len = len;
    out->count++;
}

static void flush_parts(struct outgoing *out) {
    struct bytes parts[OUTGOING_PARTS_MAX];
    const char *scratch = buf_content(out->scratch).at;
    for (size_t i = 0; i < out->count; i++) {
        const char *at = out->parts[i].at;
        parts[i] = bytes_of(at == NULL ? scratch + out->parts[i].offset : at, out->parts[i].len);
    }
    stream_write(out->stream, parts, out->count);
    buf_clear(out->scratch);
}

void outgoing_flush(struct outgoing *out) {
    if (out->count == 0) return;
    if (out->count == 1 && out->parts[0].at != NULL) {
        stream_write_bytes(out->stream, bytes_of(out->parts[0].at, out->parts[0].len));
    } else {
        flush_parts(out);
    }
    out->count = 0;
}
