import { expect } from "bun:test"
import * as fc from "fast-check"
import { mix } from "../../src/structures/hash.ts"
import { holds } from "../support/arbitraries.ts"
import {
  distinctPrefixes,
  exactEdges,
  exactQuotas,
  optimalContiguousMakespan,
  optimalMakespan
} from "../support/batchOracles.ts"
import {
  type Batch,
  dealtTo,
  equalBatch,
  loadsOf,
  type Paths,
  roomyBatch,
  sum,
  tightBatch,
  type WorkerRow
} from "../support/batches.ts"

/** A statement about one step of placement by prefix sums. `check` throws where it does not hold. */
export interface StepLaw<Subject> {
  readonly id: string
  readonly statement: string
  readonly check: (subject: Subject) => void
}

/** An inclusive scan. */
export type Scan = (values: ReadonlyArray<number>) => ReadonlyArray<number>

/** Where each of the segments begins, and after them the number of requests. */
export type Segments = (sums: ReadonlyArray<number>, edges: ReadonlyArray<number>) => ReadonlyArray<number>

export interface Levelled {
  readonly level: number
  readonly edges: ReadonlyArray<number>
}
export type Level = (total: number, rows: ReadonlyArray<WorkerRow>) => Levelled

/** Slots of the workers by request, or -1. */
export type Place = (batch: Batch, headShare?: number) => ReadonlyArray<number>

export interface Radix {
  readonly sort: (paths: Paths) => {
    readonly order: ReadonlyArray<number>
    readonly shared: ReadonlyArray<number>
  }
  /** The requests that are left when only so much room is there and a block costs 1. */
  readonly admit: (paths: Paths, room: number) => ReadonlyArray<number>
  /** Where a block costs 1. */
  readonly place: (paths: Paths, batch: Batch) => ReadonlyArray<number>
}

/** Numbers of all sizes below 2 ** `bits`, which shrink in few steps. */
const anySize = (bits: number): fc.Arbitrary<number> =>
  fc
    .tuple(fc.nat(255), fc.nat(bits - 8))
    .map(
      ([leading, shift]) => leading * 2 ** shift + Math.floor((mix(shift, 0, leading) / 2 ** 32) * 2 ** shift)
    )

/** They add up to 2⁵² at most. */
const values = fc.array(fc.oneof(fc.nat(3), anySize(46)), { maxLength: 64 })

const exactSums = (all: ReadonlyArray<number>): ReadonlyArray<number> => {
  let total = 0n
  return all.map((value) => Number((total += BigInt(value))))
}

export const scanLaws: ReadonlyArray<StepLaw<Scan>> = [
  {
    id: "prefix-scan",
    statement: "sum i is that of values 0 … i, exactly, up to totals of 2⁵²",
    check: (scan) => holds(fc.property(values, (all) => expect(scan(all)).toEqual(exactSums(all))))
  },
  {
    id: "prefix-concatenation",
    statement: "scan(a ⧺ b) = scan(a) ⧺ (scan(b) + Σa)",
    check: (scan) =>
      holds(
        fc.property(values, values, (a, b) => {
          fc.pre(sum(a) + sum(b) <= 2 ** 52)
          expect(scan([...a, ...b])).toEqual([...scan(a), ...scan(b).map((one) => one + sum(a))])
        })
      )
  }
]

/** Sums of costs, the last above 0, and edges that end at their double; an edge often lies on the middle of a request. */
const laidOut = fc
  .tuple(
    fc.array(fc.nat(9), { maxLength: 20 }),
    fc.integer({ min: 1, max: 9 }),
    fc.array(fc.nat(400), { maxLength: 7 })
  )
  .map(([costs, lastCost, cuts]) => {
    const sums = exactSums([...costs, lastCost])
    const end = 2 * sums.at(-1)!
    const inner = cuts.map((cut) => Math.min(cut, end))
    return { sums, edges: [...inner.toSorted((a, b) => a - b), end] }
  })

