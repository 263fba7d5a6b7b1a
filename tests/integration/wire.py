"""PostgreSQL's wire protocol, byte by byte: what drivers never send, and exactly what comes back.

The first half builds frontend messages as bytes, so that a test says which ones travel together:

    client.send(parse("SELECT $1::int"), bind(["7"]), execute(), SYNC)

The second half is `Client`, a blocking connection in which every read has a deadline, and
`Answer`, the messages up to a ReadyForQuery. Message names and layouts are those of the manual,
"Message Formats". Only the standard library is used.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import time

PROTOCOL_3 = 196608
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def text0(value):
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def startup(parameters, version=PROTOCOL_3):
    body = struct.pack("!I", version)
    for name, value in parameters.items():
        body += text0(name) + text0(value)
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel_request(key):
    """`key` is the body of a BackendKeyData: process id and secret."""
    return struct.pack("!II", 16, 80877102) + key


def query(sql):
    return message("Q", text0(sql))


def parse(sql, name="", types=()):
    body = text0(name) + text0(sql) + struct.pack("!H", len(types))
    return message("P", body + b"".join(struct.pack("!I", one) for one in types))


def bind(values=(), name="", portal=""):
    """Values in text format; None is NULL. Results in text format."""
    body = text0(portal) + text0(name) + struct.pack("!HH", 0, len(values))
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
        else:
            value = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack("!i", len(value)) + value
    return message("B", body + struct.pack("!H", 0))


def describe(name=""):
    return message("D", b"S" + text0(name))


def describe_portal(portal=""):
    return message("D", b"P" + text0(portal))


def execute(portal="", rows=0):
    return message("E", text0(portal) + struct.pack("!I", rows))


def close(name=""):
    return message("C", b"S" + text0(name))


def close_portal(portal=""):
    return message("C", b"P" + text0(portal))


def copy_data(data):
    return message("d", data)


def copy_fail(reason):
    return message("f", text0(reason))


def password(value):
    return message("p", text0(value))


SYNC = message("S")
FLUSH = message("H")
COPY_DONE = message("c")
TERMINATE = message("X")


class Closed(Exception):
    """The other side has closed the connection."""


class Late(Exception):
    """Nothing, or not enough, came before the deadline."""


class Message:
    """One backend message: `kind` is its letter, `body` what follows the length."""

    __slots__ = ("kind", "body")

    def __init__(self, kind, body):
        self.kind = kind
        self.body = body

    def __repr__(self):
        shown = self.body if len(self.body) < 80 else self.body[:80] + b"..."
        return f"{self.kind}{shown!r}"

    def fields(self):
        """Of an ErrorResponse or NoticeResponse: the fields by their letter."""
        parts = [part for part in self.body.split(b"\0") if part]
        return {part[:1].decode(): part[1:].decode() for part in parts}

    def values(self):
        """Of a DataRow: its columns as text, None for NULL."""
        found, at = [], 2
        for _ in range(struct.unpack_from("!H", self.body)[0]):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if length < 0:
                found.append(None)
            else:
                found.append(self.body[at : at + length].decode())
                at += length
        return tuple(found)

    def columns(self):
        """Of a RowDescription: the names of its columns."""
        found, at = [], 2
        for _ in range(struct.unpack_from("!H", self.body)[0]):
            end = self.body.index(b"\0", at)
            found.append(self.body[at:end].decode())
            at = end + 19
        return found

    def parameter(self):
        """Of a ParameterStatus: name and value."""
        name, value, _ = self.body.split(b"\0")
        return name.decode(), value.decode()

    def tag(self):
        """Of a CommandComplete: the tag, such as `SELECT 1`."""
        return self.body[:-1].decode()


def is_last(found):
    """Whether a message is the last of an answer."""
    if found.kind == "E":
        return found.fields()["S"] in ("FATAL", "PANIC")
    return found.kind == "Z"


class Answer:
    """Messages as they came, and what tests ask of them."""

    def __init__(self, messages):
        self.messages = messages

    def __repr__(self):
        return f"Answer({self.messages})"

    def of(self, kind):
        return [one for one in self.messages if one.kind == kind]

    @property
    def kinds(self):
        """The letters in order, such as `12DCZ`."""
        return "".join(one.kind for one in self.messages)

    @property
    def rows(self):
        return [one.values() for one in self.of("D")]

    @property
    def tags(self):
        return [one.tag() for one in self.of("C")]

    @property
    def errors(self):
        return [one.fields() for one in self.of("E")]

    @property
    def error(self):
        """The fields of the one error; {} if there is none."""
        return self.errors[0] if self.errors else {}

    @property
    def code(self):
        """The SQLSTATE of the error, or an empty text."""
        return self.error.get("C", "")

    @property
    def notices(self):
        return [one.fields() for one in self.of("N")]

    @property
    def status(self):
        """The transaction's state at the end: I, T or E."""
        return self.of("Z")[-1].body.decode()

    @property
    def value(self):
        """The first column of the only row."""
        (row,) = self.rows
        return row[0]


