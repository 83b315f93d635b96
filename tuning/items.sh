# shellcheck shell=bash disable=SC2034
# What check.sh, apply.sh and revert.sh know of a machine, in one place: each item looks at one thing and says what it
# found, whether something is to be done, why it matters to a broker, what the risk is, and what to do. To be sourced.
#
# An item is a function `item_NAME`. It leaves its answer in these variables, which `look_at` clears before:
#   title    what it is, in words
#   verdict  absent (this machine does not have it), ok, or advice
#   found    what was found, one line for each thing
#   why, risk, todo
#   changes  what apply.sh may change: an array of PATH<tab>VALUE, only where the value is not yet that one
#   on_request  1 if apply.sh changes it only with --also NAME
#
# TUNING_ROOT, for tests, stands before every path under /proc, /sys and /run.

root=${TUNING_ROOT:-}
# The settings live in the kernel until the next boot, and so does what is remembered of them: /run is empty after a boot.
# A file that outlived them would have revert.sh restore what no longer needs it.
state=/run/corelane/tuning

# In the order in which they are reported.
items=(cpu-governor cpu-boost cpu-idle smt cpu-limit clock disk-scheduler disk-write-cache disk-polling filesystem
    mount-options locked-memory open-files huge-pages swap io-uring interrupts nic-queues congestion-control listen-backlog)

# What one shard registers with its rings: IO_MEMORY_BYTES of src/limits.rs, three times. Checked by tests/tuning.rs.
locked_kib_per_shard=98304
# SHARDS_DEFAULT_MAX and LISTEN_BACKLOG there.
shards_default_max=16
listen_backlog=1024
# Connections, each a file, and the log's own. A client has a connection to every node, which is every shard.
open_files_min=65536

# What tells scripts apart from their callers' mistakes.
fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The comment at the head of the script.
help() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
}

# Removes what is remembered of values from before.
forget() {
    rm -f "$root$state"
    rmdir --ignore-fail-on-non-empty "$(dirname "$root$state")"
}

is_item() {
    [[ " ${items[*]} " == *" $1 "* ]]
}

look_at() {
    title='' verdict=absent found='' why='' risk='' todo='' changes=() on_request=0
    "item_${1//-/_}"
}

# --- Reading the system

# The first line of a file, nothing if there is none. Of alternatives, such as `none [mq-deadline]`, the one that is chosen.
value_of() {
    local line=
    # Some files exist and cannot be read: that is as if they did not.
    { IFS= read -r line <"$root$1"; } 2>/dev/null || true
    if [[ $line =~ \[([^]]+)\] ]]; then line=${BASH_REMATCH[1]}; fi
    printf '%s' "$line"
}

