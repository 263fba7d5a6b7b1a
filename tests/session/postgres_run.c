/*
 * The toy language of the scripted backend; see postgres.h. One row for each verb.
 */
#include "core/check.h"
#include "core/memory.h"
#include "postgres.h"

#include <stdio.h>
#include <stdlib.h>

#define WORDS_MAX 6

struct run {
    struct postgres *postgres;
    struct bytes words[WORDS_MAX]; /* [0] is the verb; the last one the token */
    size_t count;
    struct postgres_name *portal;
    unsigned rows_max;
};

static struct bytes token_of(const struct run *run) {
    return run->words[run->count - 1];
}

static unsigned number_of(const struct run *run, size_t index) {
    char text[16] = "";
    CHECK(index < run->count && run->words[index].len < sizeof text);
    memcpy(text, run->words[index].at, run->words[index].len);
    return (unsigned)strtoul(text, NULL, 10);
}

/* ---- rows */

/* One column "text" of type text; the literal's own NUL is the last byte. */
void postgres_reply_columns(struct postgres *postgres) {
    static const char columns[] = "\0\1text\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0";
    postgres_reply(postgres, 'T', bytes_of(columns, sizeof columns));
}

static void describe(const struct run *run) {
    if (run->portal == NULL) postgres_reply_columns(run->postgres);
}

static void send_row(const struct run *run, struct bytes text) {
    struct buf body = {0};
    buf_append_u16(&body, 1);
    buf_append_u32(&body, (uint32_t)text.len);
    buf_append_bytes(&body, text);
    postgres_reply(run->postgres, 'D', buf_content(&body));
    buf_release(&body);
}

static void one_row(const struct run *run, const char *prefix) {
    struct buf text = {0};
    describe(run);
    buf_append_text(&text, prefix);
    buf_append_bytes(&text, token_of(run));
    if (run->portal != NULL && run->portal->value[0] != '\0')
        buf_append_format(&text, ":%s", run->portal->value);
    send_row(run, buf_content(&text));
    buf_release(&text);
    postgres_reply_text(run->postgres, 'C', "SELECT 1");
}

static enum postgres_outcome run_select(const struct run *run) {
    bool is_refused = run->count > 2 && bytes_equal_text(run->words[1], "standby,");
    if (is_refused && run->postgres->rules->is_standby) {
        postgres_error(run->postgres, "ERROR", "25006", token_of(run));
        return POSTGRES_FAILED;
    }
    one_row(run, "");
    return POSTGRES_DONE;
}

static enum postgres_outcome run_show(const struct run *run) {
    char prefix[POSTGRES_VALUE_SIZE + 2];
    int index = postgres_parameter(run->words[1]);
    CHECK(index >= 0);
    (void)snprintf(prefix, sizeof prefix, "%s ", run->postgres->values[index]);
    one_row(run, prefix);
    return POSTGRES_DONE;
}

/* SIZE bytes that begin and end with the token. */
static void append_filled(struct buf *text, struct bytes token, unsigned size) {
    buf_append_bytes(text, token);
    size_t filling = size > 2 * token.len ? size - 2 * token.len : 0;
    memset(buf_room(text, filling), '.', filling);
    buf_grown(text, filling);
    buf_append_bytes(text, token);
}

static enum postgres_outcome run_rows(const struct run *run) {
    unsigned count = number_of(run, 1);
    unsigned from = run->portal == NULL ? 0 : run->portal->sent;
    unsigned to = run->rows_max == 0 || from + run->rows_max > count ? count : from + run->rows_max;
    struct buf text = {0};
    char tag[32];
    describe(run);
    append_filled(&text, token_of(run), number_of(run, 2));
    for (unsigned i = from; i < to; i++) send_row(run, buf_content(&text));
    buf_release(&text);
    if (run->portal != NULL) run->portal->sent = to;
    if (to < count) {
        postgres_reply(run->postgres, 's', bytes_of("", 0));
        return POSTGRES_DONE;
    }
    (void)snprintf(tag, sizeof tag, "SELECT %u", to - from);
    postgres_reply_text(run->postgres, 'C', tag);
    return POSTGRES_DONE;
}

/* ---- troubles */

static enum postgres_outcome run_error(const struct run *run) {
    postgres_error(run->postgres, "ERROR", "22012", token_of(run));
    return POSTGRES_FAILED;
}

static enum postgres_outcome run_fatal(const struct run *run) {
    struct postgres *postgres = run->postgres;
    if (postgres->is_model) {
        postgres->state = POSTGRES_SLEEPING; /* what the pooler makes of it, no model can say */
        return POSTGRES_GOES_ON;
    }
    postgres_error(postgres, "FATAL", "57P01", token_of(run));
    postgres->state = POSTGRES_ENDED;
    return POSTGRES_GOES_ON;
}

