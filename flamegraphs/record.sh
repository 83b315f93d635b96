#!/usr/bin/env bash
# Draws where a broker's CPU goes while a benchmark loads it: builds with frame pointers, records the server's process with
# perf in the seconds that the benchmark measures, and draws one SVG for each server. Says what to do where it may not record.
#
#   flamegraphs/record.sh [--data DIR] WORKLOAD...                     one of those below
#   flamegraphs/record.sh [--data DIR] NAME -- BENCHMARK ARGUMENT...   any benchmark of corelane-bench that has --perf
#
# Writes flamegraphs/NAME.SUBJECT.EVENT.COMMIT.svg. The event is cycles where the machine counts them, else cpu-clock: pictures
# of different events see different things (a timer that the kernel holds back during interrupts sees those late, at the
# place where they end) and are never a pair, so name and picture both say which it was. Needs a Debian machine, or one that
# has perf; a data directory on a filesystem with direct I/O [default: inside the build directory]; and two CPUs.
set -euo pipefail
export LC_ALL=C

# The benchmarks with which most of the README's numbers are measured. One round: a picture needs time, not medians.
workload() {
    case "$1" in
    produce) benchmark=(produce-floors --subjects "full,header,raw" --rounds 1 --warm-up 3 --seconds 8) ;;
    flushed) benchmark=(flushed-partitions --rounds 1 --seconds 10) ;;
    tail-fetch) benchmark=(tail-fetch --consumers 4 --rate 200 --rounds 1 --seconds 8) ;;
    heartbeats) benchmark=(group-heartbeats --warm-up 3 --seconds 12) ;;
    commits) benchmark=(group-commits --rounds 1 --seconds 5) ;;
    *) fail "no workload is called $1: produce, flushed, tail-fetch, heartbeats, commits, or NAME -- BENCHMARK ARGUMENT..." ;;
    esac
}

fail() {
    printf 'record.sh: %s\n' "$*" >&2
    exit 1
}

