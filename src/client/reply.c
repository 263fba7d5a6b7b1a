/*
 * What a server answers, message by message; see client/parts.h.
 *
 * Rows and COPY data pass by their heads. Every other message is matched with the pipeline of what
 * is owed: forwarded, swallowed because Weir itself had asked, or taken as the sign that something
 * ends. Only what has to be understood (ReadyForQuery, errors, parameters, command tags) is read
 * whole. A read that may still be sent elsewhere has its first answers held back:
 *
 *      1 2 t T n H S N  held   ->   D d C s I E decides: released, or dropped and sent again
 */
#include "client/effects.h"
#include "client/names.h"
#include "client/parts.h"
#include "client/remember.h"
#include "client/repair.h"
#include "client/subscribe.h"
#include "cluster/probe.h"

#include "cluster/probe.h"
#include "core/log.h"
#include "core/memory.h"
#include "proto/startup.h"

#define WHOLE_BYTES_MAX 65536u /* a longer error passes unread */

struct reply {
    struct client *client;
    struct server *server;
    struct outgoing *out;
    const struct message_row *row;
    const char *at; /* the head, and as much of the body as `len` says */
    size_t len;
    uint32_t length; /* of the whole message */
};

static struct bytes body_of(const struct reply *reply) {
    return bytes_of(reply->at + MESSAGE_HEAD_BYTES, reply->len - MESSAGE_HEAD_BYTES);
}

/* Replies that mean nothing but themselves: they move the pipeline and are passed on. */
#define PLAIN_KINDS                                                                                \
    (1u << REPLY_DATA | 1u << REPLY_PARSED | 1u << REPLY_BOUND | 1u << REPLY_CLOSED |              \
     1u << REPLY_PARAMETERS | 1u << REPLY_COLUMNS | 1u << REPLY_NO_DATA | 1u << REPLY_EMPTY |      \
     1u << REPLY_SUSPENDED | 1u << REPLY_COPY_OUT | 1u << REPLY_COPY_DONE | 1u << REPLY_FUNCTION)
_Static_assert(REPLY_KINDS <= 32, "a set of kinds has 32 bits");

/* ---- passing on, holding back */

static void emit(const struct reply *reply) {
    struct client_retry *retry = &reply->client->retry;
    if (!retry->is_holding) {
        outgoing_add(reply->out, reply->at, reply->len);
        return;
    }
    if (retry->held.memory == NULL) retry->held = client_spare_take(reply->client->set);
    buf_append(&retry->held, reply->at, reply->len);
}

/* The answers that were held back go out: the group will not be sent again. */
static void release_held(struct client *client, struct outgoing *out) {
    struct client_retry *retry = &client->retry;
    retry->is_holding = false;
    begin_settle(client);
    outgoing_copy(out, buf_content(&retry->held).at, buf_length(&retry->held));
    client_spare_give(client->set, &retry->held);
    client_spare_give(client->set, &retry->request);
}

static bool is_made_up_next(const struct pipeline_entry *head) {
    return head != NULL && head->action == PIPELINE_MAKE_UP;
}

void reply_make_up(struct client *client, struct outgoing *out) {
    struct pipeline_entry *head;
    if (client->reply.skip > 0) return; /* a message is under way; nothing may come inside */
    while (is_made_up_next(head = pipeline_head(&client->pipeline))) {
        char message[MESSAGE_HEAD_BYTES] = {head->request == REQUEST_PARSE ? '1' : '3', 0, 0, 0, 4};
        struct pipeline_entry entry = pipeline_pop(&client->pipeline);
        effects_settle(client, &entry);
        if (client->retry.is_discarding) continue;
        if (client->retry.is_holding) {
            buf_append(&client->retry.held, message, sizeof message);
        } else {
            outgoing_copy(out, message, sizeof message);
        }
    }
}

static void make_up_next(struct client *client, struct outgoing *out) {
    if (is_made_up_next(pipeline_head(&client->pipeline))) reply_make_up(client, out);
}

/* ---- errors */

