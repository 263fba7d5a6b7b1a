/*
 * First packets and login messages; see proto/startup.h.
 *
 * StartupMessage, the only first packet of any length:
 *
 *      Int32 length | Int16 major, Int16 minor | { String name, String value } ... | Byte1 0
 *
 * The three requests put a code in the place of the version whose high half is 1234, a version
 * that will never be.
 */
#include "proto/startup.h"

#include "core/check.h"

#include <stdio.h>

#define CODE_CANCEL 80877102u
#define CODE_SSL    80877103u
#define CODE_GSS    80877104u

#define PROTOCOL_3 (3u << 16)

#define CANCEL_LENGTH  16u
#define REQUEST_LENGTH 8u

#define PROTOCOL_OPTION_PREFIX "_pq_."

#define SCRAM_NAME "SCRAM-SHA-256"

enum fault_id startup_length(struct bytes head, uint32_t *length) {
    *length = 0;
    if (head.len > 0 && head.at[0] == 'p') return FAULT_PASSWORD_TOO_EARLY;
    /* No packet is as long as 2^16, so that one byte is enough to know a stranger. */
    if (head.len > 0 && head.at[0] != '\0') return FAULT_BAD_PACKET_HEADER;
    if (head.len < 4) return FAULT_NONE;
    uint32_t given = bytes_get_u32(head.at);
    if (given < STARTUP_LENGTH_MIN || given > STARTUP_LENGTH_MAX) return FAULT_STARTUP_LENGTH;
    *length = given;
    return FAULT_NONE;
}

void startup_header_hex(char text[STARTUP_HEX_SIZE], struct bytes head) {
    static const char digits[] = "0123456789abcdef";
    size_t len = head.len < 8 ? head.len : 8;
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[(unsigned char)head.at[i] >> 4];
        text[2 * i + 1] = digits[(unsigned char)head.at[i] & 15];
    }
    text[2 * len] = '\0';
}

static enum startup_kind bad(struct startup *startup, enum fault_id fault) {
    startup->fault = fault;
    return STARTUP_BAD;
}

/* PgBouncer shows the first bytes of what it cannot take for a packet. */
static enum startup_kind bad_header(struct startup *startup, enum fault_id fault,
                                    struct bytes packet) {
    startup_header_hex(startup->argument, packet);
    return bad(startup, fault);
}

/* Copies what fits; it is for an error's text only. */
static void set_argument(struct startup *startup, struct bytes value) {
    size_t len = value.len < sizeof startup->argument ? value.len : sizeof startup->argument - 1;
    if (len > 0) memcpy(startup->argument, value.at, len);
    startup->argument[len] = '\0';
}

/* Takes a NUL-terminated text off the front; false if it does not end. */
static bool take_text(struct bytes *rest, struct bytes *text) {
    const char *end = rest->len == 0 ? NULL : memchr(rest->at, '\0', rest->len);
    if (end == NULL) return false;
    *text = bytes_of(rest->at, (size_t)(end - rest->at));
    *rest = bytes_of(end + 1, rest->len - text->len - 1);
    return true;
}

static enum fault_id set_replication(struct startup *startup, struct bytes value) {
    static const struct {
        const char *word;
        enum startup_replication replication;
    } words[] = {
        {"database", STARTUP_REPLICATION_LOGICAL}, {"true", STARTUP_REPLICATION_PHYSICAL},
        {"on", STARTUP_REPLICATION_PHYSICAL},      {"yes", STARTUP_REPLICATION_PHYSICAL},
        {"1", STARTUP_REPLICATION_PHYSICAL},       {"false", STARTUP_REPLICATION_NONE},
        {"off", STARTUP_REPLICATION_NONE},         {"no", STARTUP_REPLICATION_NONE},
        {"0", STARTUP_REPLICATION_NONE},
    };
    for (size_t i = 0; i < COUNT(words); i++) {
        if (!bytes_equal_nocase(value, words[i].word)) continue;
        startup->replication = words[i].replication;
        return FAULT_NONE;
    }
    set_argument(startup, value);
    return FAULT_REPLICATION_VALUE;
}

