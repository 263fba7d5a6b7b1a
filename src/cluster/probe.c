/*
 * The prober of one cluster; see cluster/probe.h, and cluster/freshness.h for the rule it serves.
 *
 * An answer is handled in this order: what the node said becomes its view; the views of all nodes
 * become a verdict (cluster/verdict.h), which is carried out; then a primary's position goes into
 * the history and every replica is judged anew by its latest sample, or a replica's sample is
 * judged alone. A sample is void as soon as its connection is lost, its node is no replica, or
 * the primary has changed.
 *
 * Rounds. `round` is the number of the latest one. The expected primary is asked first and the
 * replicas upon its answer, since a replica that is asked at the same moment has often not yet
 * replayed the very position the primary reports; if that answer takes longer than STRAGGLE_MS
 * the replicas are asked all the same. A node whose last question is still open is left alone;
 * after HANGING_US its sample is void, long before the question's deadline makes it fail.
 *
 * While the cluster has no primary, or the primary is silent, rounds come every URGENT_MS, and
 * nodes that could not be reached are tried as often: whoever takes over has the writes as soon as
 * it says so. A suspicion brings one round forward.
 *
 * A nudge brings the next round forward, to SPACING_MS after the last one at the earliest, and
 * starts a chase: more rounds follow until all replicas that are up have a sample of, and cover,
 * the round that the nudge asked for, or until CHASE_US_MAX is over. The pauses between them are
 * SPACING_MS, but 1, 2, 4, ... milliseconds at first where no chase was on lately: a single write
 * is covered sooner, while under steady demand there are no more than 1000 / SPACING_MS rounds a
 * second.
 */
#include "cluster/probe.h"

#include "cluster/nudge.h"
#include "cluster/patroni.h"
#include "core/buf.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/dns.h"
#include "probe_state.h"

#include <stdio.h>

#define STRAGGLE_MS  10u
#define SPACING_MS   5u
#define CHASE_US_MAX 1000000u
#define URGENT_MS    100u     /* between rounds while no primary is known to be there */
#define SUSPICION_MS 50u      /* between rounds that suspicions ask for */
#define HANGING_US   1000000u /* an open question, after which a replica gets no reads */
#define SILENT_US    500000u  /* the same, after which a successor need not wait for the primary */
#define CALM_US      50000u   /* without a chase, after which the next one starts fast */
#define UNFLUSHED_US 10000u   /* how long WAL may lie unflushed while somebody waits for it */
#define GRACE_US     1000000u /* how long an untried node may hold up the first verdict */

/* ---- samples */

static bool is_up_replica(const struct node *node) {
    return node_role(node) == NODE_REPLICA && node_state(node) == NODE_UP;
}

/* What a replica covers by its latest sample, for the workers to see. */
static void judge_sample(struct probe *probe, size_t index) {
    struct standing *standing = &probe->standings[index];
    struct node *node = cluster_node(probe->cluster, index);
    uint64_t before = atomic_load_explicit(&node->freshness, memory_order_relaxed);
    uint32_t covers = 0;
    if (standing->sampled > 0 && node_role(node) == NODE_REPLICA) {
        covers = freshness_history_covers(&probe->history, standing->timeline, standing->lsn);
    }
    if (covers > 0) standing->view.has_followed = true;
    uint64_t after = (uint64_t)covers << 32 | standing->sampled;
    if (after == before) return;
    node_sample(node, covers, standing->sampled);
    if (covers > freshness_covers(before) || standing->sampled > freshness_sampled(before)) {
        probe->is_changed = true;
    }
}

static void void_sample(struct probe *probe, size_t index) {
    probe->standings[index].sampled = 0;
    node_sample(cluster_node(probe->cluster, index), 0, 0);
}

/* Ends the chase once every replica that is up has, and covers, what was wanted. */
static void check_chase(struct probe *probe) {
    if (probe->wanted == 0) return;
    for (size_t i = 0; i < probe->count; i++) {
        const struct node *node = cluster_node_const(probe->cluster, i);
        uint64_t pair = atomic_load_explicit(&node->freshness, memory_order_relaxed);
        if (!is_up_replica(node) || node_rank(node) == NODE_RANK_OUT) continue;
        if (freshness_covers(pair) < probe->wanted) return;
        if (freshness_sampled(pair) < probe->wanted) return;
    }
    probe->wanted = 0;
}

