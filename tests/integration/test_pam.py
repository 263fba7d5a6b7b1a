"""auth_type = pam, judged by a module that reads users from a file (pam_wrapper, pam_matrix)."""

import glob
import os
import subprocess
import time

import pytest

import cluster as clusters
from pooler import ADMIN, MONITOR, PATIENCE
from test_auth import OK, entry, outcome
from test_login import assert_refused, refusal
from tools import in_threads
from wire import message, startup

# pam_wrapper opens the library in a way that sanitizers refuse.
pytestmark = [pytest.mark.weir_only, pytest.mark.release_only]

SECRET = clusters.PASSWORDS["app"]
ADMINS = dict([ADMIN, MONITOR])
MODULE = "/usr/lib/*/pam_wrapper/pam_matrix.so"


@pytest.fixture
def pam(cluster, tmp_path):
    """Variables which make the service pgbouncer read users and passwords from a file."""
    folder = os.path.join(cluster.folder, "pam")
    os.makedirs(folder, exist_ok=True)
    users = os.path.join(folder, "users")
    (module,) = glob.glob(MODULE)
    with open(users, "w", encoding="utf-8") as file:
        for user, secret in {"app": SECRET, "guest": "of guest", **ADMINS}.items():
            file.write(f"{user}:{secret}:pgbouncer\n")
        file.write("stale:old:other-service\n")
    with open(os.path.join(folder, "pgbouncer"), "w", encoding="utf-8") as file:
        for kind in ("auth", "account"):
            file.write(f"{kind} required {module} passdb={users}\n")
    clusters.give_away(folder)
    (wrapper,) = glob.glob("/usr/lib/*/libpam_wrapper.so")
    return {
        "LD_PRELOAD": wrapper,
        "PAM_WRAPPER": "1",
        "PAM_WRAPPER_SERVICE_DIR": folder,
    }


@pytest.fixture
def start_pam(start_pooler, pam, cluster):
    def start(settings=None, **more):
        more.setdefault("databases", {"app": entry(cluster, user="app_trust"),
                                      "own": entry(cluster)})  # fmt: skip
        return start_pooler(
            {"auth_type": "pam", "auth_file": None, **(settings or {})}, variables=pam, **more
        )

    return start


def test_right_and_wrong(start_pam):
    pooler = start_pam()
    assert outcome(pooler, "app", SECRET) == (3, 0, OK)
    assert outcome(pooler, "guest", "of guest") == (3, 0, OK)
    assert_refused(refusal(pooler, "app", "x"), "PAM authentication failed")
    assert_refused(refusal(pooler, "stranger", "x"), "PAM authentication failed")
    assert_refused(refusal(pooler, "app", ""), "empty password returned by client")
    pooler.wait_log(r"C-0x\w+: app/app@.* login refused: pam_authenticate\(\) failed: ")


def test_as_pgbouncer_does(start_both, pam, cluster):
    weir, pgbouncer = start_both(
        {"auth_type": "pam", "auth_file": None},
        variables=pam,
        secrets={},
        databases={"app": entry(cluster, user="app_trust")},
    )
    for user, secret in (("app", SECRET), ("app", "x"), ("stranger", "x"), ("stale", "old")):
        for database in ("app", "nowhere"):
            ours = outcome(weir, user, secret, database)
            assert ours == outcome(pgbouncer, user, secret, database), (user, secret, database)


def test_account_of_another_service(start_pam):
    assert_refused(refusal(start_pam(), "stale", "old"), "PAM authentication failed")


def test_unknown_database_is_told_after_the_password(start_pam):
    pooler = start_pam()
    assert_refused(refusal(pooler, "app", "x", "nowhere"), "PAM authentication failed")
    assert_refused(refusal(pooler, "app", SECRET, "nowhere"), "no such database: nowhere")


def test_console(start_pam):
    pooler = start_pam()
    assert pooler.admin("SHOW VERSION")
    assert_refused(refusal(pooler, "guest", "of guest", "pgbouncer"), "not allowed")


