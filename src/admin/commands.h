/*
 * What the files that carry out the console's commands offer to each other. Each command_ function
 * ends, at once or later, with one answer to the console.
 */
#ifndef WEIR_ADMIN_COMMANDS_H
#define WEIR_ADMIN_COMMANDS_H

#include "console.h"

/* In commands.c: a line such as "PAUSE 'app' command issued". */
void command_log(const struct console *console, const char *word);

/* In commands.c: a line for each command but SHOW, as HELP has them. */
void command_append_usage(struct buf *text);

/* In show.c */
void command_show(struct console *console);
bool show_is_known(const struct command *command);
bool show_is_driver_setting(const char *name);

/* In control.c */
void command_pause(struct console *console);
void command_suspend(struct console *console);
void command_resume(struct console *console);
void command_disable(struct console *console);
void command_enable(struct console *console);
void command_reconnect(struct console *console);
void command_wait_close(struct console *console);
void command_kill(struct console *console);

/* Lets WAIT_CLOSE look again. */
void control_tick(struct admin *admin);

#endif
