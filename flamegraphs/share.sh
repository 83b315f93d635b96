#!/usr/bin/env bash
# How much of a recording lies under a function: the percentage of samples whose stack matches each pattern.
#
#   flamegraphs/share.sh FOLDED PATTERN...    FOLDED is written by record.sh; a pattern is one of awk
#
# Patterns are independent of each other: a stack that matches two counts for both. The exit status is 1 for wrong use.
set -euo pipefail
if [ $# -lt 2 ] || [ ! -r "$1" ]; then
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 1
fi
folded=$1
shift
for pattern in "$@"; do
    PATTERN=$pattern awk '{ samples = $NF; total += samples } $0 ~ ENVIRON["PATTERN"] { matching += samples }
        END { if (total) printf "%6.1f %%  %s\n", 100 * matching / total, ENVIRON["PATTERN"] }' "$folded"
done
