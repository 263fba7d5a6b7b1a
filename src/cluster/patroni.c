/*
 * Asking Patroni; see cluster/patroni.h.
 *
 *      [next] -- interval, or a hurry --> asking -- a good answer --> told --> [next]
 *                                           ^  '-- no good one, further URLs --'
 *                                           |                        '-- none left --> told NULL
 *
 * libcurl's sockets and its one timeout are watched by the loop; its callbacks and ours never meet,
 * since what has ended is taken from it only after it has returned. Nothing comes from the
 * environment but the system's certificates, no redirect is followed, and an answer has a bound.
 */
#include "cluster/patroni.h"

#include "core/buf.h"
#include "core/check.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/loop.h"
#include "net/resolve.h"
#include "net/watch.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>

#define URLS_MAX   16u
#define BODY_MAX   (256u << 10)
#define HURRY_US   ((uint64_t)200 * US_PER_MS)
#define TIMEOUT_MS 2000L /* of one URL, since others may be left */

struct patroni {
    struct loop *loop;
    patroni_told told;
    void *owner;
    CURLM *multi;
    CURL *question; /* NULL: none is open */
    struct loop_timer of_curl;
    struct loop_timer next;
    struct resolve *resolve;
    struct patroni_leader leader; /* whose host is being looked up */
    unsigned interval_ms;
    uint64_t asked_us;
    bool is_failing; /* the log has been told */
    struct buf body;
    char error[CURL_ERROR_SIZE];
    unsigned at, tried; /* the URL that is asked, and how many were in this round */
    unsigned count;
    char *urls[URLS_MAX];
};

struct socket_watch {
    struct watch watch;
    struct patroni *patroni;
};

/* ---- answers */

static const char *text_of(const json_t *member, const char *key) {
    const char *text = json_string_value(json_object_get(member, key));
    return text == NULL ? "" : text;
}

static bool is_leader(const json_t *member) {
    const char *role = text_of(member, "role");
    bool leads =
        strcmp(role, "leader") == 0 || strcmp(role, "primary") == 0 || strcmp(role, "master") == 0;
    return leads && strcmp(text_of(member, "state"), "running") == 0;
}

static bool read_place(const json_t *member, struct patroni_leader *leader) {
    const char *host = text_of(member, "host");
    json_int_t port = json_integer_value(json_object_get(member, "port"));
    if (host[0] == '\0' || strlen(host) >= sizeof leader->host || port < 1 || port > UINT16_MAX)
        return false;
    (void)snprintf(leader->host, sizeof leader->host, "%s", host);
    leader->port = (unsigned)port;
    return true;
}

bool patroni_read(struct bytes body, struct patroni_leader *leader) {
    json_error_t error;
    json_t *root = json_loadb(body.at, body.len, 0, &error);
    const json_t *members = json_object_get(root, "members");
    bool is_good = json_is_array(members);
    *leader = (struct patroni_leader){.port = 0};
    for (size_t i = 0; is_good && i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        if (!is_leader(member)) continue;
        /* Two at once: the answer says nothing. */
        is_good = leader->host[0] == '\0' && read_place(member, leader);
    }
    json_decref(root);
    return is_good;
}

/* ---- URLs */

/* The next URL of a list, without blanks and a slash at its end; an empty one at the end. */
static struct bytes next_url(const char **at) {
    while (**at == ',' || **at == ' ') (*at)++;
    const char *begin = *at;
    while (**at != '\0' && **at != ',') (*at)++;
    const char *end = *at;
    while (end > begin && (end[-1] == ' ' || end[-1] == '/')) end--;
    return bytes_of(begin, (size_t)(end - begin));
}

static void take_urls(struct patroni *patroni, const char *urls) {
    struct bytes url;
    while (patroni->count < URLS_MAX && (url = next_url(&urls)).len > 0) {
        struct buf text = {0};
        buf_append_bytes(&text, url);
        buf_append_text(&text, "/cluster");
        patroni->urls[patroni->count++] = memory_copy_text(buf_text(&text));
        buf_release(&text);
    }
}

/* Without what stands before an @: it may be a password. */
static const char *place_of(const char *url) {
    const char *place = strstr(url, "://");
    const char *at = strchr(url, '@');
    if (at != NULL) return at + 1;
    return place == NULL ? url : place + 3;
}

/* ---- questions */

