/*
 * Texts from outside (names, errors in a server's words) inside of JSON and of Prometheus' text
 * format. Both demand UTF-8: a byte that is not part of a well-formed sequence becomes U+FFFD.
 */
#ifndef WEIR_ADMIN_ESCAPE_H
#define WEIR_ADMIN_ESCAPE_H

#include "core/buf.h"

/* Appends what stands between the quotes of a JSON string (RFC 8259, section 7); `<` is escaped as
 * well, so that the result may stand inside of HTML. */
void escape_json(struct buf *out, const char *text);

/* Appends what stands between the quotes of a label's value. */
void escape_label(struct buf *out, const char *text);

#endif
