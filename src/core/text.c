/* Interned texts; see core/text.h. */
#include "core/text.h"

#include "core/check.h"
#include "core/memory.h"

struct text *text_get(struct texts *texts, struct bytes value) {
    struct map_node *node = map_find(&texts->map, value);
    if (node != NULL) return text_ref(MAP_OWNER(node, struct text, node));
    struct text *text = memory_new(sizeof *text + value.len + 1);
    text->references = 1;
    text->len = value.len;
    if (value.len > 0) memcpy(text->at, value.at, value.len);
    map_add(&texts->map, &text->node, bytes_of(text->at, text->len));
    return text;
}

struct text *text_ref(struct text *text) {
    if (text != NULL) text->references++;
    return text;
}

void text_unref(struct texts *texts, struct text **text_at) {
    struct text *text = *text_at;
    *text_at = NULL;
    if (text == NULL) return;
    CHECK(text->references > 0);
    if (--text->references > 0) return;
    map_remove(&texts->map, &text->node);
    memory_free(text);
}

void texts_release(struct texts *texts) {
    CHECK(texts->map.count == 0);
    map_release(&texts->map);
}
