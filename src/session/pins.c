/* The table of pins; see session/pins.h. */
#include "session/pins.h"

#include "core/check.h"
#include "sql/traits.h"

#define OPERATOR_EQUALS " OPERATOR(pg_catalog.=) "

/* `makes`: asked about after any such statement; `ends`: only while it is there. The condition is
 * SQL; without one nobody can be asked: it is there after what makes it, up to DISCARD ALL. */
static const struct {
    uint32_t makes, ends;
    const char *mark, *text, *condition;
} pins[PIN_COUNT] = {
    [PIN_TEMPORARY] =
        {TRAITS_TEMPORARY | TRAITS_RUNS_CODE, TRAITS_CHANGES_SCHEMA, " t", "a temporary object",
         "EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.relnamespace" OPERATOR_EQUALS
         "pg_catalog.pg_my_temp_schema()) OR EXISTS (SELECT 1 FROM pg_catalog.pg_proc p"
         " WHERE p.pronamespace" OPERATOR_EQUALS "pg_catalog.pg_my_temp_schema())"},
    [PIN_LOCK] = {TRAITS_SESSION_LOCK | TRAITS_RUNS_CODE, 0, " l", "an advisory lock",
                  "EXISTS (SELECT 1 FROM pg_catalog.pg_locks l WHERE l.locktype" OPERATOR_EQUALS
                  "'advisory' AND l.pid" OPERATOR_EQUALS "pg_catalog.pg_backend_pid())"},
    [PIN_CURSOR] = {TRAITS_HOLDS_CURSOR | TRAITS_RUNS_CODE, TRAITS_USES_CURSOR, " c",
                    "a cursor WITH HOLD",
                    "EXISTS (SELECT 1 FROM pg_catalog.pg_cursors c WHERE c.is_holdable)"},
    [PIN_LISTEN] = {TRAITS_LISTENS | TRAITS_RUNS_CODE, TRAITS_UNLISTENS, " n", "LISTEN", "true"},
    /* Found by the question after names; see client/names.h. */
    [PIN_PREPARED] = {0, 0, NULL, "PREPARE", NULL},
    [PIN_PROGRAM] = {0, 0, NULL, "settings of a program", NULL},
    [PIN_MEMORY] = {TRAITS_SESSION_MEMORY, 0, NULL, "memory of the session", NULL},
};

const uint32_t pins_flags = TRAITS_TEMPORARY | TRAITS_RUNS_CODE | TRAITS_CHANGES_SCHEMA |
                            TRAITS_SESSION_LOCK | TRAITS_HOLDS_CURSOR | TRAITS_USES_CURSOR |
                            TRAITS_LISTENS | TRAITS_UNLISTENS | TRAITS_SESSION_MEMORY;

unsigned pins_made(uint32_t flags) {
    unsigned made = 0;
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (flags & pins[i].makes & ~(uint32_t)TRAITS_RUNS_CODE) made |= 1u << i;
    }
    return made;
}

unsigned pins_to_ask(uint32_t flags, unsigned pinned) {
    unsigned asked = 0;
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        bool may_end = pinned & 1u << i && flags & pins[i].ends;
        if (pins[i].condition != NULL && (flags & pins[i].makes || may_end)) asked |= 1u << i;
    }
    return asked;
}

void pins_append_question(struct buf *query, unsigned asked) {
    static const char channels[] = "c FROM pg_catalog.pg_listening_channels() c";
    bool is_first = true;
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (!(asked & 1u << i)) continue;
        CHECK(pins[i].condition != NULL);
        buf_append_format(query, "%sSELECT '%s'::pg_catalog.text,%s WHERE %s",
                          is_first ? "" : " UNION ALL ", pins[i].mark,
                          i == PIN_LISTEN ? channels : "''::pg_catalog.text", pins[i].condition);
        is_first = false;
    }
}

enum pin pin_of_mark(struct bytes mark) {
    unsigned i = 0;
    while (i < PIN_COUNT && (pins[i].mark == NULL || !bytes_equal_text(mark, pins[i].mark))) i++;
    return (enum pin)i;
}

const char *pin_text(enum pin pin) {
    return pins[pin].text;
}

const char *pins_text(unsigned set) {
    for (unsigned i = 0; i < PIN_COUNT; i++) {
        if (set & 1u << i) return pins[i].text;
    }
    return NULL;
}
