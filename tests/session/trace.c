/* See trace.h. */
#include "trace.h"

#include "core/log.h"

#define SHOWN_BYTES 120u

static bool is_on;

void trace_start(void) {
    is_on = true;
}

void trace_describe(struct buf *text, struct bytes message) {
    if (message.len == 0) buf_append_text(text, "nothing");
    for (size_t i = 0; i < message.len && i < SHOWN_BYTES; i++) {
        char c = message.at[i];
        buf_append_u8(text, c >= ' ' && c <= '~' ? (unsigned char)c : '.');
    }
}

void trace_message(char who, const char *what, struct bytes message) {
    if (!is_on) return;
    struct buf text = {0};
    trace_describe(&text, message);
    log_line(LOG_LEVEL_LOG, "%c %s <%s>", who, what, buf_text(&text));
    buf_release(&text);
}
