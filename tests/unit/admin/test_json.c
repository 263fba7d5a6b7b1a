/* The JSON writer: commas, nesting, escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/json.h"
#include "core/check.h"

static const struct {
    const char *text;
    const char *json;
} texts[] = {
    {"", "\"\""},
    {"plain", "\"plain\""},
    {"a \"b\" \\ c", "\"a \\\"b\\\" \\\\ c\""},
    {"line\nend\ttab\x01\x7F", "\"line\\u000aend\\u0009tab\\u0001\\u007f\""},
    {"</script>", "\"\\u003c/script>\""},
    {"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x90\x98", "\"\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x90\x98\""},
    {"latin \xE9t\xE9", "\"latin \xEF\xBF\xBDt\xEF\xBF\xBD\""},
    {"cut \xE2\x82", "\"cut \xEF\xBF\xBD\xEF\xBF\xBD\""},
    {"long form \xC0\xAF", "\"long form \xEF\xBF\xBD\xEF\xBF\xBD\""},
    {"surrogate \xED\xA0\x80", "\"surrogate \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    {NULL, "null"},
};

static void texts_are_escaped(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct buf out = {0};
        struct json json = {.out = &out};
        json_text(&json, NULL, texts[i].text);
        assert_string_equal(buf_text(&out), texts[i].json);
        buf_release(&out);
    }
}

static void members_and_items_are_divided(void **unused) {
    (void)unused;
    struct buf out = {0};
    struct json json = {.out = &out};
    json_open(&json, NULL, '{');
    json_open(&json, "none", '[');
    json_close(&json, ']');
    json_open(&json, "list", '[');
    json_number(&json, NULL, UINT64_MAX);
    json_bool(&json, NULL, true);
    json_open(&json, NULL, '{');
    json_decimal(&json, "ms", 0.25);
    json_close(&json, '}');
    json_open(&json, NULL, '{');
    json_close(&json, '}');
    json_close(&json, ']');
    json_null(&json, "a\"b");
    json_raw(&json, "raw", bytes_of_text("[1,2]"));
    json_bool(&json, "last", false);
    json_close(&json, '}');
    assert_string_equal(buf_text(&out),
                        "{\"none\":[],\"list\":[18446744073709551615,true,{\"ms\":0.250},{}],"
                        "\"a\\\"b\":null,\"raw\":[1,2],\"last\":false}");
    assert_int_equal(json.depth, 0);
    buf_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(members_and_items_are_divided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
