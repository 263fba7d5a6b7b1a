/*
 * Streams over real sockets: pairs of Unix sockets, and TCP on the loopback for what only TCP can
 * do. The test itself is the other side; it never blocks, and looks at the world every
 * millisecond until what it waits for has come true.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/memory.h"
#include "net/socket.h"
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000 };

struct world {
    struct loop *loop;
    struct stream stream;
    struct loop_timer tick;
    bool (*is_done)(struct world *world);
    unsigned ticks;
    int peer;           /* the other side's descriptor, -1 once closed */
    struct buf arrived; /* at the stream */
    struct buf taken;   /* by the peer */
    size_t said;        /* by the peer */
    size_t largest;     /* of all on_bytes */
    unsigned calls, drains, ends, hangups;
    size_t queued_when_drained;
    int error;
    bool closes_on_bytes;
    bool stops_on_bytes;
    bool closes_on_end;
    bool echoes;
};

static struct world *world_of(struct stream *stream) {
    return (struct world *)(void *)((char *)stream - offsetof(struct world, stream));
}

static void on_bytes(struct stream *stream, const char *at, size_t len) {
    struct world *world = world_of(stream);
    world->calls++;
    if (len > world->largest) world->largest = len;
    buf_append(&world->arrived, at, len);
    if (world->echoes) stream_write_bytes(stream, bytes_of(at, len));
    if (world->stops_on_bytes) stream_stop(stream);
    if (world->closes_on_bytes) stream_close(stream);
}

static void on_drained(struct stream *stream) {
    struct world *world = world_of(stream);
    world->drains++;
    world->queued_when_drained = stream_queued(stream);
}

static void on_ended(struct stream *stream, int error) {
    struct world *world = world_of(stream);
    world->ends++;
    world->error = error;
    if (world->closes_on_end) stream_close(stream);
}

static void on_hangup(struct stream *stream) {
    world_of(stream)->hangups++;
}

static const struct stream_ops ops = {
    .on_bytes = on_bytes, .on_drained = on_drained, .on_ended = on_ended, .on_hangup = on_hangup};

static void set_nonblocking(int fd) {
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

/* The kernel would take megabytes. */
static void set_room(int fd, int option) {
    int bytes = 100000;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes), 0);
}

