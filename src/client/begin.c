/*
 * BEGIN held back; see client/begin.h.
 *
 * A group is answered here only if it is one statement, a simple Query or Parse, Bind, Describe and
 * Execute up to a Sync, whose answer PostgreSQL could not but give. On its way to the server a
 * BEGIN is Parse, Bind and Execute without a Sync, also where it came as a Query: if it fails,
 * PostgreSQL skips what follows, so that nothing ever runs outside of the transaction that it was
 * meant for.
 */
#include "client/begin.h"

#include "client/effects.h"
#include "client/remember.h"
#include "client/request.h"
#include "core/pack.h"

/* SET TRANSACTION in great numbers goes to a server. */
#define TEXTS_BYTES_MAX 1024u

#define HINTS      (TRAITS_HINT_PRIMARY | TRAITS_HINT_REPLICA)
#define MODES      (TRAITS_READ_ONLY | TRAITS_READ_WRITE | TRAITS_SERIALIZABLE)
#define BEGIN_ONLY (TRAITS_BEGINS | TRAITS_NEEDS_PRIMARY | MODES | HINTS)
#define END_ONLY   (TRAITS_ENDS | TRAITS_BEGINS | HINTS)
/* Without TRAITS_NEEDS_PRIMARY and the name of a parameter this is SET TRANSACTION with harmless
 * modes. */
#define SET_ONLY (TRAITS_SETS_LOCAL | TRAITS_READ_ONLY | HINTS)

/* ---- what a statement is */

enum act { ACT_NONE, ACT_BEGIN, ACT_SET, ACT_END, ACT_NOTHING };

/* The words by which a statement may begin that is answered here, and PostgreSQL's tag for it. */
#define LETTERS(a, b, c) ((uint32_t)(a) << 16 | (uint32_t)(b) << 8 | (uint32_t)(c))
static const struct {
    uint32_t letters; /* the first three */
    enum act act;
    const char *word, *tag;
} words[] = {
    {LETTERS('b', 'e', 'g'), ACT_BEGIN, "begin", "BEGIN"},
    {LETTERS('s', 't', 'a'), ACT_BEGIN, "start", "START TRANSACTION"},
    {LETTERS('s', 'e', 't'), ACT_SET, "set", "SET"},
    {LETTERS('c', 'o', 'm'), ACT_END, "commit", "COMMIT"},
    {LETTERS('e', 'n', 'd'), ACT_END, "end", "COMMIT"},
    {LETTERS('r', 'o', 'l'), ACT_END, "rollback", "ROLLBACK"},
    {LETTERS('a', 'b', 'o'), ACT_END, "abort", "ROLLBACK"},
};

static bool is_letter(char c) {
    return char_lower(c) >= 'a' && char_lower(c) <= 'z';
}

/* Whether the text begins with that word, which is in lower case. */
static bool begins_with(struct bytes text, const char *word) {
    size_t len = 0;
    while (word[len] != '\0' && len < text.len && char_lower(text.at[len]) == word[len]) len++;
    return word[len] == '\0' && (len == text.len || !is_letter(text.at[len]));
}

/* The row of a text's first word; COUNT(words) if it has none. Every group pays for this. */
static size_t row_of(struct bytes text) {
    while (text.len > 0 && char_is_blank(text.at[0])) text = bytes_of(text.at + 1, text.len - 1);
    if (text.len < 3) return COUNT(words);
    const uint32_t small = LETTERS(' ', ' ', ' ');
    const uint32_t letters = small | LETTERS((unsigned char)text.at[0], (unsigned char)text.at[1],
                                             (unsigned char)text.at[2]);
    size_t row = 0;
    while (row < COUNT(words) && letters != words[row].letters) row++;
    if (row < COUNT(words) && !begins_with(text, words[row].word)) return COUNT(words);
    return row;
}

static bool has_only(uint32_t flags, uint32_t needed, uint32_t allowed) {
    return (flags & needed) == needed && (flags & ~allowed) == 0;
}

