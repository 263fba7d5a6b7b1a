/* Frames with descriptors; see handover_link.h. */
#include "handover_link.h"

#include "core/check.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES    6u
#define READ_BYTES    65536u
#define FRAME_MAX     (512u << 20) /* a client's prepared statements, and what it has sent */
#define ANCILLARY_MAX 16           /* descriptors of one read */

struct outgoing_frame {
    struct link link;
    struct buf bytes;
    int fds[HANDOVER_DESCRIPTORS_MAX];
    unsigned fds_count; /* not sent yet */
};

struct handover_link {
    int fd;
    bool is_ended;
    struct list out;
    struct buf in;
    size_t taken;   /* of `in`, by the frame that was given last */
    struct buf fds; /* ints in order of arrival */
};

struct handover_link *handover_link_new(int fd) {
    struct handover_link *link = memory_new(sizeof *link);
    link->fd = fd;
    list_init(&link->out);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return link;
}

static void free_frame(struct handover_link *link, struct outgoing_frame *frame) {
    for (unsigned i = 0; i < frame->fds_count; i++) (void)close(frame->fds[i]);
    list_remove(&link->out, &frame->link);
    buf_release(&frame->bytes);
    memory_free(frame);
}

static int next_descriptor(struct handover_link *link) {
    int fd = -1;
    struct bytes have = buf_content(&link->fds);
    if (have.len < sizeof fd) return -1;
    memcpy(&fd, have.at, sizeof fd);
    buf_consume(&link->fds, sizeof fd);
    return fd;
}

void handover_link_free(struct handover_link **link_at) {
    struct handover_link *link = *link_at;
    if (link == NULL) return;
    *link_at = NULL;
    LIST_EACH_SAFE (&link->out, l, following) {
        free_frame(link, LIST_OWNER(l, struct outgoing_frame, link));
    }
    for (int fd; (fd = next_descriptor(link)) >= 0;) (void)close(fd);
    (void)close(link->fd);
    buf_release(&link->in);
    buf_release(&link->fds);
    memory_free(link);
}

int handover_link_descriptor(const struct handover_link *link) {
    return link->fd;
}

/* ---- sending */

/* Sends from one frame, its descriptors with the first byte; false if the kernel takes no more. */
static bool send_some(struct handover_link *link, struct outgoing_frame *frame) {
    struct bytes left = buf_content(&frame->bytes);
    struct iovec part = {.iov_base = (void *)(uintptr_t)left.at, .iov_len = left.len};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof frame->fds)];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (frame->fds_count > 0) {
        size_t size = frame->fds_count * sizeof(int);
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(head), frame->fds, size);
    }
    ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL);
    if (n <= 0) {
        /* ETOOMANYREFS: the other side has to receive some first. */
        bool is_later = errno == EAGAIN || errno == EINTR || errno == ETOOMANYREFS;
        if (!is_later) link->is_ended = true;
        return false;
    }
    for (unsigned i = 0; i < frame->fds_count; i++) (void)close(frame->fds[i]);
    frame->fds_count = 0;
    buf_consume(&frame->bytes, (size_t)n);
    return true;
}

bool handover_link_flush(struct handover_link *link) {
    struct link *first;
    while (!link->is_ended && (first = list_first(&link->out)) != NULL) {
        struct outgoing_frame *frame = LIST_OWNER(first, struct outgoing_frame, link);
        if (!send_some(link, frame)) return false;
        if (buf_length(&frame->bytes) == 0) free_frame(link, frame);
    }
    return list_first(&link->out) == NULL;
}

void handover_link_send(struct handover_link *link, unsigned type, struct bytes body,
                        const int *fds, unsigned fds_count) {
    CHECK(fds_count <= HANDOVER_DESCRIPTORS_MAX && body.len <= FRAME_MAX);
    struct outgoing_frame *frame = memory_new(sizeof *frame);
    buf_append_u32(&frame->bytes, (uint32_t)body.len);
    buf_append_u8(&frame->bytes, type);
    buf_append_u8(&frame->bytes, fds_count);
    buf_append_bytes(&frame->bytes, body);
    for (unsigned i = 0; i < fds_count; i++) frame->fds[i] = fds[i];
    frame->fds_count = fds_count;
    list_append(&link->out, &frame->link);
    (void)handover_link_flush(link);
}

/* ---- receiving */

static void keep_descriptors(struct handover_link *link, struct msghdr *message) {
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
            buf_append(&link->fds, (const char *)CMSG_DATA(head), head->cmsg_len - CMSG_LEN(0));
    }
}

/* One read; false if nothing is there, or nothing will be any more. */
static bool receive(struct handover_link *link) {
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(ANCILLARY_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = buf_room(&link->in, READ_BYTES), .iov_len = READ_BYTES};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    ssize_t n = recvmsg(link->fd, &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
        link->is_ended = true;
        return false;
    }
    keep_descriptors(link, &message);
    buf_grown(&link->in, (size_t)n);
    return true;
}

/* Cuts the frame in front; false if it is not whole yet. */
static bool cut(struct handover_link *link, struct handover_frame *frame) {
    buf_consume(&link->in, link->taken);
    link->taken = 0;
    struct bytes have = buf_content(&link->in);
    if (have.len < HEAD_BYTES) return false;
    uint32_t len = bytes_get_u32(have.at);
    if (len > FRAME_MAX) {
        link->is_ended = true;
        return false;
    }
    if (have.len - HEAD_BYTES < len) return false;
    frame->type = (unsigned char)have.at[4];
    unsigned fds_count = (unsigned char)have.at[5];
    frame->body = (struct unpack){.rest = bytes_of(have.at + HEAD_BYTES, len)};
    for (unsigned i = 0; i < HANDOVER_DESCRIPTORS_MAX; i++)
        frame->fds[i] = i < fds_count ? next_descriptor(link) : -1;
    link->taken = HEAD_BYTES + len;
    return true;
}

enum handover_result handover_link_next(struct handover_link *link, struct handover_frame *frame) {
    while (!cut(link, frame)) {
        if (link->is_ended) return HANDOVER_ENDED;
        if (!receive(link)) return link->is_ended ? HANDOVER_ENDED : HANDOVER_NOTHING;
    }
    return HANDOVER_FRAME;
}

enum handover_result handover_link_wait(struct handover_link *link, struct handover_frame *frame,
                                        int timeout_ms) {
    for (;;) {
        enum handover_result result = handover_link_next(link, frame);
        if (result != HANDOVER_NOTHING) return result;
        struct pollfd wanted = {.fd = link->fd, .events = POLLIN};
        int n = poll(&wanted, 1, timeout_ms);
        if (n == 0 || (n < 0 && errno != EINTR)) return HANDOVER_NOTHING;
    }
}
