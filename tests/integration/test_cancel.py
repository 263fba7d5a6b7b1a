"""A cancel request ends exactly the query it was meant for, and never another client's."""

import os
import random
import threading
import time

import psycopg
import pytest

import wire
from pooler import PATIENCE
from tools import in_threads, wait_running
from wire import SYNC, bind, execute, parse, query


def test_cancel_of_a_running_query(either_mode, cluster):
    with either_mode.client() as client:
        began = time.monotonic()
        client.send(query("SELECT pg_sleep(30), 'victim'"))
        wait_running(cluster, "victim")
        wire.cancel(either_mode.address, client.key)
        answer = client.answer()
        assert (answer.code, answer.status) == ("57014", "I")
        assert time.monotonic() - began < 10 * PATIENCE
        assert client.query("SELECT 'next'").value == "next"


def test_cancel_over_unix_socket(pooler, cluster):
    with pooler.client(unix=True) as client:
        client.send(query("SELECT pg_sleep(30), 'victim'"))
        wait_running(cluster, "victim")
        wire.cancel(pooler.unix_path, client.key)
        assert client.answer().code == "57014"


def test_cancel_within_a_transaction(either_mode, cluster):
    with either_mode.client() as client:
        client.query("BEGIN")
        client.send(parse("SELECT pg_sleep(30), 'victim'"), bind(), execute(), SYNC)
        wait_running(cluster, "victim")
        wire.cancel(either_mode.address, client.key)
        answer = client.answer()
        assert (answer.code, answer.status) == ("57014", "E")
        assert client.query("ROLLBACK").status == "I"


def test_psycopg_cancel(either_mode, cluster):
    with either_mode.psycopg() as connection:
        canceler = threading.Thread(
            target=lambda: (wait_running(cluster, "victim"), connection.cancel()), daemon=True
        )
        canceler.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30), 'victim'")
        canceler.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_cancel_of_an_idle_client_is_nothing(pooler):
    """Neither the idle client itself nor whoever has the server now is hit."""
    with pooler.client() as idle, pooler.client() as busy:
        idle.query("SELECT 1")
        busy.send(query("SELECT pg_sleep(1), 'kept'"))
        for _ in range(5):
            wire.cancel(pooler.address, idle.key)
        assert busy.answer().code == ""
        assert idle.query("SELECT 'fine'").value == "fine"


def test_cancel_with_an_unknown_key(pooler):
    with pooler.client() as busy:
        busy.send(query("SELECT pg_sleep(1)"))
        wire.cancel(pooler.address, os.urandom(8))
        wire.cancel(pooler.address, busy.key[:4] + bytes(4))
        wire.cancel(pooler.address, bytes(8))
        assert busy.answer().code == ""


def test_keys_differ_and_cannot_be_guessed(pooler):
    clients = [pooler.client() for _ in range(50)]
    keys = {client.key for client in clients}
    assert len(keys) == 50 and {len(key) for key in keys} == {8}
    for at in (4, 5, 6):
        assert len({key[at] for key in keys}) > 5, "some byte hardly varies"


def test_keys_of_servers_stay_inside(pooler):
    """The server's own process id is no part of what a client knows."""
    with pooler.client() as client:
        pid = int(client.query("SELECT pg_backend_pid()").value)
        assert int.from_bytes(client.key[:4], "big") != pid


@pytest.mark.weir_only
def test_cancel_while_waiting_in_line(start_pooler):
    """57014 at once; the client stays connected and its place goes to the next."""
    pooler = start_pooler({"default_pool_size": 1})
    holder, waiter, following = (pooler.client() for _ in range(3))
    holder.query("BEGIN")
    waiter.send(query("SELECT 'never'"))
    assert waiter.is_silent(0.2)
    following.send(query("SELECT 'following'"))
    began = time.monotonic()
    wire.cancel(pooler.address, waiter.key)
    answer = waiter.answer()
    assert (answer.kinds, answer.code, answer.status) == ("EZ", "57014", "I")
    assert time.monotonic() - began < 2 * PATIENCE
    holder.query("COMMIT")
    assert following.answer().value == "following"
    assert waiter.query("SELECT 'again'").value == "again"


@pytest.mark.weir_only
def test_cancel_of_a_pipeline_while_waiting_in_line(start_pooler):
    """Each Sync gets its ReadyForQuery, as after any error."""
    pooler = start_pooler({"default_pool_size": 1})
    holder, waiter = pooler.client(), pooler.client()
    holder.query("BEGIN")
    waiter.send(parse("SELECT 'never'"), bind(), execute(), SYNC)
    assert waiter.is_silent(0.2)
    wire.cancel(pooler.address, waiter.key)
    answer = waiter.answer()
    assert (answer.kinds, answer.code) == ("EZ", "57014")
    holder.query("COMMIT")
    assert waiter.query("SELECT 'again'").value == "again"


def test_cancel_connection_is_closed_without_a_word(pooler):
    with pooler.client() as client:
        canceler = pooler.connect()
        canceler.send(wire.cancel_request(client.key))
        assert canceler.read_to_end().messages == []


def test_cancels_reach_a_full_pool(start_pooler, cluster):
    """All servers are busy: the request does not wait behind what it is to end."""
    pooler = start_pooler({"default_pool_size": 2})
    clients = [pooler.client() for _ in range(2)]
    for client in clients:
        client.send(query("SELECT pg_sleep(30), 'victim'"))
    wait_running(cluster, "victim", 2)
    for client in clients:
        wire.cancel(pooler.address, client.key)
    assert [client.answer().code for client in clients] == ["57014", "57014"]


@pytest.mark.timeout(90)
def test_cancel_storm(start_pooler):
    """Half of the clients are cancelled all the time, the other half must never notice, though
    all of them share the same few servers."""
    pooler = start_pooler({"default_pool_size": 3})
    end = time.monotonic() + 6
    canceled = [0]

    def attack(client, source):
        while time.monotonic() < end:
            wire.cancel(pooler.address, client.key)
            time.sleep(source.random() * 0.004)

    def work(number):
        source = random.Random(number)
        is_target = number % 2 == 0
        with pooler.client() as client:
            if is_target:
                attacker = threading.Thread(target=attack, args=[client, source], daemon=True)
                attacker.start()
            turn = 0
            while time.monotonic() < end:
                turn += 1
                mark = f"{number}-{turn}"
                answer = client.query(f"SELECT pg_sleep({source.random() * 0.01}), '{mark}'")
                if answer.code:
                    assert is_target, f"client {number} was cancelled: {answer.error}"
                    assert answer.code == "57014"
                    canceled[0] += 1
                else:
                    assert answer.rows[0][1] == mark
            if is_target:
                attacker.join()

    in_threads(12, work)
    assert canceled[0] > 0
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
