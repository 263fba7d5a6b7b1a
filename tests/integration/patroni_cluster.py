"""Two nodes that a real Patroni runs, with etcd, on loopback.

    with PatroniCluster() as nodes:
        nodes.leader()               # the Node that leads, as Patroni tells
        nodes.switch_over()          # asks for another one; returns at once
        nodes.crash(node)            # the server and its Patroni, by kill -9

All of it ends with this process at the latest: what Patroni starts is told to the guard as well.
"""

import json
import os
import time
import urllib.request

import cluster as clusters
from failover import WRITES
from pooler import PATIENCE

CONFIGURATION = """
scope: weir
name: {name}
restapi: {{listen: "127.0.0.1:{api}", connect_address: "127.0.0.1:{api}"}}
etcd3: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: 5
    loop_wait: 1
    retry_timeout: 3
    synchronous_mode: true
    postgresql: {{use_pg_rewind: true}}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, no-sync]
postgresql:
  listen: "127.0.0.1:{port}"
  connect_address: "127.0.0.1:{port}"
  data_dir: {data}
  bin_dir: {programs}
  pgpass: {folder}/{name}.pgpass
  basebackup: [{{checkpoint: fast}}, no-sync]
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  pg_hba:
    - local all,replication all trust
    - host all,replication all all trust
  parameters:
    unix_socket_directories: {folder}
    fsync: off
    max_connections: 100
    shared_buffers: 32MB
    wal_keep_size: 256MB
"""


class PatroniCluster(clusters.Cluster):
    """`primary` is who leads now."""

    def __init__(self):
        self.patronis = {}
        self.apis = {}
        self.etcd_port = clusters.free_port()
        super().__init__(standbys=1)

    @property
    def primary(self):
        return self.leader()

    @property
    def standbys(self):
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    @property
    def urls(self):
        return ", ".join(f"http://127.0.0.1:{port}" for port in self.apis.values())

    def make_primary(self):
        self.start_etcd()
        for node in self.nodes:
            self.apis[node] = clusters.free_port()
        self.start_patroni(self.nodes[0])
        self.wait(lambda: self.leader() is not None)
        leader = self.leader()
        leader.sql(clusters.ROLES.format(**clusters.PASSWORDS), database="postgres")
        leader.sql(WRITES)

    def make_standbys(self):
        for node in self.nodes[1:]:
            self.start_patroni(node)
        self.wait_streaming()

    def wait_streaming(self):
        """Waits until every member runs, and one of them acknowledges commits."""
        self.wait(lambda: len(self.running()) == len(self.nodes))
        self.wait(lambda: any(one["role"] == "sync_standby" for one in self.running()))
        for node in self.nodes:
            self.tell_guard(node)

    def start_etcd(self):
        peers = f"http://127.0.0.1:{clusters.free_port()}"
        clients = f"http://127.0.0.1:{self.etcd_port}"
        options = ["--data-dir", f"{self.folder}/etcd", "--unsafe-no-fsync", "--name", "one"]
        options += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
        options += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        options += ["--initial-cluster", f"one={peers}"]
        with open(f"{self.folder}/etcd.log", "ab") as log:
            self.guarded(["/usr/bin/etcd", *options], stdout=log, stderr=log)
        self.wait(lambda: self.get(f"{clients}/health") is not None)

    def start_patroni(self, node):
        path = f"{self.folder}/{node.name}.yml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                CONFIGURATION.format(
                    name=node.name,
                    api=self.apis[node],
                    etcd=self.etcd_port,
                    port=node.port,
                    data=node.data,
                    folder=self.folder,
                    programs=os.path.dirname(clusters.program("postgres")),
                )
            )
        with open(node.log, "ab") as log:
            self.patronis[node] = self.guarded(
                ["/usr/bin/python3", "/usr/bin/patroni", path], stdout=log, stderr=log
            )

    @staticmethod
    def get(url, body=None):
        """The answer as an object, or None where it is an error or none comes."""
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def wait(self, condition, seconds=60 * PATIENCE):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(node.log_text()[-2000:] for node in self.nodes)
                raise TimeoutError(f"{self.members()}\n{logs}")
            time.sleep(0.05)

    def members(self):
        for port in self.apis.values():
            answer = self.get(f"http://127.0.0.1:{port}/cluster")
            if answer is not None:
                return answer["members"]
        return []

    def running(self):
        return [one for one in self.members() if one["state"] in ("running", "streaming")]

    def leader(self):
        names = [one["name"] for one in self.running() if one["role"] == "leader"]
        return next((node for node in self.nodes if node.name in names), None)

    def postmaster(self, node):
        with open(f"{node.data}/postmaster.pid", encoding="utf-8") as file:
            return int(file.readline())

    def tell_guard(self, node):
        self.guard.stdin.write(f"{self.postmaster(node)}\n".encode())
        self.guard.stdin.flush()

    def switch_over(self):
        leader = self.leader()
        url = f"http://127.0.0.1:{self.apis[leader]}/switchover"
        self.wait(lambda: self.get(url, {"leader": leader.name}) is not None)

    def crash(self, node):
        pid = self.postmaster(node)
        everyone = [pid, *clusters.children(pid)]
        self.patronis[node].kill()
        for one in everyone:
            clusters.send_signal(one, 9)
        self.patronis[node].wait()

    def close(self):
        for patroni in self.patronis.values():
            patroni.terminate()
        for patroni in self.patronis.values():
            try:
                patroni.wait(20)
            except clusters.subprocess.TimeoutExpired:
                patroni.kill()
        super().close()
