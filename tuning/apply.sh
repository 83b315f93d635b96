#!/usr/bin/env bash
# Changes what check.sh found improvable and marks with this script's name, until the next boot or revert.sh. What it changes
# it writes down first, in /run/corelane/tuning, which is gone after a boot as the changes are.
#
#   tuning/apply.sh [--dry-run] [--data DIR] [--also ITEM]...
#
#   --dry-run    say what would be done, and do nothing
#   --data DIR   where the broker's data is or will be [default: ./data]: its disk is the one that is changed
#   --also ITEM  change this item too, which may be wrong for what else the machine does; check.sh names them
#
# Needs root, except with --dry-run. May run again: the values from before the first time are the ones that are kept.
# The exit status is 0 if everything that was to be done was done, else 1.
set -euo pipefail
export LC_ALL=C
source "$(dirname "$0")/items.sh"

data=./data dry_run='' also=()
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) help && exit 0 ;;
    --dry-run)
        dry_run=1
        shift
        ;;
    --data)
        [ $# -ge 2 ] || fail "--data wants a directory"
        data=$2
        shift 2
        ;;
    --also)
        [ $# -ge 2 ] || fail "--also wants an item"
        is_item "$2" || fail "no item is called $2: ${items[*]}"
        also+=("$2")
        shift 2
        ;;
    *) fail "no option is called $1; see --help" ;;
    esac
done
[ -n "$dry_run" ] || [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root may change this; --dry-run says what would be done"

# Writes a value, with what was there before remembered before it is gone: set_value PATH VALUE
set_value() {
    local path=$1 value=$2 before is_new=
    before=$(value_of "$path")
    if ! grep -qsF "$path"$'\t' "$root$state"; then
        mkdir -p "$(dirname "$root$state")"
        printf '%s\t%s\t%s\n' "$path" "$before" "$value" >>"$root$state"
        is_new=1
    fi
    # The kernel may take a value without error and yet do something else with it.
    if ! { printf '%s\n' "$value" >"$root$path"; } 2>/dev/null || [ "$(value_of "$path")" != "$value" ]; then
        printf '  FAILED %s: stays %s, the kernel does not take %s\n' "$path" "$(value_of "$path")" "$value"
        failures=$((failures + 1))
        # What was not changed needs no restoring.
        if [ -n "$is_new" ] && [ "$(value_of "$path")" = "$before" ]; then
            sed -i '$d' "$root$state"
            [ -s "$root$state" ] || forget
        fi
        return
    fi
    printf '  %s: %s, was %s\n' "$path" "$value" "$before"
}

look_for_data "$data"
for item in "${also[@]}"; do
    look_at "$item"
    [ "$on_request" = 1 ] || fail "$item needs no --also: it is changed wherever it can be"
done
failures=0 count=0
for item in "${items[@]}"; do
    look_at "$item"
    [ ${#changes[@]} -gt 0 ] || continue
    if [ "$on_request" = 1 ] && [[ " ${also[*]} " != *" $item "* ]]; then
        printf '%s (%s): left alone, ask for it with --also %s\n' "$title" "$item" "$item"
        continue
    fi
    printf '%s (%s)\n' "$title" "$item"
    for line in "${changes[@]}"; do
        path=${line%%$'\t'*} value=${line#*$'\t'}
        count=$((count + 1))
        if [ -n "$dry_run" ]; then
            printf '  would write %s to %s, where %s is\n' "$value" "$path" "$(value_of "$path")"
        else
            set_value "$path" "$value"
        fi
    done
done

if [ -n "$dry_run" ]; then
    printf '%d values would be changed, none was\n' $count
elif [ $count = 0 ]; then
    printf 'nothing to change\n'
else
    printf '%d values changed, %d failed; until the next boot, or: tuning/revert.sh\n' $((count - failures)) $failures
fi
[ $failures = 0 ]
