/** The annotation prefix, by Flannel's rule: `foo.com` gives keys like foo.com/backend-data, `foo.com/x` foo.com/x-backend-data. */
import { configError } from '#config/errors.ts'

/** The text that all annotation keys start with. @throws {TwillError} ERR_ANNOTATION_PREFIX */
export function annotationPrefix(given: string): string {
  const slashes = given.split('/').length - 1
  if (slashes > 1) throw configError.ERR_ANNOTATION_PREFIX({ prefix: given, reason: 'it has more than one "/"' })
  const slashed = slashes === 0 ? `${given}/` : given
  const prefix = /[/-]$/.test(slashed) ? slashed : `${slashed}-`
  if (!/(?:[a-z0-9_-]+\.)+[a-z0-9_-]+\/(?:[a-z0-9_-]+-)?$/.test(prefix)) {
    throw configError.ERR_ANNOTATION_PREFIX({ prefix: given, reason: 'it is not of the form fqdn/[0-9a-z-_]*' })
  }
  return prefix
}
