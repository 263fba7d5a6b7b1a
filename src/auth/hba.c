/*
 * HBA rules; see auth/hba.h. A line is read from left to right by functions that each take one
 * part of it and report what is wrong; a rule is kept only if all of them were content.
 */
#include "auth/hba.h"

#include "core/check.h"
#include "core/memory.h"

#include <arpa/inet.h>
#include <stdlib.h>

#define HBA_NAMES_MAX 100000u /* of one list */

enum hba_type { HBA_TYPE_LOCAL, HBA_TYPE_HOST, HBA_TYPE_HOSTSSL, HBA_TYPE_HOSTNOSSL };

struct names {
    bool has_all;
    bool has_sameuser;
    bool has_replication;
    char **names;
    size_t count;
};

struct rule {
    enum hba_type type;
    struct names databases;
    struct names users;
    unsigned address_bytes; /* 0: any address */
    unsigned char address[16];
    unsigned char mask[16];
    struct hba_verdict verdict; /* owns its texts */
};

struct hba {
    struct rule *rules;
    size_t count;
};

/* The files of names that a list leads to, each of them once. */
struct files {
    char *paths[HBA_FILES_MAX];
    unsigned count;
};

/* The line under way, in a rule file or in a file of names. */
struct reader {
    struct rules_place place;
    const struct hba_source *source;
    struct bytes line;
    struct buf word;
    struct files *files;
};

struct word_value {
    const char *word;
    int value;
};

static const struct word_value types[] = {{"local", HBA_TYPE_LOCAL},
                                          {"host", HBA_TYPE_HOST},
                                          {"hostssl", HBA_TYPE_HOSTSSL},
                                          {"hostnossl", HBA_TYPE_HOSTNOSSL},
                                          {NULL, 0}};

static const struct word_value methods[] = {
    {"trust", HBA_TRUST},       {"reject", HBA_REJECT},       {"md5", HBA_MD5},
    {"password", HBA_PASSWORD}, {"scram-sha-256", HBA_SCRAM}, {"peer", HBA_PEER},
    {"cert", HBA_CERT},         {"ldap", HBA_LDAP},           {NULL, 0}};

/* ---- names */

static void names_add(struct names *names, const char *name) {
    bool is_full = (names->count & (names->count - 1)) == 0; /* 0 or a power of two */
    if (is_full) {
        size_t size = names->count == 0 ? 1 : names->count * 2;
        names->names = memory_resize(names->names, size * sizeof *names->names);
    }
    names->names[names->count++] = memory_copy_text(name);
}

static void names_release(struct names *names) {
    for (size_t i = 0; i < names->count; i++) memory_free(names->names[i]);
    memory_free(names->names);
}

static bool names_have(const struct names *names, struct bytes name) {
    for (size_t i = 0; i < names->count; i++) {
        if (bytes_equal_text(name, names->names[i])) return true;
    }
    return false;
}

/* The path of a file that is named in another one. */
static void join_path(struct buf *path, const char *beside, const char *name) {
    const char *slash = strrchr(beside, '/');
    if (name[0] != '/' && slash != NULL) buf_append(path, beside, (size_t)(slash + 1 - beside));
    buf_append_text(path, name);
}

/* Notes @FILE; it is read when the line that names it has been. */
static bool add_file(struct reader *reader, const char *name) {
    struct files *files = reader->files;
    struct buf path = {0};
    join_path(&path, reader->place.file, name);
    bool is_known = false;
    for (unsigned i = 0; i < files->count; i++) {
        if (strcmp(files->paths[i], buf_text(&path)) == 0) is_known = true;
    }
    bool is_good = is_known || files->count < HBA_FILES_MAX;
    if (!is_good)
        rules_error(&reader->place, "the list leads to more than %d files", HBA_FILES_MAX);
    if (is_good && !is_known) files->paths[files->count++] = memory_copy_text(buf_text(&path));
    buf_release(&path);
    return is_good;
}

/* A keyword of a list of databases or users. True if the word was one. */
static bool take_keyword(struct names *names, const char *word, bool is_database) {
    if (strcmp(word, "all") == 0) {
        names->has_all = true;
    } else if (is_database && strcmp(word, "sameuser") == 0) {
        names->has_sameuser = true;
    } else if (is_database && strcmp(word, "replication") == 0) {
        names->has_replication = true;
    } else {
        return false;
    }
    return true;
}

