/**
 * Numbers of rtnetlink that more than one file needs. Source: linux/rtnetlink.h, linux/socket.h.
 * @module
 */
export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_BRIDGE = 7
export const AF_INET6 = 10

export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_SETLINK = 19
export const RTM_NEWADDR = 20
export const RTM_DELADDR = 21
export const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
export const RTM_DELROUTE = 25
export const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
export const RTM_GETNEIGH = 30
export const RTM_NEWRULE = 32
export const RTM_GETRULE = 34

/** Multicast groups (RTNLGRP_*): FDB changes of VXLAN devices come with the neighbors'. */
export const RTNLGRP = { link: 1, neighbor: 3, address4: 5, route4: 7, address6: 9, route6: 11 } as const

/** AF_INET or AF_INET6, by the length of an address in bytes. */
export const familyOfBytes = (bytes: Uint8Array): number => (bytes.length === 4 ? AF_INET : AF_INET6)
