/*
 * What the console's commands do. A row of the table names a command, says whether it wants an
 * argument and whether only admins may run it; its function ends with one answer, at once or when
 * all workers have replied.
 */
#include "console.h"
#include "core/log.h"
#include "views.h"

enum argument { ARGUMENT_NONE, ARGUMENT_MAY, ARGUMENT_MUST };

struct console_command {
    const char *word;
    enum argument argument;
    bool is_admin_only;
    void (*run)(struct console *console);
    const char *usage; /* for HELP; NULL: not listed */
};

/* A line such as "PAUSE 'app' command issued". */
static void log_issued(const struct console *console, const char *word) {
    if (console->command.has_argument) {
        log_line(LOG_LEVEL_LOG, "%s '%s' command issued", word, console->command.argument);
    } else {
        log_line(LOG_LEVEL_LOG, "%s command issued", word);
    }
}

/* ---- SHOW */

/* What drivers ask at the beginning of a session; SET of these is passed over. */
static const struct driver_setting {
    const char *name;
    const char *value;
} driver_settings[] = {
    {"client_encoding", "UTF-8"},
    {"default_transaction_isolation", "read committed"},
    {"standard_conforming_strings", "on"},
    {"datestyle", "ISO"},
    {"timezone", "GMT"},
};

static const struct driver_setting *driver_setting_find(const char *name) {
    for (size_t i = 0; i < COUNT(driver_settings); i++)
        if (bytes_equal_nocase(bytes_of_text(name), driver_settings[i].name))
            return &driver_settings[i];
    return NULL;
}

static void show_rows(struct console *console, const struct column *columns, struct rows *rows) {
    rows_describe(&console->out, columns, rows->columns);
    buf_append_bytes(&console->out, buf_content(&rows->out));
    buf_release(&rows->out);
    console_complete(console, "SHOW");
}

static void show_driver_setting(struct console *console, const struct driver_setting *setting) {
    const struct column column = {setting->name, COLUMN_TEXT};
    struct rows rows = {.columns = 1};
    rows_begin(&rows);
    rows_text(&rows, setting->value);
    rows_end(&rows);
    show_rows(console, &column, &rows);
}

static void write_view(struct console *console, const struct view *view,
                       const struct census *census) {
    struct rows rows = {.columns = view->columns_count};
    struct view_context context = {console->admin, census, &rows};
    view->write(&context);
    show_rows(console, view->columns, &rows);
}

static void count_part(struct gather_part *part) {
    gather_census(part);
}

static void write_part(struct gather_part *part) {
    const struct view *view = part->gather->subject;
    part->rows.columns = view->columns_count;
    view->write_part(part);
}

static void on_shown(struct gather *gather) {
    struct console *console = gather->owner;
    const struct view *view = gather->subject;
    if (view->source == VIEW_CENSUS) {
        write_view(console, view, gather_merge(gather));
        return;
    }
    struct rows rows = {.columns = view->columns_count};
    for (unsigned i = 0; i < gather->count; i++)
        buf_append_bytes(&rows.out, buf_content(&gather->parts[i].rows.out));
    show_rows(console, view->columns, &rows);
}

static void show_view(struct console *console, const struct view *view) {
    static const struct gather_plan by_census = {count_part, on_shown};
    static const struct gather_plan by_workers = {write_part, on_shown};
    if (view->source == VIEW_OWN) {
        write_view(console, view, NULL);
        return;
    }
    const struct gather_plan *plan = view->source == VIEW_CENSUS ? &by_census : &by_workers;
    struct gather *gather = gather_new(console->admin, plan, console);
    gather->subject = view;
    gather_send(gather);
}

static void show_route(struct console *console) {
    const struct command *command = &console->command;
    struct rows rows = {0};
    const char *name = command->has_argument ? command->argument : NULL;
    if (view_route(console->admin, name, buf_content(&command->sql), &rows)) {
        show_rows(console, view_route_columns, &rows);
    } else {
        console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    }
}

static void show_help(struct console *console);

