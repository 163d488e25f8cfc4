import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { BatchPlacement } from "../../src/structures/BatchPlacement.ts"
import { mix } from "../../src/structures/hash.ts"
import {
  blockedPrefixSum,
  blockStart,
  prefixSum,
  sumOf,
  treePrefixSum
} from "../../src/structures/PrefixSum.ts"
import { RadixOrder } from "../../src/structures/RadixOrder.ts"
import { RadixPlacement } from "../../src/structures/RadixPlacement.ts"
import { segmentStart, segmentStarts } from "../../src/structures/segmentStarts.ts"
import { WaterLevel } from "../../src/structures/WaterLevel.ts"
import { holds } from "../support/arbitraries.ts"
import { chainedRequests, requestsOf, roomyBatch, sum, tightBatch, workersOf } from "../support/batches.ts"
import { exactQuotas } from "../support/batchOracles.ts"
import { naiveBatch, parts } from "../support/naiveBatch.ts"
import { findsAll, type Planted } from "../support/planted.ts"
import {
  headShare,
  type Level,
  levelLaws,
  type Place,
  placeLaws,
  type Radix,
  radixLaws,
  type Scan,
  scanLaws,
  type Segments,
  segmentLaws,
  type StepLaw
} from "./prefixSumLaws.ts"

/** Memory that several threads may work on. */
const shared = (values: ReadonlyArray<number>): Float64Array => {
  const column = new Float64Array(new SharedArrayBuffer(8 * values.length))
  column.set(values)
  return column
}

/** Blocks in an order that looks random: what threads may make of a step whose blocks are independent of each other. */
const anyOrder = (blockCount: number): ReadonlyArray<number> =>
  Array.from({ length: blockCount }, (_, block) => block).toSorted((a, b) => mix(7, 0, a) - mix(7, 0, b))

const scanOf =
  (scan: (values: Float64Array, sums: Float64Array) => void): Scan =>
  (values) => {
    const sums = new Float64Array(values.length)
    scan(Float64Array.from(values), sums)
    return [...sums]
  }

const blockedScan = (blockCount: number): Scan =>
  scanOf((values, sums) => blockedPrefixSum(values, sums, values.length, new Float64Array(blockCount)))

const scans: Readonly<Record<string, Scan>> = {
  "one after the other": scanOf((values, sums) => prefixSum(values, sums, 0, values.length)),
  "in 1 block": blockedScan(1),
  "in 7 blocks": blockedScan(7),
  "in more blocks than values": blockedScan(100),
  "in a tree": scanOf((values, sums) => {
    sums.set(values)
    treePrefixSum(sums, values.length)
  }),
  "in shared memory, blocks in any order": (values) => {
    const [cost, sums] = [shared(values), shared(values)]
    const start = (block: number): number => blockStart(block, 5, values.length)
    const before = shared([0, 0, 0, 0, 0])
    for (const block of anyOrder(5)) before[block] = sumOf(cost, start(block), start(block + 1))
    for (const block of anyOrder(5))
      prefixSum(cost, sums, start(block), start(block + 1), sumOf(before, 0, block))
    return [...sums]
  }
}

const segmentsOf =
  (write: (sums: Float64Array, edges: Float64Array, starts: Int32Array) => void): Segments =>
  (sums, edges) => {
    const starts = new Int32Array(edges.length + 1).fill(-1)
    write(shared(sums), shared(edges), starts)
    return [...starts]
  }

const segmentations: Readonly<Record<string, Segments>> = {
  "by merging": segmentsOf((sums, edges, starts) =>
    segmentStarts(sums, sums.length, edges, 0, edges.length, starts)
  ),
  "by searching": segmentsOf((sums, edges, starts) => {
    for (const k of starts.keys()) starts[k] = segmentStart(sums, sums.length, edges, k)
  }),
  "in shared memory, blocks of workers in any order": segmentsOf((sums, edges, starts) => {
    const start = (block: number): number => blockStart(block, 3, edges.length)
    for (const block of anyOrder(3))
      segmentStarts(sums, sums.length, edges, start(block), start(block + 1), starts)
  })
}

const levelOf: Level = (total, rows) => {
  const water = new WaterLevel()
  const { backlog, speed, headroom } = workersOf({ costs: [], rows, order: [] })
  water.fill(total, { count: rows.length, backlog, speed, headroom })
  return { level: water.level, edges: [...water.edges.subarray(0, rows.length)] }
}

