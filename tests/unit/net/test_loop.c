/* The loop: mail from other threads, hooks at the end of a turn, timers, one clock, signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/memory.h"
#include "net/loop.h"
#include "unit/dies.h"

#include <pthread.h>

/* Stops the loop after a while, so that a test that waits in vain ends and fails. */
struct watchdog {
    struct loop_timer timer;
    struct loop *loop;
    bool has_barked;
};

static void bark(struct loop_timer *timer) {
    struct watchdog *watchdog = LIST_OWNER(timer, struct watchdog, timer);
    watchdog->has_barked = true;
    loop_stop(watchdog->loop);
}

/* Runs the loop until something stops it; false if nothing has within so many milliseconds. */
static bool run_for(struct loop *loop, unsigned ms) {
    struct watchdog watchdog = {.timer.run = bark, .loop = loop};
    loop_timer_start(loop, &watchdog.timer, ms, 0);
    loop_run(loop);
    loop_timer_stop(&watchdog.timer);
    return !watchdog.has_barked;
}

/* ---- mail */

#define SENDERS 4
#define LETTERS 2000

struct post_office {
    struct loop *loop;
    unsigned next[SENDERS];
    unsigned total;
    unsigned disorder;
};

struct letter {
    struct loop_mail mail;
    unsigned sender;
    unsigned number;
};

struct sender {
    struct post_office *office;
    unsigned number;
};

static void on_letter(struct loop_mail *mail, void *context) {
    struct post_office *office = context;
    struct letter *letter = LIST_OWNER(mail, struct letter, mail);
    if (letter->number != office->next[letter->sender]++) office->disorder++;
    memory_free(letter);
    if (++office->total == SENDERS * LETTERS) loop_stop(office->loop);
}

static void *send_letters(void *argument) {
    const struct sender *sender = argument;
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *letter = memory_new(sizeof *letter);
        letter->mail.run = on_letter;
        letter->sender = sender->number;
        letter->number = i;
        loop_post(sender->office->loop, &letter->mail);
    }
    return NULL;
}

static void mail_from_threads_arrives_in_order(void **unused) {
    (void)unused;
    struct post_office office = {.loop = loop_new()};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    loop_set_context(office.loop, &office);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&office, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_letters, &senders[i]), 0);
    }
    assert_true(run_for(office.loop, 20000));
    for (unsigned i = 0; i < SENDERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(office.total, SENDERS * LETTERS);
    assert_int_equal(office.disorder, 0);
    loop_free(&office.loop);
    assert_null(office.loop);
}

struct chain {
    struct loop_mail mail;
    struct loop *loop;
    unsigned left;
};

static void on_chain(struct loop_mail *mail, void *context) {
    struct chain *chain = LIST_OWNER(mail, struct chain, mail);
    assert_null(context);
    if (--chain->left == 0) {
        loop_stop(chain->loop);
    } else {
        loop_post(chain->loop, &chain->mail);
    }
}

/* A letter may be posted again from within, and what was posted before the loop runs waits. */
static void mail_may_send_mail(void **unused) {
    (void)unused;
    struct chain chain = {.mail.run = on_chain, .loop = loop_new(), .left = 5};
    loop_post(chain.loop, &chain.mail);
    assert_int_equal(chain.left, 5);
    assert_true(run_for(chain.loop, 5000));
    assert_int_equal(chain.left, 0);
    /* without the loop, each call takes what is there */
    chain.left = 3;
    loop_post(chain.loop, &chain.mail);
    for (unsigned left = 2; left > 0; left--) {
        loop_run_mail(chain.loop);
        assert_int_equal(chain.left, left);
    }
    loop_run_mail(chain.loop);
    loop_run_mail(chain.loop);
    assert_int_equal(chain.left, 0);
    loop_free(&chain.loop);
}

/* ---- hooks */

struct stage;

struct actor {
    struct loop_hook hook;
    struct stage *stage;
    char name;
    const char *cues; /* +x schedules x, -x takes x off; a full stop ends the cues of one call */
};

struct stage {
    struct loop *loop;
    struct loop_timer timer;
    struct actor actors['z' + 1];
    struct buf played;
};

