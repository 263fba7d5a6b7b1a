/*
 * The session driver: every scenario in every mood of the transport, with every message cut at
 * every place, a disconnect of each side, a cancel, and each timeout at every step.
 *
 *      session [-v] [SEED]          all of it, from that seed (1 if none is given)
 *      session [-v] -s N [SEED]     the same for one scenario; behind the last one: rambling
 *      session [-v] -n COUNT [SEED] so many rambling scripts
 *      session [-v] -r PLAN         one run again, as a failure names it
 *
 * Prints each failure with its plan, and a closing line; the status is 1 if anything failed.
 */
#include "core/check.h"
#include "core/log.h"
#include "ramble.h"
#include "scenarios.h"
#include "trace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAILURES_SHOWN      3u /* of one scenario */
#define MOOD_SEEDS          8u
#define GREETING_BYTES      200u
#define RAMBLES             400u
#define RAMBLE_DISTURBANCES 4u
#define CUTS_MAX            1500u /* beyond so many bytes of a wire only some places are cut */

static unsigned passed;
static unsigned failed;
static unsigned failed_before; /* by the scenarios before this one */
static char plan_text[160];    /* of the run at hand, for whoever has to report a crash */

/* Seconds that go by at once: each is beyond one more timeout. Every second one at odd turns, the
 * others at even ones. */
static const unsigned jumps[] = {2, 12, 16, 61, 91, 121, 301, 601, 901, 3601};

static const char *const disturbance_names[DISTURBANCE_COUNT] = {
    [DISTURBANCE_NONE] = "nothing",
    [DISTURBANCE_CLIENT_ENDS] = "client ends",
    [DISTURBANCE_CLIENT_CLOSES] = "client closes",
    [DISTURBANCE_CLIENT_BREAKS] = "client breaks",
    [DISTURBANCE_SERVER_ENDS] = "server ends",
    [DISTURBANCE_SERVER_BREAKS] = "server breaks",
    [DISTURBANCE_SERVER_FATAL] = "server says FATAL",
    [DISTURBANCE_CANCEL] = "cancel",
    [DISTURBANCE_TIME] = "time",
};

/* ---- one run */

/* Those of ramble.c have the numbers behind the written ones. */
static size_t scenario_number(const struct scenario *scenario) {
    unsigned settings = ramble_settings(scenario);
    return settings < RAMBLE_SETTINGS ? scenarios_count + settings : (size_t)(scenario - scenarios);
}

static void write_plan(const struct plan *plan) {
    (void)snprintf(plan_text, sizeof plan_text, "%zu:%llu:%d:%d:%u:%llu:%d:%u:%u",
                   scenario_number(plan->scenario), (unsigned long long)plan->seed, plan->is_mixed,
                   (int)plan->mood, plan->cut_wire, (unsigned long long)plan->cut_at,
                   (int)plan->disturbance, plan->turn, plan->target);
}

/* The numbers between colons, in the order of write_plan. */
static void read_plan(const char *text, struct plan *plan) {
    unsigned long long numbers[9] = {0};
    char *end = NULL;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        numbers[i] = strtoull(text, &end, 10);
        text = *end == ':' ? end + 1 : end;
    }
    CHECK(numbers[0] < scenarios_count + RAMBLE_SETTINGS);
    bool is_written = numbers[0] < scenarios_count;
    *plan = (struct plan){
        .scenario = is_written ? &scenarios[numbers[0]]
                               : ramble((unsigned)(numbers[0] - scenarios_count), numbers[1]),
        .seed = numbers[1],
        .is_mixed = numbers[2] != 0,
        .mood = (enum wire_mood)numbers[3],
        .cut_wire = (unsigned)numbers[4],
        .cut_at = numbers[5],
        .disturbance = (enum disturbance)numbers[6],
        .turn = (unsigned)numbers[7],
        .target = (unsigned)numbers[8]};
}

static void report(const struct plan *plan, const struct outcome *outcome, struct buf *failure) {
    if (failed - failed_before > FAILURES_SHOWN) return;
    (void)printf("FAILED \"%s\": %s\n", plan->scenario->name, buf_text(failure));
    (void)printf("    seed %llu, %s wires", (unsigned long long)plan->seed,
                 plan->is_mixed ? "mixed" : wire_mood_name(plan->mood));
    if (plan->cut_at > 0)
        (void)printf(", wire %u cut at byte %llu", plan->cut_wire,
                     (unsigned long long)plan->cut_at);
    if (plan->disturbance != DISTURBANCE_NONE)
        (void)printf(", %s (%u) at turn %u", disturbance_names[plan->disturbance], plan->target,
                     plan->turn);
    if (outcome->line[0] != '\0') (void)printf(", at <%s>", outcome->line);
    (void)printf("\n    again: session -v -r %s\n", plan_text);
}

static struct outcome run(const struct plan *plan) {
    struct buf failure = {0};
    struct outcome outcome;
    write_plan(plan);
    world_run(plan, &failure, &outcome);
    if (buf_length(&failure) > 0) {
        failed++;
        report(plan, &outcome, &failure);
    } else {
        passed++;
    }
    buf_release(&failure);
    return outcome;
}

/* ---- many */

static void run_moods(const struct scenario *scenario, uint64_t seed) {
    for (unsigned i = 0; i < MOOD_SEEDS; i++) {
        for (unsigned mood = 0; mood <= WIRE_MOODS; mood++) {
            struct plan plan = {.scenario = scenario,
                                .seed = seed + i,
                                .is_mixed = mood == WIRE_MOODS,
                                .mood = mood == WIRE_MOODS ? WIRE_PLAIN : (enum wire_mood)mood};
            (void)run(&plan);
        }
    }
}

