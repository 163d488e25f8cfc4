import type { WorkerState } from "../domain/Snapshot.ts"

/** What is known of one worker process: the state it has in its pool, and "absent" while it is not connected. */
export interface Sighting {
  /** Its number among the processes of its model. */
  readonly index: number
  readonly state: WorkerState | "absent"
  /** The process itself: whatever differs from the one before it and the one after it. Undefined while it waits to be started again. */
  readonly process: unknown
}

export type FleetOrder =
  | { readonly _tag: "Start"; readonly index: number }
  /** Take no new work, finish, and leave. */
  | { readonly _tag: "Drain"; readonly index: number }
  /** Ends a process that has no requests, or none that it could still finish. */
  | { readonly _tag: "Stop"; readonly index: number }
  /** Ends a process that has had no connection for `afterMs`, as one that hangs or is frozen: the next look starts another one. */
  | { readonly _tag: "GiveUp"; readonly index: number; readonly afterMs: number }

export interface FleetOptions {
  /** Bounds of the number of processes; the larger one holds for those on their way out too. */
  readonly least: number
  readonly most: number
  /** How long a process may drain. No request lives longer. */
  readonly drainMs: number
  /** Wait after a start that failed. */
  readonly retryMs: number
  /** How long a process may take to make its first connection. */
  readonly connectMs: number
  /** How long one that has lost its connection may take to make it again. */
  readonly reconnectMs: number
}

/**
 * Of one process: when it was first seen without a connection, undefined while it has one. What lies before that may be our own pause:
 * whoever stood still finds that all workers have given them up.
 */
interface Sign {
  readonly process: unknown
  readonly absentMs: number | undefined
  readonly wasConnected: boolean
}

/** How long a process that has lost its connection may take to make it again: it dials once a second. */
export const RECONNECT_MS = 60_000
/** Weight of the newest of the times that workers took to start. */
const NEWEST_WEIGHT = 0.5

/**
 * The worker processes of one model on this machine: as many as are wanted, of which some leave. Pure. It goes by what it sees alone, so
 * that whatever happened behind its back (crashes, restarts, drains by others, a crash of its own) comes right with the next look.
 */
export class FleetState {
  private readonly options: FleetOptions
  /** Processes there should be, those on their way out not counted, as the owner says; undefined until then or the first look. */
  wanted: number | undefined
  /** Those on their way out, since when. */
  private readonly leaving = new Map<number, number>()
  /** Those that were ordered and were not ready yet, since when. */
  private readonly ordered = new Map<number, number>()
  /** What was seen of the connection of each. */
  private readonly signs = new Map<number, Sign>()
  private startsAfterMs = Number.NEGATIVE_INFINITY
  /** From the order to start a worker until it was ready; NaN before there was one. */
  coldStartMs = Number.NaN

  constructor(options: FleetOptions) {
    this.options = options
  }

  /** How many of the processes seen are to be ready: those on their way out are not. */
  starting(seen: ReadonlyArray<Sighting>): number {
    return this.stayers(seen).filter(({ state }) => state !== "ready").length
  }

  /** A start that was ordered failed. */
  startFailed(nowMs: number): void {
    this.startsAfterMs = nowMs + this.options.retryMs
  }

  /**
   * What is to be done about the processes there are. `seen` has all of them, each once; `chooseVictim` picks one of those connected, by
   * index, when there are too many.
   */
  look(
    seen: ReadonlyArray<Sighting>,
    chooseVictim: (candidates: ReadonlyArray<number>) => number,
    nowMs: number
  ): ReadonlyArray<FleetOrder> {
    const { least, most } = this.options
    this.learn(seen, nowMs)
    const staying = this.stayers(seen)
    this.wanted ??= Math.min(Math.max(staying.length, least), most)
    return [
      ...this.hurry(seen, nowMs),
      ...this.start(this.wanted - staying.length, seen, nowMs),
      ...this.shrink(staying.length - this.wanted, staying, chooseVictim, nowMs),
      ...this.giveUp(nowMs)
    ]
  }

