/* What a scripted client says: words of a script made into messages; see application.h. */
#ifndef WEIR_TESTS_SESSION_SPEECH_H
#define WEIR_TESTS_SESSION_SPEECH_H

#include "core/buf.h"

struct speech {
    char letter;
    unsigned *tokens; /* the last number given out */
    unsigned asked;   /* Query and Sync among the messages */
    bool has_quit;    /* Terminate is among them */
};

/* Appends the messages that `words` stand for. */
void speech_write(struct speech *speech, const char *words, struct buf *out);

#endif
