import * as fc from "fast-check"
import type { BatchRequests, BatchWorkers } from "../../src/structures/BatchPlacement.ts"
import type { ChainedRequests } from "../../src/structures/RadixPlacement.ts"

export interface WorkerRow {
  readonly backlog: number
  readonly speed: number
  readonly headroom: number
}

/** Requests by their costs, and the workers of some slots in the order they are dealt to. */
export interface Batch {
  readonly costs: ReadonlyArray<number>
  readonly rows: ReadonlyArray<WorkerRow>
  readonly order: ReadonlyArray<number>
}

const ROOMY = fc.constant(Number.POSITIVE_INFINITY)

/** Small numbers, so that ties, exact fits and quotas of nothing are common. */
const row = (headroom: fc.Arbitrary<number>): fc.Arbitrary<WorkerRow> =>
  fc.record({
    backlog: fc.oneof(fc.constant(0), fc.nat(9), fc.nat(200)),
    speed: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 500, max: 2000 })),
    headroom
  })

const costs = fc.array(fc.oneof(fc.nat(3), fc.nat(12), fc.nat(90)), { maxLength: 24 })

const batchOf = (rows: fc.Arbitrary<ReadonlyArray<WorkerRow>>): fc.Arbitrary<Batch> =>
  rows.chain((rows) =>
    fc.record({
      costs,
      rows: fc.constant(rows),
      order: fc.shuffledSubarray(
        rows.map((_, slot) => slot),
        { minLength: 1 }
      )
    })
  )

/** Workers that have room for anything. */
export const roomyBatch = batchOf(fc.array(row(ROOMY), { minLength: 1, maxLength: 6 }))

/** Workers with little room; often less than the requests need. */
export const tightBatch = batchOf(
  fc.array(row(fc.oneof({ weight: 4, arbitrary: fc.nat(60) }, ROOMY)), { minLength: 1, maxLength: 6 })
)

/** Idle workers without differences. */
export const equalBatch = (speed: number): fc.Arbitrary<Batch> =>
  batchOf(
    fc.array(fc.constant({ backlog: 0, speed, headroom: Number.POSITIVE_INFINITY }), {
      minLength: 1,
      maxLength: 4
    })
  ).map((batch) => ({ ...batch, costs: batch.costs.slice(0, 11) }))

export const requestsOf = ({ costs }: Batch): BatchRequests => ({
  count: costs.length,
  cost: Float64Array.from(costs)
})

export const workersOf = ({ rows, order }: Batch): BatchWorkers => ({
  count: order.length,
  order: Int32Array.from(order),
  backlog: Float64Array.from(rows, ({ backlog }) => backlog),
  speed: Int32Array.from(rows, ({ speed }) => speed),
  headroom: Float64Array.from(rows, ({ headroom }) => headroom)
})

/** The workers that may get something, in their order. */
export const dealtTo = ({ rows, order }: Batch): ReadonlyArray<WorkerRow> => order.map((slot) => rows[slot]!)

export const sum = (values: ReadonlyArray<number>): number =>
  values.reduce((total, value) => total + value, 0)

/** What each worker of the order got. */
export const loadsOf = ({ costs, order }: Batch, placed: ReadonlyArray<number>): ReadonlyArray<number> =>
  order.map((slot) => sum(costs.filter((_, i) => placed[i] === slot)))

/** Paths through a tree, root first: what chains of block hashes stand for. */
export type Paths = ReadonlyArray<ReadonlyArray<number>>

/** Requests with a block for each step of their path, at a cost of 1 each. Neither half of a block's hash tells it from all others. */
export const chainedRequests = (paths: Paths): ChainedRequests => {
  const ids = new Map<string, number>()
  const idOf = (prefix: string): number => {
    if (!ids.has(prefix)) ids.set(prefix, ids.size)
    return ids.get(prefix)!
  }
  return {
    count: paths.length,
    cost: Float64Array.from(paths, (path) => path.length),
    blockCost: 1,
    requests: paths.map((path) => {
      const hashes = path.map((_, depth) => idOf(path.slice(0, depth + 1).join()))
      const high = Uint32Array.from(hashes, (id) => Math.floor(id / 3))
      return { chain: { count: path.length, high, low: Uint32Array.from(hashes, (id) => id % 3) } }
    })
  }
}
