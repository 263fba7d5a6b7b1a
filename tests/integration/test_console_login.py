"""Who may enter the console, and as what."""

import contextlib
import subprocess

import pytest

import cluster as clusters
import pooler as poolers
import wire
from console import row_of

pytestmark = pytest.mark.weir_only


def psql_of_owner(pooler, command, user="pgbouncer", database="pgbouncer"):
    """psql over the Unix socket, run by the system user that the pooler runs as."""
    arguments = [clusters.program("psql"), "-X", "-A", "-t", "-h", pooler.folder]
    arguments += ["-p", str(pooler.port), "-U", user, "-d", database, "-w", "-c", command]
    return subprocess.run(
        clusters.as_unprivileged(arguments),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
        env=clusters.environment(PGPASSWORD="none"),
    )


def refusal(pooler, **login):
    with pytest.raises(wire.LoginFailed) as failed:
        pooler.client(**login)
    return failed.value.fields["M"]


def reject_all(folder):
    """Settings whose HBA file lets nobody in."""
    path = f"{folder}/reject-all.conf"
    with open(path, "w", encoding="utf-8") as file:
        file.write("local all all reject\nhost all all all reject\n")
    return {"auth_type": "hba", "auth_hba_file": path}


@pytest.mark.parametrize("auth_type", ["hba", "scram-sha-256", "md5", "plain", "any"])
def test_the_owner_is_admin_whatever_the_rules_say(start_pooler, cluster, auth_type):
    settings = {"auth_type": auth_type, "admin_users": "", "stats_users": ""}
    if auth_type == "hba":
        settings.update(reject_all(cluster.folder))
    pooler = start_pooler(settings)
    for database in ["pgbouncer", "weir"]:
        done = psql_of_owner(pooler, "SET verbose = 0", database=database)
        assert done.stdout.strip() == "SET verbose=0", done.stderr
    assert pooler.log_text().count("pgbouncer access from unix socket") == 2
    assert psql_of_owner(pooler, "SHOW VERSION", user="app").returncode != 0 or auth_type == "any"
    if clusters.unprivileged() is not None and auth_type != "any":
        with pytest.raises(wire.LoginFailed):  # root is somebody else
            pooler.client("pgbouncer", "none", database="pgbouncer", unix=True)
    if auth_type != "any":
        with pytest.raises(wire.LoginFailed):  # and so is everybody over TCP
            pooler.client("pgbouncer", "none", database="pgbouncer")


def test_with_any_everybody_may_look(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app user=app_trust"
    pooler = start_pooler({"auth_type": "any"}, databases={"app": entry})
    with pooler.client("whoever", database="pgbouncer") as client:
        assert client.query("SHOW POOLS").tags == ["SHOW"]
        for command in ["RELOAD", "KILL_CLIENT 1", "SHOW FDS", "SET verbose = 1"]:
            assert client.query(command).error["M"] == "admin access needed"
    with pooler.client(poolers.ADMIN[0], database="pgbouncer") as client:
        assert client.query("RELOAD").tags == ["RELOAD"]


def test_names_are_looked_up_at_each_login(start_pooler):
    pooler = start_pooler({"admin_users": "admin, app", "stats_users": "app2,postgres"})
    with pooler.client("app", database="pgbouncer") as former:
        pooler.admin("SET admin_users = 'admin'")
        assert former.query("SET verbose = 0").tags == ["SET verbose=0"]  # what it was it stays
    assert refusal(pooler, user="app", database="pgbouncer") == "not allowed"
    with pooler.client("postgres", database="pgbouncer") as client:
        assert client.query("SHOW STATE").tags == ["SHOW"]


def test_the_console_does_not_count_against_max_client_conn(start_pooler):
    pooler = start_pooler()
    pooler.admin("SET max_client_conn = 2")
    with contextlib.ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(pooler.client())
        assert refusal(pooler) == "no more connections allowed (max_client_conn)"
        consoles = [
            clients.enter_context(pooler.client(*user, database="pgbouncer"))
            for user in [poolers.ADMIN, poolers.MONITOR, poolers.MONITOR]
        ]
        for one in consoles:
            assert one.query("SHOW VERSION").tags == ["SHOW"]
        assert psql_of_owner(pooler, "SHOW VERSION").stdout.strip() == "PgBouncer 1.25.2"
        row = row_of(pooler.admin("SHOW DATABASES"), name="pgbouncer")
        assert row["current_client_connections"] == 4  # these three and who asks
