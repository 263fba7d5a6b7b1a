/*
 * Scripted clients; see application.h.
 *
 * ParameterStatus may come at other places than the model's, since servers behind a pooler report
 * what they were told for others; what counts is that, whenever all is answered, the client has
 * been told the values that its session has.
 */
#include "application.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/fault.h"
#include "proto/message.h"
#include "proto/startup.h"
#include "speech.h"
#include "trace.h"

#define STARTUP_WORDS_MAX 8

static const struct postgres_rules model_rules;

void application_init(struct application *application, char letter, struct buf *failure) {
    *application = (struct application){.letter = letter, .failure = failure, .is_reading = true};
    postgres_init(&application->model, &model_rules, true);
}

void application_release(struct application *application) {
    postgres_release(&application->model);
    scram_client_release(&application->scram);
    buf_release(&application->sending);
    buf_release(&application->received);
    if (application->wire != NULL) wire_free(&application->wire);
}

void application_fail(struct application *application, const char *format, ...) {
    if (buf_length(application->failure) > 0) return;
    va_list list;
    va_start(list, format);
    buf_append_format(application->failure, "client %c: ", application->letter);
    buf_append_format_list(application->failure, format, list);
    va_end(list);
}

/* ---- saying */

static void send(struct application *application, struct bytes bytes) {
    buf_append_bytes(&application->sending, bytes);
    postgres_feed(&application->model, bytes);
    (void)postgres_work(&application->model);
}

void application_login(struct application *application, struct wire *wire, const char *words) {
    struct startup_parameter parameters[STARTUP_WORDS_MAX];
    size_t count = 0;
    struct buf packet = {0};
    application->wire = wire;
    application->state = APPLICATION_LOGIN;
    parameters[count++] = (struct startup_parameter){bytes_of_text("user"), bytes_of_text("app")};
    parameters[count++] =
        (struct startup_parameter){bytes_of_text("database"), bytes_of_text("db")};
    for (const char *at = words; *at != '\0';) {
        size_t len = strcspn(at, " ");
        const char *equals = memchr(at, '=', len);
        if (equals != NULL) {
            CHECK(count < STARTUP_WORDS_MAX);
            parameters[count++] =
                (struct startup_parameter){bytes_of(at, (size_t)(equals - at)),
                                           bytes_of(equals + 1, (size_t)(at + len - equals - 1))};
        } else if (len > 0) {
            CHECK(len < sizeof application->password);
            memcpy(application->password, at, len);
        }
        at += len + strspn(at + len, " ");
    }
    message_write_startup(&packet, parameters, count);
    send(application, buf_content(&packet));
    buf_release(&packet);
}

void application_say(struct application *application, const char *words) {
    struct buf out = {0};
    struct speech speech = {.letter = application->letter, .tokens = &application->tokens};
    speech_write(&speech, words, &out);
    application->asked += speech.asked;
    if (speech.has_quit) application->has_left = true;
    trace_message(application->letter, "says", buf_content(&out));
    send(application, buf_content(&out));
    buf_release(&out);
}

/* ---- logging in */

static void answer_sasl(struct application *application, uint32_t code, struct bytes data) {
    struct buf answer = {0};
    struct buf message = {0};
    struct bytes password = bytes_of_text(application->password);
    if (password.len == 0) {
        application_fail(application, "it was asked for a password");
        return;
    }
    if (code == 10) {
        scram_client_begin(&application->scram, password, NULL, NULL, &answer);
        message_write_sasl_initial_response(&message, SCRAM_NAME, buf_content(&answer));
    } else if (scram_client_message(&application->scram, data, &answer) == SCRAM_MORE) {
        message_write_sasl_response(&message, buf_content(&answer));
    }
    buf_append_bytes(&application->sending, buf_content(&message));
    buf_release(&answer);
    buf_release(&message);
}

static void note_parameter(struct application *application, struct bytes body) {
    struct bytes name, value, rest;
    if (!message_text(body, &name, &rest) || !message_text(rest, &value, &rest)) {
        application_fail(application, "a ParameterStatus is malformed");
        return;
    }
    int index = postgres_parameter(name);
    if (index < 0 || value.len >= POSTGRES_VALUE_SIZE) return;
    memcpy(application->values[index], value.at, value.len);
    application->values[index][value.len] = '\0';
}

