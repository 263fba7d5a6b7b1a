/*
 * The console's language; see admin/command.h. A text is cut into at most six tokens; what the
 * sequence of their kinds means follows from a few comparisons.
 */
#include "admin/command.h"

#include "core/check.h"

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_QUOTED, TOKEN_STRING, TOKEN_EQUALS, TOKEN_BAD };

/* Content of a word, or between the quotes of the others, doubled quotes still doubled. */
struct token {
    enum token_kind kind;
    struct bytes text;
};

#define TOKENS_MAX 5 /* SET key = value, and one that is too many */

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static const char *skip_blanks(const char *at) {
    while (is_blank(*at)) at++;
    return at;
}

/* A text in quotes; moves behind the closing one. */
static struct token quoted_token(const char **at_place) {
    const char *start = *at_place;
    const char quote = start[0];
    const char *at = start + 1;
    while (*at != '\0' && (*at != quote || at[1] == quote)) at += *at == quote ? 2 : 1;
    if (*at == '\0') return (struct token){.kind = TOKEN_BAD};
    *at_place = at + 1;
    return (struct token){quote == '"' ? TOKEN_QUOTED : TOKEN_STRING,
                          bytes_of(start + 1, (size_t)(at - start - 1))};
}

static struct token next_token(const char **at_place) {
    const char *start = *at_place = skip_blanks(*at_place);
    if (*start == ';') start = skip_blanks(start + 1);
    if (*start == '\0') return (struct token){.kind = TOKEN_END};
    if (start != *at_place) return (struct token){.kind = TOKEN_BAD};
    if (*start == '"' || *start == '\'') return quoted_token(at_place);
    if (*start == '=') {
        *at_place = start + 1;
        return (struct token){.kind = TOKEN_EQUALS};
    }
    const char *at = start;
    while (is_word_byte(*at)) at++;
    *at_place = at;
    if (at == start) return (struct token){.kind = TOKEN_BAD};
    return (struct token){TOKEN_WORD, bytes_of(start, (size_t)(at - start))};
}

/* How many tokens a text has; 0 if it has none, too many, or one that is not in the language. */
static size_t cut(const char *text, struct token tokens[TOKENS_MAX]) {
    for (size_t count = 0; count < TOKENS_MAX; count++) {
        tokens[count] = next_token(&text);
        if (tokens[count].kind == TOKEN_BAD) return 0;
        if (tokens[count].kind == TOKEN_END) return count;
    }
    return 0;
}

static bool is_name(const struct token *token) {
    return token->kind == TOKEN_WORD || token->kind == TOKEN_QUOTED;
}

static bool is_word(const struct token *token, const char *word) {
    return token->kind == TOKEN_WORD && bytes_equal_nocase(token->text, word);
}

/* Appends a token's text, of which at most `max` bytes are taken; false if it is longer. */
static bool append_unquoted(struct buf *out, const struct token *token, size_t max) {
    char quote = token->kind == TOKEN_STRING ? '\'' : '"';
    for (size_t i = 0; i < token->text.len; i++) {
        if (buf_length(out) == max) return false;
        buf_append_u8(out, (unsigned char)token->text.at[i]);
        if (token->kind != TOKEN_WORD && token->text.at[i] == quote) i++;
    }
    return true;
}

/* Copies a token's text into `room`, which has place for `max` bytes and a NUL. */
static bool take(char *room, size_t max, const struct token *token) {
    struct buf text = {0};
    bool fits = append_unquoted(&text, token, max);
    if (fits) {
        struct bytes content = buf_content(&text);
        memcpy(room, content.at, content.len);
        room[content.len] = '\0';
    }
    buf_release(&text);
    return fits;
}

static bool is_set(const struct token *tokens, size_t count) {
    return count == 4 && is_word(&tokens[0], "set") && is_name(&tokens[1]) &&
           (tokens[2].kind == TOKEN_EQUALS || is_word(&tokens[2], "to")) &&
           (is_name(&tokens[3]) || tokens[3].kind == TOKEN_STRING);
}

static bool is_route(const struct token *tokens, size_t count) {
    return (count == 3 || count == 4) && is_word(&tokens[0], "show") &&
           is_word(&tokens[1], "route") && (count == 3 || is_name(&tokens[2])) &&
           tokens[count - 1].kind == TOKEN_STRING;
}

static bool take_route(struct command *command, const struct token *tokens, size_t count) {
    command->form = COMMAND_ROUTE;
    command->has_argument = count == 4;
    if (command->has_argument && !take(command->argument, COMMAND_ARGUMENT_BYTES_MAX, &tokens[2]))
        return false;
    if (!append_unquoted(&command->sql, &tokens[count - 1], COMMAND_SQL_BYTES_MAX)) return false;
    (void)buf_text(&command->sql);
    return true;
}

enum fault_id command_parse(const char *text, struct command *command) {
    struct token tokens[TOKENS_MAX] = {0};
    *command = (struct command){0};
    size_t count = cut(text, tokens);
    bool is_special = is_set(tokens, count) || is_route(tokens, count);
    if (!is_special && (count == 0 || count > 2)) return FAULT_CONSOLE_COMMAND;
    for (size_t i = 0; i < count && !is_special; i++)
        if (!is_name(&tokens[i])) return FAULT_CONSOLE_COMMAND;

    if (!take(command->word, COMMAND_WORD_BYTES_MAX, &tokens[0])) return FAULT_CONSOLE_ARGUMENTS;
    if (is_route(tokens, count))
        return take_route(command, tokens, count) ? FAULT_NONE : FAULT_CONSOLE_ARGUMENTS;
    command->has_argument = count > 1;
    if (count > 1 && !take(command->argument, COMMAND_ARGUMENT_BYTES_MAX, &tokens[1]))
        return FAULT_CONSOLE_ARGUMENTS;
    if (!is_special) return FAULT_NONE;
    command->form = COMMAND_SET;
    return take(command->value, COMMAND_VALUE_BYTES_MAX, &tokens[3]) ? FAULT_NONE
                                                                     : FAULT_CONSOLE_ARGUMENTS;
}

void command_release(struct command *command) {
    buf_release(&command->sql);
}
