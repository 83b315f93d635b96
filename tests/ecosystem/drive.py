"""Runs the scenarios against one broker after the other and prints a line for each. Started by `run`."""

import argparse
import signal
import sys
import time
import traceback

import admin
import cli
import connect
import groups
import mirror
import streams
import tools
import world as worlds

parser = argparse.ArgumentParser(prog="tests/ecosystem/run")
parser.add_argument("--kafka", action="store_true", help="against a real Apache Kafka: proves the checks themselves")
parser.add_argument("--full", action="store_true", help="every client with every assignor, more rounds, more records")
parser.add_argument("--only", metavar="WORD", help="only the scenarios whose name contains WORD")
parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
options = parser.parse_args()

scenarios = []
for module in (groups, tools, admin, cli, streams, connect, mirror):
    scenarios += module.scenarios(options.full)
if options.only:
    scenarios = [scenario for scenario in scenarios if options.only in scenario[0]]
if options.list:
    for name, _ in scenarios:
        print(name)
    sys.exit(0)
if not scenarios:
    sys.exit(f"no scenario has {options.only!r} in its name")

# Whoever ends this by a signal gets the brokers ended too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
world = None
failed = 0
try:
    for name, play in scenarios:
        started = time.monotonic()
        try:
            if world is None:
                world = worlds.World("kafka" if options.kafka else "corelane", options.full)
            told = play(world)
            print(f"ok {name} ({time.monotonic() - started:.0f} s{', ' + told if told else ''})", flush=True)
            world.reap()
        except Exception as failure:
            failed += 1
            why = str(failure) if isinstance(failure, worlds.Failed) else traceback.format_exc()
            print(f"FAILED {name} ({time.monotonic() - started:.0f} s): {why}", flush=True)
            if world:
                print("--- the broker's log, its end ---\n" + world.broker.log_tail(), flush=True)
                # What follows deserves a broker in order.
                world.destroy()
                world = None
finally:
    if world:
        world.destroy()
print(f"{len(scenarios) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
