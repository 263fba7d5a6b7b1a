/*
 * Consoles for the files of this folder: one for each client that is logged in to one. What the
 * client's side calls stands in admin/admin.h.
 */
#ifndef WEIR_ADMIN_CONSOLE_H
#define WEIR_ADMIN_CONSOLE_H

#include "admin/command.h"
#include "admin_state.h"

#define CONSOLE_QUEUE_MAX 16u

struct console {
    struct link link; /* in the admin's list */
    struct admin *admin;
    struct client *client;    /* NULL: it has gone, and what is under way ends unheard */
    bool is_busy;             /* a command is being carried out */
    bool is_pausing;          /* that command is a PAUSE which waits */
    bool is_cancelled;        /* and has been given up */
    struct database *subject; /* what the command is about, held; NULL: all */
    bool is_polling;          /* the command is a WAIT_CLOSE whose next look is due */
    struct command command;   /* the one under way */
    struct buf out;           /* its answer so far */
    struct loop_hook hook;    /* goes on with the queue */
    char *queue[CONSOLE_QUEUE_MAX];
    unsigned queue_first;
    unsigned queue_count;
};

/* For commands. Each ends in exactly one of these; a busy console must not be touched after it. */
void console_complete(struct console *console, const char *tag);
void console_fault(struct console *console, enum fault_id fault, const char *argument);
void console_error(struct console *console, const char *message);

/* Sends what the answer has so far and then `more`, which becomes empty. */
void console_send(struct console *console, struct buf *more);

/* The columns that its answers have besides PgBouncer's; enum column_group. */
unsigned console_groups(const struct console *console);

/* In commands.c: carries out console->command, at once or later. */
void command_run(struct console *console, const char *text);

/* Goes on with consoles whose clients have read what they were sent. */
void console_tick(struct admin *admin);

/* Frees those that are left when all clients have gone. */
void console_free_all(struct admin *admin);

#endif
