/** Runs a check for many seeds and tells of all that broke, each by the seed that brings it back: POISON_SEED=n tries that one alone. */
import assert from 'node:assert/strict'

const TOLD = 12

/** @param how  What seed `n` makes, for people. */
export function every(count: number, check: (seed: number) => void, how: (seed: number) => string): void {
  const broken: string[] = []
  for (const seed of seedsOf(count)) {
    try {
      check(seed)
    } catch (error) {
      broken.push(`POISON_SEED=${seed} (${how(seed)}): ${(error as Error).message.slice(0, 900)}`)
    }
  }
  assert.equal(broken.length, 0, `${broken.length} of ${count} broke\n${broken.slice(0, TOLD).join('\n')}`)
}

export const seedsOf = (count: number): readonly number[] =>
  process.env.POISON_SEED === undefined ? Array.from({ length: count }, (_, i) => i) : [Number(process.env.POISON_SEED)]
