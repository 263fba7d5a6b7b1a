"""routing = shadow: everything on the primary, and what would have run where in SHOW SHADOW."""

import urllib.request

import pytest

from routed import Watch, replay_paused, start_routed
from wire import SYNC, bind, execute, parse

pytestmark = pytest.mark.weir_only


@pytest.fixture
def start(start_pooler, cluster, make_table):
    make_table("shadowed", "n int")
    cluster.primary.sql(
        "CREATE OR REPLACE FUNCTION mystery(int) RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN RETURN 1; END'"
    )
    cluster.wait_replayed()
    yield lambda settings=None: start_routed(
        start_pooler,
        cluster,
        settings,
        databases={"app": routed_entry(cluster)},
    )
    cluster.primary.sql("DROP FUNCTION mystery")


def routed_entry(cluster):
    nodes = [*cluster.standbys, cluster.primary]
    hosts = ",".join(node.host for node in nodes)
    ports = ",".join(str(node.port) for node in nodes)
    return f"host={hosts} port={ports} dbname=app routing=shadow"


def shadow(watch):
    """The rows by statement."""
    return {row["statement"]: row for row in watch.show("SHADOW")}


def test_everything_runs_on_the_primary_and_is_counted(start):
    pooler = start({"workers": 2})
    watch = Watch(pooler)
    watch.wait_route("least busy of 2")
    watch.queries()
    with pooler.client() as one, pooler.client() as other:
        for n in range(3):
            one.query(f"SELECT count(*) FROM shadowed WHERE n = {n}")
            other.query(f"select count( * ) from shadowed where n={n + 100}")
        one.query("INSERT INTO shadowed VALUES (7)")
        other.query("SELECT mystery(1), nextval('pg_class')")
        other.query("SELECT mystery(7)")
        other.query("BEGIN; SELECT 1; COMMIT")
        one.query("BEGIN READ ONLY; SELECT 1; COMMIT")
        one.query("SELEC 1")
    assert watch.where() == "primary"
    rows = shadow(watch)
    read = rows["select count(*)from shadowed where n = 0"]
    assert (read["database"], read["target"], read["doubt"], read["count"]) == (
        "app",
        "replica",
        0,
        6,
    )
    assert read["reason"] == "plain read"
    write = rows["insert into shadowed values(0)"]
    assert (write["target"], write["doubt"], write["reason"]) == ("primary", 0, "INSERT")
    unknown = rows["select mystery(0)"]
    assert (unknown["target"], unknown["doubt"], unknown["count"]) == ("primary", 1, 1)
    assert "mystery" in unknown["reason"]
    assert rows["selec 1"]["doubt"] == 1
    assert rows["begin;select 0;commit"]["target"] == "primary"
    assert rows["begin;select 0;commit"]["doubt"] == 0
    assert rows["begin read only;select 0;commit"]["target"] == "replica"
    doubts = [row["doubt"] for row in watch.show("SHADOW")]
    assert doubts == sorted(doubts, reverse=True)


def test_the_extended_protocol_is_counted_by_its_statement(start):
    pooler = start()
    watch = Watch(pooler)
    watch.wait_route("least busy of 2")
    with pooler.client() as client:
        client.ask(parse("SELECT n FROM shadowed", "named"), SYNC)
        for _ in range(3):
            client.ask(bind(name="named"), execute(), SYNC)
        client.ask(
            parse("SELECT 2"), bind(), execute(), parse("DELETE FROM shadowed"), bind(), execute(), SYNC
        )
    rows = shadow(watch)
    assert rows["select n from shadowed"]["count"] == 4
    assert rows["delete from shadowed"]["target"] == "primary"
    assert "select 0" not in rows


def test_reads_without_a_fresh_replica(start, cluster):
    pooler = start()
    watch = Watch(pooler)
    watch.wait_route("least busy of 2")
    with replay_paused(*cluster.standbys), pooler.client() as client:
        client.query("INSERT INTO shadowed VALUES (1)")
        client.query("SELECT 'x' FROM shadowed")
    row = shadow(watch)["select '' from shadowed"]
    assert (row["target"], row["count"], row["stale"]) == ("replica", 1, 1)


def test_secrets_are_not_shown(start):
    pooler = start()
    watch = Watch(pooler)
    watch.wait_route("least busy of 2")
    with pooler.client() as client:
        for sql in (
            "ALTER ROLE nobody PASSWORD 'hush one'",
            "ALTER ROLE nobody PASSWORD $a$hush two$a$",
            "SELECT dblink_exec('password=hush', 'x')",
            "SELECT 'hush'",
            "SELECT 1 x 'hush'",
        ):
            client.query(sql)
    text = str(watch.show("SHADOW"))
    assert "hush" not in text and "alter role nobody password" in text


def test_the_counts_are_bounded_reset_and_in_the_metrics(start):
    pooler = start({"workers": 1})
    watch = Watch(pooler)
    watch.wait_route("least busy of 2")
    with pooler.client() as client:
        for n in range(1100):
            client.query(f"SELECT 1 AS a{n}")
    rows = watch.show("SHADOW")
    assert len(rows) == 1001 and sum(row["count"] for row in rows) == 1100
    rest = [row for row in rows if row["statement"] is None]
    assert [(row["count"], row["target"]) for row in rest] == [(100, "replica")]
    address = f"http://{pooler.host}:{pooler.http_port}/metrics"
    metrics = urllib.request.urlopen(address, timeout=10).read().decode()
    for line in ("weir_shadow_replica_total{database=\"app\",user=\"app_trust\"} 1100",):
        assert line in metrics
    watch.console.execute("RESET SHADOW")
    assert not watch.show("SHADOW")
    watch.console.execute("SET routing = 'off'")
