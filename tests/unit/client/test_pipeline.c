/*
 * The pipeline: conversations as rows. What a client sends and a server answers are the type bytes
 * of the protocol; what becomes of each answer is one letter, and what is owed at the end is what
 * is left of the requests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "client/pipeline.h"
#include "core/check.h"
#include "unit/dies.h"

#include <string.h>

/*
 * Requests: their type bytes; a ~ ahead of one says that Weir asks it, a ! that Weir answers it.
 * Verdicts: . passed   o passed, and the entry is done   - dropped   = dropped, and it is done
 *           s skipped up to the Sync, as an error       x broken
 */
static const struct {
    const char *requests;
    const char *replies;
    const char *verdicts;
    const char *left;
} rows[] = {
    /* simple queries */
    {"Q", "TDDCZ", "....o", ""},
    {"Q", "CTDCIZ", ".....o", ""},
    {"Q", "EZ", ".o", ""},
    {"Q", "TDE", "...", "Q"},
    {"Q", "NASZ", "...o", ""},
    {"Q", "GCZ", "..o", ""},
    {"Q", "HddcCZ", ".....o", ""},
    {"Q", "W", ".", "Q"},
    {"QQ", "TCZ", "..o", "Q"},
    {"QQ", "TCZEZ", "..o.o", ""},
    {"F", "VZ", ".o", ""},
    {"F", "EZ", ".o", ""},
    /* the extended protocol */
    {"PBDES", "12TDDCZ", "ooo..oo", ""},
    {"PBDES", "12nCZ", "ooooo", ""},
    {"PDS", "1tTZ", "o.oo", ""},
    {"PDS", "1tnZ", "o.oo", ""},
    {"BES", "2DDsZ", "o..oo", ""},
    {"BES", "2IZ", "ooo", ""},
    {"BES", "2GCZ", "o.oo", ""},
    {"BES", "2HdcCZ", "o...oo", ""},
    {"CS", "3Z", "oo", ""},
    {"S", "Z", "o", ""},
    {"S", "EZ", ".o", ""}, /* a commit that failed at the Sync */
    {"PBES", "12", "oo", "ES"},
    {"PBES", "12NDAC", "oo...o", "S"},
    /* an error takes out everything up to the Sync */
    {"PBDES", "EZ", "so", ""},
    {"PBDES", "12TDEZ", "ooo.so", ""},
    {"PBESPBES", "1EZ12CZ", "osooooo", ""},
    {"PBES", "E", "s", "S"},
    {"PBE", "E", "s", ""},
    {"BQS", "EZ", "so", ""}, /* a Query is skipped as well */
    {"BFS", "EZ", "so", ""},
    {"SPS", "ZEZ", "oso", ""},
    /* what Weir asked is not passed on */
    {"~Q", "SCZ", "--=", ""},
    {"~QQ", "CZTCZ", "-=..o", ""},
    {"~QQ", "EZCZ", "-=.o", ""},
    {"~PBES", "12CZ", "=ooo", ""},
    {"~PBES", "EZ", "so", ""}, /* the client sees it: its statement could not be prepared */
    {"~C~PBES", "312CZ", "==ooo", ""},
    {"B~QS", "2NCZZ", "o--=o", ""},
    {"P~S", "1Z", "o=", ""},
    /* messages that come at any time */
    {"", "NAS", "...", ""},
    {"", "E", ".", ""}, /* the server's last words */
    /* nobody asked for these */
    {"", "Z", "x", ""},
    {"", "D", "x", ""},
    {"", "1", "x", ""},
    {"S", "1", "x", "S"},
    {"S", "C", "x", "S"},
    {"S", "D", "x", "S"},
    {"P", "2", "x", "P"},
    {"P", "Z", "x", "P"},
    {"B", "1", "x", "B"},
    {"D", "C", "x", "D"},
    {"D", "D", "x", "D"},
    {"E", "Z", "x", "E"},
    {"E", "n", "x", "E"},
    {"C", "C", "x", "C"},
    {"Q", "1", "x", "Q"},
    {"Q", "s", "x", "Q"},
    {"Q", "t", "x", "Q"},
    {"Q", "V", "x", "Q"},
    {"F", "D", "x", "F"},
    {"F", "C", "x", "F"},
    {"Q", "R", "x", "Q"},
    {"Q", "K", "x", "Q"},
    {"Q", "v", "x", "Q"},
    {"Q", "?", "x", "Q"},
};

