/*
 * The console as a conversation: login, one command after the other, the end; see admin/admin.h.
 * What the commands are stands in commands.c.
 *
 *      idle --query--> busy --console_complete, _fault, _error--> idle
 *
 * While it is busy, or while the client does not read, up to CONSOLE_QUEUE_MAX further queries
 * wait. A client that goes away leaves a busy console behind, which is freed with its answer.
 */
#include "console.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "proto/message.h"
#include "proto/startup.h"
#include "rows.h"

#define COMMAND_COMPLETE 'C'

static void console_free(struct console *console) {
    list_remove(&console->admin->consoles, &console->link);
    loop_not_at_end(console->admin->workers[0].loop, &console->hook);
    while (console->queue_count > 0) {
        memory_free(console->queue[console->queue_first]);
        console->queue_first = (console->queue_first + 1) % CONSOLE_QUEUE_MAX;
        console->queue_count--;
    }
    command_release(&console->command);
    if (console->subject != NULL) database_release(console->subject);
    buf_release(&console->out);
    memory_free(console);
}

void console_free_all(struct admin *admin) {
    for (struct link *l = list_first(&admin->consoles); l != NULL; l = list_first(&admin->consoles))
        console_free(LIST_OWNER(l, struct console, link));
}

/* ---- answers */

void console_send(struct console *console, struct buf *more) {
    buf_append_bytes(&console->out, buf_content(more));
    buf_clear(more);
    if (console->client == NULL) {
        buf_clear(&console->out);
        return;
    }
    log_flush();
    stream_write_bytes(&console->client->stream, buf_content(&console->out));
    buf_clear(&console->out);
}

unsigned console_groups(const struct console *console) {
    bool is_own = console->client != NULL && strcmp(console->client->database->at, "weir") == 0;
    bool is_old = console->admin->config->console_old_columns;
    return (is_own ? (unsigned)COLUMN_OWN : 0u) | (is_old ? (unsigned)COLUMN_OLD : 0u);
}

/* Sends the answer. Lines of the log go first: what the answer tells has then been logged. */
static void end(struct console *console) {
    console->is_busy = console->is_pausing = console->is_cancelled = console->is_polling = false;
    command_release(&console->command);
    if (console->subject != NULL) database_release(console->subject);
    console->subject = NULL;
    if (console->client == NULL) {
        console_free(console);
        return;
    }
    struct buf ready = {0};
    message_write_ready_for_query(&ready, 'I');
    console_send(console, &ready);
    buf_release(&ready);
    buf_release(&console->out);
    if (console->queue_count > 0) loop_at_end(console->admin->workers[0].loop, &console->hook);
}

void console_complete(struct console *console, const char *tag) {
    buf_append_u8(&console->out, COMMAND_COMPLETE);
    buf_append_u32(&console->out, (uint32_t)(4 + strlen(tag) + 1));
    buf_append_text0(&console->out, tag);
    end(console);
}

static void log_error(const struct console *console, const char *text) {
    struct admin *admin = console->admin;
    admin->workers[0].clients->faults[FAULT_COUNTER_CONSOLE]++;
    log_line(LOG_LEVEL_ERROR, "%s", text);
    if (console->client != NULL && admin->config->log_pooler_errors)
        client_log(console->client, LOG_LEVEL_WARNING, "pooler error: %s", text);
}

void console_fault(struct console *console, enum fault_id fault, const char *argument) {
    struct buf text = {0};
    fault_append_text(&text, fault, argument);
    log_error(console, buf_text(&text));
    buf_release(&text);
    buf_clear(&console->out);
    fault_write(&console->out, fault, argument);
    end(console);
}

void console_error(struct console *console, const char *message) {
    struct fault_fields fields = {.severity = bytes_of_text("ERROR"),
                                  .message = bytes_of_text(message)};
    log_error(console, message);
    buf_clear(&console->out);
    fault_write_custom(&console->out, &fields);
    end(console);
}

/* ---- queries */

