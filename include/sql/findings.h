/*
 * What has been found in one statement so far.
 */
#ifndef WEIR_SQL_FINDINGS_H
#define WEIR_SQL_FINDINGS_H

#include "core/buf.h"
#include "sql/traits.h"

#define FINDINGS_NAMES_BYTES_MAX 4096u

/* Zeroed but for `names` it is a start. */
struct findings {
    uint32_t flags; /* enum traits_flag */
    unsigned why_rank;
    char why[TRAITS_WHY_SIZE];
    unsigned parameters; /* how often one is set or reset that differs from the last */
    char parameter[TRAITS_WHY_SIZE];
    uint32_t doubts; /* flags that hold where no catalog tells what its names stand for, */
    unsigned doubt_rank;
    char doubt[TRAITS_WHY_SIZE]; /* and why */
    bool shows_rows;             /* some statement's answer may have rows */
    bool is_plan_only;           /* EXPLAIN without ANALYZE: no write that it shows is done */
    bool reads_beyond;           /* what it reads is not only the relations that it names, */
    bool writes_beyond;          /* what it writes not only those named as written */
    bool names_cut;
    struct buf *names; /* as in struct traits; borrowed */
};

/* Adds flags, and their reason if it weighs more than the one at hand: a known write more than a
 * possible one, that more than another need of the primary, that more than the rest. What may write
 * may write anything, unless the caller says otherwise afterwards. */
void findings_note(struct findings *findings, uint32_t flags, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Notes what holds unless the catalog tells that the names are harmless. */
void findings_doubt(struct findings *findings, uint32_t flags, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a name (kinds as in struct traits): its `parts_count` parts, the last of which is its own
 * and the others its schema and database. */
void findings_add_name(struct findings *findings, char kind, const struct bytes *parts,
                       size_t parts_count);

/* Adds the name of a prepared statement ('p'). */
void findings_add_prepared(struct findings *findings, struct bytes name);

/* Notes that a parameter is set: to `value`, or to something that the text does not say where
 * value.at is NULL. `flag` is TRAITS_SETS or TRAITS_SETS_LOCAL; of it follows TRAITS_READ_ONLY,
 * TRAITS_READ_WRITE or TRAITS_SERIALIZABLE where the parameter is one of the transaction's, and
 * TRAITS_SETS_ALIKE in place of it where the value is one that changes no answer. */
void findings_set_parameter(struct findings *findings, struct bytes name, struct bytes value,
                            uint32_t flag);

/* Notes that a parameter gets its default back, for longer than the transaction. */
void findings_reset_parameter(struct findings *findings, struct bytes name);

/* Adds what `more`, the next statement of the same text, was found to do. */
void findings_merge(struct findings *findings, const struct findings *more);

#endif