static enum message_request request_of(char type) {
    return message_requests[(unsigned char)type].kind;
}

static void push_all(struct pipeline *pipeline, const char *requests) {
    enum pipeline_action action = PIPELINE_FORWARD;
    for (const char *type = requests; *type != '\0'; type++) {
        if (*type == '~') {
            action = PIPELINE_SWALLOW;
        } else if (*type == '!') {
            action = PIPELINE_MAKE_UP;
        } else {
            struct pipeline_entry *entry =
                pipeline_push(pipeline, request_of(*type), action, (void *)(uintptr_t)type);
            assert_int_equal(entry->number, 0);
            action = PIPELINE_FORWARD;
        }
    }
}

/* One reply, and what whoever passes it on does about it. */
static char take(struct pipeline *pipeline, char type) {
    struct pipeline_entry *head = pipeline_head(pipeline);
    void *effect = head == NULL ? NULL : head->effect;
    uint32_t count = pipeline->count;
    struct pipeline_match match =
        pipeline_match(pipeline, message_replies[(unsigned char)type].kind);
    assert_ptr_equal(match.entry.effect, effect);
    assert_int_equal(pipeline->count, count - match.is_popped);
    switch (match.verdict) {
    case PIPELINE_PASS:
        return match.is_popped ? 'o' : '.';
    case PIPELINE_DROP:
        return match.is_popped ? '=' : '-';
    case PIPELINE_SKIP:
        while (pipeline_skips(pipeline)) (void)pipeline_pop(pipeline);
        return match.is_popped ? '?' : 's';
    default:
        return match.is_popped ? '?' : 'x';
    }
}

/* What the pipeline says of itself, against what is in it. */
static void assert_sound(struct pipeline *pipeline) {
    uint32_t owed = 0;
    bool lacks_sync = false;
    for (uint32_t i = 0; i < pipeline->count; i++) {
        unsigned request = pipeline_at(pipeline, i)->request;
        bool is_ready =
            request == REQUEST_QUERY || request == REQUEST_FUNCTION || request == REQUEST_SYNC;
        owed += is_ready;
        lacks_sync = !is_ready;
    }
    assert_int_equal(pipeline->owed_ready, owed);
    assert_int_equal(pipeline_lacks_sync(pipeline), lacks_sync);
    assert_int_equal(pipeline_is_empty(pipeline), pipeline->count == 0);
    assert_int_equal(pipeline_head(pipeline) == NULL, pipeline->count == 0);
}

static void conversations(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct pipeline pipeline;
        pipeline_init(&pipeline);
        push_all(&pipeline, rows[i].requests);
        assert_sound(&pipeline);
        char verdicts[32] = "", left[32] = "";
        for (size_t j = 0; rows[i].replies[j] != '\0'; j++) {
            verdicts[j] = take(&pipeline, rows[i].replies[j]);
            assert_sound(&pipeline);
        }
        for (uint32_t j = 0; j < pipeline.count; j++)
            left[j] = *(const char *)pipeline_at(&pipeline, j)->effect;
        if (strcmp(verdicts, rows[i].verdicts) != 0 || strcmp(left, rows[i].left) != 0)
            fail_msg("\"%s\" then \"%s\": \"%s\", left \"%s\"", rows[i].requests, rows[i].replies,
                     verdicts, left);
        pipeline_release(&pipeline);
    }
}

/* Every reply to every request at the head: an answer that ends a turn takes out one entry, one
 * that nobody asked for takes out none. */
static void no_reply_takes_what_is_not_its_own(void **unused) {
    (void)unused;
    for (unsigned request = REQUEST_UNKNOWN; request < REQUEST_KINDS; request++) {
        for (unsigned reply = REPLY_UNKNOWN; reply < REPLY_KINDS; reply++) {
            struct pipeline pipeline;
            pipeline_init(&pipeline);
            (void)pipeline_push(&pipeline, request, PIPELINE_FORWARD, NULL);
            (void)pipeline_push(&pipeline, REQUEST_SYNC, PIPELINE_FORWARD, NULL);
            struct pipeline_match match = pipeline_match(&pipeline, reply);
            assert_int_equal(pipeline.count, match.is_popped ? 1 : 2);
            assert_int_equal(match.entry.request, request);
            if (match.verdict == PIPELINE_BROKEN) assert_false(match.is_popped);
            assert_sound(&pipeline);
            pipeline_release(&pipeline);
        }
    }
}

