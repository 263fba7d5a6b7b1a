"""The messages of SCRAM, right and wrong ones, beside PgBouncer's answers to them."""

import base64
import hashlib
import hmac
import struct

import pytest

import cluster as clusters
from test_login import assert_refused
from wire import Closed, message, query, scram_proof, startup

pytestmark = pytest.mark.weir_only

SECRET = clusters.PASSWORDS["app"]
NONCE = b"abcdefghijklmnopqrstuvwx"
BARE = b"n=,r=" + NONCE

MORE = "a challenge"
FAILED = "SASL authentication failed"
MECHANISM = "client selected an invalid SASL authentication mechanism"
PARSE = "failed to parse packet"


def first(data, mechanism=b"SCRAM-SHA-256\0", length=None):
    """A SASLInitialResponse."""
    length = len(data) if length is None else length
    return message("p", mechanism + struct.pack("!i", length) + data)


# Each with what Weir says, and what 1.18 says where that differs; `None` where that dies, hangs or
# hangs up, which is why it is not asked.
FIRST = {
    "good": (first(b"n,," + BARE), MORE),
    "a client that could bind": (first(b"y,," + BARE), MORE),
    "binding": (first(b"p=tls-unique,," + BARE), FAILED),
    "binding without a kind": (first(b"p,," + BARE), FAILED),
    "another flag": (first(b"P=x,," + BARE), FAILED),
    "an authorization identity": (first(b"n,a=app," + BARE), FAILED),
    "an empty one": (first(b"n,a=," + BARE), FAILED),
    "something in its place": (first(b"n,x," + BARE), FAILED),
    "somebody else's name": (first(b"n,,n=somebody,r=" + NONCE), MORE),
    "an escaped name": (first(b"n,,n=a=2Cb=3D,r=" + NONCE), MORE),
    "a long name": (first(b"n,,n=" + b"a" * 900 + b",r=" + NONCE), MORE),
    "no name": (first(b"n,,r=" + NONCE), FAILED, MORE),
    "an extension that must be known": (first(b"n,,m=x," + BARE), FAILED),
    "an extension": (first(b"n,," + BARE + b",x=foo"), MORE),
    "no nonce": (first(b"n,,n="), FAILED),
    "an empty nonce": (first(b"n,,n=,r="), FAILED, MORE),
    "a control character": (first(b"n,,n=,r=ab\x01cd"), FAILED),
    "a byte of 8 bits": (first(b"n,,n=,r=ab\xffcd"), FAILED),
    "a blank": (first(b"n,,n=,r=ab cd"), FAILED),
    "a nonce of 200 bytes": (first(b"n,,n=,r=" + b"a" * 200), MORE),
    "a nonce of 1000 bytes": (first(b"n,,n=,r=" + b"a" * 1000), FAILED),
    "a NUL at the end": (first(b"n,," + BARE + b"\0"), FAILED, MORE),
    "a NUL within": (first(b"n,,n=\0,r=" + NONCE), FAILED),
    "nothing": (first(b""), FAILED),
    "a flag": (first(b"n"), FAILED),
    "a flag and a comma": (first(b"n,"), FAILED),
    "a header": (first(b"n,,"), FAILED),
    "no data": (first(b"", length=-1), PARSE, None),
    "too short a length": (first(b"n,," + BARE, length=5), PARSE, None),
    "too long a length": (first(b"n,," + BARE, length=500), PARSE, None),
    "a length of 2^31 - 1": (first(b"n,," + BARE, length=2**31 - 1), PARSE, None),
    "a mechanism without end": (message("p", b"SCRAM-SHA-256"), PARSE, None),
    "a mechanism alone": (message("p", b"SCRAM-SHA-256\0"), PARSE, None),
    "half a length": (message("p", b"SCRAM-SHA-256\0\0\0"), PARSE, None),
    "another mechanism": (first(b"n,," + BARE, b"SCRAM-SHA-1\0"), MECHANISM, None),
    "binding that was not offered": (first(b"n,," + BARE, b"SCRAM-SHA-256-PLUS\0"), MECHANISM, None),
    "in other letters": (first(b"n,," + BARE, b"scram-sha-256\0"), MECHANISM, None),
    "no mechanism": (first(b"n,," + BARE, b"\0"), MECHANISM, None),
    "a password": (message("p", SECRET.encode() + b"\0"), MECHANISM, None),
    "an empty message": (message("p", b""), PARSE, None),
    "a query": (query("SELECT 1"), PARSE, None),
}


def asked(pooler, user="app"):
    client = pooler.connect()
    client.send(startup({"user": user, "database": "app"}))
    assert client.read().kind == "R"
    return client


def told(client):
    """What the answer to the last message is."""
    answer = client.read()
    return MORE if answer.kind == "R" else answer.fields()["M"]