/* What becomes of the transaction by a statement that has these traits. */
static enum act act_of(const struct client *client, size_t row, const struct traits *traits) {
    uint32_t flags = traits->flags;
    enum begin_state state = (enum begin_state)client->begin.state;
    enum act act = row < COUNT(words) ? words[row].act : ACT_NONE;
    if (state != BEGIN_NONE && has_only(flags, TRAITS_EMPTY, TRAITS_EMPTY | HINTS))
        return ACT_NOTHING;
    if (act == ACT_BEGIN && state == BEGIN_NONE && has_only(flags, TRAITS_BEGINS, BEGIN_ONLY))
        return ACT_BEGIN;
    bool is_named = traits->names.len > 0 || !traits->names_complete;
    if (act == ACT_SET && !is_named && state == BEGIN_HELD &&
        has_only(flags, TRAITS_SETS_LOCAL, SET_ONLY))
        return ACT_SET;
    if (act == ACT_END && state != BEGIN_NONE && has_only(flags, TRAITS_ENDS, END_ONLY))
        return ACT_END;
    return ACT_NONE;
}

/* ---- reading a group */

enum stage { STAGE_START, STAGE_PARSED, STAGE_BOUND, STAGE_EXECUTED, STAGE_ENDED };

struct reading {
    struct client *client;
    struct buf out; /* what the client is answered, but for ReadyForQuery */
    enum stage stage;
    bool is_query, is_parsed;
    struct bytes name, parse; /* of the Parse: the statement's name, and text and types */
    struct bytes text;
    uint32_t flags;
    enum act act;
};

static void answer(struct reading *reading, char type, struct bytes body) {
    buf_append_u8(&reading->out, (unsigned char)type);
    buf_append_u32(&reading->out, (uint32_t)(4 + body.len));
    buf_append_bytes(&reading->out, body);
}

static void answer_alone(struct reading *reading, char type) {
    answer(reading, type, bytes_of("", 0));
}

/* The statement runs: false if only a server can tell what comes of it. */
static bool run(struct reading *reading) {
    const struct client *client = reading->client;
    size_t row = row_of(reading->text);
    const struct traits *traits = client_traits(client, reading->text);
    reading->flags = traits->flags;
    reading->act = act_of(client, row, traits);
    if (reading->act == ACT_NONE) return false;
    if (reading->act == ACT_NOTHING) {
        answer_alone(reading, 'I');
        return true;
    }
    bool is_undone = reading->act == ACT_END && client->begin.state == BEGIN_FAILED;
    const char *tag = is_undone ? "ROLLBACK" : words[row].tag;
    answer(reading, 'C', bytes_of(tag, strlen(tag) + 1));
    return true;
}

static bool on_query(struct reading *reading, struct bytes body) {
    struct bytes rest;
    if (reading->stage != STAGE_START || !message_text(body, &reading->text, &rest)) return false;
    reading->stage = STAGE_ENDED;
    reading->is_query = true;
    return run(reading);
}

/* A name that is taken, or that is not the pooler's business, is the server's. */
static bool on_parse(struct reading *reading, struct bytes body) {
    const struct client *client = reading->client;
    struct bytes rest;
    if (reading->stage != STAGE_START || !message_text(body, &reading->name, &reading->parse) ||
        !message_text(reading->parse, &reading->text, &rest))
        return false;
    bool has_types = rest.len < 2 || bytes_get_u16(rest.at) != 0;
    bool is_new = reading->name.len == 0 ||
                  (request_is_tracking(client) && !prepared_find(&client->names, reading->name));
    if (has_types || !is_new) return false;
    reading->stage = STAGE_PARSED;
    reading->is_parsed = true;
    answer_alone(reading, '1');
    return true;
}