static void make_tcp_pair(int ends[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct sockaddr *any = (struct sockaddr *)(void *)&address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    set_room(listener, SO_RCVBUF);
    assert_int_equal(bind(listener, any, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, any, &size), 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    set_room(ends[0], SO_SNDBUF);
    assert_int_equal(connect(ends[0], any, size), 0);
    ends[1] = accept(listener, NULL, NULL);
    assert_true(ends[1] >= 0);
    assert_int_equal(close(listener), 0);
}

static struct world *world_new(bool is_tcp) {
    struct world *world = memory_new(sizeof *world);
    int ends[2];
    if (is_tcp) {
        make_tcp_pair(ends);
    } else {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    }
    set_nonblocking(ends[0]);
    set_nonblocking(ends[1]);
    world->loop = loop_new();
    world->peer = ends[1];
    stream_open(&world->stream, world->loop, ends[0], &ops);
    return world;
}

static void peer_close(struct world *world) {
    assert_int_equal(close(world->peer), 0);
    world->peer = -1;
}

static void world_free(struct world *world) {
    stream_close(&world->stream);
    stream_close(&world->stream);
    assert_false(stream_is_open(&world->stream));
    assert_int_equal(stream_descriptor(&world->stream), -1);
    assert_null(world->stream.queue.memory);
    if (world->peer >= 0) peer_close(world);
    loop_free(&world->loop);
    buf_release(&world->arrived);
    buf_release(&world->taken);
    memory_free(world);
}

static void on_tick(struct loop_timer *timer) {
    struct world *world = (struct world *)(void *)((char *)timer - offsetof(struct world, tick));
    if (world->is_done(world) || ++world->ticks > PATIENCE_MS) loop_stop(world->loop);
}

/* Runs the loop until `is_done` says so, and fails if it never does. */
static void run_until(struct world *world, bool (*is_done)(struct world *world)) {
    world->is_done = is_done;
    world->ticks = 0;
    world->tick.run = on_tick;
    loop_timer_start(world->loop, &world->tick, 0, 1);
    loop_run(world->loop);
    loop_timer_stop(&world->tick);
    assert_true(world->ticks <= PATIENCE_MS);
}

static bool some_time_has_passed(struct world *world) {
    return world->ticks >= 10;
}

static bool it_has_ended(struct world *world) {
    return world->ends > 0;
}

static bool it_has_hung_up(struct world *world) {
    return world->hangups > 0;
}

static bool bytes_have_arrived(struct world *world) {
    return buf_length(&world->arrived) > 0;
}

/* The peer reads what there is. */
static bool nothing_is_queued(struct world *world) {
    ssize_t n;
    do {
        n = read(world->peer, buf_room(&world->taken, 65536), 65536);
        if (n > 0) buf_grown(&world->taken, (size_t)n);
    } while (n > 0);
    return stream_queued(&world->stream) == 0 && world->stream.socket != NULL;
}

static void say(const struct world *world, const char *text) {
    assert_int_equal(write(world->peer, text, strlen(text)), strlen(text));
}

static char pattern_at(size_t i) {
    return (char)(i * 7 + i / 251);
}

static void append_pattern(struct buf *buf, size_t len) {
    char *room = buf_room(buf, len + 1);
    for (size_t i = 0; i < len; i++) room[i] = pattern_at(i);
    buf_grown(buf, len);
}

static void assert_pattern(const struct buf *buf, size_t len) {
    struct bytes content = buf_content(buf);
    assert_int_equal(content.len, len);
    for (size_t i = 0; i < len; i++) {
        if (content.at[i] != pattern_at(i)) fail_msg("byte %zu of %zu", i, len);
    }
}

/* ---- writing */

/* One write of parts, cut as a row says: how often which length. */
static const struct {
    size_t count;
    size_t len;
    size_t last; /* of the last one */
} cuts[] = {
    {1, 0, 0},          {1, 5, 5},     {2, 0, 3},      {2, 3, 0},      {3, 0, 0},
    {2, 512, 512},      {2, 512, 513}, {64, 1, 1},     {64, 16, 16},   {64, 16, 17},
    {64, 0, 1},         {64, 1000, 1}, {2, 1, 100000}, {2, 100000, 1}, {1, 1000000, 1000000},
    {64, 30000, 30000},
};

static void parts_arrive_in_order(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(cuts) * 2; i++) {
        struct world *world = world_new(i % 2 == 1);
        struct bytes parts[64];
        struct buf all = {0};
        size_t row = i / 2;
        size_t total = (cuts[row].count - 1) * cuts[row].len + cuts[row].last;
        append_pattern(&all, total);
        for (size_t p = 0; p < cuts[row].count; p++) {
            size_t len = p == cuts[row].count - 1 ? cuts[row].last : cuts[row].len;
            parts[p] = bytes_of(buf_content(&all).at + p * cuts[row].len, len);
        }
        stream_write(&world->stream, parts, cuts[row].count);
        buf_release(&all); /* what was not sent is the stream's own */
        run_until(world, nothing_is_queued);
        (void)nothing_is_queued(world);
        assert_pattern(&world->taken, total);
        world_free(world);
    }
}

static void writing_nothing_does_nothing(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    stream_write(&world->stream, NULL, 0);
    stream_write_bytes(&world->stream, bytes_of(NULL, 0));
    assert_int_equal(stream_queued(&world->stream), 0);
    run_until(world, nothing_is_queued);
    assert_int_equal(buf_length(&world->taken), 0);
    world_free(world);
}

/* A peer that does not read: the queue grows, and tells once when it has drained. */
static void a_full_socket_queues(void **unused) {
    (void)unused;
    enum { PIECE = 100000, PIECES = 40 };
    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        struct world *world = world_new(is_tcp);
        struct buf all = {0};
        append_pattern(&all, PIECE * PIECES);
        for (size_t i = 0; i < PIECES; i++) {
            size_t queued = stream_queued(&world->stream);
            stream_write_bytes(&world->stream, bytes_of(buf_content(&all).at + i * PIECE, PIECE));
            assert_true(stream_queued(&world->stream) <= queued + PIECE);
        }
        buf_release(&all);
        assert_true(stream_queued(&world->stream) > STREAM_HIGH_BYTES);
        run_until(world, some_time_has_passed);
        assert_int_equal(world->drains, 0);
        run_until(world, nothing_is_queued);
        (void)nothing_is_queued(world);
        assert_pattern(&world->taken, PIECE * PIECES);
        assert_int_equal(world->drains, 1);
        assert_true(world->queued_when_drained <= STREAM_LOW_BYTES);
        assert_null(world->stream.queue.memory); /* an idle stream owns no buffer */
        world_free(world);
    }
}

