/*
 * The protocol side of the scripted backend; see postgres.h and PostgreSQL's manual, chapter 55.
 *
 * Replies of the extended protocol are held until a Sync, a Flush or an error sends them off, as
 * PostgreSQL does. After an error everything up to the next Sync is dropped; while a COPY IN runs,
 * Sync and Flush are dropped.
 */
#include "postgres.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/message.h"
#include "proto/startup.h"
#include "trace.h"

const char *const postgres_parameters[POSTGRES_PARAMETERS] = {
    "server_version",   "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings",
    "application_name",
};

static const char *const defaults[POSTGRES_PARAMETERS] = {"15.0", "UTF8", "ISO", "UTC", "on", ""};

int postgres_parameter(struct bytes name) {
    for (int i = 0; i < POSTGRES_PARAMETERS; i++) {
        if (bytes_equal_nocase(name, postgres_parameters[i])) return i;
    }
    return -1;
}

void postgres_init(struct postgres *postgres, const struct postgres_rules *rules, bool is_model) {
    static uint32_t last_pid = 1000;
    *postgres = (struct postgres){.rules = rules, .is_model = is_model, .transaction = 'I'};
    postgres->pid = ++last_pid;
    postgres->secret = postgres->pid * 2654435761u;
    for (int i = 0; i < POSTGRES_PARAMETERS; i++)
        memcpy(postgres->values[i], defaults[i], strlen(defaults[i]) + 1);
}

static void clear_name(struct postgres_name *name) {
    memory_free(name->name);
    memory_free(name->text);
    memory_free(name->value);
    *name = (struct postgres_name){0};
}

void postgres_forget(struct postgres_name names[POSTGRES_NAMES_MAX], bool is_unnamed_kept) {
    for (size_t i = 0; i < POSTGRES_NAMES_MAX; i++) {
        if (is_unnamed_kept && names[i].name != NULL && names[i].name[0] == '\0') continue;
        clear_name(&names[i]);
    }
}

static struct postgres_name *find(struct postgres_name names[POSTGRES_NAMES_MAX],
                                  struct bytes name) {
    for (size_t i = 0; i < POSTGRES_NAMES_MAX; i++) {
        if (names[i].name != NULL && bytes_equal_text(name, names[i].name)) return &names[i];
    }
    return NULL;
}

bool postgres_forget_one(struct postgres_name names[POSTGRES_NAMES_MAX], struct bytes name) {
    struct postgres_name *found = find(names, name);
    if (found == NULL) return false;
    clear_name(found);
    return true;
}

void postgres_release(struct postgres *postgres) {
    postgres_forget(postgres->statements, false);
    postgres_forget(postgres->portals, false);
    scram_server_release(&postgres->scram);
    buf_release(&postgres->in);
    buf_release(&postgres->held);
    buf_release(&postgres->out);
    buf_release(&postgres->query);
    buf_release(&postgres->running);
}

/* ---- replies */

void postgres_reply(struct postgres *postgres, char type, struct bytes body) {
    buf_append_u8(&postgres->held, (unsigned char)type);
    buf_append_u32(&postgres->held, (uint32_t)(4 + body.len));
    buf_append_bytes(&postgres->held, body);
    if (!postgres->is_model) trace_message('#', "answers", bytes_of(&type, 1));
}

void postgres_reply_text(struct postgres *postgres, char type, const char *text) {
    postgres_reply(postgres, type, bytes_of(text, strlen(text) + 1));
}

void postgres_flush(struct postgres *postgres) {
    buf_append_bytes(&postgres->out, buf_content(&postgres->held));
    buf_clear(&postgres->held);
}

void postgres_error(struct postgres *postgres, const char *severity, const char *sqlstate,
                    struct bytes message) {
    struct buf body = {0};
    buf_append_format(&body, "S%s", severity);
    buf_append_u8(&body, 0);
    buf_append_format(&body, "V%s", severity);
    buf_append_u8(&body, 0);
    buf_append_format(&body, "C%s", sqlstate);
    buf_append_u8(&body, 0);
    buf_append_u8(&body, 'M');
    buf_append_bytes(&body, message);
    buf_append(&body, "\0\0", 2);
    postgres_reply(postgres, 'E', buf_content(&body));
    buf_release(&body);
    postgres_flush(postgres);
    if (postgres->transaction == 'T') postgres->transaction = 'E';
}

static void report_parameters(struct postgres *postgres) {
    for (int i = 0; i < POSTGRES_PARAMETERS; i++) {
        if (strcmp(postgres->values[i], postgres->reported[i]) == 0) continue;
        struct buf body = {0};
        buf_append_text0(&body, postgres_parameters[i]);
        buf_append_text0(&body, postgres->values[i]);
        postgres_reply(postgres, 'S', buf_content(&body));
        buf_release(&body);
        memcpy(postgres->reported[i], postgres->values[i], POSTGRES_VALUE_SIZE);
    }
}

