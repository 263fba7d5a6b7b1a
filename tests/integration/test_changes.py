"""A write changes what a read of something else shows, while no standby shows it yet.

The changes stand in changes.py. Each read is asked twice, behind the promise and without it: that a
standby would have given the old answer proves that the promise was needed.
"""

import pytest

import changes
from pooler import PATIENCE, SANITIZED
from routed import Watch, entry_of, replay_paused, start_routed
from wire import query

pytestmark = pytest.mark.weir_only

# Every how many of the changes are tried with a sanitizer's build, which is slow.
STRIDE = 4 if SANITIZED else 1


@pytest.fixture
def changed(cluster):
    """What the changes need, made once: each has objects of its own."""
    setups = [one.setup.rstrip("; ") + ";" for one in changes.CHANGES + changes.SCHEMA_CHANGES if one.setup]
    cluster.primary.sql(changes.CLEAN + changes.SCHEMA + "\n".join(setups))
    cluster.wait_replayed()
    yield
    cluster.primary.sql(changes.CLEAN)


def start_with_old(start_pooler, cluster, consistency):
    """A pooler with `app`, which promises, and `old`, the same without any promise."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write", read_consistency=consistency),
        "old": entry_of(nodes, routing="read_write", read_consistency="eventual"),
    }
    settings = {"session_state": "track", "probe_interval": "0.02", "ignore_startup_parameters": None}
    return start_routed(start_pooler, cluster, settings, databases=databases)


def last_of(answer):
    """The first column of the last row, or the SQLSTATE, or None."""
    if answer.code:
        return answer.code
    if copied := answer.of("d"):
        return copied[-1].body.decode().strip()
    return answer.rows[-1][0] if answer.rows else None


def ask(client, what):
    answers = [client.ask(one) for one in (what if isinstance(what, list) else [query(what)])]
    return last_of(answers[-1])


def catch_up(cluster, watch):
    """Both standbys may serve every read. A commit sends off what is logged and not yet on disk."""
    cluster.primary.sql("SELECT pg_current_xact_id()")
    watch.settle()


def look(change, cluster, watch, clients):
    """What was told about one change: by the promise, to the writer itself, and without promise."""
    writer, reader, old = clients
    before = ask(reader, change.read)
    assert change.before in (before, None), (change.name, before)
    catch_up(cluster, watch)
    with replay_paused(*cluster.standbys):
        ask(writer, change.write)
        told = [ask(reader, change.read), ask(writer, change.read)]
        return before, told, ask(old, change.read)


def look_at_all(some, start_pooler, cluster, consistency):
    """What was wrong, and the names of those changes of which a standby would have given old answers."""
    routed = start_with_old(start_pooler, cluster, consistency)
    watch = Watch(routed)
    wrong, old_ones = [], []
    with routed.client() as writer, routed.client() as reader, routed.client(database="old") as old:
        reader = writer if consistency == "session" else reader
        for change in some:
            before, told, without = look(change, cluster, watch, (writer, reader, old))
            if told[0] != told[1] or told[0] == before or change.after not in (told[0], None):
                wrong.append((change.name, before, told))
            if without == before:
                old_ones.append(change.name)
    print(f"{len(old_ones)} of {len(some)} would have been old")
    return wrong, old_ones


@pytest.mark.timeout(180)
@pytest.mark.parametrize("consistency,stride", [("database", STRIDE), ("session", 5 * STRIDE)])
def test_what_one_write_changes_elsewhere(start_pooler, cluster, consistency, stride, changed):
    some = changes.CHANGES[::stride]
    wrong, old_ones = look_at_all(some, start_pooler, cluster, consistency)
    assert not wrong
    assert len(old_ones) >= len(some) * 0.7, old_ones


@pytest.mark.timeout(180)
def test_what_a_schema_change_changes(start_pooler, cluster, changed):
    """Also what a standby would answer with an error, since it does not have the thing yet."""
    wrong, _ = look_at_all(changes.SCHEMA_CHANGES[::STRIDE], start_pooler, cluster, "database")
    assert not wrong


def test_a_new_role_and_a_new_database(start_pooler, cluster):
    """What no standby has yet: who logs in as, or into, such a one is served by the primary."""
    nodes = [*cluster.standbys, cluster.primary]
    every = " ".join(one for one in entry_of(nodes, routing="read_write").split() if "dbname" not in one)
    databases = {"app": entry_of(nodes, routing="read_write"), "*": every}
    routed = start_routed(start_pooler, cluster, {"session_state": "track"}, databases=databases)
    watch = Watch(routed)
    drop = "DROP DATABASE IF EXISTS changed_d; DROP ROLE IF EXISTS changed_r"
    with routed.client("postgres") as maker, routed.client() as other:
        catch_up(cluster, watch)
        try:
            with replay_paused(*cluster.standbys):
                ask(maker, "CREATE ROLE changed_r LOGIN; GRANT changed_r TO app_trust")
                assert ask(other, "SELECT 'changed_r'::regrole::text") == "changed_r"
                ask(other, "SET ROLE changed_r")
                assert ask(other, "SELECT current_user") == "changed_r"
                ask(maker, "CREATE DATABASE changed_d")
                assert ask(other, "SELECT count(*) FROM pg_database WHERE datname = 'changed_d'") == "1"
                with routed.client(database="changed_d") as one:
                    assert ask(one, "SELECT current_database()") == "changed_d"
        finally:
            ask(other, "RESET ROLE")
            routed.stop()
            cluster.primary.sql(drop.replace("; ", ";\n"))
