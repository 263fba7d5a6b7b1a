/* First packets, the options parameter, and the messages of a login. */
#include "proto/startup.h"

#include "core/check.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TEXT(text) text, sizeof(text) - 1

/* Length word, code, and what follows. The copy is as large as the packet, so that the address
 * sanitizer sees a read behind its end. */
static struct bytes packet_of(uint32_t code, const char *rest, size_t len) {
    char *at = memory_resize(NULL, len + 8);
    bytes_put_u32(at, (uint32_t)(len + 8));
    bytes_put_u32(at + 4, code);
    if (len > 0) memcpy(at + 8, rest, len);
    return bytes_of(at, len + 8);
}

static void assert_bytes(struct bytes given, const char *expected) {
    if (!bytes_equal_text(given, expected)) {
        print_error("given \"%.*s\", expected \"%s\"\n", (int)given.len, given.at, expected);
        fail();
    }
}

static void test_length(void **state) {
    (void)state;
    static const struct {
        const char *head;
        size_t len;
        enum fault_id fault;
        uint32_t length;
    } rows[] = {
        {TEXT(""), FAULT_NONE, 0},
        {TEXT("\0"), FAULT_NONE, 0},
        {TEXT("\0\0\0"), FAULT_NONE, 0},
        {TEXT("\0\0\0\x08"), FAULT_NONE, 8},
        {TEXT("\0\0\0\x08more"), FAULT_NONE, 8},
        {TEXT("\0\0\x27\x14"), FAULT_NONE, 10004},
        {TEXT("\0\0\x27\x15"), FAULT_STARTUP_LENGTH, 0},
        {TEXT("\0\0\0\x07"), FAULT_STARTUP_LENGTH, 0},
        {TEXT("\0\0\0\0"), FAULT_STARTUP_LENGTH, 0},
        {TEXT("p"), FAULT_PASSWORD_TOO_EARLY, 0},
        {TEXT("\x16"), FAULT_BAD_PACKET_HEADER, 0}, /* TLS ClientHello */
        {TEXT("\x16\x03\x01\x02"), FAULT_BAD_PACKET_HEADER, 0},
        {TEXT("GET / HT"), FAULT_BAD_PACKET_HEADER, 0},
        {TEXT("\x40\0\0\0"), FAULT_BAD_PACKET_HEADER, 0}, /* 1 GB */
        {TEXT("\xFF\xFF\xFF\xFF"), FAULT_BAD_PACKET_HEADER, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t length = 1;
        assert_int_equal(startup_length(bytes_of(rows[i].head, rows[i].len), &length),
                         rows[i].fault);
        assert_int_equal(length, rows[i].length);
    }
}

static void test_kinds(void **state) {
    (void)state;
    static const struct {
        uint32_t code;
        const char *rest;
        size_t len;
        enum startup_kind kind;
        enum fault_id fault;
        const char *argument;
    } rows[] = {
        {80877103, TEXT(""), STARTUP_SSL_REQUEST, FAULT_NONE, ""},
        {80877103, TEXT("x"), STARTUP_BAD, FAULT_STARTUP_LENGTH, "0000000904d2162f"},
        {80877104, TEXT(""), STARTUP_GSS_REQUEST, FAULT_NONE, ""},
        {80877104, TEXT("1234"), STARTUP_BAD, FAULT_STARTUP_LENGTH, "0000000c04d21630"},
        {80877102, TEXT("\0\0\x01\x02\xFF\0\0\x03"), STARTUP_CANCEL, FAULT_NONE, ""},
        {80877102, TEXT("\0\0\x01\x02\xFF\0\0"), STARTUP_CANCEL_BAD, FAULT_NONE, ""},
        {80877102, TEXT("\0\0\x01\x02\xFF\0\0\x03more"), STARTUP_CANCEL_BAD, FAULT_NONE, ""},
        {80877105, TEXT(""), STARTUP_BAD, FAULT_PROTOCOL_UNSUPPORTED, "0000000804d21631"},
        {0x00020000, TEXT("whatever"), STARTUP_BAD, FAULT_PROTOCOL_2, ""},
        {0x00010000, TEXT(""), STARTUP_BAD, FAULT_PROTOCOL_UNSUPPORTED, "0000000800010000"},
        {0x00040001, TEXT(""), STARTUP_BAD, FAULT_PROTOCOL_UNSUPPORTED, "0000000800040001"},
        {0, TEXT(""), STARTUP_BAD, FAULT_PROTOCOL_UNSUPPORTED, "0000000800000000"},
        {0x00030000, TEXT("user\0ann\0\0"), STARTUP_LOGIN, FAULT_NONE, ""},
        {0x00030000, TEXT(""), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("\0"), STARTUP_LOGIN, FAULT_NONE, ""},
        {0x00030000, TEXT("user\0\0\0"), STARTUP_LOGIN, FAULT_NONE, ""},
        {0x00030000, TEXT("database\0shop\0\0"), STARTUP_LOGIN, FAULT_NONE, ""},
        {0x00030000, TEXT("user\0ann\0"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user\0ann"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user\0"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user\0ann\0\0more"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user\0ann\0\0\0"), STARTUP_LOGIN, FAULT_STARTUP_LAYOUT, ""},
        {0x00030000, TEXT("user\0ann\0replication\0maybe\0\0"), STARTUP_LOGIN,
         FAULT_REPLICATION_VALUE, "maybe"},
        {0x00030000, TEXT("user\0a\0replication\0a-value-far-longer-than-the-argument\0\0"),
         STARTUP_LOGIN, FAULT_REPLICATION_VALUE, "a-value-far-longer-than"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup startup;
        struct bytes packet = packet_of(rows[i].code, rows[i].rest, rows[i].len);
        enum startup_kind kind = startup_parse(packet, &startup);
        if (kind != rows[i].kind || startup.fault != rows[i].fault) print_error("row %zu\n", i);
        assert_int_equal(kind, rows[i].kind);
        assert_int_equal(startup.fault, rows[i].fault);
        assert_string_equal(startup.argument, rows[i].argument);
        memory_free((char *)packet.at);
    }
}

/* A length word that does not agree with the packet, and headers that are none. */
static void test_bad_packets(void **state) {
    (void)state;
    static const struct {
        const char *packet;
        size_t len;
        enum fault_id fault;
        const char *argument;
    } rows[] = {
        {TEXT(""), FAULT_STARTUP_LENGTH, ""},
        {TEXT("\0\0\0"), FAULT_STARTUP_LENGTH, "000000"},
        {TEXT("\0\0\0\x08\0\0"), FAULT_STARTUP_LENGTH, "000000080000"},
        {TEXT("\0\0\0\x09\0\x03\0\0"), FAULT_STARTUP_LENGTH, "0000000900030000"},
        {TEXT("\0\0\0\x08\x04\xD2\x16\x2Fmore"), FAULT_STARTUP_LENGTH, "0000000804d2162f"},
        {TEXT("\x16\x03\x01\x02"), FAULT_BAD_PACKET_HEADER, "16030102"},
        {TEXT("GET / HTTP/1.1"), FAULT_BAD_PACKET_HEADER, "474554202f204854"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup startup;
        assert_int_equal(startup_parse(bytes_of(rows[i].packet, rows[i].len), &startup),
                         STARTUP_BAD);
        assert_int_equal(startup.fault, rows[i].fault);
        assert_string_equal(startup.argument, rows[i].argument);
    }
}

static void test_cancel(void **state) {
    (void)state;
    struct startup startup;
    struct bytes packet = packet_of(80877102, TEXT("\0\0\x01\x02\xFF\0\0\x03"));
    assert_int_equal(startup_parse(packet, &startup), STARTUP_CANCEL);
    assert_int_equal(startup.cancel_pid, 0x102);
    assert_int_equal(startup.cancel_secret, 0xFF000003);
    struct buf out = {0};
    message_write_cancel_request(&out, 0x102, 0xFF000003);
    assert_true(bytes_equal(buf_content(&out), packet));
    buf_release(&out);
    memory_free((char *)packet.at);
}

static void test_parameters(void **state) {
    (void)state;
    struct startup startup;
    struct bytes packet = packet_of(
        0x00030000, TEXT("user\0ann\0DateStyle\0ISO\0database\0shop\0options\0-c a=1\0"
                         "application_name\0\0datestyle\0German\0user\0eve\0USER\0x\0\0"));
    assert_int_equal(startup_parse(packet, &startup), STARTUP_LOGIN);
    assert_bytes(startup.user, "eve");
    assert_bytes(startup.database, "shop");
    assert_bytes(startup.options, "-c a=1");
    assert_int_equal(startup.parameters_count, 3);
    assert_bytes(startup.parameters[0].name, "datestyle");
    assert_bytes(startup.parameters[0].value, "German");
    assert_bytes(startup.parameters[1].name, "application_name");
    assert_bytes(startup.parameters[1].value, "");
    assert_bytes(startup.parameters[2].name, "USER");
    assert_int_equal(startup.replication, STARTUP_REPLICATION_NONE);
    assert_false(startup_needs_negotiation(&startup));
    memory_free((char *)packet.at);
}

static void test_database_defaults_to_user(void **state) {
    (void)state;
    struct startup startup;
    struct bytes packet = packet_of(0x00030000, TEXT("user\0ann\0database\0\0\0"));
    assert_int_equal(startup_parse(packet, &startup), STARTUP_LOGIN);
    assert_bytes(startup.database, "ann");
    memory_free((char *)packet.at);
}

static void test_replication(void **state) {
    (void)state;
    static const struct {
        const char *rest;
        size_t len;
        enum startup_replication replication;
    } rows[] = {
        {TEXT("user\0a\0replication\0database\0\0"), STARTUP_REPLICATION_LOGICAL},
        {TEXT("user\0a\0replication\0TRUE\0\0"), STARTUP_REPLICATION_PHYSICAL},
        {TEXT("user\0a\0replication\0"
              "1\0\0"),
         STARTUP_REPLICATION_PHYSICAL},
        {TEXT("user\0a\0replication\0no\0\0"), STARTUP_REPLICATION_NONE},
        {TEXT("user\0a\0replication\0yes\0replication\0off\0\0"), STARTUP_REPLICATION_NONE},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup startup;
        struct bytes packet = packet_of(0x00030000, rows[i].rest, rows[i].len);
        assert_int_equal(startup_parse(packet, &startup), STARTUP_LOGIN);
        assert_int_equal(startup.replication, rows[i].replication);
        memory_free((char *)packet.at);
    }
}

/* The tables are full at their limit, and one more is an error; a repeated name needs no room. */
static void test_parameter_limits(void **state) {
    (void)state;
    static const struct {
        const char *prefix;
        bool is_numbered;
        unsigned count;
        enum fault_id fault;
        const char *argument;
    } rows[] = {
        {"p", true, STARTUP_PARAMETERS_MAX, FAULT_NONE, ""},
        {"p", true, STARTUP_PARAMETERS_MAX + 1, FAULT_STARTUP_TOO_MANY, "64"},
        {"p", false, 500, FAULT_NONE, ""},
        {"_pq_.", true, STARTUP_PROTOCOL_OPTIONS_MAX, FAULT_NONE, ""},
        {"_pq_.", true, STARTUP_PROTOCOL_OPTIONS_MAX + 1, FAULT_STARTUP_TOO_MANY, "16"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup startup;
        struct buf rest = {0};
        for (unsigned n = 0; n < rows[i].count; n++) {
            buf_append_text(&rest, rows[i].prefix);
            if (rows[i].is_numbered) buf_append_format(&rest, "%u", n);
            buf_append_u8(&rest, 0);
            buf_append_text0(&rest, "v");
        }
        buf_append(&rest, TEXT("user\0ann\0\0"));
        struct bytes packet = packet_of(0x00030000, buf_content(&rest).at, buf_length(&rest));
        (void)startup_parse(packet, &startup);
        assert_int_equal(startup.fault, rows[i].fault);
        assert_string_equal(startup.argument, rows[i].argument);
        memory_free((char *)packet.at);
        buf_release(&rest);
    }
}

static void test_negotiation(void **state) {
    (void)state;
    static const struct {
        uint32_t code;
        const char *rest;
        size_t len;
        const char *answer; /* NULL: nothing to negotiate */
        size_t answer_len;
    } rows[] = {
        {0x00030000, TEXT("user\0a\0\0"), NULL, 0},
        {0x00030002, TEXT("user\0a\0\0"), TEXT("v\0\0\0\x0C\0\x03\0\0\0\0\0\0")},
        {0x00030000,
         TEXT("_pq_.x\0"
              "1\0user\0a\0\0"),
         TEXT("v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0")},
        {0x00030001, TEXT("user\0a\0_pq_.x\0\0_pq_.yy\0\0\0"),
         TEXT("v\0\0\0\x1B\0\x03\0\0\0\0\0\x02_pq_.x\0_pq_.yy\0")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup startup;
        struct buf out = {0};
        struct bytes packet = packet_of(rows[i].code, rows[i].rest, rows[i].len);
        assert_int_equal(startup_parse(packet, &startup), STARTUP_LOGIN);
        assert_int_equal(startup_needs_negotiation(&startup), rows[i].answer != NULL);
        assert_int_equal(startup.parameters_count, 0);
        message_write_negotiate(&out, &startup);
        if (rows[i].answer != NULL)
            assert_true(
                bytes_equal(buf_content(&out), bytes_of(rows[i].answer, rows[i].answer_len)));
        memory_free((char *)packet.at);
        buf_release(&out);
    }
}

/* `expected` lists the settings as name=value; with " !" at its end where the rest is refused. */
static void test_options(void **state) {
    (void)state;
    static const struct {
        const char *options;
        const char *expected;
    } rows[] = {
        {"", ""},
        {"  \t\n ", ""},
        {"-c a=1", " a=1"},
        {"-ca=1", " a=1"},
        {"--a=1", " a=1"},
        {"-c\ta=1  --b=2 -cc=3 ", " a=1 b=2 c=3"},
        {"--statement-timeout=5s", " statement_timeout=5s"},
        {"-c a-b=c-d", " a_b=c-d"},
        {"-c a=", " a="},
        {"-c a=b=c", " a=b=c"},
        {"-c a=x\\ y", " a=x y"},
        {"-c a=x\\\\y", " a=x\\y"},
        {"-c a=\\", " a="},
        {"-c\\ a=1", "  a=1"},
        {"-c search_path=a,\\ b --c=d", " search_path=a, b c=d"},
        {"-c=", " !"},
        {"-c =", " !"},
        {"-c", " !"},
        {"-c ", " !"},
        {"-c a", " !"},
        {"-c =1", " !"},
        {"--", " !"},
        {"--=", " !"},
        {"--=1", " !"},
        {"--a", " !"},
        {"-", " !"},
        {"\\", " !"},
        {"-x", " !"},
        {"-e", " !"},
        {"a=1", " !"},
        {"-c a=1 -x", " a=1 !"},
        {"-c a=1 -c= -c b=2", " a=1 !"},
        {"-c -c", " !"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct startup_options options = {.rest = bytes_of_text(rows[i].options)};
        struct startup_parameter option;
        struct buf given = {0};
        enum startup_option step;
        while ((step = startup_option_next(&options, &option)) == STARTUP_OPTION_FOUND)
            buf_append_format(&given, " %.*s=%.*s", (int)option.name.len, option.name.at,
                              (int)option.value.len, option.value.at);
        if (step == STARTUP_OPTION_BAD) buf_append_text(&given, " !");
        assert_string_equal(buf_text(&given), rows[i].expected);
        startup_options_release(&options);
        buf_release(&given);
    }
    /* A client that gave no options at all. */
    struct startup_options options = {.rest = bytes_of(NULL, 0)};
    struct startup_parameter option;
    assert_int_equal(startup_option_next(&options, &option), STARTUP_OPTION_END);
}

static void test_messages(void **state) {
    (void)state;
    struct bytes data = bytes_of_text("data");
    struct startup_parameter parameters[] = {{bytes_of_text("user"), bytes_of_text("ann")},
                                             {bytes_of_text("database"), bytes_of_text("")}};
    static const char challenges[] = "R\0\0\0\x08\0\0\0\0"
                                     "R\0\0\0\x08\0\0\0\x03"
                                     "R\0\0\0\x17\0\0\0\x0ASCRAM-SHA-256\0\0"
                                     "R\0\0\0\x0C\0\0\0\x0B"
                                     "data"
                                     "R\0\0\0\x0C\0\0\0\x0C"
                                     "data";
    struct buf out = {0};
    message_write_authentication_ok(&out);
    message_write_authentication_cleartext(&out);
    message_write_authentication_sasl(&out, false);
    message_write_sasl_continue(&out, data);
    message_write_sasl_final(&out, data);
    assert_true(bytes_equal(buf_content(&out), bytes_of(TEXT(challenges))));
    buf_clear(&out);

    static const char bound[] = "R\0\0\0\x2A\0\0\0\x0ASCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
                                "R\0\0\0\x0C\0\0\0\x05salt";
    message_write_authentication_sasl(&out, true);
    message_write_authentication_md5(&out, "salt");
    assert_true(bytes_equal(buf_content(&out), bytes_of(TEXT(bound))));
    buf_clear(&out);

    message_write_parameter_status(&out, bytes_of_text("TimeZone"), bytes_of_text("UTC"));
    message_write_backend_key_data(&out, 1, 0xFF000002);
    message_write_ready_for_query(&out, 'T');
    static const char welcome[] = "S\0\0\0\x11TimeZone\0UTC\0"
                                  "K\0\0\0\x0C\0\0\0\x01\xFF\0\0\x02"
                                  "Z\0\0\0\x05T";
    assert_true(bytes_equal(buf_content(&out), bytes_of(TEXT(welcome))));
    buf_clear(&out);

    message_write_startup(&out, parameters, COUNT(parameters));
    message_write_password(&out, bytes_of_text("secret"));
    message_write_sasl_initial_response(&out, "SCRAM-SHA-256", data);
    message_write_sasl_response(&out, data);
    static const char toward_server[] = "\0\0\0\x1C\0\x03\0\0user\0ann\0database\0\0\0"
                                        "p\0\0\0\x0Bsecret\0"
                                        "p\0\0\0\x1ASCRAM-SHA-256\0\0\0\0\x04"
                                        "data"
                                        "p\0\0\0\x08"
                                        "data";
    assert_true(bytes_equal(buf_content(&out), bytes_of(TEXT(toward_server))));
    buf_release(&out);
}

/* What message_write_startup writes, startup_parse reads. */
static void test_startup_round_trip(void **state) {
    (void)state;
    struct startup_parameter parameters[] = {{bytes_of_text("user"), bytes_of_text("ann")},
                                             {bytes_of_text("TimeZone"), bytes_of_text("UTC")}};
    struct buf out = {0};
    struct startup startup;
    message_write_startup(&out, parameters, COUNT(parameters));
    assert_int_equal(startup_parse(buf_content(&out), &startup), STARTUP_LOGIN);
    assert_bytes(startup.user, "ann");
    assert_int_equal(startup.parameters_count, 1);
    assert_bytes(startup.parameters[0].value, "UTC");
    buf_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length),      cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_bad_packets), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_parameters),  cmocka_unit_test(test_database_defaults_to_user),
        cmocka_unit_test(test_replication), cmocka_unit_test(test_parameter_limits),
        cmocka_unit_test(test_negotiation), cmocka_unit_test(test_options),
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_startup_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