static enum fault_id too_many(struct startup *startup, unsigned limit) {
    (void)snprintf(startup->argument, sizeof startup->argument, "%u", limit);
    return FAULT_STARTUP_TOO_MANY;
}

static enum fault_id add_protocol_option(struct startup *startup, struct bytes name) {
    if (startup->protocol_options_count == STARTUP_PROTOCOL_OPTIONS_MAX)
        return too_many(startup, STARTUP_PROTOCOL_OPTIONS_MAX);
    startup->protocol_options[startup->protocol_options_count++] = name;
    return FAULT_NONE;
}

static enum fault_id add_parameter(struct startup *startup, struct bytes name, struct bytes value) {
    unsigned i = 0;
    /* The view's NUL behind it makes it a text. */
    while (i < startup->parameters_count &&
           !bytes_equal_nocase(startup->parameters[i].name, name.at))
        i++;
    if (i == STARTUP_PARAMETERS_MAX) return too_many(startup, STARTUP_PARAMETERS_MAX);
    startup->parameters[i] = (struct startup_parameter){name, value};
    if (i == startup->parameters_count) startup->parameters_count++;
    return FAULT_NONE;
}

/* The names that PostgreSQL itself looks at, as it does with their case counting, go to fields of
 * their own. */
static enum fault_id set_parameter(struct startup *startup, struct bytes name, struct bytes value) {
    if (bytes_equal_text(name, "user")) {
        startup->user = value;
    } else if (bytes_equal_text(name, "database")) {
        startup->database = value;
    } else if (bytes_equal_text(name, "options")) {
        startup->options = value;
    } else if (bytes_equal_text(name, "replication")) {
        return set_replication(startup, value);
    } else if (strncmp(name.at, PROTOCOL_OPTION_PREFIX, strlen(PROTOCOL_OPTION_PREFIX)) == 0) {
        return add_protocol_option(startup, name);
    } else {
        return add_parameter(startup, name, value);
    }
    return FAULT_NONE;
}

static enum fault_id parse_login(struct startup *startup, struct bytes rest) {
    struct bytes name;
    struct bytes value;
    for (;;) {
        if (!take_text(&rest, &name)) return FAULT_STARTUP_LAYOUT;
        if (name.len == 0) break; /* the terminator */
        if (!take_text(&rest, &value)) return FAULT_STARTUP_LAYOUT;
        enum fault_id fault = set_parameter(startup, name, value);
        if (fault != FAULT_NONE) return fault;
    }
    if (rest.len > 0) return FAULT_STARTUP_LAYOUT;
    if (startup->database.len == 0) startup->database = startup->user;
    return FAULT_NONE;
}

/* One of the requests, whose length is fixed. */
static enum startup_kind parse_request(struct startup *startup, struct bytes packet,
                                       enum startup_kind kind) {
    size_t length = kind == STARTUP_CANCEL ? CANCEL_LENGTH : REQUEST_LENGTH;
    if (packet.len != length && kind == STARTUP_CANCEL) return STARTUP_CANCEL_BAD;
    if (packet.len != length) return bad_header(startup, FAULT_STARTUP_LENGTH, packet);
    if (kind == STARTUP_CANCEL) {
        startup->cancel_pid = bytes_get_u32(packet.at + 8);
        startup->cancel_secret = bytes_get_u32(packet.at + 12);
    }
    return kind;
}

