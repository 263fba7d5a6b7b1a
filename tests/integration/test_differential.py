"""What is run through Weir against the same on the primary, while both standbys are late.

Sessions are generated (generated.py): some clients of a routed pooler, each with a twin that does the
same straight on the primary, in a database of its own. Every answer has to be equal. One standby is
200 ms late and one 2 s, so that whatever went to a standby too early, or to the wrong node, shows. The
share of reads that standbys ran is counted in a run of its own, by the node that answered.

A failure tells its seed and a short list of steps that still fails. By hand, and for long:
DIFFERENTIAL_SEEDS=100-400 DIFFERENTIAL_STEPS=1000 DIFFERENTIAL_QUERIES=5000.
"""

import collections
import contextlib
import os
import re
import subprocess
import time
import urllib.request

import pytest

import cluster as clusters
import generated
from generated import Generator
from pooler import PATIENCE, SANITIZED
from routed import Watch, start_routed
from twins import Differs, Pair
from wire import Client, Closed, Late, query

pytestmark = pytest.mark.weir_only

FIRST, _, LAST = os.environ.get("DIFFERENTIAL_SEEDS", "0-1" if SANITIZED else "0-5").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
STEPS = int(os.environ.get("DIFFERENTIAL_STEPS", "500"))
READS = 300 if SANITIZED else 1500
QUERIES = int(os.environ.get("DIFFERENTIAL_QUERIES", "100" if SANITIZED else "300"))
REST_EVERY, REST_SECONDS = 30, 0.33
SHARE_LEAST = 0.95
# A shorter list of the failing steps is looked for so long.
SHRINK_SECONDS = int(os.environ.get("DIFFERENTIAL_SHRINK_SECONDS", "40"))
MIRROR = "mirrored"
FIELDS = (b"S", b"C", b"M", b"D", b"H", b"P")
LOCK_TIMEOUT = "40ms"
# So many statements are refused in a failed transaction before it is rolled back.
PATIENT_STEPS = 2
# What a standby refuses; with %e in log_line_prefix.
REFUSAL = re.compile(r" (25006|0A000|55000|XX000):ERROR:  (.*)")

# A commit: what the primary has logged before goes to its disk, and so to the standbys. A read of that
# table is fresh there only when the catalog has been read anew, too.
FLUSHES, FLUSHED = "UPDATE w.plain SET n = n WHERE id = 1", "SELECT n FROM w.plain"
# Where the limit on sqlsmith's queries strikes on one side only.
TIMED_OUT = "57014"
# What gives another value at another time, on another connection or in another database: sqlsmith's
# calls without arguments become a NULL of their type, what is called with some is left out.
UNEQUAL = re.compile(
    r"now|.*timestamp|timeofday|.*random.*|.*xact.*|txid.*|.*snapshot.*|.*_stat_.*|.*_pid|.*_time|.*_lsn"
    r"|current_query|current_database|pg_my_temp_schema|inet_client_port|.*_size|pg_nextoid|pg_switch_wal"
)
CALL = re.compile(r"pg_catalog\.(\w+)\((\)?)")
SAMPLE = re.compile(r"(tablesample \w+) \([\d.]+\)")


@pytest.fixture(scope="module", autouse=True)
def world(cluster):
    """A twin of the database, and no plans that change by themselves."""
    primary = cluster.primary
    roles = ", ".join(generated.ROLES)
    primary.sql(f"CREATE ROLE {'; CREATE ROLE '.join(generated.ROLES)}; GRANT {roles} TO app_trust")
    primary.sql(f"CREATE DATABASE {MIRROR}")
    with contextlib.ExitStack() as ends:
        ends.enter_context(primary.settings(autovacuum="off"))
        for node in cluster.standbys:
            ends.enter_context(node.settings(log_line_prefix="%m [%p] %e:"))
        for database in (clusters.DATABASE, MIRROR):
            primary.sql(f"ALTER DATABASE {database} SET lock_timeout = '{LOCK_TIMEOUT}'")
        yield
        primary.sql(f"ALTER DATABASE {clusters.DATABASE} RESET lock_timeout")
        primary.sql(generated.UNMAKE)
        primary.sql(f"DROP DATABASE {MIRROR} (FORCE)")
        primary.sql(f"DROP OWNED BY {roles}; DROP ROLE {roles}")


def start(start_pooler, cluster):
    settings = {
        "session_state": "track", "read_consistency": "database", "default_pool_size": 60,
        "pin_limit": 60, "ignore_startup_parameters": None,
    }  # fmt: skip
    return start_routed(start_pooler, cluster, settings)


