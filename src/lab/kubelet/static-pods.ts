/**
 * Pods from manifest files: run by the kubelet alone, shown in the API as a mirror that nobody but the kubelet can end.
 * @module
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import type { Pod } from '#lab/kubelet/types.ts'

export const configHash = 'kubernetes.io/config.hash'
export const configMirror = 'kubernetes.io/config.mirror'

/** The pod of one manifest as this node runs it: named after the node, its uid the hash of what it says (kubelet: applyDefaults). */
export function staticPod(text: string, node: string): Pod {
  const pod = parse(text) as Pod
  if (pod?.kind !== 'Pod' || !pod.metadata?.name || !Array.isArray(pod.spec?.containers))
    throw new Error('it is no Pod with name and containers')
  const hash = createHash('md5').update(`${node}\n${text}`).digest('hex')
  const annotations = { ...pod.metadata.annotations, [configHash]: hash, 'kubernetes.io/config.source': 'file' }
  return {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: {
      ...pod.metadata,
      name: `${pod.metadata.name}-${node}`,
      namespace: pod.metadata.namespace ?? 'default',
      uid: hash,
      annotations,
    },
    spec: { ...pod.spec, nodeName: node, tolerations: [{ operator: 'Exists', effect: 'NoExecute' }] },
  }
}

/** The mirror to create for a static pod. */
export function mirrorOf(pod: Pod): Pod {
  const { uid, ...metadata } = pod.metadata
  return { ...pod, metadata: { ...metadata, annotations: { ...metadata.annotations, [configMirror]: uid! } } }
}

/** Calls `onChange` with all static pods now and after each change of the directory. A broken file is left out; `onTrouble` hears why. */
export function watchManifests(
  dir: string,
  node: string,
  onChange: (pods: Pod[]) => void,
  onTrouble: (file: string, error: unknown) => void,
): () => void {
  const read = (): void => {
    const pods: Pod[] = []
    for (const file of existsSync(dir) ? readdirSync(dir).toSorted() : []) {
      if (file.startsWith('.') || !/\.(ya?ml|json)$/.test(file)) continue
      try {
        pods.push(staticPod(readFileSync(join(dir, file), 'utf8'), node))
      } catch (error) {
        onTrouble(file, error)
      }
    }
    onChange(pods)
  }
  mkdirSync(dir, { recursive: true })
  const watcher = watch(dir, read)
  read()
  return () => watcher.close()
}
