/* Traces of functions; see session/traces.h. */
#include "session/traces.h"

#include "core/check.h"
#include "core/memory.h"
#include "proto/message.h"

#define TRACES_AGE_US (UINT64_C(600) * 1000000)

/* So many are kept; with more, every function may leave what lasts. */
#define TRACES_MAX       2000
#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

struct traces *traces_of(struct map *all, struct bytes database) {
    struct map_node *node = map_find(all, database);
    if (node != NULL) return MAP_OWNER(node, struct traces, node);
    struct traces *traces = memory_new(sizeof *traces + database.len);
    memcpy(traces->database, database.at, database.len);
    map_add(all, &traces->node, bytes_of(traces->database, database.len));
    return traces;
}

void traces_release_all(struct map *all) {
    struct map_node *node = map_next(all, NULL);
    while (node != NULL) {
        struct traces *traces = MAP_OWNER(node, struct traces, node);
        node = map_next(all, node);
        map_remove(all, &traces->node);
        buf_release(&traces->told);
        buf_release(&traces->coming);
        memory_free(traces);
    }
    map_release(all);
}

bool traces_are_due(const struct traces *traces, uint32_t schema, uint64_t now_us) {
    return traces->schema != schema || now_us >= traces->due_us;
}

/* ---- what is told */

/* Kinds of rows; in their marks two blanks stand in front, as in no other. */
#define KIND_LASTS       'l'
#define KIND_SETS        's'
#define KIND_SETS_OTHERS 'u'
#define KIND_PARAMETER   'v'
#define KIND_HIDDEN      'h'

static unsigned trace_of_kind(char kind) {
    if (kind == KIND_LASTS) return TRACE_LASTS;
    if (kind == KIND_SETS) return TRACE_SETS;
    return kind == KIND_SETS_OTHERS ? TRACE_SETS_UNKNOWN : 0;
}

/* The last part of a name as traits tell it: "schema.name". */
static struct bytes last_part(struct bytes name) {
    size_t from = name.len;
    while (from > 0 && name.at[from - 1] != '.') from--;
    return bytes_of(name.at + from, name.len - from);
}

unsigned traces_of_function(const struct traces *traces, struct bytes name) {
    struct bytes rest = buf_content(&traces->told), entry;
    unsigned found = traces->is_known ? 0 : TRACE_LASTS;
    struct bytes own = last_part(name);
    while (message_text(rest, &entry, &rest)) {
        if (bytes_equal(bytes_of(entry.at + 1, entry.len - 1), own))
            found |= trace_of_kind(entry.at[0]);
    }
    return found;
}

bool traces_next_parameter(struct bytes *rest, struct bytes *name) {
    struct bytes entry;
    while (message_text(*rest, &entry, rest)) {
        *name = bytes_of(entry.at + 1, entry.len - 1);
        if (entry.at[0] == KIND_PARAMETER) return true;
    }
    return false;
}

/* ---- programs */

static bool is_word_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (unsigned char)c >= 0x80;
}

/* Takes the next word out of `rest`, in lower case into `word`, cut at its size. `mark` is a `;` in
 * front of it, or else the last byte there that is no blank. */
static bool next_word(struct bytes *rest, char *word, size_t size, char *mark) {
    size_t pos = 0, len = 0;
    *mark = ' ';
    for (; pos < rest->len && !is_word_byte(char_lower(rest->at[pos])); pos++) {
        if (rest->at[pos] > ' ' && *mark != ';') *mark = rest->at[pos];
    }
    for (; pos < rest->len && is_word_byte(char_lower(rest->at[pos])); pos++) {
        if (len + 1 < size) word[len++] = char_lower(rest->at[pos]);
    }
    word[len] = '\0';
    *rest = bytes_of(rest->at + pos, rest->len - pos);
    return len > 0;
}

/* Whether a statement of a program begins behind that word and mark. */
static bool begins_statement(const char *word, char mark) {
    static const char *const words[] = {"begin", "then", "else", "loop"};
    if (mark == ';' || mark == '$' || mark == '\'') return true;
    for (size_t i = 0; i < COUNT(words); i++) {
        if (strcmp(word, words[i]) == 0) return true;
    }
    return false;
}

unsigned traces_of_program(const struct traces *traces, struct bytes text) {
    char word[64], before[64] = "begin", mark;
    unsigned found = 0;
    while (next_word(&text, word, sizeof word, &mark)) {
        bool is_set = strcmp(word, "set") == 0 || strcmp(word, "reset") == 0;
        if (strcmp(word, "set_config") == 0 || (is_set && begins_statement(before, mark)))
            found |= TRACE_SETS_UNKNOWN;
        if (traces->is_known) found |= traces_of_function(traces, bytes_of_text(word));
        memcpy(before, word, sizeof before);
    }
    return found;
}