/* After an error in the extended protocol the server skips up to the next Sync. */
static void skip_group(struct client *client) {
    client->names.undone_from = UINT32_MAX;
    while (pipeline_skips(&client->pipeline)) {
        struct pipeline_entry entry = pipeline_pop(&client->pipeline);
        effects_undo(client, &entry);
    }
    client->names.undone_from = 0;
}

/* Who is believed to be the primary refuses what a standby refuses: it may have been demoted, or
 * the transaction is read-only. */
static void note_refusal(const struct server *server) {
    struct cluster *cluster = server->node->cluster;
    bool is_primary = cluster_is_probed(cluster) && cluster_primary(cluster) == (int)server->host;
    if (is_primary) probe_suspect(cluster);
}

/* A login asks for what the server does not take: told when the server is ready. */
static void on_refused_login(const struct reply *reply, const struct fault_fields *fields) {
    struct server_memory *memory = reply->server->memory;
    struct client *client = reply->client;
    struct fault_fields told = *fields;
    struct buf message = {0};
    told.severity = bytes_of_text("FATAL");
    fault_write_custom(&message, &told);
    buf_consume(&message, MESSAGE_HEAD_BYTES);
    buf_clear(&client->last_words);
    buf_append_bytes(&client->last_words, buf_content(&message));
    buf_release(&message);
    memory->is_unknown = true;
    memory->unknown_by = 0;
}

/* Weir's own SET was refused: the client must not run anything under the wrong settings. */
static void on_refused_parameters(const struct reply *reply, const struct fault_fields *fields) {
    const struct fault *fault = fault_of(FAULT_SERVER_PARAMETER);
    struct fault_fields told = {.sqlstate = bytes_of_text(fault->sqlstate),
                                .message = bytes_of_text(fault->text),
                                .detail = fields->message,
                                .hint = bytes_of_text(fault->hint)};
    struct buf message = {0};
    log_line(LOG_LEVEL_ERROR, "varcache_apply failed: %.*s: %.*s", (int)fields->severity.len,
             fields->severity.at, (int)fields->message.len, fields->message.at);
    fault_write_custom(&message, &told);
    buf_consume(&message, MESSAGE_HEAD_BYTES);
    buf_clear(&reply->client->last_words);
    buf_append_bytes(&reply->client->last_words, buf_content(&message));
    buf_release(&message);
    reply->client->is_syncing = true;
    server_close(reply->server, "invalid server parameter");
}

static void on_own_error(const struct reply *reply, const struct fault_fields *fields,
                         uint32_t kind) {
    struct client *client = reply->client;
    if (kind == OWN_QUERY_GAP && client->is_greeting_due) {
        on_refused_login(reply, fields);
    } else if (kind == OWN_QUERY_QUESTION) {
        client->session->has_failed = true;
    } else if (kind >= OWN_QUERY_GIVE) {
        subscribe_failed(client, kind);
    } else if (kind == OWN_QUERY_GAP && client->is_syncing && client->retry.is_holding &&
               !client->retry.is_repair) {
        server_close(reply->server, "invalid server parameter"); /* the primary may take it */
    } else if (kind == OWN_QUERY_GAP) {
        on_refused_parameters(reply, fields);
    }
}

static void emit_error(const struct reply *reply, const struct pipeline_match *match,
                       const struct fault_fields *fields) {
    struct buf disguise = {0};
    if (repair_disguise(reply->client, &match->entry, fields, &disguise)) {
        outgoing_copy(reply->out, buf_content(&disguise).at, buf_length(&disguise));
        reply->client->reply.is_dropping = true; /* what is still to come of it */
    } else {
        emit(reply);
    }
    buf_release(&disguise);
}

