import type { WorkerColumns } from "../../domain/PoolView.ts"
import { assert } from "../../structures/assert.ts"
import { grow, ints } from "../../structures/grow.ts"
import { SLOTS_MAX } from "../../structures/SlotLists.ts"
import { decodeStepMs, pendingMs, prefillMs } from "../costs.ts"
import { drawDistinct } from "../drawDistinct.ts"
import { definePlacement } from "../Placement.ts"

/**
 * Looks for low latency among workers whose load is not among the highest, and for low load only where all are hot: load says what comes, latency
 * what is. Workers push heartbeats here, so a probe costs nothing: every decision draws its own, and what the original does to
 * save probes (a pool that is refilled, reused and thinned out) falls away.
 */
export const prequal = definePlacement(
  {
    name: "prequal",
    summary:
      "Of sixteen random workers the one predicted fastest, leaving out those with the most requests in flight.",
    definition:
      "Draws `probes` distinct workers and leaves out those whose heartbeat is older than `age` or has served `uses` requests. Load is (inFlight + max(0, " +
      "running + waiting − inFlight at the heartbeat)) / speed. A worker is hot when its load is above the `quantile` of those drawn, by " +
      "nearest rank; at 0 all are hot. Among those that are not hot the least predicted time to first token is picked: prompts pending, the " +
      "own prompt and one decode step. Where all are hot the least load is picked, also where all were left out, which then are looked at " +
      "after all. Ties go to the one drawn first.",
    cost: "O(1)",
    source:
      "Wydrowski, Kleinberg, Rumble, Archer, Load is not what you should balance: Introducing Prequal, NSDI 2024",
    stability: "stable",
    family: "sampling",
    unit: "seconds",
    uses: ["forecast"]
  },
  {
    probes: {
      kind: "integer",
      default: 16,
      minimum: 1,
      maximum: 64,
      unit: "workers",
      summary:
        "Workers looked at for each request. More of them find faster ones, and run together to one that reports low load."
    },
    quantile: {
      kind: "number",
      default: 0.84,
      minimum: 0,
      maximum: 1,
      summary:
        "Share of the workers looked at that may be picked for their latency. At 0 load alone decides, at 1 latency alone."
    },
    age: {
      kind: "duration",
      default: 1000,
      minimum: 1,
      maximum: 60_000,
      unit: "ms",
      summary: "Oldest heartbeat that is trusted. Larger values go on with workers that have fallen silent."
    },
    uses: {
      kind: "integer",
      default: 256,
      minimum: 1,
      maximum: 65_536,
      unit: "requests",
      summary:
        "Requests that are placed on a worker before it must have sent another heartbeat to be trusted. Larger values trust old figures."
    }
  },
  ({ probes, quantile, age, uses }, rng) => {
    const drawn = new Int32Array(probes)
    /** The workers drawn for this request, in that order, with their loads; and the loads alone, ascending. */
    const probed = new Int32Array(probes)
    const loads = new Float64Array(probes)
    const ascending = new Float64Array(probes)
    const heartbeats = new Heartbeats()
    return {
      pick: (request, { workers, eligible, eligibleCount }, nowMs) => {
        const { inFlight, speed, observedAtMs } = workers
        const draws = Math.min(probes, eligibleCount)
        let trusted = 0
        let lowest = -1
        let lowestLoad = Number.POSITIVE_INFINITY
        for (let count = 0; count < draws; count++) {
          const worker = eligible[drawDistinct(drawn, count, eligibleCount, rng)]!
          const load = (inFlight[worker]! + heartbeats.others(worker)) / speed[worker]!
          if (lowest < 0 || load < lowestLoad) {
            lowest = worker
            lowestLoad = load
          }
          if (nowMs - observedAtMs[worker]! > age || heartbeats.uses(worker) >= uses) continue
          probed[trusted] = worker
          loads[trusted] = load
          insertAscending(ascending, trusted, load)
          trusted++
        }
        const rank = Math.ceil(quantile * trusted)
        const hotAbove = rank === 0 ? Number.POSITIVE_INFINITY : ascending[rank - 1]!
        let best = trusted === 0 ? lowest : -1
        let bestCost = Number.POSITIVE_INFINITY
        for (let i = 0; i < trusted; i++) {
          if (loads[i]! > hotAbove) continue
          const cost = rank === 0 ? loads[i]! : firstTokenMs(workers, probed[i]!, request.promptTokens)
          if (best >= 0 && cost >= bestCost) continue
          best = probed[i]!
          bestCost = cost
        }
        return best
      },
      placed: (_request, worker) => heartbeats.use(worker),
      observed: (worker, { workers: { running, waiting, inFlight } }) =>
        heartbeats.record(worker, Math.max(0, running[worker]! + waiting[worker]! - inFlight[worker]!)),
      changed: (worker) => heartbeats.record(worker, 0)
    }
  }
)

const firstTokenMs = (workers: WorkerColumns, worker: number, promptTokens: number): number =>
  pendingMs(workers, worker) + prefillMs(workers, worker, promptTokens, 0) + decodeStepMs(workers, worker)

/** Puts a value into its place among `values[0 .. count)`, which ascend. */
const insertAscending = (values: Float64Array, count: number, value: number): void => {
  let at = count
  for (; at > 0 && values[at - 1]! > value; at--) values[at] = values[at - 1]!
  values[at] = value
}

/** What the last heartbeat of each worker is good for. 8 bytes for each slot up to the largest heard of. */
class Heartbeats {
  private othersCounts = new Int32Array(0)
  private useCounts = new Int32Array(0)

  /** Requests it told of beyond those of this balancer. */
  others(worker: number): number {
    return this.othersCounts[worker] ?? 0
  }

  /** Requests placed there since. */
  uses(worker: number): number {
    return this.useCounts[worker] ?? 0
  }

  use(worker: number): void {
    if (worker >= this.useCounts.length) this.growTo(worker)
    this.useCounts[worker]!++
  }

  record(worker: number, others: number): void {
    if (worker >= this.useCounts.length) this.growTo(worker)
    this.othersCounts[worker] = others
    this.useCounts[worker] = 0
  }

  private growTo(worker: number): void {
    assert(worker < SLOTS_MAX, "slots are below 65 536")
    this.othersCounts = grow(this.othersCounts, worker, ints)
    this.useCounts = grow(this.useCounts, worker, ints)
  }
}
