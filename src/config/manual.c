/* The sample file and the manual's section, made from the table; see config/manual.h. */
#include "config/manual.h"

#include "config/setting.h"
#include "core/check.h"
#include "core/clock.h"

#include <inttypes.h>
#include <limits.h>

#define SAMPLE_WIDTH 96

/* How each scope is introduced in both texts. */
static const struct {
    const char *section;
    const char *title;
    const char *intro;
    const char *examples; /* for the sample file */
} scopes[SETTING_SCOPE_COUNT] = {
    [SETTING_SCOPE_POOLER] = {"[pgbouncer]", "SETTINGS OF [pgbouncer]",
                              "Each line is a setting and its value.", ""},
    [SETTING_SCOPE_DATABASE] = {"[databases]", "KEYS OF [databases]",
                                "Each line is the name of a database, as clients ask for it, and "
                                "pairs of key and value. The name * stands for every database "
                                "that is not listed.",
                                ";app = host=pg1,pg2,pg3 dbname=app routing=read_write\n"
                                ";app_ro = host=pg1,pg2,pg3 dbname=app routing=replica\n"
                                ";* = host=127.0.0.1 port=5432\n"},
    [SETTING_SCOPE_USER] = {"[users]", "KEYS OF [users]",
                            "Each line is the name of a user and pairs of key and value.",
                            ";reports = pool_size=5 query_timeout=600\n"},
    [SETTING_SCOPE_NODE] = {"[nodes]", "KEYS OF [nodes]",
                            "Each line is a host that a database lists, or 'HOST:PORT' in quotes, "
                            "and pairs of key and value.",
                            ";pg2 = weight=2 zone=eu-west\n;'pg3:5432' = weight=1\n"},
    [SETTING_SCOPE_PEER] = {"[peers]", "KEYS OF [peers]",
                            "Each line is the peer_id of another process to which clients of this "
                            "one may be led, and pairs of key and value. A cancel request that "
                            "reaches the wrong process is passed on to the right one.",
                            ";1 = host=10.0.0.1\n;2 = host=/run/weir2 port=6433\n"},
};

/* The order in the sample file, where the pooler's long list comes last. */
static const enum setting_scope sample_order[] = {SETTING_SCOPE_DATABASE, SETTING_SCOPE_NODE,
                                                  SETTING_SCOPE_USER, SETTING_SCOPE_PEER,
                                                  SETTING_SCOPE_POOLER};

static void append_choices(struct buf *text, const struct setting *setting) {
    const char *separator = "";
    for (const struct setting_choice *choice = setting->choices; choice->name != NULL; choice++) {
        if (choice->value < 0) continue;
        buf_append_format(text, "%s%s", separator, choice->name);
        separator = ", ";
    }
}

/* "seconds", "0 or 1", "one of a, b", "1 to 65535" and so on. */
static void append_kind(struct buf *text, const struct setting *setting) {
    switch (setting->type) {
    case SETTING_TYPE_BOOL:
        buf_append_text(text, "0 or 1");
        break;
    case SETTING_TYPE_INT:
    case SETTING_TYPE_BYTES:
        buf_append_format(text, "%s, %" PRId64 " to %" PRId64,
                          setting->type == SETTING_TYPE_INT ? "number" : "bytes", setting->minimum,
                          setting->maximum);
        break;
    case SETTING_TYPE_TIME:
        buf_append_text(text, "seconds");
        if (setting->maximum < (int64_t)INT_MAX * US_PER_S)
            buf_append_format(text, ", %g to %g", (double)setting->minimum / US_PER_S,
                              (double)setting->maximum / US_PER_S);
        break;
    case SETTING_TYPE_STRING:
        buf_append_text(text, "text");
        break;
    case SETTING_TYPE_LIST:
        buf_append_text(text, "list divided by commas");
        break;
    case SETTING_TYPE_ENUM:
        append_choices(text, setting);
        break;
    case SETTING_TYPE_ADDRESS:
        buf_append_text(text, "HOST:PORT");
        break;
    }
}

/* Appends `words` as comment lines that are no wider than the sample. */
static void append_comment(struct buf *text, const char *words) {
    size_t column = 0;
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        if (column > 0 && column + 1 + len > SAMPLE_WIDTH) {
            buf_append_u8(text, '\n');
            column = 0;
        }
        buf_append_text(text, column == 0 ? "; " : " ");
        buf_append(text, words, len);
        column += len + (column == 0 ? 2 : 1);
        words += len;
        words += strspn(words, " ");
    }
    buf_append_u8(text, '\n');
}

