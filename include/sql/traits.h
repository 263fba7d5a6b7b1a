/*
 * Traits: what a statement may do, kept for each shape of statement.
 *
 *      text --lex--> shape --cache--> traits            (a hit: under a microsecond)
 *                          `-- miss: parse, walk -------^
 *
 * A `struct traits_cache` belongs to one worker thread and takes no lock. A text that cannot be
 * understood, for whatever reason, has the traits "may do anything", which lead to the primary.
 */
#ifndef WEIR_SQL_TRAITS_H
#define WEIR_SQL_TRAITS_H

#include "core/bytes.h"
#include "sql/reach.h"

/* Facts about a statement, or about all statements of one text together. Where none of the first
 * group is set it may run anywhere: that holds for reads, for BEGIN READ ONLY, and for what is
 * tied to a transaction that has its node already, such as COMMIT (what that makes visible is
 * what the transaction did). With TRAITS_ANYTHING nothing but the hints is certain. */
enum traits_flag {
    /* Where it may run */
    TRAITS_NEEDS_PRIMARY = 1 << 0, /* some part has to run on the primary; `why` says which */
    TRAITS_MAY_WRITE = 1 << 1,     /* its answer may make new data visible: raises the floor */
    TRAITS_KNOWN_WRITE = 1 << 2,   /* nothing, not even a hint, may send it to a replica */
    TRAITS_ANYTHING = 1 << 3,      /* not understood; comes with the two first */
    TRAITS_HINT_PRIMARY = 1 << 4,  /* a comment says weir:primary */
    TRAITS_HINT_REPLICA = 1 << 5,  /* a comment says weir:replica */
    /* Transactions */
    TRAITS_BEGINS = 1 << 6,
    TRAITS_READ_ONLY = 1 << 7,    /* BEGIN or SET TRANSACTION with READ ONLY */
    TRAITS_READ_WRITE = 1 << 8,   /* the same with READ WRITE, or transaction_read_only = off */
    TRAITS_SERIALIZABLE = 1 << 9, /* the same with ISOLATION LEVEL SERIALIZABLE */
    TRAITS_ENDS = 1 << 10,        /* COMMIT, ROLLBACK, PREPARE TRANSACTION */
    /* The session */
    TRAITS_SETS = 1 << 11,       /* a parameter, role or authorization beyond the transaction */
    TRAITS_SETS_LOCAL = 1 << 12, /* only to the end of the transaction */
    TRAITS_RESETS_ALL = 1 << 13, /* RESET ALL or DISCARD ALL */
    TRAITS_DISCARDS_ALL = 1 << 14,
    TRAITS_PREPARES = 1 << 15, /* SQL PREPARE; the rest is what its statement does, */
    TRAITS_EXECUTES = 1 << 16, /* EXECUTE */
    TRAITS_DEALLOCATES = 1 << 17,
    TRAITS_LISTENS = 1 << 18,
    TRAITS_TEMPORARY = 1 << 19,      /* creates a temporary thing */
    TRAITS_HOLDS_CURSOR = 1 << 20,   /* DECLARE ... WITH HOLD */
    TRAITS_SESSION_LOCK = 1 << 21,   /* a session's advisory lock */
    TRAITS_SESSION_MEMORY = 1 << 22, /* LOAD, currval, setseed and the like */
    /* Others */
    TRAITS_COPIES_IN = 1 << 23,
    TRAITS_RUNS_CODE = 1 << 24,      /* DO, CALL: a program of which nothing is known */
    TRAITS_CHANGES_SCHEMA = 1 << 25, /* DDL */
    TRAITS_EMPTY = 1 << 26,          /* no statement at all: blanks, comments, `;` */
    TRAITS_MANY = 1 << 27,           /* more than one statement */
    TRAITS_RUNS_UNKNOWN = 1 << 28,   /* what it leaves in the session is not known: DO, CALL, ... */
    TRAITS_UNLISTENS = 1 << 29,
    TRAITS_USES_CURSOR = 1 << 30 /* FETCH, MOVE, CLOSE, or DECLARE without HOLD */
};
/* Sets a parameter to a value under which every statement answers as it does by default. */
#define TRAITS_SETS_ALIKE (1u << 31)