static void ready(struct postgres *postgres) {
    report_parameters(postgres);
    postgres_reply(postgres, 'Z', bytes_of(&postgres->transaction, 1));
    postgres->readies++;
    if (postgres->transaction == 'I') postgres_forget(postgres->portals, false);
    postgres_flush(postgres);
}

/* ---- login */

static void welcome(struct postgres *postgres) {
    struct buf key = {0};
    memcpy(postgres->at_login, postgres->values, sizeof postgres->values);
    postgres_reply(postgres, 'R', bytes_of("\0\0\0\0", 4));
    for (int i = 0; i < POSTGRES_PARAMETERS; i++) postgres->reported[i][0] = '\1';
    report_parameters(postgres);
    buf_append_u32(&key, postgres->pid);
    buf_append_u32(&key, postgres->secret);
    postgres_reply(postgres, 'K', buf_content(&key));
    buf_release(&key);
    postgres->state = POSTGRES_READY;
    ready(postgres);
    if (postgres->is_model) buf_clear(&postgres->out); /* how logins look is no model's business */
}

static void begin_login(struct postgres *postgres) {
    const struct postgres_rules *rules = postgres->rules;
    static const unsigned char salt[SCRAM_SALT_BYTES] = "0123456789abcde";
    if (rules->login_error != NULL && !postgres->is_model) {
        postgres_error(postgres, "FATAL", rules->login_error, bytes_of_text("login refused"));
        postgres->state = POSTGRES_ENDED;
    } else if (rules->password == NULL || postgres->is_model) {
        welcome(postgres);
    } else {
        struct scram_verifier verifier;
        scram_verifier_derive(&verifier, bytes_of_text(rules->password), 1, salt);
        scram_server_begin(&postgres->scram, &verifier, NULL);
        message_write_authentication_sasl(&postgres->out, false);
        postgres->state = POSTGRES_PASSWORD;
    }
}

static void take_parameters(struct postgres *postgres, struct bytes rest) {
    struct bytes name, value;
    while (message_text(rest, &name, &rest) && name.len > 0) {
        CHECK(message_text(rest, &value, &rest) && value.len < POSTGRES_VALUE_SIZE);
        int index = postgres_parameter(name);
        if (index < 0) continue;
        memcpy(postgres->values[index], value.at, value.len);
        postgres->values[index][value.len] = '\0';
    }
}

static bool read_startup(struct postgres *postgres) {
    struct bytes in = buf_content(&postgres->in);
    if (in.len < 8 || in.len < bytes_get_u32(in.at)) return false;
    uint32_t length = bytes_get_u32(in.at);
    uint32_t code = bytes_get_u32(in.at + 4);
    if (code == 80877102) {
        postgres->is_cancel_request = true;
        postgres->pid = bytes_get_u32(in.at + 8);
        postgres->secret = bytes_get_u32(in.at + 12);
        postgres->state = POSTGRES_ENDED;
    } else if (code == 80877103) {
        buf_append_text(&postgres->out, "S");
    } else {
        CHECK(code == 196608);
        take_parameters(postgres, bytes_of(in.at + 8, length - 8));
        begin_login(postgres);
    }
    buf_consume(&postgres->in, length);
    return true;
}

static void on_password(struct postgres *postgres, struct bytes body) {
    struct buf answer = {0};
    struct bytes name;
    if (postgres->scram.state == SCRAM_STATE_FIRST) {
        CHECK(message_text(body, &name, &body) && body.len > 4);
        body = bytes_of(body.at + 4, body.len - 4);
    }
    enum scram_result result = scram_server_message(&postgres->scram, body, &answer);
    if (result == SCRAM_MORE) {
        message_write_sasl_continue(&postgres->out, buf_content(&answer));
    } else if (result == SCRAM_DONE) {
        message_write_sasl_final(&postgres->out, buf_content(&answer));
        welcome(postgres);
    } else {
        postgres_error(postgres, "FATAL", "28P01", bytes_of_text("wrong password"));
        postgres->state = POSTGRES_ENDED;
    }
    buf_release(&answer);
}

/* ---- simple queries */

static void simple_on(struct postgres *postgres) {
    enum postgres_outcome outcome = POSTGRES_DONE;
    while (buf_length(&postgres->query) > 0 && outcome == POSTGRES_DONE) {
        struct bytes query = buf_content(&postgres->query);
        const char *semicolon = memchr(query.at, ';', query.len);
        size_t len = semicolon == NULL ? query.len : (size_t)(semicolon - query.at);
        char *text = memory_copy(query.at, len);
        buf_consume(&postgres->query, semicolon == NULL ? len : len + 1);
        outcome = postgres_run(postgres, bytes_of(text, len), NULL, 0);
        memory_free(text);
    }
    if (outcome == POSTGRES_GOES_ON) return;
    buf_clear(&postgres->query);
    postgres->is_simple = false;
    ready(postgres);
}

