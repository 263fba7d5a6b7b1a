/*
 * What arrives from a client or a server, cut into messages. The first byte of an input chooses
 * what reads the rest:
 *
 *      0  a client's bytes: message by message, and as groups, which a cut must not change
 *      1  a server's bytes: message by message
 *      2  a conversation: two bytes for each step, which the pipeline plays against a plain model
 *
 * Beside what the sanitizers find, each reader's own promises are CHECKed.
 */
#include "client/parts.h"
#include "core/check.h"
#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- frames */

/* Takes the next whole message off; false if there is none. */
static bool take_message(struct bytes *input, const struct message_row **row, struct bytes *body,
                         const struct message_row *table) {
    if (input->len < MESSAGE_HEAD_BYTES) return false;
    uint32_t length = message_length(input->at);
    CHECK(length == 0 || (length >= MESSAGE_HEAD_BYTES && length <= MESSAGE_LENGTH_MAX + 1));
    if (length == 0 || length > input->len) return false;
    *row = &table[(unsigned char)input->at[0]];
    *body = bytes_of(input->at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
    *input = bytes_of(input->at + length, input->len - length);
    return true;
}

/* All texts of a body lie in it, one behind the other, and their NULs are what lies between. */
static void read_texts(struct bytes body) {
    const char *end = body.at + body.len;
    struct bytes text, rest;
    while (message_text(body, &text, &rest)) {
        CHECK(text.at == body.at && text.len < body.len);
        CHECK(memchr(body.at, '\0', body.len) == body.at + text.len);
        body = bytes_of(body.at + text.len + 1, body.len - text.len - 1);
        CHECK(rest.at == body.at && rest.len == body.len && rest.at + rest.len == end);
    }
    CHECK(memchr(body.at, '\0', body.len) == NULL);
}

static size_t read_messages(struct bytes input, const struct message_row *table, unsigned kinds) {
    const struct message_row *row;
    struct bytes body;
    size_t count = 0, size = input.len;
    while (take_message(&input, &row, &body, table)) {
        CHECK((row->name == NULL) == (row->kind == 0));
        CHECK(row->kind < kinds && row->length_min <= row->length_max);
        read_texts(body);
        count++;
    }
    CHECK(count * MESSAGE_HEAD_BYTES + input.len <= size);
    return count;
}

/* ---- groups */

/* Where the first group ends, read message by message. */
static size_t group_length(struct bytes input) {
    const struct message_row *row;
    struct bytes body;
    size_t size = input.len;
    while (take_message(&input, &row, &body, message_requests)) {
        if (row->kind == REQUEST_QUERY || row->kind == REQUEST_FUNCTION ||
            row->kind == REQUEST_SYNC)
            return size - input.len;
    }
    return 0;
}

static void fuzz_requests(struct bytes input) {
    size_t groups = 0;
    size_t messages = read_messages(input, message_requests, REQUEST_KINDS);
    for (;;) {
        bool has_flush, had_flush;
        size_t length = judge_group_length(input, &has_flush);
        CHECK(length == group_length(input));
        if (length == 0) break;
        CHECK(length >= MESSAGE_HEAD_BYTES && length <= input.len);
        /* A group is what it is without what follows, and none without its last byte. */
        CHECK(judge_group_length(bytes_of(input.at, length), &had_flush) == length);
        CHECK(had_flush == has_flush);
        CHECK(judge_group_length(bytes_of(input.at, length - 1), &had_flush) == 0);
        input = bytes_of(input.at + length, input.len - length);
        CHECK(++groups <= messages);
    }
}

static void fuzz_replies(struct bytes input) {
    (void)read_messages(input, message_replies, REPLY_KINDS);
}

/* ---- the pipeline */

#define MODEL_MAX 96u

struct model {
    struct pipeline pipeline;
    uint8_t requests[MODEL_MAX]; /* what is owed, in order */
    uint8_t actions[MODEL_MAX];
    uint32_t numbers[MODEL_MAX];
    uint32_t count;
    uint32_t next;
};

static bool ends_in_ready(unsigned request) {
    return request == REQUEST_QUERY || request == REQUEST_FUNCTION || request == REQUEST_SYNC;
}

static void model_verify(struct model *model) {
    struct pipeline *pipeline = &model->pipeline;
    uint32_t owed = 0;
    CHECK(pipeline->count == model->count && pipeline->count <= pipeline->size);
    for (uint32_t i = 0; i < model->count; i++) {
        const struct pipeline_entry *entry = pipeline_at(pipeline, i);
        CHECK(entry->request == model->requests[i] && entry->action == model->actions[i]);
        CHECK(entry->number == model->numbers[i] && entry->effect == model);
        owed += ends_in_ready(entry->request);
    }
    CHECK(pipeline->owed_ready == owed);
    CHECK(pipeline_is_empty(pipeline) == (model->count == 0));
    CHECK(model->count > 0 || pipeline->entries == NULL);
    bool lacks = model->count > 0 && !ends_in_ready(model->requests[model->count - 1]);
    CHECK(pipeline_lacks_sync(pipeline) == lacks);
}

static void model_pop(struct model *model) {
    CHECK(model->count > 0);
    model->count--;
    memmove(model->requests, model->requests + 1, model->count);
    memmove(model->actions, model->actions + 1, model->count);
    memmove(model->numbers, model->numbers + 1, model->count * sizeof model->numbers[0]);
}

static void model_push(struct model *model, unsigned kind, unsigned action) {
    if (model->count == MODEL_MAX) return;
    struct pipeline_entry *entry = pipeline_push(&model->pipeline, kind, action, model);
    CHECK(entry->number == 0);
    entry->number = ++model->next;
    model->requests[model->count] = (uint8_t)kind;
    model->actions[model->count] = (uint8_t)action;
    model->numbers[model->count] = model->next;
    model->count++;
}

/* The caller's part after an error: everything up to the next Sync will not be answered. */
static void skip(struct model *model) {
    while (pipeline_skips(&model->pipeline)) {
        CHECK(model->count > 0 && model->requests[0] != REQUEST_SYNC);
        CHECK(pipeline_pop(&model->pipeline).number == model->numbers[0]);
        model_pop(model);
    }
    CHECK(model->count == 0 || model->requests[0] == REQUEST_SYNC);
}

static void model_reply(struct model *model, unsigned kind) {
    struct pipeline_match match = pipeline_match(&model->pipeline, kind);
    bool is_asked_for_by_us = model->count > 0 && model->actions[0] == PIPELINE_SWALLOW;
    if (model->count > 0) CHECK(match.entry.number == model->numbers[0]);
    switch (match.verdict) {
    case PIPELINE_PASS:
        CHECK(!is_asked_for_by_us);
        break;
    case PIPELINE_DROP:
        CHECK(is_asked_for_by_us);
        break;
    case PIPELINE_SKIP:
        CHECK(kind == REPLY_ERROR && !match.is_popped);
        skip(model);
        break;
    default:
        CHECK(!match.is_popped);
        break;
    }
    if (kind == REPLY_READY && match.verdict != PIPELINE_BROKEN) CHECK(match.is_popped);
    if (match.is_popped) model_pop(model);
}

static void fuzz_conversation(struct bytes input) {
    struct model model = {0};
    pipeline_init(&model.pipeline);
    for (; input.len >= 2; input = bytes_of(input.at + 2, input.len - 2)) {
        unsigned step = (unsigned char)input.at[0], kind = (unsigned char)input.at[1];
        if (step < 128) {
            model_push(&model, kind % REQUEST_KINDS, step % (PIPELINE_MAKE_UP + 1));
        } else if (step < 255) {
            model_reply(&model, kind % REPLY_KINDS);
        } else {
            pipeline_release(&model.pipeline);
            model.count = 0;
        }
        model_verify(&model);
    }
    pipeline_release(&model.pipeline);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const targets[])(struct bytes input) = {fuzz_requests, fuzz_replies,
                                                          fuzz_conversation};
    if (size == 0) return 0;
    targets[data[0] % COUNT(targets)](bytes_of((const char *)data + 1, size - 1));
    return 0;
}
