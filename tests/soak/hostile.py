"""Peers that nobody should have: half-sent requests, garbage, connections that ask and never read, requests that are to be
waited on for weeks.
"""

import random
import socket
import struct

# How much of how much.
HALF_SENT = [(1 << 20, 20 << 20), (500_000, 1 << 20), (1 << 20, 3 << 20), (40_000, 60_000)]
PARKED_BYTES = 2 << 20
WEEKS_MS = (1 << 31) - 1


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def request(api_key, version, body, client="hostile"):
    head = struct.pack(">hhi", api_key, version, 7) + string(client)
    return struct.pack(">i", len(head) + len(body)) + head + body


def fetch(topic, partitions, times=1, wait_ms=0, bytes_min=1):
    """Fetch version 4 of everything from the first offset on. `times` is how often it names each partition."""
    rows = b"".join(struct.pack(">iqi", partition, 0, 1 << 20) for partition in range(partitions)) * times
    body = struct.pack(">iiiib", -1, wait_ms, bytes_min, 50 << 20, 0) + struct.pack(">i", 1) + string(topic)
    return request(1, 4, body + struct.pack(">i", partitions * times) + rows)


METADATA_OF_ALL = request(3, 1, struct.pack(">i", -1))
API_VERSIONS = request(18, 0, b"")


class Peers:
    """A crowd, its connections open until `close`."""

    def __init__(self, seed, turn, ports, http_port, topic, partitions):
        self.random = random.Random(f"{seed} hostile {turn}")
        self.ports, self.http_port = ports, http_port
        self.topic, self.partitions = topic, partitions
        self.sockets = []

    def connect(self, port):
        peer = socket.create_connection(("127.0.0.1", port), timeout=10)
        # What is not taken by then is not sent: the broker reads no more of it.
        peer.settimeout(0.2)
        self.sockets.append(peer)
        return peer

    def send(self, peer, data):
        """What the broker takes of it: that it closes the connection or reads no more is its right."""
        try:
            peer.sendall(data)
        except OSError:
            pass

    def come(self, count):
        kinds = [self.half_sent, self.garbage, self.great_length, self.never_reads, self.many_answers, self.parked, self.slow_http, self.silent]
        for index in range(count):
            try:
                kinds[index % len(kinds)](self.random.choice(self.ports))
            except OSError:
                # The broker refuses more of them.
                pass

    def half_sent(self, port):
        peer = self.connect(port)
        sent, whole = self.random.choice(HALF_SENT)
        asked = self.random.choice([b"", API_VERSIONS])
        self.send(peer, asked + struct.pack(">i", whole) + struct.pack(">hhi", 0, 9, 1) + bytes(sent))

    def garbage(self, port):
        self.send(self.connect(port), self.random.randbytes(self.random.randrange(1, 5000)))

    def great_length(self, port):
        length = self.random.choice([-1, 0, 1, 0x7FFFFFFF, -(1 << 31), 104857601])
        self.send(self.connect(port), struct.pack(">i", length) + self.random.randbytes(100))

    def never_reads(self, port):
        peer = self.connect(port)
        self.send(peer, fetch(self.topic, self.partitions) * 20)

    def many_answers(self, port):
        peer = self.connect(port)
        self.send(peer, (METADATA_OF_ALL + API_VERSIONS) * 500)

    def parked(self, port):
        """A fetch of 2 MB that waits for weeks, which is no reason to hold the memory that others' requests need."""
        peer = self.connect(port)
        self.send(peer, fetch(self.topic, self.partitions, times=PARKED_BYTES // 16 // self.partitions, wait_ms=WEEKS_MS, bytes_min=1 << 30))

    def slow_http(self, _):
        self.send(self.connect(self.http_port), b"GET /metrics HTTP/1.1\r\nHost: ")

    def silent(self, port):
        self.connect(port)

    def close(self):
        for peer in self.sockets:
            if self.random.random() < 0.5:
                # A reset instead of a farewell.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        self.sockets.clear()
