/*
 * Fuzz target: any bytes as the text of a statement.
 *
 * What must hold for a text that the lexer takes: the shape fits its memory, the shape of the
 * shape is the shape, and a parse of the one finds what a parse of the other finds. The parser is
 * asked for short texts only, to keep the rate up.
 */
#include "core/buf.h"
#include "core/check.h"
#include "core/memory.h"
#include "sql/lex.h"
#include "sql/parse.h"

#define PARSED_TOKENS_MAX 100u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The flags of a text; it is copied, since it has no NUL. */
static uint32_t flags_of(struct bytes text) {
    struct buf names = {0};
    struct findings findings = {.names = &names};
    char *copy = memory_copy(text.at, text.len);
    parse_text(copy, &findings);
    memory_free(copy);
    buf_release(&names);
    return findings.flags;
}

static void check_shape(struct bytes text, const struct lex_result *lexed) {
    struct lex_result again;
    char *memory = memory_new(LEX_SHAPE_BYTES(lexed->shape.len));
    /* A blank between tokens may make a shape longer than the longest text. */
    if (lexed->shape.len <= LEX_TEXT_BYTES_MAX) {
        CHECK(lex_text(lexed->shape, memory, &again));
        CHECK(bytes_equal(again.shape, lexed->shape));
        CHECK(again.tokens == lexed->shape_tokens);
        CHECK(again.statements == lexed->statements);
    }
    memory_free(memory);
    if (lexed->tokens <= PARSED_TOKENS_MAX) CHECK(flags_of(text) == flags_of(lexed->shape));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of exactly this size, so that the sanitizer sees any byte read beyond it. */
    char *copy = memory_new(size);
    char *memory = memory_new(LEX_SHAPE_BYTES(size));
    struct lex_result lexed;
    if (size > 0) memcpy(copy, data, size);
    if (lex_text(bytes_of(copy, size), memory, &lexed))
        check_shape(bytes_of(copy, size), &lexed);
    else
        CHECK(lexed.refused != NULL);
    memory_free(memory);
    memory_free(copy);
    return 0;
}