# Whether an alternative, or a word of a list, is offered by a file.
offers() {
    local line=
    { IFS= read -r line <"$root$1"; } 2>/dev/null || true
    line=${line//[\[\]]/}
    [[ " $line " == *" $2 "* ]]
}

# Paths, without the root, that match a pattern.
matching() {
    local path
    # shellcheck disable=SC2086 # The pattern is to be expanded; paths under /proc and /sys have no spaces.
    for path in "$root"$1; do
        [ -e "$path" ] && printf '%s\n' "${path#"$root"}"
    done
    return 0
}

note() {
    found+=${found:+$'\n'}$1
}

# Something to be done: an item with one finding that is not good is not good.
advise() {
    verdict=advice
    todo+=${todo:+ }$1
}

# There, and good unless something else of it is not.
is_there() {
    [ "$verdict" = advice ] || verdict=ok
}

change() {
    if [ -e "$root$1" ] && [ "$(value_of "$1")" != "$2" ]; then changes+=("$1"$'\t'"$2"); fi
}

# The numbers of a list such as 0-3,8, one a line.
numbers_of() {
    local range
    for range in ${1//,/ }; do seq "${range%-*}" "${range#*-}"; done
}

# A line of the status of the process that asks.
own_status() {
    [ -r "$root/proc/self/status" ] || return 0
    awk -v key="$1:" '$1 == key { print $2 }' "$root/proc/self/status"
}

# The soft and the hard limit of the process that asks: own_limit "Max open files"
own_limit() {
    [ -r "$root/proc/self/limits" ] || return 0
    awk -v name="$1" 'index($0, name) == 1 { rest = substr($0, length(name) + 1); split(rest, limit, " "); print limit[1], limit[2] }' \
        "$root/proc/self/limits"
}

is_virtual() {
    grep -qw hypervisor "$root/proc/cpuinfo" 2>/dev/null
}

# CPUs that this process may use, one a line; all where the system does not say.
own_cpus() {
    local allowed path
    allowed=$(own_status Cpus_allowed_list)
    if [ -n "$allowed" ]; then
        numbers_of "$allowed"
    else
        for path in $(matching "/sys/devices/system/cpu/cpu[0-9]*"); do printf '%s\n' "${path##*/cpu}"; done
    fi
}

# How many shards `corelane serve` starts unless told: one for each physical core that it may use.
default_shards() {
    local cpu siblings cores
    cores=$(for cpu in $(own_cpus); do
        siblings=$(value_of "/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list")
        printf '%s\n' "${siblings:-$cpu}"
    done | sort -u | wc -l)
    [ "$cores" -ge 1 ] || cores=1
    echo $((cores < shards_default_max ? cores : shards_default_max))
}

# Network interfaces with a device behind them, so neither loopback nor bridges.
nics() {
    local path
    for path in $(matching "/sys/class/net/*"); do
        if [ -e "$root$path/device" ]; then printf '%s\n' "${path##*/}"; fi
    done
}

# Interrupts of a device for data, one a line: those that only say that something was configured are left out.
queue_interrupts() {
    local directory irq name level
    directory=$(readlink -f -- "$root$1/device" 2>/dev/null) || return 0
    for level in 1 2 3; do
        [ -d "$directory/msi_irqs" ] && break
        directory=${directory%/*}
    done
    [ "$level" -le 3 ] && [ -d "$directory/msi_irqs" ] && [ -r "$root/proc/interrupts" ] || return 0
    for irq in "$directory"/msi_irqs/*; do
        irq=${irq##*/}
        name=$(awk -v irq="$irq:" '$1 == irq { print $NF }' "$root/proc/interrupts")
        case "$name" in
        '' | *config* | *control* | *ctrl* | *async* | *cmd* | *pages* | *mgmnt* | *event* | *misc*) ;;
        *) printf '%s\n' "$irq" ;;
        esac
    done | sort -n
}

# The CPUs on which an interrupt arrives.
cpus_of_interrupt() {
    local cpus
    cpus=$(value_of "/proc/irq/$1/effective_affinity_list")
    [ -n "$cpus" ] || cpus=$(value_of "/proc/irq/$1/smp_affinity_list")
    printf '%s' "${cpus:-?}"
}

irqbalance_runs() {
    local path
    for path in $(matching "/proc/[0-9]*/comm"); do
        [ "$(value_of "$path")" = irqbalance ] && return 0
    done
    return 1
}

