import type { Server } from "bun"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { bind, type BindFailed } from "../protocol/bind.ts"
import { decisions, DECISIONS_PATH, type DecisionsOptions, UNNAMED } from "./decisions.ts"
import { generate, type GenerateOptions } from "./generate.ts"
import { errorResponse, type HttpError, httpError } from "./HttpError.ts"

export interface HttpServerOptions extends GenerateOptions, DecisionsOptions {
  /** Always explicit: without one the listener would be open to every network. */
  readonly host: string
  /** 0 picks a free port. */
  readonly port: number
  /** Whether every configured model has a ready worker and nothing is draining. */
  readonly ready: () => boolean
  readonly metrics: { readonly contentType: string; readonly render: () => Promise<string> }
  /** A request has its answer, or the beginning of it; `path` is that of a route, or `other`. */
  readonly answered: (path: string, status: number) => void
}

/** How long a connection may do nothing. Bun looks every four seconds, so it takes up to 12. */
const IDLE_S = 10
/** How long answers may take to leave once the scope closes. */
const STOP_MS = 2_000

/**
 * The HTTP listener: GET /livez, /readyz, /metrics and /admin/decisions/{id}, POST /generate. Ends with the scope: open answers get 2 s to
 * leave.
 *
 * Routes are exact paths, but for that of decisions. Idle connections and slow senders are closed by Bun after about 12 s.
 */
export const makeHttpServer = (
  options: HttpServerOptions
): Effect.Effect<{ readonly host: string; readonly port: number }, BindFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const fork = Effect.runForkWith(yield* Effect.context())
    const defect = (error: unknown) => fork(Effect.logError("a request broke the HTTP listener", error))
    const server = yield* Effect.acquireRelease(
      bind(options.host, options.port, () =>
        Bun.serve({
          hostname: options.host,
          port: options.port,
          // Twice ours: up to there we can explain.
          maxRequestBodySize: 2 * options.bodyBytesMax,
          // As is Bun's default: where nothing is said it warns about every request that it ends.
          idleTimeout: IDLE_S,
          fetch: async (request, server) => {
            const { path, route } = answererOf(request)
            let response: Response
            try {
              response = await route(request, server, options)
            } catch (error) {
              defect(error)
              response = errorResponse(httpError(500, "internal", "the request could not be handled"))
            }
            options.answered(path, response.status)
            return response
          }
        })
      ),
      (server) =>
        Effect.promise(() => server.stop()).pipe(
          Effect.timeoutOption(STOP_MS),
          Effect.andThen(Effect.promise(() => server.stop(true)))
        )
    )
    return { host: options.host, port: server.port! }
  })

type Route = (
  request: Request,
  server: Server<unknown>,
  options: HttpServerOptions
) => Response | Promise<Response>

const livez: Route = () => new Response("live\n")

const readyz: Route = (_request, _server, { ready }) =>
  ready() ? new Response("ready\n") : new Response("not ready\n", { status: 503 })

const metrics: Route = async (_request, _server, { metrics }) =>
  new Response(await metrics.render(), { headers: { "content-type": metrics.contentType } })

const generateRoute: Route = (request, server, options) =>
  generate(request, options, (isWaiting) => server.timeout(request, isWaiting ? 0 : IDLE_S))

const decisionsRoute: Route = (request, server, options) =>
  decisions(request, server.requestIP(request)?.address, options)

const routes = new Map<string, readonly [methods: string, route: Route]>([
  ["/livez", ["GET, HEAD", livez]],
  ["/readyz", ["GET, HEAD", readyz]],
  ["/metrics", ["GET, HEAD", metrics]],
  ["/generate", ["POST", generateRoute]],
  [DECISIONS_PATH, ["GET, HEAD", decisionsRoute]]
])

/** Who answers a request, and the path that it counts for. */
interface Answerer {
  readonly path: string
  readonly route: Route
}

const refusal =
  (error: HttpError): Route =>
  () =>
    errorResponse(error)

/** Clients choose what they ask for, so all that is not there counts as one path. */
const OTHER = "other"
const badHost: Answerer = {
  path: OTHER,
  route: refusal(httpError(400, "bad_host", "the Host header must be one host"))
}
const unknownPath: Answerer = {
  path: OTHER,
  route: refusal(httpError(404, "unknown_path", "there is nothing at this path"))
}

const answererOf = (request: Request): Answerer => {
  const host = request.headers.get("host")
  // Who speaks HTTP/1.0 need not name one, and some probes do not.
  const url = URL.parse(request.url, host === null ? UNNAMED : undefined)
  // Two Host headers arrive joined by a comma; nothing of ours is reached by a name with any of these.
  if (url === null || /[\s,/@]/.test(host ?? "")) return badHost
  const path = url.pathname.startsWith(DECISIONS_PATH) ? DECISIONS_PATH : url.pathname
  const found = routes.get(path)
  if (found === undefined) return unknownPath
  const [allow, route] = found
  if (allow.split(", ").includes(request.method)) return { path, route }
  const refused = httpError(405, "method_not_allowed", `use ${allow}`, { headers: { allow } })
  return { path, route: refusal(refused) }
}
