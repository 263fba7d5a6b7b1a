/*
 * Settings: one table of everything that can be set, in every scope.
 *
 * A row names a setting, says how its text is read, what it may be, what it is when nobody sets
 * it, and where its value lives. The same row drives the reading of the file, SHOW CONFIG, SET,
 * the comparison of two configurations, the sample file and the manual page. A new setting is
 * one row in setting.c and one member of the struct that its scope belongs to:
 *
 *      SETTING_SCOPE_POOLER    [pgbouncer] key = value     struct config
 *      SETTING_SCOPE_DATABASE  [databases] NAME = pairs    struct config_database
 *      SETTING_SCOPE_USER      [users]     NAME = pairs    struct config_user
 *      SETTING_SCOPE_NODE      [nodes]     NAME = pairs    struct config_node
 *      SETTING_SCOPE_PEER      [peers]     ID = pairs      struct config_peer
 *
 *      type     member           text
 *      BOOL     bool             0 or 1; other numbers are true
 *      INT      int              decimal, octal (0777) or hexadecimal (0x1ff)
 *      BYTES    int              the same, a number of bytes; Weir's own also in kB, MB or GB
 *      TIME     uint64_t         seconds, as 15, 1.5 or 1e3; kept in microseconds
 *      STRING   char *           anything; owned; never NULL where the row has a default
 *      LIST     setting_list     items divided by commas, blanks around them dropped
 *      ENUM     an enum          one of the row's choices, in any case
 *      ADDRESS  char *           HOST:PORT, [IPV6]:PORT or nothing; owned, never NULL
 *
 * Outside the pooler's scope a setting may be left out; it then is SETTING_UNSET (INT, BYTES),
 * SETTING_UNSET_US (TIME), NULL (STRING), an empty list, or the enum's first value, which is
 * called ..._UNSET and is 0. This file is pure: no I/O, no clock, no globals that change.
 * PgBouncer checks no bounds: a number outside of a row's bounds counts as the nearest of them,
 * and a negative one leaves out what may be left out, unless the row is Weir's own or EXACT.
 */
#ifndef WEIR_CONFIG_SETTING_H
#define WEIR_CONFIG_SETTING_H

#include "core/buf.h"
#include "core/bytes.h"

#define SETTING_UNSET    (-1)
#define SETTING_UNSET_US UINT64_MAX

enum setting_scope {
    SETTING_SCOPE_POOLER,
    SETTING_SCOPE_DATABASE,
    SETTING_SCOPE_USER,
    SETTING_SCOPE_NODE,
    SETTING_SCOPE_PEER,
    SETTING_SCOPE_COUNT
};

enum setting_type {
    SETTING_TYPE_BOOL,
    SETTING_TYPE_INT,
    SETTING_TYPE_BYTES,
    SETTING_TYPE_TIME,
    SETTING_TYPE_STRING,
    SETTING_TYPE_LIST,
    SETTING_TYPE_ENUM,
    SETTING_TYPE_ADDRESS
};

enum setting_flag {
    SETTING_FLAG_LIVE = 1 << 0,      /* SET and RELOAD take effect at once */
    SETTING_FLAG_OWN = 1 << 1,       /* Weir's own, unknown to PgBouncer */
    SETTING_FLAG_SECRET = 1 << 2,    /* never shown, wiped when freed */
    SETTING_FLAG_RECONNECT = 1 << 3, /* a change makes servers obsolete, as do other hosts */
    SETTING_FLAG_COMPAT = 1 << 4,    /* accepted for old files; has no effect */
    SETTING_FLAG_EXACT = 1 << 5      /* beyond its bounds a number is wrong, not the nearest */
};

/* A word that an ENUM may be. A negative value marks one that PgBouncer or a later Weir knows
 * and this one does not: it is refused with an error that says so. Ends with a NULL name, whose
 * value, unless 0, is what any other word counts as. */
struct setting_choice {
    const char *name;
    int value;
};

/* A list's original text, for showing, and its items. The items belong to the list. */
struct setting_list {
    char *text; /* NULL: unset */
    char **items;
    size_t count;
};

struct setting {
    const char *name;
    enum setting_type type;
    uint32_t offset;          /* of the member in its scope's struct, */
    uint32_t size;            /* and its size */
    uint32_t flags;           /* enum setting_flag */
    const char *default_text; /* NULL: may be left out, see above */
    int64_t minimum;          /* INT and BYTES: the number; TIME: microseconds */
    int64_t maximum;
    const struct setting_choice *choices; /* ENUM only */
    const char *help;                     /* whole sentences */
};

/* The rows of a scope in the order in which SHOW CONFIG and the manual list them. */
size_t setting_count(enum setting_scope scope);
const struct setting *setting_at(enum setting_scope scope, size_t index);

/* The row with that exact name, or NULL. */
const struct setting *setting_find(enum setting_scope scope, struct bytes name);

/* The known name of that scope that looks most like `name`, or NULL if none is near. */
const char *setting_nearest(enum setting_scope scope, struct bytes name);

/* Reads `text` into the row's member of `object`, whose former value it replaces. False if the
 * text does not fit the row: the member then is unchanged and what would be right was appended
 * to `why` ("expected a whole number from 0 to 65535"), without the value itself. True with
 * something appended: the text was bent to fit ("it counts as 0"). */
bool setting_set(const struct setting *setting, void *object, struct bytes text, struct buf *why);

/* Divides HOST:PORT or [IPV6]:PORT; false if the text is not such or the port not 1 to 65535. */
bool setting_split_address(struct bytes text, struct bytes *host, int *port);

/* What PgBouncer takes for a number in a pair: the decimal digits in front, with a sign; 0 where
 * there are none. True if that was the whole text: "20;" is 20, and false. */
bool setting_leading_number(struct bytes text, int64_t *number);

/* Appends the value in the form in which SHOW CONFIG gives it: whole numbers in decimal, times
 * in seconds, "****" for a secret that is not empty; nothing for what is unset. */
void setting_show(const struct setting *setting, const void *object, struct buf *text);

/* Sets every member of zeroed memory of that scope to its default. */
void setting_init_all(enum setting_scope scope, void *object);

/* Copies the value of one row, or of all, into an object that setting_init_all has filled; what
 * the member owned before is freed. */
void setting_copy(const struct setting *setting, void *to, const void *from);
void setting_copy_all(enum setting_scope scope, void *to, const void *from);

/* Frees what the members own and wipes the secrets among them. */
void setting_release_all(enum setting_scope scope, void *object);

/* Whether the two values of one row are the same. */
bool setting_is_same(const struct setting *setting, const void *a, const void *b);

/* Whether an item of the list is `name`; the second in any case, as for parameters' names. */
bool setting_list_has(const struct setting_list *list, struct bytes name);
bool setting_list_has_nocase(const struct setting_list *list, struct bytes name);

#endif
