/*
 * c-ares on our loop; see net/resolver.h.
 *
 * c-ares tells which of its sockets it wants watched, and how long it wants to sleep: each of them
 * is watched by the loop, and one timer is set anew after every call into c-ares, which reads
 * and writes by itself and never blocks, but for its look into /etc/hosts.
 *
 *      asked --c-ares--> answered: the cache has it --end of turn--> the waiters are told, gone
 *
 * c-ares may answer from within the very call that asks, and takes no question back. So waiters are
 * told by a hook, and may leave at any time; the question stays.
 */
#include "net/resolver.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/socket.h"

#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <string.h>

struct resolver {
    struct loop *loop;
    struct dns *dns;
    ares_channel channel;
    struct loop_timer timer;
    struct loop_hook hook;
    struct list watched;  /* sockets of c-ares */
    struct list asked;    /* questions, as answered */
    struct list answered; /* whose waiters are to be told */
};

struct watched {
    struct link link;
    struct resolver *resolver;
    struct socket *socket;
    int wanted;
};

struct question {
    struct link link;
    struct resolver *resolver;
    struct list waiting;
    char *host;
};

struct serial_question {
    struct resolver *resolver;
    void (*done)(void *owner, const uint32_t *serial);
    void *owner;
};

const char *resolver_version(void) {
    return ares_version(NULL);
}

struct dns *resolver_dns(const struct resolver *resolver) {
    return resolver->dns;
}

/* ---- time and sockets */

/* After each call into c-ares: it may want to be called at another time now. */
static void set_timer(struct resolver *resolver) {
    struct timeval left;
    if (ares_timeout(resolver->channel, NULL, &left) == NULL) {
        loop_timer_stop(&resolver->timer);
        return;
    }
    uint64_t ms = (uint64_t)left.tv_sec * 1000 + (uint64_t)left.tv_usec / US_PER_MS;
    loop_timer_start(resolver->loop, &resolver->timer, ms + 1, 0);
}

