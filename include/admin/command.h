/*
 * The console's language, as PgBouncer defined it: what one simple Query says. Pure.
 *
 *      WORD [ARGUMENT]                   SHOW POOLS    PAUSE "my db";
 *      SET KEY = VALUE, SET KEY TO VALUE
 *      SHOW ROUTE [DATABASE] 'SQL'       Weir's own
 *
 * Words are letters, digits and _, in any case, or stand in "..." with "" for a quote; VALUE may
 * also stand in '...' with '' for a quote. One `;` may follow. That there is such a command, and
 * whether its argument is right, is for the console to judge.
 */
#ifndef WEIR_ADMIN_COMMAND_H
#define WEIR_ADMIN_COMMAND_H

#include "core/buf.h"
#include "proto/fault_id.h"

#define COMMAND_WORD_BYTES_MAX     15u
#define COMMAND_ARGUMENT_BYTES_MAX 63u
#define COMMAND_VALUE_BYTES_MAX    255u
#define COMMAND_SQL_BYTES_MAX      16384u

enum command_form { COMMAND_PLAIN, COMMAND_SET, COMMAND_ROUTE };

struct command {
    enum command_form form;
    bool has_argument;
    char word[COMMAND_WORD_BYTES_MAX + 1];         /* as written */
    char argument[COMMAND_ARGUMENT_BYTES_MAX + 1]; /* SET: the key; ROUTE: the database, if any */
    char value[COMMAND_VALUE_BYTES_MAX + 1];       /* SET */
    struct buf sql;                                /* ROUTE; with a closing NUL */
};

/* Reads a command into `command`, which command_release frees whatever the answer was: FAULT_NONE,
 * FAULT_CONSOLE_COMMAND if the text is none, or FAULT_CONSOLE_ARGUMENTS if a part is too long. */
enum fault_id command_parse(const char *text, struct command *command);
void command_release(struct command *command);

#endif
