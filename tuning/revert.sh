#!/usr/bin/env bash
# Gives every value that apply.sh changed back what it was before the first time, and forgets it. A value that somebody else
# changed meanwhile is theirs: it is named and left alone.
#
#   tuning/revert.sh [--dry-run]
#
# Needs root, except with --dry-run. The exit status is 0 if all is restored, or nothing was to be; 1 if a value could not be
# written: then it is remembered, and revert.sh may run again.
set -euo pipefail
export LC_ALL=C
source "$(dirname "$0")/items.sh"

dry_run=
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) help && exit 0 ;;
    --dry-run)
        dry_run=1
        shift
        ;;
    *) fail "no option is called $1; see --help" ;;
    esac
done
if [ ! -e "$root$state" ]; then
    printf 'nothing to revert: apply.sh has changed nothing since the machine started\n'
    exit 0
fi
[ -n "$dry_run" ] || [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root may change this; --dry-run says what would be done"

left=()
# The last change first, as what was set later may depend on what was set before.
while IFS=$'\t' read -r path before value; do
    now=$(value_of "$path")
    if [ "$now" = "$before" ]; then
        printf '%s: is %s again\n' "$path" "$before"
    elif [ ! -e "$root$path" ]; then
        printf '%s: is gone\n' "$path"
    elif [ "$now" != "$value" ]; then
        printf '%s: left alone, somebody changed it from %s to %s\n' "$path" "$value" "$now"
    elif [ -n "$dry_run" ]; then
        printf 'would write %s to %s, where %s is\n' "$before" "$path" "$now"
    elif { printf '%s\n' "$before" >"$root$path"; } 2>/dev/null && [ "$(value_of "$path")" = "$before" ]; then
        printf '%s: %s, was %s\n' "$path" "$before" "$now"
    else
        printf 'FAILED %s: stays %s, the kernel does not take %s\n' "$path" "$(value_of "$path")" "$before"
        left=("$path"$'\t'"$before"$'\t'"$value" "${left[@]}")
    fi
done < <(tac "$root$state")

[ -z "$dry_run" ] || exit 0
if [ ${#left[@]} -gt 0 ]; then
    printf '%s\n' "${left[@]}" >"$root$state"
    exit 1
fi
forget
printf 'all that apply.sh changed is taken back\n'
