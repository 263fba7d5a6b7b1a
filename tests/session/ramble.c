/*
 * Rambling scripts; see ramble.h. Nobody waits for an answer before the next line, so that groups
 * pile up; a pause now and then lets them drain. The maker knows which statements each client has,
 * since one that does not exist, or exists already, ends a client's connection behind a pooler.
 */
#include "ramble.h"

#include "core/check.h"

#define CLIENTS   3u
#define NAMES     4u
#define LINES_MAX 24u
#define PARTS_MAX 3u

struct speaker {
    bool has[NAMES];
    bool is_in_transaction;
    bool is_failed; /* the transaction is */
};

struct rambler {
    struct dice dice;
    struct buf script;
    struct speaker speakers[CLIENTS];
    bool is_routed;
};

static struct buf script;

static struct scenario settings_of[RAMBLE_SETTINGS] = {
    {.name = "rambling, one server", .settings = "default_pool_size = 1\nauth_type = trust\n"},
    {.name = "rambling, two servers", .settings = "default_pool_size = 2\nauth_type = trust\n"},
    {.name = "rambling, one server, few statements",
     .settings = "default_pool_size = 1\nauth_type = trust\nmax_prepared_statements = 2\n"},
    {.name = "rambling, two servers, few statements",
     .settings = "default_pool_size = 2\nauth_type = trust\nmax_prepared_statements = 2\n"},
    {.name = "rambling, routed, one server of each node",
     .settings = "default_pool_size = 1\nauth_type = trust\n",
     .is_routed = true},
    {.name = "rambling, routed, two servers of each node, few statements",
     .settings = "default_pool_size = 2\nauth_type = trust\nmax_prepared_statements = 2\n",
     .is_routed = true},
};

/* Groups that change nothing about the client, but that an error ends a transaction. */
static const struct {
    const char *words;
    bool fails;
} groups[] = {
    {"Q SELECT $", false},
    {"Q SELECT $;NOTICE $;SELECT $", false},
    {"Q SELECT $;ERROR $;SELECT $", true},
    {"Q", false},
    {"Q ROWS 20 100 $", false},
    {"Q COPYOUT 3 30 $", false},
    {"Q COPYIN $ | d 30 | d 5 | c", false},
    {"Q COPYIN $;SELECT $ | d 3 | f $", true},
    {"Q COPYBAD $ | d 30 | d 5 | c", true},
    {"Q SHOW TimeZone $;SHOW application_name $", false},
    {"Q SET TimeZone CET", false},
    {"Q SET TimeZone UTC", false},
    {"Q SET application_name $", false},
    {"Q SET DateStyle bad", true},
    {"P - SELECT $ | B - - $ | D P - | E - | S", false},
    {"P - SELECT $ | D S - | S | B - - $ | E - | S", false},
    {"P - SELECT $ | B - - $ | H | D P - | E - | H | S", false},
    {"P - ERROR $ | B - - | E - | P - SELECT $ | B - - | E - | S", true},
    {"P - ROWS 9 20 $ | B c - | E c 4 | E c 4 | C P c | S", false},
    {"P - COPYIN $ | B - - | E - | S | d 9 | c | S", false},
    {"P - COPYIN $ | B - - | E - | d 9 | c | S", false},
    {"P - COPYBAD $ | B - - | E - | S | d 9 | c | S", true},
    {"P - SHOW TimeZone $ | B - - | E - | S", false},
    {"S", false},
    /* With routing: */
    {"Q SELECT standby, $", false},
    {"P - SELECT standby, $ | B - - $ | D P - | E - | S", false},
};
#define ROUTED_GROUPS 2u

static void add_name_part(struct rambler *rambler, struct speaker *speaker, bool *has_failed) {
    unsigned name = (unsigned)dice_roll(&rambler->dice, NAMES);
    struct buf *out = &rambler->script;
    if (!speaker->has[name]) {
        buf_append_format(out, "P n%u SELECT $ | ", name);
        if (!*has_failed) speaker->has[name] = true;
        return;
    }
    switch (dice_roll(&rambler->dice, 8)) {
    case 0:
        buf_append_format(out, "C S n%u | ", name);
        if (!*has_failed) speaker->has[name] = false;
        break;
    case 1:
        buf_append_format(out, "D S n%u | ", name);
        break;
    case 2:
        buf_append_text(out, "P - ERROR $ | B - - | E - | ");
        *has_failed = true;
        break;
    default:
        buf_append_format(out, "B - n%u $ | E - | ", name);
        break;
    }
}

