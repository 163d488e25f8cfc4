import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { BalancerHost } from "../actors/BalancerHost.ts"
import type { Dispatcher } from "../actors/runtime/Dispatcher.ts"
import type { SupervisionEvent } from "../actors/runtime/Supervisor.ts"
import type { Config } from "../domain/Config.ts"
import type { DemandMeter } from "../policies/DemandMeter.ts"
import { type CliFailure, failed } from "./cli/CliFailure.ts"
import { eventLog } from "./eventLog.ts"
import { startGateway } from "./startGateway.ts"
import { startNode } from "./startNode.ts"

export interface RunningBalancer {
  /** `host:port`. */
  readonly tcp: string
  readonly http: string
  /** Of its own, all of them ready. */
  readonly workers: number
  readonly host: BalancerHost
  readonly dispatcher: Dispatcher
  /** What is asked of each model whose number of workers follows the load. */
  readonly meters: ReadonlyMap<string, DemandMeter>
  /** Refuses new requests and waits for the others, as long as the configuration allows. */
  readonly drain: Effect.Effect<void>
  readonly onEvent: (event: SupervisionEvent) => void
  /** Fails when the balancer's supervisor gives up. */
  readonly ended: Effect.Effect<never, CliFailure>
}

/** Starts a balancer with its TCP and HTTP listeners. It ends with the scope; drain it first, to lose nothing. */
export const startBalancer = Effect.fnUntraced(function* (
  config: Config
): Effect.fn.Return<RunningBalancer, CliFailure, Scope.Scope> {
  const log = yield* eventLog()
  const node = yield* startNode(config, log)
  const http = yield* startGateway(config, node, log)
  return {
    tcp: node.address,
    http,
    workers: 0,
    host: node.host,
    dispatcher: node.dispatcher,
    meters: node.meters,
    drain: node.drain(config.drain.timeoutMs),
    onEvent: log.supervision,
    ended: Effect.callback((resume) => {
      const unwatch = node.root.process.watch(() =>
        resume(failed("The balancer failed too often and gave up; the log says why."))
      )
      return Effect.sync(unwatch)
    })
  }
})