/* What PostgreSQL's files may say here and these may not; NULL for a plain name. */
static const char *unsupported_name(const char *word, bool is_database) {
    if (word[0] == '+') return "+group is not supported, groups are known to PostgreSQL alone";
    if (word[0] == '/') return "regular expressions are not supported";
    if (!is_database) return NULL;
    if (strcmp(word, "samerole") == 0 || strcmp(word, "samegroup") == 0)
        return "samerole and samegroup are not supported, groups are known to PostgreSQL alone";
    return NULL;
}

static bool read_name(struct reader *reader, struct names *names, bool is_database) {
    const char *allowed = is_database ? "expected all, sameuser, replication, names or @FILE"
                                      : "expected all, names or @FILE";
    enum rules_token token = rules_next(&reader->line, &reader->word);
    const char *word = buf_text(&reader->word);
    if (token != RULES_WORD && token != RULES_QUOTED) {
        rules_error(&reader->place, "a %s is missing or broken: %s",
                    is_database ? "database" : "user", allowed);
        return false;
    }
    const char *reason = token == RULES_WORD ? unsupported_name(word, is_database) : NULL;
    if (reason != NULL) {
        rules_error(&reader->place, "\"%s\": %s: %s", word, reason, allowed);
        return false;
    }
    if (token == RULES_WORD && take_keyword(names, word, is_database)) return true;
    if (token == RULES_WORD && word[0] == '@' && word[1] != '\0') return add_file(reader, word + 1);
    if (names->count < HBA_NAMES_MAX) {
        names_add(names, word);
        return true;
    }
    rules_error(&reader->place, "there are more than %u names", HBA_NAMES_MAX);
    return false;
}

/* A list divided by commas; the files in it are noted. */
static bool read_list(struct reader *reader, struct names *names, bool is_database) {
    do {
        if (!read_name(reader, names, is_database)) return false;
    } while (rules_take_comma(&reader->line));
    return true;
}

/* Reads a file of names: a list on each line. */
static bool read_file(struct reader *outer, const char *path, struct names *names,
                      bool is_database) {
    struct buf text = {0};
    struct reader reader = *outer;
    reader.place.file = path;
    reader.place.line = 0;
    reader.word = (struct buf){0};
    bool is_good = outer->source->read(path, &text);
    if (!is_good) rules_error(&outer->place, "the file \"%s\" cannot be read", path);
    struct bytes rest = buf_content(&text);
    while (is_good && rules_next_line(&rest, &reader.line)) {
        reader.place.line++;
        struct bytes ahead = reader.line;
        if (rules_next(&ahead, &reader.word) == RULES_END) continue;
        is_good = read_list(&reader, names, is_database);
    }
    buf_release(&reader.word);
    buf_release(&text);
    return is_good;
}

/* A list, and all files that it leads to. */
static bool read_names(struct reader *reader, struct names *names, bool is_database) {
    struct files files = {.count = 0};
    reader->files = &files;
    bool is_good = read_list(reader, names, is_database);
    for (unsigned i = 0; is_good && i < files.count; i++)
        is_good = read_file(reader, files.paths[i], names, is_database);
    for (unsigned i = 0; i < files.count; i++) memory_free(files.paths[i]);
    reader->files = NULL;
    return is_good;
}

/* ---- addresses */

static unsigned parse_address(const char *text, unsigned char address[16]) {
    if (inet_pton(AF_INET, text, address) == 1) return 4;
    if (inet_pton(AF_INET6, text, address) == 1) return 16;
    return 0;
}

/* The mask that has that many bits. */
static bool parse_bits(const char *text, unsigned address_bytes, unsigned char mask[16]) {
    char *end;
    unsigned long bits = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || bits > address_bytes * 8) return false;
    memset(mask, 0, 16);
    for (unsigned long i = 0; i < bits; i++) mask[i / 8] |= (unsigned char)(0x80 >> i % 8);
    return true;
}

/* Reads the rest of an address: `/bits`, cut off already, or the next word. */
static bool read_mask(struct reader *reader, struct rule *rule, const char *bits) {
    bool is_good;
    if (bits != NULL) {
        is_good = parse_bits(bits, rule->address_bytes, rule->mask);
    } else {
        is_good = rules_next(&reader->line, &reader->word) == RULES_WORD &&
                  parse_address(buf_text(&reader->word), rule->mask) == rule->address_bytes;
    }
    if (!is_good)
        rules_error(&reader->place, "the address has no mask that fits: expected ADDRESS/BITS, or "
                                    "ADDRESS and a mask of the same kind");
    return is_good;
}