/* One group about named statements. A part behind an error is skipped and changes nothing. */
static void add_named(struct rambler *rambler, struct speaker *speaker) {
    bool has_failed = false;
    unsigned parts = 1 + (unsigned)dice_roll(&rambler->dice, PARTS_MAX);
    while (parts-- > 0 && !has_failed) add_name_part(rambler, speaker, &has_failed);
    /* What follows the error: names are left alone, since which ones there are is known no more
     * than to the model. */
    if (has_failed) buf_append_text(&rambler->script, "B - - | E - | ");
    if (has_failed) speaker->is_failed = speaker->is_in_transaction;
    buf_append_text(&rambler->script, "S");
}

static void add_transaction(struct rambler *rambler, struct speaker *speaker) {
    static const char *const ends[] = {"COMMIT", "ROLLBACK"};
    static const char *const begins[] = {"BEGIN", "BEGIN READ ONLY"};
    const char *const *choice = speaker->is_in_transaction ? ends : begins;
    bool is_varied = speaker->is_in_transaction || rambler->is_routed;
    const char *word = choice[is_varied ? dice_roll(&rambler->dice, 2) : 0];
    if (!rambler->is_routed || dice_hits(&rambler->dice, 2)) {
        buf_append_format(&rambler->script, "Q %s", word);
    } else {
        buf_append_format(&rambler->script, "P - %s | B - - | D P - | E - | S", word);
    }
    speaker->is_in_transaction = !speaker->is_in_transaction;
    speaker->is_failed = false;
}

static void add_group(struct rambler *rambler, struct speaker *speaker) {
    size_t count = COUNT(groups) - (rambler->is_routed ? 0 : ROUTED_GROUPS);
    size_t choice = dice_roll(&rambler->dice, count);
    buf_append_text(&rambler->script, groups[choice].words);
    if (groups[choice].fails) speaker->is_failed = speaker->is_in_transaction;
}

static void add_line(struct rambler *rambler, unsigned client) {
    struct speaker *speaker = &rambler->speakers[client];
    buf_append_format(&rambler->script, "%c& ", 'A' + (int)client);
    size_t choice = dice_roll(&rambler->dice, 10);
    if (choice < 4 && !speaker->is_failed) {
        add_named(rambler, speaker);
    } else if (choice < 6) {
        add_transaction(rambler, speaker);
    } else {
        add_group(rambler, speaker);
    }
    buf_append_u8(&rambler->script, '\n');
    if (dice_hits(&rambler->dice, 5))
        buf_append_format(&rambler->script, "- time %zu\n", 1 + dice_roll(&rambler->dice, 12));
}

const struct scenario *ramble(unsigned settings, uint64_t seed) {
    static const char *const logins[] = {"", " TimeZone=CET", " application_name=own"};
    struct rambler rambler = {.dice = {.state = seed * 31 + settings}, .script = script};
    rambler.is_routed = settings_of[settings].is_routed;
    buf_clear(&rambler.script);
    for (unsigned i = 0; i < CLIENTS; i++)
        buf_append_format(&rambler.script, "%c& login%s\n", 'A' + (int)i,
                          logins[dice_roll(&rambler.dice, COUNT(logins))]);
    for (size_t lines = 6 + dice_roll(&rambler.dice, LINES_MAX - 6); lines > 0; lines--)
        add_line(&rambler, (unsigned)dice_roll(&rambler.dice, CLIENTS));
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (rambler.speakers[i].is_in_transaction)
            buf_append_format(&rambler.script, "%c& Q ROLLBACK\n", 'A' + (int)i);
    }
    buf_append_text(&rambler.script, "A wait\nB wait\nC wait");
    script = rambler.script;
    settings_of[settings].script = buf_text(&script);
    return &settings_of[settings];
}

unsigned ramble_settings(const struct scenario *scenario) {
    for (unsigned i = 0; i < RAMBLE_SETTINGS; i++) {
        if (scenario == &settings_of[i]) return i;
    }
    return RAMBLE_SETTINGS;
}

void ramble_forget(void) {
    buf_release(&script);
}