static void on_query(struct postgres *postgres, struct bytes body) {
    struct bytes text, rest;
    CHECK(message_text(body, &text, &rest));
    postgres->is_simple = true;
    buf_clear(&postgres->query);
    if (text.len == 0) (void)postgres_run(postgres, text, NULL, 0);
    buf_append_bytes(&postgres->query, text);
    simple_on(postgres);
}

/* ---- the extended protocol */

static struct postgres_name *add(struct postgres_name names[POSTGRES_NAMES_MAX],
                                 struct bytes name) {
    for (size_t i = 0; i < POSTGRES_NAMES_MAX; i++) {
        if (names[i].name != NULL) continue;
        names[i].name = memory_copy(name.at, name.len);
        return &names[i];
    }
    check_failed("the script uses too many names", __FILE__, __LINE__);
    return NULL;
}

static void fail(struct postgres *postgres, const char *sqlstate, struct bytes message) {
    postgres_error(postgres, "ERROR", sqlstate, message);
    postgres->is_skipping = true;
}

static void count_statements(struct postgres *postgres) {
    unsigned count = 0;
    for (size_t i = 0; i < POSTGRES_NAMES_MAX; i++)
        count += postgres->statements[i].name != NULL && postgres->statements[i].name[0] != '\0';
    unsigned max = postgres->rules->statements_max;
    if (!postgres->is_model && max > 0 && count > max)
        postgres->trouble = "a server has more prepared statements than it may";
}

static void on_parse(struct postgres *postgres, struct bytes body) {
    struct bytes name, text, rest;
    CHECK(message_text(body, &name, &rest) && message_text(rest, &text, &rest));
    struct postgres_name *old = find(postgres->statements, name);
    if (old != NULL && name.len > 0) {
        fail(postgres, "42P05", name);
        return;
    }
    if (old != NULL) clear_name(old);
    add(postgres->statements, name)->text = memory_copy(text.at, text.len);
    count_statements(postgres);
    postgres_reply(postgres, '1', bytes_of("", 0));
}

static void on_bind(struct postgres *postgres, struct bytes body) {
    struct bytes portal, name, rest;
    CHECK(message_text(body, &portal, &rest) && message_text(rest, &name, &rest));
    struct postgres_name *statement = find(postgres->statements, name);
    struct postgres_name *old = find(postgres->portals, portal);
    if (statement == NULL) {
        fail(postgres, "26000", name);
        return;
    }
    if (old != NULL) clear_name(old);
    struct postgres_name *new = add(postgres->portals, portal);
    /* No formats; then the count of values, and the first one. */
    CHECK(rest.len >= 4 && bytes_get_u16(rest.at) == 0);
    size_t len = bytes_get_u16(rest.at + 2) == 0 ? 0 : bytes_get_u32(rest.at + 4);
    new->text = memory_copy_text(statement->text);
    new->value = memory_copy(rest.at + 8, len);
    postgres_reply(postgres, '2', bytes_of("", 0));
}

static void on_describe(struct postgres *postgres, struct bytes body) {
    struct bytes name, rest;
    CHECK(message_text(bytes_of(body.at + 1, body.len - 1), &name, &rest));
    bool is_statement = body.at[0] == 'S';
    struct postgres_name *found =
        find(is_statement ? postgres->statements : postgres->portals, name);
    if (found == NULL) {
        fail(postgres, is_statement ? "26000" : "34000", name);
        return;
    }
    if (is_statement) postgres_reply(postgres, 't', bytes_of("\0\0", 2));
    if (postgres_has_rows(bytes_of_text(found->text))) {
        postgres_reply_columns(postgres);
    } else {
        postgres_reply(postgres, 'n', bytes_of("", 0));
    }
}

static void on_execute(struct postgres *postgres, struct bytes body) {
    struct bytes name, rest;
    CHECK(message_text(body, &name, &rest) && rest.len == 4);
    struct postgres_name *portal = find(postgres->portals, name);
    if (portal == NULL) {
        fail(postgres, "34000", name);
        return;
    }
    char *text = memory_copy_text(portal->text);
    enum postgres_outcome outcome =
        postgres_run(postgres, bytes_of_text(text), portal, bytes_get_u32(rest.at));
    memory_free(text);
    if (outcome == POSTGRES_FAILED) postgres->is_skipping = true;
}

static void on_close(struct postgres *postgres, struct bytes body) {
    struct bytes name, rest;
    CHECK(message_text(bytes_of(body.at + 1, body.len - 1), &name, &rest));
    struct postgres_name *found =
        find(body.at[0] == 'S' ? postgres->statements : postgres->portals, name);
    if (found != NULL) clear_name(found);
    postgres_reply(postgres, '3', bytes_of("", 0));
}

