import type { PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { BatchPlacement } from "../../structures/BatchPlacement.ts"
import { floats, grow, ints } from "../../structures/grow.ts"
import { RadixOrder } from "../../structures/RadixOrder.ts"
import type { Rng } from "../../structures/Rng.ts"
import { sessionOrRequestState } from "../affinity.ts"
import { LeastCost } from "../LeastCost.ts"
import { definePlacement, type Placement } from "../Placement.ts"

/**
 * Places what arrives together together: two prefix sums, over the requests' costs and over the workers' quotas, deal a batch out in
 * segments that end at one time on all workers. In radix order the requests of a segment share their prefixes. It pays where a burst brings
 * prefixes that nobody holds; those that are held are found better one by one, as `pick` does, for a segment has one worker only.
 */
export const prefixScan = definePlacement(
  {
    name: "prefix-scan",
    summary:
      "A whole batch at once, so that all workers finish its prompts together and prefixes that nobody holds yet are computed once.",
    definition:
      "A batch is dealt out by parallel prefix sums over its prompt tokens, in segments that fill the workers' pending prompt tokens to one " +
      "level: plain in the order of the batch, tokens counting that no eligible worker holds; lpt the same after the requests above `headShare` of " +
      "the mean tokens per worker went, the longest first, each to the worker that finishes it first; radix in the order of the prompts' radix " +
      "tree, tokens counting that a request does not share with the one before it. Then segments are exchanged: in turn each goes to the worker, of those not taken, that holds most of its prompts, and the batch is dealt " +
      "out once more. Speeds are those of prefill, as fitted; the order of workers is random. A worker gets no more requests than its " +
      "capacity; beyond that the later ones go to the worker that finishes its tokens first among those with room, and what no worker has room for " +
      "stays queued, the last first. A single request goes where (pending + uncached tokens) · prefill time per token is least, ties " +
      "to the highest rendezvous score of (session or, without one, request id; worker key).",
    cost: "O(N)",
    source:
      "Blelloch, Prefix sums and their applications, CMU-CS-90-190, 1990; Graham, Bounds on multiprocessing timing anomalies, 1969 (LPT)",
    stability: "experimental",
    family: "argmin",
    unit: "seconds",
    uses: ["prefixes", "forecast"]
  },
  {
    form: {
      kind: "choice",
      default: "radix",
      choices: ["plain", "lpt", "radix"],
      summary:
        "Order of a batch: plain keeps the order of the queue; lpt evens out batches with a few long prompts; radix puts prompts that begin alike " +
        "on one worker."
    },
    headShare: {
      kind: "number",
      default: 0.25,
      minimum: 0,
      maximum: 1000,
      summary:
        "With lpt, the share of the mean tokens per worker above which a request is placed on its own. Smaller values even out better and cost " +
        "more time; at 0 every request is."
    }
  },
  ({ form, headShare }, rng) => {
    const least = new LeastCost()
    const pick: Placement["pick"] = (request, pool) => {
      const { workers, eligible, eligibleCount } = pool
      const cachedTokens = pool.cachedTokens(request)
      least.start(sessionOrRequestState(request))
      for (let i = 0; i < eligibleCount; i++) {
        const worker = eligible[i]!
        const tokens = workers.pendingPrefillTokens[worker]! + request.promptTokens - cachedTokens[worker]!
        least.offer(workers, worker, tokens * workers.prefillTokenMs[worker]!)
      }
      return least.worker
    }
    const batch = new Batch(form, form === "lpt" ? headShare : Number.POSITIVE_INFINITY, rng)
    return {
      pick,
      pickBatch: (requests, pool, nowMs, picked) => {
        if (requests.length === 1) picked[0] = pick(requests[0]!, pool, nowMs)
        else batch.place(requests, pool, picked)
      },
      terms: (request, worker, pool) => {
        const { pendingPrefillTokens, prefillTokenMs } = pool.workers
        const uncachedTokens = request.promptTokens - pool.cachedTokens(request)[worker]!
        return {
          waitingPrompts: (pendingPrefillTokens[worker]! * prefillTokenMs[worker]!) / 1000,
          ownPrefill: (uncachedTokens * prefillTokenMs[worker]!) / 1000
        }
      }
    }
  }
)

/** Speed of the fastest worker, in the whole numbers of the scan: 65,536 workers stay below the sum it allows. */
const SPEED_MAX = 1000

/** Most pending tokens of a worker that are told apart: 65,536 workers stay below the sum that the scan allows. */
const BACKLOG_MAX = 2 ** 35

/** The requests of a batch that are placed, in the order of the scan. */
interface Jobs {
  readonly count: number
  /** Their indexes in the batch. */
  readonly order: Int32Array
  readonly cost: Float64Array
  /** The slots of their workers. */
  readonly placed: Int32Array
}

/** Places batches. Scratch grows by doubling to the largest batch and the largest slot seen; nothing else is allocated. */
class Batch {
  private readonly form: "plain" | "lpt" | "radix"
  private readonly headShare: number
  private readonly rng: Rng
  private readonly scan = new BatchPlacement()
  private readonly radix = new RadixOrder()
  private readonly exchange = new Exchange()
  /** In the order in which segments are dealt out; columns by slot. */
  private readonly workers = {
    count: 0,
    order: ints(0),
    backlog: floats(0),
    speed: ints(0),
    headroom: floats(0)
  }
  /** By slot: requests that the worker may still take; 0 for one that is not eligible. */
  private room = ints(0)
  private readonly jobs = { count: 0, order: ints(0), cost: floats(0), placed: ints(0) }
  /** By request: tokens of its prompt that no worker holds. */
  private uncached = floats(0)

  constructor(form: "plain" | "lpt" | "radix", headShare: number, rng: Rng) {
    this.form = form
    this.headShare = headShare
    this.rng = rng
  }

  place(requests: ReadonlyArray<RequestView>, pool: PoolView, picked: Int32Array): void {
    const { exchange, headShare, jobs, scan, workers } = this
    this.takeRequests(requests, pool, this.takeWorkers(pool))
    scan.place(jobs, workers, jobs.placed, headShare)
    if (exchange.reorder(workers, jobs, requests, pool)) scan.place(jobs, workers, jobs.placed, headShare)
    picked.fill(-1, jobs.count, requests.length)
    for (let k = 0; k < jobs.count; k++) picked[jobs.order[k]!] = jobs.placed[k]!
    this.fitIn(picked)
  }

  /** Takes over the eligible workers in random order, and returns how many requests they have room for. */
  private takeWorkers({ workers: columns, eligible, eligibleCount }: PoolView): number {
    const { pendingPrefillTokens, prefillTokenMs, capacity, inFlight } = columns
    const { workers } = this
    if (inFlight.length > this.room.length) {
      this.room = grow(this.room, inFlight.length - 1, ints)
      workers.order = ints(this.room.length)
      workers.backlog = floats(this.room.length)
      workers.speed = ints(this.room.length)
      workers.headroom = floats(this.room.length).fill(Number.POSITIVE_INFINITY)
    }
    let fastestMs = Number.POSITIVE_INFINITY
    for (let i = 0; i < eligibleCount; i++) fastestMs = Math.min(fastestMs, prefillTokenMs[eligible[i]!]!)
    this.room.fill(0)
    let places = 0
    for (let i = 0; i < eligibleCount; i++) {
      const worker = eligible[i]!
      this.room[worker] = Math.max(0, capacity[worker]! - inFlight[worker]!)
      places += this.room[worker]
      workers.backlog[worker] = Math.min(BACKLOG_MAX, Math.round(pendingPrefillTokens[worker]!))
      workers.speed[worker] = Math.max(1, Math.round((SPEED_MAX * fastestMs) / prefillTokenMs[worker]!))
      const at = this.rng.int(i + 1)
      workers.order[i] = workers.order[at]!
      workers.order[at] = worker
    }
    workers.count = eligibleCount
    return places
  }

  /** Takes over the first `places` requests, in the order of the scan. */
  private takeRequests(requests: ReadonlyArray<RequestView>, pool: PoolView, places: number): void {
    const { jobs, radix } = this
    const count = Math.min(requests.length, places)
    if (count > jobs.order.length) {
      jobs.order = grow(jobs.order, count - 1, ints)
      jobs.cost = floats(jobs.order.length)
      jobs.placed = ints(jobs.order.length)
      this.uncached = floats(jobs.order.length)
    }
    jobs.count = count
    for (let i = 0; i < count; i++)
      this.uncached[i] = requests[i]!.promptTokens - this.mostHeld(requests[i]!, pool)
    if (this.form === "radix") {
      radix.sort(requests, count)
      for (let k = 0; k < count; k++) {
        const request = radix.order[k]!
        jobs.order[k] = request
        jobs.cost[k] = Math.max(0, requests[request]!.promptTokens - radix.shared[k]! * pool.blockTokens)
      }
    } else {
      for (let i = 0; i < count; i++) jobs.order[i] = i
      jobs.cost.set(this.uncached.subarray(0, count))
    }
  }

  /** The most prompt tokens of a request that one of the workers holds. */
  private mostHeld(request: RequestView, pool: PoolView): number {
    const { count, workers, blocks } = pool.match(request)
    for (let i = 0; i < count; i++)
      if (this.room[workers[i]!]! > 0)
        return Math.min(blocks[i]! * pool.blockTokens, request.promptTokens - 1)
    return 0
  }

  /** Moves the later requests of a worker that got more than it has room for, each to where it is finished first. */
  private fitIn(picked: Int32Array): void {
    const { jobs, room, uncached, workers } = this
    let displacedCount = 0
    for (let i = 0; i < jobs.count; i++) {
      if (room[picked[i]!] === 0) jobs.order[displacedCount++] = i
      else {
        room[picked[i]!]!--
        workers.backlog[picked[i]!]! += uncached[i]!
      }
    }
    for (let k = 0; k < displacedCount; k++) {
      const request = jobs.order[k]!
      const worker = this.soonest(uncached[request]!)
      picked[request] = worker
      room[worker]!--
      workers.backlog[worker]! += uncached[request]!
    }
  }

  /** The worker with room that finishes so many tokens first, the earlier among equals. */
  private soonest(tokens: number): number {
    const { count, order, backlog, speed } = this.workers
    let best = -1
    let bestFinish = Number.POSITIVE_INFINITY
    for (let at = 0; at < count; at++) {
      const worker = order[at]!
      const finish = (backlog[worker]! + tokens) / speed[worker]!
      if (this.room[worker] === 0 || finish >= bestFinish) continue
      best = worker
      bestFinish = finish
    }
    return best
  }
}

/** Reorders workers so that the segments of a batch go where their prompts are held. */
class Exchange {
  /** By slot: the place of the worker in the order, or -1 where it has none or a segment was given to it; the blocks it holds of the one at hand. */
  private place = ints(0)
  private heldBlocks = ints(0)
  /** By place: the worker that the segment is given to. */
  private given = ints(0)
  private readonly holders = { count: 0, slots: ints(0) }
  /** By slot: the first job of its segment; by job: the next one of the same. */
  private first = ints(0)
  private next = ints(0)

  /**
   * Gives each segment in turn to the worker, of those left, that holds most blocks of its prompts: its own first among equals, then the
   * earlier in the order. A segment that nobody holds stays where it is or, when that one was given away, goes to the first that is left.
   * Writes the order anew, so that the next scan deals out like this, and returns whether it is another.
   */
  reorder(
    workers: { readonly count: number; readonly order: Int32Array },
    jobs: Jobs,
    requests: ReadonlyArray<RequestView>,
    pool: PoolView
  ): boolean {
    const { count, order } = workers
    this.start(workers, jobs, pool.workers.inFlight.length)
    const { given, place } = this
    for (let at = 0; at < count; at++)
      given[at] = this.give(this.mostHolding(order[at]!, jobs, requests, pool))
    for (let at = 0; at < count; at++)
      if (given[at]! < 0 && place[order[at]!]! >= 0) given[at] = this.give(order[at]!)
    let left = 0
    let changed = false
    for (let at = 0; at < count; at++) {
      if (given[at]! < 0) {
        while (place[order[left]!]! < 0) left++
        given[at] = this.give(order[left]!)
      }
      changed ||= given[at] !== order[at]
    }
    for (let at = 0; at < count; at++) order[at] = given[at]!
    return changed
  }

  private start(
    { count, order }: { readonly count: number; readonly order: Int32Array },
    jobs: Jobs,
    slots: number
  ): void {
    if (slots > this.place.length) {
      this.place = grow(this.place, slots - 1, ints)
      this.heldBlocks = ints(this.place.length)
      this.given = ints(this.place.length)
      this.first = ints(this.place.length)
      this.holders.slots = ints(this.place.length)
    }
    if (jobs.count > this.next.length) this.next = grow(this.next, jobs.count - 1, ints)
    const { first, next, place } = this
    place.fill(-1)
    for (let at = 0; at < count; at++) {
      place[order[at]!] = at
      first[order[at]!] = -1
    }
    for (let k = 0; k < jobs.count; k++) {
      next[k] = first[jobs.placed[k]!]!
      first[jobs.placed[k]!] = k
    }
  }

  private give(worker: number): number {
    if (worker >= 0) this.place[worker] = -1
    return worker
  }

  /** The worker left that holds most of the segment of `own`, or -1 when none holds any. */
  private mostHolding(own: number, jobs: Jobs, requests: ReadonlyArray<RequestView>, pool: PoolView): number {
    const { heldBlocks, holders, next, place } = this
    for (let k = this.first[own]!; k >= 0; k = next[k]!) {
      const { count, workers, blocks } = pool.match(requests[jobs.order[k]!]!)
      for (let i = 0; i < count; i++) {
        const worker = workers[i]!
        if (place[worker]! < 0) continue
        if (heldBlocks[worker] === 0) holders.slots[holders.count++] = worker
        heldBlocks[worker]! += blocks[i]!
      }
    }
    let best = -1
    let bestBlocks = 0
    for (; holders.count > 0; holders.count--) {
      const worker = holders.slots[holders.count - 1]!
      const held = heldBlocks[worker]!
      heldBlocks[worker] = 0
      const wins = worker === own || (best !== own && place[worker]! < place[best]!)
      if (held < bestBlocks || (held === bestBlocks && !wins)) continue
      best = worker
      bestBlocks = held
    }
    return best
  }
}