# Finds the filesystem that holds a directory, which need not exist yet, and the disks below it: sets mount_point, mount_type,
# mount_options and disks.
look_for_data() {
    local directory line fields point device source path after
    directory=$(readlink -m -- "$1")
    mount_point='' mount_type='' mount_options='' device='' source='' disks=()
    [ -r "$root/proc/self/mountinfo" ] || return 0
    while IFS= read -r line; do
        read -ra fields <<<"${line%% - *}"
        # Spaces in it are written as \040.
        printf -v point '%b' "${fields[4]}"
        # The longest that leads to it; of the same, the last, which hides the others.
        if [[ "$directory/" == "${point%/}/"* ]] && [ ${#point} -ge ${#mount_point} ]; then
            mount_point=$point
            device=${fields[2]}
            read -ra after <<<"${line#* - }"
            mount_type=${after[0]}
            source=${after[1]}
            mount_options=${fields[5]},${after[2]:-}
        fi
    done <"$root/proc/self/mountinfo"
    path=/sys/dev/block/$device
    # btrfs and others show a device number of their own.
    [ -e "$root$path" ] || path=/sys/class/block/${source##*/}
    [ -n "$device" ] && [ -e "$root$path" ] || return 0
    mapfile -t disks < <(disks_below "$(readlink -f -- "$root$path")" | sort -u)
}

# The disks that a partition, a volume or an array stands on.
disks_below() {
    local slave has_slaves=
    if [ -e "$1/partition" ]; then
        disks_below "${1%/*}"
        return
    fi
    for slave in "$1"/slaves/*; do
        [ -e "$slave" ] || continue
        has_slaves=1
        disks_below "$(readlink -f -- "$slave")"
    done
    if [ -z "$has_slaves" ] && [ -d "$root/sys/block/${1##*/}/queue" ]; then printf '%s\n' "${1##*/}"; fi
}

# --- The processor

item_cpu_governor() {
    local policy governor
    title="CPU frequency governor"
    why="A shard sleeps whenever it has nothing to do. Under a governor that lowers the clock meanwhile, the work after every pause begins slowly, and load tests at low rates measure the governor."
    risk="More power and heat while idle; where all cores share a budget, less boost for the busy ones."
    for policy in $(matching "/sys/devices/system/cpu/cpufreq/policy[0-9]*"); do
        governor=$(value_of "$policy/scaling_governor")
        [ -n "$governor" ] || continue
        is_there
        [ "$governor" = performance ] && continue
        verdict=advice
        if offers "$policy/scaling_available_governors" performance; then
            change "$policy/scaling_governor" performance
        else
            todo="The driver does not offer performance; set the firmware's power profile."
        fi
    done
    for governor in $(for policy in $(matching "/sys/devices/system/cpu/cpufreq/policy[0-9]*"); do
        value_of "$policy/scaling_governor"
        echo
    done | sort | uniq -c | awk '{ print $2 "=" $1 }'); do
        note "${governor%=*} (${governor#*=} policies)"
    done
    [ "$verdict" != absent ] || note "no frequency control: the firmware or the hypervisor has it"
}

item_cpu_boost() {
    local boost no_turbo
    title="CPU boost"
    why="Boost makes one busy core faster than all of them can be. Results taken with it depend on temperature and on what the neighbours do."
    risk="Off costs throughput. On is right for use; off makes two measurements easier to compare."
    boost=$(value_of /sys/devices/system/cpu/cpufreq/boost)
    no_turbo=$(value_of /sys/devices/system/cpu/intel_pstate/no_turbo)
    [ -z "$no_turbo" ] || boost=$((1 - no_turbo))
    case "$boost" in
    1) is_there && note "on" ;;
    0)
        note "off"
        advise "On for use: echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo, or echo 1 > /sys/devices/system/cpu/cpufreq/boost. Leave it off while you compare."
        ;;
    *) note "no switch: the firmware or the hypervisor has it" ;;
    esac
}

item_cpu_idle() {
    local path latency deepest=0 name=''
    title="CPU idle states"
    why="A shard that waits for a request lets its core sleep. Waking up from a deep state takes as long as it says, before the first instruction of the answer."
    risk="Without deep states an idle machine draws much more power, and the other cores get less boost."
    on_request=1
    for path in $(matching "/sys/devices/system/cpu/cpu[0-9]*/cpuidle/state[0-9]*"); do
        is_there
        latency=$(value_of "$path/latency")
        [ "$(value_of "$path/disable")" = 0 ] || continue
        if [ "${latency:-0}" -gt "$deepest" ]; then
            deepest=$latency
            name=$(value_of "$path/name")
        fi
        # A request on loopback takes about 100 µs: a wake-up of half of that shows.
        if [ "${latency:-0}" -gt 50 ]; then
            verdict=advice
            change "$path/disable" 1
        fi
    done
    if [ "$verdict" = absent ]; then
        note "no idle states that can be chosen (governor: $(value_of /sys/devices/system/cpu/cpuidle/current_governor))"
    else
        note "deepest in use: ${name:-none}, ${deepest} µs to wake up"
    fi
    [ "$verdict" != advice ] || todo="Worth it where the latency of rare requests counts."
}

item_smt() {
    local active control
    title="Hyper-threads"
    why="Two threads of a core share its execution units and its cache. corelane serve starts one shard for each physical core, so siblings stay free for the kernel and for interrupts."
    risk="More shards than cores (--shards) share units: more throughput at best, worse tails always."
    active=$(value_of /sys/devices/system/cpu/smt/active)
    control=$(value_of /sys/devices/system/cpu/smt/control)
    case "$active,$control" in
    1,*) is_there && note "on; $(default_shards) shards by default" ;;
    *,notsupported | *,notimplemented) note "the processor shows none; $(default_shards) shards by default" ;;
    0,*) is_there && note "off; $(default_shards) shards by default" ;;
    *) note "this kernel does not say" ;;
    esac
    if [ "$active" != 1 ] && is_virtual; then note "a virtual CPU may be one thread of a core all the same"; fi
}