static void run_cuts(const struct plan *base, const struct outcome *outcome) {
    for (unsigned wire = 0; wire < outcome->wires; wire++) {
        uint64_t step = base->scenario->is_bulky ? 17 : 1;
        /* How servers greet is the same everywhere. */
        bool is_told = outcome->is_servers[wire] && base->scenario != &scenarios[0];
        for (uint64_t at = is_told ? GREETING_BYTES : 1; at < outcome->read_totals[wire];
             at += at < CUTS_MAX ? step : 9973) {
            struct plan plan = *base;
            plan.cut_wire = wire;
            plan.cut_at = at;
            (void)run(&plan);
        }
    }
}

/* Who or what may be hit. */
static unsigned targets_of(enum disturbance disturbance) {
    switch (disturbance) {
    case DISTURBANCE_TIME:
        return COUNT(jumps) / 2;
    case DISTURBANCE_CLIENT_ENDS:
    case DISTURBANCE_CLIENT_CLOSES:
    case DISTURBANCE_CLIENT_BREAKS:
    case DISTURBANCE_CANCEL:
        return WORLD_APPLICATIONS_MAX;
    default:
        return WORLD_SERVERS_MAX;
    }
}

/* Whether it is there at that turn, or has been. */
static bool is_there(const struct plan *plan, const struct outcome *outcome) {
    unsigned targets = targets_of(plan->disturbance);
    if (plan->disturbance == DISTURBANCE_TIME) return true;
    unsigned since = targets == WORLD_SERVERS_MAX ? outcome->servers_since[plan->target]
                                                  : outcome->applications_since[plan->target];
    return since > 0 && since <= plan->turn;
}

static void run_disturbances(const struct plan *base, const struct outcome *outcome) {
    unsigned step = base->scenario->is_bulky ? 7 : 1;
    for (unsigned kind = DISTURBANCE_NONE + 1; kind < DISTURBANCE_COUNT; kind++) {
        unsigned targets = targets_of((enum disturbance)kind);
        for (unsigned i = 0; i < targets * outcome->turns; i += step) {
            struct plan plan = *base;
            plan.disturbance = (enum disturbance)kind;
            plan.turn = 1 + i / targets;
            plan.target = i % targets;
            if (!is_there(&plan, outcome)) continue;
            if (kind == DISTURBANCE_TIME) plan.target = jumps[2 * plan.target + plan.turn % 2];
            (void)run(&plan);
        }
    }
}

static void run_all(const struct scenario *scenario, uint64_t seed) {
    struct plan base = {.scenario = scenario, .seed = seed, .mood = WIRE_PLAIN};
    failed_before = failed;
    struct outcome outcome = run(&base);
    run_moods(scenario, seed);
    if (failed > failed_before) return; /* what fails undisturbed says enough */
    run_cuts(&base, &outcome);
    run_disturbances(&base, &outcome);
}

/* A rambling script on wires of all moods: as it is, and with a disturbance of chance. */
static void run_ramble(unsigned settings, uint64_t seed) {
    struct dice dice = {.state = seed};
    struct plan plan = {.scenario = ramble(settings, seed), .seed = seed, .is_mixed = true};
    struct outcome outcome = run(&plan);
    for (unsigned i = 0; i < RAMBLE_DISTURBANCES; i++) {
        plan.disturbance = (enum disturbance)(1 + dice_roll(&dice, (size_t)DISTURBANCE_COUNT - 1));
        plan.turn = 1 + (unsigned)dice_roll(&dice, outcome.turns);
        plan.target = (unsigned)dice_roll(&dice, 3);
        if (plan.disturbance == DISTURBANCE_TIME)
            plan.target = jumps[dice_roll(&dice, COUNT(jumps))];
        (void)run(&plan);
    }
}

static void run_rambles(uint64_t seed, unsigned count) {
    failed_before = failed;
    for (unsigned i = 0; i < count; i++) run_ramble(i % RAMBLE_PLAIN, seed * 1000003 + i);
    for (unsigned i = 0; i < count; i++)
        run_ramble(RAMBLE_PLAIN + i % (RAMBLE_SETTINGS - RAMBLE_PLAIN), seed * 1000003 + i);
}

/* ---- the program */

/* A CHECK that fails, and a sanitizer's finding, end the process here. */
static void on_abort(int number) {
    static const char text[] = "crashed; again: session -v -r ";
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    n += write(STDERR_FILENO, plan_text, strlen(plan_text));
    n += write(STDERR_FILENO, "\n", 1);
    _exit(n > 0 && number != 0 ? 2 : 3);
}

const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "abort_on_error=1:detect_stack_use_after_return=0";
}

int main(int argc, char **argv) {
    uint64_t seed = 1;
    const char *again = NULL;
    size_t from = 0, to = scenarios_count;
    bool is_verbose = false;
    unsigned rambles = RAMBLES;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            is_verbose = true;
        } else if (strcmp(argv[i], "-r") == 0 && i + 1 < argc) {
            again = argv[++i];
        } else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
            rambles = (unsigned)strtoul(argv[++i], NULL, 10);
            from = to = scenarios_count;
        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
            from = strtoull(argv[++i], NULL, 10);
            to = from + 1;
        } else {
            seed = strtoull(argv[i], NULL, 10);
        }
    }
    (void)log_open(NULL, !is_verbose);
    (void)signal(SIGABRT, on_abort);
    if (again != NULL) {
        struct plan plan;
        read_plan(again, &plan);
        if (is_verbose) {
            (void)printf("%s\n", plan.scenario->script);
            trace_start();
        }
        (void)run(&plan);
    } else {
        for (size_t i = from; i < to && i < scenarios_count; i++) run_all(&scenarios[i], seed);
        if (to >= scenarios_count) run_rambles(seed, rambles);
    }
    world_forget();
    ramble_forget();
    (void)printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
