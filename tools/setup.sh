#!/bin/sh
# Installs what a fresh Debian 12 machine lacks, and nothing that is there. Run by make; safe to run again.
#   tools/setup.sh lab    what `make lab` needs
#   tools/setup.sh test   that, and the peers and compilers that the tests compare with
#   tools/setup.sh vm     what `make lab` needs, and what makes and runs the virtual machine of `make test-vm`
set -eu
cd "$(dirname "$0")/.."
tier=${1:-lab}

say() { printf 'setup: %s\n' "$*"; }

# Two labs may be started at once from one clone: one installs and builds, the other waits, then finds all there.
mkdir -p dist
exec 9> dist/.setup.lock
if command -v flock >/dev/null 2>&1; then
  flock -n 9 || { say 'another make is setting this clone up: waiting for it'; flock 9; }
fi

# One line a thing: the command (or file) that proves it is there, then the Debian package that brings it.
lab_needs='ip iproute2
nft nftables
tcpdump tcpdump
ping iputils-ping
ps procps
openssl openssl
curl curl
nsenter util-linux
script bsdutils
gcc gcc
musl-gcc musl-tools'
test_needs='iptables iptables
conntrack conntrack
jq jq
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
qemu-aarch64-static qemu-user-static
/usr/lib/cni/bridge containernetworking-plugins'

vm_needs='qemu-system-x86_64 qemu-system-x86
mmdebstrap mmdebstrap
mke2fs e2fsprogs'

needs=$lab_needs
[ "$tier" = test ] && needs="$lab_needs
$test_needs"
[ "$tier" = vm ] && needs="$lab_needs
$vm_needs"
missing=$(printf '%s\n' "$needs" | while read -r proof package; do
  command -v "$proof" >/dev/null 2>&1 || [ -e "/usr/sbin/$proof" ] || [ -e "/sbin/$proof" ] || printf '%s ' "$package"
done)
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ]; then
    say "these Debian packages are missing and only root can install them: $missing"
    exit 2
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "this machine has no apt-get; install what these Debian packages bring by your own means, then run again: $missing"
    exit 2
  fi
  say "installing Debian packages: $missing"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # a list of package names
  apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
fi

# The lock file decides what is installed; its copy inside node_modules says what already is.
if ! cmp -s package-lock.json node_modules/.twill-lock; then
  command -v npm >/dev/null 2>&1 || { say 'npm is missing: install Node 20 or later with npm, then run again'; exit 2; }
  say 'installing npm packages (npm ci --ignore-scripts; Node 26 among them)'
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
  cp package-lock.json node_modules/.twill-lock
fi
node=$(echo node_modules/node-linux-*/bin/node)
[ -x "$node" ] || { say "no Node 26 for this machine ($(uname -m)): npm brings it for x86_64 and aarch64"; exit 2; }
make -s -C shim
"$node" tools/build.ts