def make_worlds(routed, cluster):
    """Both databases as they are in the beginning, one of them made through Weir, which then knows."""
    with routed.client("postgres") as client, direct(cluster, "postgres") as twin:
        for one in (client, twin):
            for text in ("SELECT lo_unlink(oid) FROM pg_largeobject_metadata", generated.WORLD):
                answer = one.query(text, seconds=60)
                assert not answer.errors, answer.errors


def direct(cluster, user="app_trust"):
    client = Client((cluster.primary.host, cluster.primary.port), 20 * PATIENCE)
    client.login(user, database=MIRROR)
    return client


def total(routed, name):
    """The sum of a counter over all that it is counted for."""
    with urllib.request.urlopen(f"http://{routed.host}:{routed.http_port}/metrics", timeout=10) as page:
        rows = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page.read().decode(), re.MULTILINE)
    return int(sum(map(float, rows)))


class Refusals:
    """What the standbys have refused since the start."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.seen = {node: len(node.log_text()) for node in cluster.standbys}

    def all(self):
        texts = [node.log_text()[seen:] for node, seen in self.seen.items()]
        return [found.groups() for text in texts for found in REFUSAL.finditer(text)]


class Session(Pair):
    """A client of Weir, and its twin on the primary."""

    def __init__(self, routed, cluster):
        super().__init__(routed.client(), direct(cluster), FIELDS)
        # In a READ ONLY transaction, which may be a standby's.
        self.is_reading = False
        self.refused = 0

    def may(self, step):
        """A READ ONLY transaction of a primary allows what a standby refuses; so only reads there."""
        return not self.is_reading or step.is_read or step.text in generated.ENDS

    def run(self, step):
        self.refused = self.refused + 1 if self.status == "E" else 0
        if self.refused > PATIENT_STEPS:
            self.ask(query("ROLLBACK"))
        self.ask(step.sent, step.answers)
        self.is_reading |= "READ ONLY" in step.text and self.status == "T"
        self.is_reading &= self.status != "I"


def open_sessions(ends, routed, cluster):
    pairs = [Session(routed, cluster) for _ in range(generated.CLIENTS)]
    for one in pairs:
        ends.callback(one.close)
    return pairs


class Failed(Exception):
    """A step whose answers differ."""

    def __init__(self, number, step, error):
        super().__init__(f"step {number}, {step.tells()}:\n{error!r}")
        self.number = number
        self.step = step


def rest(sessions):
    """Nobody is in a transaction, and so long that one of the standbys catches up."""
    for one in sessions:
        if one.status != "I":
            one.ask(query("COMMIT"))
            one.is_reading = False
    time.sleep(REST_SECONDS)


def run(routed, cluster, steps):
    """Runs the steps from the beginning of the world; the number of statements that were run."""
    make_worlds(routed, cluster)
    with contextlib.ExitStack() as ends:
        sessions, count = open_sessions(ends, routed, cluster), 0
        for number, step in enumerate(steps):
            if step.kind == "rest":
                rest(sessions)
                continue
            session = sessions[step.who]
            if not session.may(step):
                continue
            if step.is_alone and any(one.status != "I" for one in sessions):
                continue
            try:
                session.run(step)
            except (AssertionError, Closed, Late) as error:
                raise Failed(number, step, error) from None
            count += 1
    return count


def fails(routed, cluster, steps, last):
    """The failure of these steps at `last`, or None."""
    try:
        run(routed, cluster, steps)
    except Failed as failure:
        return failure if failure.step is last else None
    return None


def shortest(routed, cluster, steps, failure):
    """A short list of steps that still fails, and its failure: whole sessions are left out, the rests,
    and then chunks, ever smaller ones."""
    steps, deadline = steps[: failure.number + 1], time.monotonic() + SHRINK_SECONDS
    for left_out in [*range(generated.CLIENTS), "rest"]:
        fewer = [one for one in steps if left_out not in (one.who, one.kind)]
        if fewer and (found := fails(routed, cluster, fewer, failure.step)) is not None:
            steps, failure = fewer[: found.number + 1], found
    size = len(steps) // 2
    while size > 0:
        at = 0
        while at < len(steps) - 1 and time.monotonic() < deadline:
            fewer = steps[:at] + steps[at + size :]
            if fewer and (found := fails(routed, cluster, fewer, failure.step)) is not None:
                steps, failure = fewer[: found.number + 1], found
            else:
                at += size
        size //= 2
    return steps, failure


def check(routed, cluster, seed, steps):
    """Runs the steps of a seed; the number of statements. Fails with a short list of steps."""
    try:
        return run(routed, cluster, steps)
    except Failed as first:
        steps, failure = shortest(routed, cluster, steps, first)
        story = "\n".join(one.tells() for one in steps)
        pytest.fail(f"seed {seed}\n{first}\n\nthe shortest list that was found:\n{story}\n{failure}")


@pytest.mark.timeout(90 + len(SEEDS) * STEPS // 20)
def test_sessions_are_told_what_the_primary_would_tell(start_pooler, cluster):
    """Standbys are late, and each of them catches up now and then: between writes and reads."""
    soon, late = cluster.standbys
    refusals, count = Refusals(cluster), 0
    with soon.settings(recovery_min_apply_delay="200ms"), late.settings(recovery_min_apply_delay="2s"):
        routed = start(start_pooler, cluster)
        watch = Watch(routed)
        watch.wait_route("plain read")
        watch.queries()
        for seed in SEEDS:
            count += check(routed, cluster, seed, Generator(seed).steps(STEPS, REST_EVERY))
        ran = watch.by_role()
    retries = total(routed, "weir_retries_total")
    refused = refusals.all()
    print(f"{count} steps; {ran}; {len(refused)} refused by standbys, {retries} sent again")
    assert len(refused) <= retries, refused
    assert ran["replica"] > count / 50, "the standbys had nothing to do: nothing was shown"


def test_the_share_of_reads_on_standbys(start_pooler, cluster, record_property):
    """Where a standby is fresh, whatever could run there does. Who says what could is the generator,
    and where a read ran is what the nodes have counted."""
    routed = start(start_pooler, cluster)
    make_worlds(routed, cluster)
    watch, generator = Watch(routed), Generator(READS, has_functions=True)
    elsewhere = []
    with contextlib.ExitStack() as ends:
        sessions = open_sessions(ends, routed, cluster)
        for one in sessions:
            one.ask(query(generator.pick(generated.HARMLESS_SETTINGS)))
        for number, step in enumerate(generator.reads(READS)):
            if number % 100 == 0:
                for _ in range(5):
                    sessions[0].ask(query(generator.filled(generator.pick(generated.WRITES), 0)))
                sessions[0].ask(query(FLUSHES))
                watch.settle(sql=FLUSHED)
            sessions[step.who].run(step)
            if watch.by_role() != {"replica": 1}:
                elsewhere.append(step.tells())
    share = 1 - len(elsewhere) / READS
    record_property("share", share)
    print(f"{READS} reads, {share:.1%} of them on standbys")
    assert share >= SHARE_LEAST, elsewhere[:20]


def smith(cluster, seed):
    """Queries that sqlsmith makes up for the schema; how many were left out."""
    command = ["sqlsmith", f"--target={cluster.primary.conninfo('app_trust')}", "--dry-run"]
    command += [f"--seed={seed}", f"--max-queries={QUERIES}", "--exclude-catalog"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    types = cluster.primary.sql("SELECT proname, prorettype::regtype FROM pg_proc WHERE pronargs = 0")
    types = dict(row.split("|") for row in types.splitlines())

    def steady(call):
        is_unequal = UNEQUAL.fullmatch(call[1]) and call[2] and not types[call[1]].startswith("SETOF")
        return f"cast(null as {types[call[1]]})" if is_unequal else call[0]

    made = [SAMPLE.sub(r"\1 (100)", one) for one in done.stdout.split(";\n") if one.strip()]
    made = [CALL.sub(steady, one) for one in made]
    kept = [one for one in made if not any(UNEQUAL.fullmatch(call[1]) for call in CALL.finditer(one))]
    return kept, len(made) - len(kept)


def unordered(heard):
    """No row has its place: nothing in these queries says which is the first."""
    return sorted(heard, key=repr)


@pytest.mark.timeout(60 + QUERIES // 5)
def test_queries_of_sqlsmith(start_pooler, cluster):
    routed = start(start_pooler, cluster)
    make_worlds(routed, cluster)
    watch, refusals = Watch(routed), Refusals(cluster)
    queries, left_out = smith(cluster, FIRST)
    ran = collections.Counter()
    with contextlib.closing(Session(routed, cluster)) as pair:
        pair.arranged = unordered
        pair.ask(query("SET statement_timeout = '2s'"))
        for number, text in enumerate(queries):
            if number % 20 == 0:
                ran.update(watch.by_role())
                pair.ask(query(FLUSHES))
                watch.settle(sql=FLUSHED)
            try:
                pair.ask(query(text))
            except Differs as error:
                if TIMED_OUT in str(error):
                    continue
                pytest.fail(f"query {number} of seed {FIRST}:\n{text}\n{error}")
    ran.update(watch.by_role())
    refused = refusals.all()
    print(f"{len(queries)} queries, {left_out} left out; {dict(ran)}; {len(refused)} refused by standbys")
    assert left_out < QUERIES / 3
    assert len(refused) <= total(routed, "weir_retries_total"), refused