static void ask(struct patroni *patroni);

static void ask_later(struct patroni *patroni) {
    loop_timer_start(patroni->loop, &patroni->next, patroni->interval_ms, 0);
}

static void on_address(void *owner, const char *address, const char *error) {
    struct patroni *patroni = owner;
    (void)error;
    const struct patroni_leader nobody = {.port = 0};
    bool is_known = address != NULL;
    patroni->resolve = NULL; /* it is over */
    if (is_known) {
        (void)snprintf(patroni->leader.host, sizeof patroni->leader.host, "%s", address);
        is_known = patroni->told(patroni->owner, &patroni->leader);
    }
    if (!is_known) (void)patroni->told(patroni->owner, &nobody);
}

static void tell(struct patroni *patroni, const struct patroni_leader *leader) {
    resolve_close(&patroni->resolve);
    if (patroni->told(patroni->owner, leader)) return;
    patroni->leader = *leader;
    patroni->resolve =
        resolve_begin(patroni->loop, patroni->leader.host, false, on_address, patroni);
}

/* One URL has answered, or not. */
static void end_question(struct patroni *patroni, bool is_answered) {
    struct patroni_leader leader;
    if (is_answered && !patroni_read(buf_content(&patroni->body), &leader)) {
        (void)snprintf(patroni->error, sizeof patroni->error, "its answer is none of GET /cluster");
        is_answered = false;
    }
    if (is_answered) {
        if (patroni->is_failing) log_line(LOG_LEVEL_LOG, "Patroni answers again");
        patroni->is_failing = false;
        patroni->tried = 0;
        ask_later(patroni);
        tell(patroni, &leader);
        return;
    }
    if (!patroni->is_failing && patroni->tried + 1 >= patroni->count)
        log_line(LOG_LEVEL_WARNING, "Patroni at %s does not answer: %s",
                 place_of(patroni->urls[patroni->at]), patroni->error);
    patroni->at = (patroni->at + 1) % patroni->count;
    if (++patroni->tried < patroni->count) {
        ask(patroni);
        return;
    }
    patroni->is_failing = true;
    patroni->tried = 0;
    ask_later(patroni);
    (void)patroni->told(patroni->owner, NULL);
}

static void let_go(struct patroni *patroni) {
    if (patroni->question == NULL) return;
    (void)curl_multi_remove_handle(patroni->multi, patroni->question);
    curl_easy_cleanup(patroni->question);
    patroni->question = NULL;
}

/* After libcurl has worked: whether the question has come to its end. */
static void look(struct patroni *patroni) {
    int left;
    CURLMsg *message = curl_multi_info_read(patroni->multi, &left);
    if (message == NULL || message->msg != CURLMSG_DONE) return;
    CURLcode code = message->data.result;
    long status = 0;
    (void)curl_easy_getinfo(patroni->question, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK && patroni->error[0] == '\0')
        (void)snprintf(patroni->error, sizeof patroni->error, "%s", curl_easy_strerror(code));
    if (code == CURLE_OK && status != 200)
        (void)snprintf(patroni->error, sizeof patroni->error, "status %ld", status);
    let_go(patroni);
    end_question(patroni, code == CURLE_OK && status == 200);
}

static size_t on_body(char *at, size_t size, size_t count, void *owner) {
    struct patroni *patroni = owner;
    size_t len = size * count;
    if (buf_length(&patroni->body) + len > BODY_MAX) return 0; /* libcurl gives up */
    buf_append(&patroni->body, at, len);
    return len;
}

static CURL *new_question(struct patroni *patroni) {
    CURL *easy = curl_easy_init();
    CHECK(easy != NULL);
    bool is_set = curl_easy_setopt(easy, CURLOPT_URL, patroni->urls[patroni->at]) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_USERAGENT, "weir/" WEIR_VERSION) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, TIMEOUT_MS) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, patroni->error) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
                  curl_easy_setopt(easy, CURLOPT_WRITEDATA, patroni) == CURLE_OK;
    CHECK(is_set);
    return easy;
}

static void ask(struct patroni *patroni) {
    CHECK(patroni->question == NULL);
    loop_timer_stop(&patroni->next);
    patroni->asked_us = loop_now_us(patroni->loop);
    patroni->error[0] = '\0';
    buf_clear(&patroni->body);
    patroni->question = new_question(patroni);
    /* It begins by setting the timer. */
    CHECK(curl_multi_add_handle(patroni->multi, patroni->question) == CURLM_OK);
}

