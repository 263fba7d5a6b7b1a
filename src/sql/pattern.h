/*
 * A pattern: one text of a shape, kept so that texts which differ from it only in the digits of
 * integers are known to have the same shape without being lexed.
 *
 *      SELECT a FROM t WHERE b = 17 AND c = 4
 *                                ^^         ^    holes: one to nine digits fit
 *
 * Digits that stand between blanks, punctuation or quotes make no other tokens, whatever they are.
 * Whether the shape depends on them is found out once, by lexing the text with others.
 */
#ifndef WEIR_SQL_PATTERN_H
#define WEIR_SQL_PATTERN_H

#include "core/bytes.h"

#define PATTERN_TEXT_MAX  2048u /* bytes of a text that may be one, or fit one */
#define PATTERN_HOLES_MAX 8u

struct pattern {
    uint16_t len;
    uint16_t holes_count;
    struct {
        uint16_t at, len;
    } holes[PATTERN_HOLES_MAX];
    char text[]; /* `len` bytes */
};

/* The same number for all texts that fit one pattern. */
uint32_t pattern_key(struct bytes text);

/* A pattern of a text of at most PATTERN_TEXT_MAX bytes, with every hole that it may have; the
 * caller's, freed by memory_free. */
struct pattern *pattern_new(struct bytes text);

/* Writes the pattern's text with other digits in all its holes to `memory`, which has at least as
 * many bytes as the text. */
struct bytes pattern_vary(const struct pattern *pattern, char *memory);

bool pattern_fits(const struct pattern *pattern, struct bytes text);

#endif