def test_the_password_serves_for_the_server(start_pam):
    """Nothing else is at hand; it is kept for later connections too, and over a RELOAD."""
    pooler = start_pam()
    with pooler.client("app", SECRET, "own") as client:
        assert client.query("SELECT current_user").value == "app"
        pooler.admin("RELOAD")
        pooler.admin("RECONNECT")
        deadline = time.monotonic() + 5 * PATIENCE
        while any(row["database"] == "own" for row in pooler.admin("SHOW SERVERS")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.query("SELECT current_user").value == "app"
    fields = refusal(pooler, "guest", "of guest", "own")
    assert fields["M"] == 'password authentication failed for user "guest"'


@pytest.mark.parametrize("place", ["global", "database"])
def test_not_together_with_auth_user(start_pam, cluster, place):
    if place == "global":
        pooler = start_pam({"auth_user": "postgres"})
    else:
        pooler = start_pam(databases={"app": entry(cluster, auth_user="postgres")})
    assert_refused(refusal(pooler, "app", SECRET), "bouncer config error")
    pooler.wait_log("can't be used together with database authentication")


def test_many_at_once(start_pam):
    """More than there are threads; each gets its own answer."""
    pooler = start_pam()

    def log_in(number):
        user, secret = [("app", SECRET), ("guest", "of guest"), ("app", "x")][number % 3]
        expected = "PAM authentication failed" if secret == "x" else OK
        assert outcome(pooler, user, secret)[-1] == expected

    in_threads(40, log_in)


def test_clients_that_leave_meanwhile(start_pam):
    """They take nobody along, whenever they go."""
    pooler = start_pam()
    for number in range(60):
        client = pooler.connect()
        client.send(startup({"user": "app", "database": "app"}))
        client.read()
        client.send(message("p", SECRET.encode() + b"\0"))
        if number % 2:
            client.reset()
        else:
            client.drop()
    assert outcome(pooler, "app", SECRET) == (3, 0, OK)


def test_password_and_query_in_one_write(start_pam):
    """What comes behind the password waits until it is judged."""
    pooler = start_pam()
    client = pooler.connect()
    client.send(startup({"user": "app", "database": "app"}))
    client.read()
    client.send(message("p", SECRET.encode() + b"\0"), message("Q", b"SELECT 'early'\0"))
    client.answer()
    assert client.answer().value == "early"


# What a module may say


@pytest.fixture(scope="module")
def talk(cluster):
    """The module of pam_talk.c."""
    path = os.path.join(cluster.folder, "pam_talk.so")
    source = os.path.join(os.path.dirname(__file__), "pam_talk.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.fixture
def start_talking(start_pam, pam, talk):
    def start(words, **settings):
        with open(os.path.join(pam["PAM_WRAPPER_SERVICE_DIR"], "pgbouncer"), "w") as file:
            file.write(f"auth required {talk} {words}\naccount required {talk}\n")
        return start_pam(settings)

    return start


@pytest.mark.parametrize("words", ["prompts", "words", "many"])
def test_the_password_answers_every_question(start_talking, words):
    """Whatever is said around it."""
    pooler = start_talking(words)
    assert outcome(pooler, "app", "open") == (3, 0, OK)
    assert_refused(refusal(pooler, "app", "shut"), "PAM authentication failed")


def test_a_module_that_asks_nothing(start_talking):
    """It decides alone, but an empty password never gets as far."""
    pooler = start_talking("nothing")
    assert outcome(pooler, "app", "whatever") == (3, 0, OK)
    assert_refused(refusal(pooler, "app", ""), "empty password returned by client")


@pytest.mark.parametrize("words", ["echo", "too-many", "none"])
def test_a_conversation_that_cannot_be_had(start_talking, words):
    """A question that is shown is for a second factor, which nobody is there to give."""
    pooler = start_talking(words)
    assert_refused(refusal(pooler, "app", "open"), "PAM authentication failed")
    pooler.wait_log(r"login refused: pam_authenticate\(\) failed: ")


def test_a_module_that_hangs_holds_up_nobody_else(start_talking, cluster):
    """Its clients wait until client_login_timeout, others are served, and once it goes on so do
    the logins."""
    go_on = os.path.join(cluster.folder, "pam-goes-on")
    pooler = start_talking(f"hang {go_on}", client_login_timeout=1)
    with open(go_on, "w", encoding="utf-8"):
        served = pooler.client("app", "open")
    os.unlink(go_on)
    waiting = []
    for _ in range(12):  # more than there are threads
        client = pooler.connect()
        client.send(startup({"user": "app", "database": "app"}))
        client.read()
        client.send(message("p", b"open\0"))
        waiting.append(client)
    began = time.monotonic()
    assert served.query("SELECT 1").value == "1"
    assert time.monotonic() - began < 1
    for client in waiting:
        assert_refused(client.read_to_end().error, "client_login_timeout")
    with open(go_on, "w", encoding="utf-8"):
        assert outcome(pooler, "app", "open") == (3, 0, OK)
    served.close()
