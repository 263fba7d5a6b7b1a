/* What has been found in one statement; see sql/findings.h. */
#include "sql/findings.h"

#include "core/check.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned rank_of(uint32_t flags) {
    if (flags & TRAITS_KNOWN_WRITE) return 4;
    if (flags & TRAITS_MAY_WRITE) return 3;
    return flags & TRAITS_NEEDS_PRIMARY ? 2 : 1;
}

/* Formats a reason that weighs more than the one at hand. */
static void say_why(char why[TRAITS_WHY_SIZE], unsigned *rank, uint32_t flags, const char *format,
                    va_list list) {
    if (rank_of(flags) <= *rank) return;
    *rank = rank_of(flags);
    if (vsnprintf(why, TRAITS_WHY_SIZE, format, list) < 0) why[0] = '\0';
}

void findings_note(struct findings *findings, uint32_t flags, const char *format, ...) {
    findings->flags |= flags;
    if (flags & TRAITS_MAY_WRITE) findings->writes_beyond = true;
    va_list list;
    va_start(list, format);
    say_why(findings->why, &findings->why_rank, flags, format, list);
    va_end(list);
}

void findings_doubt(struct findings *findings, uint32_t flags, const char *format, ...) {
    findings->doubts |= flags;
    va_list list;
    va_start(list, format);
    say_why(findings->doubt, &findings->doubt_rank, flags, format, list);
    va_end(list);
}

/* Whether the names hold this one, which ends in its NUL. */
static bool has_name(struct bytes names, struct bytes name) {
    for (size_t at = 0; at < names.len;) {
        const char *end = memchr(names.at + at, '\0', names.len - at);
        if (end == NULL) return false;
        size_t len = (size_t)(end - names.at) + 1 - at;
        if (bytes_equal(bytes_of(names.at + at, len), name)) return true;
        at += len;
    }
    return false;
}

/* Ends the name that begins at `before`, and takes it out again where it is known already. */
static void end_name(struct findings *findings, size_t before) {
    struct buf *names = findings->names;
    buf_append_u8(names, 0);
    struct bytes all = buf_content(names);
    bool is_known = has_name(bytes_of(all.at, before), bytes_of(all.at + before, all.len - before));
    if (all.len > FINDINGS_NAMES_BYTES_MAX) findings->names_cut = true;
    if (is_known || all.len > FINDINGS_NAMES_BYTES_MAX) buf_truncate(names, before);
}

void findings_add_name(struct findings *findings, char kind, const struct bytes *parts,
                       size_t parts_count) {
    struct buf *names = findings->names;
    size_t before = buf_length(names);
    buf_append(names, &kind, 1);
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].len == 0) continue;
        /* A dot within a part could be taken for one between two. */
        if (memchr(parts[i].at, '.', parts[i].len) != NULL) findings->names_cut = true;
        if (buf_length(names) > before + 1) buf_append_text(names, ".");
        buf_append_bytes(names, parts[i]);
    }
    end_name(findings, before);
}

void findings_add_prepared(struct findings *findings, struct bytes name) {
    size_t before = buf_length(findings->names);
    buf_append_u8(findings->names, 'p');
    buf_append_bytes(findings->names, name);
    end_name(findings, before);
}

/* What looks like a parameter of the session and is none: it cannot be set again elsewhere. */
static bool is_of_moment(struct bytes name) {
    static const char *const names[] = {"transaction_isolation", "transaction_read_only",
                                        "transaction_deferrable", "seed"};
    for (size_t i = 0; i < COUNT(names); i++) {
        if (bytes_equal_nocase(name, names[i])) return true;
    }
    return false;
}

/* The name of a parameter, among those of functions and relations. */
static void add_setting(struct findings *findings, char kind, struct bytes name) {
    if (is_of_moment(name)) return;
    size_t before = buf_length(findings->names);
    buf_append(findings->names, &kind, 1);
    for (size_t i = 0; i < name.len; i++)
        buf_append_u8(findings->names, (unsigned char)char_lower(name.at[i]));
    end_name(findings, before);
}

static void add_parameter(struct findings *findings, struct bytes name) {
    char lower[TRAITS_WHY_SIZE] = "";
    if (name.len >= sizeof lower) name.len = 0;
    for (size_t i = 0; i < name.len; i++) lower[i] = char_lower(name.at[i]);
    if (findings->parameters > 0 && strcmp(lower, findings->parameter) == 0) return;
    if (findings->parameters++ > 0) lower[0] = '\0';
    memcpy(findings->parameter, lower, sizeof lower);
}

