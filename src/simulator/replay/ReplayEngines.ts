import { KV_KEPT_MS } from "../../engines/Engine.ts"
import type { Sequence } from "../../engines/simulated/Sequence.ts"
import { Event, TICK_MS } from "./Event.ts"
import type { EventCalendar } from "./EventCalendar.ts"
import { slownessOf } from "./faults.ts"
import type { ReplayOptions } from "./Replay.ts"
import { Attempt, ReplayWorker } from "./ReplayWorker.ts"

/** What the engines have of the rest of a replay. */
export interface EnginesPort {
  readonly options: ReplayOptions
  readonly events: EventCalendar
  readonly networkMs: number
  readonly heartbeatMs: number
  /** How long until a worker that says now how it is does so again. */
  readonly beatAfterMs: () => number
  /** By slot: the process there is, or was last. */
  readonly workers: ReadonlyArray<ReplayWorker>
  /** Whether the balancer wants to know what is in the caches. */
  readonly tellsCaches: boolean
  /** A worker that was told to finish and leave has finished. */
  readonly leave: (worker: ReplayWorker) => void
}

/**
 * What happens at the workers: they get requests, run the steps of their engines, and tell what comes of it, which the balancer hears
 * later. Only steps of which something may come have an event; those before them are run when somebody looks.
 */
export class ReplayEngines {
  /** Steps that have ended without an event, less the events with which none ended. */
  uncounted = 0
  private readonly port: EnginesPort
  private readonly events: EventCalendar
  private readonly networkMs: number
  /** Keys of the blocks in the store, where there is one; and whether a cache is being filled from it. */
  private readonly store: Set<number> | undefined
  private recalling = false

  constructor(port: EnginesPort) {
    this.port = port
    this.events = port.events
    this.networkMs = port.networkMs
    this.store = port.options.sharedCache === true ? new Set() : undefined
  }

  /** A new process of the worker in a slot. */
  make(slot: number, serial: number): ReplayWorker {
    const { slowDowns = [], workers, workload } = this.port.options
    const worker: ReplayWorker = new ReplayWorker(
      workers[slot]!,
      { serial, slot, slowness: slownessOf(slowDowns, slot, this.events.timeMs) },
      workload.blockTokens,
      {
        token: (sequence, index) => this.token(worker, sequence, index),
        finished: (sequence) => this.finished(worker, sequence)
      },
      this.store !== undefined
        ? { stored: this.share, removed: () => undefined }
        : this.port.tellsCaches
          ? {
              stored: (keys, from, to) => this.tell(worker, true, keys, from, to),
              // The run may grow into other keys before this is heard.
              removed: (keys, from, to) => this.tell(worker, false, keys.slice(from, to), 0, to - from)
            }
          : undefined
    )
    return worker
  }

  private tell(worker: ReplayWorker, stored: boolean, keys: Float64Array, from: number, to: number): void {
    const { serial, unheard } = worker
    const heardMs = this.events.timeMs + this.networkMs
    if (unheard.at(-1)?.heardMs !== heardMs) this.events.add(heardMs, Event.cache, serial)
    unheard.push({ heardMs, stored, keys, from, to })
  }

  /** Blocks that some worker computes are in the store, as good as cached at every worker, those to come too. */
  private readonly share = (keys: Float64Array, from: number, to: number): void => {
    if (this.recalling) return
    for (let i = from; i < to; i++) this.store!.add(keys[i]!)
    for (const worker of this.port.workers) this.tell(worker, true, keys, from, to)
  }

  /** What happens at a process that is up. */
  handle(worker: ReplayWorker, kind: number, b: number): void {
    switch (kind) {
      case Event.step:
        return this.stepDue(worker, b)
      case Event.cancelled:
        return this.cancel(worker, b)
      case Event.arrived:
        return this.resume(worker)
      case Event.beat:
        return this.beat(worker)
      case Event.drained:
        worker.draining = true
        return this.leaveIfDrained(worker)
    }
  }

  /** From now on it is as slow as its slow-downs say. */
  slow(worker: ReplayWorker): void {
    this.catchUp(worker, Number.POSITIVE_INFINITY)
    worker.slow(slownessOf(this.port.options.slowDowns!, worker.slot, this.events.timeMs))
    if (worker.stepping && worker.life === "up") this.watch(worker)
  }

  /** An attempt at the request of this number comes; `part`, a `Role`, says what of the request it does. */
  begin(worker: ReplayWorker, attempt: number, number: number, part: number): void {
    this.catchUp(worker, this.networkMs)
    const { requests } = this.port.options.workload
    const sequence = worker.batch.submit(
      new Attempt(attempt, number, part, requests[number]!),
      this.events.timeMs
    )
    if (sequence === undefined) return this.events.after(this.networkMs, Event.refused, attempt, number)
    worker.attempts.set(attempt, sequence)
    this.resume(worker)
  }

  private cancel(worker: ReplayWorker, attempt: number): void {
    const sequence = worker.attempts.get(attempt)
    if (sequence === undefined) return
    worker.attempts.delete(attempt)
    this.drop(worker, sequence)
  }

