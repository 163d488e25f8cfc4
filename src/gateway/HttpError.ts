import type { Broken, Rejected } from "../client/index.ts"

/** An answer that is an error: what a status line, its headers and `{"error":{…}}` need. */
export interface HttpError {
  readonly status: number
  readonly message: string
  /** Kind of error, as OpenAI's clients know them. */
  readonly type: string
  /** Stable name of the cause. */
  readonly code: string
  /** The field it is about. */
  readonly param?: string
  /** When another try may succeed. */
  readonly retryAfterMs?: number
  readonly headers?: Readonly<Record<string, string>>
}

/** Whoever is told to wait comes back within a minute. */
const RETRY_AFTER_MS_MAX = 60_000

/** Status by the reason of an ending; anything else is 500. */
const statuses: Readonly<Record<string, number>> = {
  bad_request: 400,
  context_length: 400,
  unknown_model: 404,
  duplicate_request: 409,
  queue_full: 429,
  wait_too_long: 429,
  limit: 429,
  rate_limited: 429,
  kv_full: 429,
  concurrency_limit: 429,
  slo_infeasible: 429,
  shed: 429,
  /** Not registered with IANA: nginx's "client closed request". Nobody is there to read it. */
  cancelled: 499,
  worker_lost: 502,
  worker_failed: 502,
  worker_protocol: 502,
  no_worker: 503,
  worker_refused: 503,
  draining: 503,
  connection_lost: 503,
  expired: 504
}

/** The error for a request that did not end well. */
export const errorOf = (ending: Rejected | Broken): HttpError => {
  const status = statuses[ending.reason] ?? 500
  return {
    status,
    message: ending.message === "" ? ending.reason.replaceAll("_", " ") : ending.message,
    type: typeOf(status),
    code: ending.reason,
    ...(ending.reason === "unknown_model" ? { param: "model" } : {}),
    ...(ending.retryable && (status === 429 || status === 503) ? { retryAfterMs: ending.retryAfterMs } : {})
  }
}

/** An error of the HTTP layer itself. */
export const httpError = (
  status: number,
  code: string,
  message: string,
  more: Pick<HttpError, "param" | "headers"> = {}
): HttpError => ({ status, code, message, type: typeOf(status), ...more })

const typeOf = (status: number): string => {
  if (status === 401) return "authentication_error"
  if (status === 403) return "permission_error"
  if (status === 404) return "not_found_error"
  if (status === 429) return "rate_limit_error"
  if (status === 503) return "service_unavailable_error"
  return status < 500 ? "invalid_request_error" : "server_error"
}

/** The JSON body of an error, also as an event of a stream. */
export const errorBody = ({ message, type, code, param }: HttpError): unknown => ({
  error: { message, type, code, param: param ?? null }
})

export const errorResponse = (error: HttpError, headers: Readonly<Record<string, string>> = {}): Response => {
  const { retryAfterMs, status } = error
  const wait = retryAfterMs === undefined ? {} : waitHeaders(retryAfterMs)
  return Response.json(errorBody(error), { status, headers: { ...headers, ...error.headers, ...wait } })
}

const waitHeaders = (retryAfterMs: number): Readonly<Record<string, string>> => {
  const waitMs = Math.min(RETRY_AFTER_MS_MAX, Math.max(1, Math.ceil(retryAfterMs)))
  return { "retry-after": String(Math.ceil(waitMs / 1000)), "retry-after-ms": String(waitMs) }
}