export const segmentLaws: ReadonlyArray<StepLaw<Segments>> = [
  {
    id: "prefix-midpoint",
    statement: "a request belongs to the first worker whose quota ends beyond the middle of its cost",
    check: (segments) =>
      holds(
        fc.property(laidOut, ({ sums, edges }) => {
          const starts = segments(sums, edges)
          expect(starts).toHaveLength(edges.length + 1)
          for (const [request, end] of sums.entries())
            expect(starts.findLastIndex((start) => start <= request)).toBe(
              edges.findIndex((edge) => edge > end + (sums[request - 1] ?? 0))
            )
        })
      )
  }
]

/** Workers of all sizes: what they have and get adds up to 2⁵² at most, their speeds to 2²⁶. */
const anyRows = fc.array(
  fc.record({
    backlog: fc.oneof(fc.constant(0), fc.nat(20), anySize(48)),
    speed: fc.oneof(
      fc.integer({ min: 1, max: 7 }),
      anySize(22).map((speed) => speed + 1)
    ),
    headroom: fc.oneof(fc.nat(40), anySize(48), fc.constant(Number.POSITIVE_INFINITY))
  }),
  { minLength: 1, maxLength: 10 }
)
const anyTotal = fc.oneof(fc.nat(50), anySize(50))

const roomOf = (rows: ReadonlyArray<WorkerRow>): number => sum(rows.map(({ headroom }) => headroom))

export const levelLaws: ReadonlyArray<StepLaw<Level>> = [
  {
    id: "prefix-quotas",
    statement:
      "quotas are min(headroom, max(0, L·speed − backlog)) and add up to the total: edges equal those computed in integers of any size",
    check: (levelOf) =>
      holds(
        fc.property(anyRows, anyTotal, (rows, most) => {
          const total = Math.min(most, roomOf(rows))
          expect(levelOf(total, rows).edges).toEqual(exactEdges(exactQuotas(total, rows)))
        })
      )
  },
  {
    id: "prefix-level",
    statement: "workers filled up to the level have got the total",
    check: (levelOf) =>
      holds(
        fc.property(anyRows, anyTotal, (rows, most) => {
          const total = Math.min(most, roomOf(rows))
          const { level } = levelOf(total, rows)
          const filled = rows.map(({ backlog, speed, headroom }) =>
            Math.min(headroom, Math.max(0, level * speed - backlog))
          )
          const scale = total + sum(rows.map(({ backlog }) => backlog))
          expect(Math.abs(sum(filled) - total)).toBeLessThanOrEqual(scale * 1e-14)
        })
      )
  }
]

/** The plain scan, mixtures, LPT. */
export const headShare = fc.constantFrom(Number.POSITIVE_INFINITY, 1, 0.25, 0)

/** How many of the first requests fit into all headrooms together. */
const admittedCount = (batch: Batch): number => {
  const room = roomOf(dealtTo(batch))
  const first = exactSums(batch.costs).findIndex((needed) => needed > room)
  return first < 0 ? batch.costs.length : first
}

/** Each request with where it begins and ends when the requests are laid end to end. */
const spansOf = (costs: ReadonlyArray<number>) => {
  const sums = exactSums(costs)
  return costs.map((cost, request) => ({ request, start: sums[request]! - cost, end: sums[request]! }))
}

/** Where the quota of each worker ends, exactly. */
const endsOf = ({ quotas }: { readonly quotas: ReadonlyArray<bigint> }): ReadonlyArray<bigint> => {
  let end = 0n
  return quotas.map((quota) => (end += quota))
}

