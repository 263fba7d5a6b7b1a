/*
 * Numbers and texts in a row, to be read by another process of the same program. Reading never
 * goes beyond the end: from the first thing that does not fit everything reads as zero or empty.
 */
#ifndef WEIR_CORE_PACK_H
#define WEIR_CORE_PACK_H

#include "core/buf.h"

/* Besides buf_append_u8 and buf_append_u32. */
void pack_u64(struct buf *out, uint64_t value);
void pack_text(struct buf *out, struct bytes text);

struct unpack {
    struct bytes rest;
    bool is_bad;
};

unsigned unpack_u8(struct unpack *in);
uint32_t unpack_u32(struct unpack *in);
uint64_t unpack_u64(struct unpack *in);
/* Borrowed from what is being read. */
struct bytes unpack_text(struct unpack *in);

#endif
