import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { DemandMeter } from "../policies/DemandMeter.ts"
import type { Scaling } from "../policies/Scaling.ts"
import { chooseVictim } from "../policies/scaling/victim.ts"
import type { Register } from "../protocol/Message.ts"
import type { Timers } from "../protocol/Timers.ts"
import type { BalancerHost, Member } from "./BalancerHost.ts"
import { type FleetOrder, FleetState, RECONNECT_MS, type Sighting } from "./FleetState.ts"
import type { Launcher, WorkerCommand } from "./Launcher.ts"
import { spawn } from "./runtime/Cell.ts"
import type { Dispatcher } from "./runtime/Dispatcher.ts"
import type { Supervisor } from "./runtime/Supervisor.ts"
import { scalingView } from "./scalingView.ts"

/** A model whose workers run as processes of this machine. */
export interface ScaledModel {
  readonly name: string
  /** What its processes do of its requests. */
  readonly role: Register["role"]
  /** Bounds of the number of its processes. */
  readonly least: number
  readonly most: number
  /** What decides about their number, and what was asked of them; left out, there are `least`. */
  readonly elastic?: { readonly scaling: () => Scaling; readonly demand: DemandMeter } | undefined
}

export interface AutoscalerOptions {
  readonly host: BalancerHost
  readonly dispatcher: Dispatcher
  readonly timers: Timers
  /** Keeps the worker processes alive. */
  readonly workers: Supervisor
  readonly launcher: Launcher
  readonly models: ReadonlyArray<ScaledModel>
  /** How to start worker number `index` of a model; its name is the same for the same number. */
  readonly command: (model: string, role: Register["role"], index: number) => WorkerCommand
  /** How often the demand is looked at. */
  readonly periodMs: number
  /** Wait before a worker that crashed is started again: doubled each time, up to the longest. */
  readonly restartAfterMs: number
  readonly restartAtMostMs: number
  /** How long a worker process may take to connect before it is ended and another one started. */
  readonly startWithinMs: number
  /** How many times faster than on the clock, by which processes start, the time of `timers` passes. */
  readonly timeScale: number
  /** How long a worker may drain while the cluster goes on: as long as a request may live. */
  readonly drainMs: number
  /** How long it may drain when the cluster stops. */
  readonly shutdownMs: number
}

/** Time to look after the processes. */
export interface AutoscalerMessage {
  readonly _tag: "Look"
}

const look: AutoscalerMessage = { _tag: "Look" }
/** How soon a worker that left is replaced, and how exactly its time to start is measured. */
const LOOK_MS = 250
const MAILBOX_CAPACITY = 4

/**
 * The actor that has as many worker processes run as are wanted. Once a period it asks each model's policy for their number; at every
 * look it starts missing ones and drains those that are too many. Crashed ones are started again by the supervisor.
 */
export const startAutoscaler = Effect.fnUntraced(function* (options: AutoscalerOptions) {
  const { host, periodMs, timers } = options
  const say = Effect.runForkWith(yield* Effect.context())
  const fleets = options.models.map((model) => new Fleet(model, options, say))
  const startedMs = timers.nowMs()
  // The first period begins here: with what was before it, it would be a longer one than those that follow.
  for (const { elastic } of options.models) elastic?.demand.take(startedMs)
  let sampleAtMs = startedMs + periodMs
  const autoscaler = spawn<AutoscalerMessage>({
    id: "autoscaler",
    capacity: MAILBOX_CAPACITY,
    dispatcher: options.dispatcher,
    receive: Effect.fnUntraced(function* () {
      const nowMs = timers.nowMs()
      if (nowMs >= sampleAtMs) {
        sampleAtMs = nowMs + periodMs
        if (!host.draining) for (const fleet of fleets) fleet.sample(nowMs)
      }
      for (const fleet of fleets) yield* fleet.look(nowMs)
      report(fleets, host.desiredWorkers, ({ wanted }) => wanted)
      report(fleets, host.actualWorkers, ({ ready }) => ready)
    })
  })
  const cancel = timers.every(LOOK_MS, () => {
    autoscaler.tell(look)
  })
  autoscaler.tell(look)
  yield* Effect.addFinalizer(() => Effect.sync(cancel))
  return autoscaler
})

/** Sums up `count` by model, whatever part of its requests the processes do. */
const report = (
  fleets: ReadonlyArray<Fleet>,
  counts: Map<string, number>,
  count: (fleet: Fleet) => number
): void => {
  counts.clear()
  for (const fleet of fleets) counts.set(fleet.name, (counts.get(fleet.name) ?? 0) + count(fleet))
}

/** Doubled each time, up to the longest. */
export const restartDelays = (afterMs: number, atMostMs: number): Schedule.Schedule<unknown> =>
  Schedule.min([Schedule.exponential(afterMs, 2), Schedule.spaced(atMostMs)])

