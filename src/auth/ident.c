/* Ident maps; see auth/ident.h. */
#include "auth/ident.h"

#include "core/memory.h"

struct ident_line {
    char *map;
    char *system_name;
    char *user;
    bool is_everybody;
};

struct ident {
    struct ident_line *lines;
    size_t count;
};

static void add(struct ident *ident, const struct ident_line *line) {
    bool is_full = (ident->count & (ident->count - 1)) == 0; /* 0 or a power of two */
    if (is_full) {
        size_t size = ident->count == 0 ? 1 : ident->count * 2;
        ident->lines = memory_resize(ident->lines, size * sizeof *ident->lines);
    }
    ident->lines[ident->count++] = *line;
}

static void line_release(struct ident_line *line) {
    memory_free(line->map);
    memory_free(line->system_name);
    memory_free(line->user);
}

/* Reads three words; how many there are, or -1 where one is broken or too many. */
static int read_words(struct bytes text, struct ident_line *line) {
    char **places[] = {&line->map, &line->system_name, &line->user};
    struct buf word = {0};
    int count = 0;
    enum rules_token token;
    while ((token = rules_next(&text, &word)) != RULES_END) {
        if (count == 3 || token == RULES_COMMA || token == RULES_BROKEN) {
            count = -1;
            break;
        }
        *places[count] = memory_copy_text(buf_text(&word));
        line->is_everybody = token == RULES_WORD && strcmp(*places[count], "all") == 0;
        count++;
    }
    buf_release(&word);
    return count;
}

/* What this version's files cannot say, or NULL. */
static const char *unsupported(const struct ident_line *line) {
    if (line->system_name[0] == '/') return "regular expressions are not supported";
    if (line->user[0] == '/') return "regular expressions are not supported";
    if (line->user[0] == '+') return "+group is not supported";
    return NULL;
}

struct ident *ident_new(struct bytes text, const char *file, struct rules_report *report) {
    struct ident *ident = memory_new(sizeof *ident);
    struct rules_place place = {.what = "ident", .file = file, .report = report};
    struct bytes row;
    while (rules_next_line(&text, &row)) {
        struct ident_line line = {0};
        place.line++;
        int count = read_words(row, &line);
        const char *reason = count == 3 ? unsupported(&line) : NULL;
        if (count == 3 && reason == NULL) {
            add(ident, &line);
            continue;
        }
        if (reason != NULL) {
            rules_error(&place, "%s: expected a map, a system name and a database user", reason);
        } else if (count != 0) {
            rules_error(&place, "expected a map, a system name and a database user");
        }
        line_release(&line);
    }
    return ident;
}

void ident_free(struct ident **ident_at) {
    struct ident *ident = *ident_at;
    *ident_at = NULL;
    if (ident == NULL) return;
    for (size_t i = 0; i < ident->count; i++) line_release(&ident->lines[i]);
    memory_free(ident->lines);
    memory_free(ident);
}

bool ident_has_map(const struct ident *ident, const char *map) {
    for (size_t i = 0; ident != NULL && i < ident->count; i++) {
        if (strcmp(ident->lines[i].map, map) == 0) return true;
    }
    return false;
}

bool ident_allows(const struct ident *ident, const char *map, struct bytes system_name,
                  struct bytes user) {
    if (map == NULL) return bytes_equal(system_name, user);
    for (size_t i = 0; ident != NULL && i < ident->count; i++) {
        const struct ident_line *line = &ident->lines[i];
        if (strcmp(line->map, map) != 0) continue;
        if (!bytes_equal_text(system_name, line->system_name)) continue;
        if (line->is_everybody || bytes_equal_text(user, line->user)) return true;
    }
    return false;
}