static void show(struct console *console) {
    const char *name = console->command.argument;
    const struct driver_setting *setting = driver_setting_find(name);
    const struct view *view = view_find(name);
    if (console->command.form == COMMAND_ROUTE) {
        show_route(console);
    } else if (view != NULL) {
        show_view(console, view);
    } else if (setting != NULL) {
        show_driver_setting(console, setting);
    } else {
        show_help(console);
    }
}

static bool is_showable(const struct command *command) {
    return command->form == COMMAND_ROUTE || view_find(command->argument) != NULL ||
           driver_setting_find(command->argument) != NULL ||
           bytes_equal_nocase(bytes_of_text(command->argument), "help");
}

/* ---- SET and RELOAD */

static void set(struct console *console) {
    struct admin *admin = console->admin;
    const struct command *command = &console->command;
    if (driver_setting_find(command->argument) != NULL) {
        fault_notice_write(&console->out, "SET ignored", NULL);
        console_complete(console, "SET");
        return;
    }
    if (!console->client->is_admin) {
        console_fault(console, FAULT_CONSOLE_ADMIN_NEEDED, NULL);
        return;
    }
    struct config_errors errors = {0};
    bool is_set = admin->ops.set(admin->ops.owner, command->argument, command->value, &errors);
    config_errors_log(&errors);
    config_errors_release(&errors);
    if (!is_set) {
        console_fault(console, FAULT_CONSOLE_SET, NULL);
        return;
    }
    struct buf tag = {0};
    buf_append_format(&tag, "SET %s=%s", command->argument, command->value);
    console_complete(console, buf_text(&tag));
    buf_release(&tag);
}

static void reload(struct console *console) {
    struct admin *admin = console->admin;
    struct config_errors errors = {0};
    log_issued(console, "RELOAD");
    bool is_loaded = admin->ops.reload(admin->ops.owner, &errors);
    config_errors_log(&errors);
    config_errors_release(&errors);
    if (is_loaded) {
        console_complete(console, "RELOAD");
    } else {
        console_fault(console, FAULT_CONSOLE_RELOAD, NULL);
    }
}

/* ---- PAUSE and RESUME */

static bool names_console(const struct console *console) {
    return console->command.has_argument &&
           config_is_console(console->admin->config, bytes_of_text(console->command.argument));
}

/* The database that the argument names, made from `*` if need be; NULL without an argument. False
 * if there is none, with the console answered. */
static bool named_database(struct console *console, struct database **database) {
    const char *name = console->command.argument;
    *database = NULL;
    if (!console->command.has_argument) return true;
    *database =
        databases_get(console->admin->databases, console->admin->config, bytes_of_text(name));
    if (*database == NULL) console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    return *database != NULL;
}

static void on_paused(void *context) {
    struct console *console = context;
    if (console->is_cancelled) {
        console_fault(console, FAULT_CANCELED, NULL);
    } else {
        console_complete(console, "PAUSE");
    }
}

static void pause_command(struct console *console) {
    struct admin *admin = console->admin;
    struct database *database;
    if (names_console(console)) {
        console_fault(console, FAULT_CONSOLE_PAUSE_ADMIN, console->command.argument);
        return;
    }
    if (!named_database(console, &database)) return;
    if (database == NULL && admin->workers[0].pools->is_paused) {
        console_fault(console, FAULT_CONSOLE_PAUSED, NULL);
        return;
    }
    log_issued(console, "PAUSE");
    console->is_pausing = true;
    console->pausing = database;
    admin->ops.pause(admin->ops.owner, database, on_paused, console);
}

struct search {
    const char *name;
    struct database *found;
};

static void compare_name(void *owner, struct database *database) {
    struct search *search = owner;
    if (strcmp(database->name, search->name) == 0) search->found = database;
}