class Client:
    """One connection. `address` is (host, port) or the path of a Unix socket."""

    def __init__(self, address, seconds=20):
        self.address = address
        self.seconds = seconds
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(seconds)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = bytearray()
        self.parameters = {}
        self.key = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def fileno(self):
        return self.socket.fileno()

    def close(self):
        """Says goodbye, as libpq does."""
        try:
            self.socket.settimeout(1)
            self.socket.sendall(TERMINATE)
        except OSError:
            pass
        self.socket.close()

    def drop(self):
        """Vanishes without a word."""
        self.socket.close()

    def reset(self):
        """Vanishes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *parts):
        self.socket.settimeout(self.seconds)
        try:
            self.socket.sendall(b"".join(parts))
        except TimeoutError as error:
            raise Late("the peer does not read") from error
        except OSError as error:
            raise Closed(str(error)) from error

    def fill(self, length, deadline):
        """Reads until `length` bytes stand unread."""
        while len(self.unread) < length:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Late(f"{len(self.unread)} of {length} bytes: {bytes(self.unread[:200])!r}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(262144)
            except TimeoutError:
                continue
            except OSError as error:
                raise Closed(str(error)) from error
            if not data:
                raise Closed(f"end after {bytes(self.unread[:200])!r}")
            self.unread += data

    def read_bytes(self, length, seconds=None):
        self.fill(length, time.monotonic() + (seconds or self.seconds))
        data = bytes(self.unread[:length])
        del self.unread[:length]
        return data

    def read(self, seconds=None):
        """The next message. Raises Closed at the end, Late after the deadline."""
        deadline = time.monotonic() + (seconds or self.seconds)
        self.fill(5, deadline)
        (length,) = struct.unpack_from("!I", self.unread, 1)
        self.fill(1 + length, deadline)
        found = Message(chr(self.unread[0]), bytes(self.unread[5 : 1 + length]))
        del self.unread[: 1 + length]
        if found.kind == "S":
            name, value = found.parameter()
            self.parameters[name] = value
        return found

    def read_until(self, kinds, seconds=None):
        """The messages up to and with the first whose letter is in `kinds`."""
        deadline = time.monotonic() + (seconds or self.seconds)
        messages = []
        while not messages or messages[-1].kind not in kinds:
            messages.append(self.read(max(deadline - time.monotonic(), 0.001)))
        return Answer(messages)

    def answer(self, seconds=None):
        """The messages up to and with ReadyForQuery, or the FATAL error that ends all."""
        deadline = time.monotonic() + (seconds or self.seconds)
        messages = []
        while not messages or not is_last(messages[-1]):
            messages.append(self.read(max(deadline - time.monotonic(), 0.001)))
        return Answer(messages)

    def ask(self, *parts, seconds=None):
        """Sends messages and reads up to the next ReadyForQuery."""
        self.send(*parts)
        return self.answer(seconds)

    def query(self, sql, seconds=None):
        return self.ask(query(sql), seconds=seconds)

    def read_to_end(self, seconds=None):
        """Everything until the peer closes."""
        messages = []
        deadline = time.monotonic() + (seconds or self.seconds)
        while True:
            try:
                messages.append(self.read(max(deadline - time.monotonic(), 0.001)))
            except Closed:
                return Answer(messages)

    def is_silent(self, seconds=0.2):
        """Whether nothing comes for so long."""
        try:
            self.fill(len(self.unread) + 1, time.monotonic() + seconds)
        except Late:
            return True
        return False

    def login(self, user, secret=None, database="app", **parameters):
        """The whole login, whatever method is asked for; the messages of the welcome."""
        self.send(startup({"user": user, "database": database, **parameters}))
        answer = self.authenticate(user, secret)
        for found in answer.of("K"):
            self.key = found.body
        return answer

    def authenticate(self, user, secret):
        """Answers what the peer asks up to its first ReadyForQuery or error."""
        messages = []
        while True:
            found = self.read()
            messages.append(found)
            if found.kind == "R":
                (method,) = struct.unpack_from("!I", found.body)
                if method == 3:
                    self.send(password(secret))
                elif method == 5:
                    self.send(password(md5_answer(user, secret, found.body[4:8])))
                elif method == 10:
                    messages += self.scram(secret)
            elif found.kind == "Z":
                return Answer(messages)
            elif found.kind == "E":
                raise LoginFailed(found.fields())

    def scram(self, secret):
        """SCRAM-SHA-256 (RFC 5802, 7677) without channel binding."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        first_bare = f"n=,r={nonce}"
        first = f"n,,{first_bare}".encode()
        mechanism = text0("SCRAM-SHA-256") + struct.pack("!I", len(first))
        self.send(message("p", mechanism + first))
        challenge = self.read()
        if challenge.kind == "E":
            raise LoginFailed(challenge.fields())
        server_first = challenge.body[4:].decode()
        parts = dict(part.split("=", 1) for part in server_first.split(","))
        if not parts["r"].startswith(nonce):
            raise ValueError("the server's nonce does not continue ours")
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"{first_bare},{server_first},{without_proof}".encode()
        proof, expected = scram_proof(secret, parts["s"], int(parts["i"]), signed)
        self.send(message("p", f"{without_proof},p={proof}".encode()))
        final = self.read()
        if final.kind == "E":
            raise LoginFailed(final.fields())
        if final.body[4:].decode() != f"v={expected}":
            raise ValueError("the server does not know the secret")
        return [challenge, final]


class LoginFailed(Exception):
    """The login was refused; `fields` are those of the error."""

    def __init__(self, fields):
        super().__init__(fields.get("M", ""))
        self.fields = fields


def md5_answer(user, secret, salt):
    inner = hashlib.md5((secret + user).encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()


def scram_proof(secret, salt, iterations, signed):
    """The client's proof and the server's signature, both in base64."""
    salted = hashlib.pbkdf2_hmac("sha256", secret.encode(), base64.b64decode(salt), iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    signature = hmac.digest(stored_key, signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    expected = hmac.digest(server_key, signed, "sha256")
    return base64.b64encode(proof).decode(), base64.b64encode(expected).decode()


def cancel(address, key, seconds=10):
    """Sends a cancel request on a connection of its own and waits until the peer closes it."""
    with Client(address, seconds) as client:
        client.send(cancel_request(key))
        client.read_to_end()