static void append_sample_setting(struct buf *text, const struct setting *setting) {
    struct buf words = {0};
    buf_append_format(&words, "%s (", setting->help);
    append_kind(&words, setting);
    if (!(setting->flags & SETTING_FLAG_LIVE)) buf_append_text(&words, "; needs a restart");
    buf_append_text(&words, ")");
    append_comment(text, buf_text(&words));
    bool is_empty = setting->default_text[0] == '\0';
    buf_append_format(text, ";%s =%s%s\n\n", setting->name, is_empty ? "" : " ",
                      setting->default_text);
    buf_release(&words);
}

/* The keys of an entry are named and not written out: they stand in pairs. */
static void append_sample_keys(struct buf *text, enum setting_scope scope) {
    struct buf words = {0};
    buf_append_text(&words, "Keys:");
    for (size_t i = 0; i < setting_count(scope); i++)
        buf_append_format(&words, "%s %s", i == 0 ? "" : ",", setting_at(scope, i)->name);
    append_comment(text, buf_text(&words));
    buf_append_text(text, scopes[scope].examples);
    buf_append_u8(text, '\n');
    buf_release(&words);
}

void manual_append_sample(struct buf *text) {
    append_comment(text, "Weir's configuration: every setting with its default. Made by "
                         "scripts/generate-docs from the table in src/config/setting.c; see "
                         "weir.ini(5).");
    buf_append_u8(text, '\n');
    for (size_t i = 0; i < COUNT(sample_order); i++) {
        enum setting_scope scope = sample_order[i];
        buf_append_format(text, "%s\n", scopes[scope].section);
        append_comment(text, scopes[scope].intro);
        if (scope == SETTING_SCOPE_POOLER) {
            buf_append_u8(text, '\n');
            for (size_t j = 0; j < setting_count(scope); j++)
                append_sample_setting(text, setting_at(scope, j));
        } else {
            append_sample_keys(text, scope);
        }
    }
    buf_truncate(text, buf_length(text) - 1);
}

/* Appends text so that roff shows it as it is: '-' as a minus, '\' and a leading '.' escaped. */
static void append_roff(struct buf *text, const char *words) {
    if (*words == '.' || *words == '\'') buf_append_text(text, "\\&");
    for (; *words != '\0'; words++) {
        if (*words == '-')
            buf_append_text(text, "\\-");
        else if (*words == '\\')
            buf_append_text(text, "\\e");
        else
            buf_append(text, words, 1);
    }
}

static void append_roff_setting(struct buf *text, const struct setting *setting) {
    struct buf kind = {0};
    append_kind(&kind, setting);
    buf_append_format(text, ".TP\n.B %s\n", setting->name);
    append_roff(text, setting->help);
    buf_append_text(text, "\n(");
    append_roff(text, buf_text(&kind));
    if (setting->default_text != NULL) {
        buf_append_text(text, "; default: ");
        append_roff(text, setting->default_text[0] == '\0' ? "empty" : setting->default_text);
    }
    if (!(setting->flags & SETTING_FLAG_LIVE)) buf_append_text(text, "; needs a restart");
    if (setting->flags & SETTING_FLAG_OWN) buf_append_text(text, "; Weir's own");
    buf_append_text(text, ")\n");
    buf_release(&kind);
}

void manual_append_settings(struct buf *text) {
    for (enum setting_scope scope = SETTING_SCOPE_POOLER; scope < SETTING_SCOPE_COUNT; scope++) {
        buf_append_format(text, ".SH \"%s\"\n", scopes[scope].title);
        append_roff(text, scopes[scope].intro);
        buf_append_u8(text, '\n');
        for (size_t i = 0; i < setting_count(scope); i++)
            append_roff_setting(text, setting_at(scope, i));
    }
}

/* Where `line` begins in a text, or its length. */
static size_t position(struct bytes text, const char *line) {
    const char *at = memmem(text.at, text.len, line, strlen(line));
    return at == NULL ? text.len : (size_t)(at - text.at);
}

bool manual_replace_settings(struct bytes page, struct buf *text) {
    size_t begin = position(page, MANUAL_BEGIN);
    size_t end = position(page, MANUAL_END);
    if (begin >= end || end == page.len) return false;
    buf_append(text, page.at, begin + strlen(MANUAL_BEGIN));
    manual_append_settings(text);
    buf_append(text, page.at + end, page.len - end);
    return true;
}
