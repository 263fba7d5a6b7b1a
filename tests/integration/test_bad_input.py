"""Statements and messages made to break a parser, and nodes that cannot be used.

Whatever a client says, it gets the answer that PostgreSQL gives or an error that names the
reason, and nobody else waits for it.
"""

import multiprocessing
import os
import random
import struct
import subprocess
import time

import pytest

import cluster as clusters
from pooler import ADMIN, PATIENCE
from routed import PROBING, Watch, entry_of, start_routed
from wire import (
    FLUSH,
    SYNC,
    Client,
    Closed,
    Late,
    LoginFailed,
    bind,
    close,
    copy_data,
    describe,
    execute,
    message,
    parse,
    query,
    startup,
)

pytestmark = pytest.mark.weir_only

MEGABYTE = 1_000_000

# Of the time that others wait, Weir's own thread may have worked this long. The bound of the loop
# is lower; a ping may meet a few turns of it, and the kernel counts in ticks of its own.
STALL_SECONDS = 0.02


def nested(depth):
    return "SELECT * FROM (" * depth + "SELECT 1" + ") x" * depth


HOSTILE = {
    "10 kB of additions": "SELECT 1" + "+1" * 5_000,
    "100 kB of additions": "SELECT 1" + "+1" * 50_000,
    "additions in a column each": "SELECT " + ",".join(["1+1"] * 1_600),
    "300 sub-selects": nested(300),
    "5,000 sub-selects": nested(5_000),
    "scalar sub-selects": "SELECT (" * 500 + "SELECT 1" + ")" * 500,
    "100,000 parentheses": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "parentheses that never close": "SELECT " + "(" * 100_000,
    "parentheses that never open": "SELECT 1" + ")" * 100_000,
    "100,000 NOTs": "SELECT " + "NOT " * 100_000 + "true",
    "100,000 minus signs": "SELECT " + "- " * 100_000 + "1",
    "casts": "SELECT 1" + "::int" * 20_000,
    "indirections": "SELECT (ARRAY[1])" + "[1]" * 1_000,
    "arrays": "SELECT " + "ARRAY[" * 5_000 + "1" + "]" * 5_000,
    "CASEs": "SELECT " + "CASE WHEN true THEN " * 3_000 + "1" + " END" * 3_000,
    "functions": "SELECT " + "abs(" * 5_000 + "1" + ")" * 5_000,
    "UNIONs": "SELECT 1" + " UNION ALL SELECT 1" * 400,
    "WITHs": "WITH " + ",".join(f"a{i} AS (SELECT {i})" for i in range(1_000)) + " SELECT 1",
    "joins": "SELECT 1 FROM (SELECT 1) a0" + "".join(
        f" CROSS JOIN (SELECT 1) a{i}" for i in range(1, 40)
    ),
    "statements": "SELECT 1;" * 3_000,
    "semicolons": ";" * 100_000 + "SELECT 1",
    "ANDs": "SELECT true" + " AND true" * 5_000,
    "a million constants": "SELECT 1 IN (" + ",".join(map(str, range(1_000_000))) + ")",
    "a hundred thousand rows": "SELECT count(*) FROM (VALUES "
    + ",".join(f"({i})" for i in range(100_000))
    + ") x",
    "signed constants": "SELECT 1 IN (" + ",".join(f"-{i}" for i in range(2_000)) + ")",
    "nested comments": "/*" * 3_000 + "*/" * 3_000 + "SELECT 1 AS nested",
    "a comment that never ends": "SELECT 1 /*" + "/*" * 2_000,
    "a string that never ends": "SELECT '" + "x" * 100_000,
    "quotes": "SELECT '" + "''" * 50_000 + "'",
    "dollars": "SELECT $a$" + "$b$" * 30_000 + "$a$",
    "dollars that never end": "SELECT " + "$a$" * 30_001,
    "a name of 100 kB": 'SELECT 1 AS "' + "x" * 100_000 + '"',
    "operators": "SELECT 1 " + "+-*/<>=~!@#%^&|`?" * 5_000 + " 1",
    "numbers": "SELECT " + "9" * 100_000,
    "bytes that are no text": b"SELECT '\xff\xfe\x80' || '\xc3'",
    "control characters": "SELECT" + "\x01\x02\x7f" * 1_000 + "1",
    "blanks": "SELECT" + " \t\n" * 40_000 + "1",
}


