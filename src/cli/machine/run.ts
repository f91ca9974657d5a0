/** Programs that install and uninstall need: systemctl, and the reference portmap. @module */
import { execFile } from 'node:child_process'
import { cliError } from '#cli/errors.ts'

export interface Input {
  readonly stdin?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a program to its end. @throws {TwillError} ERR_PROGRAM with what it said */
export const run = (file: string, ...argv: readonly string[]): Promise<string> => runWith({}, file, ...argv)

export function runWith({ stdin = '', env = {} }: Input, file: string, ...argv: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(file, argv, { encoding: 'utf8', env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      if (error) reject(cliError.ERR_PROGRAM({ command: [file, ...argv].join(' '), said: (stderr || stdout).trim() }, error))
      else resolve(stdout)
    })
    child.stdin!.on('error', () => {}).end(stdin)
  })
}