static bool read_address(struct reader *reader, struct rule *rule) {
    static const char allowed[] = "expected all, ADDRESS/BITS or ADDRESS MASK";
    enum rules_token token = rules_next(&reader->line, &reader->word);
    if (token != RULES_WORD && token != RULES_QUOTED) {
        rules_error(&reader->place, "the address is missing: %s", allowed);
        return false;
    }
    const char *word = buf_text(&reader->word);
    if (token == RULES_WORD && strcmp(word, "all") == 0) return true;
    char *text = memory_copy_text(word);
    char *bits = strchr(text, '/');
    if (bits != NULL) *bits++ = '\0';
    rule->address_bytes = parse_address(text, rule->address);
    bool is_good = rule->address_bytes > 0;
    if (!is_good)
        rules_error(&reader->place,
                    "\"%s\" is no address (names, samehost and samenet are not "
                    "supported): %s",
                    word, allowed);
    if (is_good) is_good = read_mask(reader, rule, bits);
    memory_free(text);
    if (!is_good) return false;
    /* As PgBouncer has it: the rule stands and no address can fit it. PostgreSQL would pass over
     * the bits, which would let in whom an unchanged file has kept out. */
    bool has_host_bits = false;
    for (unsigned i = 0; i < rule->address_bytes; i++)
        if (rule->address[i] & ~rule->mask[i]) has_host_bits = true;
    if (has_host_bits)
        rules_warning(&reader->place, "address does not match mask: nobody fits the rule, since "
                                      "the bits outside of the mask are not 0");
    return true;
}

/* ---- methods */

/* The value of a word; false after a report of what it may be. */
static bool find_word(struct reader *reader, const char *what, const struct word_value *values,
                      int *value) {
    enum rules_token token = rules_next(&reader->line, &reader->word);
    const char *word = buf_text(&reader->word);
    for (size_t i = 0; token == RULES_WORD && values[i].word != NULL; i++) {
        if (strcmp(word, values[i].word) != 0) continue;
        *value = values[i].value;
        return true;
    }
    struct buf allowed = {0};
    for (size_t i = 0; values[i].word != NULL; i++)
        buf_append_format(&allowed, "%s%s", i == 0 ? "" : ", ", values[i].word);
    rules_error(&reader->place, "%s \"%s\": expected one of %s", what, word, buf_text(&allowed));
    buf_release(&allowed);
    return false;
}

/* map=NAME, of which NAME may stand in quotes. */
static bool read_map(struct reader *reader, struct rule *rule) {
    static const char prefix[] = "map=";
    size_t len = strlen(prefix);
    const char *word = buf_text(&reader->word);
    if (strncmp(word, prefix, len) != 0) {
        rules_error(&reader->place, "option \"%s\": expected map=NAME or nothing", word);
        return false;
    }
    bool is_quoted = word[len] == '\0';
    if (is_quoted) (void)rules_next(&reader->line, &reader->word);
    word = buf_text(&reader->word) + (is_quoted ? 0 : len);
    if (!ident_has_map(reader->source->ident, word)) {
        rules_error(&reader->place, "map \"%s\": expected a map that auth_ident_file has", word);
        return false;
    }
    memory_free((char *)(uintptr_t)rule->verdict.map);
    rule->verdict.map = memory_copy_text(word);
    return true;
}

static bool read_options(struct reader *reader, struct rule *rule) {
    bool takes_map = rule->verdict.method == HBA_PEER || rule->verdict.method == HBA_CERT;
    if (rule->verdict.method == HBA_LDAP) {
        rule->verdict.ldap = memory_copy(reader->line.at, reader->line.len);
        struct buf why = {0};
        bool is_good = reader->source->judge_ldap(rule->verdict.ldap, &why);
        if (!is_good) rules_error(&reader->place, "%s", buf_text(&why));
        buf_release(&why);
        return is_good;
    }
    enum rules_token token;
    while ((token = rules_next(&reader->line, &reader->word)) != RULES_END) {
        if (takes_map && token == RULES_WORD && read_map(reader, rule)) continue;
        if (!takes_map || token != RULES_WORD)
            rules_error(&reader->place, "\"%s\" behind the method: expected the end of the line",
                        buf_text(&reader->word));
        return false;
    }
    return true;
}

