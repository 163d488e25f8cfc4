import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { TestClock } from "effect/testing"
import { type AutoscalerOptions, type ScaledModel, startAutoscaler } from "../../../src/actors/Autoscaler.ts"
import { type Launcher, LaunchFailed, WorkerExited } from "../../../src/actors/Launcher.ts"
import { Dispatcher } from "../../../src/actors/runtime/Dispatcher.ts"
import { nextIncarnation, type Process, Watchers } from "../../../src/actors/runtime/Process.ts"
import { type SupervisionEvent, supervise, type Supervisor } from "../../../src/actors/runtime/Supervisor.ts"
import { DemandMeter } from "../../../src/policies/DemandMeter.ts"
import type { Scaling, ScalingView } from "../../../src/policies/Scaling.ts"
import { Type } from "../../../src/protocol/Header.ts"
import type { Cancel } from "../../../src/protocol/Timers.ts"
import { Turn } from "../../../src/protocol/Turn.ts"
import { settle } from "../runtime/virtualTime.ts"
import { heartbeat, type Peer, type Received, VirtualNode } from "./VirtualNode.ts"

const STEP_MS = 50
const BEAT_MS = 250
export const PERIOD_MS = 1_000
export const BOOT_MS = 700
export const START_WITHIN_MS = 20_000

export interface FleetOptions {
  readonly least: number
  readonly most: number
  readonly capacity?: number
  /** How long a worker takes for a request. */
  readonly serviceMs?: number
  /** What decides; it is made anew for a new autoscaler. */
  readonly scaling: () => Scaling
}

/**
 * A cluster on virtual time: the balancer, its pool managers, the supervisor of the workers and the autoscaler as they are. Its worker
 * processes boot, register, answer each request after a while, drain when told so and then end; they can be killed and mended.
 */
export class VirtualFleet {
  readonly node: VirtualNode
  readonly demand = new DemandMeter(0)
  readonly events: Array<SupervisionEvent> = []
  readonly views: Array<ScalingView> = []
  /** By name: processes that live. */
  readonly processes = new Map<string, VirtualProcess>()
  /** Names of all that were started, in this order. */
  readonly launched: Array<string> = []
  /** Most processes there were at once. */
  processesMax = 0
  launchesFail = false
  /** What is launched never gets to its first connection. */
  launchesHang = false
  /** Timers of autoscalers that run. */
  timersCount = 0
  readonly client: Peer
  /** Of the processes. */
  workers: Supervisor | undefined
  private readonly options: FleetOptions
  private streams = 0

  constructor(options: FleetOptions) {
    this.options = options
    this.node = new VirtualNode({
      admissions: [
        this.demand,
        {
          decide: () => null,
          // A worker keeps every prompt that it was sent.
          placed: ({ chain }, worker) => {
            this.node.host.prefixesOf(0).stored(worker, 0, 0, chain, 0, chain.count)
          }
        }
      ]
    })
    this.client = this.node.client()
  }

