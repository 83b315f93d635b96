"""What must hold, each under a name: how often it was looked at, and what was seen when it did not hold."""

import threading
import time

# Texts kept of one check that fails over and over.
SHOWN_MAX = 5


class Violated(Exception):
    """Something did not hold, and whoever looked cannot go on."""


class Checks:
    def __init__(self):
        self._lock = threading.Lock()
        self._looked = {}
        self._violations = {}
        self._skipped = {}
        self._began = time.monotonic()

    def declare(self, names):
        for name in names:
            self._looked[name] = 0

    def held(self, name, times=1):
        with self._lock:
            self._looked[name] += times

    def violated(self, name, text):
        """Notes and prints it; the run goes on, to see what else is wrong."""
        with self._lock:
            self._looked[name] += 1
            seen = self._violations.setdefault(name, [])
            seen.append(text)
            count = len(seen)
        if count <= SHOWN_MAX:
            print(f"VIOLATED at {time.monotonic() - self._began:.1f} s: {name}: {text}", flush=True)

    def expect(self, name, condition, text):
        if condition:
            self.held(name)
        else:
            self.violated(name, text() if callable(text) else text)
        return bool(condition)

    def has_failed(self, name):
        with self._lock:
            return name in self._violations

    def skip(self, name, why):
        self._skipped[name] = why

    def violations(self):
        with self._lock:
            return sum(len(seen) for seen in self._violations.values())

    def report(self):
        """Prints a line for each check; returns how many passed and failed. One that nobody looked at has failed."""
        passed = failed = 0
        for name, looked in self._looked.items():
            seen = self._violations.get(name, [])
            if name in self._skipped:
                print(f"skipped {name}: {self._skipped[name]}")
            elif seen:
                failed += 1
                print(f"FAILED {name}: {len(seen)} times in {looked}, first: {seen[0].splitlines()[0]}")
            elif looked == 0:
                failed += 1
                print(f"FAILED {name}: never looked at")
            else:
                passed += 1
                print(f"ok {name} ({looked} times)")
        return passed, failed
