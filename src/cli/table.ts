/** Text for people: aligned columns, colours where a terminal wants them. */

export type Paint = 'bold' | 'dim' | 'red' | 'yellow' | 'green'
const codes: Record<Paint, string> = { bold: '1', dim: '2', red: '31', yellow: '33', green: '32' }

/** True if `stream` is a terminal and NO_COLOR (no-color.org) does not forbid it. */
export const wantsColor = (stream: { isTTY?: boolean }, env: Readonly<Record<string, string | undefined>>): boolean =>
  stream.isTTY === true && !env.NO_COLOR

export const painter =
  (color: boolean) =>
  (paint: Paint, text: string): string =>
    color ? `\u001b[${codes[paint]}m${text}\u001b[0m` : text

/** Rows under a head, as kubectl prints them: three blanks between columns, none at the end. */
export function columns(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows]
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i]!.length)))
  return all
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('   ')
        .trimEnd(),
    )
    .join('\n')
}

/** Words in lines of at most `width` columns, every line after `indent`. */
export function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line].map((one) => indent + one).join('\n')
}
