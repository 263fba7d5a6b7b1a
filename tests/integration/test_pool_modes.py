"""When a server goes back to its pool in each pool mode, and what runs before its next client."""

import pytest

from wire import SYNC, bind, execute, parse, query

PID = "SELECT pg_backend_pid()"
NO_BLOCKS = "transaction blocks not allowed in statement pooling mode"
CODE = "08P01"


def fatal(client):
    """The error that ends the connection, which then ends."""
    error = client.read_to_end().errors[-1]
    assert error["S"] == "FATAL"
    return error["C"], error["M"]


# Statement mode


def test_statement_mode_gives_the_server_back_after_each_statement(start_pooler):
    pooler = start_pooler({"pool_mode": "statement", "default_pool_size": 1})
    one, two = pooler.client(), pooler.client()
    for _ in range(3):
        assert one.query("SELECT 1").value == "1"
        assert two.query("SELECT 2").value == "2"


BLOCKS = {
    "simple": [query("BEGIN")],
    "extended": [parse("BEGIN"), bind(), execute(), SYNC],
    "with more": [query("BEGIN; SELECT 1")],
    "failed": [query("BEGIN; SELECT 1/0")],
    "start": [query("START TRANSACTION READ ONLY")],
}


@pytest.mark.parametrize("messages", BLOCKS.values(), ids=BLOCKS)
def test_statement_mode_refuses_blocks(start_pooler, cluster, messages):
    """Client and server are closed, and nobody meets the open transaction."""
    pooler = start_pooler({"pool_mode": "statement", "default_pool_size": 1})
    with pooler.client() as before:
        pid = before.query(PID).value
    client = pooler.client()
    client.send(*messages)
    assert fatal(client) == (CODE, NO_BLOCKS)
    pooler.wait_log(rf"S-0x\w+: app/app_trust@\S+ closing because: {NO_BLOCKS} \(age=\d+s\)")
    pooler.wait_log(rf"C-0x\w+: app/app_trust@\S+ closing because: {NO_BLOCKS} \(age=\d+s\)")
    pooler.wait_log(rf"C-0x\w+: app/app_trust@\S+ pooler error: {NO_BLOCKS}")
    with pooler.client() as after:
        assert after.query(PID).value != pid
        assert after.query("SELECT 1").status == "I"


def test_statement_mode_takes_a_block_that_ends_at_once(start_pooler):
    """PostgreSQL is outside of a transaction when it is ready: nothing was left open."""
    pooler = start_pooler({"pool_mode": "statement", "default_pool_size": 1})
    with pooler.client() as client:
        answer = client.query("BEGIN; SELECT 1; COMMIT")
        assert (answer.tags, answer.status) == (["BEGIN", "SELECT 1", "COMMIT"], "I")
        assert client.query("SELECT 1; SELECT 2").tags == ["SELECT 1", "SELECT 1"]
        assert client.ask(parse("SELECT 3"), bind(), execute(), SYNC).value == "3"


def test_statement_mode_of_an_entry_and_a_user(start_pooler, cluster):
    """The user's counts before the database's, and that before the global one."""
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(
        {"pool_mode": "session"},
        databases={"app": entry + " pool_mode=statement", "free": entry},
        users={"app": "pool_mode=transaction"},
    )
    client = pooler.client()
    client.send(query("BEGIN"))
    assert fatal(client) == (CODE, NO_BLOCKS)
    with pooler.client("app") as other, pooler.client(database="free") as free:
        assert other.query("BEGIN").status == "T"
        assert free.query("BEGIN").status == "T"
    modes = {(row["database"], row["user"]): row["pool_mode"] for row in pooler.admin("SHOW POOLS")}
    assert modes["app", "app_trust"] == "statement"
    assert modes["app", "app"] == "transaction"
    assert modes["free", "app_trust"] == "session"


@pytest.mark.weir_only
def test_statement_mode_keeps_prepared_statements(start_pooler):
    pooler = start_pooler({"pool_mode": "statement", "default_pool_size": 1})
    with pooler.client() as one, pooler.client() as two:
        assert one.ask(parse("SELECT 'one'", "s"), SYNC).kinds == "1Z"
        assert two.ask(parse("SELECT 'two'", "s"), SYNC).kinds == "1Z"
        assert one.ask(bind(name="s"), execute(), SYNC).value == "one"
        assert two.ask(bind(name="s"), execute(), SYNC).value == "two"


# The reset query


@pytest.mark.one_worker
def test_reset_query_runs_in_session_mode_only(start_pooler):
    for mode, left in (("session", "4MB"), ("transaction", "12MB")):
        pooler = start_pooler({"pool_mode": mode, "default_pool_size": 1})
        with pooler.client() as one:
            one.query("SET work_mem = '12MB'")
        with pooler.client() as two:
            assert two.query("SHOW work_mem").value == left


def test_reset_query_always(start_pooler):
    pooler = start_pooler({"server_reset_query_always": 1, "default_pool_size": 1})
    with pooler.client() as one:
        pid = one.query(PID).value
        one.query("SET work_mem = '12MB'")
        assert one.query("SHOW work_mem").value == "4MB"
        assert one.query(PID).value == pid


@pytest.mark.one_worker
def test_reset_query_is_the_one_that_is_set(start_pooler):
    pooler = start_pooler(
        {"pool_mode": "session", "default_pool_size": 1, "server_reset_query": "RESET work_mem"}
    )
    with pooler.client() as one:
        one.query("SET work_mem = '12MB'; SET extra_float_digits = 3")
    with pooler.client() as two:
        assert two.query("SHOW work_mem").value == "4MB"
        assert two.query("SHOW extra_float_digits").value == "3"


@pytest.mark.one_worker
def test_no_reset_query(start_pooler):
    settings = {"pool_mode": "session", "default_pool_size": 1, "server_reset_query": ""}
    pooler = start_pooler(settings)
    with pooler.client() as one:
        one.query("SET work_mem = '12MB'")
    with pooler.client() as two:
        assert two.query("SHOW work_mem").value == "12MB"


@pytest.mark.weir_only
def test_reset_query_that_fails_costs_the_server(start_pooler):
    settings = {"pool_mode": "session", "default_pool_size": 1, "server_reset_query": "nonsense"}
    pooler = start_pooler(settings)
    with pooler.client() as one:
        pid = one.query(PID).value
    with pooler.client() as two:
        assert two.query(PID).value != pid
