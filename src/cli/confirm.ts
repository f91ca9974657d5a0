/** Asks a person; whatever is no yes is a no, and so is the end of stdin. @module */
import { createInterface } from 'node:readline/promises'

/** The question goes to stderr: stdout is the report's. */
export async function confirmed(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')))
  try {
    return /^y(es)?$/i.test((await Promise.race([lines.question(`${question} [y/N] `), ended])).trim())
  } finally {
    lines.close()
  }
}
