import type { PoolView, WorkerColumns } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { bytes, grow } from "../../structures/grow.ts"
import { comparePlaced } from "../comparePlaced.ts"
import { pendingMs, prefillMs } from "../costs.ts"
import { LeastCost } from "../LeastCost.ts"
import { ACTIONS_MAX, defineRescue, type RescueActions } from "../Rescue.ts"

/** A request may be stolen so often: with more, two workers could pass it to and fro. */
const MOVES_MAX = 2

/**
 * Repairs placements that turned out wrong, at the moment a worker runs dry. With a placement that counts work it finds little to do,
 * and costs little.
 */
export const steal = defineRescue(
  {
    name: "steal",
    summary:
      "Gives a request that waits at the busiest worker to one that has run out of prompts to compute.",
    definition:
      "A thief is an eligible worker without pending prompts. Its victim is the worker with the most pending prefill time among those with at " +
      "least two requests that have not started, one request of each at a time. The second oldest of them is taken (the oldest is being " +
      "computed) if what else is pending at the victim exceeds `guard` plus what its prefill takes longer at the thief: so the thief ends " +
      "with less pending than the victim had. Twice for each request at most. Ties go to the highest rendezvous score of the worker's " +
      "key, and among requests placed at one moment to the lower id.",
    action: "move",
    cost: "O(N)",
    source: "work stealing, with a guard; Blumofe and Leiserson, J. ACM 46(5), 1999",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    guard: {
      kind: "duration",
      default: 500,
      minimum: 0,
      unit: "ms",
      summary: "Wait that a move must save. Lower moves more for less."
    }
  },
  ({ guard }) => {
    let moves = new Uint8Array(0)
    const most = new LeastCost()
    /** By worker: its unstarted requests, and the two of them that were placed first. Empty between reviews. */
    let counts = new Int32Array(0)
    const oldest: Array<RequestView | undefined> = []
    const second: Array<RequestView | undefined> = []
    let oldestMs = new Float64Array(0)
    let secondMs = new Float64Array(0)

    const note = (request: RequestView, worker: number, placedMs: number): void => {
      const one = oldest[worker]
      const two = second[worker]
      counts[worker]!++
      if (one === undefined || comparePlaced(request, placedMs, one, oldestMs[worker]!) < 0) {
        second[worker] = one
        secondMs[worker] = oldestMs[worker]!
        oldest[worker] = request
        oldestMs[worker] = placedMs
      } else if (two === undefined || comparePlaced(request, placedMs, two, secondMs[worker]!) < 0) {
        second[worker] = request
        secondMs[worker] = placedMs
      }
    }

    /** The worker with two unstarted requests or more and the most pending prefill time, or -1. */
    const busiest = (workers: WorkerColumns): number => {
      most.start(0)
      for (let worker = 0; worker < counts.length; worker++)
        if (counts[worker]! >= 2) most.offer(workers, worker, -pendingMs(workers, worker))
      return most.worker
    }

    /** Whether it is worth to take this request from `victim`. */
    const isWorth = (request: RequestView, victim: number, thief: number, pool: PoolView): boolean => {
      const { promptTokens, slot, uncachedTokens } = request
      const { workers } = pool
      const cached = pool.cachedTokens(request)[thief]!
      const pending = pendingMs(workers, victim)
      const here = prefillMs(workers, thief, promptTokens - cached, cached)
      const there = prefillMs(workers, victim, uncachedTokens, promptTokens - uncachedTokens)
      return moves[slot]! < MOVES_MAX && pending - there > guard + Math.max(0, here - there)
    }

    const rob = (pool: PoolView, { move }: RescueActions): void => {
      const { eligible, workers } = pool
      let tries = ACTIONS_MAX
      for (let i = 0; i < pool.eligibleCount; i++) {
        const thief = eligible[i]!
        let isIdle = workers.pendingPrefillTokens[thief] === 0
        while (isIdle) {
          const victim = busiest(workers)
          if (victim < 0 || tries-- === 0) return
          const request = second[victim]!
          counts[victim] = 0
          if (!isWorth(request, victim, thief, pool) || !move(request.slot, thief)) continue
          moves[request.slot]!++
          isIdle = false
        }
      }
    }

    return {
      admitted: ({ slot }) => {
        if (slot >= moves.length) moves = grow(moves, slot, bytes)
        moves[slot] = 0
      },
      review: (pool, placed, actions) => {
        const { eligible, eligibleCount, workers } = pool
        const { pendingPrefillTokens } = workers
        let hasThief = false
        for (let i = 0; i < eligibleCount && !hasThief; i++)
          hasThief = pendingPrefillTokens[eligible[i]!] === 0
        if (!hasThief) return
        if (counts.length < pendingPrefillTokens.length) {
          counts = new Int32Array(pendingPrefillTokens.length)
          oldestMs = new Float64Array(pendingPrefillTokens.length)
          secondMs = new Float64Array(pendingPrefillTokens.length)
        }
        placed.unstarted(note)
        rob(pool, actions)
        counts.fill(0)
        oldest.length = 0
        second.length = 0
      }
    }
  }
)