static void on_timer(struct loop_timer *timer) {
    struct resolver *resolver = LIST_OWNER(timer, struct resolver, timer);
    ares_process_fd(resolver->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    set_timer(resolver);
}

/* An error is found by reading and by writing; the socket, which is watched no more after one, is
 * set again before, since it may be gone afterwards. */
static void on_socket(void *owner, int events) {
    struct watched *watched = owner;
    struct resolver *resolver = watched->resolver;
    int fd = socket_descriptor(watched->socket);
    bool is_broken = (events & SOCKET_BROKEN) != 0;
    if (is_broken) socket_want(watched->socket, watched->wanted);
    ares_process_fd(resolver->channel,
                    is_broken || (events & SOCKET_READABLE) ? fd : ARES_SOCKET_BAD,
                    is_broken || (events & SOCKET_WRITABLE) ? fd : ARES_SOCKET_BAD);
    set_timer(resolver);
}

static struct watched *find_watched(const struct resolver *resolver, int fd) {
    LIST_EACH (&resolver->watched, l) {
        struct watched *watched = LIST_OWNER(l, struct watched, link);
        if (socket_descriptor(watched->socket) == fd) return watched;
    }
    return NULL;
}

static struct watched *watch(struct resolver *resolver, int fd) {
    struct watched *watched = memory_new(sizeof *watched);
    watched->resolver = resolver;
    watched->socket = socket_new(resolver->loop, fd, on_socket, watched);
    list_append(&resolver->watched, &watched->link);
    return watched;
}

/* c-ares wants other events of a socket, or none because it is about to close it. */
static void on_socket_state(void *owner, ares_socket_t fd, int readable, int writable) {
    struct resolver *resolver = owner;
    struct watched *watched = find_watched(resolver, fd);
    if (readable || writable) {
        if (watched == NULL) watched = watch(resolver, fd);
        watched->wanted = (readable ? SOCKET_READABLE : 0) | (writable ? SOCKET_WRITABLE : 0);
        socket_want(watched->socket, watched->wanted);
    } else if (watched != NULL) {
        struct socket_parts parts; /* the descriptor is c-ares' own to close */
        list_remove(&resolver->watched, &watched->link);
        socket_detach(&watched->socket, &parts);
        memory_free(watched);
    }
}

/* ---- addresses */

static void question_free(struct question *question) {
    struct link *l;
    while ((l = list_pop(&question->waiting)) != NULL)
        LIST_OWNER(l, struct resolver_wait, link)->list = NULL;
    memory_free(question->host);
    memory_free(question);
}

static void tell(struct loop_hook *hook) {
    struct resolver *resolver = LIST_OWNER(hook, struct resolver, hook);
    struct link *l;
    while ((l = list_pop(&resolver->answered)) != NULL) {
        struct question *question = LIST_OWNER(l, struct question, link);
        while ((l = list_pop(&question->waiting)) != NULL) {
            struct resolver_wait *wait = LIST_OWNER(l, struct resolver_wait, link);
            wait->list = NULL;
            wait->done(wait);
        }
        question_free(question);
    }
}

/* Writes what c-ares has found; returns how many. */
static unsigned read_addresses(const struct hostent *found, char (*addresses)[DNS_ADDRESS_SIZE]) {
    unsigned count = 0;
    for (char **at = found->h_addr_list; *at != NULL && count < DNS_ADDRESSES_MAX; at++) {
        if (inet_ntop(found->h_addrtype, *at, addresses[count], DNS_ADDRESS_SIZE) != NULL) count++;
    }
    return count;
}

static void on_hosts(void *owner, int status, int timeouts, struct hostent *found) {
    struct question *question = owner;
    struct resolver *resolver = question->resolver;
    (void)timeouts;
    list_remove(&resolver->asked, &question->link);
    dns_asking(resolver->dns, -1);
    if (status == ARES_EDESTRUCTION) {
        question_free(question);
        return;
    }
    char addresses[DNS_ADDRESSES_MAX][DNS_ADDRESS_SIZE];
    struct dns_answer answer = {(const char(*)[DNS_ADDRESS_SIZE])addresses, 0, NULL};
    if (status == ARES_SUCCESS) answer.count = read_addresses(found, addresses);
    if (answer.count == 0) {
        answer.why = status == ARES_SUCCESS ? "no address" : ares_strerror(status);
        log_line(LOG_LEVEL_WARNING, "DNS lookup failed: %s: result=%d", question->host, status);
    }
    dns_put(resolver->dns, question->host, loop_now_us(resolver->loop), &answer);
    list_append(&resolver->answered, &question->link);
    loop_at_end(resolver->loop, &resolver->hook);
}

static struct question *find_question(const struct resolver *resolver, const char *host) {
    LIST_EACH (&resolver->asked, l) {
        struct question *question = LIST_OWNER(l, struct question, link);
        if (strcmp(question->host, host) == 0) return question;
    }
    return NULL;
}

static void wait_in(struct question *question, struct resolver_wait *wait) {
    if (wait == NULL) return;
    wait->list = &question->waiting;
    list_append(&question->waiting, &wait->link);
}

void resolver_ask(struct resolver *resolver, const char *host, struct resolver_wait *wait) {
    struct question *question = find_question(resolver, host);
    if (question != NULL) {
        wait_in(question, wait);
        return;
    }
    question = memory_new(sizeof *question);
    question->resolver = resolver;
    question->host = memory_copy_text(host);
    list_init(&question->waiting);
    wait_in(question, wait);
    list_append(&resolver->asked, &question->link);
    dns_note(resolver->dns, host);
    dns_asking(resolver->dns, 1);
    /* Both families are asked for; of those found the better one counts, by RFC 6724. */
    ares_gethostbyname(resolver->channel, question->host, AF_UNSPEC, on_hosts, question);
    set_timer(resolver);
}

void resolver_leave(struct resolver_wait *wait) {
    if (wait->list == NULL) return;
    list_remove(wait->list, &wait->link);
    wait->list = NULL;
}

/* ---- serials */

static void on_serial(void *owner, int status, int timeouts, unsigned char *packet, int len) {
    struct serial_question question = *(struct serial_question *)owner;
    (void)timeouts;
    memory_free(owner);
    dns_asking(question.resolver->dns, -1);
    if (status == ARES_EDESTRUCTION) return;
    struct ares_soa_reply *record = NULL;
    if (status == ARES_SUCCESS) status = ares_parse_soa_reply(packet, len, &record);
    uint32_t serial = status == ARES_SUCCESS ? record->serial : 0;
    if (record != NULL) ares_free_data(record);
    question.done(question.owner, status == ARES_SUCCESS ? &serial : NULL);
}

void resolver_ask_serial(struct resolver *resolver, const char *zone,
                         void (*done)(void *owner, const uint32_t *serial), void *owner) {
    struct serial_question *question = memory_new(sizeof *question);
    *question = (struct serial_question){resolver, done, owner};
    dns_asking(resolver->dns, 1);
    ares_search(resolver->channel, zone, ns_c_in, ns_t_soa, on_serial, question);
    set_timer(resolver);
}

/* ---- life */

struct resolver *resolver_new(struct loop *loop, struct dns *dns, const char *resolv_conf,
                              const char **error) {
    struct resolver *resolver = memory_new(sizeof *resolver);
    resolver->loop = loop;
    resolver->dns = dns;
    resolver->timer.run = on_timer;
    resolver->hook.run = tell;
    list_init(&resolver->watched);
    list_init(&resolver->asked);
    list_init(&resolver->answered);
    char *path = memory_copy_text(resolv_conf);
    struct ares_options options = {
        .sock_state_cb = on_socket_state, .sock_state_cb_data = resolver, .resolvconf_path = path};
    int mask = ARES_OPT_SOCK_STATE_CB;
    if (path[0] != '\0') mask |= ARES_OPT_RESOLVCONF;
    int status = ares_library_init(ARES_LIB_INIT_ALL);
    if (status == ARES_SUCCESS) {
        status = ares_init_options(&resolver->channel, &options, mask);
        if (status != ARES_SUCCESS) ares_library_cleanup();
    }
    memory_free(path);
    if (status != ARES_SUCCESS) {
        *error = ares_strerror(status);
        memory_free(resolver);
        return NULL;
    }
    loop_set_resolver(loop, resolver);
    return resolver;
}

void resolver_close(struct resolver **resolver_at) {
    struct resolver *resolver = *resolver_at;
    if (resolver == NULL) return;
    *resolver_at = NULL;
    ares_destroy(resolver->channel);
    ares_library_cleanup();
    CHECK(resolver->watched.count == 0 && resolver->asked.count == 0);
    struct link *l;
    while ((l = list_pop(&resolver->answered)) != NULL)
        question_free(LIST_OWNER(l, struct question, link));
    loop_timer_stop(&resolver->timer);
    loop_not_at_end(resolver->loop, &resolver->hook);
    loop_set_resolver(resolver->loop, NULL);
    memory_free(resolver);
}