static const char *give_cues(struct stage *stage, const char *cues) {
    for (; *cues != '\0' && *cues != '.'; cues += 2) {
        struct actor *actor = &stage->actors[(unsigned char)cues[1]];
        if (cues[0] == '+') {
            loop_at_end(stage->loop, &actor->hook);
        } else {
            loop_not_at_end(stage->loop, &actor->hook);
        }
    }
    return *cues == '.' ? cues + 1 : cues;
}

static void on_hook(struct loop_hook *hook) {
    struct actor *actor = LIST_OWNER(hook, struct actor, hook);
    buf_append_u8(&actor->stage->played, (unsigned char)actor->name);
    actor->cues = give_cues(actor->stage, actor->cues);
}

/* The next turn: everything that was scheduled before has been called. */
static void on_next_turn(struct loop_timer *timer) {
    struct stage *stage = LIST_OWNER(timer, struct stage, timer);
    buf_append_u8(&stage->played, '|');
    loop_stop(stage->loop);
}

static const struct {
    const char *cues; /* before the turn ends */
    const char *cues_a;
    const char *cues_b;
    const char *played; /* up to the next turn, which is the bar */
} plays[] = {
    {"", "", "", "|"},           {"+a+b+c", "", "", "abc|"},       {"+c+a+b", "", "", "cab|"},
    {"+a+a+b+a", "", "", "ab|"}, /* once is enough */
    {"+a+b+c-b", "", "", "ac|"}, {"+a-a-a", "", "", "|"},          {"+a-a+a", "", "", "a|"},
    {"+a", "+b", "", "ab|"}, /* in the same end of turn */
    {"+a+b", "+c", "", "abc|"},  {"+a", "+a.+a.+a.", "", "aaaa|"}, {"+a", "+b.+b.", "+a.", "abab|"},
    {"+a+b", "-b", "", "a|"},    {"+a+b+c", "-b-c+d", "", "ad|"},  {"+a+b", "-b+b", "", "ab|"},
};

static void hooks_run_at_the_end_of_the_turn(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(plays); i++) {
        struct stage *stage = memory_new(sizeof *stage);
        stage->loop = loop_new();
        stage->timer.run = on_next_turn;
        for (int c = 'a'; c <= 'z'; c++) {
            stage->actors[c] = (struct actor){{.run = on_hook}, stage, (char)c, ""};
        }
        stage->actors['a'].cues = plays[i].cues_a;
        stage->actors['b'].cues = plays[i].cues_b;
        (void)give_cues(stage, plays[i].cues);
        loop_timer_start(stage->loop, &stage->timer, 0, 0);
        assert_true(run_for(stage->loop, 5000));
        assert_string_equal(buf_text(&stage->played), plays[i].played);
        loop_timer_stop(&stage->timer);
        loop_free(&stage->loop);
        buf_release(&stage->played);
        memory_free(stage);
    }
}

static void never_come_to_rest(void) {
    struct stage *stage = memory_new(sizeof *stage);
    struct buf endless = {0};
    for (int i = 0; i < 5000; i++) buf_append_text(&endless, "+a.");
    stage->loop = loop_new();
    stage->actors['a'] = (struct actor){{.run = on_hook}, stage, 'a', buf_text(&endless)};
    loop_at_end(stage->loop, &stage->actors['a'].hook);
    (void)run_for(stage->loop, 1000);
}

struct stopper {
    struct loop_hook hook;
    struct loop *loop;
};

static void on_stopper(struct loop_hook *hook) {
    loop_stop(LIST_OWNER(hook, struct stopper, hook)->loop);
}

static void a_hook_may_stop_the_loop(void **unused) {
    (void)unused;
    struct stopper stopper = {.hook = {.run = on_stopper}, .loop = loop_new()};
    for (unsigned i = 0; i < 2; i++) { /* a stop counts once */
        loop_at_end(stopper.loop, &stopper.hook);
        assert_true(run_for(stopper.loop, 20000));
    }
    loop_free(&stopper.loop);
}

static void hooks_must_come_to_rest(void **unused) {
    (void)unused;
    assert_true(dies(never_come_to_rest));
}

