/** What is wrong with the files that the container runtime and the kubelet read on this node. */
import type { Diagnosis } from '#model/doctor.ts'
import { diagnosis, word } from '#plan/doctor/diagnosis.ts'
import type { Facts } from '#plan/doctor/facts.ts'
import type { Place } from '#plan/doctor/place.ts'
import { leakedReservations, short } from '#plan/ipam.ts'

/** Delegates that the flannel plugin calls, beside what the conflist names. */
const DELEGATES = ['bridge', 'host-local', 'loopback']
/** So many addresses are named in one line. */
const SHOWN = 4

const isOurs = (conf: Facts['files']['confs'][number]): boolean => conf.plugins.includes('flannel')

export function conflists({ files: { confDir, confs }, agent }: Facts, { node }: Place): Diagnosis[] {
  const ours = confs.findIndex(isOurs)
  if (ours < 0) {
    return [
      diagnosis('missing-conflist', {
        subject: `node ${node}`,
        where: confDir,
        text: `${confDir} holds no configuration of the flannel plugin${confs.length > 0 ? `, only ${confs.map(({ name }) => name).join(', ')}` : ''}`,
        remedy:
          agent.state === 'answers'
            ? 'The agent writes it when it can serve pods: `twill status` says what it waits for. If it is serving, restart it.'
            : 'The agent writes it when it can serve pods: start the agent.',
      }),
    ]
  }
  return confs.slice(0, ours).map(({ name, network }) =>
    diagnosis('stale-conflist', {
      subject: `node ${node}`,
      where: `${confDir}/${name}`,
      text: `${name} (network "${network}") sorts before ${confs[ours]!.name}: the runtime gives new pods to it`,
      remedy: 'Move it aside. Whatever wrote it may write it again: uninstall that pod network.',
      fix: [`mv ${word(`${confDir}/${name}`)} ${word(`${confDir}/${name}.saved-by-twill`)}`],
    }),
  )
}

export function missingPlugins({ files: { confs, plugins, binDir } }: Facts, { node }: Place): Diagnosis[] {
  const conf = confs.find(isOurs)
  const missing = [...new Set([...(conf?.plugins ?? []), ...DELEGATES])].filter((name) => !plugins.includes(name))
  if (missing.length === 0) return []
  return [
    diagnosis('missing-plugin', {
      subject: `node ${node}`,
      where: binDir,
      text: `${binDir} has no ${missing.join(', ')}`,
      remedy: 'Put the shim there again. Plugins that are not ours come with the package containernetworking-plugins.',
      fix: ['twill install-cni'],
    }),
  ]
}

export function leakedAddresses({ files: { addresses } }: Facts, { node }: Place): Diagnosis[] {
  const leaked = leakedReservations(addresses)
  if (leaked.length === 0) return []
  const shown = leaked.slice(0, SHOWN).map(({ address, containerId }) => `${address} (container ${short(containerId) || 'none'})`)
  const rest = leaked.length > SHOWN ? ` and ${leaked.length - SHOWN} more` : ''
  const dir = leaked[0]!.path.slice(0, leaked[0]!.path.lastIndexOf('/'))
  return [
    diagnosis('leaked-address', {
      severity: 'warning',
      subject: `node ${node}`,
      where: dir,
      text: `${leaked.length} of ${addresses.reservations.length} reserved addresses belong to no container here: ${shown.join(', ')}${rest}`,
      remedy: 'Free them.',
      fix: ['twill ipam free --yes'],
    }),
  ]
}
