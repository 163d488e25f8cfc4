import type { Client, Ending } from "../client/index.ts"
import { rounding } from "../structures/rounding.ts"
import { eventStream } from "./eventStream.ts"
import { readGenerateBody } from "./GenerateBody.ts"
import { errorOf, errorResponse, type HttpError, httpError } from "./HttpError.ts"
import { unauthorised } from "./unauthorised.ts"

/** Room for bodies that are being read: so many bytes, over all connections. */
export class BodyRoom {
  private leftBytes: number

  constructor(bytesMax: number) {
    this.leftBytes = bytesMax
  }

  /** Takes room for a body, if there is so much. */
  take(bytes: number): boolean {
    if (bytes > this.leftBytes) return false
    this.leftBytes -= bytes
    return true
  }

  give(bytes: number): void {
    this.leftBytes += bytes
  }
}

/** Tokens produced when the body does not say. */
const MAX_TOKENS_DEFAULT = 128

export interface GenerateOptions {
  readonly client: Client
  /** The model of requests that name none. */
  readonly defaultModel: () => string | undefined
  /** Longest body; up to twice as much is read, to say so. */
  readonly bodyBytesMax: number
  /** Room for the bodies of all connections while they are read. */
  readonly bodies: BodyRoom
  /** Whether a bearer credential, or none, lets a client in. */
  readonly authorised: (credential: string | undefined) => boolean
}

/**
 * Answers POST /generate: `{"prompt", "model", "maxTokens", …}` with one JSON document, or with server-sent events when `stream` is true or
 * the client accepts nothing but those.
 *
 * `waits` is told true once the request is valid, for the wait for tokens has no limit but the request's own, and false when it ends. A
 * client that goes away, or merely closes its sending side, cancels in every phase.
 */
export const generate = async (
  request: Request,
  options: GenerateOptions,
  waits: (isWaiting: boolean) => void
): Promise<Response> => {
  const refused = refusalOf(request, options)
  if (refused !== undefined) return errorResponse(refused)
  const text = await readText(request, options)
  const body = typeof text === "string" ? readGenerateBody(text) : text
  if ("status" in body) return errorResponse(body)
  const { stream = eventsAlone.test(request.headers.get("accept") ?? ""), ...asked } = body
  waits(true)
  const model = asked.model ?? options.defaultModel()
  const generation = options.client.generate({
    maxTokens: MAX_TOKENS_DEFAULT,
    ...asked,
    model,
    signal: request.signal
  })
  void generation.ended.then(() => waits(false))
  const { id } = generation
  if (!stream) {
    const { text, ending } = await generation.collect()
    return ending.outcome === "done"
      ? new Response(JSON.stringify({ id, model, text, ...ending }, rounding), {
          headers: { "content-type": "application/json", ...headersOf(id, ending) }
        })
      : errorResponse(errorOf(ending), headersOf(id, ending))
  }
  if (!(await generation.admitted)) {
    const ending = await generation.ended
    if (ending.outcome !== "done") return errorResponse(errorOf(ending), headersOf(id, ending))
  }
  return new Response(eventStream(generation), { headers: { ...headersOf(id), ...streamHeaders } })
}

/** An Accept header that names events, with whatever parameters, and nothing else. */
const eventsAlone = /^text\/event-stream *(;[^,]*)?$/i

const streamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store",
  // Proxies of the nginx family hold a response back unless told.
  "x-accel-buffering": "no"
}

const headersOf = (id: string, ending?: Ending): Readonly<Record<string, string>> => ({
  "x-request-id": id,
  ...(ending !== undefined && "worker" in ending ? { "x-parallax-worker": ending.worker } : {}),
  ...(ending !== undefined && "attempts" in ending ? { "x-parallax-attempts": String(ending.attempts) } : {})
})

/** What can be said before the body is read. */
const refusalOf = ({ headers }: Request, options: GenerateOptions): HttpError | undefined => {
  const refused = unauthorised(headers, options.authorised)
  if (refused !== undefined) return refused
  // A page of another site can send a POST without asking, but not without naming its origin.
  const origin = headers.get("origin")
  if (origin !== null && /^https?:\/\/(.*)$/.exec(origin)?.[1] !== headers.get("host")) return foreign
  if (
    !/^(application\/json|application\/x-www-form-urlencoded)? *(;|$)/i.test(
      headers.get("content-type") ?? ""
    )
  ) {
    return httpError(415, "unsupported_media_type", "the body must be application/json")
  }
  if (!/^(identity)?$/i.test(headers.get("content-encoding") ?? "")) {
    return httpError(415, "unsupported_encoding", "the body must not be compressed")
  }
  if (Number(headers.get("content-length") ?? 0) > options.bodyBytesMax) return tooLarge(options.bodyBytesMax)
  return undefined
}

const foreign = httpError(403, "foreign_origin", "requests from pages of another origin are not answered")

const tooLarge = (bytes: number): HttpError =>
  httpError(413, "body_too_large", `the body must not exceed ${bytes} bytes`)

const tooBusy: HttpError = {
  ...httpError(429, "limit", "too many bodies are being read"),
  retryAfterMs: 100
}

const readText = async (
  request: Request,
  { bodies, bodyBytesMax }: GenerateOptions
): Promise<string | HttpError> => {
  // Who announces no length, or one twice, may send as much as is read.
  const announced = Number(request.headers.get("content-length") ?? Number.NaN)
  const room = announced >= 0 ? announced : 2 * bodyBytesMax
  if (!bodies.take(room)) return tooBusy
  try {
    const bytes = await request.bytes()
    return bytes.length > bodyBytesMax ? tooLarge(bodyBytesMax) : strictDecoder.decode(bytes)
  } catch {
    return httpError(400, "unreadable_body", "the body is cut short or not UTF-8")
  } finally {
    bodies.give(room)
  }
}

const strictDecoder = new TextDecoder("utf-8", { fatal: true })
