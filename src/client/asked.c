/*
 * See client/asked.h. A login is one interned text, "database NUL user NUL generation NUL number
 * NUL name NUL value NUL ...", compared by its pointer. What is kept beside it is how a server
 * spelled those parameters that servers report.
 */
#include "client/asked.h"

#include "session/settings.h"

#define NAME_BYTES_MAX 63u

/* An application's name that every server takes as it is. */
static bool is_plain_name(const struct text *name) {
    for (size_t i = 0; i < name->len; i++) {
        if (name->at[i] < ' ' || name->at[i] > '~') return false;
    }
    return name->len <= NAME_BYTES_MAX;
}

static void append_pair(struct buf *out, struct bytes name, struct bytes value) {
    buf_append_bytes(out, name);
    buf_append_u8(out, 0);
    buf_append_bytes(out, value);
    buf_append_u8(out, 0);
}

/* The parameters of which the client wants just what the greeting has, a bit for each. */
static uint32_t find_alike(const struct client *client, struct bytes greeting) {
    uint32_t alike = 0;
    while (greeting.len >= MESSAGE_HEAD_BYTES) {
        uint32_t length = message_length(greeting.at);
        struct bytes name, value, rest;
        struct bytes body = bytes_of(greeting.at + MESSAGE_HEAD_BYTES, length - MESSAGE_HEAD_BYTES);
        CHECK(message_text(body, &name, &rest) && message_text(rest, &value, &rest));
        int index = parameters_index(client->set->pools, name);
        const struct text *mine = index < 0 ? NULL : client->parameters.values[index];
        if (mine != NULL && bytes_equal(value, bytes_of(mine->at, mine->len)))
            alike |= UINT32_C(1) << index;
        greeting = bytes_of(greeting.at + length, greeting.len - length);
    }
    return alike;
}

/* What the client asks for beyond the greeting; NULL if nothing. */
static struct text *describe(const struct client *client, struct bytes greeting) {
    const struct pool *pool = client->pool;
    const struct text *startup = client->session->startup;
    uint32_t alike = find_alike(client, greeting);
    struct buf text = {0};
    append_pair(&text, bytes_of_text(pool->database->name), bytes_of_text(pool->user));
    buf_append_format(&text, "generation%c%u%c", 0, pool->generation, 0);
    size_t before = buf_length(&text);
    for (unsigned i = 0; i < client->set->pools->tracked_count; i++) {
        const struct text *mine = client->parameters.values[i];
        if (mine == NULL || alike & UINT32_C(1) << i) continue;
        if (i == TRACKED_APPLICATION_NAME && is_plain_name(mine)) continue;
        append_pair(&text, bytes_of_text(client->set->pools->tracked[i]),
                    bytes_of(mine->at, mine->len));
    }
    if (startup != NULL) buf_append(&text, startup->at, startup->len);
    bool is_any = buf_length(&text) > before;
    struct text *made = is_any ? text_get(client->set->texts, buf_content(&text)) : NULL;
    buf_release(&text);
    return made;
}

bool asked_is_known(struct client *client, struct bytes greeting) {
    struct client_set *set = client->set;
    text_unref(set->texts, &client->own.start);
    client->own.start = describe(client, greeting);
    if (client->own.start == NULL) return true;
    for (unsigned i = 0; i < COUNT(set->asked); i++) {
        const struct asked_login *login = &set->asked[i];
        if (login->asked != client->own.start) continue;
        struct bytes rest = bytes_of(login->told->at, login->told->len), name, value;
        while (settings_next(&rest, &name, &value)) {
            int index = parameters_index(set->pools, name);
            if (index >= 0) parameters_set(&client->parameters, set->texts, index, value);
        }
        return true;
    }
    return false;
}

void asked_note(struct client *client) {
    struct client_set *set = client->set;
    struct text *asked = client->own.start;
    if (asked == NULL) return;
    struct bytes rest = bytes_of(asked->at, asked->len), name, value;
    struct buf told = {0};
    while (settings_next(&rest, &name, &value)) {
        int index = parameters_index(set->pools, name);
        const struct text *mine = index < 0 ? NULL : client->parameters.values[index];
        if (mine != NULL) append_pair(&told, name, bytes_of(mine->at, mine->len));
    }
    struct asked_login *login = &set->asked[set->asked_next++ % COUNT(set->asked)];
    text_unref(set->texts, &login->asked);
    text_unref(set->texts, &login->told);
    *login = (struct asked_login){text_ref(asked), text_get(set->texts, buf_content(&told))};
    buf_release(&told);
}

void asked_release(struct client_set *set) {
    for (unsigned i = 0; i < COUNT(set->asked); i++) {
        text_unref(set->texts, &set->asked[i].asked);
        text_unref(set->texts, &set->asked[i].told);
    }
}
