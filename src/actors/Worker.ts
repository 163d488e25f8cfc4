import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { WorkerState as Lifecycle } from "../domain/Snapshot.ts"
import type { Engine } from "../engines/Engine.ts"
import {
  type Connection,
  type ConnectionContext,
  type ConnectionHandler,
  deaf,
  isRefusal
} from "../protocol/Connection.ts"
import { dial } from "../protocol/dial.ts"
import { type Register, version } from "../protocol/Message.ts"
import type { Transport } from "../protocol/Transport.ts"
import type { Rng } from "../structures/Rng.ts"
import { BalancerLink } from "./BalancerLink.ts"
import { WorkerState } from "./WorkerState.ts"

export interface WorkerOptions {
  /** Its identity: a worker that comes back under the same name takes its own place, and another process that has it must stop. */
  readonly name: string
  /** Drawn at random when the process starts. */
  readonly incarnation: number
  readonly engine: Engine
  readonly address: { readonly host: string; readonly port: number }
  readonly transport: Transport
  readonly context: ConnectionContext
  readonly credential?: string | undefined
  readonly role?: Register["role"]
  /** Relative speed, 1 is the norm. */
  readonly speed?: number
  /** Time between two heartbeats; 250 ms unless told. */
  readonly heartbeatMs?: number
  /** Silence after which the balancer gives a worker up. Less than two seconds, or left out, is two seconds here. */
  readonly lostMs?: number
  /** For the jitter of the dials. */
  readonly rng: Rng
  /** While it says true no heartbeat is sent: an injected fault. */
  readonly muted?: () => boolean
  /** Told of every change, with its reason or "", and again when a balancer is found that does not let it in; `code` is how that ended it. */
  readonly onState?: (state: Lifecycle, why: string, code?: string) => void
}

const HEARTBEAT_MS = 250
/**
 * A balancer silent for so long, or for as long as it waits itself, is given up, and with it all the work it gave: by then it has given that
 * work to others, or is gone.
 */
const SILENCE_MS = 2_000
const PING_MS = 500
/** The kernel would try for two minutes, ever more rarely: a balancer that is back meanwhile has to be found. */
const CONNECT_MS = 2_000
/** The dial after n failures in a row waits a random part of min(cap, base · 2ⁿ). */
const BACKOFF_BASE_MS = 50
const BACKOFF_CAP_MS = 1_000
/** A link that lived as long was no failure. */
const GOOD_LINK_MS = 1_000

/**
 * The worker actor: keeps a link to the balancer and runs its engine on what comes over it.
 *
 * `starting → ready → draining → stopped`; `lost` while there is no link, which is dialled again until it stops. It
 * stops by itself when it has drained, and when another process has taken its name. Losing the link ends all
 * attempts on it: the balancer gives them to others.
 */
export class Worker {
  private readonly options: WorkerOptions
  private readonly context: ConnectionContext
  private readonly state: WorkerState
  private link: BalancerLink | undefined
  private lifecycle: Lifecycle = "starting"
  /** The refusal that was told last, or "" when something else was. */
  private refusal = ""
  private stopping = false
  /** Links whose socket is not gone. */
  private sockets = 0
  private failures = 0
  private cancelRedial = (): void => undefined
  private readonly watchers: Array<() => void> = []

  constructor(options: WorkerOptions) {
    const { context, lostMs = 0 } = options
    const silenceMs = Math.max(SILENCE_MS, lostMs)
    this.options = options
    this.context = { ...context, limits: { ...context.limits, pingMs: PING_MS, silenceMs } }
    this.state = new WorkerState(options.engine.capacity)
  }

  /** Dials for the first time. To be called once. */
  start(): void {
    this.dial()
  }

  /** Takes no new work, finishes what it has, then stops. */
  readonly drain = (): void => {
    if (this.state.draining || this.stopping) return
    this.state.draining = true
    this.enter("draining")
    this.link?.refuseWork()
    this.leaveIfDrained()
  }

  /** Drops what it has and stops. */
  stop(): void {
    this.leave("done", "the worker stops")
  }

  /** Calls `run` once it has stopped and its sockets are gone (`goodbyeMs` at most); at once where that is so. */
  whenStopped(run: () => void): void {
    if (this.lifecycle === "stopped") run()
    else this.watchers.push(run)
  }

  private dial(): void {
    const { name, incarnation, credential, address, transport } = this.options
    const hello = { ...version, role: "worker" as const, identity: name, incarnation }
    let greeted = false
    dial({
      transport,
      context: this.context,
      host: address.host,
      port: address.port,
      connectMs: CONNECT_MS,
      introduction: { hello, credential },
      welcomed: (connection) => {
        greeted = true
        this.sockets++
        return this.welcomed(connection)
      },
      gone: (why, code) => {
        if (greeted) this.sockets--
        else this.lost(0, why, code)
        this.settle()
      }
    })
  }

  private welcomed(connection: Connection): ConnectionHandler {
    if (this.stopping) {
      connection.goodbye("done", "the worker has stopped")
      return deaf
    }
    const { engine, name, role, speed, heartbeatMs, muted } = this.options
    const openedMs = this.context.timers.nowMs()
    const link = new BalancerLink(connection, {
      context: this.context,
      state: this.state,
      engine,
      name,
      role: role ?? "both",
      speed: speed ?? 1,
      heartbeatMs: heartbeatMs ?? HEARTBEAT_MS,
      muted: muted ?? (() => false),
      drain: this.drain,
      idle: () => this.leaveIfDrained(),
      closed: (why) => {
        this.link = undefined
        this.lost(this.context.timers.nowMs() - openedMs, why, connection.peerCode)
      }
    })
    this.link = link
    this.enter("ready")
    return link
  }

  /** There is no link: dials again, unless it was on its way out. */
  private lost(livedMs: number, why: string, code?: string): void {
    if (this.stopping) return
    if (this.state.draining) return this.leaveIfDrained()
    this.enter("lost", why, code)
    if (code === "replaced") return this.leave("done", why)
    if (livedMs >= GOOD_LINK_MS) this.failures = 0
    const capMs = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.failures++)
    this.cancelRedial = this.context.timers.after(this.options.rng.next() * capMs, () => this.dial())
  }

  private leaveIfDrained(): void {
    if (this.state.draining && this.state.size === 0) this.leave("drain", "drained")
  }

  private leave(code: "drain" | "done", message: string): void {
    if (this.stopping) return
    this.stopping = true
    this.cancelRedial()
    this.link?.leave(code, message)
    this.settle()
  }

  private settle(): void {
    if (!this.stopping || this.sockets > 0 || this.lifecycle === "stopped") return
    this.enter("stopped")
    for (const run of this.watchers.splice(0)) run()
  }

  private enter(lifecycle: Lifecycle, why = "", code?: string): void {
    const refusal = isRefusal(code) ? why : ""
    const isNews = lifecycle !== this.lifecycle || (refusal !== "" && refusal !== this.refusal)
    if (!isNews) return
    this.lifecycle = lifecycle
    this.refusal = refusal
    this.options.onState?.(lifecycle, why, code)
  }
}

/** A worker that lives as long as its scope. Closing the scope stops it and waits for its socket to go; drain it first to lose nothing. */
export const startWorker = (options: WorkerOptions): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const worker = new Worker(options)
      worker.start()
      return worker
    }),
    (worker) => {
      worker.stop()
      return stopped(worker)
    }
  )

/** Waits until the worker has stopped, by itself or because it was told to. */
export const stopped = (worker: Worker): Effect.Effect<void> =>
  Effect.callback((resume) => worker.whenStopped(() => resume(Effect.void)))
