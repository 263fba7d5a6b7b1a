/*
 * The messages of protocol 3.0, one row for each type byte and direction, and how they are cut.
 *
 *      Byte1 type | Int32 length, itself included | body          (PostgreSQL manual, 55.7)
 */
#ifndef WEIR_PROTO_MESSAGE_H
#define WEIR_PROTO_MESSAGE_H

#include "core/bytes.h"

#define MESSAGE_HEAD_BYTES 5u

/* No message is longer; PostgreSQL's own limit is 1 GiB for most. */
#define MESSAGE_LENGTH_MAX (1u << 30)

enum message_request {
    REQUEST_UNKNOWN,
    REQUEST_QUERY,
    REQUEST_PARSE,
    REQUEST_BIND,
    REQUEST_DESCRIBE,
    REQUEST_EXECUTE,
    REQUEST_CLOSE,
    REQUEST_SYNC,
    REQUEST_FLUSH,
    REQUEST_FUNCTION,
    REQUEST_COPY, /* data, done and fail alike */
    REQUEST_TERMINATE,
    REQUEST_PASSWORD,
    REQUEST_KINDS
};

enum message_reply {
    REPLY_UNKNOWN,
    REPLY_DATA, /* rows and COPY data: pass through by their heads */
    REPLY_PARSED,
    REPLY_BOUND,
    REPLY_CLOSED,
    REPLY_PARAMETERS, /* ParameterDescription */
    REPLY_COLUMNS,    /* RowDescription */
    REPLY_NO_DATA,
    REPLY_COMPLETE, /* CommandComplete */
    REPLY_EMPTY,
    REPLY_SUSPENDED,
    REPLY_ERROR,
    REPLY_NOTICE,
    REPLY_NOTIFICATION,
    REPLY_STATUS, /* ParameterStatus */
    REPLY_READY,
    REPLY_COPY_IN,
    REPLY_COPY_OUT,
    REPLY_COPY_BOTH,
    REPLY_COPY_DONE,
    REPLY_FUNCTION,
    REPLY_AUTHENTICATION,
    REPLY_KEY,
    REPLY_NEGOTIATE,
    REPLY_KINDS
};

struct message_row {
    const char *name; /* NULL: not a message */
    uint8_t kind;     /* enum message_request or message_reply */
    bool is_whole;    /* has to be understood whole, not by its head alone */
    uint32_t length_min;
    uint32_t length_max;
};

/* By type byte. */
extern const struct message_row message_requests[256];
extern const struct message_row message_replies[256];

/* The length of the whole message, type byte included, from its first five bytes; 0 if the length
 * word cannot be one. */
static inline uint32_t message_length(const char *head) {
    uint32_t length = bytes_get_u32(head + 1);
    return length < 4 || length > MESSAGE_LENGTH_MAX ? 0 : length + 1;
}

/* Whether a ReadyForQuery may say this of the transaction: 'I', 'T' or 'E'. */
static inline bool message_is_status(char status) {
    return status == 'I' || status == 'T' || status == 'E';
}

/* The first NUL-terminated text in `body`; false if no NUL is there. `rest` is what follows. */
bool message_text(struct bytes body, struct bytes *text, struct bytes *rest);

/* Takes the next column out of a DataRow, what is left behind its count of them: `value`, whose
 * `at` is NULL for a null. False if it is not there whole. */
bool message_column(struct bytes *rest, struct bytes *value);

#endif