/* ---- reports */

static void publish_report(struct probe *probe, size_t index) {
    struct standing *standing = &probe->standings[index];
    struct node_report *report = &standing->report;
    uint64_t primary_lsn = 0;
    report->chosen_by = NULL;
    if (probe->past.leader == (int)index) report->chosen_by = "patroni";
    if (probe->past.choice == (int)index) report->chosen_by = "operator";
    if (probe->history.count > 0) {
        primary_lsn = probe->history.entries[probe->history.count - 1].lsn;
    }
    report->lsn = standing->lsn;
    report->timeline = standing->timeline;
    report->has_lag = standing->sampled > 0 && primary_lsn > 0 && standing->view.in_recovery;
    bool is_behind = report->has_lag && standing->lsn < primary_lsn;
    report->lag_bytes = is_behind ? primary_lsn - standing->lsn : 0;
    uint64_t seen_us =
        freshness_history_age_us(&probe->history, standing->lsn, loop_now_us(probe->loop));
    report->lag_ms = report->lag_bytes == 0 ? 0 : fitness_lag_ms(seen_us, standing->replay_age_ms);
    bool serves = is_up_replica(cluster_node_const(probe->cluster, index));
    report->left_out = serves ? fitness_text(standing->fitness.state) : NULL;
    node_report_set(probe->cluster, index, report);
}

/* ---- fitness */

/* Whether some other replica serves reads. */
static bool has_other(const struct probe *probe, size_t index) {
    for (size_t i = 0; i < probe->count; i++) {
        const struct node *node = cluster_node_const(probe->cluster, i);
        if (i != index && is_up_replica(node) && node_rank(node) != NODE_RANK_OUT) return true;
    }
    return false;
}

static void tell_fitness(struct probe *probe, size_t index) {
    const struct node *node = cluster_node_const(probe->cluster, index);
    const char *why = fitness_text(probe->standings[index].fitness.state);
    if (why != NULL) probe->standings[index].report.trips++;
    if (why == NULL) {
        log_line(LOG_LEVEL_LOG, "cluster %s: node %s gets reads again",
                 cluster_name(probe->cluster), node->name);
    } else {
        log_line(LOG_LEVEL_WARNING, "cluster %s: node %s gets no reads, since it %s",
                 cluster_name(probe->cluster), node->name, why);
    }
}

/* Whether a replica serves reads, and with which part of its weight, by what is known of it. */
static void judge_fitness(struct probe *probe, size_t index) {
    struct standing *standing = &probe->standings[index];
    struct fitness *fitness = &standing->fitness;
    struct node *node = cluster_node(probe->cluster, index);
    if (!is_up_replica(node)) return;
    struct fitness_view view = {
        .now_us = loop_now_us(probe->loop),
        .lag_bytes = standing->report.lag_bytes,
        .lag_ms = standing->report.lag_ms,
        .errors = atomic_load_explicit(&node->errors, memory_order_relaxed),
        .has_lag = standing->report.has_lag,
        .is_needed = !has_other(probe, index),
    };
    (void)fitness_judge(fitness, &probe->settings.limits, &view);
    if (!node_fit(node, fitness->state != FITNESS_FINE, fitness->ramp)) return;
    probe->is_changed = true;
    tell_fitness(probe, index);
    publish_report(probe, index);
}

static void note_return(struct probe *probe, size_t index) {
    const struct node *node = cluster_node_const(probe->cluster, index);
    fitness_return(&probe->standings[index].fitness, loop_now_us(probe->loop),
                   atomic_load_explicit(&node->errors, memory_order_relaxed));
}

void probe_limit(struct probe *probe, const struct fitness_limits *limits) {
    probe->settings.limits = *limits;
}

/* ---- verdicts */

static void reset_node(struct probe *probe, size_t index, const char *why) {
    probe->ops->reset(probe->owner, probe->cluster, (unsigned)index, why);
}