/** One object for all batches of a law: what it keeps from one must not show in the next. */
const batchPlacement = new BatchPlacement()
const place: Place = (batch, headShare) => {
  const placed = new Int32Array(batch.costs.length).fill(99)
  const count = batchPlacement.place(requestsOf(batch), workersOf(batch), placed, headShare)
  expect(count).toBe(placed.filter((slot) => slot >= 0).length)
  return [...placed]
}

const radixOrder = new RadixOrder()
const radixPlacement = new RadixPlacement()
const radix: Radix = {
  sort: (paths) => {
    radixOrder.sort(chainedRequests(paths).requests, paths.length)
    const { count, order, shared } = radixOrder
    return { order: [...order.subarray(0, count)], shared: [...shared.subarray(0, count)] }
  },
  admit: (paths, room) => {
    const { blockCost, cost, requests } = chainedRequests(paths)
    radixOrder.sort(requests, paths.length)
    radixOrder.admit(cost, blockCost, room)
    return [...radixOrder.order.subarray(0, radixOrder.count)]
  },
  place: (paths, batch) => {
    const placed = new Int32Array(paths.length).fill(99)
    radixPlacement.place(chainedRequests(paths), workersOf(batch), placed)
    return [...placed]
  }
}

const obeys = <Subject>(subject: Subject, laws: ReadonlyArray<StepLaw<Subject>>): void =>
  test.each(laws.map((law) => [law.id, law] as const))("%s", (_, law) => law.check(subject))

describe.each(Object.entries(scans))("scan %s", (_, scan) => obeys(scan, scanLaws))
describe.each(Object.entries(segmentations))("segments %s", (_, segments) => obeys(segments, segmentLaws))
describe("water level", () => obeys(levelOf, levelLaws))
describe("batch placement", () => obeys(place, placeLaws))
describe("radix placement", () => obeys(radix, radixLaws))
describe("the naive placement that defects are planted in", () => obeys(naiveBatch(), placeLaws))

test("what the naive placement gives, request by request", () => {
  holds(
    fc.property(fc.oneof(roomyBatch, tightBatch), headShare, (batch, share) => {
      expect(place(batch, share)).toEqual([...naiveBatch()(batch, share)])
    })
  )
})

const scanDefects: ReadonlyArray<Planted<Scan>> = [
  [
    "leaves a value out of its own sum",
    "prefix-scan",
    (values) => values.map((_, i) => sum(values.slice(0, i)))
  ],
  [
    "adds up in floats of 32 bits",
    "prefix-scan",
    (values) => [...new Float32Array(values.map((_, i) => sum(values.slice(0, i + 1))))]
  ],
  [
    "adds to a block no more than the block before it",
    "prefix-concatenation",
    (values) => values.map((_, i) => sum(values.slice(8 * Math.max(0, Math.floor(i / 8) - 1), i + 1)))
  ]
]

/** Segments by a rule for where in its cost a request lies. */
const segmentsAt =
  (inside: (edge: number, start: number, end: number) => boolean): Segments =>
  (sums, edges) => [
    0,
    ...edges.map((edge) => sums.filter((end, i) => inside(edge, 2 * (sums[i - 1] ?? 0), 2 * end)).length)
  ]

const segmentDefects: ReadonlyArray<Planted<Segments>> = [
  ["goes by where a request begins", "prefix-midpoint", segmentsAt((edge, start) => start < edge)],
  ["goes by where it ends", "prefix-midpoint", segmentsAt((edge, _, end) => end < edge)],
  [
    "puts a middle on an edge to the left",
    "prefix-midpoint",
    segmentsAt((edge, start, end) => (start + end) / 2 <= edge)
  ]
]

const levelDefects: ReadonlyArray<Planted<Level>> = [
  [
    "adds fractions up in floating point",
    "prefix-quotas",
    (total, rows) => {
      const { level } = levelOf(total, rows)
      let end = 0
      const edges = rows.map(({ backlog, speed, headroom }) => {
        end += Math.min(headroom, Math.max(0, level * speed - backlog))
        return Math.ceil(2 * end)
      })
      return { level, edges }
    }
  ],
  [
    "takes work back from those with a backlog",
    "prefix-level",
    (total, rows) => ({
      edges: levelOf(total, rows).edges,
      level: (total + sum(rows.map(({ backlog }) => backlog))) / sum(rows.map(({ speed }) => speed))
    })
  ],
  [
    "does not level again what the full leave over",
    "prefix-level",
    (total, rows) =>
      levelOf(
        total,
        rows.map((row) => ({ ...row, headroom: Number.POSITIVE_INFINITY }))
      )
  ]
]

