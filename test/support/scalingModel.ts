import type { Scaling, ScalingView } from "../../src/policies/Scaling.ts"
import { erlangC } from "../../src/structures/ErlangC.ts"

export const PERIOD_MS = 15_000
const PREFILL_MS = 100
const LATE_SHARE = 0.05

/** Requests that always arrive at one rate and take one time, and the workers there may be for them. */
export interface Steady {
  readonly arrivalsPerSecond: number
  readonly serviceMs: number
  /** Requests a worker takes at once. */
  readonly capacity: number
  readonly min: number
  readonly max: number
}

/** Requests at workers at once if all are served. */
export const offered = ({ arrivalsPerSecond, serviceMs }: Steady): number =>
  (arrivalsPerSecond * serviceMs) / 1000

/** 95 of 100 requests have their first token within this time when nobody waits from before. */
export const ttftMsP95 = (steady: Steady, count: number): number => {
  const servers = count * steady.capacity
  const load = offered(steady)
  if (servers <= load) return Number.POSITIVE_INFINITY
  const waits = Math.log(erlangC(servers, load) / LATE_SHARE) / (servers - load)
  return PREFILL_MS + Math.max(0, waits) * steady.serviceMs
}

export interface Course {
  /** Workers there are, and on their way, after each decision. */
  readonly counts: ReadonlyArray<number>
  /** Requests that waited when it was made. */
  readonly queued: ReadonlyArray<number>
}

/** A pool as a fluid: what arrives beyond what its workers serve waits, and is worked off with what they have to spare. */
export const course = (
  policy: Scaling,
  steady: Steady,
  from: { readonly count: number; readonly coldPeriods: number },
  periods: number
): Course => {
  const { arrivalsPerSecond, capacity, max, min, serviceMs } = steady
  const load = offered(steady)
  const counts: Array<number> = []
  const queues: Array<number> = []
  /** Counts ordered and not ready, the oldest first. */
  const coming: Array<number> = []
  let ready = from.count
  let queued = 0
  for (let period = 0; period < periods; period++) {
    const servers = ready * capacity
    const before = queued
    queued = Math.max(0, before + ((load - servers) * PERIOD_MS) / serviceMs)
    const waitMs = (Math.max(before, queued) * serviceMs) / servers
    const inFlight = before > 0 ? servers : Math.min(load, servers)
    const starting = coming.reduce((sum, count) => sum + count, 0)
    const view: ScalingView = {
      ready,
      starting,
      min,
      max,
      periodMs: PERIOD_MS,
      arrivalsPerSecond,
      serviceMs,
      capacity,
      inFlight,
      queued,
      ttftMsP95: waitMs > 0 ? PREFILL_MS + waitMs : ttftMsP95(steady, ready),
      backlogMs: (PREFILL_MS * (load + queued)) / (ready * capacity) + waitMs,
      kvUse: inFlight / servers,
      coldStartMs: from.coldPeriods * PERIOD_MS
    }
    const wanted = policy.desired(view, period * PERIOD_MS)
    counts.push(wanted)
    queues.push(queued)
    const more = wanted - ready - starting
    if (more >= 0) coming.push(more)
    else {
      let fewer = -more
      for (let i = coming.length - 1; i >= 0; i--) {
        const taken = Math.min(fewer, coming[i]!)
        coming[i]! -= taken
        fewer -= taken
      }
      coming.push(0)
      ready -= fewer
    }
    while (coming.length > from.coldPeriods) ready += coming.shift()!
  }
  return { counts, queued: queues }
}
