/*
 * Reading a file in PgBouncer's format; see config/load.h.
 *
 *      file bytes -> lines -> reader_line -> inih -> on_setting -> the table (setting.c)
 *                               |  %include FILE: the file's lines come next
 *                               |  'quoted key' = value: split here, since inih also splits at ':'
 *                               `- a line that is none of these: an error, and the next line
 *
 * inih cuts lines into sections, keys and values; it neither sees file names nor tells line
 * numbers, so the reader that feeds it keeps both. A line reaches inih only if inih and
 * PgBouncer read it alike: a key of letters, digits and _.-* followed by '='. The line at hand
 * is always the one that inih's callback is about, because lines never continue.
 *
 * inih keeps no more than 49 bytes of a section's name; the section in force is therefore the
 * reader's. An included file goes on in the section of its includer, and the other way round.
 * Depth, length of a line, bytes in all, entries and errors are bounded (config/load.h).
 */
#include "entries.h"
#include "pairs.h"
#include "snapshot.h"

#include "core/check.h"
#include "core/list.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_ENDS_BYTES 3 /* what inih's buffer needs beyond the line */
#define READ_BYTES      65536

enum section_kind {
    SECTION_KIND_NONE,
    SECTION_KIND_UNKNOWN, /* already reported; its lines are passed over */
    SECTION_KIND_SETTINGS
};

struct section {
    const char *name;
    enum section_kind kind;
    enum setting_scope scope;
};

static const struct section sections[] = {
    {"pgbouncer", SECTION_KIND_SETTINGS, SETTING_SCOPE_POOLER},
    {"databases", SECTION_KIND_SETTINGS, SETTING_SCOPE_DATABASE},
    {"users", SECTION_KIND_SETTINGS, SETTING_SCOPE_USER},
    {"nodes", SECTION_KIND_SETTINGS, SETTING_SCOPE_NODE},
    {"peers", SECTION_KIND_SETTINGS, SETTING_SCOPE_PEER},
};

static const struct section section_none = {"", SECTION_KIND_NONE, SETTING_SCOPE_POOLER};
static const struct section section_unknown = {"", SECTION_KIND_UNKNOWN, SETTING_SCOPE_POOLER};

/* One file that is being read; its text is owned and may hold passwords. */
struct source {
    char *name;
    struct buf text;
    struct bytes rest;
    int line;
    dev_t device;
    ino_t inode;
};

struct reader {
    struct source sources[CONFIG_INCLUDES_MAX + 1];
    size_t depth; /* sources that are open */
    const struct section *section;
    bool has_pooler_section;
    bool may_include;
    size_t bytes; /* read so far, over all files */
    struct buf where;
    struct config *config;
    struct config_errors *errors;
};

static const char *where(struct reader *reader) {
    CHECK(reader->depth > 0);
    const struct source *source = &reader->sources[reader->depth - 1];
    buf_clear(&reader->where);
    buf_append_format(&reader->where, "%s:%d", source->name, source->line);
    return buf_text(&reader->where);
}

/* PgBouncer's words, then what is wrong. The line is not quoted: it may hold a password. */
static void syntax_error(struct reader *reader, const char *why) {
    errors_add(reader->errors, "syntax error in configuration (%s), stopping loading: %s",
               where(reader), why);
}

static void source_release(struct source *source) {
    if (source->text.memory != NULL) memory_wipe(source->text.memory, source->text.size);
    buf_release(&source->text);
    memory_free(source->name);
    *source = (struct source){0};
}

static struct source *source_push(struct reader *reader, const char *name) {
    CHECK(reader->depth < COUNT(reader->sources));
    struct source *source = &reader->sources[reader->depth++];
    *source = (struct source){.name = memory_copy_text(name)};
    return source;
}

/* Reads all of a file. A buffer that grows leaves copies behind, so it has its size at once
 * where the file tells it. False with errno; EFBIG for a file over the limit. */
static bool file_read(int fd, size_t size, struct reader *reader, struct source *source) {
    (void)buf_room(&source->text, (size < CONFIG_FILE_BYTES ? size : 0) + READ_BYTES);
    for (;;) {
        ssize_t n = read(fd, buf_room(&source->text, READ_BYTES), READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) return true;
        buf_grown(&source->text, (size_t)n);
        reader->bytes += (size_t)n;
        if (reader->bytes > CONFIG_FILE_BYTES) {
            errno = EFBIG;
            return false;
        }
    }
}