/* Sets a node's role; a node that does not answer keeps its own, unless another is the primary. */
static void carry_out_role(struct probe *probe, size_t index) {
    struct node *node = cluster_node(probe->cluster, index);
    enum node_role before = node_role(node);
    enum node_role after = probe->verdict.roles[index];
    if (after == NODE_UNKNOWN) {
        bool is_replaced = before == NODE_PRIMARY && probe->verdict.primary >= 0;
        if (!is_replaced) after = before;
    }
    if (after == before) return;
    node_become(node, after, node_state(node));
    probe->is_changed = true;
    if (after != NODE_REPLICA) void_sample(probe, index);
    bool is_bad = after == NODE_RIVAL || after == NODE_STRANGER;
    log_line(is_bad ? LOG_LEVEL_WARNING : LOG_LEVEL_LOG, "cluster %s: node %s was %s, is %s%s",
             cluster_name(probe->cluster), node->name, node_role_text(before),
             node_role_text(after),
             after == NODE_STRANGER ? " (another system identifier: no member)" : "");
    if (before == NODE_PRIMARY) reset_node(probe, index, "the node is no longer the primary");
}

/* Another node than before has the primary's role: nothing that was sampled counts for it. */
static void welcome_primary(struct probe *probe, int primary) {
    probe->past.primary = primary;
    probe->history.count = 0;
    for (size_t i = 0; i < probe->count; i++) {
        probe->standings[i].view.has_followed = false;
        judge_sample(probe, i);
    }
}

/* Its question has been open for long, or it has failed since it answered last. */
static bool is_silent(const struct probe *probe, size_t index) {
    const struct standing *standing = &probe->standings[index];
    uint64_t open_us = inquiry_open_us(standing->inquiry, loop_now_us(probe->loop));
    return standing->falls > 0 || open_us > SILENT_US;
}

/* Without a primary that answers, clients wait for every round. */
static bool is_urgent(const struct probe *probe) {
    int primary = cluster_primary(probe->cluster);
    return primary < 0 || is_silent(probe, (size_t)primary);
}

static void forget_choice(struct probe *probe, const char *why) {
    int index = probe->past.choice;
    probe->past.choice = -1;
    publish_report(probe, (size_t)index);
    log_line(LOG_LEVEL_LOG, "cluster %s: the choice of node %s is forgotten: %s",
             cluster_name(probe->cluster), name_of(probe, index), why);
}

/* The operator's word holds until nothing is left to decide. */
static void review_choice(struct probe *probe) {
    int choice = probe->past.choice;
    if (choice < 0) return;
    if (probe->verdict.primary != choice) {
        forget_choice(probe, "it does not answer as primary");
        return;
    }
    for (size_t i = 0; i < probe->count; i++) {
        enum node_role role = probe->verdict.roles[i];
        if ((int)i != choice && role != NODE_REPLICA && role != NODE_STRANGER) return;
    }
    forget_choice(probe, "no other node can be the primary any more");
}

static void judge(struct probe *probe) {
    struct verdict_view views[CLUSTER_NODES_MAX];
    bool has_waited = loop_now_us(probe->loop) - probe->opened_us >= GRACE_US;
    for (size_t i = 0; i < probe->count; i++) {
        views[i] = probe->standings[i].view;
        views[i].is_tried = views[i].is_tried || has_waited;
        views[i].is_silent = is_silent(probe, i);
    }
    enum verdict_trouble trouble_before = probe->verdict.trouble;
    verdict_reach(&probe->verdict, views, probe->count, &probe->past);
    const struct verdict *verdict = &probe->verdict;
    probe->past.system_identifier = verdict->system_identifier;
    if (verdict->primary != cluster_primary(probe->cluster)) {
        /* No primary before there is another one: no worker may see a role and an index that
         * contradict each other in favour of a node that has lost the role. */
        cluster_set_primary(probe->cluster, -1);
        probe->is_changed = true;
    }
    for (size_t i = 0; i < probe->count; i++) carry_out_role(probe, i);
    if (verdict->primary >= 0) {
        if (verdict->primary != probe->past.primary) welcome_primary(probe, verdict->primary);
        probe->past.timeline = views[verdict->primary].timeline;
    }
    bool is_new = verdict->primary != cluster_primary(probe->cluster);
    cluster_set_primary(probe->cluster, verdict->primary);
    if (is_new) catalog_look(probe->catalog);
    probe_tell_trouble(probe, trouble_before);
    review_choice(probe);
}