static enum postgres_outcome run_notice(const struct run *run) {
    struct buf body = {0};
    buf_append_text0(&body, "SNOTICE");
    buf_append_text0(&body, "C00000");
    buf_append_u8(&body, 'M');
    buf_append_bytes(&body, token_of(run));
    buf_append(&body, "\0\0", 2);
    postgres_reply(run->postgres, 'N', buf_content(&body));
    buf_release(&body);
    postgres_reply_text(run->postgres, 'C', "NOTICE");
    return POSTGRES_DONE;
}

/* ---- transactions and settings */

static enum postgres_outcome run_begin(const struct run *run) {
    struct postgres *postgres = run->postgres;
    bool is_bad = bytes_equal_nocase(token_of(run), "deferrable");
    if (is_bad && !postgres->is_model) {
        postgres_error(postgres, "ERROR", "25001", token_of(run));
        return POSTGRES_FAILED;
    }
    postgres->is_begun_badly = is_bad;
    if (postgres->transaction == 'I')
        memcpy(postgres->at_begin, postgres->values, sizeof postgres->values);
    postgres->transaction = 'T';
    postgres_reply_text(postgres, 'C', "BEGIN");
    return POSTGRES_DONE;
}

static void roll_back(struct postgres *postgres) {
    if (postgres->transaction != 'I')
        memcpy(postgres->values, postgres->at_begin, sizeof postgres->values);
    postgres->transaction = 'I';
    postgres_reply_text(postgres, 'C', "ROLLBACK");
}

static enum postgres_outcome run_rollback(const struct run *run) {
    roll_back(run->postgres);
    return POSTGRES_DONE;
}

static enum postgres_outcome run_commit(const struct run *run) {
    struct postgres *postgres = run->postgres;
    if (postgres->transaction == 'E') {
        roll_back(postgres);
        return POSTGRES_DONE;
    }
    postgres->transaction = 'I';
    postgres_reply_text(postgres, 'C', "COMMIT");
    return POSTGRES_DONE;
}

/* Name and value of SET; both forms. */
static void read_set(const struct run *run, struct bytes *name, struct bytes *value) {
    *name = run->words[1];
    *value = run->count > 2 ? run->words[2] : bytes_of("", 0);
    const char *equals = memchr(name->at, '=', name->len);
    if (equals != NULL) {
        size_t len = (size_t)(equals - name->at);
        const char *end = token_of(run).at + token_of(run).len;
        *value = bytes_of(equals + 1, (size_t)(end - equals - 1));
        name->len = len;
    }
    if (value->len >= 2 && value->at[0] == '\'') *value = bytes_of(value->at + 1, value->len - 2);
}

static enum postgres_outcome run_set(const struct run *run) {
    struct postgres *postgres = run->postgres;
    struct bytes name, value;
    CHECK(run->count > 1);
    read_set(run, &name, &value);
    int index = postgres_parameter(name);
    CHECK(value.len < POSTGRES_VALUE_SIZE);
    if (index < 0 || bytes_equal_text(value, "bad")) {
        postgres_error(postgres, "ERROR", "22023", name);
        return POSTGRES_FAILED;
    }
    memcpy(postgres->values[index], value.at, value.len);
    postgres->values[index][value.len] = '\0';
    postgres_reply_text(postgres, 'C', "SET");
    return POSTGRES_DONE;
}

static enum postgres_outcome run_discard(const struct run *run) {
    struct postgres *postgres = run->postgres;
    postgres_forget(postgres->statements, false);
    memcpy(postgres->values, postgres->at_login, sizeof postgres->values);
    postgres_reply_text(postgres, 'C', "DISCARD ALL");
    return POSTGRES_DONE;
}

static enum postgres_outcome run_deallocate_one(const struct run *run) {
    struct bytes name = token_of(run);
    if (name.len > 1 && name.at[0] == '"') name = bytes_of(name.at + 1, name.len - 2);
    if (!postgres_forget_one(run->postgres->statements, name)) {
        postgres_error(run->postgres, "ERROR", "26000", name);
        return POSTGRES_FAILED;
    }
    postgres_reply_text(run->postgres, 'C', "DEALLOCATE");
    return POSTGRES_DONE;
}

static enum postgres_outcome run_deallocate(const struct run *run) {
    if (!bytes_equal_nocase(token_of(run), "all")) return run_deallocate_one(run);
    postgres_forget(run->postgres->statements, true);
    postgres_reply_text(run->postgres, 'C', "DEALLOCATE ALL");
    return POSTGRES_DONE;
}

/* ---- what takes time */

