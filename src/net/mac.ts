/** Ethernet addresses: lower-case colon text (8a:75:43:39:9c:7b) and 6 bytes. */

/** The 6 bytes of `text`, or undefined. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return undefined
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16))
}

export const formatMac = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(':')

/** A locally administered unicast address (IEEE 802: bit 1 of the first octet set, bit 0 clear). */
export function randomMac(random: () => number): string {
  const bytes = Uint8Array.from({ length: 6 }, () => Math.floor(random() * 256))
  bytes[0] = (bytes[0]! & 0xfe) | 0x02
  return formatMac(bytes)
}
