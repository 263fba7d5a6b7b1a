/*
 * Inquiries; see cluster/inquiry.h.
 *
 *      waiting -> connecting -> greeting -> identifying -> preparing -> ready <-> asked
 *         ^------------'-----------'------------'--------------'---------'--------'
 *
 * A plain LOGIN role of PostgreSQL 15 may ask everything here but the WAL receiver's row, which
 * needs pg_read_all_stats (part of pg_monitor); an installation may have revoked the control
 * functions as well. The greeting asks for these privileges, since a single function that may not
 * be called would refuse the whole question. Where the WAL receiver is hidden, a standby's
 * timeline comes from its control data, which follow a change of timeline only with the next
 * restart point: such a replica counts again somewhat later after a failover, never too early.
 */
#include "cluster/inquiry.h"

#include "cluster/freshness.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/memory.h"
#include "net/loop.h"
#include "net/pqconn.h"

#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MS_MIN 100u
#define PAUSE_MS_MAX 1000u

enum inquiry_step {
    INQUIRY_WAITING,
    INQUIRY_CONNECTING,
    INQUIRY_GREETING,
    INQUIRY_IDENTIFYING,
    INQUIRY_PREPARING,
    INQUIRY_READY,
    INQUIRY_ASKED,
    INQUIRY_STIRRING
};

struct inquiry {
    struct loop *loop;
    const struct node *node;
    const struct probe_settings *settings;
    const struct inquiry_ops *ops;
    void *owner;
    enum inquiry_step step;
    struct pqconn *conn;
    struct loop_timer retry;
    bool is_still; /* it must not be stirred */
    unsigned pause_ms;
    struct inquiry_identity identity;
    uint32_t round; /* of the question in flight */
    uint64_t asked_us;
};

/* Columns of the answers below. */
enum {
    GREETING_VERSION,
    GREETING_STARTED,
    GREETING_SEGMENT,
    GREETING_SYSTEM,
    GREETING_CONTROL,
    GREETING_RECEIVER,
    GREETING_COLUMNS
};
enum { STATE_STANDBY, STATE_LSN, STATE_TIMELINE, STATE_AGE, STATE_FLUSHED, STATE_COLUMNS };

static const char greeting[] =
    "SELECT current_setting('server_version_num'), pg_postmaster_start_time(),"
    " (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'),"
    " has_function_privilege('pg_control_system()', 'execute'),"
    " has_function_privilege('pg_control_checkpoint()', 'execute')"
    " AND has_function_privilege('pg_control_recovery()', 'execute'),"
    " pg_has_role('pg_read_all_stats', 'usage')";

static const char identify[] = "SELECT system_identifier FROM pg_control_system()";

/* One text for primaries and standbys, so that the answer itself tells the role. OFFSET 0 keeps
 * the role a single value while the other columns are computed. */
#define PREPARE_STATE(standby_timeline)                                                            \
    "PREPARE weir_state AS SELECT s.standby,"                                                      \
    " CASE WHEN s.standby THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END,"     \
    " CASE WHEN s.standby THEN " standby_timeline                                                  \
    " ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint"   \
    " END,"                                                                                        \
    " (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint,"   \
    " CASE WHEN NOT s.standby THEN pg_current_wal_flush_lsn() END"                                 \
    " FROM (SELECT pg_is_in_recovery() AS standby OFFSET 0) s"

#define RECEIVED_TIMELINE "(SELECT received_tli FROM pg_stat_get_wal_receiver())"
#define CONTROL_TIMELINE                                                                           \
    "(SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)"                                 \
    " FROM pg_control_checkpoint() c, pg_control_recovery() r)"

static const char prepare_full[] =
    PREPARE_STATE("coalesce(" RECEIVED_TIMELINE ", " CONTROL_TIMELINE ")");
static const char prepare_without_control[] = PREPARE_STATE(RECEIVED_TIMELINE);
static const char ask_state[] = "EXECUTE weir_state";

/* A transaction that has logged something is flushed when it commits, with all that lies before it.
 * Who decodes the log does not see the message unless he asks for messages. */
static const char stir[] = "SELECT pg_logical_emit_message(true, 'weir', '')";

/* ---- values */

