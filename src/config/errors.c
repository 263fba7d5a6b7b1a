/* Collecting what is wrong with a configuration; see config/load.h and snapshot.h. */
#include "snapshot.h"

#include "core/log.h"

#define QUOTED_BYTES_MAX 80

static void append_line(struct buf *text, const char *format, va_list list) {
    buf_append_format_list(text, format, list);
    buf_append_u8(text, '\n');
}

void errors_add(struct config_errors *errors, const char *format, ...) {
    if (errors->count++ >= CONFIG_ERRORS_MAX) return;
    va_list list;
    va_start(list, format);
    append_line(&errors->text, format, list);
    va_end(list);
}

void errors_warn(struct config_errors *errors, const char *format, ...) {
    if (errors->warnings_count++ >= CONFIG_ERRORS_MAX) return;
    va_list list;
    va_start(list, format);
    append_line(&errors->warnings, format, list);
    va_end(list);
}

void errors_quote(struct buf *text, struct bytes quoted, bool is_secret) {
    if (is_secret) quoted = bytes_of_text("****");
    buf_append_u8(text, '"');
    for (size_t i = 0; i < quoted.len && i < QUOTED_BYTES_MAX; i++) {
        unsigned char c = (unsigned char)quoted.at[i];
        buf_append_u8(text, c < ' ' || c == 0x7f ? '?' : c);
    }
    if (quoted.len > QUOTED_BYTES_MAX) buf_append_text(text, "...");
    buf_append_u8(text, '"');
}

static void log_lines(enum log_level level, struct bytes text, size_t count) {
    while (text.len > 0) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.at);
        log_line(level, "%.*s", (int)len, text.at);
        size_t used = end == NULL ? len : len + 1;
        text = bytes_of(text.at + used, text.len - used);
    }
    if (count > CONFIG_ERRORS_MAX) log_line(level, "and %zu more", count - CONFIG_ERRORS_MAX);
}

void config_errors_log(const struct config_errors *errors) {
    log_lines(LOG_LEVEL_WARNING, buf_content(&errors->warnings), errors->warnings_count);
    log_lines(LOG_LEVEL_ERROR, buf_content(&errors->text), errors->count);
}

void config_errors_release(struct config_errors *errors) {
    buf_release(&errors->text);
    buf_release(&errors->warnings);
    config_unref(&errors->failed);
    *errors = (struct config_errors){0};
}
