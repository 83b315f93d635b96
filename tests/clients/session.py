"""One broker and the clients pointed at it: what the checks of `drive` and `group_checks` are made of."""

import contextlib
import os
import re
import subprocess
import tempfile

import brokers
import wire

TIMEOUT = 90


class Failed(Exception):
    """A check did not hold."""


def expect(condition, what):
    if not condition:
        raise Failed(what)


def expect_equal(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: got {shorten(got)}, wanted {shorten(wanted)}")


def shorten(value):
    text = repr(value)
    return text if len(text) < 400 else f"{text[:300]} … {text[-80:]} ({len(text)} characters)"


def execute(command, stdin=None, status=0, seconds=TIMEOUT):
    """Runs a client to its end: (stdout, stderr). `status` None accepts any."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"no end after {seconds} s: {show(command)}\n{(late.stderr or b'').decode()[-2000:]}") from None
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if status is not None and done.returncode != status:
        raise Failed(f"status {done.returncode}: {show(command)}\n{out[-1000:]}\n{err[-3000:]}")
    return out, err


def show(command):
    return " ".join(c for c in command if not c.startswith(("-XX", "-Xmx", "-D")) and c != os.path.join(wire.LIB, "*"))


class Session:
    """One broker and the clients pointed at it."""

    def __init__(self, broker):
        self.broker = broker

    def kcat(self, *arguments, stdin=None, status=0, seconds=TIMEOUT):
        return execute(["kcat", "-b", self.broker.bootstrap, *arguments], stdin, status, seconds)

    def produce(self, topic, lines, *arguments):
        """kcat produces one message a line; fails when one is not delivered."""
        text = "".join(line + "\n" for line in lines).encode()
        return self.kcat("-P", "-t", topic, *arguments, stdin=text)

    def consume(self, topic, *arguments, form="%s\n"):
        """kcat consumes to the end: the lines it prints."""
        out, _ = self.kcat("-C", "-t", topic, "-e", "-q", "-f", form, *arguments)
        return out.splitlines()

    def offset(self, topic, partition, timestamp):
        """kcat's ListOffsets query: -1 the end, -2 the start, else by time."""
        out, _ = self.kcat("-Q", "-t", f"{topic}:{partition}:{timestamp}")
        return int(re.search(r"offset (-?\d+)", out)[1])

    def tool(self, name, *arguments, stdin=None, status=0, seconds=TIMEOUT):
        """One of Kafka's command line tools, by the class its script starts."""
        return execute(
            brokers.java_command("org.apache.kafka.tools." + name, *arguments), stdin, status=status, seconds=seconds
        )

    def topics(self, *arguments, status=0):
        return self.tool("TopicCommand", "--bootstrap-server", self.broker.bootstrap, *arguments, status=status)

    def groups(self, *arguments, status=0):
        """kafka-consumer-groups: what it prints."""
        servers = ["--bootstrap-server", self.broker.bootstrap]
        out, err = self.tool("consumer.group.ConsumerGroupCommand", *servers, *arguments, status=status)
        return out + err

    @contextlib.contextmanager
    def running(self, command):
        """A client that runs beside the check, until its end; yields it."""
        client = Running(command)
        try:
            yield client
        finally:
            client.end()


class Running:
    """A client in the background: what it printed so far, and its end by its own pid."""

    def __init__(self, command):
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stderr.fileno(), False)

    def lines(self):
        size = os.fstat(self.output.fileno()).st_size
        whole = os.pread(self.output.fileno(), size, 0).decode(errors="replace")
        # The last line may still be written.
        return whole.split("\n")[:-1]

    def state(self):
        return f"status {self.process.poll()}: {self.errors()}"

    def errors(self):
        return (self.process.stderr.read() or b"").decode(errors="replace")[-2000:]

    def end(self):
        """SIGTERM, on which clients leave their groups; SIGKILL if that does nothing."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stderr.close()
