/*
 * The commands that are about a database or about all of them: PAUSE, SUSPEND, RESUME, DISABLE,
 * ENABLE, RECONNECT, WAIT_CLOSE and KILL. The order of their checks is PgBouncer's, and so is the
 * point at which the line "command issued" is written.
 */
#include "commands.h"
#include "core/log.h"
#include "gather.h"

/* ---- what the argument names */

static bool names_console(const struct console *console) {
    return console->command.has_argument &&
           config_is_console(console->admin->config, bytes_of_text(console->command.argument));
}

/* Whether the argument names the console itself, to which `verb` cannot be done: then answered. */
static bool refused_console(struct console *console, const char *verb) {
    if (!names_console(console)) return false;
    struct buf text = {0};
    buf_append_format(&text, "%s admin db: %s", verb, console->command.argument);
    console_fault(console, FAULT_CONSOLE_ADMIN_DATABASE, buf_text(&text));
    buf_release(&text);
    return true;
}

/* Finds the database that the argument names, made from `*` if need be, for console->subject, which
 * holds it to the command's end. False if there is none, with the console answered. */
static bool named_database(struct console *console) {
    struct admin *admin = console->admin;
    const char *name = console->command.argument;
    if (!console->command.has_argument) return true;
    console->subject = databases_hold(admin->databases, admin->config, bytes_of_text(name));
    if (console->subject == NULL) console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    return console->subject != NULL;
}

/* Whether there is such a database without making one from `*`. It may be one that nobody has
 * used yet, for which *database is NULL. */
static bool is_known(const struct console *console, struct database **database) {
    const struct admin *admin = console->admin;
    struct bytes name = bytes_of_text(console->command.argument);
    *database = databases_find(admin->databases, name);
    return *database != NULL || names_console(console) || config_is_listed(admin->config, name);
}

/* Whether all is paused already: then answered. */
static bool refused_paused(struct console *console) {
    const struct pool_set *pools = console->admin->workers[0].pools;
    if (!pools->is_paused && !pools->is_suspended) return false;
    console_fault(console, FAULT_CONSOLE_PAUSED, NULL);
    return true;
}

/* ---- PAUSE and RESUME */

static void on_paused(void *context) {
    struct console *console = context;
    if (console->is_cancelled) {
        console_fault(console, FAULT_CANCELED, NULL);
    } else {
        console_complete(console, "PAUSE");
    }
}

void command_pause(struct console *console) {
    struct admin *admin = console->admin;
    if (refused_paused(console)) return;
    command_log(console, "PAUSE");
    if (refused_console(console, "pause") || !named_database(console)) return;
    console->is_pausing = true;
    admin->ops.pause(admin->ops.owner, console->subject, on_paused, console);
}

static void note_paused(void *owner, struct database *database) {
    bool *is_any_paused = owner;
    if (atomic_load(&database->is_paused)) *is_any_paused = true;
}

static void on_suspended(void *context) {
    struct console *console = context;
    if (console->is_cancelled) {
        console_fault(console, FAULT_CANCELED, NULL);
    } else {
        console_complete(console, "SUSPEND");
    }
}

void command_suspend(struct console *console) {
    struct admin *admin = console->admin;
    bool is_any_paused = false;
    if (refused_paused(console)) return;
    databases_each(admin->databases, note_paused, &is_any_paused);
    if (is_any_paused) {
        console_fault(console, FAULT_CONSOLE_SUSPEND, NULL);
        return;
    }
    command_log(console, "SUSPEND");
    console->is_pausing = true;
    admin->ops.suspend(admin->ops.owner, on_suspended, console);
}

static void resume_database(struct console *console) {
    struct admin *admin = console->admin;
    const char *name = console->command.argument;
    struct database *database;
    if (!is_known(console, &database)) {
        console_fault(console, FAULT_CONSOLE_NO_DATABASE, name);
    } else if (database == NULL || !admin->ops.resume(admin->ops.owner, database)) {
        console_fault(console, FAULT_CONSOLE_DATABASE_NOT_PAUSED, name);
    } else {
        console_complete(console, "RESUME");
    }
}

