"""Which replica serves a read: choice, weights, zones, limits of lag, failures, overrides."""

import contextlib
import time
import urllib.request

import psycopg
import pytest

from pooler import PATIENCE
from routed import PROBING, Watch, entry_of, replay_paused, stopped
from wire import Closed, query

pytestmark = pytest.mark.weir_only

# Whatever the replicas have is fresh enough: only the choice decides.
EVENTUAL = {"read_consistency": "eventual"}


def name_of(node):
    """How a node is called where several stand on one host."""
    return f"'{node.host}:{node.port}'"


@pytest.fixture
def start(start_pooler, cluster):
    """Starts a routed pooler; `nodes` holds rows of [nodes] for the two standbys."""

    def begin(settings=None, nodes=None, **more):
        rows = {name_of(node): row for node, row in zip(cluster.standbys, nodes or [])}
        databases = {"app": entry_of([*cluster.standbys, cluster.primary], routing="read_write")}
        given = {**PROBING, **EVENTUAL, **(settings or {})}
        return start_pooler(given, **{"databases": databases, "nodes": rows, **more})

    return begin


def warm(pooler, watch, clients=4, each=1):
    """Has so many servers made on both replicas, so that each choice finds a free one."""
    deadline = time.monotonic() + 10 * PATIENCE
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(pooler.client()) for _ in range(clients)]
        while True:
            for client in held:
                client.query("BEGIN READ ONLY; SELECT 1")
            for client in held:
                client.query("COMMIT")
            idle = [watch.node(node)["sv_idle"] for node in pooler.cluster.standbys]
            if min(idle) >= each or time.monotonic() > deadline:
                break
    watch.queries()


def reads(pooler, watch, count=60):
    """How many of `count` reads of one client each standby answered, and then the primary."""
    watch.queries()
    with pooler.client() as client:
        for _ in range(count):
            client.query("SELECT 1")
    found = watch.queries()
    return [found.get(node.port, 0) for node in (*pooler.cluster.standbys, pooler.cluster.primary)]


def wait_reads(pooler, watch, wanted, seconds=10 * PATIENCE):
    """Waits until reads go where `wanted` is true of."""
    deadline = time.monotonic() + seconds
    while not wanted(found := reads(pooler, watch, 8)):
        assert time.monotonic() < deadline, (found, watch.nodes())
        time.sleep(0.02)


