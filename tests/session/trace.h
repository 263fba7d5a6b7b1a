/* What was said on the wires, for people: printable characters as they are, others as dots. */
#ifndef WEIR_TESTS_SESSION_TRACE_H
#define WEIR_TESTS_SESSION_TRACE_H

#include "core/buf.h"

/* Appends the beginning of a message. */
void trace_describe(struct buf *text, struct bytes message);

/* From here on messages are logged. */
void trace_start(void);

/* A line in the log: who (a client's letter, or `#` for a server), did what. */
void trace_message(char who, const char *what, struct bytes message);

#endif