#define TRAITS_WHY_SIZE       96
#define TRAITS_NAME_BYTES_MAX 256u /* more than PostgreSQL's own bound */

struct traits {
    uint32_t flags; /* enum traits_flag */
    /* Why it needs the primary ("INSERT", "function nextval() writes", "not understood: ..."), or
     * what state of the session it changes; empty for a plain read. NUL-terminated. */
    char why[TRAITS_WHY_SIZE];
    /* The lower-case name of the one parameter that it sets or resets ("timezone", "role"); empty
     * with several or none. NUL-terminated. */
    char parameter[TRAITS_WHY_SIZE];
    /* The names in it, each a kind byte, the name as written after folding ("public.t"; of a
     * parameter in lower case), and a NUL. Owned by the cache entry; may be cut (names_complete).
     *
     *   f  function     s  parameter that it sets beyond the transaction ("$1": the Bind's first),
     *   r  relation        to its default: also d
     *   w  changed one  l  parameter that it sets up to the transaction's end
     *   i  added to     p  prepared statement, of PREPARE, EXECUTE, DEALLOCATE
     *   o  operator     b  database that has to be without sessions for it
     *   y  type         a  what stands behind a dot: a column, or a function
     *   c  WITH query   g  (empty) what it changes belongs to all databases of the cluster
     */
    struct bytes names;
    bool names_complete;
    struct reach reads, writes; /* everything, unless facts have told */
    bool is_silent;      /* its answer has no rows: DML without RETURNING, SET, COMMIT, ... */
    bool is_global;      /* what it changes belongs to all databases of the cluster */
    uint32_t generation; /* of the facts that it was resolved with; 0: none */
};

struct facts;

/* The settings of the session that decide how its text is read, as the server will see them; and
 * what its names stand for. */
struct traits_context {
    const char *client_encoding; /* any spelling PostgreSQL takes; NULL is UTF8 */
    bool standard_conforming_strings;
    bool safe_backslash_quote; /* backslash_quote = safe_encoding, the default */
    const struct facts *facts; /* of its database (sql/facts.h); NULL: nobody has asked */
};

struct traits_cache;

/* One text whose parse is too long for the worker's own thread; passes to whoever runs it and comes
 * back through traits_job_finish. */
struct traits_job;

/* Where the long parses of a cache go. `post` takes over the job, or returns false if its queue is
 * full. It must not call back into the cache. */
struct traits_job_sink {
    bool (*post)(void *owner, struct traits_job *job);
    void *owner;
};

/* A cache of at most `shapes_max` shapes; texts of up to `inline_tokens` tokens are parsed at
 * once, longer ones through `sink` (NULL: never, they may do anything). A parse costs about 2.5 us
 * and up to 4 kB of stack for each token; more than TRAITS_INLINE_TOKENS_MAX are never parsed at
 * once. */
#define TRAITS_INLINE_TOKENS_MAX 1000u
struct traits_cache *traits_cache_new(size_t shapes_max, unsigned inline_tokens,
                                      const struct traits_job_sink *sink);
void traits_cache_free(struct traits_cache **cache);

/* The traits of `text` (one simple Query's or one Parse's text, without its NUL). The result is
 * valid until the next call with the same cache. Never fails. `now_us` serves only to limit how
 * many misses a second one cache pays for. */
const struct traits *traits_of(struct traits_cache *cache, struct bytes text,
                               const struct traits_context *context, uint64_t now_us);

/* A replica refused a statement of this text: its shape needs the primary from now on. */
void traits_correct(struct traits_cache *cache, struct bytes text,
                    const struct traits_context *context);

/* Any thread with TRAITS_JOB_STACK_BYTES of stack. */
#define TRAITS_JOB_STACK_BYTES (64u * 1024 * 1024)
void traits_job_run(struct traits_job *job);

/* Brings a job that ran back into its cache (on the cache's thread) and frees it. */
void traits_job_finish(struct traits_cache *cache, struct traits_job **job);

void traits_job_free(struct traits_job **job);

/* What a cache holds and did. `refused`: texts not lexed, or not parsed for lack of room or time.
 */
struct traits_cache_stats {
    uint64_t hits, misses, parsed_inline, parsed_later, refused;
    size_t shapes;
};
struct traits_cache_stats traits_cache_stats(const struct traits_cache *cache);
#endif
