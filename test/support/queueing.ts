import { Reason } from "../../src/domain/Outcome.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { PlacementEntry } from "../../src/policies/Placement.ts"
import type { OptionValue } from "../../src/domain/config/pipeline.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { charge, equalWorkers, oneRequest, poolOf, prefilled, release } from "./pools.ts"

interface Queueing {
  readonly workers: number
  /** Share of the time in which a worker has something to do. */
  readonly load: number
  readonly arrivals: number
  /** Length of the next prompt, in tokens of 1 ms each, and its mean. */
  readonly promptTokens: (rng: Rng) => number
  readonly promptTokensMean: number
  readonly options?: Readonly<Record<string, OptionValue>>
}

/** One request that was served, in the order of arrival. */
export interface Served {
  readonly worker: number
  readonly promptTokens: number
  readonly waitMs: number
}

/** Exponential, with mean 1. */
export const exponential = (rng: Rng): number => -Math.log(1 - rng.next())

/**
 * What becomes of requests that arrive at random (Poisson) at equal workers, each of which computes prompts in the order of their arrival,
 * a token in 1 ms, and does nothing else. The policy hears of it all; the columns are exact. The first tenth of the requests is left out.
 */
export const serve = (entry: PlacementEntry, queueing: Queueing): ReadonlyArray<Served> => {
  const { workers, load, arrivals, promptTokens, promptTokensMean, options = {} } = queueing
  const rng = makeRng(1)
  const pool = poolOf(
    equalWorkers(workers, {
      inFlight: 0,
      capacity: 2 ** 30,
      prefillTokenMs: 1,
      baseMs: 1e-9,
      decodeSequenceMs: 0
    })
  )
  const placement = entry.make(options, rng.split(1))
  for (let worker = 0; worker < workers; worker++) placement.changed?.(worker, true, pool, 0)
  const freeMs = new Float64Array(workers)
  const ends = new Ends()
  const served: Array<Served> = []
  const finishUntil = (untilMs: number): void => {
    for (let end = ends.popBefore(untilMs); end !== undefined; end = ends.popBefore(untilMs)) {
      const { atMs, worker, placed } = end
      prefilled(pool, worker, placed, atMs)
      placement.timed?.(placed, worker, pool, atMs)
      placement.started?.(placed, worker, pool, atMs)
      release(pool, worker, placed)
      placement.released?.(placed, worker, Reason.none, pool, atMs)
      placement.ended?.(placed, Reason.none, pool, atMs)
    }
  }
  let nowMs = 0
  for (let number = 0; number < arrivals; number++) {
    nowMs += (exponential(rng) * promptTokensMean) / (workers * load)
    finishUntil(nowMs)
    const one = {
      ...oneRequest,
      slot: number % 65_536,
      idLow: number,
      promptTokens: promptTokens(rng),
      maxTokens: 1
    }
    const worker = placement.pick(one, pool, nowMs)
    const placed = charge(pool, worker, one, nowMs)
    placement.placed?.(placed, worker, pool, nowMs)
    const beginsMs = Math.max(nowMs, freeMs[worker]!)
    freeMs[worker] = beginsMs + one.promptTokens
    ends.push({ atMs: freeMs[worker], worker, placed })
    served.push({ worker, promptTokens: one.promptTokens, waitMs: beginsMs - nowMs })
  }
  return served.slice(arrivals / 10)
}

/** Mean time from arrival to the end. */
export const responseMsMean = (served: ReadonlyArray<Served>): number =>
  served.reduce((sum, { waitMs, promptTokens }) => sum + waitMs + promptTokens, 0) / served.length

export const waitMsMean = (served: ReadonlyArray<Served>): number =>
  served.reduce((sum, { waitMs }) => sum + waitMs, 0) / served.length

interface End {
  readonly atMs: number
  readonly worker: number
  readonly placed: RequestView
}

/** A binary heap by time. */
class Ends {
  private readonly heap: Array<End> = []

  push(end: End): void {
    const { heap } = this
    let at = heap.push(end) - 1
    while (at > 0 && heap[(at - 1) >> 1]!.atMs > end.atMs) {
      heap[at] = heap[(at - 1) >> 1]!
      at = (at - 1) >> 1
    }
    heap[at] = end
  }

  popBefore(untilMs: number): End | undefined {
    const { heap } = this
    const [first] = heap
    if (first === undefined || first.atMs > untilMs) return undefined
    const last = heap.pop()!
    if (heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child + 1 < heap.length && heap[child + 1]!.atMs < heap[child]!.atMs) child++
      if (child >= heap.length || heap[child]!.atMs >= last.atMs) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}