def wait_left_out(watch, node, wanted, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while wanted not in str(watch.node(node)["left_out"]):
        assert time.monotonic() < deadline, watch.nodes()
        time.sleep(0.02)


def test_the_first_answer_will_do_at_the_start(start, cluster):
    """probe_rise counts answers of nodes that were down; nobody waits for a second round."""
    begun = time.monotonic()
    pooler = start({"probe_interval": 60, "probe_rise": 3})
    watch = Watch(pooler)
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
    watch.wait_state(cluster.primary, "up")
    assert time.monotonic() - begun < 30


# Choice and weights


@pytest.mark.parametrize("choice", ["round_robin", "least_busy"])
def test_reads_are_shared_by_weight(start, choice):
    settings = {"replica_choice": choice, "workers": 1}
    pooler = start(settings, nodes=["weight=1", "weight=3"])
    watch = Watch(pooler)
    watch.wait_route("of 2")
    warm(pooler, watch)
    first, second, primary = reads(pooler, watch)
    assert primary == 0 and abs(first - 15) <= 2 and abs(second - 45) <= 2, (first, second)
    words = {"round_robin": "in turn, one of 2", "least_busy": "least busy of 2"}[choice]
    assert watch.route()["reason"].endswith(f": plain read, {words}")
    shown = [watch.node(node)["weight"] for node in pooler.cluster.standbys]
    assert shown == [1, 3]


def test_the_least_busy_has_fewest_for_its_weight(start):
    """Six transactions at rest are four on the node of weight 2, two on the other one."""
    pooler = start({"workers": 1}, nodes=["weight=2", "weight=1"])
    watch = Watch(pooler)
    watch.wait_route("of 2")
    warm(pooler, watch, clients=12, each=4)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(pooler.client()).query("BEGIN READ ONLY; SELECT 1")
        busy = [watch.node(node)["sv_active"] for node in pooler.cluster.standbys]
        assert busy == [4, 2]


def test_the_nearest_by_latency(start, cluster):
    """A node whose probes take long is left alone while the other one is not busy."""
    slow, fast = cluster.standbys
    pooler = start({"replica_choice": "latency", "probe_timeout": "3", "workers": 1})
    watch = Watch(pooler)
    watch.wait_route("least latency of 2")
    warm(pooler, watch)
    for _ in range(4):
        slow.freeze()
        time.sleep(0.15)
        slow.thaw()
        time.sleep(0.12)
    wait_reads(pooler, watch, lambda found: found == [0, 8, 0])
    assert watch.node(slow)["latency_us"] > 0


def test_weights_change_without_closing_servers(start, cluster):
    pooler = start({"replica_choice": "round_robin", "workers": 1})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    warm(pooler, watch)
    before = {row["remote_pid"] for row in watch.show("SERVERS")}
    databases = {"app": entry_of([*cluster.standbys, cluster.primary], routing="read_write")}
    settings = {**PROBING, **EVENTUAL, "replica_choice": "round_robin", "workers": 1}
    pooler.write_ini(settings, databases=databases, nodes={name_of(cluster.standbys[0]): "weight=0"})
    pooler.admin("RELOAD")
    assert reads(pooler, watch) == [0, 60, 0]
    assert before and before <= {row["remote_pid"] for row in watch.show("SERVERS")}


def test_weight_0_serves_when_no_other_can(start, cluster):
    pooler = start(nodes=["weight=0", "weight=1"])
    watch = Watch(pooler)
    wait_reads(pooler, watch, lambda found: found == [0, 8, 0])
    assert reads(pooler, watch, 20) == [0, 20, 0]
    with stopped(cluster, cluster.standbys[1]):
        watch.wait_state(cluster.standbys[1], "down")
        assert reads(pooler, watch, 20) == [20, 0, 0]


# Zones


def test_the_own_zone_first(start, cluster):
    near, far = cluster.standbys
    pooler = start({"zone": "east"}, nodes=["zone=east", "zone=west"])
    watch = Watch(pooler)
    wait_reads(pooler, watch, lambda found: found == [8, 0, 0])
    assert (watch.node(near)["zone"], watch.node(far)["zone"]) == ("east", "west")
    assert reads(pooler, watch, 20) == [20, 0, 0]
    with stopped(cluster, near):
        watch.wait_state(near, "down")
        assert reads(pooler, watch, 20) == [0, 20, 0]
        pooler.admin("SET zone = 'west'")
    watch.wait_state(near, "up")
    wait_reads(pooler, watch, lambda found: found == [0, 8, 0])


def test_a_fresh_replica_elsewhere_before_the_primary(start, cluster, make_table):
    near, far = cluster.standbys
    make_table("zoned", "n int")
    pooler = start({"zone": "east", "read_consistency": "database"}, ["zone=east", "zone=west"])
    watch = Watch(pooler)
    wait_reads(pooler, watch, lambda found: found == [8, 0, 0])
    with replay_paused(near), pooler.client() as client:
        client.query("INSERT INTO zoned VALUES (1)")
        deadline = time.monotonic() + 10 * PATIENCE
        watch.queries()
        while True:
            assert client.query("SELECT n FROM zoned").value == "1"
            if far.port in (found := watch.queries()):
                break
            assert near.port not in found and time.monotonic() < deadline, found


def test_who_waits_for_the_own_zone_waits(start, cluster):
    """A free server elsewhere is no reason to go there while a near replica serves."""
    near, far = cluster.standbys
    pooler = start({"default_pool_size": 2}, ["weight=1", "weight=1"])
    watch = Watch(pooler)
    watch.wait_route("of 2")
    warm(pooler, watch)
    pooler.write_ini(
        {**PROBING, **EVENTUAL, "default_pool_size": 2, "zone": "east"},
        databases={"app": entry_of([*cluster.standbys, cluster.primary], routing="read_write")},
        nodes={name_of(near): "zone=east", name_of(far): "zone=west"},
    )
    pooler.admin("RELOAD")
    watch.wait_route("the only one")
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(pooler.client()) for _ in range(2)]
        waiter = stack.enter_context(pooler.client())
        for holder in holders:
            holder.query("BEGIN READ ONLY; SELECT 1")
        assert watch.node(near)["sv_active"] == 2 and watch.node(far)["sv_idle"] > 0
        watch.queries()
        waiter.send(query("SELECT 3"))
        time.sleep(0.3)
        assert not watch.queries()
        for holder in holders:
            holder.query("COMMIT")
        assert waiter.read_until("Z").value == "3"
        assert list(watch.queries()) == [near.port]


