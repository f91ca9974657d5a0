#!/bin/sh
# Becomes a program in the lab's cgroups: join.sh PROCS_FILE COMMAND...
# PROCS_FILE names the cgroup.procs files to join, one a line. Joined first: whatever the lab starts is found, and ended, by its cgroup.
set -eu
while read -r procs; do echo 0 > "$procs"; done < "$1"
shift
exec "$@"