def outcome(answer):
    """What has to be alike: rows and the SQLSTATE."""
    return (answer.code, answer.rows, answer.tags, answer.status)


def worked_seconds(pid):
    """How long the thread of worker 0 has run so far, in seconds."""
    with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="utf-8") as file:
        return int(file.read().split()[0]) / 1e9


def pings(address, pid, over, found):
    """In a process of its own: asks the console again and again, and finds how long the thread
    that answers it worked while it waited. The wait alone would measure the machine too."""
    with Client(address) as console:
        console.login(*ADMIN, database="pgbouncer")
        longest, slowest, count = 0.0, 0.0, 0
        while not over.is_set():
            began, worked = time.monotonic(), worked_seconds(pid)
            console.query("SHOW VERSION")
            longest = max(longest, worked_seconds(pid) - worked)
            slowest = max(slowest, time.monotonic() - began)
            count += 1
            time.sleep(0.0005)
        found.put((longest, slowest, count))


class Pings:
    """Measures how long others wait for the loop that serves all; the console lives there too."""

    def __init__(self, pooler):
        context = multiprocessing.get_context("fork")
        self.over, self.found = context.Event(), context.Queue()
        work = (pooler.address, pooler.process.pid, self.over, self.found)
        self.process = context.Process(target=pings, args=work, daemon=True)

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.longest, self.slowest, self.count = self.found.get(timeout=20 * PATIENCE)
        self.process.join()

    def assert_short(self):
        print(
            f"{self.count} pings: at most {self.longest * 1000:.1f} ms of work,"
            f" {self.slowest * 1000:.1f} ms in all"
        )
        assert self.count > 20
        assert self.longest < STALL_SECONDS * PATIENCE


def direct(cluster):
    client = Client((cluster.primary.host, cluster.primary.port), 60)
    client.login("app_trust", None, clusters.DATABASE)
    return client


# What is gathered, and so read, at most: by default, and as much as can be set.
@pytest.mark.parametrize("gather", [16_384, 1 << 20])
@pytest.mark.timeout(120)
def test_hostile_statements(start_pooler, cluster, gather):
    settings = {"gather_bytes": gather, "read_consistency": "eventual"}
    pooler = start_routed(start_pooler, cluster, settings)
    watch = Watch(pooler)
    watch.settle()
    wrong = []
    with direct(cluster) as server, pooler.client() as client, Pings(pooler) as measured:
        for name, sql in HOSTILE.items():
            expected = outcome(server.query(sql, 60 * PATIENCE))
            watch.queries()
            answer = client.query(sql, 60 * PATIENCE)
            if outcome(answer) != expected:
                wrong.append((name, outcome(answer), expected))
            big = len(sql) > min(gather, 131_072)
            if (where := watch.where()) != "primary" and (big or name in NEVER_UNDERSTOOD):
                wrong.append((name, where))
    assert not wrong, "\n".join(str(one)[:300] for one in wrong)
    measured.assert_short()


@pytest.fixture
def turns(cluster, numbers):
    """Variables that have a pooler measure its turns, and what gives the longest one since the last
    call, in seconds that its thread worked."""
    folder = os.path.join(cluster.folder, f"turns{next(numbers)}")
    library, file = os.path.join(folder, "turns.so"), os.path.join(folder, "longest")
    source = os.path.join(os.path.dirname(__file__), "turns.c")
    os.mkdir(folder)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    with open(file, "wb") as made:
        made.write(bytes(8))
    clusters.give_away(folder)
    clusters.give_away(file)

    def longest():
        with open(file, "r+b") as opened:
            seconds = struct.unpack("=Q", opened.read(8))[0] / 1e9
            opened.seek(0)
            opened.write(bytes(8))
        return seconds

    return {"LD_PRELOAD": library, "TURNS_FILE": file}, longest


TURN_SECONDS = 0.001
# A named statement is kept whole: one of a megabyte takes about 2 ms to be copied.
NAMED_MAX = 262_144


