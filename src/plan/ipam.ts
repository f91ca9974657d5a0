/** Addresses on file held against the pods that are there. @module */
import type { AddressBooks, AddressFault, Reservation } from '#model/ipam.ts'

/** What is wrong with the addresses of our networks, in the order of the files, then of the pods. */
export function auditAddresses({ reservations, pods }: AddressBooks): AddressFault[] {
  return [...reservations.filter(({ ours }) => ours).flatMap((one) => judgeFile(one, pods)), ...judgePods({ reservations, pods })]
}

/** What is reserved for no one who is there, and can be freed. */
export const leakedReservations = (books: AddressBooks): Reservation[] => {
  const paths = new Set(auditAddresses(books).map(({ path }) => path))
  return books.reservations.filter(({ path }) => paths.has(path))
}

function judgeFile({ network, address, path, containerId, live }: Reservation, pods: AddressBooks['pods']): AddressFault[] {
  if (live) return []
  if (pods.some((pod) => pod.network === network && pod.address === address)) return [] // said of the pod
  const free = { network, address, path, remedy: 'Free it: twill ipam free.' }
  return containerId === ''
    ? [{ id: 'torn-file', ...free, text: `the file of ${address} names no container` }]
    : [{ id: 'address-without-pod', ...free, text: `${address} is reserved for container ${short(containerId)}, which is not there` }]
}

function judgePods({ reservations, pods }: AddressBooks): AddressFault[] {
  return pods.flatMap((pod, i) => {
    const { network, address, containerId } = pod
    const place = { network, address }
    const faults: AddressFault[] = []
    const twin = pods.slice(0, i).find((one) => one.network === network && one.address === address)
    if (twin) {
      faults.push({
        id: 'two-owners',
        ...place,
        text: `${who(twin)} and ${who(pod)} both have ${address}`,
        remedy: 'Delete one of the two pods: its successor gets an address of its own.',
      })
    }
    const owner = reservations.find((one) => one.network === network && one.address === address)
    if (owner === undefined || owner.containerId === '') {
      faults.push({
        id: 'pod-without-address',
        ...place,
        text: `${who(pod)} has ${address}, which is not reserved for it: another pod may get it`,
        remedy: 'Restart the agent: it reserves it again.',
      })
    } else if (owner.containerId !== containerId && !twin) {
      faults.push({
        id: 'two-owners',
        ...place,
        text: `${who(pod)} has ${address}, which is reserved for container ${short(owner.containerId)}`,
        remedy: 'Delete the pod: its successor gets an address of its own.',
      })
    }
    return faults
  })
}

export const short = (containerId: string): string => containerId.slice(0, 12)
const who = ({ podName, containerId }: AddressBooks['pods'][number]): string =>
  podName === undefined ? `container ${short(containerId)}` : `pod ${podName}`
