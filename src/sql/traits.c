/*
 * The cache of traits.
 *
 *      text -- fits the pattern of a shape in the cache -------------------> traits
 *           -> lexer -> shape --- in the cache ----------------------------> traits
 *                             `-- not: short -- parse ---------------------> traits, kept
 *                                      longer - job -----------------------> anything, kept until
 *                                                                            the job comes back
 *                                      too many misses, or no room for a job: anything, not kept
 *
 * A hit by its pattern (pattern.h) costs a fraction of the lexer, whose code and tables have left
 * the processor's caches by the time a worker comes back to them. Shapes are compared in full. The
 * least recently used one goes when there are too many, by number or by bytes. A text that is
 * longer than its shape, such as an IN list of a thousand constants, may be parsed by its shape:
 * that is a text of the same meaning (sql/lex.h).
 *
 * Misses cost microseconds for each token and come from outside, so a cache pays for only so
 * many tokens a second. Hits allocate nothing; the lexer's output lies in a buffer that is kept.
 */
#include "sql/traits.h"

#include "core/buf.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/list.h"
#include "core/map.h"
#include "core/memory.h"
#include "sql/facts.h"
#include "sql/lex.h"
#include "sql/parse.h"

#include "pattern.h"

#include <stdio.h>

/* At about 2.5 us each this is a tenth of a core, and as much at once after a quiet second. */
#define MISS_TOKENS_PER_SECOND 40000u
/* So many bytes cost as much as a token. */
#define MISS_BYTES_PER_TOKEN 256u
/* A longer text is parsed by its shape, which has no comments: PostgreSQL's scanner takes time with
 * the square of how deep they are nested. */
#define TEXT_BYTES_MAX 512u
/* A worker parses at most so many bytes for each token that it would parse itself. */
#define INLINE_BYTES_PER_TOKEN 64u
/* Memory for shapes and names, for each shape that a cache may hold. */
#define BYTES_PER_SHAPE 1024u
/* Entries found by their patterns; a power of two. */
#define PATTERN_SLOTS 1024u

#define ANYTHING (TRAITS_ANYTHING | TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE | TRAITS_RUNS_UNKNOWN)

#define UNRESOLVED UINT32_MAX

struct entry {
    struct map_node node; /* its key is the shape */
    struct link used;     /* in the order of last use, latest first */
    struct traits traits;
    struct findings found; /* without its names */
    uint32_t hints;
    uint32_t corrected; /* the same when a replica refused it: for as long as those facts hold */
    bool is_corrected;
    uint32_t lexed_hits; /* hits that cost a lexer's run */
    uint32_t slot;       /* where `pattern` is found */
    size_t bytes;
    char *shape;
    char *names;
    struct pattern *pattern; /* NULL: none yet */
};

struct traits_cache {
    struct map map;
    struct list used;
    struct entry *slots[PATTERN_SLOTS]; /* by the keys of their patterns */
    size_t shapes_max;
    size_t bytes;
    unsigned inline_tokens;
    bool has_sink;
    struct traits_job_sink sink;
    uint64_t paid_us; /* when `tokens_left` was last filled up */
    uint64_t tokens_left;
    char *shape_memory;
    size_t shape_memory_size;
    struct buf names;
    struct traits loose; /* the answer for what is not in the cache */
    struct traits_cache_stats stats;
};

struct traits_job {
    char *text;
    char *shape;
    size_t shape_len;
    uint32_t hints;
    struct findings findings;
    struct buf names;
};

struct traits_cache *traits_cache_new(size_t shapes_max, unsigned inline_tokens,
                                      const struct traits_job_sink *sink) {
    struct traits_cache *cache = memory_new(sizeof *cache);
    list_init(&cache->used);
    cache->shapes_max = shapes_max == 0 ? 1 : shapes_max;
    cache->inline_tokens =
        inline_tokens > TRAITS_INLINE_TOKENS_MAX ? TRAITS_INLINE_TOKENS_MAX : inline_tokens;
    cache->tokens_left = MISS_TOKENS_PER_SECOND;
    if (sink != NULL) {
        cache->has_sink = true;
        cache->sink = *sink;
    }
    return cache;
}

