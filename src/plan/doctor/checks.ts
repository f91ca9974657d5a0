/** Facts in, findings out: every check of `twill doctor`. */
import type { Diagnosis } from '#model/doctor.ts'
import { agentDown, agentsWord, versionSkew } from '#plan/doctor/agent.ts'
import { addresses, apiTrouble, duplicatePublicIps, otherCnis, podCidrs, sharedNodeIps, unenforcedPolicies } from '#plan/doctor/cluster.ts'
import type { Facts } from '#plan/doctor/facts.ts'
import { conflists, leakedAddresses, missingPlugins } from '#plan/doctor/files.ts'
import { bridgeUnseen, forwardingOff, missingRoutes, mtuMismatch, staleVteps, strictReversePath, uplinkDown } from '#plan/doctor/kernel.ts'
import { type Place, placeOf } from '#plan/doctor/place.ts'
import { blackHoles, brokenChecksums, forwardDrops, silentPeers } from '#plan/doctor/ways.ts'

export type Check = (facts: Facts, place: Place) => readonly Diagnosis[]

/** In the order of causes: what makes other things fail comes first. */
const checks: readonly Check[] = [
  apiTrouble,
  agentDown,
  uplinkDown,
  duplicatePublicIps,
  addresses,
  sharedNodeIps,
  podCidrs,
  otherCnis,
  conflists,
  missingPlugins,
  forwardingOff,
  bridgeUnseen,
  strictReversePath,
  mtuMismatch,
  missingRoutes,
  staleVteps,
  forwardDrops,
  silentPeers,
  blackHoles,
  brokenChecksums,
  versionSkew,
  leakedAddresses,
  unenforcedPolicies,
]

/** All that is wrong: errors first, else in the order of the checks. */
export function examine(facts: Facts): Diagnosis[] {
  const place = placeOf(facts)
  const own = checks.flatMap((check) => check(facts, place))
  const all = [...own, ...agentsWord(facts, own)]
  return [...all.filter(({ severity }) => severity === 'error'), ...all.filter(({ severity }) => severity === 'warning')]
}
