/*
 * Logging in to PostgreSQL; the manual, section 55.2.1.
 *
 *      dialled -> StartupMessage -> [password or SASL exchange] -> AuthenticationOk
 *              -> ParameterStatus..., BackendKeyData -> ReadyForQuery -> [connect_query]: done
 *
 * One row for each authentication request says what to answer. The messages of a login are small,
 * so each is read whole, up to LOGIN_MESSAGE_BYTES. The secret is looked up when it is asked for:
 * the database entry's password, else one that PAM or LDAP has let a client in with, else the
 * user's own. A plain one serves every method, an MD5 hash the MD5 challenge, and for SCRAM there
 * may be keys that a client of the pool has proved.
 */
#include "auth/scram.h"
#include "auth/users.h"
#include "config/effective.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/tls.h"
#include "pool/pool.h"
#include "pool/secrets.h"
#include "proto/message.h"
#include "proto/startup.h"

#define LOGIN_MESSAGE_BYTES 131072u

struct server_login {
    struct buf input;
    struct buf greeting; /* ParameterStatus messages as they came */
    struct scram_client scram;
    bool is_scram;
    bool is_authenticated;
    bool is_connect_query_sent;
};

enum authentication {
    AUTHENTICATION_OK = 0,
    AUTHENTICATION_CLEARTEXT = 3,
    AUTHENTICATION_MD5 = 5,
    AUTHENTICATION_SASL = 10,
    AUTHENTICATION_SASL_CONTINUE = 11,
    AUTHENTICATION_SASL_FINAL = 12
};

static const struct config_database *entry_of(const struct server *server) {
    struct pool *pool = server->pool;
    return config_database(pool->set->config, bytes_of_text(pool->database->name));
}

static void send_and_wipe(struct server *server, struct buf *out) {
    stream_write_bytes(&server->stream, buf_content(out));
    memory_wipe(out->memory, out->size);
    buf_release(out);
}

/* What a session asks for, as its text has it. */
static size_t count_start(const struct server *server) {
    size_t count = 0;
    for (size_t i = 0; server->start != NULL && i < server->start->len; i++) {
        if (server->start->at[i] == '\0') count++;
    }
    return count / 2;
}

static size_t add_start(const struct server *server, struct startup_parameter *parameters) {
    if (server->start == NULL) return 0;
    struct bytes rest = bytes_of(server->start->at, server->start->len), name, value;
    size_t count = 0;
    while (message_text(rest, &name, &rest) && message_text(rest, &value, &rest))
        parameters[count++] = (struct startup_parameter){name, value};
    return count;
}

/* What the borrower of a server of its own asks for; PostgreSQL takes the last of two values. */
static size_t add_own(const struct server *server, struct startup_parameter *parameters) {
    const struct pool_set *set = server->pool->set;
    const struct server_own *own = server->reserved->own;
    size_t count = 0;
    bool is_logical = own->replication == STARTUP_REPLICATION_LOGICAL;
    parameters[count++] = (struct startup_parameter){
        bytes_of_text("replication"), bytes_of_text(is_logical ? "database" : "true")};
    if (own->options.len > 0)
        parameters[count++] = (struct startup_parameter){bytes_of_text("options"), own->options};
    for (unsigned i = 0; i < set->tracked_count; i++) {
        const struct text *value = own->parameters[i];
        if (value == NULL) continue;
        parameters[count++] = (struct startup_parameter){bytes_of_text(set->tracked[i]),
                                                         bytes_of(value->at, value->len)};
    }
    return count;
}

struct server_login *server_login_begin(struct server *server) {
    struct server_login *login = memory_new(sizeof *login);
    const struct config_database *entry = entry_of(server);
    struct bytes name = bytes_of_text(server->pool->database->name);
    size_t room = 8 + SERVER_PARAMETERS_MAX + count_start(server);
    struct startup_parameter *parameters = memory_new(room * sizeof *parameters);
    size_t count = 0;
    parameters[count++] =
        (struct startup_parameter){bytes_of_text("user"), bytes_of_text(server->pool->user)};
    parameters[count++] =
        (struct startup_parameter){bytes_of_text("database"), config_dbname(entry, name)};
    const struct {
        const char *parameter;
        const char *value;
    } optional[] = {{"client_encoding", entry->client_encoding},
                    {"datestyle", entry->datestyle},
                    {"timezone", entry->timezone},
                    {"application_name", entry->application_name}};
    for (size_t i = 0; i < COUNT(optional); i++) {
        if (optional[i].value == NULL) continue;
        parameters[count++] = (struct startup_parameter){bytes_of_text(optional[i].parameter),
                                                         bytes_of_text(optional[i].value)};
    }
    if (server->is_own && !server->is_listener) count += add_own(server, parameters + count);
    count += add_start(server, parameters + count);
    CHECK(count <= room);
    struct buf out = {0};
    message_write_startup(&out, parameters, count);
    memory_free(parameters);
    send_and_wipe(server, &out);
    return login;
}

void server_login_free(struct server_login **login_at) {
    struct server_login *login = *login_at;
    if (login == NULL) return;
    *login_at = NULL;
    if (login->is_scram) scram_client_release(&login->scram);
    buf_release(&login->input);
    buf_release(&login->greeting);
    memory_free(login);
}

