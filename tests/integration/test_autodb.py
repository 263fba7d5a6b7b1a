"""Databases that the file names only by `*`."""

import re
import time

import pytest

from cluster import PASSWORDS
from pooler import PATIENCE
from wire import LoginFailed

SECRET = PASSWORDS["app"]
REGISTERED = re.compile(r"LOG C-.* registered new auto-database: (db=)?auto1\n")


@pytest.fixture(scope="module", autouse=True)
def others(cluster):
    """Further databases on the primary."""
    for name in ("auto1", "auto2"):
        cluster.primary.sql(f"CREATE DATABASE {name}")
    yield
    for name in ("auto1", "auto2"):
        cluster.primary.sql(f"DROP DATABASE {name} WITH (FORCE)")


def place(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


def database_of(pooler, name):
    with pooler.client(database=name) as client:
        return client.query("SELECT current_database()").value


def names(pooler):
    return {row["database"] for row in pooler.admin("SHOW POOLS")}


def wait_gone(pooler, name):
    deadline = time.monotonic() + 10 * PATIENCE
    while name in names(pooler):
        assert time.monotonic() < deadline, pooler.admin("SHOW POOLS")
        time.sleep(0.05)


def test_any_name_leads_to_the_database_of_that_name(cluster, start_pooler):
    pooler = start_pooler(databases={"*": place(cluster), "named": place(cluster, dbname="app")})
    assert database_of(pooler, "auto1") == "auto1"
    assert database_of(pooler, "auto2") == "auto2"
    assert database_of(pooler, "named") == "app"
    pooler.wait_log(REGISTERED)
    assert "registered new auto-database: named" not in pooler.log_text()
    assert database_of(pooler, "auto1") == "auto1"
    assert len(REGISTERED.findall(pooler.log_text())) == 1


def test_a_dbname_in_the_entry(cluster, start_pooler):
    pooler = start_pooler(databases={"*": place(cluster, dbname="app")})
    assert database_of(pooler, "whatever") == "app"
    assert database_of(pooler, "with a blank, and more") == "app"


def test_a_database_that_is_not_there(cluster, start_pooler):
    """PostgreSQL says so itself."""
    pooler = start_pooler(databases={"*": place(cluster)})
    with pytest.raises(LoginFailed) as raised:
        pooler.client(database="nowhere")
    assert raised.value.fields["M"] == 'database "nowhere" does not exist'


def test_the_console_is_not_covered(cluster, start_pooler):
    pooler = start_pooler(databases={"*": place(cluster)})
    assert pooler.admin("SHOW VERSION")


def test_it_is_dropped_when_nobody_uses_it(cluster, start_pooler):
    pooler = start_pooler(
        {"autodb_idle_timeout": 1, "server_idle_timeout": 1},
        databases={"*": place(cluster), "named": place(cluster, dbname="app")},
    )
    database_of(pooler, "named")
    database_of(pooler, "auto1")
    with pooler.client(database="auto2") as kept:
        assert {"auto1", "auto2", "named"} <= names(pooler)
        pooler.wait_log(
            "WARNING dropping database 'auto1' as it does not exist anymore or inactive"
            " auto-database"
        )
        wait_gone(pooler, "auto1")
        assert kept.query("SELECT current_database()").value == "auto2"
        assert {"auto2", "named"} <= names(pooler)
    assert database_of(pooler, "auto1") == "auto1"
    assert len(REGISTERED.findall(pooler.log_text())) == 2
    assert "dropping database 'named'" not in pooler.log_text()


def test_a_server_that_is_kept_keeps_it(cluster, start_pooler):
    pooler = start_pooler({"autodb_idle_timeout": 1}, databases={"*": place(cluster)})
    database_of(pooler, "auto1")
    time.sleep(1.6)
    assert "auto1" in names(pooler)
    assert "dropping" not in pooler.log_text()


@pytest.mark.weir_only
def test_the_timeout_can_be_set(cluster, start_pooler):
    pooler = start_pooler({"server_idle_timeout": 0.5}, databases={"*": place(cluster)})
    database_of(pooler, "auto1")
    assert config_of(pooler)["autodb_idle_timeout"] == "3600"
    pooler.admin("SET autodb_idle_timeout = '0.5'")
    wait_gone(pooler, "auto1")


def config_of(pooler):
    return {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG")}


@pytest.mark.weir_only
def test_many_come_and_go(cluster, start_pooler):
    """Clients log in all the while databases are dropped; nobody is refused."""
    pooler = start_pooler(
        {"autodb_idle_timeout": 0, "server_idle_timeout": 0.1, "server_lifetime": 0},
        databases={"*": place(cluster, dbname="app")},
    )
    for number in range(300):
        assert database_of(pooler, f"name{number % 60}") == "app"
    assert pooler.log_text().count("dropping database") > 7


@pytest.mark.weir_only
def test_a_paused_one_stays(cluster, start_pooler):
    pooler = start_pooler(
        {"autodb_idle_timeout": 0.3, "server_idle_timeout": 0.3}, databases={"*": place(cluster)}
    )
    pooler.admin("PAUSE auto1")
    time.sleep(1)
    pooler.admin("RESUME auto1")
    assert database_of(pooler, "auto1") == "auto1"


def test_auth_query_of_auto_databases(cluster, start_pooler):
    query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname=$1"
    pooler = start_pooler(
        {"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query": query},
        secrets={"postgres": ""},
        databases={"*": place(cluster)},
    )
    with pooler.client("app", SECRET, "auto1") as client:
        assert client.query("SELECT current_database()").value == "auto1"


@pytest.mark.weir_only
def test_routed_ones_have_a_prober_as_long_as_they_are_there(cluster, start_pooler):
    pooler = start_pooler(
        {"autodb_idle_timeout": 0.3, "server_idle_timeout": 0.3, "probe_interval": 0.1},
        databases={"*": place(cluster, dbname="app", routing="primary")},
    )
    assert database_of(pooler, "one") == "app"
    assert any(row["database"] == "one" for row in pooler.admin("SHOW NODES"))
    wait_gone(pooler, "one")
    deadline = time.monotonic() + 5 * PATIENCE
    while any(row["database"] == "one" for row in pooler.admin("SHOW NODES")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert database_of(pooler, "one") == "app"
