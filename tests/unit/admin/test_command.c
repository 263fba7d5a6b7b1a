/* The console's language: what each text means, and which are refused how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/command.h"
#include "core/check.h"

#define A15   "aaaaaaaaaaaaaaa"
#define A63   A15 A15 A15 A15 "aaa"
#define A255  A63 A63 A63 A63 "aaa"
#define WRONG FAULT_CONSOLE_COMMAND
#define LONG  FAULT_CONSOLE_ARGUMENTS

static const struct {
    const char *text;
    enum command_form form;
    const char *word;
    const char *argument; /* NULL: none */
    const char *value;    /* of SET, or the SQL */
} good[] = {
    {"SHOW POOLS", COMMAND_PLAIN, "SHOW", "POOLS", ""},
    {"show pools;", COMMAND_PLAIN, "show", "pools", ""},
    {" \t\r\nRELOAD \n;\n ", COMMAND_PLAIN, "RELOAD", NULL, ""},
    {"PAUSE \"my db\"", COMMAND_PLAIN, "PAUSE", "my db", ""},
    {"PAUSE \"a\"\"b\";", COMMAND_PLAIN, "PAUSE", "a\"b", ""},
    {"PAUSE \"\"", COMMAND_PLAIN, "PAUSE", "", ""},
    {"PAUSE \"it's; a = b\"", COMMAND_PLAIN, "PAUSE", "it's; a = b", ""},
    {"kill_client 17", COMMAND_PLAIN, "kill_client", "17", ""},
    {"SET verbose=1", COMMAND_SET, "SET", "verbose", "1"},
    {"set verbose = 1 ;", COMMAND_SET, "set", "verbose", "1"},
    {"SET verbose TO 1", COMMAND_SET, "SET", "verbose", "1"},
    {"SET verbose to '1'", COMMAND_SET, "SET", "verbose", "1"},
    {"SET verbose to'1'", COMMAND_SET, "SET", "verbose", "1"},
    {"SET \"verbose\" = \"1\"", COMMAND_SET, "SET", "verbose", "1"},
    {"SET x = 'it''s \"1\"; '", COMMAND_SET, "SET", "x", "it's \"1\"; "},
    {"SET x = ''", COMMAND_SET, "SET", "x", ""},
    {"SET to to to", COMMAND_SET, "SET", "to", "to"},
    {"SET x", COMMAND_PLAIN, "SET", "x", ""}, /* that SET wants a value is not for the parser */
    {"SHOW ROUTE 'SELECT 1'", COMMAND_ROUTE, "SHOW", NULL, "SELECT 1"},
    {"show route 'SELECT ''a;b''';", COMMAND_ROUTE, "show", NULL, "SELECT 'a;b'"},
    {"SHOW ROUTE app 'SELECT 1'", COMMAND_ROUTE, "SHOW", "app", "SELECT 1"},
    {"SHOW ROUTE \"my db\" ''", COMMAND_ROUTE, "SHOW", "my db", ""},
    {"SHOW " A63, COMMAND_PLAIN, "SHOW", A63, ""},
    {A15, COMMAND_PLAIN, A15, NULL, ""},
    {"SET x = '" A255 "'", COMMAND_SET, "SET", "x", A255},
};

static void check_good(const char *text, const struct command *command, size_t row) {
    if (command->form != good[row].form || strcmp(command->word, good[row].word) != 0)
        fail_msg("%s: form %d, word %s", text, (int)command->form, command->word);
    if (command->has_argument != (good[row].argument != NULL) ||
        strcmp(command->argument, good[row].argument == NULL ? "" : good[row].argument) != 0)
        fail_msg("%s: argument %s", text, command->argument);
    if (command->form == COMMAND_ROUTE) {
        assert_true(bytes_equal_text(buf_content(&command->sql), good[row].value));
    } else if (strcmp(command->value, good[row].value) != 0) {
        fail_msg("%s: value %s", text, command->value);
    }
}

static void commands_are_understood(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct command command;
        enum fault_id fault = command_parse(good[i].text, &command);
        if (fault != FAULT_NONE) fail_msg("%s: fault %d", good[i].text, (int)fault);
        check_good(good[i].text, &command, i);
        command_release(&command);
    }
}

static const struct {
    const char *text;
    enum fault_id fault;
} bad[] = {
    {"", WRONG},
    {" ", WRONG},
    {";", WRONG},
    {";;", WRONG},
    {"SHOW POOLS;;", WRONG},
    {"SHOW POOLS; SHOW POOLS", WRONG},
    {"SHOW POOLS CLIENTS", WRONG},
    {"SHOW 'POOLS'", WRONG},
    {"SHOW ROUTE", FAULT_NONE}, /* no such view, which the console tells */
    {"SHOW ROUTE app pools", WRONG},
    {"SHOW ROUTE a b 'x'", WRONG},
    {"SHOW ROUTE 'a' 'b'", WRONG},
    {"SHOW POOLS 'x'", WRONG},
    {"PAUSE \"app", WRONG},
    {"SET x = 'a", WRONG},
    {"SET x = a.b", WRONG},
    {"SET x = -1", WRONG},
    {"SET x == 1", WRONG},
    {"SET x = ", WRONG},
    {"SET = 1", WRONG},
    {"SET x 1", WRONG},
    {"SET x = 1 2", WRONG},
    {"SET 'x' = 1", WRONG},
    {"VERBOSE = 1", WRONG},
    {"= 1", WRONG},
    {"SHOW -- POOLS", WRONG},
    {"SHOW POOLS /* */", WRONG},
    {"\xC3\xA9", WRONG},
    {"a" A15, LONG},
    {"SHOW a" A63, LONG},
    {"SHOW \"" A63 "\"\"\"", LONG},
    {"SET a" A63 " = 1", LONG},
    {"SET x = 'a" A255 "'", LONG},
    {"SHOW ROUTE a" A63 " 'x'", LONG},
};

static void the_rest_is_refused(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct command command;
        enum fault_id fault = command_parse(bad[i].text, &command);
        if (fault != bad[i].fault) fail_msg("%s: fault %d", bad[i].text, (int)fault);
        command_release(&command);
    }
}

/* A statement of that many letters in SHOW ROUTE. */
static enum fault_id parse_route(size_t length) {
    struct buf text = {0};
    struct command command;
    buf_append_text(&text, "SHOW ROUTE '");
    for (size_t i = 0; i < length; i++) buf_append_u8(&text, 'x');
    buf_append_text(&text, "'");
    enum fault_id fault = command_parse(buf_text(&text), &command);
    if (fault == FAULT_NONE) assert_int_equal(buf_length(&command.sql), length);
    command_release(&command);
    buf_release(&text);
    return fault;
}

static void long_statements_are_bounded(void **unused) {
    (void)unused;
    assert_int_equal(parse_route(COMMAND_SQL_BYTES_MAX), FAULT_NONE);
    assert_int_equal(parse_route(COMMAND_SQL_BYTES_MAX + 1), LONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_understood),
        cmocka_unit_test(the_rest_is_refused),
        cmocka_unit_test(long_statements_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