static void fail(struct server *server, const char *message) {
    struct fault_fields fields = {.severity = bytes_of_text("FATAL"),
                                  .sqlstate = bytes_of_text("08P01"),
                                  .message = bytes_of_text(message)};
    server_login_failed(server, &fields);
}

/* The secret to log in with, of whatever kind; empty if there is none. */
static struct bytes secret_of(const struct server *server) {
    const struct config_database *entry = entry_of(server);
    if (entry->user != NULL && entry->password != NULL) return bytes_of_text(entry->password);
    if (server->pool->password != NULL) return bytes_of_text(server->pool->password);
    const struct user *user = pool_login(server->pool);
    return user == NULL ? bytes_of("", 0) : user->secret;
}

/* The same, where it is a plain one. */
static struct bytes password_of(const struct server *server) {
    struct bytes secret = secret_of(server);
    return users_secret_kind(secret) == USER_SECRET_PLAIN ? secret : bytes_of("", 0);
}

static bool answer_cleartext(struct server *server, struct bytes body) {
    (void)body;
    struct bytes secret = password_of(server);
    if (secret.len == 0) {
        fail(server, "server login failed: wrong password type");
        return false;
    }
    struct buf out = {0};
    message_write_password(&out, secret);
    send_and_wipe(server, &out);
    return true;
}

static bool answer_md5(struct server *server, struct bytes body) {
    char answer[MD5_SECRET_LEN + 1];
    struct bytes secret = secret_of(server);
    if (body.len != MD5_SALT_BYTES) {
        fail(server, "server login failed: malformed MD5 challenge");
        return false;
    }
    if (!users_md5_answer(bytes_of_text(server->pool->user), secret, body.at, answer)) {
        fail(server, "server login failed: wrong password type");
        return false;
    }
    struct buf out = {0};
    message_write_password(&out, bytes_of(answer, MD5_SECRET_LEN));
    send_and_wipe(server, &out);
    return true;
}

/* Over TLS the exchange is bound to the server's certificate wherever the server can do it: `hash`
 * takes that of the certificate. */
static struct scram_channel channel_of(const struct server *server, struct bytes mechanisms,
                                       unsigned char hash[TLS_END_POINT_BYTES_MAX]) {
    const struct tls *tls = stream_tls(&server->stream);
    struct scram_channel channel = {.is_tls = tls != NULL};
    if (tls == NULL || !scram_is_offered(mechanisms, SCRAM_NAME_PLUS)) return channel;
    channel.end_point = bytes_of((const char *)hash, tls_server_end_point(tls, hash));
    channel.is_plus = channel.end_point.len > 0;
    return channel;
}

static bool answer_sasl(struct server *server, struct bytes body) {
    struct server_login *login = server->login;
    struct bytes secret = password_of(server);
    bool has_keys = secret.len > 0 || server->pool->scram.iterations > 0;
    unsigned char hash[TLS_END_POINT_BYTES_MAX];
    const struct scram_channel channel = channel_of(server, body, hash);
    const char *mechanism = channel.is_plus ? SCRAM_NAME_PLUS : SCRAM_NAME;
    if (login->is_scram || !scram_is_offered(body, mechanism) || !has_keys) {
        fail(server, "server login failed: wrong password type");
        return false;
    }
    struct buf data = {0};
    struct buf out = {0};
    login->is_scram = true;
    scram_client_begin(&login->scram, secret, &server->pool->scram, &channel, &data);
    message_write_sasl_initial_response(&out, mechanism, buf_content(&data));
    buf_release(&data);
    send_and_wipe(server, &out);
    return true;
}

static bool answer_scram(struct server *server, struct bytes body) {
    struct server_login *login = server->login;
    if (!login->is_scram) {
        fail(server, "server login failed: SASL message out of turn");
        return false;
    }
    struct buf data = {0};
    enum scram_result result = scram_client_message(&login->scram, body, &data);
    if (result == SCRAM_FAILED) {
        fail(server, login->scram.reason);
        buf_release(&data);
        return false;
    }
    if (result == SCRAM_MORE) {
        struct buf out = {0};
        message_write_sasl_response(&out, buf_content(&data));
        send_and_wipe(server, &out);
    }
    buf_release(&data);
    return true;
}

static bool accept_ok(struct server *server, struct bytes body) {
    (void)body;
    struct server_login *login = server->login;
    /* A server that skips its own proof may be an impostor with our nonce. */
    if (login->is_scram && login->scram.state != SCRAM_STATE_OVER) {
        fail(server, "server login failed: the server did not prove that it knows the password");
        return false;
    }
    login->is_authenticated = true;
    return true;
}

static const struct {
    uint32_t code;
    bool (*answer)(struct server *server, struct bytes body);
} answers[] = {
    {AUTHENTICATION_OK, accept_ok},
    {AUTHENTICATION_CLEARTEXT, answer_cleartext},
    {AUTHENTICATION_MD5, answer_md5},
    {AUTHENTICATION_SASL, answer_sasl},
    {AUTHENTICATION_SASL_CONTINUE, answer_scram},
    {AUTHENTICATION_SASL_FINAL, answer_scram},
};