static void schedule_round(struct probe *probe, uint64_t in_ms) {
    probe->due_us = loop_now_us(probe->loop) + in_ms * US_PER_MS;
    loop_timer_start(probe->loop, &probe->next_round, in_ms, 0);
}

/* Puts an end to the handling of an event. */
static void settle(struct probe *probe) {
    uint64_t urgent_us = loop_now_us(probe->loop) + URGENT_MS * US_PER_MS;
    check_chase(probe);
    if (probe->due_us > urgent_us && is_urgent(probe)) schedule_round(probe, URGENT_MS);
    if (!probe->is_changed) return;
    probe->is_changed = false;
    probe->ops->changed(probe->owner, probe->cluster);
}

/* ---- news of one node */

static void count_rise(struct probe *probe, size_t index) {
    struct standing *standing = &probe->standings[index];
    struct node *node = cluster_node(probe->cluster, index);
    /* Who was not tried yet has not failed either: the first answer will do. */
    unsigned needed = standing->view.is_tried ? probe->settings.rise : 1;
    standing->falls = 0;
    if (standing->rises < needed) standing->rises++;
    if (standing->rises < needed) return;
    standing->report.error[0] = '\0';
    standing->view.is_answering = true;
    standing->view.is_tried = true;
    if (node_state(node) == NODE_UP) return;
    if (node_state(node) == NODE_DOWN) note_return(probe, index);
    node_become(node, node_role(node), NODE_UP);
    probe->is_changed = true;
    log_line(LOG_LEVEL_LOG, "cluster %s: node %s is up", cluster_name(probe->cluster), node->name);
}

static void count_fall(struct probe *probe, size_t index) {
    struct standing *standing = &probe->standings[index];
    struct node *node = cluster_node(probe->cluster, index);
    standing->rises = 0;
    if (standing->falls < probe->settings.fall) standing->falls++;
    if (node_state(node) == NODE_DOWN || standing->falls < probe->settings.fall) return;
    standing->view.is_answering = false;
    standing->view.is_tried = true;
    node_become(node, node_role(node), NODE_DOWN);
    probe->is_changed = true;
    log_line(LOG_LEVEL_WARNING, "cluster %s: node %s is down: %s", cluster_name(probe->cluster),
             node->name, standing->report.error);
    /* Reads that hang there with it can be answered elsewhere; nothing can in place of a primary.
     */
    if (standing->is_mute && node_role(node) == NODE_REPLICA)
        reset_node(probe, index, "the node does not answer");
}

/* Says once what the probe's user may not see, and what follows. */
static void tell_privileges(struct probe *probe, const struct inquiry_identity *identity) {
    if (probe->has_told_privileges) return;
    const char *what = NULL;
    if (identity->hides_receiver)
        what = "the WAL receivers (a replica serves again after a "
               "failover only when its next restart point is done)";
    if (identity->hides_control) what = "the control data (replicas' timelines are not known)";
    if (identity->hides_system) what = "the system identifier (foreign nodes are not recognised)";
    if (what == NULL) return;
    probe->has_told_privileges = true;
    log_line(LOG_LEVEL_WARNING, "cluster %s: user %s may not see %s; pg_monitor would allow it",
             cluster_name(probe->cluster), probe->settings.user, what);
}

static void on_stood(void *owner, unsigned index, const struct inquiry_identity *identity) {
    struct probe *probe = owner;
    struct standing *standing = &probe->standings[index];
    const char *difference =
        standing->has_stood ? inquiry_difference(&standing->identity, identity) : NULL;
    standing->sampled = 0;
    standing->timeline = 0;
    if (difference != NULL) note_return(probe, index);
    node_renew(cluster_node(probe->cluster, index), difference != NULL);
    standing->identity = *identity;
    standing->has_stood = true;
    standing->view.system_identifier = identity->system_identifier;
    standing->report.system_identifier = identity->system_identifier;
    standing->report.version = identity->version;
    memcpy(standing->report.address, identity->address, sizeof standing->report.address);
    memcpy(standing->report.started, identity->started, sizeof standing->report.started);
    tell_privileges(probe, identity);
    publish_report(probe, index); /* servers are dialled where this connection leads */
    if (difference != NULL) reset_node(probe, index, difference);
    /* It missed the question of this round; the number was stored before, so it may have it. */
    (void)inquiry_ask(standing->inquiry, probe->round);
}

