/*
 * Writing a shape; see src/sql/shape.h. Folding that depends on what comes later is done by going
 * back in the output:
 *
 *   - A list is written in full while it may still collapse. When its end shows that it was one
 *     of constants only, the output is cut back to where the list began.
 *
 *          none --in( array[ values(--> ITEM <--> AFTER_SIGN
 *                                        | ^ ,
 *                                        v |
 *                                   AFTER_ITEM --) ]--> collapse (IN, ARRAY)
 *                                        | )
 *                                        v    ,              (
 *                                  BETWEEN_ROWS --> NEXT_ROW --> ITEM      (VALUES)
 *                                        | anything else: collapse
 *
 *     A token that fits no arrow leaves the list as it was written.
 *   - A folded constant stays "live" while only casts, names and closing brackets follow; if one
 *     of these is a reg type, the constant is put back into its place.
 */
#include "shape.h"

#include "core/check.h"

/* clang-format off */
/* Functions with arguments that decide what the call does, and FLOAT, whose grammar judges the
 * number. */
static const char *const argument_matters[] = {
    "current_setting", "currval", "cursor_to_xml", "cursor_to_xmlschema", "database_to_xml",
    "database_to_xml_and_xmlschema", "dblink", "dblink_connect", "dblink_connect_u", "dblink_exec",
    "dblink_open", "dblink_send_query", "float", "lo_open", "nextval", "pg_get_serial_sequence",
    "pg_notify", "query_to_xml", "query_to_xml_and_xmlschema", "query_to_xmlschema",
    "schema_to_xml", "schema_to_xml_and_xmlschema", "set_config", "setval", "table_to_xml",
    "table_to_xml_and_xmlschema", "to_regclass", "to_regcollation", "to_regnamespace", "to_regoper",
    "to_regoperator", "to_regproc", "to_regprocedure", "to_regrole", "to_regtype", "ts_rewrite",
    "ts_stat"};
/* clang-format on */

static bool arguments_matter(const struct shape *shape) {
    if (shape->word_len < 5) return false;
    for (size_t i = 0; i < COUNT(argument_matters); i++) {
        const char *name = argument_matters[i];
        if (name[0] != shape->word[0] || name[1] != shape->word[1]) continue;
        if (shape_word_is(shape, name)) return true;
    }
    return false;
}

void shape_init(struct shape *shape, char *memory, struct lex_result *result) {
    *shape = (struct shape){.out = memory, .is_verbatim = true, .result = result};
}

/* ---- Lists ---- */

static void list_collapse(struct shape *shape) {
    struct shape_list *list = &shape->list;
    unsigned items = list->has_rows ? list->row_items : 2;
    unsigned rows = list->has_rows ? 2 : 1;
    shape->out = list->out;
    for (unsigned row = 0; row < rows; row++) {
        if (row > 0) shape_put(shape, ",(", 2);
        shape_put(shape, "0", 1);
        for (unsigned i = 1; i < items; i++) shape_put(shape, ",0", 2);
        if (list->has_rows) shape_put(shape, ")", 1);
    }
    shape->result->shape_tokens = list->tokens + rows * (2 * items - 1) + (list->has_rows ? 4 : 0);
    shape->last = list->has_rows ? TOKEN_CLOSE : TOKEN_CONSTANT;
    shape->live = NULL;
}

static enum list_state list_close(struct shape *shape) {
    struct shape_list *list = &shape->list;
    if (!list->has_rows) {
        if (list->items > 1) list_collapse(shape);
        return LIST_NONE;
    }
    if (list->rows++ == 0) list->row_items = list->items;
    return list->items == list->row_items ? LIST_BETWEEN_ROWS : LIST_NONE;
}

void shape_feed_list(struct shape *shape, enum token token) {
    struct shape_list *list = &shape->list;
    enum list_state next = LIST_NONE;
    switch (list->state) {
    case LIST_NONE:
        break;
    case LIST_ITEM:
        if (token == TOKEN_SIGN) next = LIST_AFTER_SIGN;
        /* fall through */
    case LIST_AFTER_SIGN:
        if (token == TOKEN_CONSTANT || token == TOKEN_LITERAL) next = LIST_AFTER_ITEM;
        break;
    case LIST_AFTER_ITEM:
        if (token == TOKEN_COMMA) {
            list->items++;
            next = LIST_ITEM;
        } else if (token == list->closes) {
            next = list_close(shape);
        }
        break;
    case LIST_BETWEEN_ROWS:
        if (token == TOKEN_COMMA)
            next = LIST_NEXT_ROW;
        else if (list->rows > 1)
            list_collapse(shape);
        break;
    case LIST_NEXT_ROW:
        if (token == TOKEN_OPEN) next = LIST_ITEM;
        list->items = 1;
        break;
    }
    list->state = next;
}