static void on_error(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    struct bytes body = body_of(reply);
    struct fault_fields fields = {0};
    (void)fault_read(body, &fields);
    relay_raise_floor(client);
    client->is_copying = false;
    if (match->verdict == PIPELINE_DROP) {
        on_own_error(reply, &fields, match->entry.number);
        return;
    }
    if (client->session != NULL) session_undone(client->session);
    hint_undone(&client->hint);
    bool is_whole = reply->len == reply->length; /* one that is not passes as it comes */
    bool ends_all =
        bytes_equal_text(fields.severity, "FATAL") || bytes_equal_text(fields.severity, "PANIC");
    if (ends_all && is_whole) {
        /* Told to the client when the connection has ended, as what it then means to it. */
        buf_clear(&client->last_words);
        buf_append_bytes(&client->last_words, body);
        reply->server->is_dismissed = !fault_is_of_node(&fields);
        return;
    }
    if (fault_refusal_of(&fields) == FAULT_REFUSAL_PRIMARY) note_refusal(reply->server);
    bool is_stale = repair_is_due(client, &match->entry, &fields);
    if (retry_takes_error(client, reply->server, &fields) || is_stale) {
        client->retry.is_holding = false;
        client->retry.is_discarding = true;
        buf_clear(&client->retry.held);
    } else if (client->retry.is_holding) {
        release_held(client, reply->out);
    }
    if (!client->retry.is_discarding) emit_error(reply, match, &fields);
    if (match->verdict != PIPELINE_SKIP) return;
    skip_group(client);
    begin_note_error(client, match);
    client->is_failed = pipeline_is_empty(&client->pipeline);
}

/* ---- what ends something */

/* Nobody sees what an open transaction has written: its floors are raised when it ends. What else
 * it may have done is not hidden if it is not understood: dblink commits by itself. */
static bool is_hidden(const struct client *client) {
    return client->transaction == 'T' && !client->has_ended && !client->may_reach_out;
}

static bool is_end_of_transaction(struct bytes tag) {
    return bytes_equal_text(tag, "COMMIT") || bytes_equal_text(tag, "ROLLBACK") ||
           bytes_equal_text(tag, "PREPARE TRANSACTION");
}

/* Whether the command has written nothing, and is none that on_complete cares for. */
static bool is_plain_completion(const struct client *client, const char *message) {
    char first = message[MESSAGE_HEAD_BYTES];
    return !client->may_write && !client->hint.has_next &&
           (first == 'S' || first == 'I' || first == 'U');
}

static void on_complete(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    struct bytes tag = body_of(reply);
    if (tag.len > 0) tag.len--;
    if (is_end_of_transaction(tag)) client->has_ended = true;
    if (match->verdict == PIPELINE_PASS) hint_answered(&client->hint);
    if (bytes_equal_text(tag, "ROLLBACK")) hint_undone(&client->hint);
    if (client->session != NULL && bytes_equal_text(tag, "ROLLBACK"))
        session_undone(client->session);
    if (!is_hidden(client)) relay_raise_floor(client);
    if (match->verdict != PIPELINE_PASS || tag.len < 11 || tag.at[0] != 'D') return;
    if (!bytes_equal_text(tag, "DEALLOCATE ALL") && !bytes_equal_text(tag, "DISCARD ALL")) return;
    struct server_memory *memory = reply->server->memory;
    prepared_clear(&client->names, &client->set->statements);
    server_memory_clear(memory, &client->set->statements);
    if (client->session == NULL || !bytes_equal_text(tag, "DISCARD ALL")) return;
    subscribe_end(client);
    session_discarded(client->session, reply->server);
}

static void count_query(const struct reply *reply, char status) {
    struct client *client = reply->client;
    struct stats *stats = &reply->server->node->stats;
    uint64_t now_us = loop_now_us(client->set->loop);
    stats_add(&stats->queries, 1);
    if (client->query_us != 0) stats_add(&stats->query_us, now_us - client->query_us);
    client->query_us = pipeline_is_empty(&client->pipeline) ? 0 : now_us;
    client->state_us = now_us;
    if (status != 'I') return;
    stats_add(&stats->transactions, 1);
    if (client->transaction_us != 0)
        stats_add(&stats->transaction_us, now_us - client->transaction_us);
    client->transaction_us = client->query_us;
}

