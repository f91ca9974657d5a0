/** Entry of dist/lab.mjs: the lab's command, or one of its long-running parts. */
import { messageOf, TwillError } from '#base/errors.ts'
import { runPart } from '#lab/parts.ts'

const [first, ...rest] = process.argv.slice(2)
try {
  if (first === 'part') await runPart(rest)
  else {
    const { runLab } = await import('#lab/main.ts')
    process.exitCode = await runLab(process.argv.slice(2))
  }
} catch (error) {
  process.stderr.write(`twill lab: ${messageOf(error)}\n${error instanceof TwillError ? `${error.remedy}\n` : ''}`)
  process.exit(2)
}