static void entry_drop(struct traits_cache *cache, struct entry *entry) {
    map_remove(&cache->map, &entry->node);
    list_remove(&cache->used, &entry->used);
    cache->bytes -= entry->bytes;
    if (entry->pattern != NULL && cache->slots[entry->slot] == entry)
        cache->slots[entry->slot] = NULL;
    memory_free(entry->pattern);
    memory_free(entry->shape);
    memory_free(entry->names);
    memory_free(entry);
}

/* Sets the reason, cut to fit. */
static void say_why(struct traits *traits, const char *before, const char *why) {
    int len = snprintf(traits->why, sizeof traits->why, "%s%s", before, why);
    CHECK(len >= 0);
}

/* A replica refused it: no parse takes that back. */
static void entry_correct(struct entry *entry) {
    entry->is_corrected = true;
    entry->corrected = entry->traits.generation;
    entry->traits.flags |= TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE;
    say_why(&entry->traits, "", "a replica refused it");
}

void traits_cache_free(struct traits_cache **cache) {
    if (*cache == NULL) return;
    struct link *link;
    while ((link = list_first(&(*cache)->used)) != NULL) {
        entry_drop(*cache, LIST_OWNER(link, struct entry, used));
    }
    map_release(&(*cache)->map);
    buf_release(&(*cache)->names);
    memory_free((*cache)->shape_memory);
    memory_free(*cache);
    *cache = NULL;
}

/* ---- Answers that no entry has ---- */

static const struct traits *loose_anything(struct traits_cache *cache, uint32_t hints,
                                           const char *why) {
    cache->loose =
        (struct traits){.flags = ANYTHING | hints, .reads.is_all = true, .writes.is_all = true};
    say_why(&cache->loose, "", why);
    return &cache->loose;
}

static const struct traits *refused(struct traits_cache *cache, const char *why) {
    cache->stats.refused++;
    cache->loose = (struct traits){.flags = ANYTHING, .reads.is_all = true, .writes.is_all = true};
    say_why(&cache->loose, "not understood: ", why);
    return &cache->loose;
}

/* The encodings whose bytes the lexer can read one by one: no character has an ASCII byte as its
 * second one (PostgreSQL's manual, section 24.3). Without the signs that PostgreSQL passes over. */
static const char *const safe_encodings[] = {
    "utf8",        "unicode",     "sqlascii",    "euccn",       "eucjp",       "eucjis2004",
    "euckr",       "euctw",       "latin1",      "latin2",      "latin3",      "latin4",
    "latin5",      "latin6",      "latin7",      "latin8",      "latin9",      "latin10",
    "iso88591",    "iso88592",    "iso88593",    "iso88594",    "iso88595",    "iso88596",
    "iso88597",    "iso88598",    "iso88599",    "iso885910",   "iso885913",   "iso885914",
    "iso885915",   "iso885916",   "koi8r",       "koi8",        "koi8u",       "win866",
    "alt",         "win874",      "win1250",     "win1251",     "win1252",     "win",
    "win1253",     "win1254",     "win1255",     "win1256",     "win1257",     "win1258",
    "tcvn",        "tcvn5712",    "vscii",       "abc",         "windows866",  "windows874",
    "windows1250", "windows1251", "windows1252", "windows1253", "windows1254", "windows1255",
    "windows1256", "windows1257", "windows1258"};

static bool encoding_is_safe(const char *encoding) {
    if (encoding == NULL || strcmp(encoding, "UTF8") == 0) return true;
    char plain[16];
    size_t len = 0;
    for (const char *p = encoding; *p != '\0'; p++) {
        char c = char_lower(*p);
        if ((c < 'a' || c > 'z') && (c < '0' || c > '9')) continue;
        if (len == sizeof plain - 1) return false;
        plain[len++] = c;
    }
    plain[len] = '\0';
    for (size_t i = 0; i < COUNT(safe_encodings); i++) {
        if (strcmp(plain, safe_encodings[i]) == 0) return true;
    }
    return false;
}