static enum postgres_outcome run_copyin(const struct run *run) {
    struct postgres *postgres = run->postgres;
    buf_clear(&postgres->running);
    buf_append_bytes(&postgres->running, token_of(run));
    postgres->is_copy_bad = bytes_equal_nocase(run->words[0], "copybad");
    postgres->copied = 0;
    postgres->state = POSTGRES_COPYING;
    postgres_reply(postgres, 'G', bytes_of("\0\0\0", 3));
    postgres_flush(postgres);
    return POSTGRES_GOES_ON;
}

static enum postgres_outcome run_copyout(const struct run *run) {
    unsigned count = number_of(run, 1);
    struct buf line = {0};
    char tag[32];
    append_filled(&line, token_of(run), number_of(run, 2));
    postgres_reply(run->postgres, 'H', bytes_of("\0\0\0", 3));
    for (unsigned i = 0; i < count; i++) postgres_reply(run->postgres, 'd', buf_content(&line));
    buf_release(&line);
    postgres_reply(run->postgres, 'c', bytes_of("", 0));
    (void)snprintf(tag, sizeof tag, "COPY %u", count);
    postgres_reply_text(run->postgres, 'C', tag);
    return POSTGRES_DONE;
}

static enum postgres_outcome run_sleep(const struct run *run) {
    struct postgres *postgres = run->postgres;
    unsigned turns = number_of(run, 1);
    describe(run);
    if (postgres->is_model && turns > 0) {
        struct run row = *run;
        send_row(&row, token_of(run));
        postgres_reply_text(postgres, 'C', "SELECT 1");
        return POSTGRES_DONE;
    }
    buf_clear(&postgres->running);
    buf_append_bytes(&postgres->running, token_of(run));
    postgres->sleep_turns = turns;
    postgres_flush(postgres);
    postgres->state = POSTGRES_SLEEPING;
    return POSTGRES_GOES_ON;
}

void postgres_wake(struct postgres *postgres) {
    struct run run = {.postgres = postgres};
    send_row(&run, buf_content(&postgres->running));
    postgres_reply_text(postgres, 'C', "SELECT 1");
}

/* ---- the table */

static const struct verb {
    const char *name;
    enum postgres_outcome (*run)(const struct run *run);
    bool has_rows;
    bool ends_failed; /* also runs in a failed transaction */
} verbs[] = {
    {"select", run_select, true, false},     {"show", run_show, true, false},
    {"rows", run_rows, true, false},         {"error", run_error, false, false},
    {"fatal", run_fatal, false, false},      {"notice", run_notice, false, false},
    {"begin", run_begin, false, false},      {"commit", run_commit, false, true},
    {"rollback", run_rollback, false, true}, {"set", run_set, false, false},
    {"discard", run_discard, false, false},  {"deallocate", run_deallocate, false, false},
    {"copyin", run_copyin, false, false},    {"copybad", run_copyin, false, false},
    {"copyout", run_copyout, false, false},  {"sleep", run_sleep, true, false},
};

static void split(struct run *run, struct bytes text) {
    const char *end = text.at + text.len;
    for (const char *at = text.at; at < end;) {
        const char *stop = memchr(at, ' ', (size_t)(end - at));
        if (stop == NULL) stop = end;
        if (stop > at) {
            /* The last place is for the token, however many words there are. */
            size_t place = run->count < WORDS_MAX ? run->count++ : WORDS_MAX - 1;
            run->words[place] = bytes_of(at, (size_t)(stop - at));
        }
        at = stop + 1;
    }
}

static const struct verb *verb_of(struct bytes word) {
    for (size_t i = 0; i < COUNT(verbs); i++) {
        if (bytes_equal_nocase(word, verbs[i].name)) return &verbs[i];
    }
    return NULL;
}

bool postgres_has_rows(struct bytes text) {
    struct run run = {0};
    split(&run, text);
    const struct verb *verb = run.count == 0 ? NULL : verb_of(run.words[0]);
    return verb != NULL && verb->has_rows;
}

enum postgres_outcome postgres_run(struct postgres *postgres, struct bytes text,
                                   struct postgres_name *portal, unsigned rows_max) {
    struct run run = {.postgres = postgres, .portal = portal, .rows_max = rows_max};
    split(&run, text);
    if (run.count == 0) {
        postgres_reply(postgres, 'I', bytes_of("", 0));
        return POSTGRES_DONE;
    }
    const struct verb *verb = verb_of(run.words[0]);
    if (verb == NULL) {
        postgres_error(postgres, "ERROR", "42601", text);
        return POSTGRES_FAILED;
    }
    if (postgres->transaction == 'E' && !verb->ends_failed) {
        postgres_error(postgres, "ERROR", "25P02", token_of(&run));
        return POSTGRES_FAILED;
    }
    return verb->run(&run);
}
