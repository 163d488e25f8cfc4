import type { LiveExplanation } from "../domain/Explanation.ts"
import { isRequestId } from "../domain/requestId.ts"
import { errorResponse, httpError } from "./HttpError.ts"
import { unauthorised } from "./unauthorised.ts"

export interface DecisionsOptions {
  /** Why a request went where it went, by the halves of its id; undefined where nothing is kept of it. */
  readonly explain: (idHigh: number, idLow: number) => LiveExplanation | undefined
  /** Whether a bearer credential, or none, lets a client in. */
  readonly authorised: (credential: string | undefined) => boolean
  /** Whether any client is let in: then only those of this machine are answered. */
  readonly isOpen: boolean
}

/** What the paths of decisions begin with; an id follows. */
export const DECISIONS_PATH = "/admin/decisions/"
/** What the path of a request that names no host is relative to. */
export const UNNAMED = "http://unnamed"

/**
 * Answers GET /admin/decisions/{id} with one JSON document. `peer` is the address that the request came from.
 *
 * Where clients need no credential, only this machine is answered, and under a name of its own: a page that has its name point here is not.
 */
export const decisions = (
  { headers, url }: Request,
  peer: string | undefined,
  { authorised, explain, isOpen }: DecisionsOptions
): Response => {
  const refused = unauthorised(headers, authorised)
  if (refused !== undefined) return errorResponse(refused)
  if (isOpen && !(isLoopback.test(peer ?? "") && isLoopbackHost.test(headers.get("host") ?? "")))
    return errorResponse(
      httpError(403, "not_local", "without credentials for clients, decisions are told to this machine alone")
    )
  const id = new URL(url, UNNAMED).pathname.slice(DECISIONS_PATH.length)
  if (!isRequestId(id))
    return errorResponse(
      httpError(400, "invalid_value", "the id must be 16 hexadecimal digits", { param: "id" })
    )
  const explanation = explain(Number.parseInt(id.slice(0, 8), 16), Number.parseInt(id.slice(8), 16))
  if (explanation !== undefined)
    return Response.json(explanation, { headers: { "cache-control": "no-store" } })
  return errorResponse(
    httpError(
      404,
      "unknown_request",
      "nothing is kept about a request of this id: it never came here, later ones have taken its place (observability.decisions), or it was one of more than 1,000 in a second"
    )
  )
}

const isLoopback = /^(127\.|::1$|::ffff:127\.)/
const isLoopbackHost = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i
