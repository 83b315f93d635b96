"""Judges what the members of one group print, line by line; members/README.md says what the lines mean.

The rules, for a topic that is written all the while:
- A commit that was answered stands: nobody handles a record below it, and the broker never tells a lower one. But who was given
  up in something rough has records left, and handles them until its own commit is refused.
- A record is handled twice only across something rough: a member or the broker killed, or the broker restarted.
- While nothing rough goes on, a partition has one owner, and nobody loses a partition without being asked to give it back.
- In the end every acknowledged record was handled.
"""


class Judge:
    def __init__(self, partitions):
        self.partitions = partitions
        self.violations = []
        self.line_count = 0
        self.owned = {}  # member: set of partitions
        self.assigned_at = {}  # (member, partition): number of the line that assigned it
        self.handled = {}  # (partition, offset): number of the line where it was handled last
        self.values = set()
        self.record_counts = {}  # member: records handled
        self.committed = {}  # partition: highest offset known to be committed
        self.closed = set()
        self.leaving = set()
        self.troubles = []
        self.repeats = 0
        self.rough_since = None  # line number, while something rough goes on
        self.rough_until = -1  # line number at which the last rough time ended

    def on_line(self, line):
        """A line of a member."""
        self.line_count += 1
        member, event, *rest = line.split(" ", 2)
        text = rest[0] if rest else ""
        handler = getattr(self, f"_on_{event}", None)
        if handler is None:
            self.violations.append(f"no such event: {line}")
        else:
            handler(member, text)

    def begin_rough(self):
        """From here on records may be handled again, though never below a commit."""
        self.rough_since = self.line_count

    def end_rough(self):
        self.rough_since = None
        self.rough_until = self.line_count

    def on_leave(self, member):
        """SIGTERM was sent to it."""
        self.leaving.add(member)

    def on_death(self, member):
        """SIGKILL was sent to it, or it ended."""
        self.owned.pop(member, None)

    def on_broker_commits(self, told, before):
        """What the broker tells of the group's commits; `before` is `committed` from before it was asked."""
        for partition in range(self.partitions):
            offset = told.get(partition, -1)
            if offset < before.get(partition, -1):
                self.violations.append(f"partition {partition}: the broker tells {offset}, committed was {before[partition]}")
            elif offset > self.committed.get(partition, -1):
                self.committed[partition] = offset

    def is_settled(self, members):
        """Whether these members own all partitions among them, each at least one."""
        shares = [self.owned.get(member, set()) for member in members]
        everything = sorted(partition for share in shares for partition in share)
        return all(shares) and everything == list(range(self.partitions))

    def _on_assigned(self, member, text):
        partitions = parse_partitions(text)
        for other, owned in self.owned.items():
            both = owned & partitions
            if other != member and both and other not in self.leaving and self.rough_since is None:
                self.violations.append(f"{sorted(both)} assigned to {member} while {other} owns them")
        for partition in partitions - self.owned.get(member, set()):
            self.assigned_at[member, partition] = self.line_count
        self.owned[member] = partitions

    def _on_revoked(self, member, text):
        self.owned.setdefault(member, set()).difference_update(parse_partitions(text))

    def _on_lost(self, member, text):
        self._on_revoked(member, text)
        if self.rough_since is None and member not in self.leaving:
            self.violations.append(f"{member} lost {text} though nothing rough went on")

    def _on_record(self, member, text):
        partition, offset, value = (int(word) for word in text.split(" "))
        key = (partition, offset)
        if offset < self.committed.get(partition, -1) and not self._is_given_up(member, partition):
            self.violations.append(f"stepped back: {member} handles {key}, committed is {self.committed[partition]}")
        last = self.handled.get(key)
        if last is not None:
            self.repeats += 1
            if self.rough_since is None and last > self.rough_until:
                self.violations.append(f"{member} handles {key} again though nothing rough went on")
        self.handled[key] = self.line_count
        self.values.add(value)
        self.record_counts[member] = self.record_counts.get(member, 0) + 1

    def _is_given_up(self, member, partition):
        """Whether in something rough another was assigned what this member believes to own."""
        def owns(one):
            return partition in self.owned.get(one, ())

        def since(one):
            return self.assigned_at.get((one, partition), -1)

        later = [other for other in self.owned if other != member and owns(other) and since(other) > since(member)]
        return self.rough_since is not None and owns(member) and bool(later)

    def _on_committed(self, member, text):
        partition, offset = (int(word) for word in text.split(" "))
        if offset < self.committed.get(partition, -1):
            self.violations.append(
                f"commit regressed: {member} commits {offset} of partition {partition}, "
                f"committed was {self.committed[partition]}"
            )
        else:
            self.committed[partition] = offset

    def _on_trouble(self, member, text):
        self.troubles.append(f"{member}: {text}")

    def _on_closed(self, member, _):
        self.closed.add(member)
        self.owned.pop(member, None)

    def finish(self, acknowledged, ends):
        """After all members closed: `acknowledged` values were produced, partitions end at `ends`."""
        missing = acknowledged - self.values
        if missing:
            some = sorted(missing)[:5]
            self.violations.append(f"{len(missing)} acknowledged records were never handled, for example {some}")
        for partition, end in ends.items():
            if self.committed.get(partition, 0) != end:
                self.violations.append(
                    f"partition {partition} ends at {end}, committed is {self.committed.get(partition)}"
                )


def parse_partitions(text):
    return set() if text == "-" else {int(word) for word in text.split(",")}