/* The statement that the client has under a name, with its text; false if there is none. */
static bool read_statement(struct reading *reading, struct bytes name) {
    const struct client *client = reading->client;
    struct bytes rest;
    if (reading->stage == STAGE_PARSED) return bytes_equal(name, reading->name);
    if (!request_is_tracking(client)) return false;
    const struct prepared_name *entry = prepared_find(&client->names, name);
    const struct statement *statement = name.len == 0   ? client->unnamed
                                        : entry == NULL ? NULL
                                                        : entry->statement;
    reading->name = name;
    return statement != NULL && message_text(statement->body, &reading->text, &rest) &&
           rest.len >= 2 && bytes_get_u16(rest.at) == 0;
}

/* Whether what follows the names in a Bind has no parameters. */
static bool binds_nothing(struct bytes rest) {
    if (rest.len < 2) return false;
    size_t formats = 2 + 2 * (size_t)bytes_get_u16(rest.at);
    return rest.len >= formats + 2 && bytes_get_u16(rest.at + formats) == 0;
}

static bool on_bind(struct reading *reading, struct bytes body) {
    struct bytes portal, name, rest;
    if (reading->stage > STAGE_PARSED || !message_text(body, &portal, &rest) ||
        !message_text(rest, &name, &rest))
        return false;
    if (portal.len > 0 || !binds_nothing(rest) || !read_statement(reading, name)) return false;
    reading->stage = STAGE_BOUND;
    answer_alone(reading, '2');
    return true;
}

/* Kind and name of a Describe or Close. */
static bool read_target(struct bytes body, char *kind, struct bytes *name) {
    struct bytes rest;
    *kind = body.len == 0 ? '\0' : body.at[0];
    return body.len > 1 && message_text(bytes_of(body.at + 1, body.len - 1), name, &rest);
}

static bool on_describe(struct reading *reading, struct bytes body) {
    struct bytes name;
    char kind;
    bool is_there = reading->stage == STAGE_PARSED || reading->stage == STAGE_BOUND;
    if (!is_there || !read_target(body, &kind, &name)) return false;
    if (kind == 'S' && bytes_equal(name, reading->name)) {
        answer(reading, 't', bytes_of("\0", 2));
    } else if (kind != 'P' || name.len > 0 || reading->stage != STAGE_BOUND) {
        return false;
    }
    answer_alone(reading, 'n');
    return true;
}

static bool on_execute(struct reading *reading, struct bytes body) {
    if (reading->stage != STAGE_BOUND || body.len == 0 || body.at[0] != '\0') return false;
    reading->stage = STAGE_EXECUTED;
    return run(reading);
}

static bool on_close(struct reading *reading, struct bytes body) {
    struct bytes name;
    char kind;
    if (reading->stage != STAGE_EXECUTED || !read_target(body, &kind, &name)) return false;
    answer_alone(reading, '3');
    return kind == 'P' && name.len == 0;
}

/* A Sync alone changes nothing. */
static bool on_sync(struct reading *reading, struct bytes body) {
    (void)body;
    bool is_alone = reading->stage == STAGE_START && reading->client->begin.state != BEGIN_NONE;
    if (is_alone) reading->act = ACT_NOTHING;
    return is_alone || reading->stage == STAGE_EXECUTED;
}

static bool (*const readers[REQUEST_KINDS])(struct reading *reading, struct bytes body) = {
    [REQUEST_QUERY] = on_query,     [REQUEST_PARSE] = on_parse,       [REQUEST_BIND] = on_bind,
    [REQUEST_EXECUTE] = on_execute, [REQUEST_DESCRIBE] = on_describe, [REQUEST_CLOSE] = on_close,
    [REQUEST_SYNC] = on_sync,
};