/* ---- timers */

struct band;

struct player {
    struct loop_timer timer;
    struct band *band;
    char name;
    unsigned plays_left; /* stops itself then */
    char stops;          /* stops this one, if it is not 0 */
    unsigned again_ms;   /* starts itself again once, if it is not 0 */
    bool is_last;
};

struct band {
    struct loop *loop;
    struct player *players[4];
    struct buf played;
};

static void on_play(struct loop_timer *timer) {
    struct player *player = LIST_OWNER(timer, struct player, timer);
    struct band *band = player->band;
    buf_append_u8(&band->played, (unsigned char)player->name);
    if (player->is_last) loop_stop(band->loop);
    if (player->stops != 0) loop_timer_stop(&band->players[player->stops - 'a']->timer);
    if (player->again_ms != 0) {
        loop_timer_start(band->loop, &player->timer, player->again_ms, 0);
        player->again_ms = 0;
    }
    if (player->plays_left == 0 || --player->plays_left > 0) return;
    /* Its memory goes at once, as that of a client whose timer closes it. */
    loop_timer_stop(timer);
    band->players[player->name - 'a'] = NULL;
    memory_free(player);
}

enum { MS = 8 }; /* far enough apart for a loaded machine: only the order counts */

static const struct {
    struct {
        unsigned first, repeat, plays;
        char stops;
        unsigned again;
    } players[3];
    unsigned last; /* when the last one ends it */
    const char *played;
} concerts[] = {
    {{{2, 0, 0, 0, 0}, {1, 0, 0, 0, 0}, {3, 0, 0, 0, 0}}, 4, "bac"},
    {{{1, 0, 1, 0, 0}, {1, 0, 1, 0, 0}, {1, 0, 1, 0, 0}}, 2, "abc"}, /* equal: in order of start */
    {{{0, 0, 1, 0, 0}, {1, 0, 0, 0, 0}}, 2, "ab"},
    {{{1, 1, 3, 0, 0}}, 25, "aaa"},
    {{{1, 1, 2, 0, 0}, {20, 0, 1, 0, 0}}, 25, "aab"},
    {{{1, 0, 0, 'b', 0}, {2, 0, 0, 0, 0}}, 3, "a"},
    {{{1, 0, 0, 'b', 0}, {1, 0, 0, 0, 0}}, 2, "a"}, /* due at the same time */
    {{{1, 0, 0, 'a', 0}}, 2, "a"},
    {{{1, 0, 0, 0, 2}, {2, 0, 0, 0, 0}}, 20, "aba"},
    {{{1, 2, 0, 0, 3}}, 20, "aa"}, /* a new start takes the repeating away */
};

static struct player *player_new(struct band *band, char name, unsigned first, unsigned repeat) {
    struct player *player = memory_new(sizeof *player);
    player->timer.run = on_play;
    player->band = band;
    player->name = name;
    loop_timer_start(band->loop, &player->timer, (uint64_t)first * MS, (uint64_t)repeat * MS);
    return player;
}

static void timers_play_in_order(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(concerts); i++) {
        struct band band = {.loop = loop_new()};
        for (unsigned p = 0; p < 3; p++) {
            unsigned first = concerts[i].players[p].first;
            if (first == 0 && concerts[i].players[p].plays == 0) continue;
            band.players[p] =
                player_new(&band, (char)('a' + p), first, concerts[i].players[p].repeat);
            band.players[p]->plays_left = concerts[i].players[p].plays;
            band.players[p]->stops = concerts[i].players[p].stops;
            band.players[p]->again_ms = concerts[i].players[p].again * MS;
        }
        band.players[3] = player_new(&band, '.', concerts[i].last, 0);
        band.players[3]->is_last = true;
        assert_true(run_for(band.loop, 5000));
        buf_truncate(&band.played, buf_length(&band.played) - 1);
        if (strcmp(buf_text(&band.played), concerts[i].played) != 0)
            fail_msg("row %zu: \"%s\"", i, buf_text(&band.played));
        for (unsigned p = 0; p < 4; p++) {
            if (band.players[p] != NULL) loop_timer_stop(&band.players[p]->timer);
            memory_free(band.players[p]);
        }
        loop_free(&band.loop);
        buf_release(&band.played);
    }
}

