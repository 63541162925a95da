#!/bin/sh
# Runs a program in the lab's control groups: a child group of the current one, in every hierarchy. All
# processes that it starts can be found there.
# Usage: group LAB NAME PROGRAM…
set -eu
lab=$1 name=$2
shift 2

while IFS=: read -r _ controllers path; do
    case "$controllers" in
    '') mount=/sys/fs/cgroup/unified ;;
    name=*) mount=/sys/fs/cgroup/${controllers#name=} ;;
    *) mount=/sys/fs/cgroup/$controllers ;;
    esac
    if [ -z "$controllers" ] && [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        mount=/sys/fs/cgroup
    fi
    [ -d "$mount" ] || continue
    group=$mount${path%/}/k8sha-$lab
    for step in "$group" "$group/$name"; do
        mkdir -p "$step"
        for file in cpuset.cpus cpuset.mems; do
            if [ -e "$step/$file" ] && [ -z "$(cat "$step/$file")" ]; then
                cat "$(dirname "$step")/$file" > "$step/$file"
            fi
        done
    done
    echo $$ > "$group/$name/cgroup.procs"
done < /proc/self/cgroup
exec "$@"