data=
names=()
benchmark=()
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    --data)
        [ $# -ge 2 ] || fail "--data wants a directory"
        data=$(realpath -m -- "$2")
        shift 2
        ;;
    --)
        shift
        benchmark=("$@")
        [ ${#names[@]} = 1 ] || fail "one name, then -- and a benchmark"
        [ ${#benchmark[@]} -gt 0 ] || fail "no benchmark after --"
        break
        ;;
    -*) fail "no option is called $1" ;;
    *)
        [[ "$1" =~ ^[a-z0-9-]+$ ]] || fail "$1 becomes part of a file's name: small letters, digits and - only"
        names+=("$1")
        shift
        ;;
    esac
done
[ ${#names[@]} -gt 0 ] || fail "what should be recorded? See --help"
if [ ${#benchmark[@]} = 0 ]; then
    # A name that is wrong is found before anything is built.
    for name in "${names[@]}"; do workload "$name"; done
    named=1
else
    named=
fi
cd "$(dirname "$0")/.."
PATH="$PATH:$HOME/.cargo/bin"

if ! command -v perf >/dev/null; then
    command -v apt-get >/dev/null || fail "perf is missing: install the package of your distribution that has it"
    echo "installing linux-perf"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends linux-perf >/dev/null
fi

# A third to nine tenths of a broker's time is the kernel's, so a picture of the user side alone, which perf falls back to in silence where
# it may not see the kernel, would mislead.
if ! perf stat -e cpu-clock:k -- true >/dev/null 2>&1; then
    fail "perf may not record the kernel's side: run as root, or, until the next boot, allow it with
    sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0
(it is $(cat /proc/sys/kernel/perf_event_paranoid 2>/dev/null || echo unknown) here; in a container, perf_event_open must be allowed too)"
fi
if ! awk '$1 !~ /^0+$/ { found = 1; exit } END { exit !found }' /proc/kallsyms; then
    fail "the kernel hides the addresses of its functions, so none would have a name: run as root, or sysctl kernel.kptr_restrict=0"
fi
# Asked with stat, because perf record takes another event in silence where there are no cycles. A number is the count.
event="cpu-clock"
[[ "$(perf stat -x, -e cycles -- true 2>&1 | cut -d, -f1)" =~ ^[1-9][0-9]*$ ]] && event=cycles
echo "event: $event"

# A directory of its own: with other flags, cargo would build everything anew at each change between the two.
target=${CARGO_TARGET_DIR:-target}/flamegraph
mkdir -p "$target"
target=$(realpath -- "$target")
if [ ! -x "$target/tools/bin/inferno-flamegraph" ]; then
    echo "installing inferno"
    CARGO_TARGET_DIR=$target cargo install --quiet --locked --root "$target/tools" inferno
fi
# Frame pointers in C code too, of which zstd is the most.
CARGO_TARGET_DIR=$target RUSTFLAGS="-C force-frame-pointers=yes" CFLAGS="-fno-omit-frame-pointer" \
    cargo build --quiet --release --workspace

commit=$(git rev-parse --short HEAD)
[ -z "$(git status --porcelain -- src bench Cargo.toml Cargo.lock build.rs)" ] || commit+=-modified
cpu=$(awk -F': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
kernel=$(uname -r)
congestion=$(cat /proc/sys/net/ipv4/tcp_congestion_control 2>/dev/null || echo unknown)
# The kernel's release without what a builder of kernels appends. TCP's congestion control is part of what a picture shows:
# bbr sends from timers.
machine="${cpu:-unknown CPU}, $(nproc) CPUs, Linux ${kernel%%-*}, TCP $congestion"
today=$(date -u +%F)

# Draws one recording: draw FILE NAME SUBJECT
draw() {
    local recording=$1 name=$2 subject=$3
    local folded=$recording.folded picture=flamegraphs/$name.$subject.$event.$commit.svg
    # Inlined functions are left out: perf looks each up with a process of its own, which takes hours.
    perf script --no-inline -F comm,pid,tid,event,ip,sym,dso -i "$recording" 2>"$recording.log" |
        "$target/tools/bin/inferno-collapse-perf" --all >"$folded" 2>>"$recording.log" ||
        fail "the recording could not be read: $(tail -n 3 "$recording.log")"
    [ -s "$folded" ] || fail "the recording of $subject has no samples"
    "$target/tools/bin/inferno-flamegraph" --colors java --deterministic --minwidth 0.2 --width 1400 \
        --countname "samples of $event" --title "Corelane: $name, $subject ($event)" \
        --subtitle "$event | commit $commit | $machine | $today | corelane-bench ${benchmark[*]}" \
        "$folded" >"$picture"
    awk -v picture="$picture" '{
        samples = $NF; sub(/ [0-9]+$/, ""); frames = split($0, stack, ";"); own[stack[frames]] += samples
        total += samples; if (stack[frames] ~ /_\[k\]$/) kernel += samples
    } END {
        printf "%s: %d samples, %.1f %% in the kernel; most in\n", picture, total, 100 * kernel / total
        for (name in own) printf "%6.1f %%  %s\n", 100 * own[name] / total, name | "sort -rn | head -n 12"
    }' "$folded"
}

for name in "${names[@]}"; do
    [ -z "$named" ] || workload "$name"
    work=$target/recordings/$name
    rm -rf "$work"
    mkdir -p "$work" "${data:-$target/data}"
    echo "corelane-bench ${benchmark[*]}"
    "$target/release/corelane-bench" "${benchmark[@]}" --data "${data:-$target/data}" \
        --perf "$work/perf" --perf-event "$event"
    drawn=0
    for recording in "$work"/perf.*; do
        [ -f "$recording" ] || continue
        draw "$recording" "$name" "${recording##*/perf.}"
        drawn=$((drawn + 1))
    done
    [ $drawn -gt 0 ] || fail "the benchmark recorded nothing"
    # Gigabytes that nobody reads again.
    [ -n "$data" ] || rm -rf "$target/data"
done
