import { BestFit } from "./BestFit.ts"
import { EarliestFinish } from "./EarliestFinish.ts"
import { floats, grow, ints } from "./grow.ts"
import { firstAbove, prefixSum } from "./PrefixSum.ts"
import { segmentStarts } from "./segmentStarts.ts"
import { stableSort } from "./stableSort.ts"
import { type Vessels, WaterLevel } from "./WaterLevel.ts"

/** Requests that are placed together, in the order of policy. */
export interface BatchRequests {
  readonly count: number
  /** Work that request i means, whole and ≥ 0: tokens, or µs. */
  readonly cost: Float64Array
}

/** The workers requests may go to. Columns are indexed by worker slot; units are those of the costs. */
export interface BatchWorkers extends Vessels {
  /**
   * order[0 .. count) are the slots in the order in which segments of requests are dealt out; ties go to the earlier. Shuffled by the
   * caller, it favours nobody.
   */
  readonly order: Int32Array
}

/**
 * Places requests by parallel prefix sums: the scan of the costs meets the scan of the workers' quotas (`WaterLevel`) at the midpoints of
 * the requests (`segmentStarts`). Scratch grows by doubling; nothing else is allocated.
 */
export class BatchPlacement {
  private readonly water = new WaterLevel()
  private readonly earliest = new EarliestFinish()
  private readonly bestFit = new BestFit()
  /** The workers in their order; what the batch gives them is added and taken off. */
  private readonly vessels = {
    count: 0,
    backlog: new Float64Array(0),
    speed: new Int32Array(0),
    headroom: new Float64Array(0)
  }
  private order: Int32Array = new Int32Array(0)
  private starts = new Int32Array(0)
  private displaced = new Int32Array(0)
  private cost: Float64Array = new Float64Array(0)
  private sums = new Float64Array(0)
  private head = new Int32Array(0)
  private tail = new Int32Array(0)
  private tailCost = new Float64Array(0)
  private tailPlaced = new Int32Array(0)
  private scratch = new Int32Array(0)
  private readonly costlier = (a: number, b: number): boolean => this.cost[a]! > this.cost[b]!

  /** The water level of the last batch: when the workers finish that are neither full nor had more to do from the start. */
  get level(): number {
    return this.water.level
  }

  /**
   * Writes the slot of the worker of request i into placed[i], or -1 where it stays queued, and returns how many were placed. Costs and
   * backlogs add up to at most 2⁵², and no worker gets more than its headroom.
   *
   * Admitted are the first requests that fit into all headrooms together; the others stay queued, so that none overtakes. Of those
   * admitted one stays queued only where no worker has headroom for it in the end: requests are not split.
   *
   * Requests that cost more than `headShare` of the mean cost per worker go, the costliest first, each to the worker that finishes it
   * first; the others are dealt out in order, in segments that fill all workers to one level. So `headShare` Infinity is the plain scan,
   * 0 is LPT, and between them workers finish by max(LPT of the costly, level + the cost of one of the others).
   *
   * Cost O(requests + workers·rounds of the level); on top O(workers·log) where headroom is tight, and O(h·(log h + log workers)) for h
   * requests of the head.
   */
  place(
    requests: BatchRequests,
    workers: BatchWorkers,
    placed: Int32Array,
    headShare = Number.POSITIVE_INFINITY
  ): number {
    const { count, cost } = requests
    const room = this.takeIn(requests, workers)
    prefixSum(cost, this.sums, 0, count)
    const admitted = workers.count === 0 ? 0 : firstAbove(this.sums, count, room)
    placed.fill(-1, admitted, count)
    if (admitted === 0) return 0
    if (headShare === Number.POSITIVE_INFINITY) return this.scan(admitted, placed)
    const costly = (headShare * this.sums[admitted - 1]!) / workers.count
    return this.scanAfterHead(admitted, costly, placed)
  }

  /** Copies the workers in their order, makes room for the requests, and returns the headroom of all. */
  private takeIn(requests: BatchRequests, { count, order, backlog, speed, headroom }: BatchWorkers): number {
    this.reserve(requests.count, count)
    const { vessels } = this
    vessels.count = count
    this.order = order
    this.cost = requests.cost
    let room = 0
    for (let k = 0; k < count; k++) {
      const slot = order[k]!
      vessels.backlog[k] = backlog[slot]!
      vessels.speed[k] = speed[slot]!
      vessels.headroom[k] = headroom[slot]!
      room += headroom[slot]!
    }
    return room
  }