/* A replica that leaves a question open for too long gets no reads: its sample would still be
 * true, but it would let clients hang as it does the probe. */
static void ask_replicas(struct probe *probe) {
    uint64_t now_us = loop_now_us(probe->loop);
    probe->has_asked_replicas = true;
    for (size_t i = 0; i < probe->count; i++) {
        struct inquiry *inquiry = probe->standings[i].inquiry;
        if ((int)i == probe->past.primary || inquiry_ask(inquiry, probe->round)) continue;
        if (inquiry_open_us(inquiry, now_us) > HANGING_US) void_sample(probe, i);
    }
}

/* What no commit has logged (a page that a read has tidied up, an error) may lie unflushed on a
 * primary that rests, for seconds, so that no replica gets to the position that it reports. */
static void stir(struct probe *probe, size_t index, uint64_t lsn) {
    uint64_t now_us = loop_now_us(probe->loop);
    if (lsn != probe->unflushed_lsn) {
        probe->unflushed_lsn = lsn;
        probe->unflushed_us = now_us;
    } else if (probe->wanted != 0 && now_us - probe->unflushed_us >= UNFLUSHED_US) {
        probe->unflushed_us = now_us;
        inquiry_stir(probe->standings[index].inquiry);
    }
}

static void take_position(struct probe *probe, size_t index, const struct inquiry_answer *answer) {
    if (cluster_primary(probe->cluster) != (int)index) return;
    freshness_history_add(&probe->history, answer->round, answer->timeline, answer->lsn,
                          loop_now_us(probe->loop));
    for (size_t i = 0; i < probe->count; i++) {
        if (i != index) judge_sample(probe, i);
    }
    if (!probe->has_asked_replicas) ask_replicas(probe);
    if (answer->is_unflushed) stir(probe, index, answer->lsn);
}

/* A standby was promoted: what Patroni said before says nothing about that. */
static void doubt_leader(struct probe *probe) {
    if (probe->patroni == NULL) return;
    probe->past.leader = -1;
    patroni_hurry(probe->patroni);
}

static void on_answer(void *owner, unsigned index, const struct inquiry_answer *answer) {
    struct probe *probe = owner;
    struct standing *standing = &probe->standings[index];
    standing->is_mute = false;
    if (standing->view.in_recovery && !answer->in_recovery) doubt_leader(probe);
    /* While a WAL receiver is between two timelines only older figures can be had. */
    if (answer->timeline > standing->timeline) standing->timeline = answer->timeline;
    standing->lsn = answer->lsn;
    standing->sampled = answer->in_recovery ? answer->round : 0;
    standing->replay_age_ms = answer->replay_age_ms;
    standing->report.latency_us = answer->latency_us;
    node_note_latency(cluster_node(probe->cluster, index), answer->latency_us);
    standing->view.in_recovery = answer->in_recovery;
    standing->view.timeline = standing->timeline;
    count_rise(probe, index);
    judge(probe);
    if (answer->in_recovery) {
        judge_sample(probe, index);
    } else {
        take_position(probe, index, answer);
    }
    publish_report(probe, index);
    judge_fitness(probe, index);
    /* A question that was open when the round began kept the node out of it. */
    if (answer->round != probe->round && probe->has_asked_replicas) {
        (void)inquiry_ask(standing->inquiry, probe->round);
    }
    settle(probe);
}

static void on_facts(void *owner) {
    struct probe *probe = owner;
    probe->ops->changed(probe->owner, probe->cluster);
}

static void on_failure(void *owner, unsigned index, const char *error) {
    struct probe *probe = owner;
    struct standing *standing = &probe->standings[index];
    (void)snprintf(standing->report.error, sizeof standing->report.error, "%s", error);
    void_sample(probe, index);
    if (strcmp(error, PQCONN_SILENT) == 0) standing->is_mute = true;
    count_fall(probe, index);
    judge(probe);
    publish_report(probe, index);
    settle(probe);
}

static const struct inquiry_ops ops_of_inquiries = {on_stood, on_answer, on_failure};

/* ---- rounds */

