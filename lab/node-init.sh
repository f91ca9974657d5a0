#!/bin/sh
# pid 1 of a lab node while it is being made: gives it a root file system, /proc, /sys, /dev and its directories, then becomes `pause`.
# Called by src/lab/nodes/up.ts inside fresh mount, uts, ipc and pid namespaces and the node's network namespace:
#   node-init.sh NAME NODE_DIR PAUSE
# NODE_DIR holds: dirs and cgroups (what to mount, one a line), files/ (what to copy over the root), root/ (empty: the mount point).
# Says on fd 3 "pid N" (its pid as the machine counts) at once, and "ready" at the end.
set -eu
name=$1 dir=$2 pause=$3

read -r pid rest < /proc/self/stat # the machine's /proc still: the new one would say 1
echo "pid $pid" >&3
echo "$name" > /proc/sys/kernel/hostname

# The root: the machine's own, read through an overlay. What the node writes lands in a tmpfs that lives and dies with it.
# (An upper directory on the file system of the lower one is refused: ELOOP.)
mount --make-rprivate /
mount --bind "$dir" "$dir"
mount -o remount,bind,exec,suid,dev "$dir" # /run is noexec on Debian, and CNI plugins lie below it
mount -t tmpfs -o mode=755 tmpfs "$dir/root"
mkdir "$dir/root/upper" "$dir/root/work" "$dir/root/merged"
root=$dir/root/merged
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/root/upper,workdir=$dir/root/work" "$root"

mount -t proc proc "$root/proc"
# sysfs shows the links of the network namespace it is mounted in; the cgroup trees are carried over.
mount -t sysfs sysfs "$root/sys"
if [ "$(wc -l < "$dir/cgroups")" -gt 1 ]; then mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"; fi
while IFS='	' read -r target; do
  if [ "$target" != /sys/fs/cgroup ]; then mkdir -p "$root$target"; fi
  mount --bind "$target" "$root$target"
done < "$dir/cgroups"
mount -t bpf bpf "$root/sys/fs/bpf" 2> /dev/null || echo "no bpffs: eBPF pins are not to be had in this node"

mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
(cd /dev && cp -a null zero full random urandom tty kmsg "$root/dev/" 2> /dev/null) || true
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue"
if [ -e /dev/net/tun ]; then cp -a /dev/net/tun "$root/dev/net/"; fi
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=700 tmpfs "$root/root" # the machine's own keys and settings are none of the node's
mkdir -p "$root/run/lock" "$root/run/netns" "$root/run/flannel"

# Directories that outlive the node's processes, and what else it sees of the machine (source, target, options; tab between).
while IFS='	' read -r source target options; do
  mkdir -p "$root$target"
  mount --bind "$source" "$root$target"
  if [ -n "$options" ]; then mount -o "remount,bind,$options" "$root$target"; fi
done < "$dir/dirs"

# Files of its own: /etc/hosts and the like, and what lies ready for every node (systemctl, kubectl).
# Removed first: on a machine with systemd, resolv.conf is a link that would lead into /run.
(cd "$dir/files" && find . -type f) | while read -r file; do rm -f "$root/$file"; done
cp -a "$dir/files/." "$root/"

# A real kubelet writes machine-wide sysctls. It meets files that hold what it wants; the machine's own stay as they are.
mkdir -p "$root/run/sysctl"
while read -r key value; do
  echo "$value" > "$root/run/sysctl/${key##*/}"
  mount --bind "$root/run/sysctl/${key##*/}" "$root/proc/sys/$key"
done << 'SYSCTLS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SYSCTLS

mkdir "$root/run/old-root"
cd "$root"
pivot_root . run/old-root
cd /
umount -l /run/old-root
rmdir /run/old-root
mount --make-rshared / # HostToContainer and Bidirectional mounts of pods

echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables 2> /dev/null || true
echo ready >&3
exec "$pause" 3>&-