# Lag


def write_some(cluster, kilobytes):
    cluster.primary.sql(
        "CREATE TABLE IF NOT EXISTS lagging (t text);"
        f" INSERT INTO lagging SELECT repeat('x', 1000) FROM generate_series(1, {kilobytes})"
    )


@pytest.fixture
def lagging(cluster):
    write_some(cluster, 1)
    cluster.wait_replayed()
    yield cluster.standbys[0]
    cluster.primary.sql("DROP TABLE lagging")


def test_lag_in_bytes_leaves_a_replica_out(start, cluster, lagging):
    pooler = start({"max_replica_lag": 100000})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    with replay_paused(lagging):
        write_some(cluster, 10)
        time.sleep(0.3)
        assert watch.node(lagging)["left_out"] is None
        write_some(cluster, 200)
        wait_left_out(watch, lagging, "lags by more bytes than max_replica_lag")
        assert reads(pooler, watch, 20) == [0, 20, 0]
        assert pooler.wait_log(r"gets no reads, since it lags by more bytes")
        pooler.admin("SET max_replica_lag = 0")
        wait_left_out(watch, lagging, "None")
        pooler.admin("SET max_replica_lag = 100000")
        wait_left_out(watch, lagging, "bytes")
    wait_left_out(watch, lagging, "None")
    pooler.wait_log("gets reads again")


def test_with_no_replica_near_enough_the_primary_serves(start, cluster, lagging):
    pooler = start({"max_replica_lag": "100kB"})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    with replay_paused(*cluster.standbys):
        write_some(cluster, 200)
        watch.wait_route("the replicas that are up are left out")
        assert reads(pooler, watch, 5) == [0, 0, 5]