  /** Those that are not on their way out. */
  private stayers(seen: ReadonlyArray<Sighting>): ReadonlyArray<Sighting> {
    return seen.filter(({ index }) => !this.leaving.has(index))
  }

  private learn(seen: ReadonlyArray<Sighting>, nowMs: number): void {
    const states = new Map(seen.map(({ index, state }) => [index, state]))
    for (const index of this.leaving.keys()) if (!states.has(index)) this.leaving.delete(index)
    for (const index of this.signs.keys()) if (!states.has(index)) this.signs.delete(index)
    for (const [index, orderedMs] of this.ordered) {
      const state = states.get(index)
      if (state !== undefined && state !== "ready") continue
      this.ordered.delete(index)
      if (state === undefined) continue
      const tookMs = nowMs - orderedMs
      this.coldStartMs = Number.isNaN(this.coldStartMs)
        ? tookMs
        : this.coldStartMs + NEWEST_WEIGHT * (tookMs - this.coldStartMs)
    }
    for (const { index, state, process } of seen) {
      if (state === "draining" && !this.leaving.has(index)) this.leaving.set(index, nowMs)
      const last = this.signs.get(index)
      const known = last?.process === process ? last : undefined
      const isAbsent = state === "absent"
      this.signs.set(index, {
        process,
        absentMs: isAbsent ? (known?.absentMs ?? nowMs) : undefined,
        wasConnected: !isAbsent || known?.wasConnected === true
      })
    }
  }

  /** Sees to it that those on their way out go: one that was restarted meanwhile knows nothing of it. */
  private hurry(seen: ReadonlyArray<Sighting>, nowMs: number): ReadonlyArray<FleetOrder> {
    return seen.flatMap(({ index, state }): ReadonlyArray<FleetOrder> => {
      const sinceMs = this.leaving.get(index)
      if (sinceMs === undefined) return []
      if (state === "absent" || nowMs - sinceMs > this.options.drainMs) return [{ _tag: "Stop", index }]
      return state === "draining" ? [] : [{ _tag: "Drain", index }]
    })
  }

  /** Ends those that do not come, or do not come back. */
  private giveUp(nowMs: number): ReadonlyArray<FleetOrder> {
    const { connectMs, reconnectMs } = this.options
    return [...this.signs].flatMap(
      ([index, { absentMs, process, wasConnected }]): ReadonlyArray<FleetOrder> => {
        const afterMs = wasConnected ? reconnectMs : connectMs
        if (process === undefined || absentMs === undefined || nowMs - absentMs <= afterMs) return []
        if (this.leaving.has(index)) return []
        return [{ _tag: "GiveUp", index, afterMs }]
      }
    )
  }

  private start(count: number, seen: ReadonlyArray<Sighting>, nowMs: number): ReadonlyArray<FleetOrder> {
    if (count <= 0 || nowMs < this.startsAfterMs) return []
    const taken = new Set(seen.map(({ index }) => index))
    const free = Array.from({ length: this.options.most }, (_, index) => index).filter((i) => !taken.has(i))
    return free.slice(0, count).map((index) => {
      this.ordered.set(index, nowMs)
      return { _tag: "Start", index }
    })
  }

  /** Those that hold nothing go first. */
  private shrink(
    count: number,
    staying: ReadonlyArray<Sighting>,
    chooseVictim: (candidates: ReadonlyArray<number>) => number,
    nowMs: number
  ): ReadonlyArray<FleetOrder> {
    const orders: Array<FleetOrder> = []
    const absent = staying.filter(({ state }) => state === "absent").map(({ index }) => index)
    let connected = staying.filter(({ state }) => state !== "absent").map(({ index }) => index)
    for (let left = count; left > 0; left--) {
      const idle = absent.pop()
      const index = idle ?? chooseVictim(connected)
      connected = connected.filter((other) => other !== index)
      this.leaving.set(index, nowMs)
      orders.push({ _tag: idle === undefined ? "Drain" : "Stop", index })
    }
    return orders
  }
}