@pytest.mark.release_only
@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_named", [False, True], ids=["simple", "named"])
def test_no_turn_is_long(start_pooler, cluster, turns, is_named):
    """A turn of the loop is what everybody else waits for."""
    variables, longest = turns
    settings = {"read_consistency": "eventual"}
    pooler = start_routed(start_pooler, cluster, settings, variables=variables)
    Watch(pooler).settle()
    found = {}
    tries = 3  # the kernel, too, works in a thread's name
    for name, sql in HOSTILE.items():
        if is_named and len(sql) > NAMED_MAX:
            continue
        for _ in range(tries):
            with pooler.client() as client:
                longest()
                if is_named:
                    client.ask(parse(sql, "s"), bind(name="s"), execute(), SYNC)
                else:
                    client.query(sql, 60 * PATIENCE)
                found[name] = longest()
            if found[name] < TURN_SECONDS:
                break
    print("\n".join(f"{name}: {seconds * 1e6:.0f} us" for name, seconds in found.items()))
    assert min(found.values()) > 0
    assert max(found.values()) < TURN_SECONDS


NEVER_UNDERSTOOD = [
    "10 kB of additions",
    "100,000 parentheses",
    "100,000 NOTs",
    "a comment that never ends",
    "a string that never ends",
]


@pytest.mark.timeout(120)
def test_hostile_statements_prepared(start_pooler, cluster):
    """As named statements, which are kept and routed by their text."""
    pooler = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    Watch(pooler).settle()
    with direct(cluster) as server, pooler.client() as client, Pings(pooler) as measured:
        for number, (name, sql) in enumerate(HOSTILE.items()):
            if len(sql) > MEGABYTE:
                continue
            parts = [parse(sql, f"s{number}"), bind(name=f"s{number}"), execute(), SYNC]
            expected = server.ask(*parts, seconds=60 * PATIENCE)
            answer = client.ask(*parts, seconds=60 * PATIENCE)
            assert outcome(answer) == outcome(expected), name
            if not expected.errors:
                again = client.ask(*parts[1:], seconds=60 * PATIENCE)
                assert again.rows == expected.rows, name
    measured.assert_short()


def test_a_long_statement_is_routed_once_it_was_parsed(start_pooler, cluster):
    """At first it goes to the primary, while a thread aside reads it."""
    pooler = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    watch = Watch(pooler)
    watch.settle()
    sql = "SELECT " + ",".join(f"{i} + n AS c{i}" for i in range(300)) + " FROM (SELECT 1 n) x"
    with pooler.client() as client:
        assert not client.query(sql).errors
        assert watch.where() == "primary"
        for _ in range(100):
            assert not client.query(sql).errors
            if watch.where() == "replica":
                return
            time.sleep(0.02)
    raise AssertionError(watch.route(sql))


def test_many_shapes_at_once(start_pooler, cluster):
    """Whoever makes up statements costs his own answers, nobody else's, and bounded memory."""
    pooler = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    Watch(pooler).settle()
    with pooler.client() as client, Pings(pooler) as measured:
        before = pooler.memory()
        for number in range(1_500):
            names = ",".join(f"{i} AS c{number}_{i}" for i in range(45))
            answer = client.query(f"SELECT {names}")
            assert not answer.errors and answer.rows[0][44] == "44"
        assert pooler.memory() - before < 32 * MEGABYTE * PATIENCE
    measured.assert_short()


def test_memory_after_a_million_constants(start_pooler, cluster):
    """The text streams through; nothing of its size stays."""
    pooler = start_routed(start_pooler, cluster)
    sql = HOSTILE["a million constants"]
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
        pooler.forget_peak()
        before = pooler.memory()
        assert client.query(sql, 60 * PATIENCE).value == "t"
        assert pooler.memory_peak() - before < 8 * MEGABYTE * PATIENCE


# Messages


def one_message(source):
    """A message that a client may send, with names that may not exist."""
    names = ["", "a", "b"]
    makers = [
        lambda: query(source.choice(["SELECT 1", "SELEC", "", "SELECT 1; SELECT 2"])),
        lambda: parse(source.choice(["SELECT $1::text", "SELECT 1", "x"]), source.choice(names)),
        lambda: bind(["v"] * source.randrange(3), source.choice(names), source.choice(names)),
        lambda: describe(source.choice(names)),
        lambda: execute(source.choice(names), source.randrange(3)),
        lambda: close(source.choice(names)),
        lambda: SYNC,
        lambda: SYNC,
        lambda: FLUSH,
        lambda: copy_data(b"x" * source.randrange(100)),
        lambda: message("c"),
        lambda: message("f", b"no\0"),
        lambda: message("F", struct.pack("!IHHH", 1598, 0, 0, 0)),
    ]
    return source.choice(makers)()