/* Called with an opening bracket just written behind a word. */
static void list_begin(struct shape *shape, enum token closes, bool has_rows) {
    shape->list = (struct shape_list){.state = LIST_ITEM,
                                      .closes = closes,
                                      .has_rows = has_rows,
                                      .out = shape->out,
                                      .tokens = shape->result->shape_tokens,
                                      .items = 1};
}

/* ---- Brackets ---- */

void shape_opened(struct shape *shape, enum token before) {
    if (++shape->depth > shape->result->depth) shape->result->depth = shape->depth;
    if ((before != TOKEN_WORD && before != TOKEN_QUOTED) || shape->is_verbatim ||
        shape->call_depth != 0)
        return;
    if (shape->last == TOKEN_OPEN && arguments_matter(shape)) {
        shape->call_depth = shape->depth;
    } else if (before == TOKEN_QUOTED) {
        return;
    } else if (shape->last == TOKEN_OPEN && shape_word_is(shape, "in")) {
        list_begin(shape, TOKEN_CLOSE, false);
    } else if (shape->last == TOKEN_OPEN && shape_word_is(shape, "values")) {
        list_begin(shape, TOKEN_CLOSE, true);
    } else if (shape->last == TOKEN_BRACKET_OPEN && shape_word_is(shape, "array")) {
        list_begin(shape, TOKEN_BRACKET_CLOSE, false);
    }
}

void shape_closed(struct shape *shape) {
    if (shape->depth > 0) shape->depth--;
    if (shape->depth < shape->call_depth) shape->call_depth = 0;
}

void shape_end_statement(struct shape *shape) {
    if (shape->list.state != LIST_NONE) shape_feed_list(shape, TOKEN_OTHER);
    if (shape->has_token) shape->owes_semicolon = true;
    shape->has_token = shape->is_started = false;
    shape->is_verbatim = true;
    shape->live = NULL;
}

/* ---- Constants and words ---- */

static bool last_word_is_reg(const struct shape *shape) {
    return shape->last == TOKEN_WORD && shape->word_len > 3 && memcmp(shape->word, "reg", 3) == 0;
}

void shape_constant(struct shape *shape, struct bytes raw, const char *folded) {
    bool is_verbatim =
        shape->is_verbatim || shape->call_depth != 0 || folded == NULL || last_word_is_reg(shape);
    shape_begin(shape, is_verbatim ? TOKEN_OTHER : TOKEN_CONSTANT);
    shape->last = TOKEN_CONSTANT;
    shape->live = NULL;
    if (is_verbatim) {
        shape_put(shape, raw.at, raw.len);
        return;
    }
    shape->live = shape->out;
    shape->live_len = strlen(folded);
    shape->live_raw = raw;
    shape_put(shape, folded, shape->live_len);
}

/* A reg type follows the live constant: what stands behind that moves up to make room for it. */
static void restore_live(struct shape *shape) {
    char *behind = shape->live + shape->live_len;
    size_t shift = shape->live_raw.len - shape->live_len;
    memmove(behind + shift, behind, (size_t)(shape->out - behind));
    memcpy(shape->live, shape->live_raw.at, shape->live_raw.len);
    shape->out += shift;
    shape->word += shift;
    shape->live = NULL;
}

/* The first word of a statement decides whether its constants fold. */
static void judge_first_word(struct shape *shape) {
    static const char *const folding[] = {"select", "with",   "values", "table",
                                          "insert", "update", "delete", "merge"};
    shape->is_started = true;
    for (size_t i = 0; i < COUNT(folding) && shape->is_verbatim; i++) {
        if (shape_word_is(shape, folding[i])) shape->is_verbatim = false;
    }
}

void shape_word(struct shape *shape, size_t len) {
    shape->word = shape->out - len;
    shape->word_len = len;
    if (!shape->is_started) judge_first_word(shape);
    if (shape->live != NULL && last_word_is_reg(shape)) restore_live(shape);
}

void shape_hint(struct shape *shape, struct bytes text) {
    bool is_primary = bytes_equal_nocase(text, "weir:primary");
    if (!is_primary && !bytes_equal_nocase(text, "weir:replica")) return;
    if (is_primary)
        shape->result->hint_primary = true;
    else
        shape->result->hint_replica = true;
    shape_put(shape, is_primary ? "/*weir:primary*/" : "/*weir:replica*/", 16);
    shape->list.state = LIST_NONE;
}
