/* The table of faults, ErrorResponse in both directions, and which refusals may be tried again. */
#include "proto/fault.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Splits a whole message off and returns its body; the framing must be right. */
static struct bytes body_of(struct buf *out, char type) {
    struct bytes all = buf_content(out);
    assert_true(all.len >= 5);
    assert_int_equal(all.at[0], type);
    assert_int_equal(bytes_get_u32(all.at + 1), all.len - 1);
    return bytes_of(all.at + 5, all.len - 5);
}

static void assert_bytes(struct bytes given, const char *expected) {
    if (!bytes_equal_text(given, expected)) {
        print_error("given \"%.*s\", expected \"%s\"\n", (int)given.len, given.at, expected);
        fail();
    }
}

static void test_rows_are_complete(void **state) {
    (void)state;
    for (int id = FAULT_NONE + 1; id < FAULT_COUNT; id++) {
        const struct fault *fault = fault_of((enum fault_id)id);
        assert_int_equal(strlen(fault->sqlstate), 5);
        assert_true(strspn(fault->sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5);
        assert_true(strlen(fault->text) > 0);
        assert_true(fault->counter < FAULT_COUNTER_COUNT);
        assert_true(strlen(fault_counter_name(fault->counter)) > 0);
    }
}

/* Every row, written and read again, says what the row says, with the argument in its place. */
static void test_rows_round_trip(void **state) {
    (void)state;
    for (int id = FAULT_NONE + 1; id < FAULT_COUNT; id++) {
        const struct fault *fault = fault_of((enum fault_id)id);
        struct buf out = {0};
        struct buf text = {0};
        struct fault_fields fields;
        fault_write(&out, (enum fault_id)id, "ARGUMENT");
        assert_true(fault_read(body_of(&out, 'E'), &fields));
        assert_bytes(fields.sqlstate, fault->sqlstate);
        assert_bytes(fields.severity, fault->effect == FAULT_EFFECT_CLOSE ? "FATAL" : "ERROR");
        fault_append_text(&text, (enum fault_id)id, "ARGUMENT");
        assert_bytes(fields.message, buf_text(&text));
        assert_null(strstr(buf_text(&out), "%s"));
        assert_true((fields.detail.len > 0) == (fault->detail != NULL));
        assert_true((fields.hint.len > 0) == (fault->hint != NULL));
        buf_release(&out);
        buf_release(&text);
    }
}

/* What scripts and drivers match on. */
static void test_texts(void **state) {
    (void)state;
    static const struct {
        enum fault_id id;
        const char *argument;
        enum fault_effect effect;
        const char *sqlstate;
        const char *text;
    } rows[] = {
        {FAULT_MAX_CLIENT_CONN, NULL, FAULT_EFFECT_CLOSE, "08P01",
         "no more connections allowed (max_client_conn)"},
        {FAULT_NO_DATABASE, "shop", FAULT_EFFECT_CLOSE, "08P01", "no such database: shop"},
        {FAULT_DATABASE_DISABLED, "shop", FAULT_EFFECT_CLOSE, "08P01",
         "database \"shop\" is disabled"},
        {FAULT_AUTH_PASSWORD, NULL, FAULT_EFFECT_CLOSE, "08P01", "password authentication failed"},
        {FAULT_AUTH_SASL, NULL, FAULT_EFFECT_CLOSE, "08P01", "SASL authentication failed"},
        {FAULT_AUTH_TRUST, NULL, FAULT_EFFECT_CLOSE, "08P01", "\"trust\" authentication failed"},
        {FAULT_BAD_PACKET_HEADER, "16030100", FAULT_EFFECT_CLOSE, "08P01",
         "bad packet header: '16030100'"},
        {FAULT_PROTOCOL_2, NULL, FAULT_EFFECT_CLOSE, "08P01", "old V2 protocol not supported"},
        {FAULT_QUERY_TIMEOUT, NULL, FAULT_EFFECT_CLOSE, "08P01", "query timeout"},
        {FAULT_QUERY_TIMEOUT_WAITING, NULL, FAULT_EFFECT_CLOSE, "08P01", "query_timeout"},
        {FAULT_SERVER_LOGIN_FAILING, "too many", FAULT_EFFECT_CLOSE, "08P01",
         "server login has been failing, cached error: too many (server_login_retry)"},
        {FAULT_SERVER_LOST, NULL, FAULT_EFFECT_CLOSE, "08006", "server conn crashed?"},
        {FAULT_SERVER_TERMINATED, NULL, FAULT_EFFECT_CLOSE, "57P01",
         "terminating connection due to administrator command"},
        {FAULT_STATEMENT_MISSING, "s1", FAULT_EFFECT_CLOSE, "08P01",
         "prepared statement did not exist"},
        {FAULT_STATEMENT_EXISTS, "s1", FAULT_EFFECT_CLOSE, "08P01",
         "prepared statement name is already in use"},
        {FAULT_CANCELED, NULL, FAULT_EFFECT_KEEP, "57014",
         "canceling statement due to user request"},
        {FAULT_CONSOLE_COMMAND, "HELLO", FAULT_EFFECT_KEEP, "08P01",
         "invalid command 'HELLO', use SHOW HELP;"},
        {FAULT_CONSOLE_RELOAD, NULL, FAULT_EFFECT_KEEP, "F0000",
         "RELOAD failed, see logs for additional details"},
        /* Hostile and missing arguments. */
        {FAULT_NO_DATABASE, "a\nb\x7F\x01", FAULT_EFFECT_CLOSE, "08P01", "no such database: a?b??"},
        {FAULT_NO_DATABASE, "%s%n", FAULT_EFFECT_CLOSE, "08P01", "no such database: %s%n"},
        {FAULT_NO_DATABASE, NULL, FAULT_EFFECT_CLOSE, "08P01", "no such database: "},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf text = {0};
        fault_append_text(&text, rows[i].id, rows[i].argument);
        assert_string_equal(buf_text(&text), rows[i].text);
        assert_string_equal(fault_of(rows[i].id)->sqlstate, rows[i].sqlstate);
        assert_int_equal(fault_of(rows[i].id)->effect, rows[i].effect);
        buf_release(&text);
    }
}

/* A long argument is cut at a whole character. */
static void test_argument_is_cut(void **state) {
    (void)state;
    char argument[FAULT_ARGUMENT_BYTES_MAX + 8];
    memset(argument, 'x', sizeof argument);
    memcpy(argument + FAULT_ARGUMENT_BYTES_MAX - 1, "\xC3\xA4", 2);
    argument[sizeof argument - 1] = '\0';
    struct buf text = {0};
    fault_append_text(&text, FAULT_NO_DATABASE, argument);
    assert_int_equal(buf_length(&text),
                     strlen("no such database: ") + FAULT_ARGUMENT_BYTES_MAX - 1);
    buf_release(&text);
}

static void test_exact_bytes(void **state) {
    (void)state;
    static const char expected[] =
        "E\0\0\0\x3CSERROR\0C57014\0Mcanceling statement due to user request\0";
    struct buf out = {0};
    buf_append_text(&out, "before");
    fault_write(&out, FAULT_CANCELED, NULL);
    buf_consume(&out, 6);
    assert_int_equal(buf_length(&out), sizeof expected);
    assert_memory_equal(buf_content(&out).at, expected, sizeof expected);
    buf_release(&out);
}

static void test_custom(void **state) {
    (void)state;
    struct buf out = {0};
    struct fault_fields fields = {.severity = bytes_of_text("FATAL"),
                                  .sqlstate = bytes_of_text("53300"),
                                  .message = bytes_of_text("sorry, too many clients already"),
                                  .routine = bytes_of_text("InitProcess")};
    struct fault_fields back;
    fault_write_custom(&out, &fields);
    assert_true(fault_read(body_of(&out, 'E'), &back));
    assert_bytes(back.severity, "FATAL");
    assert_bytes(back.sqlstate, "53300");
    assert_bytes(back.message, "sorry, too many clients already");
    assert_bytes(back.routine, "InitProcess");
    assert_bytes(back.detail, "");
    buf_clear(&out);

    /* Nothing given, and a NUL that would shift the fields behind it. */
    fields = (struct fault_fields){.detail = bytes_of("a\0b", 3)};
    fault_write_custom(&out, &fields);
    assert_true(fault_read(body_of(&out, 'E'), &back));
    assert_bytes(back.severity, "FATAL");
    assert_bytes(back.sqlstate, "08P01");
    assert_bytes(back.message, "unknown error");
    assert_bytes(back.detail, "a");
    buf_release(&out);
}

static void test_notice(void **state) {
    (void)state;
    struct buf out = {0};
    struct fault_fields fields;
    fault_notice_write(&out, "Console usage", "SHOW HELP");
    assert_true(fault_read(body_of(&out, 'N'), &fields));
    assert_bytes(fields.severity, "NOTICE");
    assert_bytes(fields.sqlstate, "00000");
    assert_bytes(fields.message, "Console usage");
    assert_bytes(fields.detail, "SHOW HELP");
    buf_release(&out);
}

#define BODY(text) text, sizeof(text) - 1

static void test_read(void **state) {
    (void)state;
    static const struct {
        const char *body;
        size_t len;
        bool is_good;
        const char *severity;
        const char *sqlstate;
        const char *message;
        const char *routine;
    } rows[] = {
        {BODY("SERROR\0C42601\0Moops\0Rscanner_yyerror\0\0"), true, "ERROR", "42601", "oops",
         "scanner_yyerror"},
        {BODY("SFEHLER\0VERROR\0C42601\0Moops\0\0"), true, "ERROR", "42601", "oops", ""},
        {BODY("VERROR\0SFEHLER\0C42601\0Moops\0\0"), true, "ERROR", "42601", "oops", ""},
        {BODY("SERROR\0Moops\0\0"), true, "ERROR", "", "oops", ""}, /* no SQLSTATE */
        {BODY("\0"), true, "", "", "", ""},
        {BODY("Zx\0!\0Mm\0\0"), true, "", "", "m", ""}, /* fields nobody knows */
        {BODY("C\0M\0\0"), true, "", "", "", ""},
        {BODY(""), false, "", "", "", ""},
        {BODY("S"), false, "", "", "", ""},
        {BODY("SERROR"), false, "", "", "", ""},
        {BODY("SERROR\0"), false, "ERROR", "", "", ""},
        {BODY("SERROR\0C42601\0Moo"), false, "ERROR", "42601", "", ""},
        {BODY("SERROR\0\0more"), false, "ERROR", "", "", ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct fault_fields fields;
        assert_int_equal(fault_read(bytes_of(rows[i].body, rows[i].len), &fields), rows[i].is_good);
        assert_bytes(fields.severity, rows[i].severity);
        assert_bytes(fields.sqlstate, rows[i].sqlstate);
        assert_bytes(fields.message, rows[i].message);
        assert_bytes(fields.routine, rows[i].routine);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *sqlstate;
        const char *message;
        const char *routine;
        enum fault_refusal refusal;
    } rows[] = {
        {"25006", "cannot execute INSERT in a read-only transaction", "PreventCommandIfReadOnly",
         FAULT_REFUSAL_PRIMARY},
        {"25006", "INSERT kann nicht ausgef\xC3\xBChrt werden", "PreventCommandIfReadOnly",
         FAULT_REFUSAL_PRIMARY},
        {"25006", "cannot execute LISTEN during recovery", "PreventCommandDuringRecovery",
         FAULT_REFUSAL_PRIMARY},
        {"25006", "cannot manipulate replication origins during recovery",
         "replorigin_check_prerequisites", FAULT_REFUSAL_PRIMARY},
        {"25006", "raised by a function", "exec_stmt_raise", FAULT_REFUSAL_NOT},
        {"0A000", "cannot access temporary or unlogged relations during recovery",
         "get_relation_info", FAULT_REFUSAL_PRIMARY},
        {"0A000", "cannot access temporary or unlogged relations during recovery", "BeginCopyTo",
         FAULT_REFUSAL_PRIMARY},
        {"0A000", "cannot use serializable mode in a hot standby",
         "GetSerializableTransactionSnapshot", FAULT_REFUSAL_SESSION},
        {"0A000", "cannot use serializable mode in a hot standby", "call_enum_check_hook",
         FAULT_REFUSAL_PRIMARY},
        {"0A000", "cannot set transaction read-write mode during recovery", "call_bool_check_hook",
         FAULT_REFUSAL_PRIMARY},
        {"0A000", "logical decoding cannot be used while in recovery",
         "CheckLogicalDecodingRequirements", FAULT_REFUSAL_PRIMARY},
        {"0A000", "cached plan must not change result type", "RevalidateCachedQuery",
         FAULT_REFUSAL_NOT},
        {"0A000", "INSERT is not allowed in a non-volatile function", "_SPI_execute_plan",
         FAULT_REFUSAL_NOT},
        {"55000", "recovery is in progress", "pg_switch_wal", FAULT_REFUSAL_PRIMARY},
        {"55000", "Wiederherstellung l\xC3\xA4uft", "pg_current_wal_lsn", FAULT_REFUSAL_PRIMARY},
        {"55000", "recovery is in progress", "gin_clean_pending_list", FAULT_REFUSAL_PRIMARY},
        {"55000",
         "cannot acquire lock mode AccessExclusiveLock on database objects while recovery "
         "is in progress",
         "LockAcquireExtended", FAULT_REFUSAL_PRIMARY},
        {"55000", "currval of sequence \"s\" is not yet defined in this session", "currval_oid",
         FAULT_REFUSAL_NOT},
        {"XX000", "cannot assign TransactionIds during recovery", "GetNewTransactionId",
         FAULT_REFUSAL_PRIMARY},
        {"XX000", "cannot assign OIDs during recovery", "GetNewObjectId", FAULT_REFUSAL_PRIMARY},
        {"XX000", "cannot make new WAL entries during recovery", "XLogBeginInsert",
         FAULT_REFUSAL_PRIMARY},
        {"XX000", "cannot assign TransactionIds during a parallel operation", "GetNewTransactionId",
         FAULT_REFUSAL_NOT},
        {"XX000", "cache lookup failed", "something", FAULT_REFUSAL_NOT},
        {"40001", "canceling statement due to conflict with recovery", "ProcessInterrupts",
         FAULT_REFUSAL_CONFLICT},
        {"40001", "canceling statement due to conflict with recovery",
         "ProcessRecoveryConflictInterrupt", FAULT_REFUSAL_CONFLICT},
        {"40001", "could not serialize access due to concurrent update", "ExecUpdate",
         FAULT_REFUSAL_NOT},
        {"40P01", "canceling statement due to conflict with recovery", "ProcessInterrupts",
         FAULT_REFUSAL_CONFLICT},
        {"40P01", "deadlock detected", "DeadLockReport", FAULT_REFUSAL_NOT},
        {"57P01", "terminating connection due to administrator command", "ProcessInterrupts",
         FAULT_REFUSAL_LOST},
        {"57P02", "terminating connection because of crash", "quickdie", FAULT_REFUSAL_LOST},
        {"57P03", "the database system is starting up", "ProcessStartupPacket", FAULT_REFUSAL_LOST},
        {"57P04", "terminating connection due to conflict with recovery", "ProcessInterrupts",
         FAULT_REFUSAL_NOT},
        {"57014", "canceling statement due to user request", "ProcessInterrupts",
         FAULT_REFUSAL_NOT},
        {"55P03", "canceling statement due to lock timeout", "ProcessInterrupts",
         FAULT_REFUSAL_NOT},
        {"53300", "sorry, too many clients already", "InitProcess", FAULT_REFUSAL_LOST},
        {"28P01", "password authentication failed", "auth_failed", FAULT_REFUSAL_NOT},
        {"42P01", "relation \"t\" does not exist", "parserOpenTable", FAULT_REFUSAL_MISSING},
        {"42883", "function f() does not exist", "ParseFuncOrColumn", FAULT_REFUSAL_MISSING},
        {"42704", "type \"t\" does not exist", "typenameType", FAULT_REFUSAL_MISSING},
        {"57P04", "terminating connection due to conflict with recovery", "ProcessInterrupts",
         FAULT_REFUSAL_NOT},
        {"55P03", "canceling statement due to lock timeout", "ProcessInterrupts",
         FAULT_REFUSAL_NOT},
        {"", "", "", FAULT_REFUSAL_NOT},
        {"", "recovery is in progress", "PreventCommandIfReadOnly", FAULT_REFUSAL_NOT},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct fault_fields fields = {.sqlstate = bytes_of_text(rows[i].sqlstate),
                                      .message = bytes_of_text(rows[i].message),
                                      .routine = bytes_of_text(rows[i].routine)};
        if (fault_refusal_of(&fields) != rows[i].refusal) {
            print_error("%s %s\n", rows[i].sqlstate, rows[i].message);
            fail();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_rows_round_trip),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_argument_is_cut),
        cmocka_unit_test(test_exact_bytes),
        cmocka_unit_test(test_custom),
        cmocka_unit_test(test_notice),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
