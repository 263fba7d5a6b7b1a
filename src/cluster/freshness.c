/*
 * Freshness: numbers, floors, samples; see cluster/freshness.h for the rule.
 *
 * Memory orders. The chain that the rule needs runs through the kernel: the prober's store of n,
 * its send of the question, the primary's receipt; then the write's log record, the answer's
 * receipt by a worker, its load of k. Each send releases what its thread did before to whoever
 * receives, so the load, which happens after the store on that chain, reads n or more. The store
 * releases and the load acquires so that the same holds between threads of this process alone,
 * which is what the tests can check.
 *
 * The floor is raised before the answer is sent on, hence a client that has seen the answer, and
 * whoever it tells, reaches a worker that reads the raised floor.
 *
 * A node's pair is one word, so `covers` and `sampled` always belong together. The incarnation is
 * stored before the first pair of that incarnation, and a reader takes the pair first: who sees
 * the new pair sees the new incarnation too, so that no session mistakes a node that came back
 * for the one it has read from.
 */
#include "cluster/freshness.h"

#include "core/check.h"

#include <stddef.h>

#define FLOORS_COUNT         4096u /* a power of two; 16 kB */
#define PAGE_BYTES           8192u
#define PAGE_HEADER_BYTES    24u
#define SEGMENT_HEADER_BYTES 40u

static _Atomic uint32_t latest = 1;

/* Three kinds of floors share one table, so that two keys may share an entry, which only sends some
 * reads to the primary:
 *
 *      of a relation        raised by writes that are known to reach it
 *      OF_UNKNOWN           of a database: raised by writes that may reach anything
 *      OF_ALL               of a database: raised by every write
 *
 * Who reads some relations looks at theirs and at OF_UNKNOWN; who may read anything at OF_ALL. */
static _Atomic uint32_t floors[FLOORS_COUNT];
#define OF_UNKNOWN 0u
#define OF_ALL     1u

#define SCHEMAS_COUNT 1024u
static _Atomic uint32_t schemas[SCHEMAS_COUNT];

uint32_t freshness_now(void) {
    return atomic_load_explicit(&latest, memory_order_acquire);
}

uint32_t freshness_next(void) {
    /* Several probers share the number, all on worker 0: it has a single writer. */
    uint32_t next = atomic_load_explicit(&latest, memory_order_relaxed);
    if (next == UINT32_MAX) return next;
    next++;
    atomic_store_explicit(&latest, next, memory_order_seq_cst);
    return next;
}

static _Atomic uint32_t *floor_of(uint64_t hash, unsigned kind) {
    return &floors[(hash + kind) & (FLOORS_COUNT - 1)];
}

static void raise_floor(_Atomic uint32_t *floor, uint32_t now) {
    uint32_t seen = atomic_load_explicit(floor, memory_order_relaxed);
    bool is_raised = false;
    while (!is_raised && seen < now) {
        is_raised = atomic_compare_exchange_weak_explicit(floor, &seen, now, memory_order_acq_rel,
                                                          memory_order_relaxed);
    }
}

uint32_t freshness_raise(uint64_t database_hash, const struct reach *writes) {
    uint32_t now = freshness_now();
    bool is_all = writes == NULL || writes->is_all;
    if (is_all) raise_floor(floor_of(database_hash, OF_UNKNOWN), now);
    for (uint32_t i = 0; !is_all && i < writes->count; i++)
        raise_floor(floor_of(writes->keys[i], 0), now);
    if (is_all || writes->count > 0) raise_floor(floor_of(database_hash, OF_ALL), now);
    return now;
}

uint32_t freshness_raise_everywhere(void) {
    uint32_t now = freshness_now();
    for (unsigned i = 0; i < FLOORS_COUNT; i++) raise_floor(&floors[i], now);
    return now;
}

uint32_t freshness_schema(uint64_t database_hash) {
    return atomic_load_explicit(&schemas[database_hash % SCHEMAS_COUNT], memory_order_acquire);
}

void freshness_schema_changed(uint64_t database_hash) {
    (void)atomic_fetch_add(&schemas[database_hash % SCHEMAS_COUNT], 1);
}

void freshness_hold(void) {
    for (unsigned i = 0; i < FLOORS_COUNT; i++) atomic_store(&floors[i], UINT32_MAX);
}

void freshness_unhold(void) {
    uint32_t now = freshness_now();
    for (unsigned i = 0; i < FLOORS_COUNT; i++) atomic_store(&floors[i], now);
}

uint32_t freshness_floor(uint64_t database_hash, const struct reach *reads) {
    bool is_all = reads == NULL || reads->is_all;
    uint32_t highest = atomic_load_explicit(floor_of(database_hash, is_all ? OF_ALL : OF_UNKNOWN),
                                            memory_order_acquire);
    for (uint32_t i = 0; !is_all && i < reads->count; i++) {
        uint32_t floor = atomic_load_explicit(floor_of(reads->keys[i], 0), memory_order_acquire);
        if (floor > highest) highest = floor;
    }
    return highest == 0 ? 1 : highest;
}

