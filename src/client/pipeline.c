/*
 * A ring of owed replies; see client/pipeline.h.
 *
 * What a reply does to the head entry is one table: rows are kinds of reply, columns the kinds of
 * request that may be at the head, and a cell says whether the reply belongs there and whether it
 * ends the entry's turn. Replies that come at any time (notices, notifications, parameter status)
 * belong to nobody and follow the head's fate only where Weir itself asked.
 */
#include "client/pipeline.h"

#include "core/memory.h"

const uint8_t pipeline_turns[REPLY_KINDS][REQUEST_KINDS] = {
    [REPLY_DATA] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_PARSED] = {[REQUEST_PARSE] = TURN_ENDS},
    [REPLY_BOUND] = {[REQUEST_BIND] = TURN_ENDS},
    [REPLY_CLOSED] = {[REQUEST_CLOSE] = TURN_ENDS},
    [REPLY_PARAMETERS] = {[REQUEST_DESCRIBE] = TURN_STAYS},
    [REPLY_COLUMNS] = {[REQUEST_QUERY] = TURN_STAYS,
                       [REQUEST_DESCRIBE] = TURN_ENDS,
                       [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_NO_DATA] = {[REQUEST_DESCRIBE] = TURN_ENDS},
    [REPLY_COMPLETE] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_ENDS},
    [REPLY_EMPTY] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_ENDS},
    [REPLY_SUSPENDED] = {[REQUEST_EXECUTE] = TURN_ENDS},
    [REPLY_READY] =
        {[REQUEST_QUERY] = TURN_ENDS, [REQUEST_FUNCTION] = TURN_ENDS, [REQUEST_SYNC] = TURN_ENDS},
    [REPLY_COPY_IN] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_COPY_OUT] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_COPY_BOTH] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_COPY_DONE] = {[REQUEST_QUERY] = TURN_STAYS, [REQUEST_EXECUTE] = TURN_STAYS},
    [REPLY_FUNCTION] = {[REQUEST_FUNCTION] = TURN_STAYS},
};

static bool is_asynchronous(enum message_reply reply) {
    return reply == REPLY_NOTICE || reply == REPLY_NOTIFICATION || reply == REPLY_STATUS;
}

void pipeline_init(struct pipeline *pipeline) {
    *pipeline = (struct pipeline){.size = PIPELINE_INLINE};
}

void pipeline_release(struct pipeline *pipeline) {
    memory_free(pipeline->entries);
    pipeline_init(pipeline);
}

static void grow(struct pipeline *pipeline) {
    uint32_t size = pipeline->size * 2;
    struct pipeline_entry *entries = memory_new(size * sizeof *entries);
    for (uint32_t i = 0; i < pipeline->count; i++) entries[i] = *pipeline_at(pipeline, i);
    memory_free(pipeline->entries);
    pipeline->entries = entries;
    pipeline->size = size;
    pipeline->first = 0;
}

struct pipeline_entry *pipeline_push(struct pipeline *pipeline, enum message_request request,
                                     enum pipeline_action action, void *effect) {
    if (pipeline->count == pipeline->size) grow(pipeline);
    struct pipeline_entry *entry = pipeline_at(pipeline, pipeline->count++);
    entry->request = (uint8_t)request;
    entry->action = (uint8_t)action;
    entry->kind = 0;
    entry->number = 0;
    entry->effect = effect;
    if (pipeline_ends_in_ready(request)) pipeline->owed_ready++;
    return entry;
}

bool pipeline_lacks_sync(const struct pipeline *pipeline) {
    if (pipeline->count == 0) return false;
    const struct pipeline_entry *entries =
        pipeline->entries == NULL ? pipeline->inline_entries : pipeline->entries;
    uint32_t last = (pipeline->first + pipeline->count - 1) & (pipeline->size - 1);
    return !pipeline_ends_in_ready(entries[last].request);
}

struct pipeline_match pipeline_match(struct pipeline *pipeline, enum message_reply reply) {
    struct pipeline_match match = {.verdict = PIPELINE_PASS};
    struct pipeline_entry *head = pipeline_head(pipeline);
    if (head == NULL) {
        if (!is_asynchronous(reply) && reply != REPLY_ERROR) match.verdict = PIPELINE_BROKEN;
        return match;
    }
    match.entry = *head;
    bool is_swallowed = head->action == PIPELINE_SWALLOW;
    if (reply == REPLY_ERROR && !pipeline_ends_in_ready(head->request)) {
        match.verdict = PIPELINE_SKIP;
        return match;
    }
    if (is_swallowed) match.verdict = PIPELINE_DROP;
    if (is_asynchronous(reply) || reply == REPLY_ERROR) return match;
    switch (pipeline_turns[reply][head->request]) {
    case TURN_NONE:
        match.verdict = PIPELINE_BROKEN;
        break;
    case TURN_ENDS:
        (void)pipeline_pop(pipeline);
        match.is_popped = true;
        break;
    default:
        break;
    }
    return match;
}

void pipeline_drop_syncs(struct pipeline *pipeline) {
    while (pipeline->count > 1) {
        struct pipeline_entry head = *pipeline_at(pipeline, 0);
        struct pipeline_entry *next = pipeline_at(pipeline, 1);
        if (next->request != REQUEST_SYNC || next->number != head.number) return;
        CHECK(pipeline->owed_ready > 0);
        *next = head;
        pipeline->first = (pipeline->first + 1) & (pipeline->size - 1);
        pipeline->count--;
        pipeline->owed_ready--;
    }
}

bool pipeline_skips(struct pipeline *pipeline) {
    struct pipeline_entry *head = pipeline_head(pipeline);
    return head != NULL && head->request != REQUEST_SYNC;
}
