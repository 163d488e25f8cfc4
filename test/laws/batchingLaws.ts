import { expect } from "bun:test"
import * as fc from "fast-check"
import type { Batching } from "../../src/policies/Batching.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"
import { shared } from "../support/arbitraries.ts"
import { equalWorkers, oneRequest, poolOf } from "../support/pools.ts"

export interface BatchingSubject {
  readonly make: (options: Readonly<Record<string, number | boolean>>, rng: Rng) => Batching
  /** Longest wait and largest batch at the defaults. */
  readonly delayMs: number
  readonly sizeMax: number
}

/** A statement about every batching policy. `check` throws where it does not hold. */
export interface BatchingLaw {
  readonly id: string
  readonly statement: string
  readonly check: (subject: BatchingSubject) => void
}

type Arrival = {
  readonly afterMs: number
  readonly count: number
  readonly idle: boolean
  readonly ttftMs: number
}

const arrivals: fc.Arbitrary<ReadonlyArray<Arrival>> = fc.array(
  fc.record({
    afterMs: fc.constantFrom(0, 0, 1, 5, 40, 1000),
    count: fc.integer({ min: 1, max: 100 }),
    idle: fc.boolean(),
    ttftMs: fc.constantFrom(1, 100, 499, 2000)
  }),
  { maxLength: 40, size: "max" }
)

/** Some twenty in each. */
const streams = shared(arrivals, 100)

interface Batch {
  readonly size: number
  readonly waitedMs: number
}

/** Drives a policy as the balancer does, with room for everything: the batches that were made, in order. */
const batchesOf = ({ make }: BatchingSubject, steps: ReadonlyArray<Arrival>): ReadonlyArray<Batch> => {
  const batching = make({}, makeRng(1))
  const pool = poolOf(equalWorkers(2))
  const batches: Array<Batch> = []
  let nowMs = 0
  let count = 0
  let sinceMs = 0
  let idle = false
  /** Closes what is due, and says when the next batch is. */
  const serve = (): number => {
    while (count > 0) {
      const atMs = batching.closesAtMs({ count, sinceMs, idle }, nowMs)
      if (atMs > nowMs) return atMs
      const size = Math.min(batching.sizeMax(), count)
      batches.push({ size, waitedMs: nowMs - sinceMs })
      count -= size
      sinceMs = nowMs
      // No balancer would go on with a batch of nobody.
      if (size < 1) return Number.POSITIVE_INFINITY
    }
    return Number.POSITIVE_INFINITY
  }
  let dueMs = Number.POSITIVE_INFINITY
  const advance = (untilMs: number): void => {
    while (dueMs <= untilMs) {
      nowMs = dueMs
      dueMs = serve()
    }
    nowMs = untilMs
  }
  for (const step of steps) {
    advance(nowMs + step.afterMs)
    if (count === 0) sinceMs = nowMs
    count += step.count
    idle = step.idle
    batching.timed?.({ ...oneRequest, arrivedMs: nowMs - step.ttftMs }, 0, pool, nowMs)
    dueMs = serve()
  }
  advance(nowMs + 1e6)
  expect(count).toBe(0)
  return batches
}

export const batchingLaws: ReadonlyArray<BatchingLaw> = [
  {
    id: "batching-bounded",
    statement:
      "every request is placed, no batch is empty or larger than the largest, and none waits longer than the delay",
    check: (subject) =>
      streams((steps) => {
        const batches = batchesOf(subject, steps)
        const total = steps.reduce((sum, { count }) => sum + count, 0)
        expect(batches.reduce((sum, { size }) => sum + size, 0)).toBe(total)
        const wrong = batches.filter(
          ({ size, waitedMs }) => size < 1 || size > subject.sizeMax || waitedMs > subject.delayMs
        )
        expect(wrong).toEqual([])
      })
  },
  {
    id: "batching-idle",
    statement: "while a worker has nothing to do nobody waits",
    check: (subject) =>
      streams((steps) => {
        const idle = steps.map((step) => ({ ...step, idle: true }))
        expect(batchesOf(subject, idle).filter(({ waitedMs }) => waitedMs > 0)).toEqual([])
      })
  },
  {
    id: "batching-deterministic",
    statement: "the same arrivals give the same batches",
    check: (subject) =>
      streams((steps) => {
        const again = batchesOf(subject, steps)
        const batches = batchesOf(subject, steps)
        const at = batches.findIndex(
          ({ size, waitedMs }, i) => size !== again[i]?.size || waitedMs !== again[i]?.waitedMs
        )
        expect([at, batches.length]).toEqual([-1, again.length])
      })
  }
]

/** Requests that come all `gapMs`, each with that time to first token; the sizes of the last batches. */
export const steadySizes = (subject: BatchingSubject, gapMs: number, ttftMs: number): ReadonlyArray<number> =>
  batchesOf(
    subject,
    Array.from({ length: 2000 }, () => ({ afterMs: gapMs, count: 1, idle: false, ttftMs }))
  )
    .slice(-50)
    .map(({ size }) => size)