static bool file_open(struct reader *reader, struct source *source) {
    int fd = open(source->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    struct stat status;
    bool is_read = fstat(fd, &status) == 0;
    if (is_read) {
        source->device = status.st_dev;
        source->inode = status.st_ino;
        size_t size = status.st_size > 0 ? (size_t)status.st_size : 0;
        is_read = file_read(fd, size, reader, source);
    }
    int why = errno;
    close(fd);
    errno = why;
    source->rest = buf_content(&source->text);
    return is_read;
}

/* Whether the file on top is also open further down, which would never end. */
static bool is_circular(const struct reader *reader) {
    const struct source *top = &reader->sources[reader->depth - 1];
    for (size_t i = 0; i + 1 < reader->depth; i++) {
        const struct source *open = &reader->sources[i];
        if (open->device == top->device && open->inode == top->inode) return true;
    }
    return false;
}

static void include(struct reader *reader, struct bytes file) {
    if (!reader->may_include || file.len == 0 || memchr(file.at, '\0', file.len) != NULL) {
        syntax_error(reader, reader->may_include ? "expected %include FILE"
                                                 : "%include works in files only");
        return;
    }
    if (reader->depth > CONFIG_INCLUDES_MAX) {
        syntax_error(reader, "%include goes deeper than 10 files");
        return;
    }
    char *name = memory_copy(file.at, file.len);
    struct buf why = {0};
    struct source *source = source_push(reader, name);
    bool is_open = file_open(reader, source);
    if (!is_open)
        buf_append_format(&why, "cannot read \"%s\": %s", name, strerror(errno));
    else if (is_circular(reader))
        buf_append_format(&why, "\"%s\" includes itself", name);
    if (buf_length(&why) > 0) {
        source_release(source);
        reader->depth--;
        syntax_error(reader, buf_text(&why));
    }
    buf_release(&why);
    memory_free(name);
}

static void section_begin(struct reader *reader, struct bytes name) {
    for (size_t i = 0; i < COUNT(sections); i++) {
        if (!bytes_equal_text(name, sections[i].name)) continue;
        reader->section = &sections[i];
        bool is_pooler =
            sections[i].kind == SECTION_KIND_SETTINGS && sections[i].scope == SETTING_SCOPE_POOLER;
        if (is_pooler) reader->has_pooler_section = true;
        return;
    }
    reader->section = &section_unknown;
    struct buf quoted = {0};
    errors_quote(&quoted, name, false);
    errors_add(reader->errors,
               "invalid section %s in configuration (%s): expected pgbouncer, databases, users, "
               "peers or nodes",
               buf_text(&quoted), where(reader));
    buf_release(&quoted);
}

/* One setting or entry, whoever split its line. */
static void setting_found(struct reader *reader, struct bytes key, struct bytes value) {
    const struct section *section = reader->section;
    struct entries_place place = {reader->config, reader->errors, where(reader)};
    switch (section->kind) {
    case SECTION_KIND_NONE:
        syntax_error(reader, "expected [pgbouncer] or another section first");
        break;
    case SECTION_KIND_UNKNOWN:
        break;
    case SECTION_KIND_SETTINGS:
        if (section->scope == SETTING_SCOPE_POOLER)
            entries_set(&place, key, value);
        else
            entries_add(&place, section->scope, key, value);
        break;
    }
}

/* inih's callback, on the line that reader_line has just given it. */
static int on_setting(void *context, const char *section, const char *name, const char *value) {
    (void)section;
    setting_found(context, bytes_of_text(name), bytes_of_text(value));
    return 1;
}

static bool is_key_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '*';
}

static void drop_blanks(struct bytes *text) {
    pairs_skip_blanks(text);
    while (text->len > 0) {
        struct bytes last = bytes_of(text->at + text->len - 1, 1);
        pairs_skip_blanks(&last);
        if (last.len > 0) return;
        text->len--;
    }
}