/* Bytes for a stream whose peer has gone are dropped; on_ended tells, and no signal comes. */
static void writing_to_nobody(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    peer_close(world);
    for (int i = 0; i < 10; i++) stream_write_bytes(&world->stream, bytes_of_text("hello"));
    assert_int_equal(stream_queued(&world->stream), 0);
    assert_int_equal(world->ends, 0); /* never within the call */
    run_until(world, it_has_ended);
    run_until(world, some_time_has_passed);
    assert_int_equal(world->ends, 1);
    stream_close(&world->stream);
    stream_write_bytes(&world->stream, bytes_of_text("hello"));
    assert_int_equal(stream_queued(&world->stream), 0);
    world_free(world);
}

static void closing_sends_what_it_can(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    struct buf all = {0};
    append_pattern(&all, 400000);
    stream_write_bytes(&world->stream, buf_content(&all));
    buf_release(&all);
    size_t queued = stream_queued(&world->stream);
    assert_true(queued > 0);
    char byte[65536];
    ssize_t had = 0, n;
    while ((n = read(world->peer, byte, sizeof byte)) > 0) had += n; /* there is room again */
    assert_int_equal(had, 400000 - queued);
    stream_close(&world->stream);
    while ((n = read(world->peer, byte, sizeof byte)) > 0) had += n;
    assert_int_equal(n, 0);
    assert_true((size_t)had > 400000 - queued);
    world_free(world);
}

/* ---- reading */

enum { ECHO_BYTES = 300000 };

/* The peer says one more piece each time. */
static bool all_is_echoed(struct world *world) {
    char piece[10000];
    (void)nothing_is_queued(world);
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = pattern_at(world->said + i);
    size_t left = ECHO_BYTES - world->said;
    ssize_t n = write(world->peer, piece, left < sizeof piece ? left : sizeof piece);
    if (n > 0) world->said += (size_t)n;
    return buf_length(&world->taken) == ECHO_BYTES;
}

static void bytes_come_as_they_were_sent(void **unused) {
    (void)unused;
    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        struct world *world = world_new(is_tcp);
        world->echoes = true;
        run_until(world, all_is_echoed);
        assert_pattern(&world->arrived, ECHO_BYTES);
        assert_pattern(&world->taken, ECHO_BYTES);
        assert_true(world->largest <= LOOP_READ_BYTES);
        assert_int_equal(world->ends, 0);
        world_free(world);
    }
}

static void a_stopped_stream_reads_nothing(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    stream_stop(&world->stream);
    stream_stop(&world->stream);
    say(world, "one");
    run_until(world, some_time_has_passed);
    assert_int_equal(world->calls, 0);
    stream_start(&world->stream);
    stream_start(&world->stream);
    assert_int_equal(world->calls, 0); /* never within the call */
    run_until(world, bytes_have_arrived);
    assert_string_equal(buf_text(&world->arrived), "one");
    world->stops_on_bytes = true;
    buf_clear(&world->arrived);
    say(world, "two");
    run_until(world, bytes_have_arrived);
    say(world, "three");
    run_until(world, some_time_has_passed);
    assert_string_equal(buf_text(&world->arrived), "two");
    assert_int_equal(world->hangups, 0);
    world_free(world);
}

/* ---- ends */

enum ending { SHUT, CLOSED, RESET };

static void end(struct world *world, enum ending ending) {
    struct linger at_once = {.l_onoff = 1};
    if (ending == RESET) {
        assert_int_equal(setsockopt(world->peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once),
                         0);
    }
    if (ending == SHUT) {
        assert_int_equal(shutdown(world->peer, SHUT_WR), 0);
    } else {
        peer_close(world);
    }
}

static const struct {
    bool is_tcp;
    enum ending ending;
    bool is_stopped; /* while it ends */
    bool closes;     /* in on_ended */
    const char *words;
    int error;
} endings[] = {
    {false, SHUT, false, false, "", 0},
    {false, SHUT, false, false, "bye", 0},
    {false, CLOSED, false, false, "bye", 0},
    {false, CLOSED, false, true, "bye", 0},
    {false, CLOSED, true, false, "bye", 0},
    {false, SHUT, true, false, "bye", 0},
    {true, SHUT, false, false, "bye", 0},
    {true, CLOSED, false, false, "bye", 0},
    {true, CLOSED, true, false, "bye", 0},
    {true, RESET, false, false, "", ECONNRESET},
    {true, RESET, false, true, "", ECONNRESET},
    {true, RESET, true, false, "", ECONNRESET},
    {true, RESET, false, false, "last words", ECONNRESET},
    {true, RESET, true, false, "last words", ECONNRESET},
    {true, RESET, true, true, "last words", ECONNRESET},
};

