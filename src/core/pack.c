/* Numbers and texts in a row; see core/pack.h. */
#include "core/pack.h"

void pack_u64(struct buf *out, uint64_t value) {
    buf_append_u32(out, (uint32_t)(value >> 32));
    buf_append_u32(out, (uint32_t)value);
}

void pack_text(struct buf *out, struct bytes text) {
    buf_append_u32(out, (uint32_t)text.len);
    buf_append_bytes(out, text);
}

static struct bytes take(struct unpack *in, size_t len) {
    if (in->is_bad || in->rest.len < len) {
        in->is_bad = true;
        in->rest.len = 0;
        return bytes_of("", 0);
    }
    struct bytes taken = bytes_of(in->rest.at, len);
    in->rest = bytes_of(in->rest.at + len, in->rest.len - len);
    return taken;
}

unsigned unpack_u8(struct unpack *in) {
    struct bytes taken = take(in, 1);
    return taken.len == 1 ? (unsigned char)taken.at[0] : 0;
}

uint32_t unpack_u32(struct unpack *in) {
    struct bytes taken = take(in, 4);
    return taken.len == 4 ? bytes_get_u32(taken.at) : 0;
}

uint64_t unpack_u64(struct unpack *in) {
    uint64_t high = unpack_u32(in);
    return high << 32 | unpack_u32(in);
}

struct bytes unpack_text(struct unpack *in) {
    uint32_t len = unpack_u32(in);
    return take(in, len);
}
