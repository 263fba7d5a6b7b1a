/* Writing JSON; see admin/json.h. */
#include "admin/json.h"

#include "admin/escape.h"
#include "core/check.h"

static void append_quoted(struct buf *out, const char *text) {
    buf_append_u8(out, '"');
    escape_json(out, text);
    buf_append_u8(out, '"');
}

/* The comma and the key before a value. */
static void begin(struct json *json, const char *key) {
    bool is_member = json->depth > 0 && json->closers[json->depth - 1] == '}';
    CHECK(is_member == (key != NULL));
    if (json->needs_comma) buf_append_u8(json->out, ',');
    json->needs_comma = true;
    if (key == NULL) return;
    append_quoted(json->out, key);
    buf_append_u8(json->out, ':');
}

void json_open(struct json *json, const char *key, char bracket) {
    CHECK((bracket == '{' || bracket == '[') && json->depth < JSON_DEPTH_MAX);
    begin(json, key);
    buf_append_u8(json->out, (unsigned char)bracket);
    json->closers[json->depth++] = bracket == '{' ? '}' : ']';
    json->needs_comma = false;
}

void json_close(struct json *json, char bracket) {
    CHECK(json->depth > 0 && json->closers[json->depth - 1] == bracket);
    json->depth--;
    buf_append_u8(json->out, (unsigned char)bracket);
    json->needs_comma = true;
}

void json_text(struct json *json, const char *key, const char *value) {
    if (value == NULL) {
        json_null(json, key);
        return;
    }
    begin(json, key);
    append_quoted(json->out, value);
}

void json_number(struct json *json, const char *key, uint64_t value) {
    begin(json, key);
    buf_append_format(json->out, "%llu", (unsigned long long)value);
}

void json_decimal(struct json *json, const char *key, double value) {
    begin(json, key);
    buf_append_format(json->out, "%.3f", value);
}

void json_bool(struct json *json, const char *key, bool value) {
    begin(json, key);
    buf_append_text(json->out, value ? "true" : "false");
}

void json_null(struct json *json, const char *key) {
    begin(json, key);
    buf_append_text(json->out, "null");
}

void json_raw(struct json *json, const char *key, struct bytes value) {
    begin(json, key);
    buf_append_bytes(json->out, value);
}
