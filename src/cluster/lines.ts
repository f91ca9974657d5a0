/** Splits a byte stream into lines with bounded memory: a watch may run for an hour and send one line an event. */

/** What is yielded in place of a line that is longer than allowed: it was read to its end and thrown away. */
export const tooLong = Symbol('a line that is too long')

/** Yields each line that ends in \n, without it. A last line without \n is part of a broken connection and is dropped.
 * @param maxBytes  Longest line that is kept. */
export async function* lines(stream: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<string | typeof tooLong> {
  let parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      if (bytes + end - start > maxBytes) yield tooLong
      else if (parts.length === 0) yield chunk.toString('utf8', start, end)
      else yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString('utf8')
      parts = []
      bytes = 0
      start = end + 1
    }
    if (start === chunk.length) continue
    bytes += chunk.length - start
    if (bytes > maxBytes) parts = []
    else parts.push(start === 0 ? chunk : chunk.subarray(start))
  }
}
