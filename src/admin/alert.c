/* The saturation alert's state; see admin/alert.h. */
#include "admin/alert.h"

static const char *const state_texts[] = {
    [ALERT_OK] = "ok",
    [ALERT_PENDING] = "pending",
    [ALERT_FIRING] = "firing",
};

const char *alert_state_text(enum alert_state state) {
    return state_texts[state];
}

static enum alert_change become_ok(struct alert *alert) {
    enum alert_change change = alert->state == ALERT_FIRING ? ALERT_ENDED : ALERT_SAME;
    alert->state = ALERT_OK;
    alert->since_us = 0;
    alert->since_wall_us = 0;
    return change;
}

enum alert_change alert_judge(struct alert *alert, const struct alert_rule *rule, uint64_t value,
                              struct alert_time now) {
    alert->rule = *rule;
    alert->value = value;
    if (rule->threshold == 0 || value <= rule->threshold) return become_ok(alert);
    if (alert->state == ALERT_OK) {
        alert->state = ALERT_PENDING;
        alert->since_us = now.monotonic_us;
        alert->since_wall_us = now.wall_us;
        alert->highest = 0;
    }
    if (value > alert->highest) alert->highest = value;
    if (alert->state == ALERT_FIRING) return ALERT_SAME;
    if (now.monotonic_us - alert->since_us < rule->for_us) return ALERT_SAME;
    alert->state = ALERT_FIRING;
    return ALERT_STARTED;
}
