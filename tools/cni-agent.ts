/**
 * The CNI half of the agent alone, for tests and benches: the real server on the real kernel, without a cluster and without
 * repair. Serves in the network namespace it is started in.
 *
 *     node tools/cni-agent.ts DIR [NETWORK]     DIR/run (socket, journal, queue), DIR/networks, DIR/flannel, DIR/subnet.env
 *
 * Prints `ready` when it serves. Ends when its stdin does.
 */
import { systemClock } from '#base/clock.ts'
import { openLog } from '#base/log.ts'
import { startCniServer } from '#cni/server.ts'
import { openLinux } from '#kernel/linux.ts'
import { lockFile } from '#kernel/lock.ts'
import type { Op } from '#model/kernel.ts'

const [dir, network] = process.argv.slice(2)
if (dir === undefined) throw new Error('usage: cni-agent.ts DIR [NETWORK]')
const kernel = await openLinux()
const server = await startCniServer({
  runDir: `${dir}/run`,
  kernel: {
    commit: (_owner, _wanted, ops: readonly Op[], courier) => kernel.apply(ops, courier),
    release: (_owner, ops: readonly Op[]) => kernel.apply(ops),
    deviceTo: async (ip) => (await kernel.routeTo(ip))?.dev,
    host: (netns) => kernel.host(netns),
  },
  takeLock: (path) => lockFile(path, systemClock),
  clock: systemClock,
  log: openLog('cni-agent', process.env.CNI_AGENT_LOG === 'info' ? 'info' : 'error'),
  flannel: { subnetFile: `${dir}/subnet.env`, dataDir: `${dir}/flannel` },
  networksDir: `${dir}/networks`,
  ...(network !== undefined && { network }),
  resultsDir: `${dir}/results`,
  network: 'cbr0',
})
process.stdout.write('ready\n')
process.stdin.resume().once('end', () => {
  void server
    .close()
    .then(() => kernel.close())
    .then(() => process.exit(0))
})
