/*
 * What the readers of the HBA and the ident file have in common: cutting lines into words, and
 * collecting what is wrong with them. A line that is wrong is reported and left out; all others
 * count. Pure.
 *
 *      word     letters up to a blank, a comma, a quote or a `#`; `"..."` with `""` for a quote
 *      list     words divided by commas, with or without blanks around them
 *      comment  from `#` to the end of the line
 */
#ifndef WEIR_AUTH_RULES_H
#define WEIR_AUTH_RULES_H

#include "core/buf.h"

#define RULES_FILE_BYTES_MAX (16u << 20)
#define RULES_ERRORS_MAX     100u /* further ones are counted, not kept */

/* What was found in one or several files; zeroed memory is an empty report. Each text is whole
 * lines. */
struct rules_report {
    struct buf errors;
    size_t errors_count;
    struct buf warnings;
    size_t unreadable; /* files that could not be read at all, counted among the errors */
};

void rules_report_release(struct rules_report *report);

/* Where a line stands: "hba" or "ident", the file's name and the number from 1. */
struct rules_place {
    const char *what;
    const char *file;
    unsigned line;
    struct rules_report *report;
};

/* Report `could not parse WHAT config line N (FILE:N): REASON`, or a warning of that form. */
void rules_error(const struct rules_place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void rules_warning(const struct rules_place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

enum rules_token {
    RULES_WORD,
    RULES_QUOTED, /* never a keyword */
    RULES_COMMA,
    RULES_END,
    RULES_BROKEN /* a quote that does not end */
};

/* Takes the next token off the front of a line; `word` holds the text of a word, NUL-terminated by
 * buf_text and free of NULs. */
enum rules_token rules_next(struct bytes *line, struct buf *word);

/* Whether a comma comes next; takes it. */
bool rules_take_comma(struct bytes *line);

/* Takes the next line off the front of a text, without its end; false if there is none. */
bool rules_next_line(struct bytes *text, struct bytes *line);

#endif
