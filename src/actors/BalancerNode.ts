import * as Effect from "effect/Effect"
import { bind } from "../protocol/bind.ts"
import { type Server, serve } from "../protocol/Server.ts"
import type { Transport } from "../protocol/Transport.ts"
import { startBalancer } from "./Balancer.ts"
import { BalancerHost, type BalancerHostOptions } from "./BalancerHost.ts"
import { startPoolManager } from "./PoolManager.ts"
import type { ChildSpec } from "./runtime/ChildSpec.ts"
import type { Dispatcher } from "./runtime/Dispatcher.ts"
import { FailureDetector } from "./runtime/FailureDetector.ts"
import { type SupervisionEvent, supervise, type Supervisor } from "./runtime/Supervisor.ts"

export interface BalancerNodeOptions {
  readonly host: Omit<BalancerHostOptions, "poolWanted">
  readonly dispatcher: Dispatcher
  readonly transport: Transport
  readonly listenHost: string
  readonly listenPort: number
  readonly connectionsMax: number
  readonly heartbeatMs: number
  readonly suspectMs: number
  readonly lostMs: number
  readonly onEvent: (event: SupervisionEvent) => void
}

export interface BalancerNode {
  readonly host: BalancerHost
  readonly server: Server
  /** The tree: balancer, pool managers. Its end is the end of the node. */
  readonly root: Supervisor
  /** Refuses new requests and waits until all others ended. What has not after `timeoutMs` ends in an error. */
  readonly drain: (timeoutMs: number) => Effect.Effect<void>
}

const DRAIN_LOOK_MS = 10
/** How long the end of what a drain has left may take: a balancer that was just restarted has yet to hear of it. */
const GIVE_UP_MS = 1_000
/** The failure detector takes longer gaps between two looks for a pause of its own process. */
const CHECK_MS = 250

/** A balancer process: its supervision tree and its listener. Both end with the scope; `drain` first, to lose nothing. */
export const startBalancerNode = Effect.fnUntraced(function* (options: BalancerNodeOptions) {
  const { dispatcher } = options
  const { timers } = options.host.context
  const fork = Effect.runForkWith(yield* Effect.context())
  let pools: Supervisor | undefined
  /** Of all pools there are: a supervisor that was restarted has none of them by itself. */
  const managers: Array<ChildSpec> = []
  const startManager = (manager: ChildSpec): void => {
    if (pools !== undefined) fork(Effect.ignore(pools.startChild(manager)))
  }
  const host: BalancerHost = new BalancerHost({
    ...options.host,
    poolWanted: (pool, model) => {
      const start = startPoolManager({
        host,
        dispatcher,
        pool,
        model,
        detector: (nowMs) =>
          new FailureDetector(nowMs, {
            intervalMs: options.heartbeatMs,
            suspectMs: options.suspectMs,
            lostMs: options.lostMs
          }),
        checkMs: Math.min(options.heartbeatMs, CHECK_MS)
      })
      const manager = { id: pool, start }
      managers.push(manager)
      startManager(manager)
    }
  })
  const onEvent = (event: SupervisionEvent): void => {
    if (event.child === "balancer" && event._tag === "Restarted") host.restarts++
    options.onEvent(event)
  }
  const poolsSpec = Effect.map(
    supervise({ id: "pools", strategy: "oneForOne", children: [], onEvent }),
    (supervisor) => {
      pools = supervisor
      managers.forEach(startManager)
      return supervisor.process
    }
  )
  const root = yield* supervise({
    id: "root",
    strategy: "oneForOne",
    children: [
      { id: "pools", start: poolsSpec, shutdown: "infinity" },
      { id: "balancer", start: startBalancer({ host, dispatcher }) }
    ],
    onEvent
  })
  root.process.watch(() => host.links.abandon())
  const server = yield* Effect.acquireRelease(
    bind(options.listenHost, options.listenPort, () =>
      serve({
        transport: options.transport,
        context: options.host.context,
        host: options.listenHost,
        port: options.listenPort,
        connectionsMax: options.connectionsMax,
        greet: host.greet
      })
    ),
    (server) =>
      Effect.callback<void>((resume) =>
        server.close("the balancer is shutting down", () => resume(Effect.void))
      )
  )
  const drain = Effect.fnUntraced(function* (timeoutMs: number) {
    host.drain()
    // Those of the links: a balancer that was restarted knows of none at first.
    const { table } = host.links
    yield* Effect.logInfo(`draining: ${table.size} requests to finish`)
    const isOver = (untilMs: number) => table.size === 0 || timers.nowMs() >= untilMs
    const untilMs = timers.nowMs() + timeoutMs
    while (!isOver(untilMs)) yield* Effect.sleep(DRAIN_LOOK_MS)
    if (table.size === 0) return
    yield* Effect.logWarning(`drained for ${timeoutMs} ms: ${table.size} requests are not finished, and end`)
    while (!isOver(untilMs + GIVE_UP_MS)) {
      host.tellBalancer({ _tag: "GiveUp" })
      yield* Effect.sleep(DRAIN_LOOK_MS)
    }
  })
  return { host, server, root, drain } satisfies BalancerNode
})