/* The ways to write "on" that need no guessing; any other value of a switch may mean off. */
static bool is_on(struct bytes value) {
    return bytes_equal_nocase(value, "on") || bytes_equal_nocase(value, "true") ||
           bytes_equal_nocase(value, "yes") || bytes_equal_text(value, "1");
}

/* Settings to values under which every statement answers as it does by default: sessions that have
 * set them read from replicas as before. PgJDBC sets extra_float_digits at each login; since
 * PostgreSQL 12 all values above 0 give the shortest exact form. */
static const struct {
    const char *name, *value;
} no_difference[] = {
    {"extra_float_digits", "1"},
    {"extra_float_digits", "2"},
    {"extra_float_digits", "3"},
};

static bool makes_no_difference(struct bytes name, struct bytes value) {
    if (value.at == NULL) return false;
    for (size_t i = 0; i < COUNT(no_difference); i++) {
        if (bytes_equal_nocase(name, no_difference[i].name) &&
            bytes_equal_text(value, no_difference[i].value))
            return true;
    }
    return false;
}

void findings_set_parameter(struct findings *findings, struct bytes name, struct bytes value,
                            uint32_t flag) {
    int shown = name.len > 40 ? 40 : (int)name.len;
    add_setting(findings, flag == TRAITS_SETS ? 's' : 'l', name);
    if (makes_no_difference(name, value)) {
        uint32_t alike = flag == TRAITS_SETS ? TRAITS_NEEDS_PRIMARY | TRAITS_SETS_ALIKE : 0;
        findings_note(findings, alike, "sets %.*s", shown, name.at);
        return;
    }
    add_parameter(findings, name);
    if (bytes_equal_nocase(name, "transaction_read_only")) {
        if (value.at != NULL && is_on(value)) {
            findings_note(findings, TRAITS_READ_ONLY | TRAITS_SETS_LOCAL, "sets %.*s", shown,
                          name.at);
            return;
        }
        flag = TRAITS_READ_WRITE | TRAITS_SETS_LOCAL;
    }
    if (bytes_equal_nocase(name, "transaction_isolation") ||
        bytes_equal_nocase(name, "default_transaction_isolation")) {
        if (bytes_equal_nocase(name, "transaction_isolation")) flag = TRAITS_SETS_LOCAL;
        if (value.at == NULL || bytes_equal_nocase(value, "serializable"))
            flag |= TRAITS_SERIALIZABLE;
    }
    /* What ends with the transaction belongs to its node, whichever that is. */
    uint32_t need = flag == TRAITS_SETS_LOCAL ? 0 : TRAITS_NEEDS_PRIMARY;
    findings_note(findings, need | flag, "sets %.*s", shown, name.at);
}

void findings_reset_parameter(struct findings *findings, struct bytes name) {
    add_setting(findings, 'd', name);
    findings_set_parameter(findings, name, bytes_of(NULL, 0), TRAITS_SETS);
}

void findings_merge(struct findings *findings, const struct findings *more) {
    uint32_t flags = more->flags;
    if (more->is_plan_only) flags &= ~(uint32_t)TRAITS_KNOWN_WRITE;
    findings->flags |= flags;
    findings->doubts |= more->doubts;
    findings->names_cut |= more->names_cut;
    findings->shows_rows |= more->shows_rows;
    findings->reads_beyond |= more->reads_beyond;
    findings->writes_beyond |= more->writes_beyond;
    if (more->doubt_rank > findings->doubt_rank) {
        findings->doubt_rank = more->doubt_rank;
        memcpy(findings->doubt, more->doubt, sizeof findings->doubt);
    }
    if (more->why_rank > findings->why_rank) {
        findings->why_rank = more->why_rank;
        memcpy(findings->why, more->why, sizeof findings->why);
    }
    if (more->parameters > 0) {
        bool is_same =
            findings->parameters == 0 || strcmp(findings->parameter, more->parameter) == 0;
        if (is_same)
            memcpy(findings->parameter, more->parameter, sizeof findings->parameter);
        else
            findings->parameter[0] = '\0';
        findings->parameters += more->parameters;
    }
}
