/*
 * The saturation alert: more servers in use than a threshold, for longer than a while.
 *
 *      OK --value above--> PENDING --for `for_us`--> FIRING
 *       ^                     |                        |
 *       `----value not above--'------------------------'
 *
 * Pure: the value and the time come from the caller. Zeroed memory is an alert that is OK.
 */
#ifndef WEIR_ADMIN_ALERT_H
#define WEIR_ADMIN_ALERT_H

#include <stdint.h>

enum alert_state { ALERT_OK, ALERT_PENDING, ALERT_FIRING };

enum alert_change { ALERT_SAME, ALERT_STARTED, ALERT_ENDED };

/* What counts as saturation; `threshold` 0 switches the alert off. */
struct alert_rule {
    uint64_t threshold; /* the value must be greater */
    uint64_t for_us;    /* for at least so long */
};

struct alert {
    enum alert_state state;
    struct alert_rule rule;
    uint64_t value;    /* as of the last judgement */
    uint64_t highest;  /* since it has been above the threshold */
    uint64_t since_us; /* monotonic: when it came above the threshold; 0 while it is not */
    int64_t since_wall_us;
};

/* When something is judged, on both clocks. */
struct alert_time {
    uint64_t monotonic_us;
    int64_t wall_us;
};

/* Judges the present value; tells whether the alert starts or ends with it. */
enum alert_change alert_judge(struct alert *alert, const struct alert_rule *rule, uint64_t value,
                              struct alert_time now);

/* "ok", "pending", "firing". */
const char *alert_state_text(enum alert_state state);

#endif