  /** Starts supervisor and autoscaler, as a cluster does. */
  start() {
    return Effect.gen({ self: this }, function* () {
      const { node, options } = this
      const { timers } = node.context
      // It goes on without the node's turns, so that it can end when the test does.
      const dispatcher = new Dispatcher(new Turn(queueMicrotask), timers.nowMs)
      const onEvent = (event: SupervisionEvent): void => void this.events.push(event)
      const workers = (this.workers = yield* supervise({
        id: "workers",
        strategy: "oneForOne",
        children: [],
        intensity: 1000,
        onEvent
      }))
      const model: ScaledModel = {
        name: "sim",
        role: "both",
        least: options.least,
        most: options.most,
        elastic: { scaling: () => this.watched(options.scaling()), demand: this.demand }
      }
      const autoscaler: AutoscalerOptions = {
        host: node.host,
        dispatcher,
        timers: { ...timers, every: (periodMs, run) => this.every(periodMs, run) },
        workers,
        launcher: this.launcher,
        models: [model],
        command: (name, _, index) => ({ name: `${name}-${index}`, command: [], env: {} }),
        periodMs: PERIOD_MS,
        restartAfterMs: 100,
        restartAtMostMs: 2_000,
        startWithinMs: START_WITHIN_MS,
        timeScale: 1,
        drainMs: 60_000,
        shutdownMs: 5_000
      }
      yield* supervise({
        id: "machine",
        strategy: "oneForOne",
        children: [{ id: "autoscaler", start: startAutoscaler(autoscaler) }],
        intensity: 1000,
        onEvent
      })
      // Nothing drains while time stands still.
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const process of this.processes.values()) process.kill()
        })
      )
    })
  }

  /** Lets time pass; `during` is called every 50 ms. */
  advance(ms: number, during: () => void = () => {}) {
    return Effect.gen({ self: this }, function* () {
      for (let passedMs = 0; passedMs < ms; passedMs += STEP_MS) {
        this.node.advance(STEP_MS)
        yield* TestClock.adjust(STEP_MS)
        yield* settle
        this.node.settle()
        this.processesMax = Math.max(this.processesMax, this.processes.size)
        during()
      }
    })
  }

  /** Sends requests; those of a family have prompts that begin alike. */
  send(count: number, family = 0): void {
    const chain =
      family === 0
        ? undefined
        : Buffer.from(Uint32Array.from({ length: 8 }, (_, i) => family * 100 + i).buffer)
    for (let i = 0; i < count; i++)
      this.client.send(this.client.request({ stream: ++this.streams, promptTokens: 2048, chain }))
  }

  get sent(): number {
    return this.streams
  }

  /** Streams by how they ended. */
  ends(): { readonly done: number; readonly failed: number; readonly rejected: number } {
    const count = (type: number): number => this.client.of(type).length
    return { done: count(Type.done), failed: count(Type.error), rejected: count(Type.rejected) }
  }

  /** The states the pool manager knows, by name. */
  states(): ReadonlyArray<string> {
    return this.node.host
      .membersOf("sim")
      .map(({ name, state }) => `${name} ${state}`)
      .toSorted()
  }

  ready(): number {
    return this.node.host.readyCount("sim")
  }

  private every(periodMs: number, run: () => void): Cancel {
    const cancel = this.node.context.timers.every(periodMs, run)
    this.timersCount++
    return () => {
      this.timersCount--
      cancel()
    }
  }

  private watched(scaling: Scaling): Scaling {
    return {
      desired: (view, nowMs) => {
        this.views.push(view)
        return scaling.desired(view, nowMs)
      }
    }
  }

  private readonly launcher: Launcher = {
    launch: ({ name }) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          if (this.launchesFail) return Effect.fail(new LaunchFailed({ worker: name, message: "no" }))
          this.launched.push(name)
          const process = new VirtualProcess(this, name, this.options)
          this.processes.set(name, process)
          return Effect.succeed(process)
        }),
        (process) => Effect.sync(() => process.kill())
      )
  }
}

/** A worker process. */
export class VirtualProcess implements Process {
  readonly id: string
  readonly incarnation = nextIncarnation()
  /** Its connection, from when it has booted. */
  peer: Peer | undefined
  /** Answers nothing, as an engine that stands still; its heartbeats go on. */
  stalled = false
  private readonly fleet: VirtualFleet
  private readonly serviceMs: number
  private readonly watchers = new Watchers()
  private readonly cancels: Array<Cancel> = []
  private readonly due: Array<{ readonly atMs: number; readonly assign: Received }> = []
  private taken = 0
  private draining = false
  private gone = false

  constructor(fleet: VirtualFleet, name: string, { capacity = 4, serviceMs = 500 }: FleetOptions) {
    const { timers } = fleet.node.context
    this.id = name
    this.fleet = fleet
    this.serviceMs = serviceMs
    const boot = (): void => {
      this.peer = fleet.node.worker(name, { capacity, incarnation: this.incarnation })
      this.cancels.push(
        timers.every(BEAT_MS, () => this.peer!.send(heartbeat)),
        timers.every(STEP_MS, () => this.work())
      )
    }
    if (!fleet.launchesHang) this.cancels.push(timers.after(BOOT_MS, boot))
  }

  readonly interrupt = (): void => {
    this.draining = true
    if (this.peer === undefined) this.end(Exit.void)
  }

  readonly kill = (): void => {
    this.end(Exit.fail(new WorkerExited({ worker: this.id, code: null, signal: "SIGKILL" })))
  }

  readonly watch = (onDown: Parameters<Process["watch"]>[0]): Cancel => this.watchers.watch(onDown)

  private work(): void {
    const { nowMs } = this.fleet.node
    const peer = this.peer!
    const assigns = peer.of(Type.assign)
    for (; this.taken < assigns.length; this.taken++)
      this.due.push({ atMs: nowMs + this.serviceMs, assign: assigns[this.taken]! })
    if (peer.of(Type.drain).length > 0) this.draining = true
    while (!this.stalled && this.due.length > 0 && this.due[0]!.atMs <= nowMs) {
      const { assign } = this.due.shift()!
      peer.send(peer.token(assign, 0), peer.about(assign, Type.done, { a: 1, b: 0 }))
    }
    if (this.draining && this.due.length === 0) this.end(Exit.void)
  }

  private end(exit: Exit.Exit<unknown, unknown>): void {
    if (this.gone) return
    this.gone = true
    for (const cancel of this.cancels) cancel()
    if (this.fleet.processes.get(this.id) === this) this.fleet.processes.delete(this.id)
    this.peer?.drop()
    this.watchers.announce({ id: this.id, incarnation: this.incarnation, exit })
  }
}