/* Why a text of that length is not lexed under these settings, or NULL. */
/* Without a backslash a string is read alike with and without standard_conforming_strings. */
static const char *why_unread(const struct traits_context *context, struct bytes text) {
    bool is_plain = context->standard_conforming_strings || memchr(text.at, '\\', text.len) == NULL;
    if (!encoding_is_safe(context->client_encoding)) return "this client_encoding is not read";
    if (!is_plain) return "standard_conforming_strings is off";
    if (!context->safe_backslash_quote) return "backslash_quote is not safe_encoding";
    return text.len > LEX_TEXT_BYTES_MAX ? "too long" : NULL;
}

/* Lexes a text that may be read; on false result->refused says why nothing is known of it. */
static bool lex(struct traits_cache *cache, struct bytes text, struct lex_result *result) {
    size_t size = LEX_SHAPE_BYTES(text.len);
    if (size > cache->shape_memory_size) {
        memory_free(cache->shape_memory);
        cache->shape_memory = memory_new(size);
        cache->shape_memory_size = size;
    }
    return lex_text(text, cache->shape_memory, result);
}

static uint32_t hints_of(const struct lex_result *lexed) {
    return (lexed->hint_primary ? TRAITS_HINT_PRIMARY : 0u) |
           (lexed->hint_replica ? TRAITS_HINT_REPLICA : 0u);
}

/* ---- Entries ---- */

static struct entry *entry_find(struct traits_cache *cache, struct bytes shape) {
    struct map_node *node = map_find(&cache->map, shape);
    return node == NULL ? NULL : MAP_OWNER(node, struct entry, node);
}

/* Adds an entry for a shape that has none; the least recently used make room for it. */
static struct entry *entry_add(struct traits_cache *cache, struct bytes shape) {
    struct entry *entry = memory_new(sizeof *entry);
    entry->shape = memory_copy(shape.at, shape.len);
    entry->bytes = shape.len;
    cache->bytes += shape.len;
    map_add(&cache->map, &entry->node, bytes_of(entry->shape, shape.len));
    list_prepend(&cache->used, &entry->used);
    while (cache->used.count > cache->shapes_max ||
           (cache->bytes > cache->shapes_max * BYTES_PER_SHAPE && cache->used.count > 1)) {
        entry_drop(cache, LIST_OWNER(list_last(&cache->used), struct entry, used));
    }
    return entry;
}

static void entry_touch(struct traits_cache *cache, struct entry *entry) {
    if (list_first(&cache->used) == &entry->used) return;
    list_remove(&cache->used, &entry->used);
    list_prepend(&cache->used, &entry->used);
}

static void entry_count_bytes(struct traits_cache *cache, struct entry *entry) {
    size_t pattern = entry->pattern == NULL ? 0 : sizeof *entry->pattern + entry->pattern->len;
    size_t bytes = entry->node.key.len + entry->traits.names.len + pattern;
    cache->bytes += bytes - entry->bytes;
    entry->bytes = bytes;
}

static struct entry *entry_of_pattern(const struct traits_cache *cache, struct bytes text) {
    if (text.len == 0 || text.len > PATTERN_TEXT_MAX) return NULL;
    /* Often it is the last one again. */
    struct link *first = list_first(&cache->used);
    struct entry *last = first == NULL ? NULL : LIST_OWNER(first, struct entry, used);
    if (last != NULL && last->pattern != NULL && pattern_fits(last->pattern, text)) return last;
    struct entry *entry = cache->slots[pattern_key(text) & (PATTERN_SLOTS - 1)];
    return entry != NULL && pattern_fits(entry->pattern, text) ? entry : NULL;
}

/* Makes the text the entry's pattern, in place of an older one that has missed so often. The shape
 * memory is used. */
static void entry_learn(struct traits_cache *cache, struct entry *entry, struct bytes text) {
    entry->lexed_hits++;
    bool is_due = (entry->lexed_hits & (entry->lexed_hits - 1)) == 0; /* 1, 2, 4, 8 ... */
    if (!is_due || text.len > PATTERN_TEXT_MAX) return;
    if (entry->pattern != NULL && cache->slots[entry->slot] == entry)
        cache->slots[entry->slot] = NULL;
    memory_free(entry->pattern);
    entry->pattern = pattern_new(text);
    entry->slot = pattern_key(text) & (PATTERN_SLOTS - 1);
    char varied[PATTERN_TEXT_MAX];
    struct lex_result lexed;
    bool is_same = lex(cache, pattern_vary(entry->pattern, varied), &lexed) &&
                   bytes_equal(lexed.shape, entry->node.key);
    if (!is_same) entry->pattern->holes_count = 0; /* only the very same text is known by it */
    cache->slots[entry->slot] = entry;
    entry_count_bytes(cache, entry);
}

