/*
 * Lines of a script; see script.h. Beginning a line does what it says; leaving it waits for what
 * its verb waits for. Both are in one table, in which `say` stands for messages.
 */
#include "script.h"

#include "core/check.h"

#include <stdlib.h>

#define LINE_SIZE 512

struct line {
    struct world *world;
    struct application *application; /* NULL: the world's */
    bool is_waiting;
    char verb[16];
    const char *rest;
    char text[LINE_SIZE];
};

/* ---- verbs: what they do */

static void begin_login(struct line *line) {
    application_login(line->application, world_wire_new(line->world), line->rest);
}

static void begin_say(struct line *line) {
    application_say(line->application, line->text + (line->is_waiting ? 2 : 3));
}

static void begin_cancel(struct line *line) {
    world_cancel(line->world, line->application);
}

static void begin_stall(struct line *line) {
    line->application->is_reading = false;
}

static void begin_go(struct line *line) {
    line->application->is_reading = true;
}

static void begin_drop(struct line *line) {
    line->application->has_left = true;
    wire_end(line->application->wire);
}

static void begin_break(struct line *line) {
    line->application->has_left = true;
    wire_break(line->application->wire);
}

static void begin_nothing(struct line *line) {
    (void)line;
}

static void begin_time(struct line *line) {
    uint64_t ms = strtoull(line->rest, NULL, 10);
    line->world->wait_until_us = loop_now_us(line->world->loop) + ms * 1000;
}

static void begin_kill(struct line *line) {
    world_disturb_servers(line->world, DISTURBANCE_SERVER_BREAKS);
}

static void begin_refuse(struct line *line) {
    line->world->network.mood = NETWORK_REFUSES;
}

static void begin_hang(struct line *line) {
    line->world->network.mood = NETWORK_HANGS;
}

static void begin_up(struct line *line) {
    line->world->network.mood = NETWORK_UP;
}

static void begin_servers_stall(struct line *line) {
    line->world->are_servers_stalled = true;
}

static void begin_servers_go(struct line *line) {
    line->world->are_servers_stalled = false;
}

/* ---- verbs: what they wait for */

static bool is_answered(struct line *line) {
    if (!line->is_waiting) return true;
    return application_is_quiet(line->application);
}

static bool is_over(struct line *line) {
    return line->application->state == APPLICATION_ENDED;
}

static bool is_at_once(struct line *line) {
    (void)line;
    return true;
}

static bool is_time_over(struct line *line) {
    struct world *world = line->world;
    if (loop_now_us(world->loop) < world->wait_until_us) return false;
    world->wait_until_us = 0;
    return true;
}

/* The error that was to come has come, and it is the right one. */
static void accept_surprise(struct line *line) {
    struct application *application = line->application;
    bool is_right =
        application->surprise[0] == '\0' || strcmp(application->surprise, line->rest) == 0;
    if (application->surprises == 0) return;
    if (!is_right && !world_is_disturbed(line->world))
        application_fail(application, "error %s came, %s was due", application->surprise,
                         line->rest);
    application->surprises--;
}

static bool has_failed(struct line *line) {
    struct application *application = line->application;
    if (world_is_disturbed(line->world) && application_is_quiet(application)) return true;
    if (application->surprises == 0 || application->skips_to_ready) return false;
    accept_surprise(line);
    return true;
}

static bool has_ended(struct line *line) {
    struct application *application = line->application;
    bool may_go_on = world_is_disturbed(line->world) && application_is_quiet(application);
    if (application->state != APPLICATION_ENDED && !may_go_on) return false;
    accept_surprise(line);
    return true;
}

static const struct verb {
    const char *name;
    bool is_worlds;
    void (*begin)(struct line *line);
    bool (*is_done)(struct line *line);
} verbs[] = {
    {"login", false, begin_login, is_answered},
    {"cancel", false, begin_cancel, is_at_once},
    {"stall", false, begin_stall, is_at_once},
    {"go", false, begin_go, is_at_once},
    {"drop", false, begin_drop, is_over},
    {"break", false, begin_break, is_over},
    {"wait", false, begin_nothing, is_answered},
    {"errs", false, begin_nothing, has_failed},
    {"ends", false, begin_nothing, has_ended},
    {"time", true, begin_time, is_time_over},
    {"kill", true, begin_kill, is_at_once},
    {"refuse", true, begin_refuse, is_at_once},
    {"hang", true, begin_hang, is_at_once},
    {"up", true, begin_up, is_at_once},
    {"stall", true, begin_servers_stall, is_at_once},
    {"go", true, begin_servers_go, is_at_once},
};

static const struct verb say = {"", false, begin_say, is_answered};

/* ---- lines */

struct bytes script_line(const struct world *world) {
    if (world->line == NULL) return bytes_of_text("the end");
    return bytes_of(world->line, strcspn(world->line, "\n"));
}

static const struct verb *read_line(struct world *world, struct line *line) {
    struct bytes text = script_line(world);
    CHECK(text.len > 2 && text.len < LINE_SIZE);
    *line = (struct line){.world = world};
    memcpy(line->text, text.at, text.len);
    line->is_waiting = line->text[1] != '&';
    bool is_worlds = line->text[0] == '-';
    if (!is_worlds) line->application = world_application(world, line->text[0]);
    const char *verb = line->text + (line->is_waiting ? 2 : 3);
    size_t len = strcspn(verb, " ");
    line->rest = verb + len + strspn(verb + len, " ");
    if (len >= sizeof line->verb) len = sizeof line->verb - 1;
    memcpy(line->verb, verb, len);
    for (size_t i = 0; i < COUNT(verbs); i++) {
        if (verbs[i].is_worlds == is_worlds && strcmp(verbs[i].name, line->verb) == 0)
            return &verbs[i];
    }
    CHECK(!is_worlds);
    return &say;
}

static void next_line(struct world *world) {
    size_t len = strcspn(world->line, "\n");
    world->line =
        world->line[len] == '\n' && world->line[len + 1] != '\0' ? world->line + len + 1 : NULL;
    world->is_line_begun = false;
}

/* A client that is gone says no more; errors that nobody foresaw end the run. */
static bool is_passed_over(const struct line *line, const struct verb *verb) {
    struct application *application = line->application;
    if (application == NULL || line->world->is_line_begun) return false;
    bool is_awaited = verb->is_done == has_failed || verb->is_done == has_ended;
    if (is_awaited) return application->state == APPLICATION_NEW;
    if (application->surprises > 0 && !application->is_rough)
        application_fail(application, "an unforeseen error %s came", application->surprise);
    bool is_gone = application->has_left || application->state == APPLICATION_ENDED;
    bool is_absent = application->state == APPLICATION_NEW && verb->begin != begin_login;
    return is_gone || is_absent;
}

bool script_step(struct world *world) {
    struct line line;
    if (world->line == NULL) return false;
    const struct verb *verb = read_line(world, &line);
    if (is_passed_over(&line, verb)) {
        next_line(world);
        return true;
    }
    bool was_begun = world->is_line_begun;
    if (!was_begun) {
        world->is_line_begun = true;
        verb->begin(&line);
    }
    if (verb->is_done(&line)) {
        next_line(world);
        return true;
    }
    return !was_begun;
}
