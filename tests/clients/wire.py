"""The Kafka wire protocol, driven by Kafka's own message schemas.

The schemas are read from the `kafka-clients` jar, so every request and response of every version can be written and
read by name, and nothing here shares a line (or a mistake) with the codecs of the broker under test.
Messages are dicts by Kafka's field names; a field left out takes the schema's default.
"""

import json
import os
import re
import socket
import struct
import uuid
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(HERE, ".work", "lib")


class Range:
    """A schema's version range: "3+", "0-4", "7", "none"."""

    def __init__(self, text):
        self.low, self.high = 1, 0
        if text and text != "none":
            m = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
            self.low = int(m[1])
            self.high = self.low if not m[2] else 32767 if m[2] == "+" else int(m[3])

    def __contains__(self, version):
        return self.low <= version <= self.high


class Field:
    def __init__(self, spec, structs, flexible):
        self.name = spec["name"]
        self.type = spec["type"]
        self.tag = spec.get("tag")
        self.tagged_versions = Range(spec.get("taggedVersions"))
        # A tagged field may leave `versions` to `taggedVersions`.
        self.versions = Range(spec.get("versions") or spec.get("taggedVersions"))
        self.nullable = Range(spec.get("nullableVersions"))
        self.flexible = Range(spec["flexibleVersions"]) if "flexibleVersions" in spec else flexible
        self.default = spec.get("default")
        self.array = self.type.startswith("[]")
        self.element = self.type[2:] if self.array else self.type
        if "fields" in spec:
            self.fields = [Field(f, structs, flexible) for f in spec["fields"]]
            structs[self.element] = self.fields

    def default_value(self):
        if self.default == "null":
            return None
        if self.array:
            return []
        if self.element == "string":
            return self.default or ""
        if self.element in ("bytes", "records"):
            return None if self.element == "records" else b""
        if self.element == "bool":
            return self.default in (True, "true")
        if self.element == "uuid":
            return uuid.UUID(int=0)
        if self.element == "float64":
            return float(self.default or 0)
        if self.element[0].islower():
            return int(str(self.default), 0) if self.default not in (None, "") else 0
        return {}


INTEGERS = {
    "int8": ">b",
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "float64": ">d",
}


