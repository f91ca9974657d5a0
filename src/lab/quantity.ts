/**
 * Kubernetes quantities: a number with a suffix, decimal (n u m k M G T P E), binary (Ki Mi Gi Ti Pi Ei) or exponent (e3, E3).
 * Source: apimachinery/pkg/api/resource.
 * @module
 */
const factors: Readonly<Record<string, number>> = {
  '': 1,
  ...{ n: 1e-9, u: 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 },
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60 },
}

/** The number that a quantity means: 100m is 0.1, 70Mi is 73400320. Undefined if it is none. */
export function parseQuantity(text: string | number): number | undefined {
  const [, digits, exponent, suffix] = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([a-zA-Z]{0,2}))$/.exec(String(text)) ?? []
  const factor = factors[suffix ?? '']
  return digits === undefined || factor === undefined ? undefined : Number(`${digits}${exponent ?? ''}`) * factor
}

/** The same for what the API has checked already; 0 where it is none. */
export const quantity = (text: string | number | undefined): number => (text === undefined ? 0 : (parseQuantity(text) ?? 0))