/* Nor late, because another one is due much later. */
static void timers_are_not_early(void **unused) {
    (void)unused;
    static const unsigned waits[] = {0, 1, 7, 30};
    for (size_t i = 0; i < COUNT(waits); i++) {
        struct band band = {.loop = loop_new()};
        struct player last = {.timer.run = on_play, .band = &band, .name = '.', .is_last = true};
        struct player later = {.timer.run = on_play, .band = &band, .name = '+'};
        loop_timer_start(band.loop, &later.timer, 4000, 0);
        uint64_t before = clock_monotonic_us();
        loop_timer_start(band.loop, &last.timer, waits[i], 0);
        assert_true(run_for(band.loop, 5000));
        assert_true(clock_monotonic_us() - before >= waits[i] * US_PER_MS);
        assert_string_equal(buf_text(&band.played), ".");
        loop_timer_stop(&later.timer);
        loop_timer_stop(&last.timer);
        loop_timer_stop(&last.timer); /* idempotent */
        loop_free(&band.loop);
        buf_release(&band.played);
    }
}

/* ---- the clock */

struct clockwork {
    struct loop *loop;
    struct loop_timer timer;
    uint64_t seen[3];
    unsigned turns;
    unsigned differences;
};

static void on_turn(struct loop_timer *timer) {
    struct clockwork *clockwork = LIST_OWNER(timer, struct clockwork, timer);
    uint64_t now = loop_now_us(clockwork->loop);
    while (clock_monotonic_us() < now + 2 * US_PER_MS) continue;
    if (loop_now_us(clockwork->loop) != now) clockwork->differences++;
    clockwork->seen[clockwork->turns++] = now;
    if (clockwork->turns == COUNT(clockwork->seen)) loop_stop(clockwork->loop);
}

static void a_turn_has_one_time(void **unused) {
    (void)unused;
    struct clockwork clockwork = {.loop = loop_new(), .timer.run = on_turn};
    uint64_t before = clock_monotonic_us();
    loop_timer_start(clockwork.loop, &clockwork.timer, 1, 1);
    assert_true(run_for(clockwork.loop, 5000));
    assert_int_equal(clockwork.differences, 0);
    assert_true(clockwork.seen[0] >= before);
    assert_true(clockwork.seen[1] >= clockwork.seen[0] + 2 * US_PER_MS);
    assert_true(clockwork.seen[2] >= clockwork.seen[1] + 2 * US_PER_MS);
    loop_timer_stop(&clockwork.timer);
    loop_free(&clockwork.loop);
}

/* ---- signals */

struct signals {
    struct loop *loop;
    int sum;
};

static void on_signal(void *context, int signal_number) {
    struct signals *signals = context;
    signals->sum += signal_number;
    if (signals->sum == SIGUSR1 + SIGUSR2) loop_stop(signals->loop);
}

static void signals_come_to_the_loop(void **unused) {
    (void)unused;
    struct signals signals = {.loop = loop_new()};
    loop_set_context(signals.loop, &signals);
    loop_on_signal(signals.loop, SIGUSR1, on_signal);
    loop_on_signal(signals.loop, SIGUSR2, on_signal);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(signals.sum, 0); /* not in the handler's own context */
    assert_true(run_for(signals.loop, 5000));
    assert_int_equal(signals.sum, SIGUSR1 + SIGUSR2);
    loop_free(&signals.loop);
    loop_free(&signals.loop);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_from_threads_arrives_in_order),
        cmocka_unit_test(mail_may_send_mail),
        cmocka_unit_test(hooks_run_at_the_end_of_the_turn),
        cmocka_unit_test(a_hook_may_stop_the_loop),
        cmocka_unit_test(hooks_must_come_to_rest),
        cmocka_unit_test(timers_play_in_order),
        cmocka_unit_test(timers_are_not_early),
        cmocka_unit_test(a_turn_has_one_time),
        cmocka_unit_test(signals_come_to_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