/* ---- the question */

/* Functions from 16384 on are no part of PostgreSQL itself. What is set up to the end of the
 * transaction does not count. One of SQL without a text has a parsed body, which can take locks. */
void traces_append_question(struct buf *query) {
    static const char text[] =
        "SELECT k, n FROM (WITH RECURSIVE p(n, t) AS (SELECT p.proname::pg_catalog.text,"
        " pg_catalog.regexp_replace(p.prosrc,"
        " E'set_config\\s*\\([^()]*,\\s*true\\s*\\)|\\mset\\s+local\\M', '', 'gi')"
        " FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384),"
        " f(k, n) AS (SELECT r.k, p.n FROM p, (VALUES"
        " ('  l'::pg_catalog.text,"
        " E'\\mtemp(orary)?\\M|pg_temp|advisory_lock|\\mlisten\\M|\\mhold\\M|^$'),"
        " ('  s', E'set_config\\s*\\(\\s*''[a-z0-9_.]+''|(^|;|\\m(begin|then|else|loop))\\s*"
        "set\\s+((session\\s+)?[a-z0-9_.]+\\s*(=|to\\M)|role\\M)'),"
        " ('  u', E'set_config\\s*\\(\\s*[^'' ]|(^|;|\\m(begin|then|else|loop))\\s*"
        "(set\\s+session\\s+authorization|reset)\\M|''\\s*(set|reset)\\s')) r(k, e)"
        " WHERE p.t OPERATOR(pg_catalog.~*) r.e"
        " UNION SELECT f.k, p.n FROM p, f"
        " WHERE pg_catalog.strpos(p.t, f.n) OPERATOR(pg_catalog.>) 0)"
        " SELECT k, n FROM f UNION SELECT '  h', f.k FROM f, pg_catalog.pg_proc q"
        " WHERE q.proname::pg_catalog.text OPERATOR(pg_catalog.=) f.n"
        " AND q.oid OPERATOR(pg_catalog.>=) 16384 AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d"
        " WHERE d.refobjid OPERATOR(pg_catalog.=) q.oid"
        " AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
        " AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_proc'::pg_catalog.regclass) UNION"
        " SELECT '  v', pg_catalog.lower(coalesce(m[1], m[2])) FROM p, "
        "pg_catalog.regexp_matches(p.t,"
        " E'set_config\\s*\\(\\s*''([a-z0-9_.]+)''|(?:^|;|\\m(?:begin|then|else|loop))\\s*set\\s+"
        "(?:session\\s+)?([a-z0-9_.]+)\\s*(?:=|to\\M)', 'gi') m"
        " LIMIT " TEXT_OF(TRACES_MAX) ") f";
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\\') buf_append_u8(query, '\\'); /* within E'' */
        buf_append_u8(query, (unsigned char)*c);
    }
}

bool traces_row(struct traces *traces, struct bytes mark, struct bytes name) {
    static const char kinds[] = {KIND_LASTS, KIND_SETS, KIND_SETS_OTHERS, KIND_PARAMETER,
                                 KIND_HIDDEN};
    bool is_trace = mark.len == 3 && memcmp(mark.at, "  ", 2) == 0;
    if (!is_trace || memchr(kinds, mark.at[2], sizeof kinds) == NULL) return false;
    buf_append_u8(&traces->coming, (unsigned char)mark.at[2]);
    buf_append_bytes(&traces->coming, name);
    buf_append_u8(&traces->coming, 0);
    return true;
}

static void end_question(struct traces *traces, uint32_t schema, uint64_t now_us) {
    buf_release(&traces->told);
    traces->told = traces->coming;
    traces->coming = (struct buf){0};
    traces->schema = schema;
    traces->due_us = now_us + TRACES_AGE_US;
}

void traces_learned(struct traces *traces, uint32_t schema, uint64_t now_us) {
    struct bytes rest = buf_content(&traces->coming), entry;
    unsigned count = 0;
    traces->hidden = 0;
    while (message_text(rest, &entry, &rest)) {
        count++; /* the name of what is hidden is a mark */
        if (entry.len == 4 && entry.at[0] == KIND_HIDDEN)
            traces->hidden |= trace_of_kind(entry.at[3]);
    }
    end_question(traces, schema, now_us);
    traces->is_known = count < TRACES_MAX;
}

void traces_failed(struct traces *traces, uint32_t schema, uint64_t now_us) {
    buf_clear(&traces->coming);
    end_question(traces, schema, now_us);
    traces->is_known = false;
}
