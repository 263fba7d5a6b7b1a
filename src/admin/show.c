/*
 * SHOW: which of the sources of a view's rows is asked, and how the answer is put together. What
 * the views are stands in views.c.
 */
#include "commands.h"
#include "gather.h"
#include "views.h"
#include "walk.h"

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

bool show_is_driver_setting(const char *name) {
    return driver_setting_find(name) != NULL;
}

static void show_rows(struct console *console, struct rows *rows) {
    rows_describe(&console->out, rows);
    buf_append_bytes(&console->out, buf_content(&rows->out));
    buf_release(&rows->out);
    console_complete(console, "SHOW");
}

static void show_driver_setting(struct console *console, const struct driver_setting *setting) {
    const struct column column = {setting->name, COLUMN_TEXT};
    struct rows rows;
    rows_init(&rows, &column, 1, 0);
    rows_begin(&rows);
    rows_text(&rows, setting->value);
    rows_end(&rows);
    show_rows(console, &rows);
}

static void write_view(struct console *console, const struct view *view,
                       const struct census *census) {
    struct rows rows;
    rows_init(&rows, view->columns, view->columns_count, console_groups(console));
    struct view_context context = {console->admin, census, &rows};
    view->write(&context);
    show_rows(console, &rows);
}

static void count_part(struct gather_part *part) {
    const struct view *view = part->gather->subject;
    gather_census(part);
    if (view->take != NULL) view->take(&part->census, part->worker);
}

static void on_counted(struct gather *gather) {
    write_view(gather->owner, gather->subject, gather_merge(gather));
}

static void show_by_census(struct console *console, const struct view *view) {
    static const struct gather_plan plan = {count_part, on_counted};
    struct gather *gather = gather_new(console->admin, &plan, console);
    gather->subject = view;
    gather_send(gather);
}

static void show_view(struct console *console, const struct view *view) {
    if (view->is_admin_only && !console->client->is_admin) {
        console_fault(console, FAULT_CONSOLE_ADMIN_NEEDED, NULL);
        return;
    }
    switch (view->source) {
    case VIEW_OWN:
        write_view(console, view, NULL);
        break;
    case VIEW_CENSUS:
        show_by_census(console, view);
        break;
    case VIEW_WALK:
        walk_start(console, view);
        break;
    }
}

static void show_route(struct console *console) {
    const struct command *command = &console->command;
    struct rows rows;
    const char *name = command->has_argument ? command->argument : NULL;
    if (view_route(console->admin, name, buf_content(&command->sql), &rows)) {
        show_rows(console, &rows);
    } else {
        console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    }
}

static void show_help(struct console *console) {
    struct buf detail = {0};
    buf_append_text(&detail, "\n\tSHOW HELP");
    for (size_t i = 0; i < view_count(); i++)
        buf_append_format(&detail, "%s%s", i % 6 == 5 ? "\n\tSHOW " : "|", view_at(i)->name);
    buf_append_text(&detail, "\n\tSHOW ROUTE [DATABASE] 'SQL'");
    command_append_usage(&detail);
    fault_notice_write(&console->out, "Console usage", buf_text(&detail));
    buf_release(&detail);
    console_complete(console, "SHOW");
}

void command_show(struct console *console) {
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

bool show_is_known(const struct command *command) {
    return command->form == COMMAND_ROUTE || view_find(command->argument) != NULL ||
           driver_setting_find(command->argument) != NULL ||
           bytes_equal_nocase(bytes_of_text(command->argument), "help");
}
