/**
 * The lab's control plane in one process: store, API server, controllers, scheduler.
 *
 * It stands in for etcd, kube-apiserver, kube-controller-manager and kube-scheduler. It is a part of the lab and not of the product:
 * the product sees nothing of it but its API.
 * @module
 */
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import type { Server } from 'node:https'
import { join } from 'node:path'
import { openLog } from '#base/log.ts'
import { admission } from '#lab/control/admit.ts'
import { bootstrap } from '#lab/control/bootstrap.ts'
import { openJournal } from '#lab/control/journal.ts'
import { furnishNamespaces } from '#lab/control/namespaces.ts'
import { apiServer } from '#lab/control/server.ts'
import { MemoryStore } from '#lab/control/store.ts'
import { TokenIssuer } from '#lab/control/tokens.ts'
import { startControllers } from '#lab/controllers/main.ts'
import { addToIp, formatIp, maskCidr, parseCidr } from '#net/ip.ts'

export interface ControlPlaneOptions {
  /** Holds pki/ (see makePki) and the journal. */
  readonly stateDir: string
  readonly nodes: readonly { readonly name: string; readonly ip: string }[]
  readonly controlPlaneNode: string
  /** A listening TCP socket that was opened elsewhere (in the host's network namespace) and inherited. */
  readonly listenFd?: number
  /** Also listened on, on every address of this namespace; 0 takes a free one. */
  readonly port: number
  readonly serviceCidr: string
  readonly podCidr: string
  readonly clusterDns: string
}

export interface ControlPlane {
  readonly store: MemoryStore
  /** What `port` became. */
  readonly port: number
  stop(): Promise<void>
}

export async function runControlPlane(o: ControlPlaneOptions): Promise<ControlPlane> {
  const pki = join(o.stateDir, 'pki')
  mkdirSync(o.stateDir, { recursive: true, mode: 0o700 })
  const store: MemoryStore = new MemoryStore({ admit: admission({ serviceCidr: o.serviceCidr, store: () => store }) })
  const journal = openJournal(store, o.stateDir)
  const apiServerIp = o.nodes.find(({ name }) => name === o.controlPlaneNode)?.ip ?? '127.0.0.1'
  const serviceIp = formatIp(addToIp(maskCidr(parseCidr(o.serviceCidr)!).bytes, 1)!)
  bootstrap(store, { apiServerIp, port: o.port || 6443, serviceIp })
  const leaveNamespaces = furnishNamespaces(store, readFileSync(join(pki, 'ca.crt'), 'utf8'))

  const tokens = new TokenIssuer(readFileSync(join(pki, 'sa.key'), 'utf8'))
  const listen = async (on: { fd: number } | { port: number; host: string }): Promise<Server> => {
    const server = apiServer({ store, tokens, pki, address: `${apiServerIp}:${o.port}` })
    server.listen(on)
    await once(server, 'listening')
    return server
  }
  const controllers = startControllers(store, o, openLog('control-plane'))
  const servers = [await listen({ port: o.port, host: '0.0.0.0' })]
  if (o.listenFd !== undefined) servers.push(await listen({ fd: o.listenFd }))
  return {
    store,
    port: (servers[0]!.address() as { port: number }).port,
    async stop() {
      controllers.stop()
      leaveNamespaces()
      for (const server of servers) {
        server.close()
        server.closeAllConnections()
      }
      journal.close()
    },
  }
}