/* A Query of our own has been answered. */
static void on_own_ready(const struct reply *reply, uint32_t kind) {
    struct client *client = reply->client;
    if (kind == OWN_QUERY_QUESTION) {
        remember_answered(client);
        return;
    }
    if (kind == OWN_QUERY_ROLLBACK || kind == OWN_QUERY_END) client->is_release_due = true;
    if (kind == OWN_QUERY_END) begin_moved(client);
    if (kind >= OWN_QUERY_GIVE) subscribe_answered(client, kind);
    bool is_login = client->is_greeting_due && client->is_syncing;
    if (is_login && pipeline_is_empty(&client->pipeline)) {
        client->is_syncing = false;
        relay_resume_later(client);
    }
    if (kind != OWN_QUERY_GAP || is_login) return;
    settings_accepted(&client->parameters, client->session, reply->server);
    if (!client->is_syncing || !pipeline_is_empty(&client->pipeline)) return;
    client->is_syncing = false;
    relay_resume_later(client);
}

static void on_ready(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    char status = reply->at[MESSAGE_HEAD_BYTES];
    if (!message_is_status(status)) {
        server_close(reply->server, "bad pkt header");
        return;
    }
    if (status == 'I' || !is_hidden(client)) relay_raise_floor(client);
    client->has_ended = false;
    reply->server->transaction = status;
    client->is_copying = false;
    bool is_own = match->verdict == PIPELINE_DROP;
    if (is_own && match->entry.request == REQUEST_SYNC) is_own = !names_have_failed(client);
    if (is_own) {
        on_own_ready(reply, match->entry.number);
        return;
    }
    if (status == 'I' && client->session != NULL) remember_schema(client);
    /* A tracked session tells the value itself. */
    if (status == 'I') (client->session == NULL ? hint_ended : hint_undone)(&client->hint);
    if (!client->retry.is_discarding) client->transaction = status;
    count_query(reply, status);
    bool ends_blocks = client->pool->mode == POOL_MODE_STATEMENT && !client_keeps_server(client);
    if (status != 'I' && ends_blocks) {
        server_close_for(reply->server, FAULT_TRANSACTION_BLOCK);
        return;
    }
    if (client->retry.is_holding) release_held(client, reply->out);
    if (!client->retry.is_discarding) emit(reply);
    if (!pipeline_is_empty(&client->pipeline)) return;
    if (reply->server->cancels > 0) cancel_query_ended(reply->server);
    if (client->retry.is_discarding && status != 'I') { /* it began a transaction, which is over */
        remember_send(client, bytes_of_text("ROLLBACK"), OWN_QUERY_ROLLBACK);
        return;
    }
    bool is_kept = client_keeps_server(client) && !client->retry.is_discarding;
    bool is_free = status == 'I' && !is_kept;
    client->is_release_due = is_free && client->request_skip == 0;
    client->is_release_late = is_free && client->request_skip > 0;
}

/* ---- one message */

/* Whether this reply decides that a held group will not be sent again. */
static bool is_deciding(unsigned kind) {
    return kind == REPLY_DATA || kind == REPLY_COMPLETE || kind == REPLY_SUSPENDED ||
           kind == REPLY_EMPTY || kind == REPLY_COPY_IN || kind == REPLY_COPY_BOTH ||
           kind == REPLY_FUNCTION;
}

/* Whether it says that a transaction has begun, or how: nothing that another node would not say. */
static bool is_of_begin(const char *at, size_t len) {
    static const char *const tags[] = {"BEGIN", "START TRANSACTION", "SET"};
    size_t i = COUNT(tags);
    if (len < MESSAGE_HEAD_BYTES || at[0] != 'C' || message_length(at) > len) return false;
    struct bytes tag = bytes_of(at + MESSAGE_HEAD_BYTES, message_length(at) - MESSAGE_HEAD_BYTES);
    if (tag.len == 0) return false;
    tag.len--;
    while (i > 0 && !bytes_equal_text(tag, tags[i - 1])) i--;
    return i > 0;
}

/* Whether one that does is among the bytes in hand: then nothing need be held back, which is
 * copying. */
