/**
 * The controllers of the embedded control plane, over its store: what kube-controller-manager and kube-scheduler do for the story
 * that the lab tells, and no more.
 * @module
 */
import { type Clock, systemClock } from '#base/clock.ts'
import type { Log } from '#base/log.ts'
import type { Store } from '#lab/control/store.ts'
import { daemonSets } from '#lab/controllers/daemonsets.ts'
import { deployments } from '#lab/controllers/deployments.ts'
import { disruption } from '#lab/controllers/disruption.ts'
import { endpoints } from '#lab/controllers/endpoints.ts'
import { recorder } from '#lab/controllers/events.ts'
import { garbageCollector } from '#lab/controllers/garbage.ts'
import { type Controller, type Loop, runLoop } from '#lab/controllers/loop.ts'
import { namespaceEnd } from '#lab/controllers/namespaces.ts'
import { nodeIpam, nodeLifecycle, taintEviction } from '#lab/controllers/nodes.ts'
import { replicaSets } from '#lab/controllers/replicasets.ts'
import { scheduler } from '#lab/controllers/scheduler.ts'

/** What of the control plane's options concerns controllers. */
export interface ControllerOptions {
  /** In the order in which they get their pod CIDRs. */
  readonly nodes: readonly { readonly name: string }[]
  readonly podCidr: string
}

/** Starts all controllers on `store`; they bring what is there to order at once, and follow every change. */
export function startControllers(store: Store, o: ControllerOptions, log: Log, clock: Clock = systemClock): Loop {
  return runLoop(store, controllersOf(store, o, clock), { clock, log: log.child({ part: 'controllers' }) })
}

/** In the order of their turns: nodes are tainted before the scheduler looks at them. */
export function controllersOf(store: Store, o: ControllerOptions, clock: Clock): Controller[] {
  const parts = (component: string) => ({ store, clock, events: recorder(store, component, clock) })
  const nodes = { ...parts('node-controller'), podCidr: o.podCidr, expected: o.nodes.map((node) => node.name) }
  return [
    nodeIpam(nodes),
    nodeLifecycle(nodes),
    daemonSets(parts('daemonset-controller')),
    deployments(parts('deployment-controller')),
    replicaSets(parts('replicaset-controller')),
    scheduler(parts('default-scheduler')),
    endpoints({ store }),
    disruption({ store, clock }),
    taintEviction({ ...nodes, ...parts('taint-eviction-controller') }),
    garbageCollector({ store }),
    namespaceEnd({ store }),
  ]
}
