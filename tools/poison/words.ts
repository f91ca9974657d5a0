/** Values that nobody should send: texts, numbers and shapes that have broken programs before. */
import type { Chance } from '../simulate/clock.ts'

const ESC = '\u001b'

/** Texts that act on terminals, end lines, look like code, or are very long. */
export const texts = (chance: Chance): string =>
  chance.one([
    `a"b'c\\d\`$(reboot)`,
    'two\nlines\r\nand\ttabs',
    `${ESC}[2J${ESC}[31mred${ESC}]0;title\u0007`,
    '\u009b31m\u0085next\u007f',
    'left\u202etfel\u2066\u200b',
    'nul\u0000nul',
    'half \ud800 a character',
    '__proto__',
    'constructor',
    'toString',
    '../../../etc/passwd',
    `%s%n{{.}}\${x}`,
    '',
    ' ',
    'x'.repeat(1 + chance.below(1 << 18)),
    '日本'.repeat(1 + chance.below(100)),
  ])

/** A text that is a name by no rule, and yet unique: `n` is in it. */
export const names = (chance: Chance, n: number): string =>
  chance.one([
    `poison-${n}`,
    `poison-${n}`,
    `__proto__${n}`,
    `p"'${n}\n${ESC}[1m`,
    `${n}\u009b2J\u202e`,
    `p-${n}-${'x'.repeat(10_000)}`,
    `../${n}`,
  ])

/** JSON `levels` deep. */
export const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)

/** JSON values of every type, none of them what a field wants that has a shape of its own. */
export const shapes = (chance: Chance): unknown =>
  chance.one<unknown>([
    -1,
    0,
    1.5,
    65_536,
    1e9,
    1e308,
    true,
    'NaN',
    '-1',
    texts(chance),
    [],
    [[]],
    [null],
    {},
    { a: {} },
    JSON.parse('{"__proto__":{"name":"x"},"constructor":{"prototype":1}}'),
    JSON.parse(nested(1000)),
    Array.from({ length: 2000 }, (_, i) => i),
  ])

/** Resource versions as no API server counts. */
export const versions = (chance: Chance): unknown =>
  chance.one<unknown>(['-1', '1.5', '9'.repeat(400), 'NaN', '', ' 7', '0x10', 7, null, {}])

/** Addresses of no single host elsewhere. `own` and `others` are taken. */
export const addresses = (chance: Chance, own: string, others: readonly string[]): string =>
  chance.one([
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '0.1.2.3',
    '224.0.0.1',
    '239.1.1.1',
    '255.255.255.255',
    '240.0.0.1',
    own,
    chance.one(others),
  ])
