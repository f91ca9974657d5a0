/**
 * net-conf.json from a few words, as `twill manifest --backend` takes them:
 *     vxlan        host-gw        vxlan VNI=7 Port=4789        vxlan-direct (short for: vxlan DirectRouting=true)
 * @module
 */
import { parseNetConf } from '#config/net-conf.ts'
import { backends } from '#plan/backends/all.ts'

/** A value as JSON has it where it is one (true, 7), else a text. */
function readValue(text: string): unknown {
  return /^(true|false|\d+)$/.test(text) ? JSON.parse(text) : text
}

/**
 * The text of net-conf.json, indented by two.
 * @param words  Backend.Type and its other keys, parted by spaces.
 * @throws {TwillError} ERR_NET_CONF, ERR_BACKEND_TO_COME
 */
export function renderNetConf(network: string, words: string): string {
  const [type = '', ...keys] = words
    .trim()
    .replace(/^vxlan-direct\b/, 'vxlan DirectRouting=true')
    .split(/\s+/)
  const settings = keys.map((word) => [word.split('=', 1)[0]!, readValue(word.slice(word.indexOf('=') + 1))])
  const conf = { Network: network, EnableNFTables: false, Backend: { Type: type, ...Object.fromEntries(settings) } }
  const text = JSON.stringify(conf, null, 2)
  parseNetConf(text, `of pod network "${network}" and backend "${words}"`, backends)
  return text
}
