/* Message types and how messages are cut: one row for each message of PostgreSQL's manual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/check.h"
#include "proto/message.h"

#define TEXT(text) text, sizeof(text) - 1

/* The shortest message of each type, as section 55.7 of the manual draws it. */
struct shortest {
    const char *name;
    const char *at;
    size_t len;
    unsigned kind;
    bool is_fixed; /* there is no longer one */
};

static const struct shortest requests[] = {
    {"Query", TEXT("Q\0\0\0\x05\0"), REQUEST_QUERY, false},
    {"Parse", TEXT("P\0\0\0\x08\0\0\0\0"), REQUEST_PARSE, false},
    {"Bind", TEXT("B\0\0\0\x0C\0\0\0\0\0\0\0\0"), REQUEST_BIND, false},
    {"Describe", TEXT("D\0\0\0\x06S\0"), REQUEST_DESCRIBE, false},
    {"Execute", TEXT("E\0\0\0\x09\0\0\0\0\0"), REQUEST_EXECUTE, false},
    {"Close", TEXT("C\0\0\0\x06P\0"), REQUEST_CLOSE, false},
    {"Sync", TEXT("S\0\0\0\x04"), REQUEST_SYNC, true},
    {"Flush", TEXT("H\0\0\0\x04"), REQUEST_FLUSH, true},
    {"FunctionCall", TEXT("F\0\0\0\x0E\0\0\0\x01\0\0\0\0\0\0"), REQUEST_FUNCTION, false},
    {"CopyData", TEXT("d\0\0\0\x04"), REQUEST_COPY, false},
    {"CopyDone", TEXT("c\0\0\0\x04"), REQUEST_COPY, true},
    {"CopyFail", TEXT("f\0\0\0\x05\0"), REQUEST_COPY, false},
    {"Terminate", TEXT("X\0\0\0\x04"), REQUEST_TERMINATE, true},
    {"PasswordMessage", TEXT("p\0\0\0\x04"), REQUEST_PASSWORD, false}, /* a SASLResponse */
};

static const struct shortest replies[] = {
    {"DataRow", TEXT("D\0\0\0\x06\0\0"), REPLY_DATA, false},
    {"CopyData", TEXT("d\0\0\0\x04"), REPLY_DATA, false},
    {"ParseComplete", TEXT("1\0\0\0\x04"), REPLY_PARSED, true},
    {"BindComplete", TEXT("2\0\0\0\x04"), REPLY_BOUND, true},
    {"CloseComplete", TEXT("3\0\0\0\x04"), REPLY_CLOSED, true},
    {"ParameterDescription", TEXT("t\0\0\0\x06\0\0"), REPLY_PARAMETERS, false},
    {"RowDescription", TEXT("T\0\0\0\x06\0\0"), REPLY_COLUMNS, false},
    {"NoData", TEXT("n\0\0\0\x04"), REPLY_NO_DATA, true},
    {"CommandComplete", TEXT("C\0\0\0\x05\0"), REPLY_COMPLETE, false},
    {"EmptyQueryResponse", TEXT("I\0\0\0\x04"), REPLY_EMPTY, true},
    {"PortalSuspended", TEXT("s\0\0\0\x04"), REPLY_SUSPENDED, true},
    {"ErrorResponse", TEXT("E\0\0\0\x05\0"), REPLY_ERROR, false},
    {"NoticeResponse", TEXT("N\0\0\0\x05\0"), REPLY_NOTICE, false},
    {"NotificationResponse", TEXT("A\0\0\0\x0A\0\0\0\x01\0\0"), REPLY_NOTIFICATION, false},
    {"ParameterStatus", TEXT("S\0\0\0\x06\0\0"), REPLY_STATUS, false},
    {"ReadyForQuery", TEXT("Z\0\0\0\x05I"), REPLY_READY, true},
    {"CopyInResponse", TEXT("G\0\0\0\x07\0\0\0"), REPLY_COPY_IN, false},
    {"CopyOutResponse", TEXT("H\0\0\0\x07\0\0\0"), REPLY_COPY_OUT, false},
    {"CopyBothResponse", TEXT("W\0\0\0\x07\0\0\0"), REPLY_COPY_BOTH, false},
    {"CopyDone", TEXT("c\0\0\0\x04"), REPLY_COPY_DONE, true},
    {"FunctionCallResponse", TEXT("V\0\0\0\x08\xFF\xFF\xFF\xFF"), REPLY_FUNCTION, false},
    {"Authentication", TEXT("R\0\0\0\x08\0\0\0\0"), REPLY_AUTHENTICATION, false},
    {"BackendKeyData", TEXT("K\0\0\0\x0C\0\0\0\x01\0\0\0\x02"), REPLY_KEY, false},
    {"NegotiateProtocolVersion", TEXT("v\0\0\0\x0C\0\0\0\0\0\0\0\0"), REPLY_NEGOTIATE, false},
};

