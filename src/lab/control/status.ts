/**
 * What the API answers when it cannot do what was asked: a Kubernetes `Status` object, thrown as an ApiError.
 * Wording follows k8s.io/apimachinery/pkg/api/errors, because kubectl prints it and people search for it.
 * @module
 */

/** meta/v1 Status of a failure. */
export interface Status {
  readonly kind: 'Status'
  readonly apiVersion: 'v1'
  readonly metadata: object
  readonly status: 'Failure' | 'Success'
  readonly message?: string
  readonly reason?: string
  readonly details?: StatusDetails
  readonly code: number
}

export interface StatusDetails {
  readonly name?: string
  readonly group?: string
  readonly kind?: string
  readonly causes?: readonly StatusCause[]
  readonly retryAfterSeconds?: number
}

export interface StatusCause {
  readonly reason: string
  readonly message: string
  readonly field: string
}

/** Thrown anywhere below the API server; its `status` is the body of the answer. */
export class ApiError extends Error {
  readonly status: Status
  constructor(code: number, reason: string, message: string, details?: StatusDetails) {
    super(message)
    this.name = 'ApiError'
    this.status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, ...(details && { details }), code }
  }
  get code(): number {
    return this.status.code
  }
  get reason(): string {
    return this.status.reason ?? ''
  }
}

/** `deployments.apps` as the details of a Status name it: kind is the plural, group apart. */
function detailsOf(resource: string, name?: string): StatusDetails {
  const [kind, ...group] = resource.split('.')
  return { ...(name !== undefined && { name }), ...(group.length > 0 && { group: group.join('.') }), kind: kind! }
}

export const notFound = (resource: string, name: string) =>
  new ApiError(404, 'NotFound', `${resource} "${name}" not found`, detailsOf(resource, name))

export const alreadyExists = (resource: string, name: string) =>
  new ApiError(409, 'AlreadyExists', `${resource} "${name}" already exists`, detailsOf(resource, name))

export const conflict = (resource: string, name: string, why: string) =>
  new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${resource} "${name}": ${why}`, detailsOf(resource, name))

export const staleObject = (resource: string, name: string) =>
  conflict(resource, name, 'the object has been modified; please apply your changes to the latest version and try again')

export const badRequest = (message: string) => new ApiError(400, 'BadRequest', message)

export const unauthorized = () => new ApiError(401, 'Unauthorized', 'Unauthorized')

export const forbidden = (resource: string, name: string, why: string) =>
  new ApiError(403, 'Forbidden', `${resource}${name === '' ? '' : ` "${name}"`} is forbidden: ${why}`, detailsOf(resource, name))

export const methodNotAllowed = (message: string) => new ApiError(405, 'MethodNotAllowed', message)

/** A watch asked to start before the history that is still kept. */
export const expired = (since: number, oldest: number) => new ApiError(410, 'Expired', `too old resource version: ${since} (${oldest})`)

export const internal = (why: string) => new ApiError(500, 'InternalError', `Internal error occurred: ${why}`)

/** One fault of an object, as k8s.io/apimachinery/pkg/util/validation/field prints it. */
export interface FieldError {
  readonly type: 'Required value' | 'Invalid value' | 'Unsupported value' | 'Forbidden' | 'Duplicate value' | 'Not found' | 'Too long'
  readonly field: string
  /** The value found; absent for Required and Forbidden. */
  readonly value?: unknown
  readonly detail?: string
}

const causeReason: Record<FieldError['type'], string> = {
  'Required value': 'FieldValueRequired',
  'Invalid value': 'FieldValueInvalid',
  'Unsupported value': 'FieldValueNotSupported',
  Forbidden: 'FieldValueForbidden',
  'Duplicate value': 'FieldValueDuplicate',
  'Not found': 'FieldValueNotFound',
  'Too long': 'FieldValueTooLong',
}

function showFieldError(error: FieldError): string {
  const value = error.value === undefined ? '' : `: ${JSON.stringify(error.value)}`
  return `${error.type}${value}${error.detail ? `: ${error.detail}` : ''}`
}

/** `Pod "x" is invalid: spec.containers[0].image: Required value` (kubectl puts `The ` in front of it). */
export function invalid(kind: string, group: string, name: string, errors: readonly FieldError[]): ApiError {
  const lines = errors.map((error) => `${error.field}: ${showFieldError(error)}`)
  const list = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`
  const causes = errors.map((error) => ({ reason: causeReason[error.type], message: showFieldError(error), field: error.field }))
  const details = { ...(name !== '' && { name }), ...(group !== '' && { group }), kind, causes }
  return new ApiError(422, 'Invalid', `${kind}${group ? `.${group}` : ''} "${name}" is invalid: ${list}`, details)
}
