/*
 * The live page: one HTML file with its style and script inside, which asks /api/pools once a
 * second. Nothing is loaded from elsewhere, and every text is put in as text, never as HTML.
 */
#include "pages.h"
#include "views.h"

#include "admin/json.h"
#include "core/clock.h"
#include "core/memory.h"

#define OK 200u

static const char *const html[] = {
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Weir</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root{color-scheme:light dark;--good:#2a8f4d;--warn:#b9770e;--bad:#c0392b;--line:#8884}\n"
    "body{font:14px/1.45 system-ui,sans-serif;margin:0 auto;max-width:75rem;padding:1.2rem}\n"
    "h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:1.6rem 0 .4rem}\n"
    "header{display:flex;gap:.8rem;align-items:baseline;flex-wrap:wrap}\n"
    "#status{font-weight:600}.healthy{color:var(--good)}.degraded{color:var(--warn)}"
    ".unhealthy,.firing,.down{color:var(--bad)}.pending{color:var(--warn)}\n"
    "ul{margin:.5rem 0;padding-left:1.2rem}table{border-collapse:collapse;width:100%}\n"
    "th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}\n"
    "th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".bar{width:9rem;height:.7rem;background:#8882;border-radius:2px;overflow:hidden}"
    ".bar i{display:block;height:100%;background:var(--good)}"
    ".bar i.full{background:var(--bad)}.muted{opacity:.65}\n"
    "section{overflow-x:auto}</style></head><body>\n",
    "<header><h1>Weir</h1><span id=\"version\" class=\"muted\"></span><span id=\"status\"></span>"
    "<span id=\"when\" class=\"muted\"></span></header>\n<ul id=\"reasons\"></ul>\n"
    "<section><h2>Pools</h2><table id=\"pools\"></table></section>\n"
    "<section><h2>Nodes</h2><table id=\"nodes\"></table></section>\n"
    "<section><h2>Alerts</h2><table id=\"alerts\"></table></section>\n"
    "<p class=\"muted\"><a href=\"/metrics\">metrics</a> &middot; <a href=\"/health\">health</a> "
    "&middot; <a href=\"/ready\">ready</a></p>\n<script>\n'use strict';\n",
    "const by = id => document.getElementById(id);\n"
    "function element(tag, text, name) {\n"
    "  const made = document.createElement(tag);\n"
    "  if (text !== undefined && text !== null) made.textContent = text;\n"
    "  if (name) made.className = name;\n  return made;\n}\n"
    "function bar(used, size) {\n"
    "  const outer = element('div', null, 'bar');\n"
    "  const inner = element('i', null, size > 0 && used >= size ? 'full' : '');\n"
    "  inner.style.width = (size > 0 ? Math.min(100, 100 * used / size) : 0) + '%';\n"
    "  outer.append(inner);\n  return outer;\n}\n"
    "function fill(id, columns, rows) {\n"
    "  const head = element('tr');\n"
    "  for (const [title, , name] of columns) head.append(element('th', title, name));\n"
    "  const lines = rows.map(row => {\n    const line = element('tr');\n"
    "    for (const [, get, name] of columns) {\n"
    "      const value = get(row);\n      const cell = element('td', null, name);\n"
    "      if (value !== undefined && value !== null) cell.append(value);\n"
    "      line.append(cell);\n    }\n    return line;\n  });\n"
    "  by(id).replaceChildren(head, ...lines);\n}\n"
    "let before = null;\n"
    "const key = pool => pool.database + '\\n' + pool.user;\n"
    "function rate(pool, field, now) {\n"
    "  const old = before && before.pools.get(key(pool));\n"
    "  if (!old || now <= before.at) return '';\n"
    "  return Math.round((pool[field] - old[field]) * 1000 / (now - before.at));\n}\n"
    "const busy = pool => pool.active + pool.cleaning;\n"
    "function show(data) {\n"
    "  const now = Date.now();\n"
    "  by('version').textContent = data.version;\n"
    "  by('status').textContent = data.status;\n  by('status').className = data.status;\n"
    "  by('when').textContent = data.timestamp;\n"
    "  by('reasons').replaceChildren(...data.reasons.map(one => element('li', one)));\n"
    "  fill('pools', [['database', p => p.database], ['user', p => p.user], ['mode', p => "
    "p.mode],\n"
    "    ['in use', p => bar(busy(p), p.size)],\n"
    "    ['active', p => p.active, 'n'], ['idle', p => p.idle, 'n'],\n"
    "    ['connecting', p => p.connecting, 'n'], ['size', p => p.size || 'none', 'n'],\n"
    "    ['clients', p => p.clients, 'n'], ['waiting', p => p.waiting, 'n'],\n"
    "    ['longest wait', p => p.wait_ms ? p.wait_ms.toFixed(0) + ' ms' : '', 'n'],\n"
    "    ['queries/s', p => rate(p, 'queries', now), 'n'],\n"
    "    ['transactions/s', p => rate(p, 'transactions', now), 'n']], data.pools);\n"
    "  fill('nodes', [['database', n => n.database], ['node', n => n.name], ['role', n => "
    "n.role],\n"
    "    ['state', n => element('span', n.state, n.state)],\n"
    "    ['address', n => n.host + ':' + n.port], ['in use', n => n.active_servers, 'n'],\n"
    "    ['latency', n => n.latency_ms === null ? '' : n.latency_ms.toFixed(2) + ' ms', 'n'],\n"
    "    ['lag', n => n.lag_bytes === null ? '' : n.lag_bytes + ' B, ' + n.lag_ms + ' ms', 'n'],\n"
    "    ['error', n => n.error]], data.nodes);\n"
    "  fill('alerts', [['alert', a => a.name], ['scope', a => a.scope],\n"
    "    ['servers in use', a => a.value, 'n'], ['more than', a => a.threshold, 'n'],\n"
    "    ['for', a => a.for_s + ' s', 'n'], ['state', a => element('span', a.state, a.state)]],\n"
    "    data.alerts);\n"
    "  before = {at: now, pools: new Map(data.pools.map(pool => [key(pool), pool]))};\n}\n"
    "async function turn() {\n  try {\n"
    "    const answer = await fetch('/api/pools', {cache: 'no-store'});\n"
    "    show(await answer.json());\n  } catch (error) {\n"
    "    by('status').textContent = 'no answer';\n    by('status').className = 'unhealthy';\n  }\n"
    "  setTimeout(turn, 1000);\n}\nturn();\n</script></body></html>\n",
};

unsigned page_home(struct admin *admin, const struct census *census, struct buf *out) {
    (void)admin;
    (void)census;
    for (size_t i = 0; i < COUNT(html); i++) buf_append_text(out, html[i]);
    return OK;
}

/* Servers that a pool may have, over all nodes; 0 where one of them has no limit. */
static uint64_t size_of(const struct census_pool *pool) {
    uint64_t size = 0;
    size_t nodes =
        pool->cluster != NULL && !cluster_is_probed(pool->cluster) ? 1 : pool->nodes_count;
    for (size_t i = 0; i < nodes; i++) {
        if (pool->nodes[i].limit == 0) return 0;
        size += pool->nodes[i].limit;
    }
    return size;
}

static void write_pool(struct json *json, const struct census_pool *pool) {
    const uint32_t *servers = pool->servers;
    uint64_t clients = 0;
    for (unsigned i = 0; i < CENSUS_CLIENT_COUNT; i++) clients += pool->clients[i];
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"size", size_of(pool)},
        {"active", servers[CENSUS_ACTIVE] + servers[CENSUS_ACTIVE_CANCEL]},
        {"idle", servers[CENSUS_IDLE] + servers[CENSUS_USED]},
        {"cleaning", servers[CENSUS_TESTED] + servers[CENSUS_BEING_CANCELED]},
        {"connecting", servers[CENSUS_LOGIN]},
        {"clients", clients},
        {"waiting", pool->clients[CENSUS_CLIENT_WAITING]},
        {"queries", pool->stats.queries},
        {"transactions", pool->stats.transactions},
        {"received_bytes", pool->stats.bytes_received},
        {"sent_bytes", pool->stats.bytes_sent},
    };
    json_open(json, NULL, '{');
    json_text(json, "database", pool->database_name);
    json_text(json, "user", pool->user);
    json_text(json, "mode", pool_mode_text(pool->mode));
    for (size_t i = 0; i < COUNT(numbers); i++) json_number(json, numbers[i].key, numbers[i].value);
    json_decimal(json, "wait_ms", (double)pool->wait_us / US_PER_MS);
    json_close(json, '}');
}