static bool read_group(struct reading *reading, struct bytes group) {
    for (size_t pos = 0; pos < group.len;) {
        const char *head = group.at + pos;
        uint32_t length = message_length(head);
        unsigned kind = message_requests[(unsigned char)head[0]].kind;
        struct bytes body = bytes_of(head + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        if (readers[kind] == NULL || !readers[kind](reading, body)) return false;
        pos += length;
    }
    return true;
}

/* ---- what is held */

static void drop(struct client *client) {
    client->begin.state = BEGIN_NONE;
    client->begin.flags = 0;
    client_spare_give(client->set, &client->begin.texts);
}

static void hold(struct client *client, struct bytes text, uint32_t flags) {
    struct client_begin *begin = &client->begin;
    if (begin->texts.memory == NULL) begin->texts = client_spare_take(client->set);
    buf_append_bytes(&begin->texts, text);
    buf_append_u8(&begin->texts, 0);
    begin->flags |= begin_as_default(client, flags) & (TRAITS_BEGINS | MODES | HINTS);
    begin->state = BEGIN_HELD;
}

static void act(struct client *client, const struct reading *reading) {
    uint64_t now_us = loop_now_us(client->set->loop);
    client->state_us = client->request_us = now_us;
    switch (reading->act) {
    case ACT_BEGIN:
        hold(client, reading->text, reading->flags);
        client->transaction = 'T';
        client->transaction_us = now_us;
        client->doing = "idle in a transaction";
        break;
    case ACT_SET:
        hold(client, reading->text, reading->flags);
        break;
    case ACT_END:
        if (reading->flags & TRAITS_BEGINS) { /* AND CHAIN: one with the same modes */
            client->begin.state = BEGIN_HELD;
            client->transaction = 'T';
            client->transaction_us = now_us;
            break;
        }
        drop(client);
        client->transaction = 'I';
        client->transaction_us = 0;
        client->doing = "idle";
        break;
    default:
        break;
    }
}

/* ---- one group */

static bool is_on(const struct client *client) {
    bool is_listening = client->session != NULL && client->session->subscription != NULL;
    return client->set->defers_begin && client->pool->routing == ROUTING_READ_WRITE &&
           client->pool->mode == POOL_MODE_TRANSACTION && client->transaction == 'I' &&
           !is_listening && client->replication == STARTUP_REPLICATION_NONE && judge_is_on(client);
}

/* The row of the first statement's first word, from the first message and without looking at more:
 * all that others pay. COUNT(words) if it has none. */
static size_t first_row(const struct client *client, struct bytes rest) {
    struct bytes body = bytes_of(rest.at + MESSAGE_HEAD_BYTES, rest.len - MESSAGE_HEAD_BYTES);
    struct bytes name, portal;
    const struct prepared_name *entry;
    switch (message_requests[(unsigned char)rest.at[0]].kind) {
    case REQUEST_PARSE:
        return message_text(body, &name, &body) ? row_of(body) : COUNT(words);
    case REQUEST_QUERY:
        return row_of(body);
    case REQUEST_BIND:
        if (client->names.map.count == 0 || !message_text(body, &portal, &body) ||
            !message_text(body, &name, &body))
            return COUNT(words);
        entry = prepared_find(&client->names, name);
        return entry == NULL ? COUNT(words) : row_of(entry->statement->body);
    default:
        return COUNT(words);
    }
}

static bool first_is(const struct client *client, struct bytes rest, enum act act) {
    size_t row = first_row(client, rest);
    return row < COUNT(words) && words[row].act == act;
}

/* What follows a failed transaction's end belongs to no transaction; anything ahead is refused. */
static enum begin_verdict refuse(struct client *client, bool is_whole, size_t in_hand) {
    if (client->begin.state != BEGIN_FAILED) return BEGIN_PASS;
    if (!is_whole && in_hand < client->set->gather_bytes) return BEGIN_WAIT;
    relay_answer_error(client, FAULT_TRANSACTION_FAILED, NULL);
    client->is_skipping = true;
    return BEGIN_TAKEN;
}

enum begin_verdict begin_take(struct client *client, struct bytes rest, size_t *taken) {
    bool is_begun = client->begin.state != BEGIN_NONE, has_flush;
    *taken = 0;
    if (!is_begun && (!is_on(client) || !first_is(client, rest, ACT_BEGIN))) return BEGIN_PASS;
    size_t length = judge_group_length(rest, &has_flush);
    bool is_in_hand = length > 0 && !has_flush && length <= client->set->gather_bytes;
    struct reading reading = {.client = client, .out = client_spare_take(client->set)};
    bool is_full = buf_length(&client->begin.texts) > TEXTS_BYTES_MAX;
    bool is_read = is_in_hand && !is_full && client->set->traits != NULL &&
                   read_group(&reading, bytes_of(rest.at, length));
    if (is_read) {
        *taken = length;
        if (reading.is_query) prepare_made_up(client, NULL, bytes_of(NULL, 0));
        if (reading.is_parsed) prepare_made_up(client, &reading.name, reading.parse);
        act(client, &reading);
        message_write_ready_for_query(&reading.out, client->transaction);
        stream_write_bytes(&client->stream, buf_content(&reading.out));
    }
    client_spare_give(client->set, &reading.out);
    return is_read ? BEGIN_TAKEN : refuse(client, length > 0 || has_flush, rest.len);
}

/* ---- a transaction that ends on a replica */

/* Whether more than the first of its statements is to run. */
static bool goes_on(const struct client *client, struct bytes group) {
    struct bytes text, rest;
    unsigned executed = 0;
    if (group.at[0] == 'Q')
        return message_text(bytes_of(group.at + MESSAGE_HEAD_BYTES, group.len - MESSAGE_HEAD_BYTES),
                            &text, &rest) &&
               client_traits(client, text)->flags & TRAITS_MANY;
    for (size_t pos = 0; pos < group.len; pos += message_length(group.at + pos))
        executed += message_requests[(unsigned char)group.at[pos]].kind == REQUEST_EXECUTE;
    return executed > 1;
}

/* COMMIT of a failed transaction answers ROLLBACK, which another one would not. */
static bool can_end_elsewhere(const struct client *client, size_t row) {
    return client->transaction == 'T' || words[row].tag[0] == 'R';
}

enum begin_verdict begin_move(struct client *client, struct bytes rest) {
    bool is_at_start = client->is_routed && client->group_left == 0 && client->unsynced == 0 &&
                       pipeline_is_empty(&client->pipeline) && !client->is_copying;
    bool has_flush;
    if (!is_at_start || !first_is(client, rest, ACT_END)) return BEGIN_PASS;
    size_t length = judge_group_length(rest, &has_flush);
    size_t limit = client->set->gather_bytes;
    if (length == 0 && !has_flush && rest.len < limit) return BEGIN_WAIT;
    if (length == 0 || has_flush || length > limit) return BEGIN_PASS;
    size_t row = first_row(client, rest);
    if (!can_end_elsewhere(client, row) || !goes_on(client, bytes_of(rest.at, length)))
        return BEGIN_PASS;
    remember_send(client, bytes_of_text(words[row].tag), OWN_QUERY_END);
    return BEGIN_TAKEN;
}

void begin_moved(struct client *client) {
    client->begin.flags = 0;
    hold(client, bytes_of_text("BEGIN READ ONLY"), TRAITS_BEGINS | TRAITS_READ_ONLY);
}

/* ---- traits */

uint32_t begin_as_default(const struct client *client, uint32_t flags) {
    const struct text *value = client->parameters.values[TRACKED_DEFAULT_TRANSACTION_READ_ONLY];
    bool is_plain = flags & TRAITS_BEGINS && has_only(flags, 0, BEGIN_ONLY & ~(uint32_t)MODES);
    if (!is_plain || value == NULL || !bytes_equal_nocase(bytes_of(value->at, value->len), "on"))
        return flags;
    return (flags & ~(uint32_t)TRAITS_NEEDS_PRIMARY) | TRAITS_READ_ONLY;
}

bool begin_is_read_only(const struct client *client) {
    const struct client_begin *begin = &client->begin;
    return begin->state == BEGIN_HELD && (begin->flags & MODES) == TRAITS_READ_ONLY;
}

/* Modes that the group itself sets may be undone by a savepoint; those held may not. */
uint32_t begin_join(const struct client *client, uint32_t flags) {
    const struct client_begin *begin = &client->begin;
    if (begin->state != BEGIN_HELD) return flags;
    if (!(begin->flags & TRAITS_READ_ONLY)) flags &= ~(uint32_t)TRAITS_READ_ONLY;
    return flags | begin->flags;
}

/* ---- sending */

static void send_one(const struct request *request, struct bytes text) {
    static const char bind[8], execute[5]; /* unnamed, and without parameters or formats */
    struct client *client = request->client;
    request_copy_head(request, 'P', 1 + text.len + 1 + 2);
    outgoing_copy(request->out, "", 1);
    outgoing_copy(request->out, text.at, text.len);
    outgoing_copy(request->out, "\0\0", 3);
    effects_note(client, request_owe(request, REQUEST_PARSE, PIPELINE_SWALLOW), EFFECT_BEGIN, NULL);
    request_copy_head(request, 'B', sizeof bind);
    outgoing_copy(request->out, bind, sizeof bind);
    effects_note(client, request_owe(request, REQUEST_BIND, PIPELINE_SWALLOW), EFFECT_BEGIN, NULL);
    request_copy_head(request, 'E', sizeof execute);
    outgoing_copy(request->out, execute, sizeof execute);
    struct pipeline_entry *entry = request_owe(request, REQUEST_EXECUTE, PIPELINE_SWALLOW);
    effects_note(client, entry, EFFECT_BEGIN, NULL);
    entry->number = client->copies;
}

void begin_send(const struct request *request) {
    struct client *client = request->client;
    struct server_memory *memory = request->server->memory;
    struct bytes rest = buf_content(&client->begin.texts), text;
    memory->unnamed_owner = 0;
    while (message_text(rest, &text, &rest)) send_one(request, text);
    if (client->retry.is_holding) {
        client->begin.state = BEGIN_SENT;
    } else {
        drop(client);
    }
}

bool begin_is_last(struct client *client) {
    struct pipeline *pipeline = &client->pipeline;
    return pipeline->count > 0 && pipeline_at(pipeline, pipeline->count - 1)->kind == EFFECT_BEGIN;
}

void begin_note_error(struct client *client, const struct pipeline_match *match) {
    struct server *server = client->borrower.server;
    if (match->entry.kind != EFFECT_BEGIN) return;
    if (client->session != NULL) client->session->has_failed_name = true;
    bool lacks_sync = pipeline_is_empty(&client->pipeline) && client->unsynced == 0;
    if (!lacks_sync) return;
    if (client->request_skip > 0) {
        server_close(server, "BEGIN failed ahead of a query that is still coming");
        return;
    }
    static const char sync[] = {'S', 0, 0, 0, 4};
    stream_write_bytes(&server->stream, bytes_of(sync, sizeof sync));
    pipeline_push(&client->pipeline, REQUEST_SYNC, PIPELINE_FORWARD, NULL);
}

/* ---- what becomes of it */

void begin_settle(struct client *client) {
    if (client->begin.state == BEGIN_SENT) drop(client);
}

void begin_again(struct client *client) {
    if (client->begin.state == BEGIN_SENT) client->begin.state = BEGIN_HELD;
}

void begin_cancelled(struct client *client) {
    if (client->begin.state != BEGIN_HELD) return;
    client->begin.state = BEGIN_FAILED;
    client->transaction = 'E';
}

void begin_pack(const struct client *client, struct buf *out) {
    buf_append_u8(out, client->begin.state);
    buf_append_u32(out, client->begin.flags);
    pack_text(out, buf_content(&client->begin.texts));
}

void begin_unpack(struct client *client, struct unpack *in) {
    client->begin.state = (uint8_t)unpack_u8(in);
    client->begin.flags = unpack_u32(in);
    buf_append_bytes(&client->begin.texts, unpack_text(in));
}