/* The flag is cleared before the number is taken: whoever finds it set, and therefore does not
 * post, has loaded a smaller number than this round's. */
static void accept_nudge(struct probe *probe) {
    if (probe->is_suspicious)
        atomic_store(&cluster_nudge(probe->cluster)->suspicion.is_posted, false);
    probe->is_suspicious = false;
    if (!probe->is_nudged) return;
    probe->is_nudged = false;
    if (probe->wanted == 0) {
        bool is_calm = loop_now_us(probe->loop) - probe->chased_us >= CALM_US;
        probe->chase_ms = is_calm ? 1 : SPACING_MS;
    }
    atomic_store(&cluster_nudge(probe->cluster)->nudge.is_posted, false);
    probe->wanted = UINT32_MAX; /* becomes the number of this round */
    probe->chase_end_us = loop_now_us(probe->loop) + CHASE_US_MAX;
}

/* Without a primary nothing more can be covered, however often replicas are asked. */
static unsigned pause_before_next(struct probe *probe) {
    unsigned interval_ms = probe->settings.interval_ms;
    if (is_urgent(probe) && interval_ms > URGENT_MS) interval_ms = URGENT_MS;
    if (probe->wanted == 0 || cluster_primary(probe->cluster) < 0) return interval_ms;
    probe->chased_us = probe->round_us;
    unsigned pause_ms = probe->chase_ms;
    probe->chase_ms = pause_ms * 2 < SPACING_MS ? pause_ms * 2 : SPACING_MS;
    return pause_ms;
}

static void begin_round(struct probe *probe) {
    uint64_t now_us = loop_now_us(probe->loop);
    accept_nudge(probe);
    probe->round = freshness_next();
    probe->round_us = now_us;
    if (probe->wanted == UINT32_MAX) probe->wanted = probe->round;
    if (now_us >= probe->chase_end_us) probe->wanted = 0;
    schedule_round(probe, pause_before_next(probe));
    if (is_urgent(probe)) {
        for (size_t i = 0; i < probe->count; i++) inquiry_hurry(probe->standings[i].inquiry);
        if (probe->patroni != NULL) patroni_hurry(probe->patroni);
    }
    probe->has_asked_replicas = false;
    int primary = probe->past.primary;
    bool is_asked = primary >= 0 && inquiry_ask(probe->standings[primary].inquiry, probe->round);
    if (is_asked) {
        loop_timer_start(probe->loop, &probe->straggle, STRAGGLE_MS, 0);
    } else {
        ask_replicas(probe);
    }
    judge(probe);
    for (size_t i = 0; i < probe->count; i++) judge_fitness(probe, i);
    catalog_look(probe->catalog);
    settle(probe);
}

static void on_next_round(struct loop_timer *timer) {
    begin_round(LIST_OWNER(timer, struct probe, next_round));
}

static void on_straggle(struct loop_timer *timer) {
    struct probe *probe = LIST_OWNER(timer, struct probe, straggle);
    if (!probe->has_asked_replicas) ask_replicas(probe);
}

/* ---- nudges */

/* Brings the next round forward, to so long after the last one at the earliest. */
static void hasten(struct probe *probe, unsigned spacing_ms) {
    uint64_t now_us = loop_now_us(probe->loop);
    uint64_t free_us = probe->round_us + spacing_ms * US_PER_MS;
    if (free_us < now_us) free_us = now_us;
    if (probe->due_us <= free_us) return;
    schedule_round(probe, (free_us - now_us + US_PER_MS - 1) / US_PER_MS);
}

static void take_nudge(struct probe *probe) {
    probe->is_nudged = true;
    hasten(probe, SPACING_MS);
}

static void take_suspicion(struct probe *probe) {
    probe->is_suspicious = true;
    hasten(probe, SUSPICION_MS);
}

static void receive(struct cluster_mail *posted, void (*take)(struct probe *probe)) {
    struct cluster *cluster = posted->cluster;
    struct probe *probe = cluster_nudge(cluster)->probe;
    posted->cluster = NULL;
    if (probe != NULL) {
        take(probe);
    } else {
        atomic_store(&posted->is_posted, false);
    }
    cluster_free(&cluster);
}