def test_messages_in_any_order(start_pooler, cluster):
    """Each client is served, or told and closed; the others never notice."""
    settings = {"workers": 2, "read_consistency": "eventual"}
    pooler = start_routed(start_pooler, cluster, settings)
    source = random.Random(17)
    with pooler.client() as witness:
        for number in range(150):
            with pooler.client() as client:
                try:
                    client.send(*[one_message(source) for _ in range(source.randrange(1, 30))])
                    client.send(SYNC, query("SELECT 'end'"))
                    while not (answer := client.answer(10 * PATIENCE)).rows or answer.rows[0] != (
                        "end",
                    ):
                        pass
                except Closed:
                    pass
                except Late as late:
                    raise AssertionError(f"client {number} hangs") from late
            assert witness.query(f"SELECT {number}").value == str(number)


def test_bind_of_an_unknown_statement(start_pooler, cluster):
    pooler = start_routed(start_pooler, cluster)
    with pooler.client() as client:
        client.send(bind(name="unknown"), execute(), SYNC)
        error = client.read_to_end().error
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
        assert error["M"] == "prepared statement did not exist" and "unknown" in error["D"]


def test_random_bytes_after_login(start_pooler, cluster):
    pooler = start_routed(start_pooler, cluster)
    source = random.Random(23)
    for _ in range(150):
        with pooler.client() as client:
            data = bytes(source.randrange(256) for _ in range(source.randrange(1, 300)))
            kind = bytes([source.choice(b"QPBEDCHSFdcfX")])
            whole = kind + struct.pack("!I", len(data) + 4) + data
            try:
                client.send(source.choice([data, whole, kind + data]), SYNC, message("X"))
                client.socket.shutdown(1)
                client.read_to_end(10 * PATIENCE)
            except (Closed, OSError):
                pass
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_strangers_do_not_disturb(start_pooler, cluster):
    """Half packets, silence and nonsense, all at once: pings stay short, all are closed in time."""
    # With tcp_defer_accept the kernel would keep to itself who says nothing.
    settings = {"client_login_timeout": 1, "tcp_defer_accept": 0}
    pooler = start_routed(start_pooler, cluster, settings)
    good = startup({"user": "app_trust", "database": "app"})
    said = [b"", b"\0", good[:11], struct.pack("!I", 1 << 30), struct.pack("!II", 8, 131072)]
    said += [b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 500, struct.pack("!I", 8000) + b"x" * 4000]
    before = pooler.memory()
    with Pings(pooler) as measured:
        strangers = [pooler.connect() for _ in range(200)]
        began = time.monotonic()
        for number, stranger in enumerate(strangers):
            stranger.send(said[number % len(said)])
        for stranger in strangers:
            assert set(stranger.read_to_end(10 * PATIENCE).kinds) <= {"E"}
        assert time.monotonic() - began < 5 * PATIENCE
    assert pooler.memory() - before < 8 * MEGABYTE * PATIENCE
    measured.assert_short()


# Nodes that cannot be used


def test_unusable_nodes_are_named(start_pooler, cluster):
    """One nobody listens on, one without an address: the others serve, and each is told of."""
    nobody = clusters.free_port()
    nodes = cluster.nodes
    host = ",".join([nodes[1].host, "127.0.0.1", "does-not-exist.invalid", nodes[0].host])
    ports = f"{nodes[1].port},{nobody},5432,{nodes[0].port}"
    entry = f"host={host} port={ports} dbname=app routing=read_write"
    pooler = start_routed(start_pooler, cluster, databases={"app": entry})
    watch = Watch(pooler)
    watch.settle(replicas=1)
    with pooler.client() as client:
        for _ in range(10):
            assert client.query("SELECT 1").value == "1"
        assert watch.queries() == {nodes[1].port: 10}
        assert client.query("CREATE TEMP TABLE x (n int) ON COMMIT DROP").tags == ["CREATE TABLE"]
    hosts = {row["host"]: row for row in watch.show("NODES") if row["port"] in (nobody, 5432)}
    for host, node, words in (
        ("127.0.0.1", f"127.0.0.1:{nobody}", "Connection refused"),
        ("does-not-exist.invalid", "does-not-exist.invalid", "lookup failed"),
    ):
        assert hosts[host]["state"] != "up" and words in hosts[host]["error"], hosts
        pooler.wait_log(rf"node {node} is down: .*{words}")