static uint32_t generation_of(const struct facts *facts) {
    return facts == NULL ? 0 : facts_generation(facts);
}

/* What the entry's names stand for now; what a replica has refused may be another thing then. */
static void entry_resolve(struct entry *entry, const struct facts *facts) {
    facts_resolve(facts, &entry->found, entry->traits.names, &entry->traits);
    entry->traits.flags |= entry->hints;
    entry->traits.generation = generation_of(facts);
    bool is_other = entry->corrected != 0 && entry->corrected != entry->traits.generation;
    if (entry->is_corrected && !is_other) entry_correct(entry);
}

/* Fills an entry with what a parse has found. */
static void entry_fill(struct traits_cache *cache, struct entry *entry,
                       const struct findings *found, uint32_t hints) {
    struct bytes names = buf_content(found->names);
    memory_free(entry->names);
    entry->names = memory_copy(names.at, names.len);
    entry->found = *found;
    entry->found.names = NULL;
    entry->hints = hints;
    entry->traits = (struct traits){.names = bytes_of(entry->names, names.len),
                                    .names_complete = !found->names_cut};
    memcpy(entry->traits.parameter, found->parameter, sizeof found->parameter);
    entry->traits.generation = UNRESOLVED;
    entry_count_bytes(cache, entry);
}

/* The same for one of which nothing is known. */
static void entry_fill_anything(struct entry *entry, uint32_t hints, const char *why) {
    entry->found = (struct findings){.names = NULL};
    findings_note(&entry->found, ANYTHING, "%s", why);
    entry->hints = hints;
    entry->traits.generation = UNRESOLVED;
}

/* ---- Misses ---- */

/* Takes what a parse of so many tokens costs out of this second's share; false if it is used up. */
static bool pay(struct traits_cache *cache, uint64_t tokens, uint64_t now_us) {
    uint64_t elapsed_us = now_us > cache->paid_us ? now_us - cache->paid_us : 0;
    if (elapsed_us > US_PER_S) elapsed_us = US_PER_S;
    uint64_t earned = elapsed_us * MISS_TOKENS_PER_SECOND / US_PER_S;
    if (earned > 0 || now_us < cache->paid_us) cache->paid_us = now_us;
    cache->tokens_left += earned;
    if (cache->tokens_left > MISS_TOKENS_PER_SECOND) cache->tokens_left = MISS_TOKENS_PER_SECOND;
    if (cache->tokens_left < tokens) return false;
    cache->tokens_left -= tokens;
    return true;
}

static struct entry *parse_now(struct traits_cache *cache, struct bytes text,
                               const struct lex_result *lexed) {
    char *copy = memory_copy(text.at, text.len);
    buf_clear(&cache->names);
    struct findings found = {.names = &cache->names};
    parse_text(copy, &found);
    memory_free(copy);
    struct entry *entry = entry_add(cache, lexed->shape);
    entry_fill(cache, entry, &found, hints_of(lexed));
    cache->stats.parsed_inline++;
    return entry;
}

/* Leaves a parse to the job sink. Until it is done the shape may do anything; NULL: there is no
 * room for the job. */
static struct entry *parse_later(struct traits_cache *cache, struct bytes text,
                                 const struct lex_result *lexed) {
    struct traits_job *job = memory_new(sizeof *job);
    job->text = memory_copy(text.at, text.len);
    job->shape = memory_copy(lexed->shape.at, lexed->shape.len);
    job->shape_len = lexed->shape.len;
    job->hints = hints_of(lexed);
    job->findings.names = &job->names;
    if (!cache->has_sink || !cache->sink.post(cache->sink.owner, job)) {
        traits_job_free(&job);
        cache->stats.refused++;
        (void)loose_anything(cache, hints_of(lexed), "too long to parse at once");
        return NULL;
    }
    struct entry *entry = entry_add(cache, lexed->shape);
    entry_fill_anything(entry, hints_of(lexed), "too long to parse at once");
    cache->stats.parsed_later++;
    return entry;
}