enum startup_kind startup_parse(struct bytes packet, struct startup *startup) {
    *startup = (struct startup){.fault = FAULT_NONE};
    uint32_t length;
    enum fault_id fault = startup_length(packet, &length);
    if (fault != FAULT_NONE) return bad_header(startup, fault, packet);
    if (length == 0 || length != packet.len)
        return bad_header(startup, FAULT_STARTUP_LENGTH, packet);
    uint32_t code = bytes_get_u32(packet.at + 4);
    if (code == CODE_SSL) return parse_request(startup, packet, STARTUP_SSL_REQUEST);
    if (code == CODE_GSS) return parse_request(startup, packet, STARTUP_GSS_REQUEST);
    if (code == CODE_CANCEL) return parse_request(startup, packet, STARTUP_CANCEL);
    if (code >> 16 == 2) return bad(startup, FAULT_PROTOCOL_2);
    if (code >> 16 != 3) return bad_header(startup, FAULT_PROTOCOL_UNSUPPORTED, packet);
    startup->minor = code & 0xFFFF;
    startup->fault = parse_login(startup, bytes_of(packet.at + 8, packet.len - 8));
    return STARTUP_LOGIN;
}

bool startup_needs_negotiation(const struct startup *startup) {
    return startup->minor > 0 || startup->protocol_options_count > 0;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Puts the next word, its escapes resolved, into options->word; false if there is none. */
static bool next_word(struct startup_options *options) {
    struct bytes *rest = &options->rest;
    size_t at = 0;
    while (at < rest->len && is_space(rest->at[at])) at++;
    if (at == rest->len) return false;
    buf_clear(&options->word);
    for (; at < rest->len && !is_space(rest->at[at]); at++) {
        if (rest->at[at] == '\\' && ++at == rest->len) break;
        buf_append(&options->word, rest->at + at, 1);
    }
    *rest = bytes_of(rest->at + at, rest->len - at);
    return true;
}

enum startup_option startup_option_next(struct startup_options *options,
                                        struct startup_parameter *option) {
    if (!next_word(options)) return STARTUP_OPTION_END;
    struct bytes word = buf_content(&options->word);
    if (word.len < 2 || word.at[0] != '-' || (word.at[1] != 'c' && word.at[1] != '-'))
        return STARTUP_OPTION_BAD;
    if (word.len > 2) {
        buf_consume(&options->word, 2);
    } else if (word.at[1] == '-' || !next_word(options)) {
        return STARTUP_OPTION_BAD;
    }
    word = buf_content(&options->word);
    const char *equals = word.len == 0 ? NULL : memchr(word.at, '=', word.len);
    if (equals == NULL || equals == word.at) return STARTUP_OPTION_BAD;
    size_t name_len = (size_t)(equals - word.at);
    char *name = options->word.memory + options->word.start;
    for (size_t i = 0; i < name_len; i++) {
        if (name[i] == '-') name[i] = '_';
    }
    option->name = bytes_of(word.at, name_len);
    option->value = bytes_of(equals + 1, word.len - name_len - 1);
    return STARTUP_OPTION_FOUND;
}

void startup_options_release(struct startup_options *options) {
    buf_release(&options->word);
    options->rest = bytes_of(NULL, 0);
}

/* Type and length; `body` is what follows the length word. */
static void write_head(struct buf *out, char type, size_t body) {
    buf_append_u8(out, (unsigned char)type);
    buf_append_u32(out, (uint32_t)(body + 4));
}

/* A text that came as a view, with its NUL. */
static void write_text(struct buf *out, struct bytes text) {
    CHECK(text.len == 0 || memchr(text.at, '\0', text.len) == NULL);
    buf_append_bytes(out, text);
    buf_append_u8(out, 0);
}

void message_write_negotiate(struct buf *out, const struct startup *startup) {
    size_t body = 8;
    for (unsigned i = 0; i < startup->protocol_options_count; i++)
        body += startup->protocol_options[i].len + 1;
    write_head(out, 'v', body);
    buf_append_u32(out, PROTOCOL_3);
    buf_append_u32(out, startup->protocol_options_count);
    for (unsigned i = 0; i < startup->protocol_options_count; i++)
        write_text(out, startup->protocol_options[i]);
}

enum authentication {
    AUTHENTICATION_OK = 0,
    AUTHENTICATION_CLEARTEXT = 3,
    AUTHENTICATION_MD5 = 5,
    AUTHENTICATION_SASL = 10,
    AUTHENTICATION_SASL_CONTINUE = 11,
    AUTHENTICATION_SASL_FINAL = 12
};

static void write_authentication(struct buf *out, enum authentication code, struct bytes data) {
    write_head(out, 'R', 4 + data.len);
    buf_append_u32(out, code);
    buf_append_bytes(out, data);
}

void message_write_authentication_ok(struct buf *out) {
    write_authentication(out, AUTHENTICATION_OK, bytes_of(NULL, 0));
}

void message_write_authentication_cleartext(struct buf *out) {
    write_authentication(out, AUTHENTICATION_CLEARTEXT, bytes_of(NULL, 0));
}

void message_write_authentication_md5(struct buf *out, const char salt[4]) {
    write_authentication(out, AUTHENTICATION_MD5, bytes_of(salt, 4));
}

void message_write_authentication_sasl(struct buf *out, bool has_plus) {
    /* The list of names ends in an empty one: the NUL of the array behind the one in the text. */
    static const char plus[] = SCRAM_NAME "-PLUS";
    static const char names[] = SCRAM_NAME "\0";
    struct buf list = {0};
    if (has_plus) buf_append(&list, plus, sizeof plus);
    buf_append(&list, names, sizeof names);
    write_authentication(out, AUTHENTICATION_SASL, buf_content(&list));
    buf_release(&list);
}

void message_write_sasl_continue(struct buf *out, struct bytes data) {
    write_authentication(out, AUTHENTICATION_SASL_CONTINUE, data);
}

void message_write_sasl_final(struct buf *out, struct bytes data) {
    write_authentication(out, AUTHENTICATION_SASL_FINAL, data);
}

void message_write_parameter_status(struct buf *out, struct bytes name, struct bytes value) {
    write_head(out, 'S', name.len + value.len + 2);
    write_text(out, name);
    write_text(out, value);
}

void message_write_backend_key_data(struct buf *out, uint32_t pid, uint32_t secret) {
    write_head(out, 'K', 8);
    buf_append_u32(out, pid);
    buf_append_u32(out, secret);
}

void message_write_ready_for_query(struct buf *out, char status) {
    CHECK(status == 'I' || status == 'T' || status == 'E');
    write_head(out, 'Z', 1);
    buf_append_u8(out, (unsigned char)status);
}

void message_write_startup(struct buf *out, const struct startup_parameter *parameters,
                           size_t count) {
    size_t length = 4 + 4 + 1;
    for (size_t i = 0; i < count; i++)
        length += parameters[i].name.len + parameters[i].value.len + 2;
    buf_append_u32(out, (uint32_t)length);
    buf_append_u32(out, PROTOCOL_3);
    for (size_t i = 0; i < count; i++) {
        write_text(out, parameters[i].name);
        write_text(out, parameters[i].value);
    }
    buf_append_u8(out, 0);
}

void message_write_ssl_request(struct buf *out) {
    buf_append_u32(out, REQUEST_LENGTH);
    buf_append_u32(out, CODE_SSL);
}

void message_write_cancel_request(struct buf *out, uint32_t pid, uint32_t secret) {
    buf_append_u32(out, CANCEL_LENGTH);
    buf_append_u32(out, CODE_CANCEL);
    buf_append_u32(out, pid);
    buf_append_u32(out, secret);
}

void message_write_password(struct buf *out, struct bytes password) {
    write_head(out, 'p', password.len + 1);
    write_text(out, password);
}

void message_write_sasl_initial_response(struct buf *out, const char *mechanism,
                                         struct bytes data) {
    write_head(out, 'p', strlen(mechanism) + 1 + 4 + data.len);
    buf_append_text0(out, mechanism);
    buf_append_u32(out, (uint32_t)data.len);
    buf_append_bytes(out, data);
}

void message_write_sasl_response(struct buf *out, struct bytes data) {
    write_head(out, 'p', data.len);
    buf_append_bytes(out, data);
}
