/*
 * A writer of JSON into a buffer: it puts the commas and escapes the texts. In an object every
 * value has a key; in an array the key is NULL. Brackets are the caller's to match; that is
 * checked.
 *
 *      struct json json = {.out = &buf};
 *      json_open(&json, NULL, '{');
 *      json_text(&json, "status", "healthy");
 *      json_close(&json, '}');
 */
#ifndef WEIR_ADMIN_JSON_H
#define WEIR_ADMIN_JSON_H

#include "core/buf.h"

#define JSON_DEPTH_MAX 16

struct json {
    struct buf *out;
    unsigned depth;
    char closers[JSON_DEPTH_MAX];
    bool needs_comma;
};

/* '{' or '['; and its partner. */
void json_open(struct json *json, const char *key, char bracket);
void json_close(struct json *json, char bracket);

/* NULL is written as null. */
void json_text(struct json *json, const char *key, const char *value);
void json_number(struct json *json, const char *key, uint64_t value);
/* A number with three decimals. */
void json_decimal(struct json *json, const char *key, double value);
void json_bool(struct json *json, const char *key, bool value);
/* A value that was written elsewhere. */
void json_raw(struct json *json, const char *key, struct bytes value);
void json_null(struct json *json, const char *key);

#endif