static void on_nudge(struct loop_mail *mail, void *context) {
    (void)context;
    receive(LIST_OWNER(mail, struct cluster_mail, mail), take_nudge);
}

static void on_suspicion(struct loop_mail *mail, void *context) {
    (void)context;
    receive(LIST_OWNER(mail, struct cluster_mail, mail), take_suspicion);
}

static void post(struct cluster *cluster, struct cluster_mail *mail,
                 void (*run)(struct loop_mail *mail, void *context)) {
    struct loop *loop = atomic_load_explicit(&cluster_nudge(cluster)->loop, memory_order_acquire);
    if (loop == NULL) return;
    if (atomic_load_explicit(&mail->is_posted, memory_order_relaxed)) return;
    if (atomic_exchange(&mail->is_posted, true)) return;
    mail->cluster = cluster_share(cluster);
    mail->mail.run = run;
    loop_post(loop, &mail->mail);
}

void probe_nudge(struct cluster *cluster) {
    post(cluster, &cluster_nudge(cluster)->nudge, on_nudge);
}

void probe_suspect(struct cluster *cluster) {
    post(cluster, &cluster_nudge(cluster)->suspicion, on_suspicion);
}

/* ---- other people's words */

/* The node at that place, by its host or by the address that it was reached at; -1: none. */
static int find_place(const struct probe *probe, const struct patroni_leader *leader) {
    for (size_t i = 0; i < probe->count; i++) {
        const struct node *node = cluster_node_const(probe->cluster, i);
        const char *address = probe->standings[i].identity.address;
        bool is_there = strcmp(node->host, leader->host) == 0 || strcmp(address, leader->host) == 0;
        if (is_there && node->port == leader->port) return (int)i;
    }
    return -1;
}

/* All nodes are asked at once when another one leads. */
static bool on_patroni(void *owner, const struct patroni_leader *leader) {
    struct probe *probe = owner;
    bool has_leader = leader != NULL && leader->host[0] != '\0';
    int index = has_leader ? find_place(probe, leader) : -1;
    if (has_leader && index < 0) return false;
    if (index == probe->past.leader) return true;
    probe->past.leader = index;
    log_line(LOG_LEVEL_LOG, "cluster %s: Patroni names %s as the leader",
             cluster_name(probe->cluster), index < 0 ? "no node" : name_of(probe, index));
    judge(probe);
    for (size_t i = 0; i < probe->count; i++) publish_report(probe, i);
    hasten(probe, SUSPICION_MS);
    settle(probe);
    return true;
}

bool probe_choose(struct probe *probe, const char *name, struct buf *error) {
    size_t i = 0;
    if (name[0] == '\0') {
        if (probe->past.choice >= 0) forget_choice(probe, "it was taken back");
        judge(probe);
        settle(probe);
        return true;
    }
    while (i < probe->count && strcmp(name_of(probe, (int)i), name) != 0) i++;
    if (i == probe->count) {
        buf_append_format(error, "no node is called \"%s\"", name);
        return false;
    }
    const struct verdict_view *view = &probe->standings[i].view;
    if (!view->is_answering || view->in_recovery) {
        buf_append_format(error, "node \"%s\" does not answer as primary", name);
        return false;
    }
    probe->past.choice = (int)i;
    log_line(LOG_LEVEL_LOG, "cluster %s: the operator chooses node %s as primary",
             cluster_name(probe->cluster), name);
    judge(probe);
    for (size_t n = 0; n < probe->count; n++) publish_report(probe, n);
    settle(probe);
    return true;
}

void node_add_error(struct cluster *cluster, size_t index) {
    struct node *node = cluster_node(cluster, index);
    atomic_fetch_add_explicit(&node->errors, 1, memory_order_relaxed);
    if (cluster_is_probed(cluster) && node_role(node) == NODE_REPLICA) probe_nudge(cluster);
}

/* ---- opening and closing */

static unsigned or_default(unsigned value, unsigned otherwise) {
    return value == 0 ? otherwise : value;
}