static bool is_decided(const char *at, size_t len) {
    while (len >= MESSAGE_HEAD_BYTES) {
        unsigned kind = message_replies[(unsigned char)at[0]].kind;
        if (is_deciding(kind) && !is_of_begin(at, len)) return true;
        uint32_t length = message_length(at);
        if (kind == REPLY_ERROR || kind == REPLY_READY || length == 0 || length > len) break;
        at += length;
        len -= length;
    }
    return false;
}

static void plain(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    client->reply.is_dropping = match->verdict == PIPELINE_DROP || client->retry.is_discarding;
    if (client->reply.is_dropping) return;
    const struct client_retry *retry = &client->retry;
    bool is_decided_now =
        is_deciding(reply->row->kind) && !retry->is_whole && !is_of_begin(reply->at, reply->len);
    bool is_too_much = buf_length(&retry->held) + reply->length > RETRY_HELD_BYTES_MAX;
    if (retry->is_holding && (is_decided_now || is_too_much)) release_held(client, reply->out);
    emit(reply);
}

/* For PgBouncer's readers: our own SET has given the parameter another spelling. */
static void log_canonical(const struct client *client, int index, struct bytes value) {
    const struct text *own = client->parameters.values[index];
    const char *name = client->set->pools->tracked[index];
    if (!log_is_on(LOG_LEVEL_DEBUG) || own == NULL) return;
    if (bytes_equal(bytes_of(own->at, own->len), value)) return;
    client_log(client, LOG_LEVEL_DEBUG,
               "varcache_set_canonical: setting %s to its canonical version %s -> %.*s", name,
               own->at, (int)value.len, value.at);
}

static void on_status(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    struct bytes body = body_of(reply);
    struct bytes name, value, rest;
    if (reply->len < reply->length) {
        plain(reply, match); /* too long to be tracked: nobody else may meet it */
        reply->server->is_close_needed = true;
        return;
    }
    if (!message_text(body, &name, &rest) || !message_text(rest, &value, &rest)) return;
    int index = server_note_parameter(reply->server, name, value);
    /* Also after our own SET: the server's spelling replaces the client's. */
    if (index >= 0 && match->verdict == PIPELINE_DROP) log_canonical(client, index, value);
    if (index >= 0) parameters_set(&client->parameters, client->set->texts, index, value);
    if (match->verdict == PIPELINE_PASS && !client->retry.is_discarding) emit(reply);
}

/* Whether notifications name clients by the process ids that they were given. */
static bool has_own_pids(const struct client *client) {
    return client->session != NULL || client->pool->starts_servers;
}

static void on_notification(const struct reply *reply, const struct pipeline_match *match) {
    struct client *client = reply->client;
    if (judge_is_on(client)) (void)freshness_raise(client->pool->database->hash, NULL);
    if (!has_own_pids(client)) {
        plain(reply, match);
        return;
    }
    /* PostgreSQL's are all shorter than what is read whole. */
    client->reply.is_dropping = client->retry.is_discarding || reply->len < reply->length;
    if (client->reply.is_dropping || !subscribe_passes(client, body_of(reply))) return;
    /* Whatever is being answered just now, it belongs to the session. */
    char *message = memory_copy(reply->at, reply->len);
    bytes_put_u32(message + MESSAGE_HEAD_BYTES, subscribe_sender(client, body_of(reply)));
    if (client->retry.is_holding) {
        buf_append(&client->retry.held, message, reply->len);
    } else {
        outgoing_copy(reply->out, message, reply->len);
    }
    memory_free(message);
}