  /** Deals out the first `count` requests of `sums`, which are no more than there is headroom for. Returns how many were placed. */
  private scan(count: number, placed: Int32Array): number {
    const { order, starts, sums, vessels, water } = this
    const total = this.sumBefore(count)
    // Requests without cost at the very end are in nobody's quota: they go where the one before them goes.
    const costing = total === 0 ? 0 : firstAbove(sums, count, total - 1) + 1
    water.fill(total, vessels)
    segmentStarts(sums, costing, water.edges, 0, vessels.count, starts)
    let displacedCount = 0
    for (let k = 0; k < vessels.count; k++) {
      const from = starts[k]!
      const to = starts[k + 1]!
      for (let i = from; i < to; i++) placed[i] = order[k]!
      vessels.headroom[k]! -= this.sumBefore(to) - this.sumBefore(from)
      if (vessels.headroom[k]! < 0) displacedCount = this.displace(k, displacedCount)
    }
    placed.fill(costing === 0 ? order[0]! : placed[costing - 1]!, costing, count)
    return displacedCount === 0 ? count : count - this.fitIn(displacedCount, placed)
  }

  /**
   * Takes requests off a worker that has too many. What lies within its quota fits: it is the request across the quota's beginning that is
   * too much, if there is one, or else, or also, the one across its end.
   */
  private displace(worker: number, displacedCount: number): number {
    const { displaced, starts, vessels, water } = this
    const first = starts[worker]!
    let count = displacedCount
    if (worker > 0 && 2 * this.sumBefore(first) < water.edges[worker - 1]!) {
      vessels.headroom[worker]! += this.costOf(first)
      displaced[count++] = first
    }
    if (vessels.headroom[worker]! < 0) {
      const last = starts[worker + 1]! - 1
      vessels.headroom[worker]! += this.costOf(last)
      displaced[count++] = last
    }
    return count
  }

  /** Places displaced requests, in their order, where they fit best. Returns how many fit nowhere. */
  private fitIn(displacedCount: number, placed: Int32Array): number {
    const { bestFit, displaced, order, vessels } = this
    let unplaced = 0
    bestFit.start(vessels.headroom, vessels.count)
    for (let i = 0; i < displacedCount; i++) {
      const request = displaced[i]!
      const worker = bestFit.take(this.costOf(request))
      placed[request] = worker < 0 ? -1 : order[worker]!
      if (worker < 0) unplaced++
    }
    return unplaced
  }

  /** Places requests that cost more than `costly` first, and scans the others. Returns how many were placed. */
  private scanAfterHead(admitted: number, costly: number, placed: Int32Array): number {
    const { cost, earliest, head, order, tail, tailCost, tailPlaced } = this
    let headCount = 0
    let tailCount = 0
    for (let i = 0; i < admitted; i++) {
      if (cost[i]! > costly) head[headCount++] = i
      else {
        tailCost[tailCount] = cost[i]!
        tail[tailCount++] = i
      }
    }
    stableSort(head, headCount, this.scratch, this.costlier)
    earliest.start(this.vessels)
    let count = 0
    for (let i = 0; i < headCount; i++) {
      const request = head[i]!
      const worker = earliest.take(cost[request]!)
      placed[request] = worker < 0 ? -1 : order[worker]!
      if (worker >= 0) count++
    }
    prefixSum(tailCost, this.sums, 0, tailCount)
    count += this.scan(tailCount, tailPlaced)
    for (let i = 0; i < tailCount; i++) placed[tail[i]!] = tailPlaced[i]!
    return count
  }

  private sumBefore(request: number): number {
    return request === 0 ? 0 : this.sums[request - 1]!
  }

  private costOf(request: number): number {
    return this.sums[request]! - this.sumBefore(request)
  }

  private reserve(requestCount: number, workerCount: number): void {
    if (requestCount > this.sums.length) {
      this.sums = grow(this.sums, requestCount - 1, floats)
      this.head = ints(this.sums.length)
      this.tail = ints(this.sums.length)
      this.tailCost = floats(this.sums.length)
      this.tailPlaced = ints(this.sums.length)
      this.scratch = ints(this.sums.length)
    }
    const { vessels } = this
    if (workerCount >= this.starts.length) {
      this.starts = grow(this.starts, workerCount, ints)
      this.displaced = ints(this.starts.length)
      vessels.backlog = floats(this.starts.length)
      vessels.speed = ints(this.starts.length)
      vessels.headroom = floats(this.starts.length)
    }
  }
}
