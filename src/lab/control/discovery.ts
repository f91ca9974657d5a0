/**
 * What is served: /version, /api, /apis and the group lists, in the aggregated form that kubectl asks for and in the older one.
 * @module
 */
import { allVerbs, apiVersionOf, groupVersions, type Resource, resources, reviews, type SubKind } from '#lab/control/resources.ts'
import type { Tree } from '#lab/control/tree.ts'

/** Honest: the API is v1.33's, the server is not. */
export const gitVersion = 'v1.33.2+twill-lab'

export const version = (): Tree => ({
  major: '1',
  minor: '33',
  gitVersion,
  gitCommit: '',
  gitTreeState: '',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: `node ${process.version}`,
  compiler: 'v8',
  platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
})

const served = (group: string, version: string): readonly Resource[] =>
  [...resources, ...reviews].filter((r) => r.group === group && r.version === version)

const verbsOf = (r: Resource): readonly string[] => (reviews.includes(r) ? ['create'] : allVerbs)

const namedGroups = groupVersions.filter(({ group }) => group !== '')

const aggregated = (items: readonly Tree[]): Tree => ({
  kind: 'APIGroupDiscoveryList',
  apiVersion: 'apidiscovery.k8s.io/v2',
  metadata: {},
  items,
})

function aggregatedGroup({ group, version }: { group: string; version: string }): Tree {
  const kind = (k: { group: string; version: string; kind: string }) => ({ group: k.group, version: k.version, kind: k.kind })
  return {
    metadata: { ...(group && { name: group }), creationTimestamp: null },
    versions: [
      {
        version,
        freshness: 'Current',
        resources: served(group, version).map((r) => ({
          resource: r.plural,
          responseKind: kind(r),
          scope: r.namespaced ? 'Namespaced' : 'Cluster',
          singularResource: r.kind.toLowerCase(),
          verbs: verbsOf(r),
          ...(r.short.length > 0 && { shortNames: r.short }),
          ...(r.categories.length > 0 && { categories: r.categories }),
          subresources: Object.entries(r.sub).map(([subresource, k]) => ({ subresource, responseKind: kind(k), verbs: k.verbs })),
        })),
      },
    ],
  }
}

/** @param accept  The Accept header: it names the aggregated form if that is wanted. */
export function discovery(path: string, accept: string, address: string): { body: Tree; type: string } | undefined {
  const wantsAggregated = /as=APIGroupDiscoveryList/.test(accept) && /v=v2(?!beta)/.test(accept)
  const type = wantsAggregated ? 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList' : 'application/json'
  if (path === '/version') return { body: version(), type: 'application/json' }
  if (path === '/api') {
    if (wantsAggregated) return { body: aggregated([aggregatedGroup({ group: '', version: 'v1' })]), type }
    const serverAddressByClientCIDRs = [{ clientCIDR: '0.0.0.0/0', serverAddress: address }]
    return { body: { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs }, type }
  }
  if (path === '/apis') {
    if (wantsAggregated) return { body: aggregated(namedGroups.map(aggregatedGroup)), type }
    return { body: { kind: 'APIGroupList', apiVersion: 'v1', groups: namedGroups.map(({ group }) => groupOf(group)) }, type }
  }
  const named = /^\/apis\/([^/]+)$/.exec(path)
  if (named && namedGroups.some(({ group }) => group === named[1])) {
    return { body: { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(named[1]!) }, type: 'application/json' }
  }
  const versioned = /^\/(?:api|apis\/([^/]+))\/([^/]+)$/.exec(path)
  const found = versioned && groupVersions.find((gv) => gv.group === (versioned[1] ?? '') && gv.version === versioned[2])
  return found ? { body: resourceList(found.group, found.version), type: 'application/json' } : undefined
}

function groupOf(group: string): Tree {
  const versions = namedGroups.filter((gv) => gv.group === group).map((gv) => ({ groupVersion: apiVersionOf(gv), version: gv.version }))
  return { name: group, versions, preferredVersion: versions[0] }
}

function resourceList(group: string, version: string): Tree {
  const sub = (r: Resource, name: string, k: SubKind) => ({
    name: `${r.plural}/${name}`,
    singularName: '',
    namespaced: r.namespaced,
    ...(k.group !== group && { group: k.group, version: k.version }),
    kind: k.kind,
    verbs: k.verbs,
  })
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: apiVersionOf({ group, version }),
    resources: served(group, version).flatMap((r) => [
      {
        name: r.plural,
        singularName: r.kind.toLowerCase(),
        namespaced: r.namespaced,
        kind: r.kind,
        verbs: verbsOf(r),
        ...(r.short.length > 0 && { shortNames: r.short }),
        ...(r.categories.length > 0 && { categories: r.categories }),
      },
      ...Object.entries(r.sub).map(([name, k]) => sub(r, name, k)),
    ]),
  }
}
