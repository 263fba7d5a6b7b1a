/*
 * Verdicts; the rules stand in cluster/verdict.h. First the cluster's system identifier, then who
 * is a member, then the candidates, the members that answer as a primary, then which of them may
 * have the writes.
 */
#include "cluster/verdict.h"

#include "core/check.h"

struct candidates {
    size_t count;
    int first, second; /* -1: none */
};

static bool answers_as_primary(const struct verdict_view *view) {
    return view->is_answering && !view->in_recovery;
}

static bool is_stranger(const struct verdict_view *view, uint64_t cluster_identifier) {
    return view->is_answering && cluster_identifier != 0 && view->system_identifier != 0 &&
           view->system_identifier != cluster_identifier;
}

static bool is_candidate(const struct verdict_view *view, uint64_t cluster_identifier) {
    return answers_as_primary(view) && !is_stranger(view, cluster_identifier);
}

/* On a timeline before the last one of the primary: it was superseded, whatever it thinks. */
static bool is_outdated(const struct verdict_view *views, int node,
                        const struct verdict_past *past) {
    uint32_t timeline = views[node].timeline;
    bool is_known = past->primary >= 0 && node != past->primary && timeline != 0;
    return is_known && timeline < past->timeline;
}

static struct candidates find_candidates(const struct verdict_view *views, size_t count,
                                         uint64_t cluster_identifier) {
    struct candidates found = {0, -1, -1};
    for (size_t i = 0; i < count; i++) {
        if (!is_candidate(&views[i], cluster_identifier)) continue;
        found.count++;
        if (found.first < 0) {
            found.first = (int)i;
        } else if (found.second < 0) {
            found.second = (int)i;
        }
    }
    return found;
}

/* The same without those that were superseded, unless there are no others. */
static struct candidates find_current(const struct verdict_view *views, size_t count,
                                      uint64_t cluster_identifier,
                                      const struct verdict_past *past) {
    struct verdict_view current[CLUSTER_NODES_MAX];
    for (size_t i = 0; i < count; i++) {
        current[i] = views[i];
        if (is_outdated(views, (int)i, past)) current[i].is_answering = false;
    }
    struct candidates found = find_candidates(current, count, cluster_identifier);
    return found.count > 0 ? found : find_candidates(views, count, cluster_identifier);
}

/* The identifier that decides who is a member. It is learnt from the only node that answers as a
 * primary. It changes only where the primary itself was made anew and nobody answers with the old
 * one, as when a single node's data folder was replaced. */
static uint64_t find_identifier(const struct verdict_view *views, size_t count,
                                const struct verdict_past *past) {
    if (past->system_identifier == 0) {
        struct candidates found = find_candidates(views, count, 0);
        return found.count == 1 ? views[found.first].system_identifier : 0;
    }
    if (past->primary < 0 || !answers_as_primary(&views[past->primary])) {
        return past->system_identifier;
    }
    for (size_t i = 0; i < count; i++) {
        if (views[i].is_answering && views[i].system_identifier == past->system_identifier) {
            return past->system_identifier;
        }
    }
    uint64_t now = views[past->primary].system_identifier;
    return now == 0 ? past->system_identifier : now;
}

static int first_untried(const struct verdict_view *views, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!views[i].is_tried) return (int)i;
    }
    return -1;
}

static void stop_writes(struct verdict *verdict, enum verdict_trouble trouble, int a, int b) {
    verdict->primary = -1;
    verdict->trouble = trouble;
    verdict->a = a;
    verdict->b = b;
}

/* Whether it can be nothing but the successor of the primary that there was. */
static bool is_proven(const struct verdict_view *view, const struct verdict_past *past) {
    return view->has_followed && past->timeline != 0 && view->timeline > past->timeline;
}

/* Exactly one node answers as a primary: may it have the writes? */
static void judge_single(struct verdict *verdict, int node, const struct verdict_view *views,
                         size_t count, const struct verdict_past *past) {
    verdict->primary = node;
    if (past->primary == node) return;
    if (past->primary < 0) {
        int untried = first_untried(views, count);
        if (untried >= 0) stop_writes(verdict, VERDICT_UNTRIED, node, untried);
        return;
    }
    if (!is_proven(&views[node], past)) stop_writes(verdict, VERDICT_UNPROVEN, node, past->primary);
}

/* Several do. The old primary's silence gives way to its one proven successor. */
static void judge_several(struct verdict *verdict, const struct candidates *found,
                          const struct verdict_view *views, const struct verdict_past *past) {
    bool has_old = found->first == past->primary || found->second == past->primary;
    int other = found->first == past->primary ? found->second : found->first;
    if (found->count == 2 && past->primary >= 0 && has_old && views[past->primary].is_silent &&
        is_proven(&views[other], past)) {
        verdict->primary = other;
    } else {
        stop_writes(verdict, VERDICT_TWO_PRIMARIES, found->first, found->second);
    }
}

/* Somebody else's word, where the node answers as a primary. Patroni's is asked for only where the
 * rules above name none. */
static void take_word(struct verdict *verdict, int node, const struct verdict_view *views) {
    if (node < 0 || !is_candidate(&views[node], verdict->system_identifier)) return;
    verdict->primary = node;
    verdict->trouble = VERDICT_FINE;
    verdict->a = verdict->b = -1;
    if (verdict->system_identifier == 0) verdict->system_identifier = views[node].system_identifier;
}

/* Nobody is a rival before all have been heard. */
static enum node_role role_of_candidate(const struct verdict *verdict, int node) {
    if (verdict->primary == node) return NODE_PRIMARY;
    return verdict->trouble == VERDICT_UNTRIED ? NODE_UNKNOWN : NODE_RIVAL;
}

void verdict_reach(struct verdict *verdict, const struct verdict_view *views, size_t count,
                   const struct verdict_past *past) {
    CHECK(count <= CLUSTER_NODES_MAX && past->primary < (int)count);
    CHECK(past->leader < (int)count && past->choice < (int)count);
    *verdict = (struct verdict){.primary = -1, .a = -1, .b = -1};
    verdict->system_identifier = find_identifier(views, count, past);
    struct candidates found = find_current(views, count, verdict->system_identifier, past);
    if (found.count == 0) {
        int untried = past->primary < 0 ? first_untried(views, count) : -1;
        stop_writes(verdict, untried >= 0 ? VERDICT_UNTRIED : VERDICT_NO_PRIMARY, -1, untried);
    } else if (found.count == 1) {
        judge_single(verdict, found.first, views, count, past);
    } else {
        judge_several(verdict, &found, views, past);
    }
    if (verdict->primary < 0) take_word(verdict, past->leader, views);
    take_word(verdict, past->choice, views);
    for (size_t i = 0; i < count; i++) {
        const struct verdict_view *view = &views[i];
        if (!view->is_answering) continue;
        if (is_stranger(view, verdict->system_identifier)) {
            verdict->roles[i] = NODE_STRANGER;
        } else if (view->in_recovery) {
            verdict->roles[i] = NODE_REPLICA;
        } else {
            verdict->roles[i] = role_of_candidate(verdict, (int)i);
        }
    }
    /* Learnt only from a primary that is beyond doubt, not from whoever answered first. */
    if (verdict->primary < 0) verdict->system_identifier = past->system_identifier;
}