/* Rules that can never let anybody in are kept, as they keep later ones from doing so. */
static void warn_of_method(const struct reader *reader, const struct rule *rule) {
    if (rule->verdict.method == HBA_PEER && rule->type != HBA_TYPE_LOCAL)
        rules_warning(&reader->place, "peer can only let in over local: everybody is refused");
    if (rule->verdict.method == HBA_CERT &&
        (rule->type == HBA_TYPE_LOCAL || rule->type == HBA_TYPE_HOSTNOSSL))
        rules_warning(&reader->place, "cert can only let in over hostssl: everybody is refused");
}

/* ---- lines */

static void rule_release(struct rule *rule) {
    names_release(&rule->databases);
    names_release(&rule->users);
    memory_free((char *)(uintptr_t)rule->verdict.map);
    memory_free_secret((char *)(uintptr_t)rule->verdict.ldap);
}

static bool read_rule(struct reader *reader, struct rule *rule) {
    int type;
    int method;
    if (!find_word(reader, "connection type", types, &type)) return false;
    rule->type = (enum hba_type)type;
    rule->verdict.line = reader->place.line;
    if (!read_names(reader, &rule->databases, true)) return false;
    if (!read_names(reader, &rule->users, false)) return false;
    if (rule->type != HBA_TYPE_LOCAL && !read_address(reader, rule)) return false;
    if (!find_word(reader, "method", methods, &method)) return false;
    rule->verdict.method = (enum hba_method)method;
    if (!read_options(reader, rule)) return false;
    warn_of_method(reader, rule);
    return true;
}

static void add_rule(struct hba *hba, const struct rule *rule) {
    bool is_full = (hba->count & (hba->count - 1)) == 0; /* 0 or a power of two */
    if (is_full) {
        size_t size = hba->count == 0 ? 1 : hba->count * 2;
        hba->rules = memory_resize(hba->rules, size * sizeof *hba->rules);
    }
    hba->rules[hba->count++] = *rule;
}

struct hba *hba_new(struct bytes text, const struct hba_source *source,
                    struct rules_report *report) {
    struct hba *hba = memory_new(sizeof *hba);
    struct reader reader = {.place = {.what = "hba", .file = source->file, .report = report},
                            .source = source};
    while (rules_next_line(&text, &reader.line)) {
        struct rule rule = {.type = HBA_TYPE_LOCAL};
        reader.place.line++;
        struct bytes ahead = reader.line;
        if (rules_next(&ahead, &reader.word) == RULES_END) continue;
        if (read_rule(&reader, &rule)) {
            add_rule(hba, &rule);
        } else {
            rule_release(&rule);
        }
    }
    buf_release(&reader.word);
    return hba;
}

void hba_free(struct hba **hba_at) {
    struct hba *hba = *hba_at;
    *hba_at = NULL;
    if (hba == NULL) return;
    for (size_t i = 0; i < hba->count; i++) rule_release(&hba->rules[i]);
    memory_free(hba->rules);
    memory_free(hba);
}

size_t hba_count(const struct hba *hba) {
    return hba->count;
}

/* ---- judging */

static bool matches_type(const struct rule *rule, const struct hba_connection *connection) {
    if (rule->type == HBA_TYPE_LOCAL || connection->is_unix)
        return rule->type == HBA_TYPE_LOCAL && connection->is_unix;
    if (rule->type == HBA_TYPE_HOSTSSL) return connection->is_tls;
    return rule->type == HBA_TYPE_HOST || !connection->is_tls;
}

static bool matches_address(const struct rule *rule, const struct hba_connection *connection) {
    if (rule->type == HBA_TYPE_LOCAL || rule->address_bytes == 0) return true;
    if (rule->address_bytes != connection->address_bytes) return false;
    for (unsigned i = 0; i < rule->address_bytes; i++) {
        if ((connection->address[i] & rule->mask[i]) != rule->address[i]) return false;
    }
    return true;
}

static bool matches_database(const struct names *names, const struct hba_connection *connection) {
    if (connection->is_physical) return names->has_replication;
    if (names->has_all) return true;
    if (names->has_sameuser && bytes_equal(connection->database, connection->user)) return true;
    return names_have(names, connection->database);
}

static bool matches(const struct rule *rule, const struct hba_connection *connection) {
    return matches_type(rule, connection) && matches_address(rule, connection) &&
           matches_database(&rule->databases, connection) &&
           (rule->users.has_all || names_have(&rule->users, connection->user));
}

struct hba_verdict hba_judge(const struct hba *hba, const struct hba_connection *connection) {
    for (size_t i = 0; hba != NULL && i < hba->count; i++) {
        if (matches(&hba->rules[i], connection)) return hba->rules[i].verdict;
    }
    return (struct hba_verdict){.method = HBA_NONE};
}
