import * as Effect from "effect/Effect"
import type { BalancerHost } from "./BalancerHost.ts"
import { type Detector, type PoolDecision, type PoolMessage, PoolState } from "./PoolState.ts"
import { spawn } from "./runtime/Cell.ts"
import type { Dispatcher } from "./runtime/Dispatcher.ts"

export type PoolManagerMessage =
  | PoolMessage
  /** The balancer is new: tell it of every member, then call `answered`. */
  | { readonly _tag: "Announce"; readonly answered: () => void }

export interface PoolManagerOptions {
  readonly host: BalancerHost
  readonly dispatcher: Dispatcher
  /** The pool's name, and its model: the workers of one model that have one role. */
  readonly pool: string
  readonly model: number
  readonly detector: (nowMs: number) => Detector
  /** How often late heartbeats are looked for. */
  readonly checkMs: number
}

/** Messages a manager holds: one heartbeat of each worker, and some. As many again of those that come and go. */
const MAILBOX_CAPACITY = 4096

/** The actor of one pool: keeps `PoolState`, tells the balancer who may get work, and has lost workers cut off. */
export const startPoolManager = (options: PoolManagerOptions) =>
  Effect.gen(function* () {
    const { host, model } = options
    const { timers } = host.options.context
    const state = new PoolState(options.detector)
    const carryOut = (decision: PoolDecision): void => {
      const { worker } = decision
      if (decision._tag === "Lost") host.cutWorker(worker, decision.registration)
      else host.tellBalancer({ _tag: "Member", model, worker, ready: decision._tag === "Ready" })
    }
    const manager = spawn<PoolManagerMessage>({
      id: `pool/${options.pool}`,
      capacity: MAILBOX_CAPACITY,
      controlCapacity: MAILBOX_CAPACITY,
      dispatcher: options.dispatcher,
      receive: (message) => {
        if (message._tag === "Announce") {
          for (const decision of state.all()) carryOut(decision)
          message.answered()
          return
        }
        for (const decision of state.step(message, timers.nowMs())) carryOut(decision)
        if (message._tag === "Heartbeat")
          host.tellBalancer({ _tag: "Load", worker: message.worker, load: message.load })
      }
    })
    host.poolStarted(options.pool, { manager, stateOf: (worker) => state.stateOf(worker) })
    const cancel = timers.every(options.checkMs, () => {
      manager.tell({ _tag: "Check" })
    })
    yield* Effect.addFinalizer(() => Effect.sync(cancel))
    return manager
  })