static void write_alerts(struct json *json, const struct admin *admin) {
    size_t count;
    struct scoped_alert **alerts = monitor_list(admin, &count);
    json_open(json, "alerts", '[');
    for (size_t i = 0; i < count; i++) {
        const struct alert *alert = &alerts[i]->alert;
        json_open(json, NULL, '{');
        json_text(json, "name", "active_servers");
        json_text(json, "scope", alert_scope_text(alerts[i]));
        json_number(json, "value", alert->value);
        json_number(json, "threshold", alert->rule.threshold);
        json_number(json, "for_s", alert->rule.for_us / US_PER_S);
        json_text(json, "state", alert_state_text(alert->state));
        json_close(json, '}');
    }
    json_close(json, ']');
    memory_free((void *)alerts);
}

unsigned page_pools(struct admin *admin, const struct census *census, struct buf *out) {
    struct json json = {.out = out};
    json_open(&json, NULL, '{');
    (void)health_write(&json, admin, census);
    json_open(&json, "pools", '[');
    for (size_t i = 0; i < census->count; i++)
        if (census->pools[i]->database != NULL) write_pool(&json, census->pools[i]);
    json_close(&json, ']');
    write_alerts(&json, admin);
    json_close(&json, '}');
    buf_append_u8(out, '\n');
    return OK;
}
