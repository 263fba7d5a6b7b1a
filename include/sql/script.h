/*
 * A script as psql reads it: SQL statements, lines for psql itself, and the data of COPY.
 *
 *      SELECT 1; SELECT ';'       two statements
 *      \echo it goes on           a line for psql, to its end
 *      COPY t FROM STDIN;         a statement, and behind it
 *      1 \t one                   data, up to
 *      \.                         this line
 *
 * Statements end at a semicolon outside of quotes, comments, parentheses and the body of a function
 * that is written as BEGIN ATOMIC ... END (PostgreSQL's manual, section 4.1; psql's,
 * "Meta-Commands"). Nothing is known of \if, variables and other things that psql does to the text.
 */
#ifndef WEIR_SQL_SCRIPT_H
#define WEIR_SQL_SCRIPT_H

#include "core/bytes.h"

enum script_part {
    SCRIPT_END,
    SCRIPT_STATEMENT,
    SCRIPT_COMMAND, /* for psql */
    SCRIPT_DATA     /* of COPY FROM STDIN, with its last line */
};

struct script {
    struct bytes rest;
    unsigned line; /* of the first byte of `rest`, from 1 */
    bool is_data_next;
};

/* Begins with the first line of a text, which must outlive the script. */
void script_begin(struct script *script, struct bytes text);

/* Takes the next part; `text` is a view of it, without its semicolon but with the comments in front
 * of it, `line` is that of its first word. */
enum script_part script_next(struct script *script, struct bytes *text, unsigned *line);

#endif
