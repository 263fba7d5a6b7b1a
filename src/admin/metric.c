/* Writing samples; see admin/metric.h. */
#include "admin/metric.h"

#include "admin/escape.h"
#include "core/check.h"
#include "core/clock.h"

#include <stdio.h>

void metric_head(struct buf *out, const char *name, enum metric_type type, const char *help) {
    buf_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                      type == METRIC_COUNTER ? "counter" : "gauge");
}

static void append_labels(struct buf *out, const char *name, const struct metric_label *labels,
                          size_t count) {
    buf_append_text(out, name);
    for (size_t i = 0; i < count; i++) {
        buf_append_format(out, "%s%s=\"", i == 0 ? "{" : ",", labels[i].name);
        escape_label(out, labels[i].value);
        buf_append_u8(out, '"');
    }
    if (count > 0) buf_append_u8(out, '}');
}

void metric_number(struct buf *out, const char *name, const struct metric_label *labels,
                   size_t count, uint64_t value) {
    append_labels(out, name, labels, count);
    buf_append_format(out, " %llu\n", (unsigned long long)value);
}

void metric_seconds(struct buf *out, const char *name, const struct metric_label *labels,
                    size_t count, uint64_t value_us) {
    append_labels(out, name, labels, count);
    buf_append_format(out, " %llu.%06u\n", (unsigned long long)(value_us / US_PER_S),
                      (unsigned)(value_us % US_PER_S));
}

bool metric_counter_name(char name[METRIC_NAME_SIZE], const char *prefix, const char *counter) {
    static const char unit[] = "microseconds";
    const char *place = strstr(counter, unit);
    int len = place == NULL ? snprintf(name, METRIC_NAME_SIZE, "weir_%s%s", prefix, counter)
                            : snprintf(name, METRIC_NAME_SIZE, "weir_%s%.*sseconds%s", prefix,
                                       (int)(place - counter), counter, place + sizeof unit - 1);
    CHECK(len > 0 && len < METRIC_NAME_SIZE);
    return place != NULL;
}
