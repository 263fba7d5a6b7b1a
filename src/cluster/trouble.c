/* What is wrong with a cluster, in words: for error texts, SHOW, /health and the log. */
#include "core/buf.h"
#include "core/log.h"
#include "probe_state.h"

/* Why nobody answers as a primary: what each node is, or the error that it gave. */
static void describe_nodes(struct buf *text, struct probe *probe) {
    for (size_t i = 0; i < probe->count; i++) {
        const struct standing *standing = &probe->standings[i];
        const struct node *node = cluster_node_const(probe->cluster, i);
        const char *what = standing->report.error;
        if (what[0] == '\0') what = node_role_text(node_role(node));
        buf_append_format(text, "%s%s: %s", i == 0 ? "" : "; ", node->name, what);
    }
}

static void describe_trouble(struct buf *text, struct probe *probe) {
    const struct verdict *verdict = &probe->verdict;
    switch (verdict->trouble) {
    case VERDICT_FINE:
        return;
    case VERDICT_NO_PRIMARY:
        buf_append_text(text, "no node answers as primary (");
        describe_nodes(text, probe);
        buf_append_text(text, ")");
        return;
    case VERDICT_UNTRIED:
        if (verdict->a >= 0) {
            buf_append_format(text, "%s answers as primary, ", name_of(probe, verdict->a));
        }
        buf_append_format(text, "%s has not been tried yet", name_of(probe, verdict->b));
        return;
    case VERDICT_TWO_PRIMARIES:
        buf_append_format(text, "%s and %s both answer as primary, neither gets writes",
                          name_of(probe, verdict->a), name_of(probe, verdict->b));
        return;
    case VERDICT_UNPROVEN:
        buf_append_format(text,
                          "%s answers as primary in place of %s, but was not seen as its standby"
                          " and on a later timeline, and gets no writes",
                          name_of(probe, verdict->a), name_of(probe, verdict->b));
        return;
    }
}

void probe_tell_trouble(struct probe *probe, enum verdict_trouble before) {
    if (before == VERDICT_FINE && probe->verdict.trouble == VERDICT_FINE) return;
    struct buf text = {0};
    describe_trouble(&text, probe);
    cluster_trouble_set(probe->cluster, buf_text(&text));
    enum verdict_trouble now = probe->verdict.trouble;
    if (now != before && now == VERDICT_FINE && before != VERDICT_UNTRIED) {
        log_line(LOG_LEVEL_LOG, "cluster %s: %s gets the writes", cluster_name(probe->cluster),
                 name_of(probe, probe->verdict.primary));
    } else if (now != before && now != VERDICT_FINE && now != VERDICT_UNTRIED) {
        log_line(LOG_LEVEL_WARNING, "cluster %s: %s", cluster_name(probe->cluster),
                 buf_text(&text));
    }
    buf_release(&text);
}
