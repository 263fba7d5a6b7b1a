/*
 * Reading, showing, copying and comparing the values of settings; see config/setting.h.
 *
 * Each type has one row of functions here, and everything else goes through that row. A value
 * is reached by its offset and moved with memcpy, so that enums and numbers need no casts
 * between types that C holds apart. Texts and lists are owned by the struct they stand in.
 */
#include "config/setting.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#define LIST_ITEMS_MAX 1000
#define NUMBER_MAX     (INT64_MAX / 32)

#define SECONDS_BYTES_MAX 64

static struct bytes trimmed(struct bytes text) {
    while (text.len > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.len--;
    }
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static int digit_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

bool setting_leading_number(struct bytes text, int64_t *number) {
    size_t i = 0;
    while (i < text.len && (text.at[i] == ' ' || text.at[i] == '\t')) i++;
    bool is_negative = i < text.len && text.at[i] == '-';
    if (i < text.len && (text.at[i] == '-' || text.at[i] == '+')) i++;
    size_t first = i;
    int64_t value = 0;
    for (; i < text.len && is_digit(text.at[i]); i++) {
        if (value < NUMBER_MAX) value = value * 10 + digit_value(text.at[i]);
    }
    *number = is_negative ? -value : value;
    return i > first && i == text.len;
}

/* A number as C writes it. Numbers too large for anything end at NUMBER_MAX. */
static bool number_read(struct bytes text, int64_t *number) {
    bool is_negative = text.len > 0 && text.at[0] == '-';
    size_t i = is_negative || (text.len > 0 && text.at[0] == '+') ? 1 : 0;
    int base = 10;
    if (text.len - i > 1 && text.at[i] == '0') {
        bool is_hex = text.at[i + 1] == 'x' || text.at[i + 1] == 'X';
        base = is_hex ? 16 : 8;
        i += is_hex ? 2 : 1;
    }
    if (i >= text.len) return false;
    int64_t value = 0;
    for (; i < text.len; i++) {
        int digit = digit_value(text.at[i]);
        if (digit >= base) return false;
        if (value < NUMBER_MAX) value = value * base + digit;
    }
    *number = is_negative ? -value : value;
    return true;
}

static void *member_of(const struct setting *setting, void *object) {
    return (char *)object + setting->offset;
}

static const void *value_of(const struct setting *setting, const void *object) {
    return (const char *)object + setting->offset;
}

/* Moves a number into the row's bounds; false where a number beyond them is wrong. */
static bool is_bounded(const struct setting *setting, int64_t minimum, int64_t maximum,
                       int64_t *number) {
    if (*number >= minimum && *number <= maximum) return true;
    if (setting->flags & (SETTING_FLAG_OWN | SETTING_FLAG_EXACT)) return false;
    bool is_left_out = *number < minimum && setting->default_text == NULL;
    /* PgBouncer reads a number of bytes without a sign, so that -1 is as much as can be. */
    bool is_most = *number > maximum || setting->type == SETTING_TYPE_BYTES;
    *number = is_left_out ? SETTING_UNSET : is_most ? maximum : minimum;
    return true;
}

static bool bool_set(const struct setting *setting, void *member, struct bytes text,
                     struct buf *why) {
    int64_t number = 0;
    bool is_number = number_read(text, &number);
    int64_t given = number;
    if (number < 0) number = 1; /* as all but 0 */
    if (!is_number || !is_bounded(setting, 0, 1, &number)) {
        buf_append_text(why, "expected 0 or 1");
        return false;
    }
    if (number != given) buf_append_text(why, "it counts as 1");
    bool value = number == 1;
    memcpy(member, &value, sizeof value);
    return true;
}

static void bool_show(const struct setting *setting, const void *member, struct buf *text) {
    (void)setting;
    bool value;
    memcpy(&value, member, sizeof value);
    buf_append_text(text, value ? "1" : "0");
}

/* Takes a unit off the end, as PostgreSQL writes sizes; PgBouncer's own settings have none. */
static int64_t take_unit(const struct setting *setting, struct bytes *text) {
    static const struct {
        const char *name;
        int64_t bytes;
    } units[] = {{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}};
    bool has_units = setting->type == SETTING_TYPE_BYTES && (setting->flags & SETTING_FLAG_OWN);
    for (size_t i = 0; i < COUNT(units) && has_units && text->len > 2; i++) {
        if (memcmp(text->at + text->len - 2, units[i].name, 2) != 0) continue;
        text->len -= 2;
        return units[i].bytes;
    }
    return 1;
}

static bool int_set(const struct setting *setting, void *member, struct bytes text,
                    struct buf *why) {
    int64_t number = 0;
    int64_t unit = take_unit(setting, &text);
    bool is_number = number_read(text, &number);
    bool is_huge = number > INT64_MAX / unit || number < -(INT64_MAX / unit);
    number = is_huge ? INT64_MAX : number * unit;
    int64_t given = number;
    if (!is_number || !is_bounded(setting, setting->minimum, setting->maximum, &number)) {
        buf_append_format(why, "expected a whole number%s from %" PRId64 " to %" PRId64,
                          setting->type == SETTING_TYPE_BYTES ? " of bytes" : "", setting->minimum,
                          setting->maximum);
        return false;
    }
    /* PgBouncer takes sizes of up to 2^32; nothing here is bounded by more than 2^31. */
    int value = number > INT_MAX ? INT_MAX : (int)number;
    memcpy(member, &value, sizeof value);
    bool is_left_out = setting->default_text == NULL && value == SETTING_UNSET;
    if (number != given)
        buf_append_format(why, is_left_out ? "it counts as left out" : "it counts as %d", value);
    return true;
}

static void int_show(const struct setting *setting, const void *member, struct buf *text) {
    int value;
    memcpy(&value, member, sizeof value);
    bool is_unset = setting->default_text == NULL && value == SETTING_UNSET;
    if (!is_unset) buf_append_format(text, "%d", value);
}

/* Seconds as digits with a fraction, into microseconds; finer fractions are cut. */
static bool decimal_read(struct bytes text, int64_t *us) {
    size_t i = 0;
    int64_t seconds = 0;
    for (; i < text.len && is_digit(text.at[i]); i++) {
        if (seconds < NUMBER_MAX / US_PER_S) seconds = seconds * 10 + (text.at[i] - '0');
    }
    size_t digits = i;
    int64_t fraction = 0;
    if (i < text.len && text.at[i] == '.') {
        int64_t unit = US_PER_S / 10;
        for (i++; i < text.len && is_digit(text.at[i]); i++, digits++, unit /= 10)
            fraction += (text.at[i] - '0') * unit;
    }
    if (digits == 0 || i < text.len) return false;
    *us = seconds >= NUMBER_MAX / US_PER_S ? NUMBER_MAX : seconds * US_PER_S + fraction;
    return true;
}

/* Any way in which C writes a number; PgBouncer reads times like that. */
static bool seconds_read(struct bytes text, int64_t *us) {
    if (decimal_read(text, us)) return true;
    char copy[SECONDS_BYTES_MAX];
    if (text.len == 0 || text.len >= sizeof copy) return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    char *end;
    errno = 0;
    double seconds = strtod(copy, &end);
    if (end != copy + text.len || errno != 0) return false;
    double most = (double)NUMBER_MAX / US_PER_S;
    if (seconds < 0)
        *us = -1;
    else
        *us = seconds < most ? (int64_t)(seconds * US_PER_S + 0.5) : NUMBER_MAX;
    return true;
}

static void append_seconds(struct buf *text, uint64_t us) {
    buf_append_format(text, "%" PRIu64, us / US_PER_S);
    uint64_t fraction = us % US_PER_S;
    if (fraction == 0) return;
    int width = 6;
    for (; fraction % 10 == 0; width--) fraction /= 10;
    buf_append_format(text, ".%0*" PRIu64, width, fraction);
}

static bool time_set(const struct setting *setting, void *member, struct bytes text,
                     struct buf *why) {
    int64_t us = 0;
    bool is_time = seconds_read(text, &us);
    bool is_left_out = is_time && us < 0 && setting->default_text == NULL;
    int64_t given = us;
    /* PgBouncer takes any time that is not negative. */
    if (!is_time || (us < 0 && !is_left_out) ||
        !is_bounded(setting, setting->minimum, setting->maximum, &us)) {
        buf_append_text(why, "expected seconds from ");
        append_seconds(why, (uint64_t)setting->minimum);
        buf_append_text(why, " to ");
        append_seconds(why, (uint64_t)setting->maximum);
        buf_append_text(why, ", such as 15 or 0.5, without a unit");
        return false;
    }
    uint64_t value = is_left_out ? SETTING_UNSET_US : (uint64_t)us;
    memcpy(member, &value, sizeof value);
    if (us == given) return true;
    buf_append_text(why, "it counts as ");
    if (is_left_out)
        buf_append_text(why, "left out");
    else
        append_seconds(why, value);
    return true;
}

static void time_show(const struct setting *setting, const void *member, struct buf *text) {
    uint64_t value;
    memcpy(&value, member, sizeof value);
    bool is_unset = setting->default_text == NULL && value == SETTING_UNSET_US;
    if (!is_unset) append_seconds(text, value);
}

static char *string_at(const void *member) {
    char *value;
    memcpy(&value, member, sizeof value);
    return value;
}

static void string_release(const struct setting *setting, void *member) {
    char *value = string_at(member);
    if (setting->flags & SETTING_FLAG_SECRET)
        memory_free_secret(value);
    else
        memory_free(value);
    memset(member, 0, sizeof value);
}

static bool string_set(const struct setting *setting, void *member, struct bytes text,
                       struct buf *why) {
    if (text.len > 0 && memchr(text.at, '\0', text.len) != NULL) {
        buf_append_text(why, "expected a text without NUL bytes");
        return false;
    }
    char *value = memory_copy(text.at, text.len);
    string_release(setting, member);
    memcpy(member, &value, sizeof value);
    return true;
}

bool setting_split_address(struct bytes text, struct bytes *host, int *port) {
    size_t colon = text.len;
    while (colon > 0 && text.at[colon - 1] != ':') colon--;
    if (colon < 2) return false;
    *host = bytes_of(text.at, colon - 1);
    bool is_bracketed = host->at[0] == '[' && host->at[host->len - 1] == ']';
    if (is_bracketed) *host = bytes_of(host->at + 1, host->len - 2);
    if (host->len == 0 || memchr(host->at, ' ', host->len) != NULL) return false;
    if (!is_bracketed && memchr(host->at, ':', host->len) != NULL) return false;
    struct bytes digits = bytes_of(text.at + colon, text.len - colon);
    int64_t number = 0;
    bool is_whole = digits.len > 0 && is_digit(digits.at[0]);
    if (!is_whole || !setting_leading_number(digits, &number)) return false;
    if (number < 1 || number > UINT16_MAX) return false;
    *port = (int)number;
    return true;
}

static bool address_set(const struct setting *setting, void *member, struct bytes text,
                        struct buf *why) {
    struct bytes host;
    int port;
    if (text.len > 0 && !setting_split_address(text, &host, &port)) {
        buf_append_text(why, "expected HOST:PORT, such as 127.0.0.1:9127, or nothing");
        return false;
    }
    return string_set(setting, member, text, why);
}

static void string_show(const struct setting *setting, const void *member, struct buf *text) {
    const char *value = string_at(member);
    if (value == NULL || value[0] == '\0') return;
    buf_append_text(text, setting->flags & SETTING_FLAG_SECRET ? "****" : value);
}

static void list_release(const struct setting *setting, void *member) {
    (void)setting;
    struct setting_list *list = member;
    for (size_t i = 0; i < list->count; i++) memory_free(list->items[i]);
    memory_free(list->items);
    memory_free(list->text);
    *list = (struct setting_list){0};
}

/* Cuts the next item off a list; items that are empty are passed over. */
static bool list_next(struct bytes *rest, struct bytes *item) {
    while (rest->len > 0) {
        const char *comma = memchr(rest->at, ',', rest->len);
        size_t len = comma == NULL ? rest->len : (size_t)(comma - rest->at);
        size_t used = comma == NULL ? len : len + 1;
        *item = trimmed(bytes_of(rest->at, len));
        *rest = bytes_of(rest->at + used, rest->len - used);
        if (item->len > 0) return true;
    }
    return false;
}

static bool list_set(const struct setting *setting, void *member, struct bytes text,
                     struct buf *why) {
    struct bytes rest = text;
    struct bytes item;
    size_t count = 0;
    while (list_next(&rest, &item)) count++;
    if (count > LIST_ITEMS_MAX) {
        buf_append_format(why, "expected a list of at most %d items", LIST_ITEMS_MAX);
        return false;
    }
    struct setting_list list = {.text = memory_copy(text.at, text.len),
                                .items = memory_new(count * sizeof *list.items)};
    rest = text;
    while (list_next(&rest, &item)) list.items[list.count++] = memory_copy(item.at, item.len);
    list_release(setting, member);
    memcpy(member, &list, sizeof list);
    return true;
}

static void list_show(const struct setting *setting, const void *member, struct buf *text) {
    (void)setting;
    const struct setting_list *list = member;
    if (list->text != NULL) buf_append_text(text, list->text);
}

/* "expected disable", or "expected one of trust, plain". */
static void enum_expected(const struct setting *setting, struct buf *why) {
    size_t count = 0;
    for (const struct setting_choice *choice = setting->choices; choice->name != NULL; choice++)
        count++;
    buf_append_text(why, count == 1 ? "expected" : "expected one of");
    const char *separator = " ";
    for (const struct setting_choice *choice = setting->choices; choice->name != NULL; choice++) {
        buf_append_format(why, "%s%s", separator, choice->name);
        separator = ", ";
    }
}

static void enum_show(const struct setting *setting, const void *member, struct buf *text) {
    unsigned value;
    memcpy(&value, member, sizeof value);
    for (const struct setting_choice *choice = setting->choices; choice->name != NULL; choice++) {
        if ((unsigned)choice->value == value) buf_append_text(text, choice->name);
    }
}

static bool enum_set(const struct setting *setting, void *member, struct bytes text,
                     struct buf *why) {
    const struct setting_choice *choice = setting->choices;
    while (choice->name != NULL && !bytes_equal_nocase(text, choice->name)) choice++;
    bool is_other = choice->name == NULL && choice->value != 0;
    if (!is_other && choice->name == NULL) {
        enum_expected(setting, why);
        return false;
    }
    unsigned value = (unsigned)choice->value;
    memcpy(member, &value, sizeof value);
    if (is_other) {
        buf_append_text(why, "it counts as ");
        enum_show(setting, member, why);
    }
    return true;
}

/* What each type can do; `release` is NULL where a value owns nothing. */
static const struct {
    size_t size;
    bool (*set)(const struct setting *, void *member, struct bytes text, struct buf *why);
    void (*show)(const struct setting *, const void *member, struct buf *text);
    void (*release)(const struct setting *, void *member);
} types[] = {
    [SETTING_TYPE_BOOL] = {sizeof(bool), bool_set, bool_show, NULL},
    [SETTING_TYPE_INT] = {sizeof(int), int_set, int_show, NULL},
    [SETTING_TYPE_BYTES] = {sizeof(int), int_set, int_show, NULL},
    [SETTING_TYPE_TIME] = {sizeof(uint64_t), time_set, time_show, NULL},
    [SETTING_TYPE_STRING] = {sizeof(char *), string_set, string_show, string_release},
    [SETTING_TYPE_LIST] = {sizeof(struct setting_list), list_set, list_show, list_release},
    [SETTING_TYPE_ENUM] = {sizeof(unsigned), enum_set, enum_show, NULL},
    [SETTING_TYPE_ADDRESS] = {sizeof(char *), address_set, string_show, string_release},
};

bool setting_set(const struct setting *setting, void *object, struct bytes text, struct buf *why) {
    CHECK(setting->size == types[setting->type].size);
    return types[setting->type].set(setting, member_of(setting, object), text, why);
}

void setting_show(const struct setting *setting, const void *object, struct buf *text) {
    types[setting->type].show(setting, value_of(setting, object), text);
}

static void set_unset(const struct setting *setting, void *member) {
    int number = SETTING_UNSET;
    uint64_t us = SETTING_UNSET_US;
    if (setting->type == SETTING_TYPE_TIME) memcpy(member, &us, sizeof us);
    if (setting->type == SETTING_TYPE_INT) memcpy(member, &number, sizeof number);
    if (setting->type == SETTING_TYPE_BYTES) memcpy(member, &number, sizeof number);
}

void setting_init_all(enum setting_scope scope, void *object) {
    for (size_t i = 0; i < setting_count(scope); i++) {
        const struct setting *setting = setting_at(scope, i);
        struct buf why = {0};
        if (setting->default_text == NULL) {
            set_unset(setting, member_of(setting, object));
        } else {
            struct bytes text = bytes_of_text(setting->default_text);
            bool is_right = setting_set(setting, object, text, &why);
            CHECK(is_right);
        }
        buf_release(&why);
    }
}

void setting_copy(const struct setting *setting, void *to, const void *from) {
    void *member = member_of(setting, to);
    const void *value = value_of(setting, from);
    if (types[setting->type].release == NULL) {
        memcpy(member, value, setting->size);
        return;
    }
    bool is_list = setting->type == SETTING_TYPE_LIST;
    const char *text = is_list ? ((const struct setting_list *)value)->text : string_at(value);
    struct buf why = {0};
    if (text == NULL) {
        types[setting->type].release(setting, member);
    } else {
        bool is_right = setting_set(setting, to, bytes_of_text(text), &why);
        CHECK(is_right);
    }
    buf_release(&why);
}

void setting_copy_all(enum setting_scope scope, void *to, const void *from) {
    for (size_t i = 0; i < setting_count(scope); i++) setting_copy(setting_at(scope, i), to, from);
}

void setting_release_all(enum setting_scope scope, void *object) {
    for (size_t i = 0; i < setting_count(scope); i++) {
        const struct setting *setting = setting_at(scope, i);
        if (types[setting->type].release != NULL)
            types[setting->type].release(setting, member_of(setting, object));
    }
}

bool setting_is_same(const struct setting *setting, const void *a, const void *b) {
    const void *left = value_of(setting, a);
    const void *right = value_of(setting, b);
    if (types[setting->type].release == NULL) return memcmp(left, right, setting->size) == 0;
    bool is_list = setting->type == SETTING_TYPE_LIST;
    const char *x = is_list ? ((const struct setting_list *)left)->text : string_at(left);
    const char *y = is_list ? ((const struct setting_list *)right)->text : string_at(right);
    return x == NULL || y == NULL ? x == y : strcmp(x, y) == 0;
}

bool setting_list_has(const struct setting_list *list, struct bytes name) {
    for (size_t i = 0; i < list->count; i++) {
        if (bytes_equal_text(name, list->items[i])) return true;
    }
    return false;
}

bool setting_list_has_nocase(const struct setting_list *list, struct bytes name) {
    for (size_t i = 0; i < list->count; i++) {
        if (bytes_equal_nocase(name, list->items[i])) return true;
    }
    return false;
}