/* ---- what goes on */

/* What ran on is over: the rest of its Query comes next, or the next message. */
static void end_running(struct postgres *postgres, bool has_failed) {
    postgres->state = POSTGRES_READY;
    if (has_failed) {
        buf_clear(&postgres->query);
        postgres->is_skipping = !postgres->is_simple;
    }
    if (postgres->is_simple) simple_on(postgres);
}

static void on_copy(struct postgres *postgres, char type, struct bytes body) {
    struct bytes token = buf_content(&postgres->running);
    char tag[] = "COPY 1";
    if (type == 'd' && !postgres->is_copy_bad) {
        postgres->copied += body.len;
    } else if (type == 'd' || type == 'f') {
        postgres_error(postgres, "ERROR", type == 'd' ? "22P04" : "22P05", token);
        end_running(postgres, true);
    } else if (type == 'c') {
        postgres_reply_text(postgres, 'C', tag);
        end_running(postgres, false);
    } else if (type != 'S' && type != 'H') {
        postgres_error(postgres, "ERROR", "08P01", token);
        end_running(postgres, true);
    }
}

void postgres_cancel(struct postgres *postgres) {
    if (postgres->state == POSTGRES_SLEEPING) postgres_abandon(postgres);
}

void postgres_abandon(struct postgres *postgres) {
    if (postgres->state != POSTGRES_SLEEPING && postgres->state != POSTGRES_COPYING) return;
    postgres_error(postgres, "ERROR", "57014", buf_content(&postgres->running));
    end_running(postgres, true);
}

/* ---- messages */

/* The BEGIN that was held back fails now: that is the answer to what follows it. */
static void fail_begin(struct postgres *postgres, char type) {
    postgres->is_begun_badly = false;
    postgres->transaction = 'I';
    fail(postgres, "25001", bytes_of_text("deferrable"));
    if (type != 'Q') return;
    postgres->is_skipping = false;
    ready(postgres);
}

static void on_message(struct postgres *postgres, char type, struct bytes body) {
    if (type == 'X') {
        postgres->state = POSTGRES_ENDED;
    } else if (postgres->state == POSTGRES_PASSWORD) {
        on_password(postgres, body);
    } else if (postgres->state == POSTGRES_COPYING) {
        on_copy(postgres, type, body);
    } else if (type == 'S') {
        postgres->is_skipping = false;
        ready(postgres);
    } else if (type == 'H') {
        postgres_flush(postgres);
    } else if (postgres->is_skipping || type == 'd' || type == 'c' || type == 'f') {
        return; /* dropped */
    } else if (postgres->is_begun_badly && type != 'B' && type != 'D' && type != 'E') {
        fail_begin(postgres, type);
    } else if (type == 'Q') {
        on_query(postgres, body);
    } else if (type == 'P') {
        on_parse(postgres, body);
    } else if (type == 'B') {
        on_bind(postgres, body);
    } else if (type == 'D') {
        on_describe(postgres, body);
    } else if (type == 'E') {
        on_execute(postgres, body);
    } else if (type == 'C') {
        on_close(postgres, body);
    } else {
        postgres->trouble = "a server was sent a message of an unknown type";
    }
}

static bool read_message(struct postgres *postgres) {
    struct bytes in = buf_content(&postgres->in);
    if (in.len < MESSAGE_HEAD_BYTES) return false;
    uint32_t length = message_length(in.at);
    CHECK(length > 0);
    if (in.len < length) return false;
    char *message = memory_copy(in.at, length);
    buf_consume(&postgres->in, length);
    if (!postgres->is_model) trace_message('#', "reads", bytes_of(message, length));
    on_message(postgres, message[0],
               bytes_of(message + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES));
    memory_free(message);
    return true;
}

void postgres_feed(struct postgres *postgres, struct bytes bytes) {
    buf_append_bytes(&postgres->in, bytes);
}

bool postgres_work(struct postgres *postgres) {
    bool has_worked = false;
    if (postgres->state == POSTGRES_SLEEPING && postgres->sleep_turns > 0) {
        has_worked = true;
        if (--postgres->sleep_turns == 0) {
            postgres_wake(postgres);
            end_running(postgres, false);
        }
    }
    for (;;) {
        bool is_full = !postgres->is_model && buf_length(&postgres->out) > POSTGRES_OUT_BYTES_HIGH;
        bool is_at_work = postgres->state == POSTGRES_SLEEPING || postgres->state == POSTGRES_ENDED;
        if (is_full || is_at_work) return has_worked;
        bool was_read =
            postgres->state == POSTGRES_STARTUP ? read_startup(postgres) : read_message(postgres);
        if (!was_read) return has_worked;
        has_worked = true;
    }
}