def wait_error(watch, port, words):
    deadline = time.monotonic() + 10 * PATIENCE
    while words not in (watch.nodes()[port]["error"] or ""):
        assert time.monotonic() < deadline, watch.nodes()
        time.sleep(0.02)


def test_wrong_password_of_the_probe(start_pooler, cluster):
    """No node's role is known: clients are told why, as soon as they may be."""
    settings = {"probe_password": "wrong", "primary_wait_timeout": 1, "query_wait_timeout": 5}
    pooler = start_routed(start_pooler, cluster, settings)
    watch = Watch(pooler)
    words = 'password authentication failed for user "probe"'
    wait_error(watch, cluster.primary.port, words)
    pooler.wait_log(words)
    began = time.monotonic()
    try:
        with pooler.client() as client:
            client.send(query("SELECT 1"))
            error = client.read_to_end(10 * PATIENCE).error
    except LoginFailed as failed:
        error = failed.fields
    assert time.monotonic() - began < 5 * PATIENCE
    assert error["C"] == "57P03" and words in error["D"], error


@pytest.mark.parametrize("sql", ["SELECT 1", "INSERT INTO nowhere VALUES (1)"])
def test_wrong_password_at_the_servers(start_pooler, cluster, sql):
    entry = entry_of(cluster.nodes, routing="read_write", user="app", password="wrong")
    pooler = start_routed(start_pooler, cluster, databases={"app": entry})
    watch = Watch(pooler)
    watch.wait_state(cluster.primary, "up")
    words = 'password authentication failed for user "app"'
    began = time.monotonic()
    with pytest.raises(LoginFailed) as refused:
        with pooler.client() as client:
            client.query(sql)
    assert time.monotonic() - began < 5 * PATIENCE
    assert refused.value.fields["C"] == "28P01" and words in refused.value.fields["M"]
    pooler.wait_log(words)
    wait_error(watch, cluster.primary.port, words)


def test_wrong_password_at_a_replica_only(start_pooler, cluster):
    """It refuses the pool's logins though its probes go well: reads go elsewhere."""
    replica, other = cluster.standbys
    hba = f"{replica.data}/pg_hba.conf"
    with open(hba, encoding="utf-8") as file:
        before = file.read()
    pooler = start_routed(start_pooler, cluster, {**PROBING})
    watch = Watch(pooler)
    watch.settle()
    try:
        with open(hba, "w", encoding="utf-8") as file:
            file.write("host all app_trust 127.0.0.1/32 reject\n" + before)
        replica.sql("SELECT pg_reload_conf()")
        clients = [pooler.client() for _ in range(4)]
        for _ in range(5):
            for client in clients:
                client.send(query("SELECT pg_sleep(0.05)"))
            for client in clients:
                assert not client.answer(10 * PATIENCE).errors
        ran = watch.queries()
        assert set(ran) <= {other.port, cluster.primary.port} and sum(ran.values()) == 20, ran
        wait_error(watch, replica.port, "pg_hba.conf rejects connection")
    finally:
        with open(hba, "w", encoding="utf-8") as file:
            file.write(before)
        replica.sql("SELECT pg_reload_conf()")


def test_no_node_at_all(start_pooler, cluster):
    """Nobody answers: the client hears so after primary_wait_timeout, with every node's words."""
    ports = [clusters.free_port(), clusters.free_port()]
    entry = f"host=127.0.0.1,127.0.0.1 port={ports[0]},{ports[1]} dbname=app routing=read_write"
    settings = {"primary_wait_timeout": 1}
    pooler = start_routed(start_pooler, cluster, settings, databases={"app": entry})
    began = time.monotonic()
    with pytest.raises(LoginFailed) as refused:
        pooler.client()
    assert time.monotonic() - began < 6 * PATIENCE
    fields = refused.value.fields
    assert fields["C"] == "57P03" and all(str(port) in fields["D"] for port in ports), fields