/* What the client was told its parameters are, against what they are in its session. */
static void compare_parameters(struct application *application) {
    const struct postgres *model = &application->model;
    for (int i = 0; i < POSTGRES_PARAMETERS; i++) {
        if (strcmp(application->values[i], model->reported[i]) == 0) continue;
        application_fail(application, "it was told that %s is '%s', and it is '%s'",
                         postgres_parameters[i], application->values[i], model->reported[i]);
    }
}

/* An error of a server's own, in whose text the client's token is. */
static void check_cancel(struct application *application, const struct fault_fields *fields) {
    if (bytes_equal_text(fields->sqlstate, "57014") && !application->has_cancelled &&
        memchr(fields->message.at, '@', fields->message.len) != NULL)
        application_fail(application, "a query was cancelled that nobody asked to cancel");
}

static void note_surprise(struct application *application, struct bytes body) {
    struct fault_fields fields = {0};
    (void)fault_read(body, &fields);
    check_cancel(application, &fields);
    size_t len = fields.sqlstate.len < 5 ? fields.sqlstate.len : 5;
    memcpy(application->surprise, fields.sqlstate.at, len);
    application->surprise[len] = '\0';
    application->surprises++;
    application->skips_to_ready = true;
    if (application->is_rough) application->is_loose = true;
}

static void on_login(struct application *application, char type, struct bytes body) {
    switch (type) {
    case 'R':
        if (bytes_get_u32(body.at) >= 10)
            answer_sasl(application, bytes_get_u32(body.at), bytes_of(body.at + 4, body.len - 4));
        break;
    case 'S':
        note_parameter(application, body);
        break;
    case 'K':
        application->pid = bytes_get_u32(body.at);
        application->secret = bytes_get_u32(body.at + 4);
        break;
    case 'Z':
        application->state = APPLICATION_READY;
        /* It may have gone on already, and the model with it. */
        if (application->model.readies == 1) compare_parameters(application);
        break;
    case 'E':
        note_surprise(application, body);
        break;
    default:
        application_fail(application, "'%c' came during the login", type);
        break;
    }
}

/* ---- judging answers */

/* No token of another client may ever come here. */
static void check_tokens(struct application *application, struct bytes message) {
    const char *at = message.at;
    if (strchr("DdEN", message.at[0]) == NULL) return;
    const char *end = message.at + message.len;
    while ((at = memchr(at, '@', (size_t)(end - at))) != NULL) {
        at++;
        if (at < end && *at == application->letter) continue;
        application_fail(application, "it got an answer that is another client's");
        return;
    }
}

/* The model's next message; ParameterStatus is passed over. Empty if there is none. */
static struct bytes next_expected(struct application *application) {
    struct buf *out = &application->model.out;
    while (buf_length(out) > 0) {
        struct bytes content = buf_content(out);
        uint32_t length = message_length(content.at);
        if (content.at[0] != 'S') return bytes_of(content.at, length);
        buf_consume(out, length);
    }
    return bytes_of("", 0);
}

/* The rest of what the model says up to its ReadyForQuery will not come. */
static void drop_group(struct application *application) {
    postgres_abandon(&application->model);
    (void)postgres_work(&application->model);
    for (;;) {
        struct bytes expected = next_expected(application);
        if (expected.len == 0) return;
        char type = expected.at[0];
        buf_consume(&application->model.out, expected.len);
        if (type == 'Z') return;
    }
}

static bool same_error(struct bytes a, struct bytes b) {
    struct fault_fields x = {0}, y = {0};
    (void)fault_read(bytes_of(a.at + MESSAGE_HEAD_BYTES, a.len - MESSAGE_HEAD_BYTES), &x);
    (void)fault_read(bytes_of(b.at + MESSAGE_HEAD_BYTES, b.len - MESSAGE_HEAD_BYTES), &y);
    return bytes_equal(x.sqlstate, y.sqlstate);
}

static void fail_mismatch(struct application *application, struct bytes message,
                          struct bytes expected) {
    struct buf got = {0}, wanted = {0};
    trace_describe(&got, message);
    trace_describe(&wanted, expected);
    application_fail(application, "got <%s> instead of <%s>", buf_text(&got), buf_text(&wanted));
    buf_release(&got);
    buf_release(&wanted);
}

static void judge_loosely(struct application *application, struct bytes message) {
    struct fault_fields fields = {0};
    if (message.at[0] == 'Z') application->skips_to_ready = false;
    if (message.at[0] != 'E') return;
    struct bytes body = bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES);
    if (!fault_read(body, &fields)) application_fail(application, "an error is malformed");
    check_cancel(application, &fields);
}