export const placeLaws: ReadonlyArray<StepLaw<Place>> = [
  {
    id: "prefix-once",
    statement:
      "the first requests that fit into all headrooms together go to a listed worker each, or to none; all that follow stay queued",
    check: (place) =>
      holds(
        fc.property(tightBatch, headShare, (batch, share) => {
          const placed = place(batch, share)
          expect(placed).toHaveLength(batch.costs.length)
          for (const slot of placed) expect([-1, ...batch.order]).toContain(slot)
          for (const slot of placed.slice(admittedCount(batch))) expect(slot).toBe(-1)
        })
      )
  },
  {
    id: "prefix-capacity",
    statement: "no worker gets more than its headroom",
    check: (place) =>
      holds(
        fc.property(tightBatch, headShare, (batch, share) => {
          for (const [k, load] of loadsOf(batch, place(batch, share)).entries())
            expect(load).toBeLessThanOrEqual(dealtTo(batch)[k]!.headroom)
        })
      )
  },
  {
    id: "prefix-no-waste",
    statement: "an admitted request stays queued only where no worker has headroom for it in the end",
    check: (place) =>
      holds(
        fc.property(tightBatch, headShare, (batch, share) => {
          const placed = place(batch, share)
          const loads = loadsOf(batch, placed)
          const left = Math.max(...dealtTo(batch).map(({ headroom }, k) => headroom - loads[k]!))
          for (const [request, cost] of batch.costs.slice(0, admittedCount(batch)).entries())
            if (placed[request] === -1) expect(cost).toBeGreaterThan(left)
        })
      )
  },
  {
    id: "prefix-contiguous",
    statement: "with room for all, workers get neighbouring requests, in the order of the workers",
    check: (place) =>
      holds(
        fc.property(roomyBatch, (batch) => {
          const workers = place(batch).map((slot) => batch.order.indexOf(slot))
          expect(workers).toEqual(workers.toSorted((a, b) => a - b))
        })
      )
  },
  {
    id: "prefix-displaces",
    statement:
      "headroom displaces no request but those across the end of a quota, which are fewer than the workers",
    check: (place) =>
      holds(
        fc.property(tightBatch, (batch) => {
          const admitted = batch.costs.slice(0, admittedCount(batch))
          const quotas = exactQuotas(sum(admitted), dealtTo(batch))
          const ends = endsOf(quotas)
          const placed = place(batch)
          const moved = spansOf(admitted).filter(({ request, start, end }) => {
            const middle = BigInt(start + end) * quotas.unit
            const worker = ends.findIndex((edge) => 2n * edge > middle)
            return worker >= 0 && placed[request] !== batch.order[worker]
          })
          expect(moved.length).toBeLessThan(batch.order.length)
          for (const { start, end } of moved)
            expect(
              ends.some((edge) => edge > BigInt(start) * quotas.unit && edge < BigInt(end) * quotas.unit)
            ).toBe(true)
        })
      )
  },
  {
    id: "prefix-near-quota",
    statement:
      "with room for all, a worker's load differs from its quota by half the costs of the requests across the quota's two ends at most",
    check: (place) =>
      holds(
        fc.property(roomyBatch, (batch) => {
          const exact = exactQuotas(sum(batch.costs), dealtTo(batch))
          const ends = [0n, ...endsOf(exact)]
          const acrossCost = (edge: bigint): number =>
            sum(
              spansOf(batch.costs)
                .filter(
                  ({ start, end }) => edge > BigInt(start) * exact.unit && edge < BigInt(end) * exact.unit
                )
                .map(({ start, end }) => end - start)
            )
          for (const [k, load] of loadsOf(batch, place(batch)).entries()) {
            const off = BigInt(load) * exact.unit - exact.quotas[k]!
            const most = BigInt(acrossCost(ends[k]!) + acrossCost(ends[k + 1]!)) * exact.unit
            expect(2n * (off < 0n ? -off : off) <= most).toBe(true)
          }
        })
      )
  },
  {
    id: "prefix-finish",
    statement: "with room for all, a worker finishes by max(L, backlog / speed) + the largest cost / speed",
    check: (place) =>
      holds(
        fc.property(roomyBatch, (batch) => {
          const { level, unit } = exactQuotas(sum(batch.costs), dealtTo(batch))
          const loads = loadsOf(batch, place(batch))
          for (const [k, { backlog, speed }] of dealtTo(batch).entries()) {
            const [work, begun] = [BigInt(backlog + loads[k]!) * unit, BigInt(backlog) * unit]
            const filled = level * BigInt(speed)
            const most = (filled > begun ? filled : begun) + BigInt(Math.max(0, ...batch.costs)) * unit
            expect(work <= most).toBe(true)
          }
        })
      )
  },
  {
    id: "prefix-makespan",
    statement:
      "idle equal workers finish by mean + largest cost: within twice the optimum, and the best contiguous partition + largest cost",
    check: (place) =>
      holds(
        fc.property(equalBatch(1), (batch) => {
          const { costs, order } = batch
          const makespan = Math.max(...loadsOf(batch, place(batch)))
          const largest = Math.max(0, ...costs)
          const [optimum, contiguous] = [optimalMakespan, optimalContiguousMakespan].map((best) =>
            best(costs, order.length)
          ) as [number, number]
          expect(makespan * order.length).toBeLessThanOrEqual(sum(costs) + largest * order.length)
          expect(makespan).toBeLessThanOrEqual(2 * optimum)
          expect(makespan).toBeGreaterThanOrEqual(contiguous)
          expect(makespan).toBeLessThanOrEqual(contiguous + largest)
          expect(contiguous).toBeGreaterThanOrEqual(optimum)
        })
      )
  },
  {
    id: "prefix-head",
    statement:
      "idle equal workers with a head of share ε finish within max(4/3 − 1/(3 N), 1 + ε) times the optimum",
    check: (place) =>
      holds(
        fc.property(equalBatch(3), fc.constantFrom(0, 0.1, 0.25, 0.5, 1), (batch, share) => {
          const count = batch.order.length
          const makespan = Math.max(...loadsOf(batch, place(batch, share)))
          const optimum = optimalMakespan(batch.costs, count)
          const ratio = Math.max(4 / 3 - 1 / (3 * count), 1 + share)
          expect(makespan).toBeLessThanOrEqual(ratio * optimum + 1e-9)
        })
      )
  },
  {
    id: "prefix-zero",
    statement: "a request without cost changes nothing for the others",
    check: (place) =>
      holds(
        fc.property(tightBatch, headShare, (batch, share) => {
          const placed = place(batch, share)
          const costs = batch.costs.filter((cost) => cost > 0)
          expect(place({ ...batch, costs }, share)).toEqual(placed.filter((_, i) => batch.costs[i]! > 0))
        })
      )
  },
  {
    id: "prefix-no-quota",
    statement: "with room for all, a worker without a quota gets no request, unless none costs anything",
    check: (place) =>
      holds(
        fc.property(roomyBatch, (batch) => {
          fc.pre(sum(batch.costs) > 0)
          const { quotas } = exactQuotas(sum(batch.costs), dealtTo(batch))
          const placed = place(batch)
          for (const [k, slot] of batch.order.entries())
            if (quotas[k] === 0n) expect(placed).not.toContain(slot)
        })
      )
  },
  {
    id: "prefix-mirror",
    statement:
      "with room for all, requests and workers in reverse give the same, but for requests whose middle lies on an edge",
    check: (place) =>
      holds(
        fc.property(roomyBatch, (batch) => {
          const { quotas, unit } = exactQuotas(sum(batch.costs), dealtTo(batch))
          const edges = new Set([0n, ...endsOf({ quotas })].map((end) => 2n * end))
          const mirrored = { ...batch, costs: batch.costs.toReversed(), order: batch.order.toReversed() }
          const [there, back] = [place(batch), place(mirrored).toReversed()]
          for (const { request, start, end } of spansOf(batch.costs))
            if (!edges.has(BigInt(start + end) * unit)) expect(back[request]).toBe(there[request])
        })
      )
  },
  {
    id: "prefix-scale",
    statement: "the units of speed and of cost do not matter",
    check: (place) =>
      holds(
        fc.property(
          tightBatch,
          fc.integer({ min: 1, max: 5000 }),
          fc.integer({ min: 1, max: 1_000_000 }),
          (batch, faster, dearer) => {
            const scaled = {
              ...batch,
              costs: batch.costs.map((cost) => cost * dearer),
              rows: batch.rows.map(({ backlog, speed, headroom }) => ({
                backlog: backlog * dearer,
                speed: speed * faster,
                headroom: headroom * dearer
              }))
            }
            expect(place(scaled)).toEqual(place(batch))
          }
        )
      )
  },
  {
    id: "prefix-relabels",
    statement: "workers in other slots, in the same order, get the same: no tie is broken by slot",
    check: (place) =>
      holds(
        fc.property(tightBatch, headShare, fc.nat(), (batch, share, seed) => {
          const slots = batch.rows.map((_, slot) => slot)
          const moved = slots.toSorted((a, b) => mix(seed, 0, a) - mix(seed, 0, b))
          const relabelled = {
            ...batch,
            rows: slots.map((slot) => batch.rows[moved.indexOf(slot)]!),
            order: batch.order.map((slot) => moved[slot]!)
          }
          expect(place(relabelled, share)).toEqual(
            place(batch, share).map((slot) => (slot < 0 ? -1 : moved[slot]!))
          )
        })
      )
  }
]

