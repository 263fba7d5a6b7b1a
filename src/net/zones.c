/* The watch over zones; see net/zones.h. A round is at zone `at`; its next step, and the next
 * round, come by the timer, which does not run while a question is under way. */
#include "net/zones.h"

#include "core/clock.h"
#include "core/log.h"
#include "core/memory.h"
#include "net/dns.h"
#include "net/loop.h"
#include "net/resolver.h"

#include <string.h>

struct zones {
    struct loop *loop;
    struct dns *dns;
    struct loop_timer timer;
    uint64_t period_us; /* 0: off */
    size_t at;
    bool is_asking;
    char zone[DNS_NAME_SIZE]; /* that is asked for */
};

static void ask_for_names(struct zones *zones) {
    struct buf hosts = {0};
    dns_zone_hosts(zones->dns, zones->zone, &hosts);
    const char *at = buf_text(&hosts);
    const char *end = at + buf_length(&hosts);
    for (; at < end; at += strlen(at) + 1) resolver_ask(loop_resolver(zones->loop), at, NULL);
    buf_release(&hosts);
}

static void on_serial(void *owner, const uint32_t *serial) {
    struct zones *zones = owner;
    uint32_t old = 0;
    zones->is_asking = false;
    if (serial == NULL) {
        log_line(LOG_LEVEL_DEBUG, "failure to get zone '%s' serial", zones->zone);
    } else if (dns_zone_note(zones->dns, zones->zone, *serial, &old)) {
        log_line(LOG_LEVEL_LOG, "zone '%s' serial changed: old=%u new=%u", zones->zone, old,
                 *serial);
        ask_for_names(zones);
    }
    if (zones->period_us > 0) loop_timer_start(zones->loop, &zones->timer, 0, 0);
}

static void rest(struct zones *zones) {
    zones->at = 0;
    loop_timer_stop(&zones->timer);
    if (zones->period_us > 0)
        loop_timer_start(zones->loop, &zones->timer, zones->period_us / US_PER_MS + 1, 0);
}

static void on_timer(struct loop_timer *timer) {
    struct zones *zones = LIST_OWNER(timer, struct zones, timer);
    if (!dns_zone_at(zones->dns, zones->at++, zones->zone)) {
        rest(zones);
        return;
    }
    zones->is_asking = true;
    resolver_ask_serial(loop_resolver(zones->loop), zones->zone, on_serial, zones);
}

struct zones *zones_new(struct loop *loop) {
    struct zones *zones = memory_new(sizeof *zones);
    zones->loop = loop;
    zones->dns = resolver_dns(loop_resolver(loop));
    zones->timer.run = on_timer;
    return zones;
}

void zones_set_period(struct zones *zones, uint64_t period_us) {
    if (zones->period_us == period_us) return;
    zones->period_us = period_us;
    if (!zones->is_asking) rest(zones);
}

void zones_free(struct zones **zones_at) {
    struct zones *zones = *zones_at;
    if (zones == NULL) return;
    *zones_at = NULL;
    loop_timer_stop(&zones->timer);
    memory_free(zones);
}