void command_resume(struct console *console) {
    struct admin *admin = console->admin;
    command_log(console, "RESUME");
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

/* ---- DISABLE and ENABLE */

/* Whether the command has no database: then answered. */
static bool refused_missing(struct console *console) {
    if (console->command.has_argument) return false;
    console_fault(console, FAULT_CONSOLE_DATABASE_MISSING, NULL);
    return true;
}

void command_disable(struct console *console) {
    if (refused_missing(console)) return;
    command_log(console, "DISABLE");
    if (refused_console(console, "disable") || !named_database(console)) return;
    atomic_store(&console->subject->is_disabled, true);
    console_complete(console, "DISABLE");
}

void command_enable(struct console *console) {
    struct database *database;
    if (refused_missing(console)) return;
    command_log(console, "ENABLE");
    if (refused_console(console, "enable")) return;
    if (!is_known(console, &database)) {
        console_fault(console, FAULT_CONSOLE_NO_DATABASE, console->command.argument);
        return;
    }
    if (database != NULL) atomic_store(&database->is_disabled, false);
    console_complete(console, "ENABLE");
}

/* ---- RECONNECT and WAIT_CLOSE */

typedef void visit_fn(struct gather_part *part, struct server *server);

static void visit_node(struct gather_part *part, struct pool_node *node, visit_fn *visit) {
    for (unsigned state = 0; state < SERVER_CLOSED; state++) {
        LIST_EACH_SAFE (&node->servers[state], l, following) {
            visit(part, LIST_OWNER(l, struct server, link));
        }
    }
}

/* Visits the servers of a gather's subject, a database or NULL for all. The visitor may close. */
static void each_server(struct gather_part *part, visit_fn *visit) {
    const struct database *database = part->gather->subject;
    LIST_EACH (&part->worker->pools->all, l) {
        struct pool *pool = LIST_OWNER(l, struct pool, link);
        if (database != NULL && pool->database != database) continue;
        for (size_t i = 0; i < pool->nodes_count; i++) visit_node(part, pool->nodes[i], visit);
        LIST_EACH (&pool->old_nodes, old) {
            visit_node(part, LIST_OWNER(old, struct pool_node, old), visit);
        }
    }
}

static void start_gather(struct console *console, const struct gather_plan *plan) {
    struct gather *gather = gather_new(console->admin, plan, console);
    gather->subject = console->subject;
    gather_send(gather);
}

static void mark_server(struct gather_part *part, struct server *server) {
    (void)part;
    pool_replace(server);
}

static void mark_part(struct gather_part *part) {
    each_server(part, mark_server);
}

static void on_marked(struct gather *gather) {
    console_complete(gather->owner, "RECONNECT");
}

/* Whoever logs in from now on is told the parameters of new servers. */
static void forget_greeting(void *subject, struct database *database) {
    if (subject == NULL || subject == database) atomic_fetch_add(&database->reconnects, 1);
}

void command_reconnect(struct console *console) {
    static const struct gather_plan plan = {mark_part, on_marked};
    command_log(console, "RECONNECT");
    if (refused_console(console, "reconnect") || !named_database(console)) return;
    databases_each(console->admin->databases, forget_greeting, console->subject);
    start_gather(console, &plan);
}

static void count_marked(struct gather_part *part, struct server *server) {
    if (!pool_server_stays(server)) part->found++;
}

static void count_part(struct gather_part *part) {
    each_server(part, count_marked);
}

static void on_marked_counted(struct gather *gather) {
    struct console *console = gather->owner;
    uint32_t found = 0;
    for (unsigned i = 0; i < gather->count; i++) found += gather->parts[i].found;
    if (found == 0 || console->client == NULL) {
        console_complete(console, "WAIT_CLOSE");
    } else {
        console->is_polling = true;
    }
}

static const struct gather_plan wait_plan = {count_part, on_marked_counted};

void command_wait_close(struct console *console) {
    command_log(console, "WAIT_CLOSE");
    if (refused_console(console, "wait in") || !named_database(console)) return;
    start_gather(console, &wait_plan);
}

void control_tick(struct admin *admin) {
    LIST_EACH (&admin->consoles, l) {
        struct console *console = LIST_OWNER(l, struct console, link);
        if (!console->is_polling) continue;
        console->is_polling = false;
        start_gather(console, &wait_plan);
    }
}

/* ---- KILL */

static void close_server(struct gather_part *part, struct server *server) {
    (void)part;
    server_close_for(server, FAULT_DATABASE_REMOVED);
}

static void kill_part(struct gather_part *part) {
    client_set_close_database(part->worker->clients, part->gather->subject, FAULT_DATABASE_REMOVED);
    each_server(part, close_server);
}

static void on_killed(struct gather *gather) {
    console_complete(gather->owner, "KILL");
}

static void nothing(void *context) {
    (void)context;
}

/* The pause comes first, so that nobody gets a server between it and the end of his own. */
void command_kill(struct console *console) {
    static const struct gather_plan plan = {kill_part, on_killed};
    struct admin *admin = console->admin;
    if (refused_paused(console)) return;
    command_log(console, "KILL");
    if (refused_console(console, "kill") || !named_database(console)) return;
    admin->ops.pause(admin->ops.owner, console->subject, nothing, NULL);
    start_gather(console, &plan);
}
