/*
 * The connection between a process and the one that takes over from it: frames, each with up to
 * two descriptors.
 *
 *      u32 length of the body, u8 type, u8 count of descriptors, body
 *
 * Descriptors come with the first byte of their frame or before (SCM_RIGHTS); the receiver keeps
 * them in order and gives each frame its own. Worker 0's thread only.
 */
#ifndef WEIR_HANDOVER_LINK_H
#define WEIR_HANDOVER_LINK_H

#include "core/pack.h"
#include "net/loop.h"

#define HANDOVER_DESCRIPTORS_MAX 2

struct handover_frame {
    unsigned type;
    struct unpack body;
    int fds[HANDOVER_DESCRIPTORS_MAX]; /* -1: none; the receiver owns them */
};

struct handover_link;

/* Takes over a connected descriptor. */
struct handover_link *handover_link_new(int fd);
/* Closes it with all that was not sent or not received; *link becomes NULL. */
void handover_link_free(struct handover_link **link);

/* Queues a frame, takes over its descriptors, and sends what it can. */
void handover_link_send(struct handover_link *link, unsigned type, struct bytes body,
                        const int *fds, unsigned fds_count);
/* Sends what it can; true when nothing is left. */
bool handover_link_flush(struct handover_link *link);

enum handover_result { HANDOVER_FRAME, HANDOVER_NOTHING, HANDOVER_ENDED };

/* The next frame, valid until the next call; NOTHING where it has to be waited for. */
enum handover_result handover_link_next(struct handover_link *link, struct handover_frame *frame);
/* The same, waiting up to so long. */
enum handover_result handover_link_wait(struct handover_link *link, struct handover_frame *frame,
                                        int timeout_ms);

int handover_link_descriptor(const struct handover_link *link);

#endif
