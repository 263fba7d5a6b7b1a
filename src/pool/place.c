/* See pool/place.h. */
#include "pool/place.h"

#include <stdio.h>

void place_text(const struct stream *stream, const char *host, unsigned port,
                char text[ENDPOINT_TEXT_SIZE]) {
    bool is_unix = host[0] == '/' || host[0] == '@';
    struct endpoint_end end = {.size = 0};
    if (stream_is_open(stream)) end = endpoint_end_of(stream_descriptor(stream), true);
    if (end.size > 0) {
        endpoint_end_text(&end, text);
    } else if (is_unix && stream_is_open(stream)) {
        endpoint_unix_text(stream_descriptor(stream), port, text);
    } else {
        (void)snprintf(text, ENDPOINT_TEXT_SIZE, "%.120s:%u", is_unix ? "unix" : host, port);
    }
}

void place_origin_text(const struct stream *stream, char text[ENDPOINT_TEXT_SIZE]) {
    struct endpoint_end end = endpoint_end_of(stream_descriptor(stream), false);
    char own[ENDPOINT_TEXT_SIZE];
    text[0] = '\0';
    if (end.size == 0) return;
    endpoint_end_text(&end, own);
    (void)snprintf(text, ENDPOINT_TEXT_SIZE, " (from %.140s)", own);
}
