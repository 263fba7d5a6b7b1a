/*
 * Verdicts: what the answers of three nodes mean. A node is written as a few letters:
 *
 *      p  answers as a primary       r  answers in recovery       -  does not answer
 *      ?  has not been tried         f  followed the primary      0..9  its timeline
 *      x  has another system identifier than 7        h  hides its system identifier
 *      s  is silent                  o  named by the operator      l  named by Patroni
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cluster/verdict.h"
#include "core/check.h"

#define U NODE_UNKNOWN
#define P NODE_PRIMARY
#define R NODE_REPLICA
#define V NODE_RIVAL
#define S NODE_STRANGER

static const struct {
    const char *nodes[3];
    int past_primary;
    uint32_t past_timeline;
    uint64_t past_identifier;
    int primary;
    enum node_role roles[3];
    enum verdict_trouble trouble;
    int a, b;
    uint64_t identifier;
} rows[] = {
    /* start-up */
    {{"?", "?", "?"}, -1, 0, 0, -1, {U, U, U}, VERDICT_UNTRIED, -1, 0, 0},
    {{"p1", "?", "r1"}, -1, 0, 0, -1, {U, U, R}, VERDICT_UNTRIED, 0, 1, 0},
    {{"r1", "p1", "r1"}, -1, 0, 0, 1, {R, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"-", "p1", "-"}, -1, 0, 0, 1, {U, P, U}, VERDICT_FINE, -1, -1, 7},
    {{"r1", "r1", "-"}, -1, 0, 0, -1, {R, R, U}, VERDICT_NO_PRIMARY, -1, -1, 0},
    {{"p1", "r1", "p2"}, -1, 0, 0, -1, {V, R, V}, VERDICT_TWO_PRIMARIES, 0, 2, 0},
    {{"p1", "p1x", "r1"}, -1, 0, 0, -1, {V, V, R}, VERDICT_TWO_PRIMARIES, 0, 1, 0},
    {{"p1h", "r1", "r1h"}, -1, 0, 0, 0, {P, R, R}, VERDICT_FINE, -1, -1, 0},
    /* members and strangers */
    {{"p1", "r1x", "r1"}, -1, 0, 0, 0, {P, S, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p9x", "r1"}, 0, 1, 7, 0, {P, S, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "r1h", "r1"}, 0, 1, 7, 0, {P, R, R}, VERDICT_FINE, -1, -1, 7},
    {{"-", "p9xf", "r1"}, 0, 1, 7, -1, {U, S, R}, VERDICT_NO_PRIMARY, -1, -1, 7},
    {{"p1x", "-", "-"}, 0, 1, 7, 0, {P, U, U}, VERDICT_FINE, -1, -1, 8}, /* made anew */
    {{"p1x", "r1", "-"}, 0, 1, 7, -1, {S, R, U}, VERDICT_NO_PRIMARY, -1, -1, 7},
    /* the primary goes and comes back */
    {{"-", "r1f", "r1f"}, 0, 1, 7, -1, {U, R, R}, VERDICT_NO_PRIMARY, -1, -1, 7},
    {{"p1", "r1f", "r1f"}, 0, 1, 7, 0, {P, R, R}, VERDICT_FINE, -1, -1, 7},
    {{"r1", "r1f", "r1f"}, 0, 1, 7, -1, {R, R, R}, VERDICT_NO_PRIMARY, -1, -1, 7},
    /* a promoted standby */
    {{"-", "p2f", "r1f"}, 0, 1, 7, 1, {U, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"r1", "p2f", "r1f"}, 0, 1, 7, 1, {R, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p2f", "r1f"}, 0, 1, 7, -1, {V, V, R}, VERDICT_TWO_PRIMARIES, 0, 1, 7},
    {{"-", "p2f", "p3f"}, 0, 1, 7, -1, {U, V, V}, VERDICT_TWO_PRIMARIES, 1, 2, 7},
    {{"-", "p1f", "r1f"}, 0, 1, 7, -1, {U, V, R}, VERDICT_UNPROVEN, 1, 0, 7}, /* same timeline */
    {{"-", "p2", "r1f"}, 0, 1, 7, -1, {U, V, R}, VERDICT_UNPROVEN, 1, 0, 7},  /* never followed */
    {{"-", "p0f", "r1f"}, 0, 1, 7, -1, {U, V, R}, VERDICT_UNPROVEN, 1, 0, 7}, /* none known */
    {{"-", "p2f", "r1f"}, 0, 0, 7, -1, {U, V, R}, VERDICT_UNPROVEN, 1, 0, 7},
    {{"-", "p2fh", "r1f"}, 0, 1, 7, 1, {U, P, R}, VERDICT_FINE, -1, -1, 7}, /* hidden */
    /* the old primary comes back beside the new one */
    {{"p1", "p2", "r2f"}, 1, 2, 7, 1, {V, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p2s", "r2f"}, 1, 2, 7, 1, {V, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p2", "p2"}, 1, 2, 7, -1, {V, V, V}, VERDICT_TWO_PRIMARIES, 1, 2, 7},
    {{"p1", "-", "p3f"}, 1, 2, 7, 2, {V, U, P}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "-", "r2f"}, 1, 2, 7, -1, {V, U, R}, VERDICT_UNPROVEN, 0, 1, 7},
    {{"r2", "p2", "r2f"}, 1, 2, 7, 1, {R, P, R}, VERDICT_FINE, -1, -1, 7},
    /* the old primary hangs */
    {{"p1s", "p2f", "r1f"}, 0, 1, 7, 1, {V, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1s", "p2", "r1f"}, 0, 1, 7, -1, {V, V, R}, VERDICT_TWO_PRIMARIES, 0, 1, 7},
    {{"p1s", "p1f", "r1f"}, 0, 1, 7, -1, {V, V, R}, VERDICT_TWO_PRIMARIES, 0, 1, 7},
    {{"p1s", "p2f", "p2f"}, 0, 1, 7, -1, {V, V, V}, VERDICT_TWO_PRIMARIES, 0, 1, 7},
    {{"p1", "p2fs", "r1f"}, 0, 1, 7, -1, {V, V, R}, VERDICT_TWO_PRIMARIES, 0, 1, 7},
    {{"p1s", "r1f", "r1f"}, 0, 1, 7, 0, {P, R, R}, VERDICT_FINE, -1, -1, 7},
    /* Patroni is asked where nothing else decides */
    {{"p1", "r1", "p2l"}, -1, 0, 0, 2, {V, R, P}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p2fl", "r1f"}, 0, 1, 7, 1, {V, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"-", "p2l", "r1f"}, 0, 1, 7, 1, {U, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "r1fl", "r1f"}, 0, 1, 7, 0, {P, R, R}, VERDICT_FINE, -1, -1, 7},
    {{"-", "p9xl", "r1"}, 0, 1, 7, -1, {U, S, R}, VERDICT_NO_PRIMARY, -1, -1, 7},
    {{"p1l", "p2", "r2f"}, 1, 2, 7, 1, {V, P, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "?l", "r1"}, -1, 0, 0, -1, {U, U, R}, VERDICT_UNTRIED, 0, 1, 0},
    /* the operator always, but for what does not answer as a primary */
    {{"p1", "r1", "p2o"}, -1, 0, 0, 2, {V, R, P}, VERDICT_FINE, -1, -1, 7},
    {{"p1x", "r1", "p2o"}, -1, 0, 0, 2, {S, R, P}, VERDICT_FINE, -1, -1, 7},
    {{"p1o", "p2l", "r2f"}, 1, 2, 7, 0, {P, V, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "r1fo", "r1f"}, 0, 1, 7, 0, {P, R, R}, VERDICT_FINE, -1, -1, 7},
    {{"p1", "p2xo", "r1f"}, 0, 1, 7, 0, {P, S, R}, VERDICT_FINE, -1, -1, 7},
};

static struct verdict_view view_of(const char *letters) {
    struct verdict_view view = {.is_tried = true, .system_identifier = 7};
    for (; *letters != '\0'; letters++) {
        if (*letters == 'p' || *letters == 'r') view.is_answering = true;
        if (*letters == 'r') view.in_recovery = true;
        if (*letters == '?') view.is_tried = false;
        if (*letters == 'f') view.has_followed = true;
        if (*letters == 'x') view.system_identifier = 8;
        if (*letters == 'h') view.system_identifier = 0;
        if (*letters == 's') view.is_silent = true;
        if (*letters >= '0' && *letters <= '9') view.timeline = (uint32_t)(*letters - '0');
    }
    return view;
}

/* The node with that letter, -1 if there is none. */
static int named(const char *const nodes[3], char letter) {
    for (int i = 0; i < 3; i++)
        if (strchr(nodes[i], letter) != NULL) return i;
    return -1;
}

static void answers_have_one_meaning(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct verdict_view views[3];
        for (size_t n = 0; n < 3; n++) views[n] = view_of(rows[i].nodes[n]);
        struct verdict_past past = {rows[i].past_primary, rows[i].past_timeline,
                                    rows[i].past_identifier, named(rows[i].nodes, 'o'),
                                    named(rows[i].nodes, 'l')};
        struct verdict verdict;
        verdict_reach(&verdict, views, 3, &past);
        bool is_right = verdict.primary == rows[i].primary && verdict.trouble == rows[i].trouble &&
                        verdict.a == rows[i].a && verdict.b == rows[i].b &&
                        verdict.system_identifier == rows[i].identifier;
        for (size_t n = 0; n < 3; n++) is_right &= verdict.roles[n] == rows[i].roles[n];
        if (!is_right) {
            fail_msg("row %zu (%s %s %s): primary %d roles %d %d %d trouble %d a %d b %d id %lu", i,
                     rows[i].nodes[0], rows[i].nodes[1], rows[i].nodes[2], verdict.primary,
                     verdict.roles[0], verdict.roles[1], verdict.roles[2], verdict.trouble,
                     verdict.a, verdict.b, verdict.system_identifier);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(answers_have_one_meaning)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
