"""The HTTP side: metrics that promtool accepts, health, readiness, the alert, the live page, and
what becomes of bad requests."""

import http.client
import json
import re
import socket
import subprocess
import time
from datetime import datetime, timezone

import pytest

import cluster as clusters
import pooler as poolers
import wire

pytestmark = pytest.mark.weir_only


@pytest.fixture
def start_pooler(start_pooler):
    """As elsewhere, but it also waits for HTTP, which is the last to listen."""

    def start(*settings, **more):
        made = start_pooler(*settings, **more)
        made.wait_log("process up")
        return made

    return start


def fetch(pooler, path, method="GET", **more):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection(pooler.host, pooler.http_port, timeout=20)
    try:
        connection.request(method, path, **more)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def health(pooler):
    status, headers, body = fetch(pooler, "/health")
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(body)


def ready(pooler):
    status, _, body = fetch(pooler, "/ready")
    return status, json.loads(body)["reasons"]


SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


def metrics(pooler):
    """All samples: a dictionary from names to lists of (labels, value)."""
    status, headers, body = fetch(pooler, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = {}
    for line in body.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = SAMPLE.fullmatch(line).groups()
        pairs = dict(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""))
        found.setdefault(name, []).append((pairs, float(value)))
    return found


def sample(pooler, name, **labels):
    """The value of the one sample of that name with these labels."""
    values = [
        value
        for found, value in metrics(pooler).get(name, [])
        if all(found.get(key) == wanted for key, wanted in labels.items())
    ]
    assert len(values) == 1, (name, labels, values)
    return values[0]


def wait_until(condition, seconds=10 * poolers.PATIENCE):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.05)
    return found


def routed(cluster, *ports, routing="read_write"):
    """A routed entry: the primary first, further ports behind it."""
    everyone = [cluster.primary.port, *ports]
    hosts = ",".join("127.0.0.1" for _ in everyone)
    port = ",".join(str(one) for one in everyone)
    return f"host={hosts} port={port} dbname=app routing={routing}"


PROBE = {
    "probe_user": "probe",
    "probe_password": clusters.PASSWORDS["probe"],
    "probe_interval": "0.1",
    "probe_timeout": "1",
    "server_login_retry": "0.2",
}


# Metrics


def test_promtool_accepts_the_metrics(start_pooler, cluster):
    strange = 'quo"te\\back\u00e9'
    pooler = start_pooler(
        {**PROBE, "server_login_retry": "60"},
        databases={
            "app": routed(cluster, *[node.port for node in cluster.standbys]),
            "plain": f"host=127.0.0.1 port={cluster.primary.port} dbname=app alert_active_servers=5",
        },
        secrets={**poolers.SECRETS, strange: ""},
    )
    wait_until(lambda: health(pooler)[1]["status"] == "healthy")
    with pooler.client() as client, pooler.client(database="plain") as plain:
        client.query("SELECT 1")
        plain.query("SELECT 1")
        with pytest.raises(wire.LoginFailed):
            pooler.client(user=strange, database="plain")
        body = fetch(pooler, "/metrics")[2]
    assert 'user="quo\\"te\\\\back\u00e9"' in body
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_metrics_count(pooler):
    labels = {"database": "app", "user": "app_trust"}
    with pooler.psycopg() as connection:
        connection.execute("SELECT 1")
        before = sample(pooler, "weir_queries_total", **labels)
        connection.execute("BEGIN")
        for _ in range(4):
            connection.execute("SELECT pg_sleep(0.02)")
        assert sample(pooler, "weir_queries_total", **labels) == before + 5
        at_work = sample(pooler, "weir_pool_servers", **labels, state="active")
        clients = sample(pooler, "weir_pool_clients", **labels, state="active")
        connection.execute("COMMIT")
        rested = sample(pooler, "weir_pool_servers", **labels, state="idle")
    assert (at_work, clients, rested) == (1, 1, 1)
    assert sample(pooler, "weir_pool_size", **labels) == 20
    assert 0.08 <= sample(pooler, "weir_query_seconds_total", **labels) < 20
    assert sample(pooler, "weir_node_queries_total", **labels, role="any") == before + 6
    assert sample(pooler, "weir_server_logins_total", **labels) == 1
    assert sample(pooler, "weir_client_logins_total", **labels) == 1
    assert sample(pooler, "weir_sent_bytes_total", **labels) > 100
    assert sample(pooler, "weir_build_info") == 1


