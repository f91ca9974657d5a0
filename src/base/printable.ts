/**
 * Text that others wrote (names, annotations, messages), made fit to be shown: it moves no cursor, sets no colour, ends no line, turns
 * no writing direction, and is no longer than a reader reads.
 * @module
 */

/** Control characters (C0, DEL, C1: Unicode Cc), format characters (Cf: direction, zero width), line separators, lone surrogates. */
const unprintable = /[\p{Cc}\p{Cf}\u2028\u2029]|\p{Cs}/gu

const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

const escaped = (character: string): string =>
  named[character] ?? [...Array(character.length).keys()].map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')

/** `text` with every character that a terminal would act on written as JSON writes it: \n, \u001b. */
export const printable = (text: string): string => text.replace(unprintable, escaped)

/** The same for text of several lines: newlines stay. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n')

/** `value` as JSON that is safe to show as it is. JSON.stringify leaves DEL, C1 and directions raw. */
export const printableJson = (value: unknown, indent = 0): string => printableLines(JSON.stringify(value, null, indent))

/** A JSON value with every text in it (keys too) made printable. */
export function printableValue<T>(value: T): T {
  return JSON.parse(printableJson(value), (_, one: unknown) => (typeof one === 'string' ? printable(one) : one)) as T
}

/** `value` as JSON for a message, cut after `most` characters: what was found, named but not repeated in full. */
export function quoted(value: unknown, most = 80): string {
  const text = JSON.stringify(value) ?? String(value)
  return printable(text.length > most ? `${text.slice(0, most)}… (${text.length} characters)` : text)
}
