/**
 * The two ends of an exchange: a JSON body in, a JSON body or a Status out.
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { gzipSync } from 'node:zlib'
import { messageOf } from '#base/errors.ts'
import { readProtobuf } from '#lab/control/protobuf.ts'
import { ApiError, badRequest, internal } from '#lab/control/status.ts'
import { isTree, type Tree } from '#lab/control/tree.ts'

/** As kube-apiserver: smaller answers are sent plain. */
const gzipFromBytes = 128 * 1024
const maxBodyBytes = 3 * 1024 * 1024

export function sendJson(request: IncomingMessage, response: ServerResponse, code: number, body: unknown, type = 'application/json'): void {
  const text = Buffer.from(`${JSON.stringify(body)}\n`)
  response.setHeader('Content-Type', type)
  if (text.length >= gzipFromBytes && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''))) {
    response.setHeader('Content-Encoding', 'gzip')
    response.setHeader('Vary', 'Accept-Encoding')
    response.writeHead(code).end(gzipSync(text, { level: 1 }))
  } else response.writeHead(code, { 'Content-Length': text.length }).end(text)
}

export function sendText(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text)
}

/** Anything thrown becomes a Status; what is no ApiError is our own fault and says so. */
export const statusOf = (error: unknown) => (error instanceof ApiError ? error.status : internal(messageOf(error)).status)

export function sendError(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  const status = statusOf(error)
  if (response.headersSent) response.destroy()
  else sendJson(request, response, status.code, status)
}

/** `Warning: 299 - "…"`, which kubectl prints. */
export function warn(response: ServerResponse, warnings: readonly string[]): void {
  if (warnings.length > 0)
    response.setHeader(
      'Warning',
      warnings.map((text) => `299 - ${JSON.stringify(text)}`),
    )
}

/** @throws {ApiError} 413 above 3 MiB, kube-apiserver's limit. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > maxBodyBytes) throw new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${maxBodyBytes}`)
    parts.push(part)
  }
  return Buffer.concat(parts)
}

/** @throws {ApiError} 415 for protobuf and other tongues, 400 for what is not JSON. */
/** The object that a request carries; empty if it carries none. */
export async function readObject(request: IncomingMessage): Promise<Tree> {
  const type = String(request.headers['content-type'] ?? 'application/json')
    .split(';')[0]!
    .trim()
  const body = await readBody(request)
  if (body.length === 0) return {}
  if (type === 'application/vnd.kubernetes.protobuf') return readProtobuf(body)
  if (!/^application\/(.*\+)?json$/.test(type)) {
    throw new ApiError(415, 'UnsupportedMediaType', `the embedded lab control plane reads JSON and Kubernetes' protobuf, not ${type}`)
  }
  return parseJson(body)
}

function parseJson(body: Buffer): Tree {
  let value: unknown
  try {
    value = JSON.parse(body.toString())
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${messageOf(error)}`)
  }
  if (!isTree(value)) throw badRequest('the object provided is unrecognized: expected a JSON object')
  return value
}
