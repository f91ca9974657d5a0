import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { lines, tooLong } from '#cluster/lines.ts'

const collect = async (chunks: Buffer[], max: number): Promise<(string | typeof tooLong)[]> => {
  const source = (async function* () {
    yield* chunks
  })()
  return Array.fromAsync(lines(source, max))
}

test('however the stream is cut, the lines are the same; long ones are replaced, a half one at the end is dropped', async () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'é', '{', '\n'), maxLength: 60 })
  await fc.assert(
    fc.asyncProperty(text, fc.array(fc.nat(80)), async (all, cuts) => {
      const bytes = Buffer.from(all)
      const at = [0, ...cuts.filter((c) => c < bytes.length).toSorted((a, b) => a - b), bytes.length]
      const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end))
      const want = all
        .split('\n')
        .slice(0, -1)
        .map((line) => (Buffer.byteLength(line) > 8 ? tooLong : line))
      assert.deepEqual(await collect(chunks, 8), want)
    }),
  )
})
