/*
 * Reads a Bind message (the manual, 55.7) behind its two names:
 *
 *      count of formats, a format each -> count of values -> each: length, -1 for NULL; bytes
 *
 * The format does not matter, as a text is the same in both. A name is told only where nothing can
 * have changed it on its way: neither blanks that char(n) cuts nor the length of type name, nor
 * letters whose case another encoding decides.
 */
#include "session/bind.h"

#define NAME_BYTES_MAX 63u

/* Types whose values reach a text as they are, unless blanks end them or they are longer than a
 * name: none given, text, varchar, name, char(n). */
static bool is_text_type(uint32_t oid) {
    return oid == 0 || oid == 25 || oid == 1043 || oid == 19 || oid == 1042;
}

/* Takes `count` bytes off the front; false if there are not so many. */
static bool take(struct bytes *rest, size_t count) {
    if (count > rest->len) return false;
    *rest = bytes_of(rest->at + count, rest->len - count);
    return true;
}

static bool has_text_type(struct bytes types, unsigned number) {
    if (types.len < 2) return false;
    unsigned count = bytes_get_u16(types.at);
    if (types.len < 2 + (size_t)count * 4) return false;
    return number > count || is_text_type(bytes_get_u32(types.at + 2 + (number - 1) * 4));
}

/* The value of a parameter; false if the message is malformed, or it is NULL or missing. */
static bool find_value(struct bytes rest, unsigned number, struct bytes *value) {
    if (rest.len < 2 || !take(&rest, 2 + (size_t)bytes_get_u16(rest.at) * 2)) return false;
    if (rest.len < 2 || bytes_get_u16(rest.at) < number || !take(&rest, 2)) return false;
    for (;; number--) {
        if (rest.len < 4) return false;
        uint32_t length = bytes_get_u32(rest.at);
        (void)take(&rest, 4);
        if (length == UINT32_MAX && number == 1) return false;
        if (length == UINT32_MAX) continue;
        *value = bytes_of(rest.at, length);
        if (!take(&rest, length)) return false;
        if (number == 1) return true;
    }
}

static bool is_name_byte(char c) {
    char lower = char_lower(c);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

bool bind_name(const struct session_bind *bind, struct bytes parameter, struct buf *name) {
    unsigned number = 0;
    struct bytes value;
    for (size_t i = 1; i < parameter.len; i++)
        number = number * 10 + (unsigned)(parameter.at[i] - '0');
    if (bind == NULL || number == 0 || !has_text_type(bind->types, number)) return false;
    if (!find_value(bind->values, number, &value)) return false;
    if (value.len == 0 || value.len > NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_name_byte(value.at[i])) return false;
        buf_append_u8(name, (unsigned char)char_lower(value.at[i]));
    }
    return true;
}
