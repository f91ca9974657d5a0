/** Program entry of the agent: dist/agent.mjs. */
import { runAgent } from '#daemon/main.ts'

process.exit(await runAgent(process.argv.slice(2), process.env))