@pytest.mark.parametrize("user", ["app", "stranger"])
def test_first_messages(start_both, user):
    """The same for a user who is not known."""
    weir, pgbouncer = start_both({"auth_type": "scram-sha-256"})
    wrong = {}
    for what, (sent, ours, *theirs) in FIRST.items():
        for pooler, wanted in ((weir, ours), (pgbouncer, *(theirs or [ours]))):
            if wanted is None:
                continue
            with asked(pooler, user) as client:
                client.send(sent)
                if (found := told(client)) != wanted:
                    wrong[what, pooler.kind] = found
    assert not wrong


def final(change, challenge):
    """The message that ends it, with something changed."""
    parts = dict(part.split("=", 1) for part in challenge.split(","))
    binding, nonce = change.get("c", "biws"), change.get("r", lambda r: r)(parts["r"])
    signed = f"c={binding},r={nonce}{change.get('more', '')}"
    text = f"{BARE.decode()},{challenge},{signed}".encode()
    proof, _ = scram_proof(SECRET, parts["s"], int(parts["i"]), text)
    proof = change.get("p", lambda p: p)(proof)
    return message("p", change.get("all", "{0},p={1}").format(signed, proof).encode())


def other(letter):
    return "B" if letter == "A" else "A"


FINAL = {
    "good": ({}, True),
    "an extension": ({"more": ",x=foo"}, True),
    "another flag": ({"c": "eSws"}, False),
    "nonsense for a flag": ({"c": "biws!"}, False),
    "a flag without padding": ({"c": "biw"}, False),
    "a binding": ({"c": "cD10bHMtdW5pcXVlLCw="}, False),
    "another nonce": ({"r": lambda r: r[:-1] + other(r[-1])}, False),
    "half a nonce": ({"r": lambda r: r[:30]}, False),
    "a longer nonce": ({"r": lambda r: r + "x"}, False),
    "the client's own nonce": ({"r": lambda r: NONCE.decode()}, False),
    "another proof": ({"p": lambda p: other(p[0]) + p[1:]}, False),
    "nonsense in the proof": ({"p": lambda p: p[:-4] + "!!!="}, False),
    "a blank in the proof": ({"p": lambda p: p[:20] + " " + p[20:]}, False),
    "a short proof": ({"p": lambda p: p[:-4]}, False),
    "a long proof": ({"p": lambda p: "AAAA" + p}, False),
    "a very long proof": ({"p": lambda p: "A" * 800}, False),
    "an empty proof": ({"p": lambda p: ""}, False),
    "a proof without padding": ({"p": lambda p: p.rstrip("=")}, False),
    "no proof": ({"all": "{0}"}, False),
    "something behind the proof": ({"all": "{0},p={1},x=y"}, False),
    "the proof first": ({"all": "p={1},{0}"}, False),
    "a NUL": ({"all": "{0},p={1}\0"}, False),
    "nothing": ({"all": ""}, False),
    "the first message again": ({"all": "n,," + BARE.decode()}, False),
}
# 1.18 takes it.
LENIENT = {"a NUL"}


def test_final_messages(start_both):
    weir, pgbouncer = start_both({"auth_type": "scram-sha-256"})
    wrong = {}
    for what, (change, is_good) in FINAL.items():
        for pooler in (weir, pgbouncer):
            if pooler is pgbouncer and what in LENIENT:
                continue
            with asked(pooler) as client:
                client.send(first(b"n,," + BARE))
                client.send(final(change, client.read().body[4:].decode()))
                answer = client.answer()
                found = answer.kinds.endswith("Z")
                if not found:
                    assert_refused(answer.error, FAILED)
                    with pytest.raises(Closed):
                        client.read()
                if found != is_good:
                    wrong[what, pooler.kind] = answer
    assert not wrong


def secret_of(password, iterations):
    """What PostgreSQL would store."""
    salt = b"sixteen bytes...."[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    keys = [hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key")]
    parts = [salt, hashlib.sha256(keys[0]).digest(), keys[1]]
    salt, stored, server = (base64.b64encode(part).decode() for part in parts)
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


@pytest.mark.parametrize("iterations", [1, 4096, 100_000])
def test_iterations_of_a_stored_secret(start_both, cluster, iterations):
    """They are told as they stand in the secret."""
    stored = secret_of(SECRET, iterations)
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app user=app_trust"
    for pooler in start_both(
        {"auth_type": "scram-sha-256"},
        secrets={"app": stored, "app_trust": ""},
        databases={"app": entry},
    ):
        with asked(pooler) as client:
            client.send(first(b"n,," + BARE))
            challenge = client.read().body[4:].decode()
            assert challenge.endswith(f",i={iterations}")
        with pooler.client("app", SECRET) as client:
            assert client.query("SELECT 1").value == "1"
