/* Samples in Prometheus' text format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "admin/metric.h"
#include "core/check.h"

static const struct {
    const char *value;
    const char *line;
} values[] = {
    {"app", "weir_x{database=\"app\"} 7\n"},
    {"", "weir_x{database=\"\"} 7\n"},
    {"a\"b\\c\nd", "weir_x{database=\"a\\\"b\\\\c\\nd\"} 7\n"},
    {"{},=\t", "weir_x{database=\"{},=\t\"} 7\n"},
    {"\xC3\xA9", "weir_x{database=\"\xC3\xA9\"} 7\n"},
    {"\xE9", "weir_x{database=\"\xEF\xBF\xBD\"} 7\n"},
};

static void label_values_are_escaped(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(values); i++) {
        struct buf out = {0};
        const struct metric_label label = {"database", values[i].value};
        metric_number(&out, "weir_x", &label, 1, 7);
        assert_string_equal(buf_text(&out), values[i].line);
        buf_release(&out);
    }
}

static void families_have_a_head(void **unused) {
    (void)unused;
    struct buf out = {0};
    const struct metric_label labels[] = {{"database", "app"}, {"user", "joe"}};
    metric_head(&out, "weir_x_total", METRIC_COUNTER, "Xs that were seen.");
    metric_number(&out, "weir_x_total", labels, 2, UINT64_MAX);
    metric_head(&out, "weir_y_seconds", METRIC_GAUGE, "Age of y.");
    metric_seconds(&out, "weir_y_seconds", NULL, 0, 1000002);
    metric_seconds(&out, "weir_y_seconds", NULL, 0, 0);
    assert_string_equal(buf_text(&out), "# HELP weir_x_total Xs that were seen.\n"
                                        "# TYPE weir_x_total counter\n"
                                        "weir_x_total{database=\"app\",user=\"joe\"} "
                                        "18446744073709551615\n"
                                        "# HELP weir_y_seconds Age of y.\n"
                                        "# TYPE weir_y_seconds gauge\n"
                                        "weir_y_seconds 1.000002\n"
                                        "weir_y_seconds 0.000000\n");
    buf_release(&out);
}

static const struct {
    const char *prefix;
    const char *counter;
    const char *name;
    bool is_time;
} names[] = {
    {"", "queries_total", "weir_queries_total", false},
    {"", "wait_microseconds_total", "weir_wait_seconds_total", true},
    {"node_", "query_microseconds_total", "weir_node_query_seconds_total", true},
    {"node_", "queries_total", "weir_node_queries_total", false},
};

static void counters_are_named(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(names); i++) {
        char name[METRIC_NAME_SIZE];
        assert_int_equal(metric_counter_name(name, names[i].prefix, names[i].counter),
                         names[i].is_time);
        assert_string_equal(name, names[i].name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(families_have_a_head),
        cmocka_unit_test(counters_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