def test_metrics_show_waiting(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    labels = {"database": "app", "user": "app_trust"}
    with pooler.psycopg() as holder, pooler.client() as waiter:
        holder.execute("BEGIN")
        waiter.send(wire.query("SELECT 1"))
        wait_until(lambda: sample(pooler, "weir_pool_clients", **labels, state="waiting") == 1)
        time.sleep(0.2)
        assert 0.1 < sample(pooler, "weir_pool_longest_wait_seconds", **labels) < 20
        holder.execute("COMMIT")
        assert waiter.answer().value == "1"
    assert sample(pooler, "weir_wait_seconds_total", **labels) > 0.1
    assert sample(pooler, "weir_pool_longest_wait_seconds", **labels) == 0


def test_metrics_show_faults_and_the_process(pooler):
    with pytest.raises(wire.LoginFailed):
        pooler.client(user="nobody at all")
    assert sample(pooler, "weir_faults_total", kind="login") == 1
    assert sample(pooler, "process_resident_memory_bytes") > 1_000_000
    assert sample(pooler, "process_cpu_seconds_total") > 0
    descriptors = pooler.descriptors()
    assert abs(sample(pooler, "process_open_fds") - descriptors) <= 2


def test_metrics_show_nodes(start_pooler, cluster):
    dead = clusters.free_port()
    pooler = start_pooler(PROBE, databases={"app": routed(cluster, cluster.standbys[0].port, dead)})
    wait_until(lambda: "weir_node_lag_bytes" in metrics(pooler))
    assert sample(pooler, "weir_node_up", role="replica") == 1
    assert sample(pooler, "weir_node_up", role="primary") == 1
    assert sample(pooler, "weir_node_up", role="unknown", node=f"127.0.0.1:{dead}") == 0
    assert sample(pooler, "weir_node_latency_seconds", role="primary") > 0
    assert sample(pooler, "weir_node_lag_bytes", role="replica") >= 0
    assert sample(pooler, "weir_node_lag_seconds", role="replica") >= 0


# Health and readiness


def test_healthy(start_pooler, cluster):
    pooler = start_pooler(PROBE, databases={"app": routed(cluster, cluster.standbys[0].port)})
    wait_until(lambda: health(pooler)[1]["nodes"][1]["lag_bytes"] is not None)
    status, said = health(pooler)
    assert (status, said["status"], said["reasons"]) == (200, "healthy", [])
    assert said["version"] and re.fullmatch(r"[\d-]+T[\d:.]+Z", said["timestamp"])
    written = datetime.fromisoformat(said["timestamp"].replace("Z", "+00:00"))
    assert abs((datetime.now(timezone.utc) - written).total_seconds()) < 30
    primary, replica = said["nodes"]
    assert (primary["database"], primary["role"], primary["state"]) == ("app", "primary", "up")
    assert (replica["role"], replica["state"], replica["error"]) == ("replica", "up", None)
    assert primary["latency_ms"] > 0 and primary["lag_bytes"] is None
    assert primary["name"] == f"127.0.0.1:{cluster.primary.port}"
    assert ready(pooler) == (200, [])


def test_degraded_by_a_dead_replica(start_pooler, cluster):
    dead = clusters.free_port()
    pooler = start_pooler(PROBE, databases={"app": routed(cluster, dead)})
    status, said = wait_until(
        lambda: (found := health(pooler))[1]["nodes"][1]["state"] == "down"
        and found[1]["nodes"][0]["state"] == "up"
        and found
    )
    assert (status, said["status"]) == (200, "degraded")
    (reason,) = said["reasons"]
    assert reason.startswith(f"app: node 127.0.0.1:{dead} is down: ") and "refused" in reason
    assert "refused" in said["nodes"][1]["error"]
    assert ready(pooler) == (200, [])


def test_a_replica_that_stops_and_comes_back(start_pooler, cluster):
    standby = cluster.standbys[0]
    pooler = start_pooler(PROBE, databases={"app": routed(cluster, standby.port)})
    wait_until(lambda: health(pooler)[1]["status"] == "healthy")
    standby.stop()
    try:
        wait_until(lambda: health(pooler)[1]["status"] == "degraded")
    finally:
        standby.start()
    wait_until(lambda: health(pooler)[1]["status"] == "healthy", 20 * poolers.PATIENCE)


def test_unhealthy_without_any_node(start_pooler):
    dead = clusters.free_port()
    pooler = start_pooler(
        PROBE, databases={"app": f"host=127.0.0.1 port={dead} dbname=app routing=read_write"}
    )
    status, said = wait_until(
        lambda: (found := health(pooler))[1]["nodes"][0]["state"] == "down" and found
    )
    assert (status, said["status"]) == (503, "unhealthy")
    assert any("no primary" in reason for reason in said["reasons"])
    assert ready(pooler) == (503, ["app: no primary"])


def test_degraded_where_another_database_serves(start_pooler, cluster):
    dead = clusters.free_port()
    pooler = start_pooler(
        PROBE,
        databases={
            "app": f"host=127.0.0.1 port={dead} dbname=app routing=read_write",
            "good": f"host=127.0.0.1 port={cluster.primary.port} dbname=app",
        },
    )
    wait_until(lambda: health(pooler)[1]["nodes"][0]["state"] == "down")
    status, said = health(pooler)
    assert (status, said["status"]) == (200, "degraded")


def test_without_routing_connections_tell(start_pooler):
    dead = clusters.free_port()
    pooler = start_pooler(PROBE, databases={"app": f"host=127.0.0.1 port={dead} dbname=app"})
    assert health(pooler)[1]["status"] == "healthy"  # nobody has tried
    client = pooler.connect()
    client.send(wire.startup({"user": "app_trust", "database": "app"}))
    status, said = wait_until(lambda: (found := health(pooler))[0] == 503 and found)
    assert said["status"] == "unhealthy"
    assert any("connect failed" in reason for reason in said["reasons"])
    client.drop()


def test_ready_follows_pause_and_shutdown(pooler):
    assert ready(pooler) == (200, [])
    with pooler.client():
        pooler.admin("PAUSE")
        assert ready(pooler) == (503, ["paused"])
        assert "paused" in health(pooler)[1]["reasons"]
        pooler.admin("RESUME")
        pooler.admin("PAUSE app")
        assert ready(pooler) == (503, ["paused"])
        assert health(pooler)[1]["reasons"] == ["app: paused"]
        pooler.admin("RESUME app")
        assert ready(pooler) == (200, [])
        pooler.admin("SHUTDOWN WAIT_FOR_CLIENTS")
        assert ready(pooler) == (503, ["shutting down"])


# The alert


def alert(pooler, scope="all databases"):
    rows = [row for row in pooler.admin("SHOW ALERTS") if row["scope"] == scope]
    return rows[0] if rows else None


def test_the_alert_starts_and_ends(start_pooler):
    pooler = start_pooler({"alert_active_servers": 2, "alert_for": 1})
    row = alert(pooler)
    assert (row["name"], row["value"], row["threshold"]) == ("active_servers", 0, 2)
    assert (row["since"], row["for_s"], row["state"]) == (None, 1, "ok")
    clients = [pooler.client() for _ in range(3)]
    for client in clients[:2]:
        client.query("BEGIN")
    time.sleep(1.3)
    assert alert(pooler)["state"] == "ok"  # as many as the threshold are not more
    begun = time.monotonic()
    clients[2].query("BEGIN")
    wait_until(lambda: alert(pooler)["state"] == "pending")
    assert sample(pooler, "weir_alert_active", alert="active_servers") == 0
    wait_until(lambda: alert(pooler)["state"] == "firing")
    assert 0.9 < time.monotonic() - begun < 3 * poolers.PATIENCE
    assert sample(pooler, "weir_alert_active", alert="active_servers") == 1
    assert alert(pooler)["value"] == 3 and alert(pooler)["since"].endswith(" UTC")
    status, said = health(pooler)
    assert (status, said["status"]) == (200, "degraded")
    assert said["reasons"] == ["alert active_servers: all databases: 3 servers in use, more than 2"]
    pooler.wait_log("WARNING alert active_servers started: all databases: 3 servers in use")
    clients[2].query("COMMIT")
    wait_until(lambda: alert(pooler)["state"] == "ok")
    pooler.wait_log("WARNING alert active_servers ended: all databases: 2 servers in use")
    assert sample(pooler, "weir_alert_active", alert="active_servers") == 0
    assert health(pooler)[1]["status"] == "healthy"
    for client in clients:
        client.close()


def test_a_database_may_have_its_own(start_pooler):
    pooler = start_pooler({"alert_for": 0})
    node = pooler.node_string(alert_active_servers=1)
    pooler.write_ini({"alert_for": 0}, databases={"app": node})
    pooler.admin("RELOAD")
    with pooler.client() as one, pooler.client() as two:
        one.query("BEGIN")
        two.query("BEGIN")
        wait_until(lambda: (row := alert(pooler, "app")) and row["state"] == "firing")
        assert alert(pooler)["state"] == "ok"
        assert sample(pooler, "weir_alert_active", database="app") == 1
        two.query("COMMIT")
        wait_until(lambda: alert(pooler, "app")["state"] == "ok")
    pooler.write_ini({}, databases={"app": pooler.node_string()})
    pooler.admin("RELOAD")
    wait_until(lambda: alert(pooler, "app") is None)


# The page and everything else


def test_the_live_page(start_pooler):
    pooler = start_pooler({"default_pool_size": 4})
    status, headers, body = fetch(pooler, "/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"https?://", body), "the page must load nothing from elsewhere"
    with pooler.client() as client:
        client.query("BEGIN")
        said = json.loads(fetch(pooler, "/api/pools")[2])
    (pool,) = said["pools"]
    assert (pool["database"], pool["user"], pool["size"]) == ("app", "app_trust", 4)
    assert (pool["active"], pool["clients"], pool["waiting"]) == (1, 1, 0)
    assert said["alerts"][0]["state"] == "ok" and said["status"] == "healthy"
    # What the script reads of a pool and of a node is there.
    for name in set(re.findall(r"\bp\.(\w+)", body)):
        assert name in pool
    for name in set(re.findall(r"\bn\.(\w+)", body)):
        assert name in said["nodes"][0]


def test_other_paths_and_methods(pooler):
    assert fetch(pooler, "/nothing")[0] == 404
    assert fetch(pooler, "/health/")[0] == 404
    assert fetch(pooler, "//metrics")[0] == 404
    assert fetch(pooler, "/health?x=1")[0] == 200
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"]:
        status, headers, _ = fetch(pooler, "/metrics", method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert fetch(pooler, "/metrics", method="POST", body=b"x" * 100_000)[0] == 405
    assert fetch(pooler, "/ready", body=b"x" * 1000)[0] == 200


def test_head_has_no_body(pooler):
    for path in ["/", "/metrics", "/health"]:
        status, headers, body = fetch(pooler, path, method="HEAD")
        assert (status, body) == (200, "") and int(headers["Content-Length"]) > 50


def test_a_connection_serves_many_requests(pooler):
    connection = http.client.HTTPConnection(pooler.host, pooler.http_port, timeout=20)
    for path in ["/health", "/ready", "/metrics", "/nothing", "/api/pools"] * 20:
        connection.request("GET", path)
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\xff" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000,
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        wire.startup({"user": "app_trust", "database": "app"}),
    ],
    ids=["bytes", "word", "version", "path", "headers", "length", "startup"],
)
def test_garbage_does_no_harm(pooler, sent):
    with socket.create_connection((pooler.host, pooler.http_port), timeout=20) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError:
            pass  # cut off in the middle
    assert ready(pooler) == (200, [])


def test_connections_are_bounded(pooler):
    """Many that say nothing: they are left waiting, and the pooler's own work goes on."""
    silent = [
        socket.create_connection((pooler.host, pooler.http_port), timeout=20) for _ in range(90)
    ]
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
    assert pooler.descriptors() < 64 + 40
    for one in silent:
        one.close()
    wait_until(lambda: ready(pooler) == (200, []))


def test_requests_that_are_left_do_no_harm(pooler):
    for _ in range(30):
        client = socket.create_connection((pooler.host, pooler.http_port), timeout=20)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        client.close()
    assert health(pooler)[0] == 200


def test_the_end_with_requests_under_way(pooler):
    clients = []
    for _ in range(10):
        client = socket.create_connection((pooler.host, pooler.http_port), timeout=20)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        clients.append(client)
    pooler.stop()
    for client in clients:
        client.close()


def test_a_bad_address_is_told(start_pooler, cluster):
    port = clusters.free_port()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(RuntimeError, match="does not listen"):
            start_pooler({"http_listen": f"127.0.0.1:{port}"})
    log = subprocess.run(
        ["grep", "-rh", "http_listen", cluster.folder, "--include=pooler.log"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert f"FATAL http_listen 127.0.0.1:{port}: Address already in use" in log


def test_over_ipv6_and_off(start_pooler):
    port = clusters.free_port()
    pooler = start_pooler({"http_listen": f"[::1]:{port}"})
    with socket.create_connection(("::1", port), timeout=20) as client:
        client.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.")
    assert pooler.is_running()
    off = start_pooler({"http_listen": None})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((off.host, off.http_port), timeout=5)
