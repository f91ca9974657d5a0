/** net-conf.json with every key wrong in every way: refused with all problems at once, in few words; or read, and then it is sound. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TwillError } from '#base/errors.ts'
import { parseNetConf } from '#config/net-conf.ts'
import { contains, parseCidr } from '#net/ip.ts'
import { backends } from '#plan/backends/all.ts'
import { Chance } from '../simulate/clock.ts'
import { every } from './seeds.ts'
import { nested, shapes, texts } from './words.ts'

/** Keys with a type of their own, and a value that is wrong for each. */
const top = [
  'Network',
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'SubnetLen',
  'SubnetMin',
  'SubnetMax',
  'IPv6Network',
  'IPv6SubnetLen',
  'Backend',
]
const ofBackend = ['Type', 'VNI', 'Port', 'MTU', 'GBP', 'Learning', 'DirectRouting']
const wrongFor = (key: string): unknown => (/^(SubnetLen|IPv6SubnetLen|VNI|Port|MTU)$/.test(key) ? -1 : 7.5)

test('every key wrong at once: every one is told of', () => {
  const text = JSON.stringify({
    ...Object.fromEntries(top.filter((key) => key !== 'Backend').map((key) => [key, wrongFor(key)])),
    Backend: { ...Object.fromEntries(ofBackend.map((key) => [key, wrongFor(key)])), Type: 'vxlan' },
  })
  assert.throws(
    () => parseNetConf(text, 'net-conf.json', backends),
    (error: TwillError) => {
      const problems = error.details.problems as string[]
      const wrong = [...top.filter((key) => key !== 'Backend'), ...ofBackend.filter((key) => key !== 'Type').map((key) => `Backend.${key}`)]
      for (const key of wrong)
        assert.ok(
          problems.some((problem) => problem.startsWith(`${key}: found`)),
          `${key} in ${problems.join('\n')}`,
        )
      return true
    },
  )
})

test('4,000 files', () => {
  const conf = (seed: number): string => {
    const chance = new Chance(seed)
    const file: Record<string, unknown> = { Network: '10.244.0.0/16', Backend: { Type: chance.one(['vxlan', 'host-gw']) } }
    if (chance.yes(0.1)) return chance.one([texts(chance), nested(100_000), '', 'null', '7', '[]', '{"Network":', '\ufeff{}'])
    for (let n = chance.below(4); n >= 0; n--) {
      const inBackend = chance.yes(0.5) && typeof file.Backend === 'object' && file.Backend !== null && !Array.isArray(file.Backend)
      const key = chance.one(inBackend ? ofBackend : [...top, '__proto__', 'constructor'])
      const value =
        key === 'Network' && chance.yes(0.7)
          ? chance.one(['0.0.0.0/0', '128.0.0.0/1', '127.0.0.0/8', '224.0.0.0/4', '10.0.0.0/33', 'fd00::/48'])
          : shapes(chance)
      Object.defineProperty(inBackend ? file.Backend : file, key, { value, enumerable: true, configurable: true, writable: true })
    }
    const text = JSON.stringify(file)
    return chance.yes(0.2) ? text.replace('{', `{"NETWORK":${JSON.stringify(shapes(chance))},`) : text
  }
  every(
    4000,
    (seed) => {
      try {
        const { network } = parseNetConf(conf(seed), 'net-conf.json', backends)
        for (const bad of ['127.0.0.1/32', '224.0.0.1/32', '0.0.0.1/32'])
          assert.ok(network === undefined || !contains(parseCidr(network)!, parseCidr(bad)!), `Network ${network}`)
      } catch (error) {
        if (!(error instanceof TwillError)) throw error
        assert.match(error.code, /^ERR_(NET_CONF|BACKEND_TO_COME|FAMILY_TO_COME)$/)
        assert.ok(error.message.length < 4000, `${error.message.length} letters`)
        assert.doesNotMatch(error.message.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Cs}]/u)
      }
    },
    (seed) => conf(seed).slice(0, 100),
  )
})