/* Entries keep their order and what the caller noted in them while the ring grows and turns. */
static void the_ring_turns_and_grows(void **unused) {
    (void)unused;
    struct pipeline pipeline;
    uint32_t in = 0, out = 0, seed = 3;
    pipeline_init(&pipeline);
    for (unsigned step = 0; step < 50000; step++) {
        seed = seed * 1664525u + 1013904223u;
        bool is_growing = step / 5000 % 2 == 0;
        if ((seed >> 16) % 8 < (is_growing ? 5 : 3)) {
            struct pipeline_entry *entry =
                pipeline_push(&pipeline, in % 3 == 0 ? REQUEST_SYNC : REQUEST_BIND,
                              in % 5 == 0 ? PIPELINE_SWALLOW : PIPELINE_FORWARD, &pipeline);
            entry->number = in++;
        } else if (in > out) {
            struct pipeline_entry entry = pipeline_pop(&pipeline);
            assert_int_equal(entry.number, out);
            assert_int_equal(entry.request, out % 3 == 0 ? REQUEST_SYNC : REQUEST_BIND);
            assert_int_equal(entry.action, out % 5 == 0 ? PIPELINE_SWALLOW : PIPELINE_FORWARD);
            assert_ptr_equal(entry.effect, &pipeline);
            out++;
        }
        assert_int_equal(pipeline.count, in - out);
        if (in == out) assert_null(pipeline.entries); /* an idle client owns no memory */
        if (step % 100 == 0) assert_sound(&pipeline);
    }
    assert_true(in > 20000);
    pipeline_release(&pipeline);
    assert_true(pipeline_is_empty(&pipeline));
    assert_null(pipeline.entries);
    assert_sound(&pipeline);
}

static void it_is_full_at_its_bound(void **unused) {
    (void)unused;
    struct pipeline pipeline;
    pipeline_init(&pipeline);
    uint32_t count = 0;
    while (!pipeline_is_full(&pipeline) && count <= PIPELINE_MAX) {
        (void)pipeline_push(&pipeline, REQUEST_QUERY, PIPELINE_FORWARD, NULL);
        count++;
    }
    assert_int_equal(count, PIPELINE_MAX);
    assert_int_equal(pipeline.owed_ready, PIPELINE_MAX);
    for (; count > 0; count--) assert_int_equal(take(&pipeline, 'Z'), 'o');
    assert_true(pipeline_is_empty(&pipeline));
    assert_int_equal(pipeline.owed_ready, 0);
    assert_null(pipeline.entries);
    pipeline_release(&pipeline);
}

/* An answer that Weir makes up waits at the head for its turn. */
static void made_up_answers_wait(void **unused) {
    (void)unused;
    struct pipeline pipeline;
    pipeline_init(&pipeline);
    push_all(&pipeline, "B!PS");
    assert_int_equal(pipeline_head(&pipeline)->action, PIPELINE_FORWARD);
    assert_int_equal(take(&pipeline, '2'), 'o');
    assert_int_equal(pipeline_head(&pipeline)->action, PIPELINE_MAKE_UP);
    assert_int_equal(pipeline_pop(&pipeline).request, REQUEST_PARSE);
    assert_int_equal(take(&pipeline, 'Z'), 'o');
    pipeline_release(&pipeline);
}

static void pop_from_an_empty_one(void) {
    struct pipeline pipeline;
    pipeline_init(&pipeline);
    (void)pipeline_pop(&pipeline);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    assert_true(dies(pop_from_an_empty_one));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations),
        cmocka_unit_test(no_reply_takes_what_is_not_its_own),
        cmocka_unit_test(the_ring_turns_and_grows),
        cmocka_unit_test(it_is_full_at_its_bound),
        cmocka_unit_test(made_up_answers_wait),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