  /** Lets those KV caches go of which it has not heard in time what is to become of them. */
  private forget(worker: ReplayWorker): void {
    const { kept } = worker
    while (kept.length > 0 && this.events.timeMs - kept[0]!.sinceMs > KV_KEPT_MS)
      this.drop(worker, kept.shift()!.sequence)
  }

  private drop(worker: ReplayWorker, sequence: Sequence<Attempt>): void {
    const { batch } = worker
    this.catchUp(worker, this.networkMs)
    batch.cancel(sequence)
    // There may be room for who waits.
    if (batch.waiting > 0 || worker.stepping) this.resume(worker)
    else this.leaveIfDrained(worker)
  }

  private leaveIfDrained(worker: ReplayWorker): void {
    if (worker.draining && !worker.stepping && worker.isIdle) this.port.leave(worker)
  }

  /** There may be something to do. */
  private resume(worker: ReplayWorker): void {
    if (worker.stepping) this.watch(worker)
    else this.step(worker)
  }

  private step(worker: ReplayWorker): void {
    const { timeMs } = this.events
    if (this.store !== undefined) {
      this.recalling = true
      worker.recall(this.store)
      this.recalling = false
    }
    worker.step(timeMs)
    this.tellStep(worker, timeMs)
    if (worker.stepping) return this.watch(worker)
    this.leaveIfDrained(worker)
    const { nextArrivalMs } = worker.batch
    if (nextArrivalMs === worker.wakesMs || nextArrivalMs === Number.POSITIVE_INFINITY) return
    worker.wakesMs = nextArrivalMs
    this.events.add(nextArrivalMs, Event.arrived, worker.serial)
  }

  /** Sees to it that the next step of which something may come ends by an event. Quiet ones before it are run when somebody looks. */
  private watch(worker: ReplayWorker): void {
    const { nextDueMs } = worker
    if (nextDueMs === worker.dueMs) return
    worker.dueMs = nextDueMs
    worker.due = (worker.due + 1) & 0x7fffffff
    this.events.add(nextDueMs, Event.step, worker.serial, worker.due)
  }

  /** It is time to look at its steps, unless something has come between and there is another event for it. */
  private stepDue(worker: ReplayWorker, due: number): void {
    if (due === worker.due) {
      const { timeMs } = this.events
      worker.dueMs = -1
      if (worker.endsMs < timeMs) this.catchUp(worker, this.networkMs)
      if (worker.endsMs === timeMs) return this.step(worker)
      this.watch(worker)
    }
    this.uncounted--
  }

  /** Runs the quiet steps that have ended. What happens now was to happen since `beforeMs`: of two things at one time the older one is first. */
  catchUp(worker: ReplayWorker, beforeMs: number): void {
    const { timeMs } = this.events
    if (worker.endsMs > timeMs || !worker.stepping || worker.life !== "up") return
    for (let quiet = worker.batch.quietSteps; quiet > 0; quiet--) {
      const { beganMs, endsMs } = worker
      if (endsMs > timeMs || (endsMs === timeMs && beganMs >= timeMs - beforeMs)) return
      worker.step(endsMs)
      this.uncounted++
      this.tellStep(worker, endsMs)
    }
  }

  /** A step has ended, and what decodes has got a token. Nobody counts tokens between two ticks: who hears of it by the next has heard. */
  private tellStep(worker: ReplayWorker, endedMs: number): void {
    const heardMs = endedMs + this.networkMs
    const { stepsEnded } = worker.batch
    const tickMs = (Math.floor(endedMs / TICK_MS) + 1) * TICK_MS
    if (heardMs <= tickMs || heardMs <= this.events.timeMs) worker.stepped(stepsEnded)
    else this.events.add(heardMs, Event.stepped, worker.serial, stepsEnded)
  }

  private token(worker: ReplayWorker, sequence: Sequence<Attempt>, index: number): void {
    // After a preemption it is one of the many that are counted by the step.
    if (index > 0) return
    const { attempt, handedOver, request } = sequence.request
    if (!handedOver) worker.read(sequence)
    this.events.after(this.networkMs, Event.first, attempt, request)
  }

  private finished(worker: ReplayWorker, sequence: Sequence<Attempt>): void {
    const { attempt, outputTokens, request } = sequence.request
    worker.done++
    if (outputTokens > 0) return this.events.after(this.networkMs, Event.done, attempt, request)
    worker.read(sequence)
    worker.kept.push({ sequence, sinceMs: this.events.timeMs })
    this.events.after(this.networkMs, Event.read, attempt, request)
  }

  /** It says how it is, and will again. */
  beat(worker: ReplayWorker): void {
    const { beats, serial } = worker
    this.catchUp(worker, this.port.heartbeatMs)
    this.forget(worker)
    beats.push(worker.load())
    this.events.after(this.networkMs, Event.heard, serial)
    this.events.after(this.port.beatAfterMs(), Event.beat, serial)
  }
}