static uint64_t number_of(const char *text) {
    return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static bool truth_of(const char *text) {
    return text != NULL && text[0] == 't';
}

static void copy_text(char to[NODE_TEXT_SIZE], const char *text) {
    (void)snprintf(to, NODE_TEXT_SIZE, "%s", text == NULL ? "" : text);
}

/* ---- the way up */

static void start_connecting(struct inquiry *inquiry);

static void on_retry(struct loop_timer *timer) {
    start_connecting(LIST_OWNER(timer, struct inquiry, retry));
}

/* Gives the connection up and tries again after a pause. */
static void fall_back(struct inquiry *inquiry, const char *error) {
    pqconn_close(&inquiry->conn);
    inquiry->step = INQUIRY_WAITING;
    loop_timer_start(inquiry->loop, &inquiry->retry, inquiry->pause_ms, 0);
    inquiry->pause_ms *= 2;
    if (inquiry->pause_ms > PAUSE_MS_MAX) inquiry->pause_ms = PAUSE_MS_MAX;
    inquiry->ops->failed(inquiry->owner, inquiry->node->index, error);
}

static void ask(struct inquiry *inquiry, enum inquiry_step step, const char *sql) {
    inquiry->step = step;
    pqconn_ask(inquiry->conn, sql, NULL, 0, inquiry->settings->query_timeout_ms);
}

static void on_connected(void *owner, const char *address) {
    struct inquiry *inquiry = owner;
    inquiry->identity = (struct inquiry_identity){0};
    copy_text(inquiry->identity.address, address);
    ask(inquiry, INQUIRY_GREETING, greeting);
}

static void on_failed(void *owner, const char *error) {
    fall_back(owner, error);
}

static void prepare(struct inquiry *inquiry) {
    bool is_full = !inquiry->identity.hides_control;
    ask(inquiry, INQUIRY_PREPARING, is_full ? prepare_full : prepare_without_control);
}

static void read_greeting(struct inquiry *inquiry, const struct pqconn_rows *rows) {
    struct inquiry_identity *identity = &inquiry->identity;
    identity->version = (int)number_of(pqconn_value(rows, 0, GREETING_VERSION));
    copy_text(identity->started, pqconn_value(rows, 0, GREETING_STARTED));
    identity->segment_bytes = (uint32_t)number_of(pqconn_value(rows, 0, GREETING_SEGMENT));
    identity->hides_system = !truth_of(pqconn_value(rows, 0, GREETING_SYSTEM));
    identity->hides_control = !truth_of(pqconn_value(rows, 0, GREETING_CONTROL));
    identity->hides_receiver = !truth_of(pqconn_value(rows, 0, GREETING_RECEIVER));
    if (identity->segment_bytes < 1024 * 1024) {
        fall_back(inquiry, "the server reports a wal_segment_size that cannot be");
    } else if (identity->hides_system) {
        prepare(inquiry);
    } else {
        ask(inquiry, INQUIRY_IDENTIFYING, identify);
    }
}

static void read_identity(struct inquiry *inquiry, const struct pqconn_rows *rows) {
    inquiry->identity.system_identifier = number_of(pqconn_value(rows, 0, 0));
    prepare(inquiry);
}

static void become_ready(struct inquiry *inquiry, const struct pqconn_rows *rows) {
    (void)rows;
    inquiry->step = INQUIRY_READY;
    inquiry->pause_ms = PAUSE_MS_MIN;
    inquiry->ops->stood(inquiry->owner, inquiry->node->index, &inquiry->identity);
}

/* ---- rounds */

static void read_state(struct inquiry *inquiry, const struct pqconn_rows *rows) {
    struct inquiry_answer answer = {
        .round = inquiry->round,
        .in_recovery = truth_of(pqconn_value(rows, 0, STATE_STANDBY)),
        .timeline = (uint32_t)number_of(pqconn_value(rows, 0, STATE_TIMELINE)),
        .replay_age_ms = number_of(pqconn_value(rows, 0, STATE_AGE)),
        .latency_us = clock_monotonic_us() - inquiry->asked_us,
    };
    const char *lsn = pqconn_value(rows, 0, STATE_LSN);
    if (lsn != NULL && !freshness_parse_lsn(lsn, &answer.lsn)) {
        fall_back(inquiry, "the server reports a WAL position that cannot be");
        return;
    }
    if (!answer.in_recovery) {
        uint64_t flushed = 0;
        const char *text = pqconn_value(rows, 0, STATE_FLUSHED);
        answer.lsn = freshness_replay_goal(answer.lsn, inquiry->identity.segment_bytes);
        answer.is_unflushed =
            text != NULL && freshness_parse_lsn(text, &flushed) && flushed < answer.lsn;
    }
    inquiry->step = INQUIRY_READY;
    inquiry->ops->answered(inquiry->owner, inquiry->node->index, &answer);
}

static void end_stirring(struct inquiry *inquiry, const struct pqconn_rows *rows) {
    (void)rows;
    inquiry->step = INQUIRY_READY;
}

/* What to do with the answer of each step, and how many columns of one row it must have. */
static const struct {
    unsigned columns; /* 0: no rows */
    void (*read)(struct inquiry *inquiry, const struct pqconn_rows *rows);
} steps[] = {
    [INQUIRY_GREETING] = {GREETING_COLUMNS, read_greeting},
    [INQUIRY_IDENTIFYING] = {1, read_identity},
    [INQUIRY_PREPARING] = {0, become_ready},
    [INQUIRY_ASKED] = {STATE_COLUMNS, read_state},
    [INQUIRY_STIRRING] = {1, end_stirring},
};

static void on_answered(void *owner, const struct pqconn_rows *rows, const char *sqlstate,
                        const char *error) {
    struct inquiry *inquiry = owner;
    (void)sqlstate;
    CHECK(inquiry->step < COUNT(steps) && steps[inquiry->step].read != NULL);
    if (rows == NULL && inquiry->step == INQUIRY_STIRRING) {
        inquiry->is_still = true; /* it is not allowed */
        inquiry->step = INQUIRY_READY;
        return;
    }
    if (rows == NULL) {
        fall_back(inquiry, error);
        return;
    }
    unsigned columns = steps[inquiry->step].columns;
    bool has_row = pqconn_rows_count(rows) == 1 && pqconn_rows_columns(rows) == columns;
    if (columns > 0 && !has_row) {
        fall_back(inquiry, "the answer to the probe has an unexpected form");
        return;
    }
    steps[inquiry->step].read(inquiry, rows);
}

static const struct pqconn_ops conn_ops = {on_connected, on_answered, on_failed};

static void start_connecting(struct inquiry *inquiry) {
    const struct probe_settings *settings = inquiry->settings;
    struct pqconn_target target = {
        .host = inquiry->node->host,
        .port = inquiry->node->port,
        .user = settings->user,
        .password = settings->password,
        .database = settings->database,
        .security = settings->security,
        .application_name = "weir probe",
        .timeout_ms = settings->connect_timeout_ms,
    };
    inquiry->step = INQUIRY_CONNECTING;
    inquiry->conn = pqconn_open(inquiry->loop, &target, &conn_ops, inquiry);
}

/* ---- public */

const char *inquiry_difference(const struct inquiry_identity *before,
                               const struct inquiry_identity *now) {
    if (strcmp(before->address, now->address) != 0) return "the node's address has changed";
    if (strcmp(before->started, now->started) != 0) return "the node has been started anew";
    if (before->system_identifier != now->system_identifier)
        return "the node's system identifier has changed";
    return NULL;
}

struct inquiry *inquiry_new(struct loop *loop, const struct node *node,
                            const struct probe_settings *settings, const struct inquiry_ops *ops,
                            void *owner) {
    struct inquiry *inquiry = memory_new(sizeof *inquiry);
    inquiry->loop = loop;
    inquiry->node = node;
    inquiry->settings = settings;
    inquiry->ops = ops;
    inquiry->owner = owner;
    inquiry->retry.run = on_retry;
    inquiry->pause_ms = PAUSE_MS_MIN;
    start_connecting(inquiry);
    return inquiry;
}

void inquiry_free(struct inquiry **inquiry_at) {
    struct inquiry *inquiry = *inquiry_at;
    if (inquiry == NULL) return;
    *inquiry_at = NULL;
    loop_timer_stop(&inquiry->retry);
    pqconn_close(&inquiry->conn);
    memory_free(inquiry);
}

void inquiry_renew(struct inquiry *inquiry) {
    loop_timer_stop(&inquiry->retry);
    pqconn_close(&inquiry->conn);
    inquiry->pause_ms = PAUSE_MS_MIN;
    start_connecting(inquiry);
}

void inquiry_hurry(struct inquiry *inquiry) {
    inquiry->pause_ms = PAUSE_MS_MIN;
}

uint64_t inquiry_open_us(const struct inquiry *inquiry, uint64_t now_us) {
    if (inquiry->step != INQUIRY_ASKED || now_us <= inquiry->asked_us) return 0;
    return now_us - inquiry->asked_us;
}

void inquiry_stir(struct inquiry *inquiry) {
    if (inquiry->step == INQUIRY_READY && !inquiry->is_still) ask(inquiry, INQUIRY_STIRRING, stir);
}

bool inquiry_ask(struct inquiry *inquiry, uint32_t round) {
    if (inquiry->step != INQUIRY_READY) return false;
    inquiry->round = round;
    inquiry->asked_us = clock_monotonic_us();
    ask(inquiry, INQUIRY_ASKED, ask_state);
    return true;
}