/* 'key' = value, with '' for a quote inside. */
static void quoted_line(struct reader *reader, struct bytes line) {
    struct buf key = {0};
    bool is_right = pairs_quoted(&line, &key);
    pairs_skip_blanks(&line);
    if (is_right && line.len > 0 && line.at[0] == '=') {
        struct bytes value = bytes_of(line.at + 1, line.len - 1);
        drop_blanks(&value);
        setting_found(reader, buf_content(&key), value);
    } else {
        syntax_error(reader, is_right ? "expected '=' behind the quoted key"
                                      : "a quoted key has no closing quote");
    }
    buf_release(&key);
}

/* Takes the word %include off a line that begins with it. */
static bool starts_include(struct bytes *line) {
    static const char word[] = "%include";
    size_t len = sizeof word - 1;
    if (line->len < len || memcmp(line->at, word, len) != 0) return false;
    if (line->len > len && line->at[len] != ' ' && line->at[len] != '\t') return false;
    *line = bytes_of(line->at + len, line->len - len);
    return true;
}

/* Whether inih would cut a line as PgBouncer does. */
static bool is_plain(struct bytes line) {
    size_t len = 0;
    while (len < line.len && is_key_byte(line.at[len])) len++;
    struct bytes rest = bytes_of(line.at + len, line.len - len);
    pairs_skip_blanks(&rest);
    return len > 0 && rest.len > 0 && rest.at[0] == '=';
}

/* "[NAME]", behind which a comment may stand; nothing else may. */
static bool section_name(struct bytes line, struct bytes *name) {
    const char *end = line.at[0] == '[' ? memchr(line.at, ']', line.len) : NULL;
    if (end == NULL) return false;
    *name = bytes_of(line.at + 1, (size_t)(end - line.at) - 1);
    struct bytes rest = bytes_of(end + 1, line.len - name->len - 2);
    pairs_skip_blanks(&rest);
    return rest.len == 0 || rest.at[0] == ';' || rest.at[0] == '#';
}

/* Deals with a line, without blanks at its ends, that is not for inih; true if it is. */
static bool line_is_for_inih(struct reader *reader, struct bytes line) {
    struct bytes name;
    if (line.len == 0 || line.at[0] == ';' || line.at[0] == '#') return false;
    if (line.len > CONFIG_LINE_BYTES) {
        syntax_error(reader, "the line is longer than 65536 bytes");
    } else if (memchr(line.at, '\0', line.len) != NULL) {
        syntax_error(reader, "the line holds a NUL byte");
    } else if (starts_include(&line)) {
        drop_blanks(&line);
        include(reader, line);
    } else if (line.at[0] == '\'') {
        quoted_line(reader, line);
    } else if (section_name(line, &name)) {
        section_begin(reader, name);
    } else if (is_plain(line)) {
        return true;
    } else {
        syntax_error(reader, "expected KEY = VALUE, [SECTION] or %include FILE");
    }
    return false;
}

/* The next line without blanks at its ends; false at the end of all files. */
static bool line_next(struct reader *reader, struct bytes *line) {
    while (reader->depth > 0 && reader->sources[reader->depth - 1].rest.len == 0)
        source_release(&reader->sources[--reader->depth]);
    if (reader->depth == 0) return false;
    struct source *source = &reader->sources[reader->depth - 1];
    const char *end = memchr(source->rest.at, '\n', source->rest.len);
    size_t len = end == NULL ? source->rest.len : (size_t)(end - source->rest.at);
    size_t used = end == NULL ? len : len + 1;
    *line = bytes_of(source->rest.at, len);
    source->rest = bytes_of(source->rest.at + used, source->rest.len - used);
    source->line++;
    drop_blanks(line);
    return true;
}

/* inih's reader, which works as fgets does. At the end it wipes inih's buffer. */
static char *reader_line(char *text, int size, void *context) {
    struct reader *reader = context;
    CHECK(size == CONFIG_LINE_BYTES + LINE_ENDS_BYTES);
    struct bytes line;
    while (line_next(reader, &line)) {
        if (!line_is_for_inih(reader, line)) continue;
        memcpy(text, line.at, line.len);
        text[line.len] = '\n';
        text[line.len + 1] = '\0';
        return text;
    }
    memory_wipe(text, (size_t)size);
    return NULL;
}

