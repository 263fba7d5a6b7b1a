"""The file of users: what is read of it, and when; SET, which goes by what was read."""

import os
import time

import pytest

import cluster as clusters
from console import row_of
from pooler import ADMIN, KIND, MONITOR
from test_auth import OK, entry, outcome
from test_login import scram_challenge

ADMINS = dict([ADMIN, MONITOR])
PLAIN = (3, 0, OK)
UNKNOWN = (3, "password authentication failed")
BAD_VERIFIER = "SCRAM-SHA-256$4096:nonsense"


@pytest.fixture
def start_plain(start_pooler, cluster):
    """Starts a pooler whose servers let everybody in."""

    def start(secrets, **settings):
        return start_pooler(
            {"auth_type": "plain", **settings},
            secrets={**secrets, **ADMINS},
            databases={"app": entry(cluster, user="app_trust")},
        )

    return start


def write_users(pooler, secrets, name="users.txt"):
    path = os.path.join(pooler.folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f'"{user}" "{secret}"\n' for user, secret in {**secrets, **ADMINS}.items())
    return path


def setting(pooler, key):
    return row_of(pooler.admin("SHOW CONFIG"), key=key)["value"]


def test_set_goes_by_the_users_at_hand(start_plain):
    """Neither a file that has gone nor one that has changed is looked at."""
    pooler = start_plain({"ann": "right"})
    os.rename(pooler.auth_file, pooler.auth_file + ".away")
    pooler.admin("SET default_pool_size = 3")
    assert setting(pooler, "default_pool_size") == "3"
    assert outcome(pooler, "ann", "right") == PLAIN
    write_users(pooler, {"bob": "right"}, "userlist.txt")
    pooler.admin("SET server_idle_timeout = 77")
    assert outcome(pooler, "ann", "right") == PLAIN
    assert outcome(pooler, "bob", "right") == UNKNOWN


def test_reload_reads_the_users_again(start_plain):
    pooler = start_plain({"ann": "right"})
    write_users(pooler, {"bob the second": "right"}, "userlist.txt")
    pooler.admin("RELOAD")
    assert outcome(pooler, "bob the second", "right") == PLAIN
    if KIND == "weir":  # PgBouncer 1.18 still knows the name, without its secret
        assert outcome(pooler, "ann", "right") == UNKNOWN


@pytest.mark.weir_only
def test_set_of_another_file_reads_it(start_plain):
    """PgBouncer 1.18 answers and reads nothing, which is of no use to anybody."""
    pooler = start_plain({"ann": "right"})
    other = write_users(pooler, {"bob": "right"})
    pooler.admin(f"SET auth_file = '{other}'")
    assert outcome(pooler, "bob", "right") == PLAIN
    assert outcome(pooler, "ann", "right") == UNKNOWN
    pooler.admin("RELOAD")
    assert outcome(pooler, "ann", "right") == PLAIN


@pytest.mark.weir_only
def test_set_of_the_iterations_takes_no_file(start_plain):
    pooler = start_plain({"ann": "right"}, auth_type="scram-sha-256")
    os.rename(pooler.auth_file, pooler.auth_file + ".away")
    pooler.admin("SET scram_iterations = 4200")
    assert scram_challenge(pooler, "ann")[1] == "i=4200"
    assert outcome(pooler, "ann", "right") == (10, 11, 12, 0, OK)


@pytest.mark.weir_only
def test_a_secret_that_is_no_verifier_ends_no_reading(start_plain):
    """Nor does it let anybody in, who has read it where it was stored."""
    pooler = start_plain({"": "nobody", "ann": BAD_VERIFIER, "bob": "right"})
    assert outcome(pooler, "bob", "right") == PLAIN
    assert outcome(pooler, "ann", BAD_VERIFIER) == UNKNOWN
    pooler.wait_log(r"ERROR auth file \(.*userlist.txt:2\): the secret starts with SCRAM-SHA-256\$")
    names = {row["name"] for row in pooler.admin("SHOW USERS")}
    assert {"ann", "bob"} <= names
    for method in ("md5", "scram-sha-256"):
        pooler.admin(f"SET auth_type = '{method}'")
        text = outcome(pooler, "ann", BAD_VERIFIER)[-1]
        assert text in ("password authentication failed", "SASL authentication failed")
        assert outcome(pooler, "bob", "right")[-1] == OK


def test_a_start_without_the_file(start_pooler, cluster):
    """It starts, says so, and knows nobody."""
    pooler = start_pooler(
        {"auth_type": "plain", "auth_file": "/nowhere/users.txt"},
        databases={"app": entry(cluster, user="app_trust")},
    )
    pooler.wait_log("ERROR could not open auth_file /nowhere/users.txt: No such file or directory")
    assert outcome(pooler, "app", clusters.PASSWORDS["app"]) == UNKNOWN


@pytest.mark.weir_only
@pytest.mark.release_only
def test_reload_does_not_wait_for_the_hashing_of_many_secrets(start_pooler, cluster):
    """Which takes more than a millisecond for each of them: it goes on behind, and what was made is
    kept."""
    secrets = {**ADMINS, **{f"user {n}": f"secret {n}" for n in range(5000)}}
    pooler = start_pooler(
        {"auth_type": "scram-sha-256"},
        secrets=secrets,
        databases={"app": entry(cluster, user="app_trust")},
    )
    began = time.monotonic()
    for _ in range(3):
        pooler.admin("RELOAD")
    assert time.monotonic() - began < 3
    assert outcome(pooler, "user 4999", "secret 4999")[-1] == OK
    assert outcome(pooler, "user 4999", "secret 0")[-1] != OK
    pooler.stop()
