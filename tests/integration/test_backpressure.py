"""Whoever does not read stops whoever sends, and the pooler keeps next to nothing in between."""

import time

import psycopg
import pytest

from pooler import SANITIZED
from wire import COPY_DONE, copy_data, query

MEGABYTE = 1_000_000
# Sanitizers cost memory of their own, so there only the right outcome is looked at.
TOTAL = (50 if SANITIZED else 500) * MEGABYTE
MEMORY_LIMIT = 20 * MEGABYTE


class MemoryWatch:
    """Asserts at its end that the pooler never used much more memory than at its begin."""

    def __init__(self, pooler):
        self.pooler = pooler

    def __enter__(self):
        self.pooler.forget_peak()
        self.before = self.pooler.memory()
        return self

    def __exit__(self, kind, *_):
        grown = self.pooler.memory_peak() - self.before
        assert kind or SANITIZED or grown < MEMORY_LIMIT, f"grown by {grown / MEGABYTE:.1f} MB"


def wait_blocked(cluster, event):
    """Waits until the user's one server waits for `event`, and goes on waiting."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE usename = 'app_trust' AND wait_event = '{event}'"
    )
    cluster.primary.wait_for(sql, "1")
    time.sleep(0.3)
    assert cluster.primary.sql(sql) == "1"


def read_rows(client):
    """Reads rows up to ReadyForQuery without keeping them; the sum of their lengths."""
    size = 0
    while (found := client.read()).kind != "Z":
        assert found.kind in "TDC", found
        if found.kind == "D":
            size += len(found.body) - 6
    return size


@pytest.mark.timeout(90)
@pytest.mark.parametrize("row", [100, 10_000, 1_000_000])
def test_client_that_does_not_read(pooler, cluster, row):
    """A big result stops in the server, whatever the size of its rows, and another client is not
    disturbed; when the client reads at last, everything comes."""
    total = TOTAL if row >= 10_000 else 50 * MEGABYTE
    with pooler.client() as client, pooler.client() as other:
        other.query("SELECT 1")
        with MemoryWatch(pooler):
            client.send(query(f"SELECT repeat('x', {row}) FROM generate_series(1, {total // row})"))
            wait_blocked(cluster, "ClientWrite")
            for _ in range(50):
                assert other.query("SELECT 'quick'").value == "quick"
            assert read_rows(client) == total


@pytest.mark.timeout(90)
def test_client_that_does_not_read_one_huge_row(pooler, cluster):
    huge = TOTAL // 2
    with pooler.client() as client:
        client.query("SELECT 1")
        with MemoryWatch(pooler):
            client.send(query(f"SELECT repeat('x', {huge})"))
            wait_blocked(cluster, "ClientWrite")
            assert read_rows(client) == huge


@pytest.mark.timeout(90)
def test_client_that_does_not_read_copy_out(pooler, cluster):
    with pooler.client() as client:
        client.query("SELECT 1")
        with MemoryWatch(pooler):
            rows = TOTAL // 10_000
            inner = f"SELECT repeat('x', 9999) FROM generate_series(1, {rows})"
            client.send(query(f"COPY ({inner}) TO STDOUT"))
            wait_blocked(cluster, "ClientWrite")
            size = 0
            while (found := client.read()).kind != "Z":
                size += len(found.body) if found.kind == "d" else 0
            assert size == rows * 10_000


@pytest.mark.timeout(90)
def test_client_that_asks_and_asks_but_does_not_read(pooler):
    """Requests without end stop in the client's own socket, and none of them is lost."""
    one = query("SELECT repeat('y', 100000)")
    with pooler.client() as client:
        client.query("SELECT 1")
        sent = 0
        with MemoryWatch(pooler):
            data = one * 5000
            client.socket.settimeout(1)
            try:
                while sent < len(one) * 2_000_000:
                    sent += client.socket.send(data[sent % len(one) :])
            except TimeoutError:
                pass
            else:
                pytest.fail("the pooler reads on although nobody takes the answers")
            # The request that was cut in two is finished, then as much is read as was asked for.
            count = min(-(-sent // len(one)), 200)
            for _ in range(count):
                assert read_rows(client) == 100_000
        client.drop()


@pytest.mark.timeout(90)
@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_server_that_does_not_read(pooler, cluster, make_table, size):
    """COPY IN into a table whose trigger waits for a lock: the client's sending stops."""
    make_table("stuffed", "a text")
    cluster.primary.sql(
        "CREATE OR REPLACE FUNCTION wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END';"
        "CREATE TRIGGER waits BEFORE INSERT ON stuffed"
        " FOR EACH ROW EXECUTE FUNCTION wait_for_lock()"
    )
    total = max(TOTAL // 5, 40 * MEGABYTE)
    data = copy_data(b"z" * (size - 1) + b"\n")
    with psycopg.connect(cluster.primary.conninfo(), autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(42)")
        with pooler.client() as client:
            client.query("SELECT 1")
            with MemoryWatch(pooler):
                client.send(query("COPY stuffed FROM STDIN"))
                assert client.read().kind == "G"
                block = data * max(1, MEGABYTE // size)
                sent, stream = 0, memoryview(block)
                client.socket.settimeout(1)
                with pytest.raises(TimeoutError):
                    while sent < total:
                        sent += client.socket.send(stream[sent % len(block) :])
                holder.execute("SELECT pg_advisory_unlock(42)")
                rest = len(block) - sent % len(block)
                client.send(stream[len(block) - rest :])
                sent += rest
                while sent < total:
                    client.send(block)
                    sent += len(block)
                client.send(COPY_DONE)
                rows = sent // len(data)
                assert client.answer().tags == [f"COPY {rows}"]


@pytest.mark.timeout(90)
def test_big_query_text_takes_no_memory(pooler):
    """A statement of 100 MB passes through while routing is off; it is not gathered first."""
    with pooler.client() as client:
        client.query("SELECT 1")
        with MemoryWatch(pooler):
            text = "SELECT length('" + "x" * (TOTAL // 5) + "')"
            assert client.query(text, seconds=60).value == str(TOTAL // 5)


@pytest.mark.weir_only
def test_client_that_never_reads_again_is_no_burden(start_pooler):
    """It vanishes without having read; its server comes back."""
    pooler = start_pooler({"default_pool_size": 1})
    client = pooler.client()
    client.send(query("SELECT repeat('x', 100000) FROM generate_series(1, 1000)"))
    time.sleep(0.3)
    client.reset()
    with pooler.client() as other:
        assert other.query("SELECT 'free'").value == "free"
