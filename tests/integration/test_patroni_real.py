"""A real Patroni with etcd, under load: a switchover that is asked for, and a crash."""

import time

import pytest

from failover import Load, accepts_writes, start_over
from patroni_cluster import PatroniCluster
from pooler import PATIENCE
from routed import Watch

pytestmark = [pytest.mark.weir_only, pytest.mark.timeout(120)]

IN_FLIGHT = {"57P01", "08006", "08007", "57P02"}
FLOW_SECONDS = 1.0 * PATIENCE


@pytest.fixture(scope="module")
def cluster():
    with PatroniCluster() as made:
        yield made


def wait_role(watch, node, role, seconds=30 * PATIENCE):
    deadline = time.monotonic() + seconds
    while watch.node(node)["role"] != role:
        assert time.monotonic() < deadline, watch.nodes()
        time.sleep(0.02)


def change(cluster, load, act, new):
    """Has the primary replaced under load; how long writes flow after `new` takes them."""
    act()
    accepted = accepts_writes(new, 60 * PATIENCE)
    flowed = load.wait_writes(seconds=60 * PATIENCE)
    return flowed - accepted


def judge(load, name, flows_after, new):
    load.report(name, flows_after)
    assert flows_after < FLOW_SECONDS
    assert {code for code, _ in load.errors()} <= IN_FLIGHT
    assert all(len(writer.errors) <= 1 for writer in load.writers), load.errors()
    load.assert_nothing_is_lost(new)


def test_switchover_and_crash(start_pooler, cluster):
    settings = {"patroni_url": cluster.urls, "primary_wait_timeout": 60}
    pooler = start_over(start_pooler, cluster, settings)
    watch = Watch(pooler)
    old = cluster.leader()
    new = cluster.standbys[0]
    wait_role(watch, old, "primary")
    with pooler.client() as idle:
        assert idle.query("SELECT 1").value == "1"
        with Load(pooler) as load:
            flows_after = change(cluster, load, cluster.switch_over, new)
        judge(load, "switchover by Patroni", flows_after, new)
        wait_role(watch, new, "primary")
        pooler.wait_log(f"Patroni names 127.0.0.1:{new.port} as the leader")
        assert idle.query("INSERT INTO writes VALUES (-1, 1)").tags == ["INSERT 0 1"]
        cluster.wait_streaming()
        wait_role(watch, old, "replica")
        with Load(pooler) as load:
            flows_after = change(cluster, load, lambda: cluster.crash(new), old)
        judge(load, "crash under Patroni", flows_after, old)
        assert idle.query("INSERT INTO writes VALUES (-1, 2)").tags == ["INSERT 0 1"]
