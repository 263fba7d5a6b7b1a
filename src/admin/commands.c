/*
 * What the console's commands do. A row of the table names a command, says whether it wants an
 * argument and whether only admins may run it; its function ends with one answer, at once or when
 * all workers have replied. SHOW stands in show.c, what is done to databases in control.c.
 */
#include "commands.h"
#include "client/shadow.h"
#include "core/log.h"
#include "gather.h"

enum argument { ARGUMENT_NONE, ARGUMENT_MAY, ARGUMENT_MUST };

struct console_command {
    const char *word;
    enum argument argument;
    bool is_admin_only;
    void (*run)(struct console *console);
    const char *usage; /* for HELP; NULL: not listed */
};

void command_log(const struct console *console, const char *word) {
    if (console->command.has_argument) {
        log_line(LOG_LEVEL_LOG, "%s '%s' command issued", word, console->command.argument);
    } else {
        log_line(LOG_LEVEL_LOG, "%s command issued", word);
    }
}

/* ---- SET and RELOAD: answered when every worker goes by what is new */

static void look(struct gather_part *part) {
    (void)part; /* what was applied came before this, by the same way */
}

static void on_set(struct gather *gather) {
    const struct console *console = gather->owner;
    struct buf tag = {0};
    buf_append_format(&tag, "SET %s=%s", console->command.argument, console->command.value);
    console_complete(gather->owner, buf_text(&tag));
    buf_release(&tag);
}

static void on_reloaded(struct gather *gather) {
    console_complete(gather->owner, "RELOAD");
}

/* No setting, but a word to the probers: it is gone with the process. */
static void choose_primary(struct console *console) {
    struct admin *admin = console->admin;
    struct buf text = {0};
    if (admin->ops.choose(admin->ops.owner, console->command.value, &text)) {
        buf_clear(&text);
        buf_append_format(&text, "SET weir_primary=%s", console->command.value);
        console_complete(console, buf_text(&text));
    } else {
        console_error(console, buf_text(&text));
    }
    buf_release(&text);
}

static void set(struct console *console) {
    static const struct gather_plan plan = {look, on_set};
    struct admin *admin = console->admin;
    const struct command *command = &console->command;
    if (show_is_driver_setting(command->argument)) {
        fault_notice_write(&console->out, "SET ignored", NULL);
        console_complete(console, "SET");
        return;
    }
    if (!console->client->is_admin) {
        console_fault(console, FAULT_CONSOLE_ADMIN_NEEDED, NULL);
        return;
    }
    if (bytes_equal_nocase(bytes_of_text(command->argument), "weir_primary")) {
        choose_primary(console);
        return;
    }
    struct config_errors errors = {0};
    bool is_set = admin->ops.set(admin->ops.owner, command->argument, command->value, &errors);
    config_errors_log(&errors);
    if (errors.notice != NULL) fault_notice_write(&console->out, errors.notice, NULL);
    config_errors_release(&errors);
    if (is_set) {
        gather_send(gather_new(admin, &plan, console));
    } else {
        console_fault(console, FAULT_CONSOLE_SET, NULL);
    }
}

static void reload(struct console *console) {
    static const struct gather_plan plan = {look, on_reloaded};
    struct admin *admin = console->admin;
    struct config_errors errors = {0};
    command_log(console, "RELOAD");
    bool is_loaded = admin->ops.reload(admin->ops.owner, &errors);
    config_errors_log(&errors);
    config_errors_release(&errors);
    if (is_loaded) {
        gather_send(gather_new(admin, &plan, console));
    } else {
        log_line(LOG_LEVEL_WARNING, "config file loading failed");
        console_fault(console, FAULT_CONSOLE_RELOAD, NULL);
    }
}

/* ---- KILL_CLIENT */

static void kill_part(struct gather_part *part) {
    for (unsigned state = CLIENT_WELCOME; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&part->worker->clients->clients[state], l) {
            struct client *client = LIST_OWNER(l, struct client, link);
            if (client->id != part->gather->number) continue;
            part->found = 1;
            client_fail(client, FAULT_ADMIN_DISCONNECT, NULL);
            return;
        }
    }
}

static void on_killed(struct gather *gather) {
    uint32_t found = 0;
    for (unsigned i = 0; i < gather->count; i++) found += gather->parts[i].found;
    if (found > 0) {
        console_complete(gather->owner, "KILL_CLIENT");
    } else {
        console_fault(gather->owner, FAULT_CONSOLE_CLIENT_GONE, NULL);
    }
}

/* A number of the column `id`; 0 if the text is none. */
static uint32_t id_of(const char *text) {
    uint64_t id = 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return 0;
        id = id * 10 + (uint64_t)(*text - '0');
        if (id > UINT32_MAX) return 0;
    }
    return (uint32_t)id;
}

static void kill_client(struct console *console) {
    static const struct gather_plan plan = {kill_part, on_killed};
    uint32_t id = id_of(console->command.argument);
    if (id == 0) {
        console_fault(console, FAULT_CONSOLE_CLIENT_ID, NULL);
        return;
    }
    struct gather *gather = gather_new(console->admin, &plan, console);
    gather->number = id;
    gather_send(gather);
}

/* ---- RESET SHADOW */