item_cpu_limit() {
    local group path quota period online allowed
    title="CPU limits of the control group"
    why="A quota stops all threads of a group when it is used up, until its period (mostly 100 ms) ends: answers of that shard wait so long. One thread per core is no use where fewer cores are given."
    risk="None to the broker; the neighbours lose what the quota kept for them."
    group=$(awk -F: '$1 == 0 { print $3 }' "$root/proc/self/cgroup" 2>/dev/null || true)
    # A quota of any group above holds too. Of the root there is none.
    path=/sys/fs/cgroup$group
    while [ "$path" != /sys/fs/cgroup ] && [[ $path == /sys/fs/cgroup/* ]]; do
        path=${path%/}
        read -r quota period <<<"$(value_of "$path/cpu.max")"
        if [ -n "$quota" ] && [ "$quota" != max ]; then
            note "$quota of every $period µs in ${path#/sys/fs/cgroup}"
            advise "Give whole cores instead of a quota: AllowedCPUs in a systemd unit, --cpuset-cpus for docker, the static CPU manager for Kubernetes."
        elif [ -n "$quota" ]; then
            is_there
        fi
        path=${path%/*}
    done
    quota=$(value_of /sys/fs/cgroup/cpu/cpu.cfs_quota_us)
    if [ -n "$quota" ] && [ "$quota" != -1 ]; then
        note "$quota of every $(value_of /sys/fs/cgroup/cpu/cpu.cfs_period_us) µs (version 1)"
        advise "Give whole cores instead of a quota."
    fi
    online=$(value_of /sys/devices/system/cpu/online)
    allowed=$(own_status Cpus_allowed_list)
    if [ -n "$allowed" ]; then
        is_there
        note "this shell may use CPUs $allowed of ${online:-unknown}"
    fi
    [ -n "$found" ] || note "no control group for CPU"
    [ "$verdict" != ok ] || note "no quota"
}

item_clock() {
    local current
    title="Clock source"
    why="The broker reads the clock at every request. With tsc or kvm-clock that is a few instructions; with hpet or acpi_pm every reading is a system call and a slow device."
    risk="The kernel leaves tsc when it found that it runs unevenly: forced, time may jump back."
    current=$(value_of /sys/devices/system/clocksource/clocksource0/current_clocksource)
    case "$current" in
    '') note "the kernel does not say" ;;
    tsc | kvm-clock | hyperv_clocksource_tsc_page | arch_sys_counter) is_there && note "$current" ;;
    *)
        note "$current"
        advise "Look in the kernel's log why (dmesg | grep -i clocksource). Only where tsc is known to be good: boot with tsc=reliable clocksource=tsc."
        ;;
    esac
}

# --- The disk

item_disk_scheduler() {
    local disk file scheduler
    title="Disk scheduler"
    why="A shard writes one log in order, at most four writes of 1 MiB at a time. A scheduler has nothing to sort there, takes a lock that all cores share, and may hold a flush behind other requests."
    risk="Other programs on this disk lose the fairness that the scheduler kept between them."
    for disk in "${disks[@]}"; do
        file=/sys/block/$disk/queue/scheduler
        scheduler=$(value_of "$file")
        [ -n "$scheduler" ] || continue
        is_there
        note "$disk: $scheduler"
        [ "$scheduler" != none ] || continue
        # What a hypervisor says of the disks it shows is a guess; what a real disk says of its heads is not.
        if [[ $disk != vd* && $disk != xvd* ]] && [ "$(value_of "/sys/block/$disk/queue/rotational")" = 1 ]; then
            note "$disk turns: a scheduler helps there"
        elif offers "$file" none; then
            verdict=advice
            change "$file" none
        fi
    done
    [ "$verdict" != absent ] || note "no disk with a scheduler below $mount_point (${mount_type:-unknown filesystem})"
}

item_disk_write_cache() {
    local disk cache
    title="Write cache of the disk"
    why="An acknowledgement of a flushed topic waits for the disk to make its cache durable. With a volatile cache (write back) that is most of its latency, and shared by all that wait; a disk that keeps its cache through a power cut (write through) answers at once."
    risk="Switching a volatile cache off makes every write as slow as a flush. Writing 'write through' into the file switches nothing off: it makes the kernel skip flushes, and acknowledged records are lost by a power cut."
    for disk in "${disks[@]}"; do
        cache=$(value_of "/sys/block/$disk/queue/write_cache")
        [ -n "$cache" ] || continue
        is_there
        note "$disk: $cache, single writes through it $([ "$(value_of "/sys/block/$disk/queue/fua")" = 1 ] && echo possible || echo "not possible")"
        case "$cache" in
        "write back") todo="Nothing to change. What a flush costs here: corelane-bench flushed-partitions. For less, a disk with power-loss protection." ;;
        *) todo="Nothing to change if the disk itself says so (nvme id-ctrl: vwc 0). If somebody wrote it into the file, write 'write back' there again." ;;
        esac
    done
    if [ "$verdict" = ok ] && is_virtual; then note "what the hypervisor does with a flush is its own matter: ask who runs it"; fi
    [ "$verdict" != absent ] || note "no disk below $mount_point (${mount_type:-unknown filesystem})"
}

item_disk_polling() {
    local disk
    title="Poll queues of the disk"
    why="glommio, on which Corelane stands, reads a disk with poll queues by asking for completions without pause: the core of a shard burns while anything is in flight."
    risk="Programs that want to poll lose their queues."
    for disk in "${disks[@]}"; do
        case "$(value_of "/sys/block/$disk/queue/io_poll")" in
        1)
            note "$disk: has poll queues"
            advise "Boot without them: nvme.poll_queues=0. They are made when the driver is loaded, so the file in /sys cannot be changed."
            ;;
        0) is_there && note "$disk: none" ;;
        esac
    done
    [ "$verdict" != absent ] || note "no disk below $mount_point (${mount_type:-unknown filesystem})"
}

item_filesystem() {
    title="Filesystem of the data"
    why="The log is written by direct I/O into files that were laid out before, so that a write changes no metadata of the filesystem. ext4 and XFS do that well."
    risk="None: it is a choice before there is data."
    if [ -z "$mount_type" ]; then
        note "unknown"
        return
    fi
    is_there
    note "$mount_type on $mount_point${disks[0]:+, disk ${disks[*]}}"
    case "$mount_type" in
    ext4 | xfs) ;;
    tmpfs | ramfs | overlay)
        advise "Corelane refuses it: choose a directory on ext4 or XFS (in a container: a volume)."
        ;;
    nfs* | cifs | 9p | fuse* | virtiofs) advise "A filesystem over a network or in another process is untried: its flush and its direct I/O are as good as its server. Choose ext4 or XFS on a local disk." ;;
    *) advise "Untried. Filesystems that copy on write (btrfs, zfs) change metadata at every write: choose ext4 or XFS." ;;
    esac
}

item_mount_options() {
    local options=,$mount_options, option
    title="Mount options of the data"
    why="They decide what a flush promises and what every write does beside it."
    risk="Those named here may be changed without loss of data; a mount option holds for everything on that filesystem."
    if [ -z "$mount_type" ]; then
        note "unknown"
        return
    fi
    is_there
    note "${mount_options//,/, }"
    for option in nobarrier barrier=0; do
        [[ $options != *",$option,"* ]] || advise "DANGER: $option makes a flush end without the disk's cache being durable. Acknowledged records are lost by a power cut unless every disk protects its cache. Remount with barriers."
    done
    [[ $options != *",data=journal,"* ]] || advise "data=journal writes everything twice and switches direct I/O off: mount with data=ordered."
    for option in sync dirsync; do
        [[ $options != *",$option,"* ]] || advise "$option flushes at every write, whether somebody waits or not: mount without it."
    done
    [[ $options != *",strictatime,"* ]] || advise "strictatime writes metadata at every read: mount with relatime or noatime."
    [[ $options != *",discard,"* ]] || advise "discard tells the disk at once of every file that is deleted, which some answer slowly. Segments are used again rather than deleted, so there is little of it; mount without it and run fstrim weekly (fstrim.timer)."
}

# --- Memory and limits

item_locked_memory() {
    local soft hard wanted capabilities
    title="Limit of locked memory"
    why="Each shard registers its I/O memory with its three rings, which counts against this limit, ${locked_kib_per_shard} KiB in all. With less it runs unregistered and writes cost more CPU; below 512 KiB no shard starts. The broker raises the soft limit to the hard one by itself."
    risk="A program without bounds could lock as much memory."
    read -r soft hard <<<"$(own_limit "Max locked memory")"
    if [ -z "$hard" ]; then
        note "unknown"
        return
    fi
    is_there
    wanted=$((locked_kib_per_shard * $(default_shards)))
    capabilities=$(own_status CapEff)
    if [ "$hard" = unlimited ]; then
        note "unlimited"
    else
        note "$((hard / 1024)) KiB in this shell, $wanted KiB wanted for $(default_shards) shards"
        # CAP_IPC_LOCK is bit 14.
        if [ -n "$capabilities" ] && [ $((0x$capabilities >> 14 & 1)) = 1 ]; then
            note "this user is not charged (CAP_IPC_LOCK); a service without privileges is"
        elif [ $((hard / 1024)) -lt "$wanted" ]; then
            advise "A limit belongs to a process, so it is set where the broker is started: LimitMEMLOCK=infinity in a systemd unit, ulimit -l $wanted in its shell (hard limits: /etc/security/limits.conf), --ulimit memlock=-1 for docker."
        fi
    fi
}

item_open_files() {
    local soft hard
    title="Limit of open files"
    why="Every connection is one, and every client has a connection to each shard. The broker raises the soft limit to the hard one by itself."
    risk="None worth naming."
    read -r soft hard <<<"$(own_limit "Max open files")"
    if [ -z "$hard" ]; then
        note "unknown"
        return
    fi
    is_there
    note "$hard in this shell ($soft before it is raised)"
    if [ "$hard" != unlimited ] && [ "$hard" -lt $open_files_min ]; then
        advise "Where the broker is started: LimitNOFILE=1048576 in a systemd unit, ulimit -Hn 1048576 as root before it, --ulimit nofile=1048576 for docker."
    fi
}

item_huge_pages() {
    local directory=/sys/kernel/mm/transparent_hugepage enabled defrag
    title="Transparent huge pages"
    why="The broker asks for huge pages where they help, for the blocks of its log. With always every program gets them unasked, and the kernel stops a core to make room for one; with never the broker's blocks go without."
    risk="Programs that rely on always without asking get small pages."
    enabled=$(value_of $directory/enabled)
    defrag=$(value_of $directory/defrag)
    if [ -z "$enabled" ]; then
        note "this kernel has none"
        return
    fi
    is_there
    note "enabled: $enabled, defrag: ${defrag:-unknown}"
    if [ "$enabled" != madvise ]; then
        verdict=advice
        change $directory/enabled madvise
    fi
    if [ "$defrag" = always ]; then
        verdict=advice
        change $directory/defrag madvise
    fi
}

item_swap() {
    local swappiness areas
    title="Swap"
    why="Memory of idle partitions and groups looks unused to the kernel. Once it is on a disk, the first request that needs it stops the whole shard, as all of a shard is one thread."
    risk="With a low swappiness the kernel gives up file caches first; without swap a machine that runs out of memory kills a program."
    if [ ! -r "$root/proc/swaps" ]; then
        note "unknown"
        return
    fi
    areas=$(awk 'NR > 1 { count++ } END { print count + 0 }' "$root/proc/swaps")
    if [ "$areas" = 0 ]; then
        note "no swap area"
        return
    fi
    is_there
    swappiness=$(value_of /proc/sys/vm/swappiness)
    note "$areas swap areas, vm.swappiness ${swappiness:-unknown}"
    if [ -n "$swappiness" ] && [ "$swappiness" -gt 10 ]; then
        verdict=advice
        change /proc/sys/vm/swappiness 1
    fi
}

item_io_uring() {
    local disabled
    title="io_uring"
    why="The broker does all I/O through it and does not start without."
    risk="io_uring has been a way into the kernel for programs without privileges; where strangers run code, allow it to the broker's group only."
    on_request=1
    disabled=$(value_of /proc/sys/kernel/io_uring_disabled)
    case "$disabled" in
    '') note "this kernel has no switch (before 6.6): it is on if it is built in" ;;
    0) is_there && note "allowed" ;;
    *)
        if [ "$disabled" = 1 ]; then
            note "only for CAP_SYS_ADMIN and group $(value_of /proc/sys/kernel/io_uring_group)"
        else
            note "switched off"
        fi
        advise "For the broker's group alone: sysctl kernel.io_uring_group=GROUP kernel.io_uring_disabled=1. In a container, the runtime's seccomp profile must allow it too."
        change /proc/sys/kernel/io_uring_disabled 0
        ;;
    esac
}

# --- The network

item_interrupts() {
    local nic disk irq cpus list on distinct index cpu_list=()
    title="Interrupts"
    why="An interrupt takes its time from the shard on whose core it arrives. All of a card's on one core make that shard slow; spread, each costs little. irqbalance looks every ten seconds whether to move them, which shows in tails."
    risk="Others on this machine may have put them where they are on purpose. Queues of NVMe disks are the kernel's own and stay."
    on_request=1
    mapfile -t cpu_list < <(own_cpus)
    for nic in $(nics); do
        list=$(queue_interrupts "/sys/class/net/$nic")
        [ -n "$list" ] || continue
        is_there
        on=$(for irq in $list; do cpus_of_interrupt "$irq" && echo; done)
        note "$nic: $(wc -w <<<"$list") interrupts on CPUs $(sort -nu <<<"$on" | paste -sd,)"
        distinct=$(sort -u <<<"$on" | wc -l)
        if [ "$distinct" = 1 ] && [ "$(wc -w <<<"$list")" -gt 1 ] && [ ${#cpu_list[@]} -gt 1 ]; then
            verdict=advice
            index=0
            for irq in $list; do
                change "/proc/irq/$irq/smp_affinity_list" "${cpu_list[index % ${#cpu_list[@]}]}"
                index=$((index + 1))
            done
        fi
    done
    for disk in "${disks[@]}"; do
        list=$(queue_interrupts "/sys/block/$disk")
        [ -n "$list" ] || continue
        is_there
        cpus=$(for irq in $list; do cpus_of_interrupt "$irq" && echo; done | sort -nu | paste -sd,)
        note "$disk: $(wc -w <<<"$list") interrupts on CPUs $cpus"
    done
    if irqbalance_runs; then
        note "irqbalance runs"
        advise "Stop irqbalance first (systemctl stop irqbalance): it would move them again."
        changes=()
    fi
    [ -n "$found" ] || note "no card or disk whose interrupts can be seen"
}

item_nic_queues() {
    local nic queues shards transmit
    title="Queues of network cards"
    why="A card hands the packets of a connection to one queue, and a queue to one core. With fewer queues than shards some cores do the network's work for others."
    risk="Changing the number of queues takes the link down for a moment."
    shards=$(default_shards)
    for nic in $(nics); do
        queues=$(matching "/sys/class/net/$nic/queues/rx-*" | wc -l)
        transmit=$(matching "/sys/class/net/$nic/queues/tx-*" | wc -l)
        [ "$queues" -ge 1 ] || continue
        is_there
        note "$nic: $queues to receive, $transmit to send, $shards shards by default; packets spread by software (rps) to CPU mask $(value_of "/sys/class/net/$nic/queues/rx-0/rps_cpus")"
        if [ "$queues" -lt "$shards" ]; then
            advise "If the card has more (ethtool -l $nic): ethtool -L $nic combined $shards. If not, and its core is busy with packets: a mask of more CPUs in /sys/class/net/$nic/queues/rx-*/rps_cpus, which costs an interrupt between cores for each burst."
        fi
    done
    [ "$verdict" != absent ] || note "no network card: loopback has no queues"
}

item_congestion_control() {
    local file=/proc/sys/net/ipv4/tcp_congestion_control current choice
    title="TCP congestion control"
    why="bbr paces what is sent with a timer for every burst. Measured over loopback, answers from memory cost 219 instead of 135 ns of CPU per KiB with it. Between near machines it gains nothing."
    risk="bbr is better over long distances and lossy links: keep it where this machine sends there."
    on_request=1
    current=$(value_of $file)
    if [ -z "$current" ]; then
        note "unknown"
        return
    fi
    is_there
    note "$current"
    [[ $current == bbr* ]] || return 0
    advise "Right where clients are near. A listening socket keeps what was set when it was made, and so do its connections: start the broker after the change."
    for choice in cubic reno; do
        if offers /proc/sys/net/ipv4/tcp_available_congestion_control $choice; then
            change $file $choice
            break
        fi
    done
}

item_listen_backlog() {
    local file=/proc/sys/net/core/somaxconn limit
    title="Connections that wait to be accepted"
    why="The broker asks for $listen_backlog a port, since all clients come back at once after a restart. The kernel cuts that to this number; who finds no room tries again after a second."
    risk="None worth naming."
    limit=$(value_of $file)
    if [ -z "$limit" ]; then
        note "unknown"
        return
    fi
    is_there
    note "$limit"
    if [ "$limit" -lt $listen_backlog ]; then
        verdict=advice
        change $file 4096
    fi
}