static void copy_settings(struct probe *probe, const struct probe_settings *given) {
    probe->user = memory_copy_text(given->user);
    probe->password = memory_copy_text(given->password);
    probe->database = memory_copy_text(given->database);
    probe->allowed = memory_copy_text(given->allowed == NULL ? "" : given->allowed);
    probe->settings = (struct probe_settings){
        .user = probe->user,
        .password = probe->password,
        .database = probe->database,
        .database_hash = given->database_hash,
        .allowed = probe->allowed,
        .interval_ms = or_default(given->interval_ms, 1000),
        .connect_timeout_ms = or_default(given->connect_timeout_ms, 5000),
        .query_timeout_ms = or_default(given->query_timeout_ms, 5000),
        .rise = or_default(given->rise, 1),
        .fall = or_default(given->fall, 2),
        .limits = given->limits,
    };
    pqconn_security_copy(&probe->settings.security, &given->security);
}

struct probe *probe_open(struct loop *loop, struct cluster *cluster,
                         const struct probe_settings *settings, const struct probe_ops *ops,
                         void *owner) {
    size_t count = cluster_count(cluster);
    CHECK(cluster_is_probed(cluster) && cluster_nudge(cluster)->probe == NULL);
    struct probe *probe = memory_new(sizeof *probe + count * sizeof probe->standings[0]);
    probe->loop = loop;
    probe->cluster = cluster_share(cluster);
    probe->ops = ops;
    probe->owner = owner;
    copy_settings(probe, settings);
    probe->past.primary = probe->past.choice = probe->past.leader = -1;
    probe->verdict.primary = -1;
    probe->opened_us = loop_now_us(loop);
    probe->count = count;
    probe->catalog = catalog_new(loop, probe->cluster, &probe->settings, on_facts, probe);
    probe->next_round.run = on_next_round;
    probe->straggle.run = on_straggle;
    for (size_t i = 0; i < count; i++) {
        probe->standings[i].inquiry = inquiry_new(loop, cluster_node_const(cluster, i),
                                                  &probe->settings, &ops_of_inquiries, probe);
        const struct node *node = cluster_node_const(cluster, i);
        probe->standings[i].fitness.errors = atomic_load(&node->errors);
    }
    if (settings->patroni_url != NULL && settings->patroni_url[0] != '\0')
        probe->patroni = patroni_new(loop, settings->patroni_url, probe->settings.interval_ms,
                                     on_patroni, probe);
    cluster_nudge(cluster)->probe = probe;
    atomic_store_explicit(&cluster_nudge(cluster)->loop, loop, memory_order_release);
    begin_round(probe);
    return probe;
}

void probe_follow_names(struct probe *probe, struct dns *dns) {
    for (size_t i = 0; i < probe->count; i++) {
        const struct standing *standing = &probe->standings[i];
        const char *host = cluster_node_const(probe->cluster, i)->host;
        if (!standing->has_stood || !dns_has_left(dns, host, standing->identity.address)) continue;
        void_sample(probe, i);
        inquiry_renew(standing->inquiry);
    }
}

void probe_vacate(struct probe *probe, const char *host, unsigned port, const char *database) {
    if (strcmp(probe->database, database) != 0) return;
    for (size_t i = 0; i < probe->count; i++) {
        const struct node *place = cluster_node_const(probe->cluster, i);
        if (place->port != port || strcmp(place->host, host) != 0) continue;
        void_sample(probe, i);
        inquiry_renew(probe->standings[i].inquiry);
    }
}

void probe_close(struct probe **probe_at) {
    struct probe *probe = *probe_at;
    if (probe == NULL) return;
    *probe_at = NULL;
    struct cluster_nudge *nudge = cluster_nudge(probe->cluster);
    atomic_store_explicit(&nudge->loop, NULL, memory_order_release);
    nudge->probe = NULL;
    if (probe->is_nudged) atomic_store(&nudge->nudge.is_posted, false);
    if (probe->is_suspicious) atomic_store(&nudge->suspicion.is_posted, false);
    loop_timer_stop(&probe->next_round);
    loop_timer_stop(&probe->straggle);
    for (size_t i = 0; i < probe->count; i++) inquiry_free(&probe->standings[i].inquiry);
    patroni_free(&probe->patroni);
    catalog_free(&probe->catalog);
    memory_free(probe->user);
    memory_free_secret(probe->password);
    memory_free(probe->database);
    memory_free(probe->allowed);
    pqconn_security_release(&probe->settings.security);
    cluster_free(&probe->cluster);
    memory_free(probe);
}