/* Judges one loaded pair, so that both halves come from the same sample. */
static bool pair_suits(const struct node *node, uint64_t pair, const struct freshness_need *need) {
    uint32_t covers = freshness_covers(pair);
    if (freshness_sampled(pair) == 0) return false;
    if (need->floor > 0 && covers <= need->floor) return false;
    if (need->stick_node < 0) return true;
    bool is_same =
        need->stick_node == (int)node->index && need->stick_incarnation == node_incarnation(node);
    return is_same || covers > need->stick_round;
}

bool node_may_cover(const struct node *node, const struct freshness_need *need) {
    uint64_t pair = atomic_load_explicit(&node->freshness, memory_order_acquire);
    return pair_suits(node, pair, need);
}

bool node_covers(const struct node *node, const struct freshness_need *need, uint32_t login_round) {
    uint64_t pair = atomic_load_explicit(&node->freshness, memory_order_acquire);
    if (freshness_sampled(pair) <= login_round) return false;
    if (login_round < atomic_load_explicit(&node->reset_round, memory_order_acquire)) return false;
    return pair_suits(node, pair, need);
}

void node_sample(struct node *node, uint32_t covers, uint32_t sampled) {
    CHECK(covers <= freshness_now() && sampled <= freshness_now());
    uint64_t pair = (uint64_t)covers << 32 | sampled;
    atomic_store_explicit(&node->freshness, pair, memory_order_release);
}

void node_renew(struct node *node, bool is_reset) {
    node_sample(node, 0, 0);
    atomic_fetch_add_explicit(&node->incarnation, 1, memory_order_release);
    if (!is_reset) return;
    /* A login that is over has loaded a smaller number; one that comes loads this or more. */
    atomic_store_explicit(&node->reset_round, freshness_next(), memory_order_release);
}

uint64_t freshness_replay_goal(uint64_t insert_lsn, uint32_t segment_bytes) {
    uint64_t in_segment = insert_lsn % segment_bytes;
    if (in_segment < PAGE_BYTES) {
        return in_segment == SEGMENT_HEADER_BYTES ? insert_lsn - SEGMENT_HEADER_BYTES : insert_lsn;
    }
    if (in_segment % PAGE_BYTES == PAGE_HEADER_BYTES) return insert_lsn - PAGE_HEADER_BYTES;
    return insert_lsn;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Reads 1 to 8 hexadecimal digits; returns how many, 0 if there are none or too many. */
static size_t read_half(const char *text, uint64_t *value) {
    size_t len = 0;
    *value = 0;
    for (int digit; (digit = hex_value(text[len])) >= 0; len++) {
        if (len == 8) return 0;
        *value = *value << 4 | (unsigned)digit;
    }
    return len;
}

bool freshness_parse_lsn(const char *text, uint64_t *lsn) {
    uint64_t high, low;
    size_t high_len = read_half(text, &high);
    if (high_len == 0 || text[high_len] != '/') return false;
    const char *rest = text + high_len + 1;
    size_t low_len = read_half(rest, &low);
    if (low_len == 0 || rest[low_len] != '\0') return false;
    *lsn = high << 32 | low;
    return true;
}

/* Makes room by forgetting the entry that is missed least: the one whose neighbours are closest
 * together for their age. What stays is true, and the gaps grow with the age, so that a replica
 * far behind covers a little less than it could and one close behind loses nothing. */
static void forget_one(struct freshness_history *history) {
    uint32_t newest = history->entries[history->count - 1].number;
    unsigned chosen = 1;
    double least = 2;
    for (unsigned i = 1; i + 1 < history->count; i++) {
        uint32_t before = history->entries[i - 1].number;
        double gap = history->entries[i + 1].number - before;
        double share = gap / (newest - before);
        if (share >= least) continue;
        least = share;
        chosen = i;
    }
    history->count--;
    memmove(&history->entries[chosen], &history->entries[chosen + 1],
            (history->count - chosen) * sizeof history->entries[0]);
}

void freshness_history_add(struct freshness_history *history, uint32_t number, uint32_t timeline,
                           uint64_t lsn, uint64_t now_us) {
    if (history->count > 0) {
        uint64_t last = history->entries[history->count - 1].lsn;
        if (history->timeline != timeline || lsn < last) history->count = 0;
    }
    history->timeline = timeline;
    if (history->count > 0 && history->entries[history->count - 1].lsn == lsn) {
        history->entries[history->count - 1].number = number;
        history->entries[history->count - 1].seen_us = now_us;
        return;
    }
    if (history->count == FRESHNESS_HISTORY_MAX) forget_one(history);
    history->entries[history->count].number = number;
    history->entries[history->count].lsn = lsn;
    history->entries[history->count].seen_us = now_us;
    history->count++;
}

uint64_t freshness_history_age_us(const struct freshness_history *history, uint64_t lsn,
                                  uint64_t now_us) {
    for (unsigned i = history->count; i > 0; i--) {
        if (history->entries[i - 1].lsn > lsn) continue;
        return i == history->count ? 0 : now_us - history->entries[i - 1].seen_us;
    }
    return UINT64_MAX;
}

uint32_t freshness_history_covers(const struct freshness_history *history, uint32_t timeline,
                                  uint64_t lsn) {
    if (timeline == 0 || timeline != history->timeline) return 0;
    for (unsigned i = history->count; i > 0; i--) {
        if (history->entries[i - 1].lsn <= lsn) return history->entries[i - 1].number;
    }
    return 0;
}
