import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { formatAddress } from "../client/address.ts"
import { connect } from "../client/index.ts"
import type { Config } from "../domain/Config.ts"
import { BodyRoom } from "../gateway/generate.ts"
import { makeHttpServer } from "../gateway/HttpServer.ts"
import { HttpResponses } from "../observability/HttpResponses.ts"
import { makeMetrics } from "../observability/Metrics.ts"
import { thisProcess } from "../observability/ProcessFacts.ts"
import { targetsOf } from "../policies/pipelines.ts"
import packageJson from "../../package.json" with { type: "json" }
import { type CliFailure, failed, unbound } from "./cli/CliFailure.ts"
import type { EventLog } from "./eventLog.ts"
import type { RunningNode } from "./startNode.ts"

/** Longest body of a request over HTTP. */
const BODY_BYTES_MAX = 1024 * 1024
/** Bodies that are being read, over all connections: thousands of usual ones, and 64 of the longest. */
const BODIES_BYTES_MAX = 64 * BODY_BYTES_MAX

/** Starts the HTTP listener in front of a balancer, which it uses as every client does; gives its `host:port`. It ends with the scope. */
export const startGateway = Effect.fnUntraced(function* (
  config: Config,
  { address, host, recording }: Pick<RunningNode, "address" | "host" | "recording">,
  log: EventLog
): Effect.fn.Return<string, CliFailure, Scope.Scope> {
  const credential = config.auth.clients[0]
  const identity = `gateway-${crypto.randomUUID()}`
  host.gateway = identity
  const client = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        connect({
          address,
          identity,
          credential: credential && Redacted.value(credential)
        }),
      catch: (error) => failed(`The HTTP listener cannot reach the balancer at ${address}: ${String(error)}`)
    }),
    (client) => Effect.promise(() => client.close())
  )
  const { admission, placement } = config.pipeline
  const httpResponses = new HttpResponses()
  const metrics = makeMetrics({
    snapshot: () => host.snapshot(),
    totals: host.totals,
    decisionMs: { admission: host.stopwatches.admission.ms, placement: host.stopwatches.placement.ms },
    queued: () => host.queuedByKind(),
    modelName: (index) => host.models.nameOf(index),
    tenantName: (index) => host.tenants.nameOf(index),
    policies: { admission: admission.map(({ policy }) => policy), placement: placement.policy },
    targets: targetsOf(admission),
    desiredWorkers: host.desiredWorkers,
    actualWorkers: host.actualWorkers,
    protocolErrors: log.violations,
    httpResponses,
    restarts: log.restarts,
    recordingLosses: recording.losses,
    version: packageJson.version,
    process: thisProcess
  })
  const bound = yield* makeHttpServer({
    host: config.listen.host,
    port: config.listen.httpPort,
    client,
    defaultModel: () => host.models.all()[0],
    bodyBytesMax: BODY_BYTES_MAX,
    bodies: new BodyRoom(BODIES_BYTES_MAX),
    authorised: (credential) => host.options.gate.isKnown("client", credential),
    isOpen: config.auth.clients.length === 0,
    explain: (idHigh, idLow) => {
      const explanation = host.explain(idHigh, idLow)
      if (explanation === undefined) return undefined
      const arrivedMs = host.startedMs * host.timeScale + explanation.request.arrivedMs
      return { ...explanation, recording: recording.recordedIn?.(arrivedMs) ?? null }
    },
    ready: () => !host.draining && config.models.every(({ name }) => host.isServed(name)),
    metrics,
    answered: (path, status) => httpResponses.add(path, status)
  }).pipe(Effect.catchTag("BindFailed", (error) => unbound(error, "--http-port")))
  return formatAddress(bound)
})
