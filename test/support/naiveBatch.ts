import { exactEdges, exactQuotas } from "./batchOracles.ts"
import { type Batch, dealtTo, sum, type WorkerRow } from "./batches.ts"

/** What batch placement is put together from; a planted defect is one other part. */
export interface Parts {
  /** The requests that are admitted when there is so much room in all. */
  readonly admit: (costs: ReadonlyArray<number>, room: number) => ReadonlyArray<number>
  readonly headroom: (row: WorkerRow) => number
  /** Where the quotas of the workers end, doubled. */
  readonly edges: (total: number, rows: ReadonlyArray<WorkerRow>) => ReadonlyArray<number>
  /** Twice where a request lies that costs `cost` and comes after `before`. */
  readonly twicePlace: (before: number, cost: number) => number
  /** The requests to take off a worker that has `excess` too much, from its own; the first lies across an end of the quota or not. */
  readonly takesOff: (
    own: ReadonlyArray<number>,
    firstIsAcross: boolean,
    excess: number,
    costs: ReadonlyArray<number>
  ) => ReadonlyArray<number>
  /** Which of several workers that are equally good, given by their places in the order. */
  readonly tie: (places: ReadonlyArray<number>, order: ReadonlyArray<number>) => number
  /** Requests of the head, in the order they are placed in. */
  readonly headFirst: (a: number, b: number) => number
}

export const parts: Parts = {
  admit: (costs, room) => [...costs.keys()].filter((request) => sum(costs.slice(0, request + 1)) <= room),
  headroom: ({ headroom }) => headroom,
  edges: (total, rows) => exactEdges(exactQuotas(total, rows)),
  twicePlace: (before, cost) => 2 * before + cost,
  takesOff: (own, firstIsAcross, excess, costs) => {
    const first = own[0]!
    if (!firstIsAcross) return [own.at(-1)!]
    return excess > costs[first]! ? [first, own.at(-1)!] : [first]
  },
  tie: ([first]) => first!,
  headFirst: (a, b) => b - a
}

/** Batch placement step by step, without a scan: quotas are used up request by request. */
export const naiveBatch =
  (changed: Partial<Parts> = {}) =>
  (batch: Batch, headShare = Number.POSITIVE_INFINITY): ReadonlyArray<number> => {
    const { admit, edges, headFirst, headroom, takesOff, tie, twicePlace } = { ...parts, ...changed }
    const { costs, order } = batch
    const workers = dealtTo(batch).map((row) => ({ ...row, headroom: headroom(row) }))
    const room = sum(workers.map((worker) => worker.headroom))
    const placed = costs.map(() => -1)
    const give = (request: number, worker: number): void => {
      placed[request] = order[worker]!
      workers[worker]!.headroom -= costs[request]!
      workers[worker]!.backlog += costs[request]!
    }
    /** Gives a request to the worker for which `value` is least, of those with room for it. */
    const giveBest = (request: number, value: (worker: number) => number): void => {
      const roomy = [...workers.keys()].filter((k) => workers[k]!.headroom >= costs[request]!)
      const least = Math.min(...roomy.map(value))
      const best = roomy.filter((k) => value(k) === least)
      if (best.length > 0) give(request, tie(best, order))
    }

    const admitted = admit(costs, room)
    const total = sum(admitted.map((request) => costs[request]!))
    const costly = (headShare * total) / workers.length
    const head = admitted.filter((request) => costs[request]! > costly)
    for (const request of head.toSorted((a, b) => headFirst(costs[a]!, costs[b]!))) {
      giveBest(request, (k) => {
        const { backlog, speed } = workers[k]!
        return backlog / speed + costs[request]! / speed
      })
    }

    const tail = admitted.filter((request) => !head.includes(request))
    const ends = edges(sum(tail.map((request) => costs[request]!)), workers)
    const own: ReadonlyArray<Array<number>> = workers.map(() => [])
    const starts = new Map<number, number>()
    const free: Array<number> = []
    let before = 0
    let worker = 0
    for (const request of tail) {
      const next = ends.findIndex((edge) => edge > twicePlace(before, costs[request]!))
      if (next < 0) free.push(request)
      else own[(worker = next)]!.push(request)
      starts.set(request, before)
      before += costs[request]!
    }
    const displaced: Array<number> = []
    for (const [k, requests] of own.entries()) {
      const excess = sum(requests.map((request) => costs[request]!)) - workers[k]!.headroom
      const firstIsAcross = k > 0 && 2 * starts.get(requests[0]!)! < ends[k - 1]!
      const off = excess > 0 ? takesOff(requests, firstIsAcross, excess, costs) : []
      for (const request of requests) if (!off.includes(request)) give(request, k)
      displaced.push(...off)
    }
    // Nobody's quota ends beyond what costs nothing and comes last: it goes where the one before it is.
    for (const request of free) give(request, worker)
    for (const request of displaced) giveBest(request, (k) => workers[k]!.headroom)
    return placed
  }