/** The processes of one model: what is seen of them, and how orders about them are carried out. */
class Fleet {
  private readonly model: ScaledModel
  private readonly options: AutoscalerOptions
  private readonly say: (line: Effect.Effect<void>) => void
  private readonly state: FleetState
  private readonly scaling: Scaling | undefined
  private readonly commands: ReadonlyArray<WorkerCommand>

  constructor(model: ScaledModel, options: AutoscalerOptions, say: (line: Effect.Effect<void>) => void) {
    const { least, most, name, role } = model
    const { drainMs, restartAtMostMs, startWithinMs, timeScale } = options
    this.model = model
    this.options = options
    this.say = say
    this.state = new FleetState({
      least,
      most,
      drainMs,
      retryMs: restartAtMostMs * timeScale,
      connectMs: startWithinMs * timeScale,
      reconnectMs: RECONNECT_MS * timeScale
    })
    this.scaling = model.elastic?.scaling()
    this.commands = Array.from({ length: most }, (_, index) => options.command(name, role, index))
  }

  get name(): string {
    return this.model.name
  }

  get wanted(): number {
    return this.state.wanted ?? this.model.least
  }

  /** Of these processes. */
  get ready(): number {
    const { name, role } = this.model
    const seen = this.seen(this.options.host.membersOf(name, role))
    return seen.filter(({ state }) => state === "ready").length
  }

  /** Asks the policy, at the end of a period. */
  sample(nowMs: number): void {
    const { model, options, scaling, state } = this
    if (model.elastic === undefined || scaling === undefined) return
    const members = options.host.membersOf(model.name, model.role)
    const names = new Set(this.commands.map(({ name }) => name))
    const ready = members.filter((member) => member.state === "ready")
    // Workers that were started elsewhere count, and none of them is ours to stop.
    const others = ready.filter(({ name }) => !names.has(name)).length
    const view = scalingView(
      model.elastic.demand.take(nowMs),
      {
        ready: ready.map(({ worker }) => worker),
        starting: state.starting(this.seen(members)),
        min: model.least + others,
        max: model.most + others,
        coldStartMs: state.coldStartMs
      },
      options.host.workers
    )
    const wanted = scaling.desired(view, nowMs) - others
    if (wanted !== this.wanted)
      this.say(Effect.logInfo(`${model.name}: ${wanted} workers wanted, after ${this.wanted}`))
    state.wanted = wanted
  }

  /** Does what is to be done about the processes there are. */
  look(nowMs: number): Effect.Effect<void> {
    const members = this.options.host.membersOf(this.model.name, this.model.role)
    const orders = this.state.look(this.seen(members), (among) => this.victim(among, members), nowMs)
    return Effect.forEach(orders, (order) => this.obey(order, nowMs), { discard: true })
  }

  private seen(members: ReadonlyArray<Member>): ReadonlyArray<Sighting> {
    const running = new Map(this.options.workers.children().map(({ id, process }) => [id, process]))
    const states = new Map(members.map(({ name, state }) => [name, state]))
    return this.commands.flatMap(({ name }, index) =>
      running.has(name) ? [{ index, state: states.get(name) ?? "absent", process: running.get(name) }] : []
    )
  }

  private victim(among: ReadonlyArray<number>, members: ReadonlyArray<Member>): number {
    const { host } = this.options
    const values = new Float64Array(host.workers.limit)
    if (host.options.usesPrefixes)
      this.model.elastic?.demand.addCachedValue(host.prefixesOf(host.models.find(this.model.name)), values)
    const slots = new Map(
      among.map((index) => [members.find(({ name }) => name === this.commands[index]!.name)!.worker, index])
    )
    return slots.get(chooseVictim(host.workers, [...slots.keys()], values))!
  }

  private obey(order: FleetOrder, nowMs: number): Effect.Effect<unknown> {
    const { launcher, restartAfterMs, restartAtMostMs, shutdownMs, host, workers, timeScale } = this.options
    const command = this.commands[order.index]!
    switch (order._tag) {
      case "Start": {
        const start = workers.startChild({
          id: command.name,
          start: launcher.launch(command),
          // One that was drained is not wanted, or started anew at the next look.
          restart: "transient",
          shutdown: shutdownMs,
          backoff: restartDelays(restartAfterMs, restartAtMostMs)
        })
        return Effect.match(start, {
          onFailure: () => this.state.startFailed(nowMs),
          onSuccess: () => undefined
        })
      }
      case "Drain":
        return Effect.sync(() => host.drainWorker(command.name))
      case "Stop":
        return this.end(command)
      case "GiveUp": {
        const seconds = Math.round(order.afterMs / timeScale / 1000)
        this.say(
          Effect.logWarning(
            `${command.name} has not been connected for ${seconds} s: ended, to be started anew`
          )
        )
        return this.end(command)
      }
    }
  }

  private end({ name }: WorkerCommand): Effect.Effect<unknown> {
    const { workers } = this.options
    const child = workers.children().find(({ id }) => id === name)
    child?.process?.kill?.()
    return Effect.ignore(workers.stopChild(name))
  }
}
