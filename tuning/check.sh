#!/usr/bin/env bash
# Says what this machine is like for a broker, and changes nothing: for each item what was found, why it matters, the risk of
# changing it, and what to do. What a machine does not have, as most virtual ones lack most of it, is reported as such.
#
#   tuning/check.sh [--data DIR]      DIR: where the broker's data is or will be [default: ./data]
#
# Needs no privileges. The exit status is 0 whatever was found, and 1 for wrong use. apply.sh changes what is marked with it.
set -euo pipefail
export LC_ALL=C
source "$(dirname "$0")/items.sh"

data=./data
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) help && exit 0 ;;
    --data)
        [ $# -ge 2 ] || fail "--data wants a directory"
        data=$2
        shift 2
        ;;
    *) fail "no option is called $1; see --help" ;;
    esac
done

# One part of an item, in lines of readable length.
part() {
    [ -n "$2" ] || return 0
    local label=$1 line
    while IFS= read -r line; do
        printf '  %-6s %s\n' "$label" "${line% }"
        label=
    done < <(fold -s -w 100 <<<"$2")
}

look_for_data "$data"
kernel=$(value_of /proc/sys/kernel/osrelease)
kind="a machine"
! is_virtual || kind="a virtual machine"
printf 'A broker with its data in %s, on %s with Linux %s and %d CPUs.\n' "$data" "$kind" "${kernel:-unknown}" "$(own_cpus | wc -l)"
declare -A count=([ok]=0 [advice]=0 [absent]=0)
applied=() requested=()
for item in "${items[@]}"; do
    look_at "$item"
    count[$verdict]=$((count[$verdict] + 1))
    word=$verdict
    [ "$verdict" != absent ] || word="not present here"
    printf '\n%s (%s): %s\n' "$title" "$item" "$word"
    part found "$found"
    part why "$why"
    [ "$verdict" != absent ] || continue
    part risk "$risk"
    if [ ${#changes[@]} -gt 0 ]; then
        first=${changes[0]} others=
        [ ${#changes[@]} = 1 ] || others=", and $((${#changes[@]} - 1)) more alike"
        if [ "$on_request" = 1 ]; then
            requested+=("$item")
            part "do" "tuning/apply.sh --also $item"
        else
            applied+=("$item")
            part "do" "tuning/apply.sh"
        fi
        part '' "That is: echo ${first#*$'\t'} > ${first%%$'\t'*}$others"
        part '' "$todo"
    elif [ -n "$todo" ]; then
        part "do" "$todo"
    elif [ "$verdict" = ok ]; then
        part "do" "Nothing."
    fi
done

printf '\n%d items: %d ok, %d with advice, %d not present here.\n' ${#items[@]} "${count[ok]}" "${count[advice]}" "${count[absent]}"
printf 'apply.sh would change: %s\n' "${applied[*]:-nothing}"
printf 'and only with --also:  %s\n' "${requested[*]:-nothing}"
[ ! -e "$root$state" ] || printf 'apply.sh has changed something already: revert.sh takes it back.\n'