static void run(struct console *console, const char *text) {
    console->is_busy = true;
    console->client->request_us = loop_now_us(console->admin->workers[0].loop);
    /* Counted at its beginning: SHOW TOTALS counts itself, as PgBouncer's does. Bytes and times
     * are those of clients with servers. */
    struct stats_values *stats = &console->admin->console_stats;
    stats->queries++;
    stats->transactions++;
    enum fault_id fault = command_parse(text, &console->command);
    if (fault == FAULT_NONE) {
        command_run(console, text);
    } else {
        console_fault(console, fault, text);
    }
}

static bool may_run(const struct console *console) {
    return !console->is_busy && stream_queued(&console->client->stream) <= STREAM_HIGH_BYTES;
}

static void run_queue(struct console *console) {
    while (console->queue_count > 0 && may_run(console)) {
        char *text = console->queue[console->queue_first];
        console->queue_first = (console->queue_first + 1) % CONSOLE_QUEUE_MAX;
        console->queue_count--;
        run(console, text);
        memory_free(text);
    }
}

static void on_end_of_turn(struct loop_hook *hook) {
    struct console *console = LIST_OWNER(hook, struct console, hook);
    if (console->client != NULL) run_queue(console);
}

void admin_console_query(struct admin *admin, struct client *client, const char *text) {
    struct console *console = client->console;
    CHECK(console != NULL && console->admin == admin);
    if (console->queue_count == 0 && may_run(console)) {
        run(console, text);
        return;
    }
    if (console->queue_count == CONSOLE_QUEUE_MAX) {
        client_fail(client, FAULT_OUT_OF_SYNC, "Too many console commands came at once.");
        return;
    }
    unsigned last = (console->queue_first + console->queue_count) % CONSOLE_QUEUE_MAX;
    console->queue[last] = memory_copy_text(text);
    console->queue_count++;
}

void console_tick(struct admin *admin) {
    LIST_EACH (&admin->consoles, l) {
        struct console *console = LIST_OWNER(l, struct console, link);
        if (console->client != NULL) run_queue(console);
    }
}

/* ---- login and end */

static void write_welcome(struct client *client) {
    static const char *const parameters[][2] = {
        {"server_version", PGBOUNCER_VERSION "/bouncer"},
        {"client_encoding", "UTF8"},
        {"server_encoding", "UTF8"},
        {"DateStyle", "ISO"},
        {"TimeZone", "GMT"},
        {"standard_conforming_strings", "on"},
        {"is_superuser", "on"},
    };
    struct buf out = {0};
    message_write_authentication_ok(&out);
    for (size_t i = 0; i < COUNT(parameters); i++)
        message_write_parameter_status(&out, bytes_of_text(parameters[i][0]),
                                       bytes_of_text(parameters[i][1]));
    message_write_backend_key_data(&out, bytes_get_u32(client->key),
                                   bytes_get_u32(client->key + 4));
    message_write_ready_for_query(&out, 'I');
    log_flush();
    stream_write_bytes(&client->stream, buf_content(&out));
    buf_release(&out);
}

bool admin_console_login(struct admin *admin, struct client *client, bool is_local_owner) {
    struct bytes user = bytes_of_text(client->user->at);
    bool is_admin = is_local_owner || setting_list_has(&admin->config->admin_users, user);
    bool is_stats = admin->config->auth_type == AUTH_TYPE_ANY ||
                    setting_list_has(&admin->config->stats_users, user);
    if (!is_admin && !is_stats) return false;
    struct console *console = memory_new(sizeof *console);
    console->admin = admin;
    console->client = client;
    console->hook.run = on_end_of_turn;
    list_append(&admin->consoles, &console->link);
    client->console = console;
    client->is_admin = is_admin;
    admin->console_stats.client_logins++;
    write_welcome(client);
    return true;
}

void admin_console_cancel(struct admin *admin, struct client *client) {
    struct console *console = client->console;
    if (console == NULL || !console->is_pausing || console->is_cancelled) return;
    console->is_cancelled = true;
    (void)admin->ops.resume(admin->ops.owner, console->subject);
}

void admin_console_left(struct admin *admin, struct client *client) {
    (void)admin;
    struct console *console = client->console;
    if (console == NULL) return;
    client->console = NULL;
    console->client = NULL;
    if (!console->is_busy) console_free(console);
}
