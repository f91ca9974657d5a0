/**
 * The virtual machines: which distribution, and so which kernel. Each is a plain installation, made by mmdebstrap from the distribution's
 * own packages, so it also shows what a fresh machine lacks.
 * @module
 */

export interface Machine {
  /** As mmdebstrap knows the release. */
  readonly suite: string
  readonly what: string
  readonly kernelPackage: string
  readonly components: string
  /** Keys that its packages are signed with, where Debian's own are not enough. */
  readonly keyring?: { readonly path: string; readonly package: string }
}

export const machines: Readonly<Record<string, Machine>> = {
  '6.1': { suite: 'bookworm', what: 'Debian 12', kernelPackage: 'linux-image-amd64', components: 'main' },
  '5.15': {
    suite: 'jammy',
    what: 'Ubuntu 22.04',
    kernelPackage: 'linux-image-generic',
    components: 'main,universe',
    keyring: { path: '/usr/share/keyrings/ubuntu-archive-keyring.gpg', package: 'ubuntu-keyring' },
  },
}

/** What every machine has installed, beside its kernel: what boots it, and what tools/setup.sh would install for the lab and the kernel tests. */
export const packages = [
  ...['initramfs-tools', 'systemd-sysv', 'udev', 'dbus', 'kmod', 'ca-certificates', 'make'],
  ...['iproute2', 'nftables', 'tcpdump', 'iputils-ping', 'procps', 'openssl', 'curl', 'util-linux', 'bsdutils', 'gcc', 'musl-tools'],
  ...['iptables', 'conntrack', 'jq', 'libc6-dev', 'containernetworking-plugins'],
] as const

/** Files of the machine's own: two disks by label, and the unit that runs tools/vm/guest.sh and then turns the machine off. */
export const files: Readonly<Record<string, string>> = {
  'etc/fstab': 'LABEL=root / ext4 defaults 0 0\nLABEL=twill /twill ext4 defaults 0 0\n',
  'etc/hostname': 'twill-vm\n',
  'etc/systemd/system/twill-vm.service': `[Unit]
Description=Tests of Twill
RequiresMountsFor=/twill
SuccessAction=poweroff
FailureAction=poweroff

[Service]
Type=oneshot
Delegate=yes
EnvironmentFile=/twill/vm.env
ExecStart=/bin/sh /twill/tools/vm/guest.sh
StandardOutput=file:/dev/ttyS1
StandardError=inherit
`,
}
export const unit = 'twill-vm.service'