static void reset_part(struct gather_part *part) {
    shadow_clear(&part->worker->clients->shadow);
}

static void on_reset(struct gather *gather) {
    console_complete(gather->owner, "RESET");
}

static void reset(struct console *console) {
    static const struct gather_plan plan = {reset_part, on_reset};
    gather_send(gather_new(console->admin, &plan, console));
}

/* ---- SHUTDOWN */

static const struct {
    const char *word;
    enum admin_shutdown mode;
} shutdown_modes[] = {
    {"", ADMIN_SHUTDOWN_NOW},
    {"WAIT_FOR_SERVERS", ADMIN_SHUTDOWN_WAIT_FOR_SERVERS},
    {"WAIT_FOR_CLIENTS", ADMIN_SHUTDOWN_WAIT_FOR_CLIENTS},
};

/* The row of an argument; COUNT(shutdown_modes) if there is none. */
static size_t shutdown_row(const char *argument) {
    size_t i = 0;
    while (i < COUNT(shutdown_modes) &&
           !bytes_equal_nocase(bytes_of_text(argument), shutdown_modes[i].word))
        i++;
    return i;
}

static void shut_down(struct console *console) {
    struct admin *admin = console->admin;
    size_t row = shutdown_row(console->command.argument);
    const char *space = row == 0 ? "" : " ";
    log_line(LOG_LEVEL_LOG, "SHUTDOWN%s%s command issued", space, shutdown_modes[row].word);
    /* Without waiting, the connection breaks with no answer: the console stays busy. */
    if (row > 0) console_complete(console, "SHUTDOWN");
    admin->ops.shutdown(admin->ops.owner, shutdown_modes[row].mode);
}

/* ---- HAND_OVER, which a new process says that takes over from this one */

static void hand_over(struct console *console) {
    struct admin *admin = console->admin;
    const char *why =
        admin->ops.hand_over(admin->ops.owner, console->client, console->command.argument);
    if (why != NULL) {
        console_error(console, why);
        return;
    }
    client_close(console->client, "handing over");
    console_complete(console, "HAND_OVER");
}

/* ---- the table */

static const struct console_command commands[] = {
    {"SHOW", ARGUMENT_MUST, false, command_show, NULL},
    {"SELECT", ARGUMENT_MUST, false, command_show, NULL},
    {"SET", ARGUMENT_MUST, false, set, "SET key = value"},
    {"RELOAD", ARGUMENT_NONE, true, reload, "RELOAD"},
    {"PAUSE", ARGUMENT_MAY, true, command_pause, "PAUSE [DATABASE]"},
    {"SUSPEND", ARGUMENT_NONE, true, command_suspend, "SUSPEND"},
    {"RESUME", ARGUMENT_MAY, true, command_resume, "RESUME [DATABASE]"},
    {"DISABLE", ARGUMENT_MAY, true, command_disable, "DISABLE DATABASE"},
    {"ENABLE", ARGUMENT_MAY, true, command_enable, "ENABLE DATABASE"},
    {"RECONNECT", ARGUMENT_MAY, true, command_reconnect, "RECONNECT [DATABASE]"},
    {"WAIT_CLOSE", ARGUMENT_MAY, true, command_wait_close, "WAIT_CLOSE [DATABASE]"},
    {"KILL", ARGUMENT_MAY, true, command_kill, "KILL [DATABASE]"},
    {"HAND_OVER", ARGUMENT_MUST, true, hand_over, NULL},
    {"RESET", ARGUMENT_MUST, true, reset, "RESET SHADOW"},
    {"KILL_CLIENT", ARGUMENT_MAY, true, kill_client, "KILL_CLIENT ID"},
    {"SHUTDOWN", ARGUMENT_MAY, true, shut_down, "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]"},
};

void command_append_usage(struct buf *text) {
    for (size_t i = 0; i < COUNT(commands); i++)
        if (commands[i].usage != NULL) buf_append_format(text, "\n\t%s", commands[i].usage);
}

static const struct console_command *find(const struct command *command) {
    for (size_t i = 0; i < COUNT(commands); i++)
        if (bytes_equal_nocase(bytes_of_text(command->word), commands[i].word)) return &commands[i];
    return NULL;
}

/* Whether the command has what its row, and the command itself, ask for. */
static bool is_complete(const struct console_command *row, const struct command *command) {
    if (row->argument == ARGUMENT_NONE && command->has_argument) return false;
    if (row->argument == ARGUMENT_MUST && !command->has_argument && command->form != COMMAND_ROUTE)
        return false;
    if (row->run == command_show) return show_is_known(command);
    if (row->run == reset) return bytes_equal_nocase(bytes_of_text(command->argument), "shadow");
    if (row->run == set) return command->form == COMMAND_SET;
    if (row->run == shut_down) return shutdown_row(command->argument) < COUNT(shutdown_modes);
    return true;
}

void command_run(struct console *console, const char *text) {
    const struct console_command *row = find(&console->command);
    if (row == NULL || !is_complete(row, &console->command)) {
        console_fault(console, FAULT_CONSOLE_COMMAND, text);
    } else if (row->is_admin_only && !console->client->is_admin) {
        console_fault(console, FAULT_CONSOLE_ADMIN_NEEDED, NULL);
    } else {
        row->run(console);
    }
}