static bool on_authentication(struct server *server, struct bytes body) {
    uint32_t code = bytes_get_u32(body.at);
    for (size_t i = 0; i < COUNT(answers); i++) {
        if (answers[i].code == code)
            return answers[i].answer(server, bytes_of(body.at + 4, body.len - 4));
    }
    fail(server, "server login failed: it asks for an authentication method that is not supported");
    return false;
}

/* ---- connect_query */

static void send_query(struct server *server, const char *text) {
    struct buf out = {0};
    buf_append_u8(&out, 'Q');
    buf_append_u32(&out, (uint32_t)(4 + strlen(text) + 1));
    buf_append_text0(&out, text);
    send_and_wipe(server, &out);
}

/* The login is done, but for connect_query, and for what that may have left open. True if there is
 * something to wait for. */
static bool runs_connect_query(struct server *server) {
    struct server_login *login = server->login;
    const char *query = entry_of(server)->connect_query;
    if (login->is_connect_query_sent && server->transaction == 'I') return false;
    if (!login->is_connect_query_sent && (query == NULL || server->is_own)) return false;
    send_query(server, login->is_connect_query_sent ? "ROLLBACK" : query);
    server->doing = "running connect_query";
    login->is_connect_query_sent = true;
    return true;
}

/* Its errors are passed over, as are all other answers to it. */
static void on_connect_query_error(struct server *server, struct bytes body) {
    struct fault_fields fields;
    (void)fault_read(body, &fields);
    server_log(server, LOG_LEVEL_WARNING, "connect_query failed: %.*s: %.*s",
               (int)fields.severity.len, fields.severity.at, (int)fields.message.len,
               fields.message.at);
}

/* Takes the parameter of that name out of the greeting: there is a newer value. */
static void forget_status(struct buf *greeting, struct bytes name) {
    struct buf kept = {0};
    struct bytes rest = buf_content(greeting);
    while (rest.len >= MESSAGE_HEAD_BYTES) {
        uint32_t length = message_length(rest.at);
        struct bytes other, tail;
        struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        CHECK(message_text(body, &other, &tail));
        if (!bytes_equal(other, name)) buf_append(&kept, rest.at, length);
        rest = bytes_of(rest.at + length, rest.len - length);
    }
    buf_release(greeting);
    *greeting = kept;
}

static void on_status(struct server *server, struct bytes message) {
    struct bytes name, value, rest;
    struct bytes body = bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES);
    if (!message_text(body, &name, &rest) || !message_text(rest, &value, &rest)) return;
    (void)server_note_parameter(server, name, value);
    if (server->login->is_connect_query_sent) forget_status(&server->login->greeting, name);
    buf_append_bytes(&server->login->greeting, message);
}

/* One whole message; false once the login is over, in whichever way. */
static bool on_message(struct server *server, struct bytes message) {
    const struct message_row *row = &message_replies[(unsigned char)message.at[0]];
    struct bytes body = bytes_of(message.at + MESSAGE_HEAD_BYTES, message.len - MESSAGE_HEAD_BYTES);
    if (row->name == NULL || message.len - 1 < row->length_min) {
        server_connect_failed(server, "unknown pkt from server");
        return false;
    }
    struct fault_fields fields;
    switch (row->kind) {
    case REPLY_AUTHENTICATION:
        return on_authentication(server, body);
    case REPLY_ERROR:
        if (server->login->is_connect_query_sent) {
            on_connect_query_error(server, body);
            return true;
        }
        (void)fault_read(body, &fields);
        server_login_failed(server, &fields);
        return false;
    case REPLY_STATUS:
        on_status(server, message);
        return true;
    case REPLY_KEY:
        server->backend_pid = bytes_get_u32(body.at);
        server->backend_secret = bytes_get_u32(body.at + 4);
        return true;
    case REPLY_READY:
        if (!server->login->is_authenticated) break;
        server->transaction = body.at[0];
        if (runs_connect_query(server)) return true;
        server_login_done(server, buf_content(&server->login->greeting));
        return false;
    case REPLY_NOTICE:
    case REPLY_NEGOTIATE:
        return true;
    default:
        if (server->login->is_connect_query_sent) return true;
        break;
    }
    server_connect_failed(server, "unknown pkt from server");
    return false;
}

void server_login_bytes(struct server *server, const char *at, size_t len) {
    struct server_login *login = server->login;
    buf_append(&login->input, at, len);
    for (;;) {
        struct bytes input = buf_content(&login->input);
        if (input.len < MESSAGE_HEAD_BYTES) return;
        uint32_t length = message_length(input.at);
        if (length == 0 || length > LOGIN_MESSAGE_BYTES) {
            server_connect_failed(server, "unknown pkt from server");
            return;
        }
        if (input.len < length) return;
        /* Nothing may follow ReadyForQuery, so nothing is lost when the login ends here. */
        if (!on_message(server, bytes_of(input.at, length))) return;
        buf_consume(&login->input, length);
    }
}