class Malformed(Exception):
    """Bytes that do not read as the schema says."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise Malformed(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n : self.at]

    def unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise Malformed("varint too long")


def uvarint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return uvarint((value << 1) ^ (value >> 63) if value >= 0 else ((-value) << 1) - 1)


class Message:
    """One schema file: writes and reads its dicts at any version."""

    def __init__(self, spec):
        self.name = spec["name"]
        self.api_key = spec.get("apiKey")
        self.versions = Range(spec["validVersions"])
        self.flexible = Range(spec.get("flexibleVersions"))
        self.structs = {}
        for common in spec.get("commonStructs", []):
            self.structs[common["name"]] = [Field(f, self.structs, self.flexible) for f in common["fields"]]
        self.fields = [Field(f, self.structs, self.flexible) for f in spec["fields"]]

    def encode(self, body, version):
        out = bytearray()
        self._write_struct(out, self.fields, body, version)
        return bytes(out)

    def _write_struct(self, out, fields, body, version):
        unknown = set(body) - {f.name for f in fields}
        assert not unknown, f"{self.name} has no {unknown}"
        tagged = []
        for f in fields:
            if version not in f.versions:
                continue
            value = body.get(f.name, f.default_value())
            if f.tag is not None and version in f.tagged_versions:
                if f.name in body:
                    tagged.append((f.tag, f, value))
                continue
            self._write(out, f, value, version)
        if version in self.flexible:
            out += uvarint(len(tagged))
            for tag, f, value in sorted(tagged, key=lambda t: t[0]):
                inner = bytearray()
                self._write(inner, f, value, version)
                out += uvarint(tag) + uvarint(len(inner)) + inner

    def _write_length(self, out, n, compact, short=False):
        if compact:
            out += uvarint(0 if n is None else n + 1)
        else:
            out += struct.pack(">h" if short else ">i", -1 if n is None else n)

    def _write(self, out, f, value, version):
        compact = version in f.flexible
        if not f.array:
            return self._write_one(out, f, f.element, value, version, compact)
        self._write_length(out, None if value is None else len(value), compact)
        for item in value or []:
            self._write_one(out, f, f.element, item, version, compact)

    def _write_one(self, out, f, kind, value, version, compact):
        if kind == "bool":
            out.append(1 if value else 0)
        elif kind in INTEGERS:
            out += struct.pack(INTEGERS[kind], value)
        elif kind == "uuid":
            out += value.bytes
        elif kind == "string":
            data = None if value is None else value.encode()
            self._write_length(out, None if data is None else len(data), compact, short=True)
            out += data or b""
        elif kind in ("bytes", "records"):
            self._write_length(out, None if value is None else len(value), compact)
            out += value or b""
        else:
            if not f.array and version in f.nullable:
                out += struct.pack(">b", -1 if value is None else 1)
                if value is None:
                    return
            self._write_struct(out, self.structs[kind], value, version)

    def decode(self, data, version):
        """The message, and how many bytes were left over."""
        reader = Reader(data)
        body = self._read_struct(reader, self.fields, version)
        return body, len(data) - reader.at

    def _read_struct(self, r, fields, version):
        body = {}
        for f in fields:
            if version in f.versions and not (f.tag is not None and version in f.tagged_versions):
                body[f.name] = self._read(r, f, version)
        if version in self.flexible:
            by_tag = {f.tag: f for f in fields if f.tag is not None and version in f.tagged_versions}
            for _ in range(r.uvarint()):
                tag, size = r.uvarint(), r.uvarint()
                inner = Reader(r.take(size))
                if tag in by_tag:
                    body[by_tag[tag].name] = self._read(inner, by_tag[tag], version)
                else:
                    body[f"tag {tag}"] = inner.data
        return body

    def _read_length(self, r, compact, short=False):
        n = r.uvarint() - 1 if compact else r.unpack(">h" if short else ">i")
        if n < -1:
            raise Malformed(f"length {n}")
        return n

    def _read(self, r, f, version):
        compact = version in f.flexible
        if not f.array:
            return self._read_one(r, f, f.element, version, compact)
        n = self._read_length(r, compact)
        return None if n < 0 else [self._read_one(r, f, f.element, version, compact) for _ in range(n)]

    def _read_one(self, r, f, kind, version, compact):
        if kind == "bool":
            return r.take(1) != b"\0"
        if kind in INTEGERS:
            return r.unpack(INTEGERS[kind])
        if kind == "uuid":
            return uuid.UUID(bytes=r.take(16))
        if kind == "string":
            n = self._read_length(r, compact, short=True)
            return None if n < 0 else r.take(n).decode()
        if kind in ("bytes", "records"):
            n = self._read_length(r, compact)
            return None if n < 0 else r.take(n)
        if not f.array and version in f.nullable and r.unpack(">b") < 0:
            return None
        return self._read_struct(r, self.structs[kind], version)


def _load():
    requests, responses = {}, {}
    jar = next(os.path.join(LIB, n) for n in os.listdir(LIB) if re.fullmatch(r"kafka-clients-[\d.]+\.jar", n))
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"common/message/\w+(Request|Response)\.json", name):
                continue
            text = archive.read(name).decode()
            spec = json.loads("\n".join(l for l in text.split("\n") if not l.lstrip().startswith("//")))
            if spec.get("validVersions", "none") == "none":
                continue
            message = Message(spec)
            api = message.name.removesuffix("Request").removesuffix("Response")
            (requests if spec["type"] == "request" else responses)[api] = message
    return requests, responses


_messages = None


def requests():
    global _messages
    _messages = _messages or _load()
    return _messages[0]


def responses():
    requests()
    return _messages[1]


def request_header(api_key, version, correlation_id, client_id="corelane-tests", flexible=False):
    data = client_id.encode() if client_id is not None else None
    out = struct.pack(">hhi", api_key, version, correlation_id)
    out += struct.pack(">h", -1 if data is None else len(data)) + (data or b"")
    return out + (b"\0" if flexible else b"")


class Closed(Exception):
    """The broker closed the connection instead of answering."""


class Silent(Exception):
    """The broker neither answered nor closed."""


class Connection:
    """One socket to a broker, one request at a time."""

    def __init__(self, address, timeout=10.0):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation_id = 0

    def close(self):
        self.socket.close()

    def write(self, payload):
        """Sends one frame."""
        self.write_raw(struct.pack(">i", len(payload)) + payload)

    def write_raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed() from None

    def _receive(self, n):
        data = b""
        while len(data) < n:
            try:
                part = self.socket.recv(n - len(data))
            except ConnectionResetError:
                raise Closed() from None
            except socket.timeout:
                raise Silent() from None
            if not part:
                raise Closed()
            data += part
        return data

    def read(self):
        """Receives one frame."""
        (size,) = struct.unpack(">i", self._receive(4))
        if not 0 <= size <= 200 << 20:
            raise Malformed(f"answer of {size} bytes")
        return self._receive(size)

    def encode(self, api, version, body):
        message = requests()[api]
        self.correlation_id += 1
        header = request_header(message.api_key, version, self.correlation_id, flexible=version in message.flexible)
        return header + message.encode(body, version)

    def decode(self, api, version, data):
        message = responses()[api]
        (correlation_id,) = struct.unpack(">i", data[:4])
        if correlation_id != self.correlation_id:
            raise Malformed(f"correlation id {correlation_id}, sent {self.correlation_id}")
        # ApiVersions is answered before versions are agreed, so its header never has tagged fields.
        flexible = version in message.flexible and api != "ApiVersions"
        at = 4
        if flexible:
            if data[4:5] != b"\0":
                raise Malformed("tagged fields in the response header")
            at = 5
        body, left = message.decode(data[at:], version)
        if left:
            raise Malformed(f"{left} bytes after the answer")
        return body

    def call(self, api, version, body=None, answered=True):
        self.write(self.encode(api, version, body or {}))
        return self.decode(api, version, self.read()) if answered else None


# Record batches.

_CRC32C = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (0x82F63B78 if _n & 1 else 0)
    _CRC32C.append(_n)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record(offset_delta, value, key=None, timestamp_delta=0, headers=()):
    body = b"\0" + varint(timestamp_delta) + varint(offset_delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + (varint(-1) if content is None else varint(len(content)) + content)
    return varint(len(body)) + body


def batch(
    values,
    timestamp=1_700_000_000_000,
    max_timestamp=None,
    keys=None,
    attributes=0,
    producer_id=-1,
    producer_epoch=-1,
    base_sequence=-1,
    base_offset=0,
    epoch=-1,
    magic=2,
    count=None,
    last_offset_delta=None,
    payload=None,
    crc=None,
    length=None,
    timestamp_deltas=None,
):
    """A record batch of format 2; every header field can be set wrong on purpose."""
    deltas = timestamp_deltas or list(range(len(values)))
    if payload is None:
        payload = b"".join(
            record(i, v, keys[i] if keys else b"k%d" % i, timestamp_delta=deltas[i]) for i, v in enumerate(values)
        )
    if max_timestamp is None:
        max_timestamp = timestamp + max(deltas, default=0) if timestamp >= 0 else timestamp
    tail = struct.pack(
        ">hiqqqhii",
        attributes,
        len(values) - 1 if last_offset_delta is None else last_offset_delta,
        timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        len(values) if count is None else count,
    )
    tail += payload
    size = 4 + 1 + 4 + len(tail) if length is None else length
    return (
        struct.pack(">qiibI", base_offset, size, epoch, magic, crc32c(tail) if crc is None else crc) + tail
    )


def batch_headers(data):
    """The headers of the batches in fetched records; a torn tail is one entry."""
    found, at = [], 0
    while at < len(data or b""):
        if len(data) - at < 61:
            found.append({"torn": len(data) - at})
            break
        names = "baseOffset length epoch magic crc attributes lastOffsetDelta baseTimestamp maxTimestamp producerId producerEpoch baseSequence count"
        header = dict(zip(names.split(), struct.unpack(">qiibIhiqqqhii", data[at : at + 61])))
        if at + 12 + header["length"] > len(data):
            found.append({"torn": len(data) - at})
            break
        body = data[at + 21 : at + 12 + header["length"]]
        header["crc"] = "right" if crc32c(body) == header["crc"] else "wrong"
        found.append(header)
        at += 12 + header["length"]
    return found
