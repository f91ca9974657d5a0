/** The program of the image traefik/whoami. */
import { runWhoami } from '#lab/images/whoami.ts'

runWhoami(process.argv.slice(2), process.env)