static void on_message(const struct reply *reply) {
    struct client *client = reply->client;
    struct pipeline_match match = pipeline_match(&client->pipeline, reply->row->kind);
    client->reply.is_dropping = false;
    if (match.verdict == PIPELINE_BROKEN) {
        server_close(reply->server, "unknown pkt");
        return;
    }
    switch (reply->row->kind) {
    case REPLY_READY:
        on_ready(reply, &match);
        break;
    case REPLY_ERROR:
        on_error(reply, &match);
        break;
    case REPLY_STATUS:
        on_status(reply, &match);
        break;
    case REPLY_COMPLETE:
        on_complete(reply, &match);
        plain(reply, &match);
        break;
    case REPLY_NOTIFICATION:
        on_notification(reply, &match);
        break;
    case REPLY_DATA:
        if (match.verdict == PIPELINE_DROP && match.entry.number == OWN_QUERY_QUESTION)
            remember_row(client, body_of(reply), reply->len == reply->length);
        plain(reply, &match);
        break;
    case REPLY_COPY_IN:
    case REPLY_COPY_BOTH:
        client->is_copying = true;
        client->copy_began = match.entry.number;
        pipeline_drop_syncs(&client->pipeline);
        if (pipeline_lacks_sync(&client->pipeline)) client->unsynced = 1; /* it will not count */
        plain(reply, &match);
        break;
    default:
        plain(reply, &match);
        break;
    }
    if (match.is_popped) effects_settle(client, &match.entry);
    make_up_next(client, reply->out);
}

/* ---- cutting the stream into messages */

static bool is_read_whole(const struct reply *reply, const struct message_row *row,
                          uint32_t length) {
    const struct client *client = reply->client;
    bool is_asking = client->session != NULL && client->session->is_asking;
    bool is_needed =
        row->is_whole || is_asking || (row->kind == REPLY_NOTIFICATION && has_own_pids(client));
    return is_needed && length <= WHOLE_BYTES_MAX;
}

/* Never true of a byte that is no type: its lengths are 0. */
static bool length_is_good(const struct reply *reply, const struct message_row *row,
                           uint32_t length) {
    return length > row->length_min && length - 1 <= row->length_max &&
           length <= reply->client->set->max_packet_size;
}

static bool head_is_good(const struct reply *reply, const char *head) {
    const struct message_row *row = &message_replies[(unsigned char)head[0]];
    if (length_is_good(reply, row, message_length(head))) return true;
    bool is_unknown = row->name == NULL && message_length(head) > 0;
    server_close(reply->server, is_unknown ? "unknown pkt" : "bad pkt header");
    return false;
}

/* A message whose head, or whole, is at hand in one piece: handles it, returns what it took. */
static size_t take_message(struct reply *reply, const char *at, size_t len) {
    struct client *client = reply->client;
    reply->row = &message_replies[(unsigned char)at[0]];
    reply->length = message_length(at);
    reply->at = at;
    if (is_read_whole(reply, reply->row, reply->length)) {
        CHECK(len >= reply->length);
        reply->len = reply->length;
        on_message(reply);
        return reply->length;
    }
    /* As much of the body as is there goes with the head. */
    reply->len = len < reply->length ? len : reply->length;
    client->reply.skip = reply->length - (uint32_t)reply->len;
    on_message(reply);
    return reply->len;
}

/* Most of an answer: plain replies that are whole go on as one run, until something else comes, or
 * one that is not the server's to give. Returns the length of the run. */
static size_t take_run(struct reply *reply, const char *at, size_t len) {
    struct client *client = reply->client;
    const struct client_retry *retry = &client->retry;
    bool is_between = client->reply.skip == 0 && buf_length(&client->reply.gather) == 0;
    if (!is_between || retry->is_discarding) return 0;
    const struct pipeline_entry *head = pipeline_head(&client->pipeline);
    /* What answers a question of ours decides nothing: the tag of a SET is no end of a read. */
    if (head == NULL || head->action != PIPELINE_FORWARD) return 0;
    if (retry->is_holding && (retry->is_whole || !is_decided(at, len))) return 0;
    if (retry->is_holding) release_held(client, reply->out);
    size_t pos = 0;
    while (head != NULL && head->action == PIPELINE_FORWARD && len - pos >= MESSAGE_HEAD_BYTES) {
        const struct message_row *row = &message_replies[(unsigned char)at[pos]];
        uint32_t length = message_length(at + pos);
        if (length > len - pos || !length_is_good(reply, row, length)) break;
        bool is_plain = row->kind == REPLY_COMPLETE ? is_plain_completion(client, at + pos)
                                                    : PLAIN_KINDS >> row->kind & 1u;
        unsigned turn = pipeline_turns[row->kind][head->request];
        if (!is_plain || turn == TURN_NONE) break;
        pos += length;
        if (turn == TURN_STAYS) continue;
        struct pipeline_entry ended = pipeline_pop(&client->pipeline);
        effects_settle(client, &ended);
        head = pipeline_head(&client->pipeline);
    }
    outgoing_add(reply->out, at, pos);
    if (pos > 0) make_up_next(client, reply->out);
    return pos;
}

