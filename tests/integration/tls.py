"""What the tests of TLS share: a client of the wire with TLS, fixtures' parts, and fake servers."""

import contextlib
import socket
import ssl
import threading

import wire


def start_tls(client, context, host="localhost"):
    """Asks for TLS on a wire.Client and makes it; the client, which goes on encrypted."""
    client.send(wire.SSL_REQUEST)
    answer = client.read_bytes(1)
    if answer != b"S":
        raise wire.Closed(f"no TLS: {answer!r}")
    return wrap(client, context, host)


def wrap(client, context, host="localhost", session=None):
    """TLS at once, without a request."""
    client.socket.settimeout(client.seconds)
    client.socket = context.wrap_socket(client.socket, server_hostname=host, session=session)
    return client


class Listener:
    """A server of our own on a loopback port: `serve(connection)` runs on a thread for each
    connection; what it raises is kept in `errors`."""

    def __init__(self, serve):
        self.serve = serve
        self.errors = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.accept_all, daemon=True)
        self.thread.start()

    def accept_all(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        connection.settimeout(20)
        try:
            with contextlib.closing(connection):
                self.serve(connection)
        except Exception as error:  # kept for the test
            self.errors.append(error)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def read_exactly(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError(f"end after {data!r}")
        data += part
    return data


def read_startup(connection):
    head = read_exactly(connection, 4)
    return head + read_exactly(connection, int.from_bytes(head, "big") - 4)


GREETING = (
    wire.message("R", bytes(4))
    + wire.message("S", wire.text0("server_version") + wire.text0("15.0"))
    + wire.message("S", wire.text0("client_encoding") + wire.text0("UTF8"))
    + wire.message("S", wire.text0("standard_conforming_strings") + wire.text0("on"))
    + wire.message("K", bytes(8))
    + wire.message("Z", b"I")
)


def speak(connection):
    """PostgreSQL as far as a test needs it: a login, and `SELECT 1` for each query."""
    read_startup(connection)
    connection.sendall(GREETING)
    while True:
        kind = connection.recv(1)
        if kind in (b"", b"X"):
            return
        read_exactly(connection, int.from_bytes(read_exactly(connection, 4), "big") - 4)
        connection.sendall(wire.message("C", wire.text0("SELECT 0")) + wire.message("Z", b"I"))


def pump(source, target):
    """Copies bytes until the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Recorder(Listener):
    """A proxy to a real server that keeps the first bytes that each connection sent."""

    def __init__(self, port):
        self.target = port
        self.firsts = []
        super().__init__(self.relay)

    def relay(self, connection):
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=pump, args=(server, connection), daemon=True)
            back.start()
            first = read_exactly(connection, 8)
            self.firsts.append(first)
            server.sendall(first)
            pump(connection, server)
            back.join(5)


# A hundred rows of 100,000 letters each, the i-th beginning with chr(97 + i % 26).
TEN_MEGABYTES = "SELECT repeat(chr(97 + i % 26), 100000) FROM generate_series(1, 100) i"

SSL_ERRORS = (ssl.SSLError, ConnectionError, wire.Closed)