static void ends_are_told_once(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(endings); i++) {
        struct world *world = world_new(endings[i].is_tcp);
        world->closes_on_end = endings[i].closes;
        if (endings[i].is_stopped) stream_stop(&world->stream);
        run_until(world, some_time_has_passed);
        say(world, endings[i].words);
        end(world, endings[i].ending);
        if (endings[i].is_stopped) {
            run_until(world, it_has_hung_up);
            run_until(world, some_time_has_passed);
            assert_int_equal(world->ends, 0);
            assert_int_equal(world->calls, 0);
            stream_start(&world->stream);
        }
        run_until(world, it_has_ended);
        run_until(world, some_time_has_passed);
        if (world->error != endings[i].error) fail_msg("row %zu: error %d", i, world->error);
        assert_string_equal(buf_text(&world->arrived), endings[i].words);
        assert_int_equal(world->ends, 1);
        assert_int_equal(world->hangups, endings[i].is_stopped);
        world_free(world);
    }
}

/* The other side has said all, and still listens. */
static void half_a_connection_takes_bytes(void **unused) {
    (void)unused;
    struct world *world = world_new(true);
    end(world, SHUT);
    run_until(world, it_has_ended);
    stream_write_bytes(&world->stream, bytes_of_text("the answer"));
    run_until(world, some_time_has_passed);
    (void)nothing_is_queued(world);
    assert_string_equal(buf_text(&world->taken), "the answer");
    world_free(world);
}

/* A queue for a connection that breaks is dropped, and nobody waits for it. */
static void a_reset_drops_the_queue(void **unused) {
    (void)unused;
    for (int is_stopped = 0; is_stopped < 2; is_stopped++) {
        struct world *world = world_new(true);
        struct buf all = {0};
        append_pattern(&all, 2000000);
        if (is_stopped) stream_stop(&world->stream);
        stream_write_bytes(&world->stream, buf_content(&all));
        buf_release(&all);
        assert_true(stream_queued(&world->stream) > 0);
        end(world, RESET);
        run_until(world, is_stopped ? it_has_hung_up : it_has_ended);
        assert_int_equal(stream_queued(&world->stream), 0);
        assert_int_equal(world->drains, 0);
        world_free(world);
    }
}

static void a_stream_may_close_itself(void **unused) {
    (void)unused;
    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        struct world *world = world_new(is_tcp);
        world->closes_on_bytes = true;
        say(world, "hello");
        peer_close(world);
        run_until(world, bytes_have_arrived);
        run_until(world, some_time_has_passed);
        assert_int_equal(world->calls, 1);
        assert_int_equal(world->ends, 0); /* no callback comes after it */
        world_free(world);
    }
}

/* ---- to another loop */

static void a_stream_moves(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    struct world *other = world_new(false);
    struct socket_parts parts = {0};
    say(world, "first ");
    run_until(world, bytes_have_arrived);
    assert_true(stream_detach(&world->stream, &parts));
    assert_false(stream_is_open(&world->stream));
    stream_stop(&world->stream);
    stream_start(&world->stream);
    stream_close(&other->stream);
    stream_open(&other->stream, other->loop, parts.fd, &ops);
    say(world, "second");
    run_until(other, bytes_have_arrived);
    run_until(world, some_time_has_passed);
    assert_string_equal(buf_text(&world->arrived), "first ");
    assert_string_equal(buf_text(&other->arrived), "second");
    assert_false(stream_detach(&world->stream, &parts));
    world_free(world);
    world_free(other);
}

static void a_stream_with_a_queue_stays(void **unused) {
    (void)unused;
    struct world *world = world_new(false);
    struct buf all = {0};
    struct socket_parts parts = {0};
    append_pattern(&all, 1000000);
    stream_write_bytes(&world->stream, buf_content(&all));
    buf_release(&all);
    assert_false(stream_detach(&world->stream, &parts));
    assert_true(stream_is_open(&world->stream));
    run_until(world, nothing_is_queued);
    assert_true(stream_detach(&world->stream, &parts));
    assert_int_equal(close(parts.fd), 0);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_arrive_in_order),
        cmocka_unit_test(writing_nothing_does_nothing),
        cmocka_unit_test(a_full_socket_queues),
        cmocka_unit_test(writing_to_nobody),
        cmocka_unit_test(closing_sends_what_it_can),
        cmocka_unit_test(bytes_come_as_they_were_sent),
        cmocka_unit_test(a_stopped_stream_reads_nothing),
        cmocka_unit_test(ends_are_told_once),
        cmocka_unit_test(half_a_connection_takes_bytes),
        cmocka_unit_test(a_reset_drops_the_queue),
        cmocka_unit_test(a_stream_may_close_itself),
        cmocka_unit_test(a_stream_moves),
        cmocka_unit_test(a_stream_with_a_queue_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