/* The rest of a message that passes, or is dropped. */
static size_t take_body(struct reply *reply, const char *at, size_t len) {
    struct client *client = reply->client;
    size_t n = len < client->reply.skip ? len : client->reply.skip;
    client->reply.skip -= (uint32_t)n;
    if (!client->reply.is_dropping) {
        reply->at = at;
        reply->len = n;
        emit(reply);
    }
    if (client->reply.skip == 0) make_up_next(client, reply->out);
    return n;
}

/* A message that came in pieces: gathered until its head, or all that is needed, is there. */
static size_t take_piece(struct reply *reply, const char *at, size_t len) {
    struct client *client = reply->client;
    struct buf *gather = &client->reply.gather;
    if (gather->memory == NULL) *gather = client_spare_take(client->set);
    size_t have = buf_length(gather);
    size_t want = MESSAGE_HEAD_BYTES;
    if (have >= MESSAGE_HEAD_BYTES) want = message_length(buf_content(gather).at);
    size_t n = want - have < len ? want - have : len;
    buf_append(gather, at, n);
    have += n;
    if (have < want) return n;
    struct bytes message = buf_content(gather);
    if (want == MESSAGE_HEAD_BYTES) {
        if (!head_is_good(reply, message.at)) return len;
        uint32_t length = message_length(message.at);
        const struct message_row *row = &message_replies[(unsigned char)message.at[0]];
        if (is_read_whole(reply, row, length) && length > have) return n; /* more is needed */
    }
    struct buf piece = *gather;
    *gather = (struct buf){0};
    (void)take_message(reply, buf_content(&piece).at, have);
    if (client->state == CLIENT_ACTIVE) outgoing_flush(reply->out); /* it points into the piece */
    client_spare_give(client->set, &piece);
    return n;
}

static size_t step(struct reply *reply, const char *at, size_t len) {
    struct client *client = reply->client;
    if (client->reply.skip > 0) return take_body(reply, at, len);
    bool is_in_pieces = buf_length(&client->reply.gather) > 0 || len < MESSAGE_HEAD_BYTES;
    if (is_in_pieces) return take_piece(reply, at, len);
    if (!head_is_good(reply, at)) return len;
    const struct message_row *row = &message_replies[(unsigned char)at[0]];
    uint32_t length = message_length(at);
    if (is_read_whole(reply, row, length) && len < length) return take_piece(reply, at, len);
    return take_message(reply, at, len);
}

void reply_process(struct client *client, const char *at, size_t len) {
    struct outgoing out;
    struct server *server = client->borrower.server;
    struct reply reply = {
        .client = client,
        .server = server,
        .out = &out,
    };
    outgoing_begin(&out, client->set, &client->stream);
    stats_add(&client->pool->stats.bytes_sent, len);
    size_t pos = 0;
    while (pos < len && server->state == SERVER_LENT) {
        /* What follows ReadyForQuery belongs to nobody's request: it is passed on all the same. */
        size_t taken = take_run(&reply, at + pos, len - pos);
        pos += taken > 0 ? taken : step(&reply, at + pos, len - pos);
    }
    outgoing_flush(&out);
    if (stream_queued(&client->stream) > STREAM_HIGH_BYTES) stream_stop(&server->stream);
    if (client->is_stuck) relay_resume_later(client);
    if (!client->is_release_due) return;
    client->is_release_due = false;
    if (server->state == SERVER_LENT) relay_end(client);
}
