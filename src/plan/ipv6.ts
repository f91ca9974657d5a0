/** Whether a device of an MTU (0: the kernel's own choice) has IPv6. The kernel takes it away below 1280 bytes (RFC 8200, 5), and its sysctls with it. */
export const carriesIpv6 = (mtu: number): boolean => mtu === 0 || mtu >= 1280
