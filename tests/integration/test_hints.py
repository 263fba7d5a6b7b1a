"""Hints: comments, and weir.route, with sessions that are tracked and that are not."""

import time

import pytest

from pooler import PATIENCE
from routed import Watch, start_routed
from wire import SYNC, bind, describe, execute, parse

pytestmark = pytest.mark.weir_only

STATES = ["off", "track"]


@pytest.fixture(params=STATES)
def routed(request, start_pooler, cluster, make_table):
    make_table("hinted", "n int")
    cluster.wait_replayed()
    settings = {"session_state": request.param, "read_consistency": "eventual"}
    return start_routed(start_pooler, cluster, settings)


@pytest.fixture
def watch(routed):
    found = Watch(routed)
    found.settle()
    return found


def where(watch, client, sql="SELECT 1"):
    """Where a statement runs; what Weir itself sends besides is nobody's query."""
    watch.queries()
    answer = client.query(sql)
    assert not answer.errors, answer
    return watch.where()


def extended(client, sql):
    return client.ask(parse(sql), bind(), describe(), execute(), SYNC)


RUNS = [lambda client, sql: client.query(sql), extended]


@pytest.mark.parametrize(
    "sql,role",
    [
        ("/*weir:primary*/ SELECT 1", "primary"),
        ("/*   WEIR:Primary\n*/SELECT 1", "primary"),
        ("SELECT 1 -- weir:primary", "primary"),
        ("SELECT 1 /* weir:primary */", "primary"),
        ("/* weir:replica */ SELECT pg_is_in_recovery()", "replica"),
        ("SELECT pg_is_in_recovery() --WEIR:REPLICA", "replica"),
        ("/* weir:replica, please */ SELECT pg_is_in_recovery()", "primary"),
        ("/* weir:replica */ DELETE FROM hinted", "primary"),
        ("SELECT '/* weir:primary */'", "replica"),
    ],
)
def test_comments(routed, watch, sql, role):
    """In both protocols, the first time and when the text is known."""
    with routed.client() as client:
        for run in RUNS:
            for _ in range(3):
                watch.queries()
                assert not run(client, sql).errors
                assert watch.where() == role, run


@pytest.mark.parametrize("run", RUNS)
def test_set_show_and_reset(routed, watch, run):
    with routed.client() as client:
        assert where(watch, client) == "replica"
        assert run(client, "SHOW weir.route").value == "auto"
        assert run(client, "SET weir.route = 'primary'").tags == ["SET"]
        assert where(watch, client) == "primary"
        assert watch.why(client) == "weir.route"
        assert run(client, "SHOW weir.route").value == "primary"
        assert run(client, "set session weir.route to REPLICA").tags == ["SET"]
        assert where(watch, client, "SELECT pg_is_in_recovery()") == "replica"
        assert where(watch, client, "DELETE FROM hinted") == "primary"
        assert where(watch, client, "/* weir:primary */ SELECT 1") == "primary"
        assert run(client, "SHOW weir.route").value.lower() == "replica"
        assert run(client, "RESET weir.route").tags == ["RESET"]
        assert where(watch, client, "SELECT pg_is_in_recovery()") == "primary"
        assert where(watch, client) == "replica"
        assert watch.why(client) == ""


def test_who_sets_it_is_not_bound_to_the_primary(routed, watch):
    with routed.client() as client, routed.client() as other:
        client.query("SET weir.route = 'primary'")
        client.query("SET weir.route = 'auto'")
        assert where(watch, client) == "replica" and watch.why(client) == ""
        client.query("SET weir.route = 'primary'")
        assert where(watch, other) == "replica"
        assert other.query("SHOW weir.route").value == "auto"


@pytest.mark.parametrize("run", RUNS)
def test_a_wrong_value_is_refused(routed, watch, run):
    with routed.client() as client:
        client.query("SET weir.route = 'primary'")
        answer = run(client, "SET weir.route = 'repilca'")
        assert answer.code == "22023" and answer.status == "I"
        assert answer.error["M"] == 'invalid value for parameter "weir.route": "repilca"'
        assert answer.error["H"] == "Available values: auto, primary, replica."
        assert where(watch, client) == "primary"
        client.query("BEGIN")
        assert run(client, "SET weir.route TO nowhere").code == "22023"
        assert client.query("SELECT 1").code == "25P02"
        client.query("ROLLBACK")
        assert run(client, "SET weir.route = '$t$; DROP TABLE hinted'").code == "22023"
        assert client.query("SELECT count(*) FROM hinted").value == "0"


def test_it_goes_with_its_transaction(routed, watch):
    with routed.client() as client:
        client.query("BEGIN")
        client.query("SET weir.route = 'primary'")
        client.query("ROLLBACK")
        assert where(watch, client) == "replica"
        client.query("BEGIN")
        client.query("SET weir.route = 'primary'")
        client.query("SELECT 1/0")
        client.query("COMMIT")
        assert where(watch, client) == "replica"
        client.query("BEGIN")
        client.query("SET LOCAL weir.route = 'primary'")
        client.query("COMMIT")
        assert where(watch, client) == "replica"
        client.query("BEGIN")
        client.query("SET weir.route = 'primary'")
        client.query("COMMIT")
        assert where(watch, client) == "primary"
        client.query("RESET ALL")
        assert where(watch, client) == "replica"


def test_set_config_and_prepared_statements(routed, watch):
    with routed.client() as client:
        client.query("SELECT set_config('weir.route', 'primary', false)")
        assert where(watch, client) == "primary"
        client.ask(parse("SET weir.route = 'auto'", "back"), SYNC)
        assert where(watch, client) == "primary"
        client.ask(bind(name="back"), execute(), SYNC)
        assert where(watch, client) == "replica"


def test_at_login(routed, watch):
    options = "-c weir.route=primary"
    with routed.client(options=options) as client:
        assert where(watch, client) == "primary"
        assert client.query("SHOW weir.route").value == "primary"
        client.query("SET weir.route = 'auto'")
        assert where(watch, client) == "replica"
        client.query("RESET weir.route")
        assert where(watch, client) == "primary"


def test_not_where_nothing_is_routed(start_pooler, cluster):
    """To PostgreSQL it is a parameter like any other."""
    pooler = start_pooler()
    with pooler.client() as client:
        assert client.query("SET weir.route = 'anything'").tags == ["SET"]