/* Whether the worker may parse so much itself. */
static bool is_short(const struct traits_cache *cache, struct bytes text, unsigned tokens) {
    return tokens <= cache->inline_tokens &&
           text.len <= (size_t)cache->inline_tokens * INLINE_BYTES_PER_TOKEN;
}

/* The new entry, or NULL: cache->loose is the answer. */
static struct entry *miss(struct traits_cache *cache, struct bytes text,
                          const struct lex_result *lexed, uint64_t now_us) {
    cache->stats.misses++;
    struct bytes parsed = text;
    unsigned tokens = lexed->tokens;
    if (text.len > TEXT_BYTES_MAX || !is_short(cache, text, tokens)) {
        parsed = lexed->shape;
        tokens = lexed->shape_tokens;
    }
    if (!is_short(cache, parsed, tokens)) return parse_later(cache, parsed, lexed);
    if (!pay(cache, tokens + parsed.len / MISS_BYTES_PER_TOKEN, now_us)) {
        cache->stats.refused++;
        (void)loose_anything(cache, hints_of(lexed), "too many new statements at once");
        return NULL;
    }
    return parse_now(cache, parsed, lexed);
}

/* ---- Public ---- */

const struct traits *traits_of(struct traits_cache *cache, struct bytes text,
                               const struct traits_context *context, uint64_t now_us) {
    const char *unread = why_unread(context, text);
    if (unread != NULL) return refused(cache, unread);
    struct lex_result lexed;
    struct entry *entry = entry_of_pattern(cache, text);
    if (entry == NULL) {
        if (!lex(cache, text, &lexed)) return refused(cache, lexed.refused);
        entry = entry_find(cache, lexed.shape);
        if (entry != NULL) entry_learn(cache, entry, text);
    }
    if (entry != NULL) {
        cache->stats.hits++;
        entry_touch(cache, entry);
    } else if (lexed.tokens == 0) {
        cache->loose = (struct traits){.flags = TRAITS_EMPTY | hints_of(&lexed),
                                       .names_complete = true,
                                       .generation = generation_of(context->facts)};
        return &cache->loose;
    } else {
        entry = miss(cache, text, &lexed, now_us);
        if (entry == NULL) return &cache->loose;
    }
    if (entry->traits.generation != generation_of(context->facts))
        entry_resolve(entry, context->facts);
    return &entry->traits;
}

void traits_correct(struct traits_cache *cache, struct bytes text,
                    const struct traits_context *context) {
    struct lex_result lexed;
    if (why_unread(context, text) != NULL) return;
    if (!lex(cache, text, &lexed) || lexed.tokens == 0) return;
    struct entry *entry = entry_find(cache, lexed.shape);
    if (entry == NULL) {
        entry = entry_add(cache, lexed.shape);
        entry_fill_anything(entry, hints_of(&lexed), "");
    }
    entry_touch(cache, entry);
    if (entry->traits.generation != generation_of(context->facts))
        entry_resolve(entry, context->facts);
    entry_correct(entry);
}

void traits_job_run(struct traits_job *job) {
    parse_text(job->text, &job->findings);
}

void traits_job_finish(struct traits_cache *cache, struct traits_job **job) {
    struct bytes shape = bytes_of((*job)->shape, (*job)->shape_len);
    struct entry *entry = entry_find(cache, shape);
    if (entry == NULL) entry = entry_add(cache, shape);
    entry_fill(cache, entry, &(*job)->findings, (*job)->hints);
    traits_job_free(job);
}

void traits_job_free(struct traits_job **job) {
    if (*job == NULL) return;
    memory_free((*job)->text);
    memory_free((*job)->shape);
    buf_release(&(*job)->names);
    memory_free(*job);
    *job = NULL;
}

struct traits_cache_stats traits_cache_stats(const struct traits_cache *cache) {
    struct traits_cache_stats stats = cache->stats;
    stats.shapes = cache->used.count;
    return stats;
}