static void on_next(struct loop_timer *timer) {
    ask(LIST_OWNER(timer, struct patroni, next));
}

/* ---- libcurl on the loop */

static void on_socket_news(struct watch *watch, uint32_t events) {
    struct patroni *patroni = LIST_OWNER(watch, struct socket_watch, watch)->patroni;
    int running, mask = 0;
    if (events & EPOLLIN) mask |= CURL_CSELECT_IN;
    if (events & EPOLLOUT) mask |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP)) mask |= CURL_CSELECT_ERR;
    (void)curl_multi_socket_action(patroni->multi, watch->fd, mask, &running);
    look(patroni); /* the watch may be gone */
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *owner, void *known) {
    struct patroni *patroni = owner;
    struct socket_watch *socket = known;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (socket == NULL) return 0;
        watch_want(&socket->watch, 0);
        memory_free(socket);
        (void)curl_multi_assign(patroni->multi, fd, NULL);
        return 0;
    }
    if (socket == NULL) {
        socket = memory_new(sizeof *socket);
        socket->patroni = patroni;
        watch_init(&socket->watch, loop_watches(patroni->loop), fd, on_socket_news);
        (void)curl_multi_assign(patroni->multi, fd, socket);
    }
    uint32_t events = 0;
    if (what & CURL_POLL_IN) events |= EPOLLIN;
    if (what & CURL_POLL_OUT) events |= EPOLLOUT;
    watch_want(&socket->watch, events);
    return 0;
}

static void on_curl_timer(struct loop_timer *timer) {
    struct patroni *patroni = LIST_OWNER(timer, struct patroni, of_curl);
    int running;
    (void)curl_multi_socket_action(patroni->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    look(patroni);
}

static int on_timeout(CURLM *multi, long timeout_ms, void *owner) {
    struct patroni *patroni = owner;
    (void)multi;
    loop_timer_stop(&patroni->of_curl);
    if (timeout_ms < 0) return 0;
    /* Never at once: libcurl must not be called from here. */
    loop_timer_start(patroni->loop, &patroni->of_curl, timeout_ms > 0 ? (uint64_t)timeout_ms : 1,
                     0);
    return 0;
}

/* ---- public */

struct patroni *patroni_new(struct loop *loop, const char *urls, unsigned interval_ms,
                            patroni_told told, void *owner) {
    struct patroni *patroni = memory_new(sizeof *patroni);
    patroni->loop = loop;
    patroni->told = told;
    patroni->owner = owner;
    patroni->interval_ms = interval_ms;
    patroni->of_curl.run = on_curl_timer;
    patroni->next.run = on_next;
    patroni->multi = curl_multi_init();
    CHECK(patroni->multi != NULL);
    bool is_set =
        curl_multi_setopt(patroni->multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
        curl_multi_setopt(patroni->multi, CURLMOPT_SOCKETDATA, patroni) == CURLM_OK &&
        curl_multi_setopt(patroni->multi, CURLMOPT_TIMERFUNCTION, on_timeout) == CURLM_OK &&
        curl_multi_setopt(patroni->multi, CURLMOPT_TIMERDATA, patroni) == CURLM_OK;
    CHECK(is_set);
    take_urls(patroni, urls);
    if (patroni->count > 0) ask(patroni);
    return patroni;
}

void patroni_hurry(struct patroni *patroni) {
    uint64_t now_us = loop_now_us(patroni->loop);
    bool is_late = now_us - patroni->asked_us >= HURRY_US;
    if (patroni->question == NULL && patroni->count > 0 && is_late) ask(patroni);
}

void patroni_free(struct patroni **patroni_at) {
    struct patroni *patroni = *patroni_at;
    if (patroni == NULL) return;
    *patroni_at = NULL;
    resolve_close(&patroni->resolve);
    let_go(patroni);
    (void)curl_multi_cleanup(patroni->multi); /* takes its sockets and its timer back */
    loop_timer_stop(&patroni->of_curl);
    loop_timer_stop(&patroni->next);
    for (unsigned i = 0; i < patroni->count; i++) memory_free_secret(patroni->urls[i]);
    buf_release(&patroni->body);
    memory_free(patroni);
}