/** Small trees, so that paths share much, are equal, or begin one another. */
const paths: fc.Arbitrary<Paths> = fc.array(fc.array(fc.nat(2), { maxLength: 6 }), { maxLength: 16 })

/** Many requests of few kinds, each with a long prefix of its own. */
const familyPaths: fc.Arbitrary<Paths> = fc.array(
  fc
    .tuple(fc.nat(3), fc.array(fc.nat(1), { maxLength: 2 }))
    .map(([family, rest]) => [...[3, 4, 5, 6].map((depth) => 10 * family + depth), ...rest]),
  { maxLength: 24 }
)

const begins = (path: ReadonlyArray<number>, other: ReadonlyArray<number>): boolean =>
  path.every((block, depth) => other[depth] === block)

export const radixLaws: ReadonlyArray<StepLaw<Radix>> = [
  {
    id: "prefix-radix-order",
    statement:
      "sorted requests that share a prefix are neighbours, equal ones keep their order, and blocks not shared with the one before add up to the distinct ones",
    check: ({ sort }) =>
      holds(
        fc.property(paths, (all) => {
          const { order, shared } = sort(all)
          expect(order.toSorted((a, b) => a - b)).toEqual([...all.keys()])
          expect(sum(order.map((request, k) => all[request]!.length - shared[k]!))).toBe(
            distinctPrefixes(all)
          )
          for (const path of all) {
            const members = order.map((request, k) => (begins(path, all[request]!) ? k : -1))
            const places = members.filter((k) => k >= 0)
            expect(places.at(-1)! - places[0]!).toBe(places.length - 1)
            const equal = order.filter((request) => all[request]!.join() === path.join())
            expect(equal).toEqual(equal.toSorted((a, b) => a - b))
          }
        })
      )
  },
  {
    id: "prefix-radix-admits",
    statement: "the most of the first requests are admitted whose distinct blocks fit into the room",
    check: ({ admit }) =>
      holds(
        fc.property(paths, fc.nat(40), (all, room) => {
          const fits = all.filter((_, last) => distinctPrefixes(all.slice(0, last + 1)) <= room)
          expect(admit(all, room).toSorted((a, b) => a - b)).toEqual([...fits.keys()])
        })
      )
  },
  {
    id: "prefix-radix-recompute",
    statement:
      "with room for all, workers compute distinct blocks + (workers − 1)·(longest chain) at most, all together",
    check: ({ place }) =>
      holds(
        fc.property(fc.oneof(paths, familyPaths), roomyBatch, (all, { rows, order }) => {
          const placed = place(all, { rows, order, costs: all.map((path) => path.length) })
          const computed = order.map((slot) => distinctPrefixes(all.filter((_, i) => placed[i] === slot)))
          const longest = Math.max(0, ...all.map((path) => path.length))
          expect(placed.every((slot) => order.includes(slot))).toBe(true)
          expect(sum(computed)).toBeLessThanOrEqual(distinctPrefixes(all) + (order.length - 1) * longest)
        })
      )
  }
]
