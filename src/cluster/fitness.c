/*
 * Fitness; see cluster/fitness.h.
 *
 * Failures are counted in windows: one opens with the first failure and is forgotten when it is
 * over. A node that was left out for its failures comes back on trial, in the same way as one that
 * was down comes back: with little weight.
 */
#include "cluster/fitness.h"

#include "core/check.h"
#include "core/clock.h"
#include "core/memory.h"

#define RAMP_LEAST 16u /* of NODE_RAMP_FULL */
#define TRIPS_MAX  4u  /* the pause doubles so often */

#define LATENCY_US_MAX (16u * US_PER_S) /* what a node's latency counts for at most */

const char *fitness_text(enum fitness_state state) {
    static const char *const texts[] = {
        [FITNESS_FINE] = NULL,
        [FITNESS_LAGS_BYTES] = "lags by more bytes than max_replica_lag",
        [FITNESS_LAGS_TIME] = "lags by more time than max_replica_lag_time",
        [FITNESS_FAILS] = "fails more often than replica_error_limit",
    };
    return texts[state];
}

uint64_t fitness_lag_ms(uint64_t seen_us, uint64_t replay_age_ms) {
    uint64_t seen_ms = seen_us == UINT64_MAX ? UINT64_MAX : seen_us / US_PER_MS;
    uint64_t age_ms = replay_age_ms == 0 ? seen_ms : replay_age_ms;
    uint64_t least_ms = age_ms < seen_ms ? age_ms : seen_ms;
    return least_ms == UINT64_MAX ? 0 : least_ms;
}

/* ---- failures */

static void leave_out(struct fitness *fitness, const struct fitness_limits *limits,
                      uint64_t now_us) {
    fitness->out_until_us = now_us + (limits->error_window_us << fitness->trips);
    fitness->trial_until_us = 0;
    fitness->window_errors = 0;
    fitness->window_began_us = 0;
    if (fitness->trips < TRIPS_MAX) fitness->trips++;
}

static void count_errors(struct fitness *fitness, uint32_t count, uint64_t window_us,
                         uint64_t now_us) {
    bool is_over = now_us - fitness->window_began_us >= window_us;
    if (fitness->window_began_us != 0 && is_over) fitness->window_began_us = 0;
    if (fitness->window_began_us == 0) fitness->window_errors = 0;
    if (fitness->window_began_us == 0 && count > 0) fitness->window_began_us = now_us;
    fitness->window_errors += count;
}

/* True while it is left out for its failures. */
static bool judge_errors(struct fitness *fitness, const struct fitness_limits *limits,
                         const struct fitness_view *view) {
    uint32_t count = view->errors - fitness->errors;
    fitness->errors = view->errors;
    if (limits->error_limit == 0 || view->is_needed) {
        fitness->out_until_us = fitness->trial_until_us = fitness->window_began_us = 0;
        return false;
    }
    if (fitness->out_until_us != 0) {
        if (view->now_us < fitness->out_until_us) return true;
        fitness->out_until_us = 0;
        fitness->trial_until_us = view->now_us + limits->error_window_us;
        return false; /* what was under way failed while it was left out */
    }
    if (fitness->trial_until_us != 0 && view->now_us >= fitness->trial_until_us) {
        fitness->trial_until_us = 0;
        fitness->trips = 0;
        fitness->back_us = view->now_us;
    }
    if (fitness->trial_until_us != 0 && count > 0) {
        leave_out(fitness, limits, view->now_us);
        return true;
    }
    count_errors(fitness, count, limits->error_window_us, view->now_us);
    if (fitness->window_errors <= limits->error_limit) return false;
    leave_out(fitness, limits, view->now_us);
    return true;
}

/* ---- the slow start */

static unsigned ramp_of(struct fitness *fitness, uint64_t slow_start_us, uint64_t now_us) {
    if (fitness->trial_until_us != 0) return RAMP_LEAST;
    uint64_t since_us = now_us - fitness->back_us;
    if (fitness->back_us == 0 || since_us >= slow_start_us) {
        fitness->back_us = 0;
        return NODE_RAMP_FULL;
    }
    unsigned ramp = (unsigned)(since_us * NODE_RAMP_FULL / slow_start_us);
    return ramp < RAMP_LEAST ? RAMP_LEAST : ramp;
}

enum fitness_state fitness_judge(struct fitness *fitness, const struct fitness_limits *limits,
                                 const struct fitness_view *view) {
    enum fitness_state state = FITNESS_FINE;
    if (judge_errors(fitness, limits, view)) state = FITNESS_FAILS;
    if (limits->lag_ms > 0 && view->has_lag && view->lag_ms > limits->lag_ms)
        state = FITNESS_LAGS_TIME;
    if (limits->lag_bytes > 0 && view->has_lag && view->lag_bytes > limits->lag_bytes)
        state = FITNESS_LAGS_BYTES;
    fitness->state = state;
    fitness->ramp = ramp_of(fitness, limits->slow_start_us, view->now_us);
    return state;
}

void fitness_return(struct fitness *fitness, uint64_t now_us, uint32_t errors) {
    *fitness = (struct fitness){.state = fitness->state, .back_us = now_us, .errors = errors};
}

/* ---- what the workers see */

static void publish(struct node *node) {
    enum node_rank rank = node->is_far ? NODE_RANK_FAR : NODE_RANK_NEAR;
    if (node->weight == 0) rank = NODE_RANK_SPARE;
    if (node->is_out) rank = NODE_RANK_OUT;
    uint32_t weight = node->weight == 0 ? 1 : node->weight;
    atomic_store_explicit(&node->share, weight * node->ramp, memory_order_relaxed);
    atomic_store_explicit(&node->rank, (uint32_t)rank, memory_order_relaxed);
}

void node_weigh(struct node *node, const struct cluster_member *member) {
    memory_free(node->zone);
    node->zone = memory_copy_text(member->zone == NULL ? "" : member->zone);
    node->weight = member->weight;
    node->is_far = member->is_far;
    publish(node);
}

bool node_fit(struct node *node, bool is_out, unsigned ramp) {
    CHECK(ramp >= 1 && ramp <= NODE_RAMP_FULL);
    bool is_news = node->is_out != is_out;
    if (!is_news && node->ramp == ramp) return false;
    node->is_out = is_out;
    node->ramp = ramp;
    publish(node);
    return is_news;
}

void node_note_latency(struct node *node, uint64_t latency_us) {
    uint32_t before = atomic_load_explicit(&node->latency_us, memory_order_relaxed);
    uint32_t now = latency_us < LATENCY_US_MAX ? (uint32_t)latency_us : LATENCY_US_MAX;
    uint32_t after = before == 0 ? now : before - before / 8 + now / 8;
    atomic_store_explicit(&node->latency_us, after, memory_order_relaxed);
}