static void assert_row(const struct message_row *table, const struct shortest *shortest) {
    const struct message_row *row = &table[(unsigned char)shortest->at[0]];
    assert_non_null(row->name);
    assert_string_equal(row->name, shortest->name);
    assert_int_equal(row->kind, shortest->kind);
    uint32_t length = bytes_get_u32(shortest->at + 1);
    assert_int_equal(length, shortest->len - 1); /* the row here is sound */
    assert_int_equal(row->length_min, length);
    assert_true(row->length_max <= MESSAGE_LENGTH_MAX);
    if (shortest->is_fixed) {
        assert_int_equal(row->length_max, length);
    } else {
        assert_true(row->length_max > length);
    }
}

static size_t named_rows(const struct message_row *table) {
    size_t count = 0;
    for (size_t i = 0; i < 256; i++) {
        if (table[i].name != NULL) count++;
        assert_int_equal(table[i].name != NULL, table[i].kind != 0);
    }
    return count;
}

static void the_tables_are_the_manuals(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(requests); i++) assert_row(message_requests, &requests[i]);
    for (size_t i = 0; i < COUNT(replies); i++) assert_row(message_replies, &replies[i]);
    assert_int_equal(named_rows(message_requests), COUNT(requests));
    assert_int_equal(named_rows(message_replies), COUNT(replies));
}

static void lengths(void **unused) {
    (void)unused;
    static const struct {
        const char *head;
        uint32_t length; /* 0: cannot be one */
    } rows[] = {
        {"Q\0\0\0\0", 0},
        {"Q\0\0\0\x03", 0},
        {"Q\0\0\0\x04", 5},
        {"Q\0\0\0\x05", 6},
        {"Q\0\x01\0\0", 65537},
        {"Q\x3F\xFF\xFF\xFF", 0x40000000},
        {"Q\x40\0\0\0", 0x40000001}, /* the longest */
        {"Q\x40\0\0\x01", 0},
        {"Q\x7F\xFF\xFF\xFF", 0},
        {"Q\x80\0\0\x04", 0}, /* negative */
        {"Q\xFF\xFF\xFF\xFF", 0},
        {"\0\0\0\0\x04", 5}, /* the type has no say */
        {"\xFF\0\0\0\x04", 5},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_int_equal(message_length(rows[i].head), rows[i].length);
}

static void texts(void **unused) {
    (void)unused;
    static const struct {
        const char *body;
        size_t len;
        const char *text; /* NULL: none */
        const char *rest;
        size_t rest_len;
    } rows[] = {
        {TEXT(""), NULL, TEXT("")},       {NULL, 0, NULL, TEXT("")},
        {TEXT("abc"), NULL, TEXT("")},    {TEXT("\0"), "", TEXT("")},
        {TEXT("abc\0"), "abc", TEXT("")}, {TEXT("abc\0def"), "abc", TEXT("def")},
        {TEXT("\0\0"), "", TEXT("\0")},   {TEXT("a\0\0b\0"), "a", TEXT("\0b\0")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bytes text = {0}, rest = {0};
        bool is_there = message_text(bytes_of(rows[i].body, rows[i].len), &text, &rest);
        assert_int_equal(is_there, rows[i].text != NULL);
        if (!is_there) continue;
        assert_true(bytes_equal_text(text, rows[i].text));
        assert_true(bytes_equal(rest, bytes_of(rows[i].rest, rows[i].rest_len)));
        assert_ptr_equal(text.at, rows[i].body);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_are_the_manuals),
        cmocka_unit_test(lengths),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