/* Runs inih over the source that the reader has open. */
static void read_lines(struct reader *reader) {
    ini_allow_multiline = false;
    ini_allow_inline_comments = false;
    ini_allow_bom = false;
    ini_stop_on_first_error = false;
    ini_allow_no_value = false;
    ini_use_stack = false;
    ini_allow_realloc = false;
    ini_max_line = CONFIG_LINE_BYTES + LINE_ENDS_BYTES;
    ini_initial_alloc = ini_max_line;
    int result = ini_parse_stream(reader_line, reader, on_setting, reader);
    CHECK(result == 0); /* every line that could fail was judged before */
}

/* Lets a snapshot with errors go, but for what it says of the log. */
static void give_up(struct config **config, struct config_errors *errors) {
    config_unref(&errors->failed);
    errors->failed = *config;
    *config = NULL;
}

/* Reads what is open; the snapshot has yet to be finished. NULL with errors. */
static struct config *read_all(struct reader *reader, const char *name) {
    size_t before = reader->errors->count;
    reader->config = snapshot_new();
    reader->section = &section_none;
    read_lines(reader);
    buf_release(&reader->where);
    if (!reader->has_pooler_section)
        errors_add(reader->errors, "no [pgbouncer] section in configuration (%s)", name);
    if (reader->errors->count > before) {
        (void)snapshot_finish(reader->config, reader->errors); /* tells the rest of the errors */
        give_up(&reader->config, reader->errors);
    }
    return reader->config;
}

static struct config *read_file(const char *file, struct config_errors *errors) {
    struct reader reader = {.errors = errors, .may_include = true};
    struct source *source = source_push(&reader, file);
    if (!file_open(&reader, source)) {
        errors_add(errors, "cannot read configuration file \"%s\": %s", file, strerror(errno));
        source_release(source);
        return NULL;
    }
    struct config *config = read_all(&reader, file);
    if (config != NULL && config->conffile[0] == '\0') {
        memory_free(config->conffile);
        config->conffile = memory_copy_text(file);
    }
    return config;
}

static struct config *finished(struct config *config, struct config_errors *errors) {
    if (config != NULL && !snapshot_finish(config, errors)) give_up(&config, errors);
    return config;
}

struct config *config_load(const char *file, struct config_errors *errors) {
    return finished(read_file(file, errors), errors);
}

struct config *config_load_text(const char *name, struct bytes text, struct config_errors *errors) {
    struct reader reader = {.errors = errors};
    if (text.len > CONFIG_FILE_BYTES) {
        errors_add(errors, "configuration \"%s\" is longer than %u bytes", name, CONFIG_FILE_BYTES);
        return NULL;
    }
    source_push(&reader, name)->rest = text;
    return finished(read_all(&reader, name), errors);
}

/* As in PgBouncer, an entry keeps the forced user that it once had. */
static void keep_forced_users(struct config *config, const struct config *old,
                              struct config_errors *errors) {
    static const char *const kept[] = {"user", "password"};
    for (size_t i = 0; i < config->entries[SETTING_SCOPE_DATABASE].count; i++) {
        struct config_entry *entry = config->entries[SETTING_SCOPE_DATABASE].at[i];
        struct config_database *database = LIST_OWNER(entry, struct config_database, entry);
        struct map_node *node =
            map_find(&old->entries[SETTING_SCOPE_DATABASE].by_name, bytes_of_text(entry->name));
        if (node == NULL) continue;
        const struct config_entry *before = MAP_OWNER(node, struct config_entry, node);
        const struct config_database *from = (const void *)before;
        if (database->user != NULL || from->user == NULL) continue;
        errors_warn(errors,
                    "losing forced user not supported, keeping old setting: database "
                    "\"%s\" (%s)",
                    entry->name, entry->where);
        for (size_t k = 0; k < COUNT(kept); k++)
            setting_copy(setting_find(SETTING_SCOPE_DATABASE, bytes_of_text(kept[k])), entry,
                         before);
    }
}

struct config *config_reload(struct config *old, struct config_errors *errors) {
    if (old->conffile[0] == '\0') return config_ref(old);
    struct config *config = read_file(old->conffile, errors);
    if (config == NULL) return NULL;
    for (size_t i = 0; i < setting_count(SETTING_SCOPE_POOLER); i++) {
        const struct setting *setting = setting_at(SETTING_SCOPE_POOLER, i);
        if (!(setting->flags & SETTING_FLAG_LIVE)) setting_copy(setting, config, old);
    }
    keep_forced_users(config, old, errors);
    return finished(config, errors);
}