static void judge(struct application *application, struct bytes message) {
    struct bytes expected = next_expected(application);
    bool is_same = message.at[0] == 'E' && expected.len > 0 && expected.at[0] == 'E'
                       ? same_error(message, expected)
                       : bytes_equal(message, expected);
    if (application->skips_to_ready && message.at[0] == 'Z') {
        application->skips_to_ready = false;
        drop_group(application);
    } else if (is_same && !application->skips_to_ready) {
        buf_consume(&application->model.out, expected.len);
        if (message.at[0] == 'Z' && next_expected(application).len == 0 &&
            application->model.state == POSTGRES_READY && buf_length(&application->model.held) == 0)
            compare_parameters(application);
    } else if (message.at[0] == 'E' && !application->skips_to_ready) {
        note_surprise(application,
                      bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES));
    } else {
        fail_mismatch(application, message, expected);
    }
}

/* query_wait_notify: whoever waits long is told so, between two answers. */
static bool is_wait_notice(char type, struct bytes body) {
    struct fault_fields fields = {0};
    if (type != 'N' || !fault_read(body, &fields)) return false;
    return bytes_equal_text(
        fields.message, "No server connection available in postgres backend, client being queued");
}

static void on_message(struct application *application, struct bytes message) {
    char type = message.at[0];
    struct bytes body = bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES);
    const struct message_row *row = &message_replies[(unsigned char)type];
    if (row->name == NULL || message.len - 1 < row->length_min) {
        fail_mismatch(application, message, next_expected(application));
        return;
    }
    trace_message(application->letter, "got", message);
    if (application->state == APPLICATION_LOGIN) {
        on_login(application, type, body);
        return;
    }
    if (is_wait_notice(type, body)) return;
    check_tokens(application, message);
    if (type == 'Z' && ++application->readies > application->asked)
        application_fail(application, "one ReadyForQuery too many came");
    if (type == 'S') {
        note_parameter(application, body);
    } else if (application->is_loose) {
        judge_loosely(application, message);
    } else {
        judge(application, message);
    }
}

/* ---- moving bytes */

static bool push(struct application *application) {
    struct buf *sending = &application->sending;
    size_t n = wire_send(application->wire, buf_content(sending));
    buf_consume(sending, n);
    return n > 0;
}

static bool pull(struct application *application) {
    struct bytes received = wire_received(application->wire);
    if (!application->is_reading || received.len == 0) return false;
    buf_append_bytes(&application->received, received);
    buf_clear(&application->wire->outward);
    for (;;) {
        struct bytes rest = buf_content(&application->received);
        if (rest.len < MESSAGE_HEAD_BYTES || buf_length(application->failure) > 0) return true;
        uint32_t length = message_length(rest.at);
        if (length == 0 || message_replies[(unsigned char)rest.at[0]].name == NULL) {
            fail_mismatch(application, rest, next_expected(application));
            return true;
        }
        if (rest.len < length) return true;
        on_message(application, bytes_of(rest.at, length));
        buf_consume(&application->received, length);
    }
}

/* A socket that refuses may swallow the last words. */
static void end(struct application *application) {
    application->state = APPLICATION_ENDED;
    bool is_told = application->has_left || application->surprises > 0 || application->is_rough;
    if (is_told) return;
    if (application->wire->mood == WIRE_PARTIAL || application->wire->mood == WIRE_TLS) {
        application->surprises++;
    } else {
        application_fail(application, "its connection was closed without a word");
    }
}

bool application_work(struct application *application) {
    if (application->state == APPLICATION_NEW || application->state == APPLICATION_ENDED)
        return false;
    bool has_moved = push(application);
    if (pull(application)) has_moved = true;
    if (application->wire->is_closed && wire_received(application->wire).len == 0) {
        end(application);
        has_moved = true;
    }
    return has_moved;
}

bool application_is_quiet(const struct application *application) {
    if (application->state == APPLICATION_NEW || application->state == APPLICATION_ENDED)
        return true;
    if (application->state == APPLICATION_LOGIN || application->has_left) return false;
    if (buf_length(&application->sending) > 0 || application->skips_to_ready) return false;
    if (application->is_loose) return true;
    return buf_length(&application->model.out) == 0 && application->model.state == POSTGRES_READY;
}
