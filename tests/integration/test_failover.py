"""The primary changes under clients: crashes, hangs, is replaced on purpose; two answer as one."""

import contextlib
import subprocess
import threading
import time

import pytest

import cluster as clusters
from failover import ChangingCluster, Load, accepts_writes, start_behind, start_over
from meddler import Meddler, error
from pooler import PATIENCE
from routed import Watch
from wire import Closed, query

pytestmark = [pytest.mark.weir_only, pytest.mark.timeout(60)]

# What a statement that was under way may be answered.
IN_FLIGHT = {"57P01", "08006", "08007", "57P02"}
FLOW_SECONDS = 1.0 * PATIENCE


@pytest.fixture(scope="module")
def cluster():
    with ChangingCluster() as made:
        yield made


def watch_of(pooler, cluster):
    watch = Watch(pooler)
    wait_primary(watch, cluster.primary)
    watch.settle()
    Watch(pooler, "lax").settle()
    return watch


def wait_primary(watch, node, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while watch.node(node)["role"] != "primary" or watch.node(node)["state"] != "up":
        assert time.monotonic() < deadline, watch.nodes()
        time.sleep(0.02)


def wait_role(watch, node, role, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while watch.node(node)["role"] != role:
        assert time.monotonic() < deadline, watch.nodes()
        time.sleep(0.02)


def assert_only_in_flight_failed(load):
    """Each writer has at most one statement under way; the others waited."""
    assert {code for code, _ in load.errors()} <= IN_FLIGHT
    assert all(len(writer.errors) <= 1 for writer in load.writers), load.errors()


def test_crash(start_pooler, cluster):
    pooler = start_over(start_pooler, cluster)
    watch = watch_of(pooler, cluster)
    old, new = cluster.primary, None
    idle, busy, lax = pooler.client(), pooler.client(), pooler.client(database="lax")
    assert idle.query("SELECT 1").value == "1"
    busy.query("BEGIN")
    busy.query("SELECT 1")
    with Load(pooler) as load:
        old.kill()
        with pytest.raises(Closed):
            last = busy.read_to_end(5 * PATIENCE)
            assert (last.error["S"], last.error["C"]) == ("FATAL", "57P01")
            assert "repeat the transaction" in last.error["H"]
            busy.read()
        assert lax.query("SELECT count(*) >= 0 FROM writes").value == "t"
        new = cluster.most_advanced()
        cluster.promote(new)
        accepted = accepts_writes(new)
        flowed = load.wait_writes()
        time.sleep(0.2)
    load.report("kill -9 of the primary", flowed - accepted)
    assert flowed - accepted < FLOW_SECONDS
    assert_only_in_flight_failed(load)
    load.assert_nothing_is_lost(new)
    assert idle.query("INSERT INTO writes VALUES (-1, 1)").tags == ["INSERT 0 1"]
    assert watch.node(old)["state"] == "down" and watch.node(old)["role"] != "primary"
    cluster.rejoin(old)
    wait_role(watch, old, "replica")
    watch.settle()


def pgbench(pooler, mode, seconds):
    script = f"{pooler.folder}/{mode}.sql"
    with open(script, "w", encoding="utf-8") as file:
        file.write("INSERT INTO writes SELECT 100, count(*) FROM writes WHERE false;\n")
        file.write("SELECT count(*) FROM writes WHERE client = 1 AND n < 10;\n")
    return subprocess.Popen(
        [clusters.program("pgbench"), "-n", "-M", mode, "-c", "2", "-T", str(seconds)]
        + ["-f", script + "@1", "-h", pooler.host, "-p", str(pooler.port), "-U", "app_trust", "app"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clusters.environment(PGSSLMODE="disable"),
    )


def test_planned_switchover_with_pause(start_pooler, cluster):
    """Nobody notices more than a wait, in neither protocol."""
    pooler = start_over(start_pooler, cluster)
    watch = watch_of(pooler, cluster)
    old, new = cluster.primary, cluster.standbys[0]
    cluster.primary.sql("ALTER TABLE writes DROP CONSTRAINT writes_pkey")
    benches = [pgbench(pooler, mode, 4 * PATIENCE) for mode in ("simple", "prepared")]
    with Load(pooler) as load:
        pooler.admin("PAUSE")
        old.stop()
        cluster.promote(new)
        accepted = accepts_writes(new)
        pooler.admin("RESUME")
        flowed = load.wait_writes()
    load.report("planned, with PAUSE", flowed - accepted)
    for bench in benches:
        text = bench.communicate(timeout=30 * PATIENCE)[0]
        assert bench.returncode == 0 and "failed transactions: 0 " in text, text
    assert load.errors() == []
    assert flowed - accepted < FLOW_SECONDS
    load.assert_nothing_is_lost(new)
    wait_primary(watch, new)
    cluster.rejoin(old)


def test_planned_switchover_without_pause(start_pooler, cluster):
    """The old primary is shut down under load: what was not under way waits for the new one."""
    pooler = start_over(start_pooler, cluster)
    watch_of(pooler, cluster)
    old, new = cluster.primary, cluster.standbys[0]
    with Load(pooler) as load:
        old.stop()
        cluster.promote(new)
        accepted = accepts_writes(new)
        flowed = load.wait_writes()
    load.report("planned, without PAUSE", flowed - accepted)
    assert flowed - accepted < FLOW_SECONDS
    assert_only_in_flight_failed(load)
    load.assert_nothing_is_lost(new)
    cluster.rejoin(old)


def test_hanging_primary(start_pooler, cluster):
    """It is silent, and another one is promoted: that gets the writes. When the old one wakes up it
    is a rival that nobody writes to, and keeps nobody from writing."""
    pooler = start_over(start_pooler, cluster)
    watch = watch_of(pooler, cluster)
    old, new = cluster.primary, cluster.standbys[0]
    with Load(pooler) as load:
        old.freeze()
        try:
            time.sleep(0.7)  # so long does a proven successor have to wait for
            cluster.promote(new)
            accepted = accepts_writes(new)
            flowed = load.wait_writes()
        finally:
            old.thaw()
        wait_role(watch, old, "rival")
        load.wait_writes()
    load.report("hanging primary", flowed - accepted)
    assert flowed - accepted < FLOW_SECONDS
    assert_only_in_flight_failed(load)
    load.assert_nothing_is_lost(new)
    assert watch.node(old)["sv_active"] + watch.node(old)["sv_idle"] == 0
    cluster.rejoin(old)
    wait_role(watch, old, "replica")


def test_network_that_swallows(start_pooler, cluster):
    """What is sent to the old primary goes nowhere, and nothing says so."""
    old, new = cluster.primary, cluster.standbys[0]
    with contextlib.ExitStack() as stack:
        fronts = {node: stack.enter_context(Meddler(node)) for node in cluster.nodes}
        pooler = start_behind(start_pooler, list(fronts.values()), {"probe_interval": "1"})
        watch = Watch(pooler)
        wait_primary(watch, fronts[old])
        with Load(pooler) as load:
            fronts[old].is_swallowing = True
            time.sleep(0.7)
            old.stop()
            cluster.promote(new)
            accepted = accepts_writes(new)
            flowed = load.wait_writes()
        load.report("network of the primary gone", flowed - accepted)
        assert flowed - accepted < FLOW_SECONDS
        assert_only_in_flight_failed(load)
        load.assert_nothing_is_lost(new)
    cluster.rejoin(old)


def test_a_login_that_is_cut_short(start_pooler, cluster):
    """A primary that shuts down ends logins that have begun: whoever waits waits on."""
    said = error("FATAL", "57P01", "ProcessInterrupts", "terminating connection")
    with Meddler(cluster.primary) as front:
        pooler = start_behind(start_pooler, [front, *cluster.standbys], {"server_login_retry": 1})
        wait_primary(Watch(pooler), front)
        front.refusal = said

        def relent():
            while "login" not in front.hits:
                time.sleep(0.01)
            front.refusal = None

        threading.Thread(target=relent, daemon=True).start()
        with pooler.client() as client:
            assert client.query("INSERT INTO writes VALUES (-5, 1)").tags == ["INSERT 0 1"]
        assert front.hits["login"] == 1


def test_a_promotion_is_noticed_between_probes(start_pooler, cluster):
    """The server itself reports that it is no standby any more, behind the next query there."""
    pooler = start_over(start_pooler, cluster, {"probe_interval": "10"})
    watch = watch_of(pooler, cluster)
    clone = cluster.standbys[1]
    clients = [pooler.client(database="lax") for _ in range(4)]
    for client in clients:
        client.query("BEGIN READ ONLY")
        client.query("SELECT 1")
    for client in clients:
        client.query("COMMIT")
    clone.promote()
    deadline = time.monotonic() + 5 * PATIENCE
    lax = Watch(pooler, "lax")
    while lax.node(clone)["role"] != "rival":
        assert time.monotonic() < deadline, lax.nodes()
        clients[0].query("SELECT 1")
    assert watch.node(cluster.primary)["state"] == "up"
    cluster.rejoin(clone)


def refusal(client):
    """The error that ends a client which wants to write."""
    client.send(query("INSERT INTO writes VALUES (-2, 1)"))
    return client.read_to_end(10 * PATIENCE).error


def test_promoted_clone_and_the_operator(start_pooler, cluster):
    pooler = start_over(start_pooler, cluster, {"primary_wait_timeout": "0.5"})
    watch = watch_of(pooler, cluster)
    old, clone = cluster.primary, cluster.standbys[1]
    other = cluster.standbys[0]
    clone.promote()
    wait_role(watch, clone, "rival")
    with pooler.client() as client:
        assert client.query("SELECT count(*) >= 0 FROM writes").value == "t"  # reads go on
        error = refusal(client)
    assert (error["S"], error["C"]) == ("FATAL", "57P03")
    assert str(old.port) in error["D"] and str(clone.port) in error["D"]
    assert "weir_primary" in error["H"]
    with pytest.raises(Exception, match="no node is called"):
        pooler.admin("SET weir_primary = 'nobody'")
    with pytest.raises(Exception, match="does not answer as primary"):
        pooler.admin(f"SET weir_primary = '127.0.0.1:{other.port}'")
    # A new process does not know which of them was there first, either.
    late = start_over(start_pooler, cluster, {"primary_wait_timeout": "0.5"})
    late_watch = Watch(late)
    wait_role(late_watch, clone, "rival")
    with late.client(database="app") as client:
        assert refusal(client)["C"] == "57P03"
    for one, its_watch in ((pooler, watch), (late, late_watch)):
        one.admin(f"SET weir_primary = '127.0.0.1:{old.port}'")
        wait_primary(its_watch, old)
        assert its_watch.node(old)["chosen_by"] == "operator"
        assert its_watch.node(clone)["chosen_by"] is None
        one.wait_log(f"the operator chooses node 127.0.0.1:{old.port}")
        with one.client() as client:
            assert client.query("INSERT INTO writes VALUES (-2, 1)").tags == ["INSERT 0 1"]
    assert clone.sql("SELECT count(*) FROM writes WHERE client = -2") == "0"
    cluster.rejoin(clone)
    for one, its_watch in ((pooler, watch), (late, late_watch)):
        one.wait_log("cluster app: the choice of node .* is forgotten: no other node can be")
        assert its_watch.node(old)["chosen_by"] is None
        wait_role(its_watch, clone, "replica")