def test_lag_in_time_leaves_a_replica_out(start, cluster, lagging):
    """Per database; an idle primary makes nobody lag, nor does a write after a long rest."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write", max_replica_lag_time=0.5),
        "other": entry_of(nodes, routing="read_write"),
    }
    pooler = start(databases=databases)
    watch = Watch(pooler)
    watch.wait_route("of 2")
    time.sleep(0.8)
    write_some(cluster, 1)
    for _ in range(10):
        assert [row["left_out"] for row in watch.nodes().values()] == [None] * 3
        time.sleep(0.03)
    with replay_paused(lagging):
        write_some(cluster, 1)
        wait_left_out(watch, lagging, "lags by more time than max_replica_lag_time")
        assert watch.node(lagging)["lag_ms"] > 500
        assert reads(pooler, watch, 20) == [0, 20, 0]
        others = [row for row in watch.show("NODES") if row["database"] == "other"]
        assert [row["left_out"] for row in others] == [None] * 3
    wait_left_out(watch, lagging, "None")


# Failures and the slow start


@contextlib.contextmanager
def crowded(cluster, node, user="app_trust"):
    """Within, this node alone has no room for logins of the user."""
    cluster.primary.sql(f"ALTER ROLE {user} CONNECTION LIMIT 12")
    cluster.wait_replayed()
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(psycopg.connect(node.conninfo(user=user), autocommit=True))
        yield
    cluster.primary.sql(f"ALTER ROLE {user} CONNECTION LIMIT -1")
    cluster.wait_replayed()


def test_a_replica_that_refuses_logins_is_left_out(start, cluster):
    """Its probes are answered, its servers are not; later it comes back."""
    full, _ = cluster.standbys
    settings = {
        "replica_error_limit": 2,
        "replica_error_window": 1,
        "server_login_retry": "0.1",
        "replica_choice": "round_robin",
    }
    pooler = start(settings)
    watch = Watch(pooler)
    with crowded(cluster, full), pooler.client() as client:
        deadline = time.monotonic() + 10 * PATIENCE
        while watch.node(full)["left_out"] is None and time.monotonic() < deadline:
            assert client.query("SELECT 1").value == "1"
            time.sleep(0.01)
        row = watch.node(full)
        assert row["left_out"] == "fails more often than replica_error_limit"
        assert row["failures"] > 2 and row["state"] == "up"
        watch.wait_route("the only one")
        pooler.wait_log("gets no reads, since it fails more often")
    wait_left_out(watch, full, "None")
    wait_reads(pooler, watch, lambda found: found[0] > 0)
    pooler.wait_log("gets reads again")


def test_the_last_replica_is_never_left_out_for_failures(start, cluster):
    full, other = cluster.standbys
    settings = {
        "replica_error_limit": 1,
        "replica_error_window": 1,
        "server_login_retry": "0.1",
        "routing": "read_write",
    }
    databases = {"app": entry_of([full, cluster.primary])}
    pooler = start(settings, databases=databases)
    watch = Watch(pooler)
    watch.wait_route("the only one")
    with crowded(cluster, full), pooler.client() as client:
        deadline = time.monotonic() + 10 * PATIENCE
        while watch.node(full)["failures"] < 4 and time.monotonic() < deadline:
            client.query("SELECT 1")
            time.sleep(0.01)
        assert watch.node(full)["failures"] >= 4 and watch.node(full)["left_out"] is None
    assert other.port not in watch.nodes()


def test_what_clients_and_operators_do_is_no_failure(start, cluster):
    """Errors of statements, and servers that somebody ends on purpose."""
    pooler = start({"replica_error_limit": 1})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    for node in cluster.standbys:
        assert watch.node(node)["failures"] == 0
    with pooler.client() as client:
        for _ in range(5):
            assert client.query("SELECT 1/0").code == "22012"
            assert client.query("SELECT * FROM nowhere").code == "42P01"
    for _ in range(3):
        with pooler.client() as client:
            client.query("BEGIN READ ONLY; SELECT 1")
            for node in cluster.standbys:
                node.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = 'app_trust' AND state = 'idle in transaction'"
                )
            with contextlib.suppress(Closed):
                client.query("SELECT 1")
    assert [watch.node(node)["failures"] for node in cluster.standbys] == [0, 0]
    assert [watch.node(node)["left_out"] for node in cluster.standbys] == [None, None]


def test_a_node_that_comes_back_starts_slowly(start, cluster):
    back, _ = cluster.standbys
    pooler = start({"slow_start": 3, "replica_choice": "round_robin"})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    assert watch.node(back)["share"] == 100
    warm(pooler, watch)
    with stopped(cluster, back):
        watch.wait_state(back, "down")
        assert reads(pooler, watch, 10)[0] == 0
    watch.wait_state(back, "up")
    shares, taken = [watch.node(back)["share"]], 0
    deadline = time.monotonic() + 10 * PATIENCE
    while shares[-1] < 100 and time.monotonic() < deadline:
        found = reads(pooler, watch, 10)
        if shares[-1] < 50:
            taken += found[0] - found[1]
        shares.append(watch.node(back)["share"])
    assert shares == sorted(shares) and shares[0] < 50 and shares[-1] == 100, shares
    assert len(set(shares)) > 3 and taken < 0, (shares, taken)
    wait_reads(pooler, watch, lambda found: found == [4, 4, 0])


# Overrides


def where_is(watch, client, sql="SELECT 1"):
    watch.queries()
    client.query(sql)
    return watch.where()


def test_a_users_routing_comes_first(start, cluster):
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "fixed": entry_of(nodes, routing="primary"),
        "plain": entry_of([cluster.primary]),
    }
    users = {"app_trust": "routing=primary", "postgres": "routing=off", "app2": "pool_mode=transaction"}
    pooler = start(databases=databases, users=users)
    watch = Watch(pooler)
    watch.settle()
    for user, where in (("app_trust", "primary"), ("postgres", "primary"), ("app2", "replica")):
        with pooler.client(user=user) as client:
            assert where_is(watch, client) == where, user
    users = {"app_trust": "routing=replica"}
    pooler.write_ini({**PROBING, **EVENTUAL}, databases=databases, users=users)
    pooler.admin("RELOAD")
    with pooler.client() as client:
        assert where_is(watch, client, "SELECT pg_is_in_recovery()") == "replica"
        assert where_is(watch, client, "DELETE FROM pg_class WHERE false") == "primary"
    watch = Watch(pooler, "fixed")
    with pooler.client(database="fixed") as client:
        assert where_is(watch, client) == "replica"
    with pooler.client(database="plain") as client:
        assert client.query("SELECT pg_is_in_recovery()").value == "f"


def test_a_users_read_consistency_comes_first(start, cluster, make_table):
    make_table("overridden", "n int")
    cluster.wait_replayed()
    settings = {"read_consistency": "database"}
    pooler = start(settings, users={"app_trust": "read_consistency=eventual"})
    watch = Watch(pooler)
    watch.settle()
    with replay_paused(*cluster.standbys):
        with pooler.client(user="postgres") as client:
            client.query("INSERT INTO overridden VALUES (1)")
            assert where_is(watch, client, "SELECT n FROM overridden") == "primary"
        with pooler.client() as client:
            assert where_is(watch, client, "SELECT n FROM overridden") == "replica"


def test_fallback_and_choice_by_database(start, cluster, make_table):
    make_table("fallen", "n int")
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "strict": entry_of(nodes, routing="read_write", replica_fallback=0, replica_choice="latency"),
    }
    pooler = start({"read_consistency": "database"}, databases=databases)
    watch, strict = Watch(pooler), Watch(pooler, "strict")
    watch.settle()
    strict.wait_route("least latency of 2")
    with replay_paused(*cluster.standbys):
        with pooler.client() as client, pooler.client(database="strict") as waiter:
            client.query("INSERT INTO fallen VALUES (1)")
            assert where_is(watch, client, "SELECT n FROM fallen") == "primary"
            strict.queries()
            waiter.send(query("SELECT n FROM fallen"))
            time.sleep(0.3)
            assert not strict.queries()
            for node in cluster.standbys:
                node.resume_replay()
            assert waiter.read_until("Z").value == "1"
            assert strict.where() == "replica"


def test_metrics_tell_who_is_left_out(start, cluster, lagging):
    pooler = start({"max_replica_lag": 100000})
    watch = Watch(pooler)
    watch.wait_route("of 2")
    with replay_paused(lagging):
        write_some(cluster, 200)
        wait_left_out(watch, lagging, "bytes")
        text, health = (
            urllib.request.urlopen(f"http://{pooler.host}:{pooler.http_port}/{page}", timeout=10)
            .read()
            .decode()
            for page in ("metrics", "health")
        )
    labels = f'{{database="app",node="127.0.0.1:{lagging.port}",role="replica"}}'
    for line in (
        f"weir_node_left_out{labels} 1",
        f"weir_node_left_out_total{labels} 1",
        f"weir_node_failures_total{labels} 0",
        f"weir_node_share_percent{labels} 100",
    ):
        assert line in text, line
    assert '"status":"degraded"' in health and (
        f"node 127.0.0.1:{lagging.port} gets no reads, since it lags by more bytes than" in health
    )
