/** Asks the agent of this node over its unix socket. */
import { get } from 'node:http'
import { text } from 'node:stream/consumers'
import { cliError } from '#cli/errors.ts'

export const DEFAULT_SOCKET = '/run/twill/agent.sock'
const ANSWER_MS = 10_000

/** The JSON that the agent answers to `path`. @throws {TwillError} ERR_NO_AGENT, ERR_AGENT_ANSWER */
export async function ask<T>(socket: string, path: string, answerMs = ANSWER_MS): Promise<T> {
  const { status, body } = await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const request = get({ socketPath: socket, path, timeout: answerMs }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject)
    })
    request.on('timeout', () => request.destroy(new Error(`no answer within ${answerMs / 1000} s`))).on('error', reject)
  }).catch((error: NodeJS.ErrnoException) => {
    throw cliError.ERR_NO_AGENT({ socket, found: error.code ?? error.message })
  })
  if (status !== 200) throw cliError.ERR_AGENT_ANSWER({ path, status, body })
  return JSON.parse(body) as T
}