static void resume_database(struct console *console) {
    struct admin *admin = console->admin;
    const char *name = console->command.argument;
    struct search search = {.name = name};
    databases_each(admin->databases, compare_name, &search);
    bool is_known = search.found != NULL || names_console(console) ||
                    config_database(admin->config, bytes_of_text(name)) != NULL;
    if (!is_known) {
        console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    } else if (search.found == NULL || !admin->ops.resume(admin->ops.owner, search.found)) {
        console_fault(console, FAULT_CONSOLE_DATABASE_NOT_PAUSED, name);
    } else {
        console_complete(console, "RESUME");
    }
}

static void resume(struct console *console) {
    struct admin *admin = console->admin;
    log_issued(console, "RESUME");
    if (console->command.has_argument) {
        resume_database(console);
    } else if (admin->workers[0].clients->is_refusing) {
        console_fault(console, FAULT_CONSOLE_SHUTTING_DOWN, NULL);
    } else if (!admin->ops.resume(admin->ops.owner, NULL)) {
        console_fault(console, FAULT_CONSOLE_NOT_PAUSED, NULL);
    } else {
        console_complete(console, "RESUME");
    }
}

/* ---- RECONNECT */

static void mark_servers(struct pool_node *node) {
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            struct server *server = LIST_OWNER(l, struct server, link);
            server->is_close_needed = true;
            if (state != SERVER_LENT && state != SERVER_CLEANING)
                server_close(server, "database configuration changed");
        }
    }
}

static void mark_part(struct gather_part *part) {
    const struct database *database = part->gather->subject;
    LIST_EACH (&part->worker->pools->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (database != NULL && pool->database != database) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) mark_servers(pool->nodes[i]);
    }
}

static void on_marked(struct gather *gather) {
    console_complete(gather->owner, "RECONNECT");
}

static void reconnect(struct console *console) {
    static const struct gather_plan plan = {mark_part, on_marked};
    struct database *database;
    if (names_console(console)) {
        struct buf text = {0};
        buf_append_format(&text, "cannot reconnect admin db: %s", console->command.argument);
        console_error(console, buf_text(&text));
        buf_release(&text);
        return;
    }
    if (!named_database(console, &database)) return;
    log_issued(console, "RECONNECT");
    struct gather *gather = gather_new(console->admin, &plan, console);
    gather->subject = database;
    gather_send(gather);
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
        console_error(gather->owner, "client not found");
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
        console_error(console, "invalid client pointer supplied");
        return;
    }
    struct gather *gather = gather_new(console->admin, &plan, console);
    gather->number = id;
    gather_send(gather);
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

/* ---- the table */

static const struct console_command commands[] = {
    {"SHOW", ARGUMENT_MUST, false, show, NULL},
    {"SELECT", ARGUMENT_MUST, false, show, NULL},
    {"SET", ARGUMENT_MUST, false, set, "SET key = value"},
    {"RELOAD", ARGUMENT_NONE, true, reload, "RELOAD"},
    {"PAUSE", ARGUMENT_MAY, true, pause_command, "PAUSE [DATABASE]"},
    {"RESUME", ARGUMENT_MAY, true, resume, "RESUME [DATABASE]"},
    {"RECONNECT", ARGUMENT_MAY, true, reconnect, "RECONNECT [DATABASE]"},
    {"KILL_CLIENT", ARGUMENT_MAY, true, kill_client, "KILL_CLIENT ID"},
    {"SHUTDOWN", ARGUMENT_MAY, true, shut_down, "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]"},
};

static void show_help(struct console *console) {
    struct buf detail = {0};
    buf_append_text(&detail, "\n\tSHOW HELP");
    for (size_t i = 0; i < view_count(); i++)
        buf_append_format(&detail, "%s%s", i % 6 == 5 ? "\n\tSHOW " : "|", view_at(i)->name);
    buf_append_text(&detail, "\n\tSHOW ROUTE [DATABASE] 'SQL'");
    for (size_t i = 0; i < COUNT(commands); i++)
        if (commands[i].usage != NULL) buf_append_format(&detail, "\n\t%s", commands[i].usage);
    fault_notice_write(&console->out, "Console usage", buf_text(&detail));
    buf_release(&detail);
    console_complete(console, "SHOW");
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
    if (row->run == show) return is_showable(command);
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