const wholeQuotas: typeof parts.edges = (total, rows) => {
  const { quotas, unit } = exactQuotas(total, rows)
  let end = 0
  return quotas.map((quota, k) => {
    end = k === rows.length - 1 ? total : end + Math.round(Number(quota) / Number(unit))
    return 2 * Math.min(end, total)
  })
}

const placeDefects: ReadonlyArray<Planted<Place>> = [
  [
    "lets a small request overtake one that does not fit",
    "prefix-once",
    naiveBatch({
      admit: (costs, room) => {
        let left = room
        return [...costs.keys()].filter((request) => {
          const fits = costs[request]! <= left
          if (fits) left -= costs[request]!
          return fits
        })
      }
    })
  ],
  ["ignores headroom", "prefix-capacity", naiveBatch({ headroom: () => Number.POSITIVE_INFINITY })],
  ["does not take off what is too much", "prefix-capacity", naiveBatch({ takesOff: () => [] })],
  ["takes off everything", "prefix-displaces", naiveBatch({ takesOff: (own) => own })],
  [
    "leaves a request queued that would fill the last room",
    "prefix-no-waste",
    naiveBatch({ admit: (costs, room) => parts.admit(costs, room - 1) })
  ],
  [
    "takes workers in turn",
    "prefix-contiguous",
    ({ costs, order }) => costs.map((_, i) => order[i % order.length]!)
  ],
  ["goes by where a request begins", "prefix-near-quota", naiveBatch({ twicePlace: (before) => 2 * before })],
  [
    "goes by where it ends",
    "prefix-mirror",
    naiveBatch({ twicePlace: (before, cost) => 2 * (before + cost) - 1 })
  ],
  [
    "forgets the backlogs",
    "prefix-finish",
    naiveBatch({
      edges: (total, rows) =>
        parts.edges(
          total,
          rows.map((row) => ({ ...row, backlog: 0 }))
        )
    })
  ],
  [
    "forgets the speeds",
    "prefix-finish",
    naiveBatch({
      edges: (total, rows) =>
        parts.edges(
          total,
          rows.map((row) => ({ ...row, speed: 1 }))
        )
    })
  ],
  [
    "gives everyone as many requests",
    "prefix-makespan",
    ({ costs, order }) => costs.map((_, i) => order[Math.floor((i * order.length) / costs.length)]!)
  ],
  ["places the cheapest of the head first", "prefix-head", naiveBatch({ headFirst: (a, b) => a - b })],
  [
    "counts requests along with costs",
    "prefix-zero",
    (batch, share) => naiveBatch()({ ...batch, costs: batch.costs.map((cost) => cost + 1) }, share)
  ],
  [
    "puts a middle on an edge to the left",
    "prefix-no-quota",
    naiveBatch({ twicePlace: (before, cost) => 2 * before + cost - 1 })
  ],
  ["rounds the quotas", "prefix-scale", naiveBatch({ edges: wholeQuotas })],
  [
    "breaks ties by slot",
    "prefix-relabels",
    naiveBatch({ tie: (places, order) => places.toSorted((a, b) => order[a]! - order[b]!)[0]! })
  ]
]

const radixDefects: ReadonlyArray<Planted<Radix>> = [
  [
    "sorts by the first block",
    "prefix-radix-order",
    {
      ...radix,
      sort: (paths) => {
        const order = [...paths.keys()].toSorted((a, b) => (paths[a]![0] ?? -1) - (paths[b]![0] ?? -1))
        return {
          order,
          shared: order.map((_, k) => (k === 0 ? 0 : common(paths[order[k - 1]!]!, paths[order[k]!]!)))
        }
      }
    }
  ],
  [
    "admits by what each request costs alone",
    "prefix-radix-admits",
    {
      ...radix,
      admit: (paths, room) =>
        [...paths.keys()].filter((last) => sum(paths.slice(0, last + 1).map(({ length }) => length)) <= room)
    }
  ],
  [
    "deals requests out as they come",
    "prefix-radix-recompute",
    { ...radix, place: (_, batch) => place(batch) }
  ]
]

const common = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): number => {
  const first = a.findIndex((block, depth) => b[depth] !== block)
  return first < 0 ? a.length : first
}

describe("planted scan defects", () => findsAll(scanLaws, scanDefects))
describe("planted segment defects", () => findsAll(segmentLaws, segmentDefects))
describe("planted level defects", () => findsAll(levelLaws, levelDefects))
describe("planted placement defects", () => findsAll(placeLaws, placeDefects))
describe("planted radix defects", () => findsAll(radixLaws, radixDefects))
