/** Durations as nft writes them: 1d2h, 3h, 1m30s. */

const units = { d: 86_400, h: 3600, m: 60, s: 1 } as const

export function formatDuration(seconds: number): string {
  let left = seconds
  return Object.entries(units)
    .map(([unit, size]) => {
      const count = Math.floor(left / size)
      left -= count * size
      return count === 0 ? '' : `${count}${unit}`
    })
    .join('')
}

/** The seconds of a time in nft's form; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(text)
  if (!parts || text === '') return undefined
  return Object.values(units).reduce((sum, size, i) => sum + Number(parts[i + 1] ?? 0) * size, 0)
}
