/* The tables of message types; see proto/message.h and PostgreSQL's manual, section 55.7. */
#include "proto/message.h"

#define ANY MESSAGE_LENGTH_MAX

const struct message_row message_requests[256] = {
    ['Q'] = {"Query", REQUEST_QUERY, false, 5, ANY},
    ['P'] = {"Parse", REQUEST_PARSE, true, 8, ANY},
    ['B'] = {"Bind", REQUEST_BIND, false, 12, ANY},
    ['D'] = {"Describe", REQUEST_DESCRIBE, true, 6, 65536},
    ['E'] = {"Execute", REQUEST_EXECUTE, false, 9, 65536},
    ['C'] = {"Close", REQUEST_CLOSE, true, 6, 65536},
    ['S'] = {"Sync", REQUEST_SYNC, false, 4, 4},
    ['H'] = {"Flush", REQUEST_FLUSH, false, 4, 4},
    ['F'] = {"FunctionCall", REQUEST_FUNCTION, false, 14, ANY},
    ['d'] = {"CopyData", REQUEST_COPY, false, 4, ANY},
    ['c'] = {"CopyDone", REQUEST_COPY, false, 4, 4},
    ['f'] = {"CopyFail", REQUEST_COPY, false, 5, ANY},
    ['X'] = {"Terminate", REQUEST_TERMINATE, false, 4, 4},
    ['p'] = {"PasswordMessage", REQUEST_PASSWORD, true, 4, 131072},
};

const struct message_row message_replies[256] = {
    ['D'] = {"DataRow", REPLY_DATA, false, 6, ANY},
    ['d'] = {"CopyData", REPLY_DATA, false, 4, ANY},
    ['1'] = {"ParseComplete", REPLY_PARSED, false, 4, 4},
    ['2'] = {"BindComplete", REPLY_BOUND, false, 4, 4},
    ['3'] = {"CloseComplete", REPLY_CLOSED, false, 4, 4},
    ['t'] = {"ParameterDescription", REPLY_PARAMETERS, false, 6, ANY},
    ['T'] = {"RowDescription", REPLY_COLUMNS, false, 6, ANY},
    ['n'] = {"NoData", REPLY_NO_DATA, false, 4, 4},
    ['C'] = {"CommandComplete", REPLY_COMPLETE, true, 5, 1024},
    ['I'] = {"EmptyQueryResponse", REPLY_EMPTY, false, 4, 4},
    ['s'] = {"PortalSuspended", REPLY_SUSPENDED, false, 4, 4},
    ['E'] = {"ErrorResponse", REPLY_ERROR, true, 5, ANY},
    ['N'] = {"NoticeResponse", REPLY_NOTICE, false, 5, ANY},
    ['A'] = {"NotificationResponse", REPLY_NOTIFICATION, false, 10, ANY},
    ['S'] = {"ParameterStatus", REPLY_STATUS, true, 6, ANY},
    ['Z'] = {"ReadyForQuery", REPLY_READY, true, 5, 5},
    ['G'] = {"CopyInResponse", REPLY_COPY_IN, false, 7, ANY},
    ['H'] = {"CopyOutResponse", REPLY_COPY_OUT, false, 7, ANY},
    ['W'] = {"CopyBothResponse", REPLY_COPY_BOTH, false, 7, ANY},
    ['c'] = {"CopyDone", REPLY_COPY_DONE, false, 4, 4},
    ['V'] = {"FunctionCallResponse", REPLY_FUNCTION, false, 8, ANY},
    ['R'] = {"Authentication", REPLY_AUTHENTICATION, true, 8, 131072},
    ['K'] = {"BackendKeyData", REPLY_KEY, true, 12, 264},
    ['v'] = {"NegotiateProtocolVersion", REPLY_NEGOTIATE, true, 12, 131072},
};

bool message_text(struct bytes body, struct bytes *text, struct bytes *rest) {
    if (body.len == 0) return false;
    /* Most names are empty. */
    const char *end = body.at[0] == '\0' ? body.at : memchr(body.at, '\0', body.len);
    if (end == NULL) return false;
    size_t len = (size_t)(end - body.at);
    *text = bytes_of(body.at, len);
    *rest = bytes_of(end + 1, body.len - len - 1);
    return true;
}

bool message_column(struct bytes *rest, struct bytes *value) {
    if (rest->len < 4) return false;
    uint32_t len = bytes_get_u32(rest->at);
    *rest = bytes_of(rest->at + 4, rest->len - 4);
    *value = bytes_of(NULL, 0);
    if (len == UINT32_MAX) return true;
    if (len > rest->len) return false;
    *value = bytes_of(rest->at, len);
    *rest = bytes_of(rest->at + len, rest->len - len);
    return true;
}
