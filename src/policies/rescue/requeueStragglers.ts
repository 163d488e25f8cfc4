import { bytes, grow } from "../../structures/grow.ts"
import { soonestElsewhere, soonestMs } from "../elsewhere.ts"
import { Lateness } from "../Lateness.ts"
import { ACTIONS_MAX, defineRescue } from "../Rescue.ts"
import { RescueBudget } from "../RescueBudget.ts"

/** A request that has waited for long is no straggler while every worker is as far behind. */
export const requeueStragglers = defineRescue(
  {
    name: "requeue-stragglers",
    summary:
      "Takes back requests that wait at a worker for far longer than they would elsewhere, and places them anew.",
    definition:
      "A request without a token `after` its placement is put back into the queue, to go to another worker, where one is predicted to start " +
      "it within half the time it has still to wait: what is left of the time to first token that was predicted when it was placed; or, " +
      "once it is later against that than 95 % of the last one to two thousand requests were (of a hundred at least), as long again as " +
      "it has waited. Once for each request, and at most `budget` of all placements, of which ten may be saved up; those that were placed first " +
      "come first.",
    action: "requeue",
    cost: "O(N)",
    source: "requeueing of unstarted work; Dean and Barroso, The Tail at Scale, CACM 56(2), 2013",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    after: {
      kind: "duration",
      default: 2000,
      minimum: 0,
      unit: "ms",
      summary:
        "Shortest time a request is left where it is. Lower repairs sooner and moves more that would have started anyway."
    },
    budget: {
      kind: "number",
      default: 0.02,
      minimum: 0,
      maximum: 1,
      summary: "Share of placements that may be taken back. More lets a sick worker cost more repairs."
    }
  },
  ({ after, budget }) => {
    const allowed = new RescueBudget(budget)
    const lateness = new Lateness()
    /** By slot: whether the request was taken back once. */
    let taken = new Uint8Array(0)
    return {
      admitted: ({ slot }) => {
        if (slot >= taken.length) taken = grow(taken, slot, bytes)
        taken[slot] = 0
      },
      placed: () => allowed.earn(),
      timed: ({ slot }, _worker, { forecast }, nowMs) => lateness.started(slot, forecast, nowMs),
      review: (pool, placed, { requeue }, nowMs) => {
        if (!allowed.allows()) return
        let left = ACTIONS_MAX
        const { forecast } = pool
        const soonest = soonestMs(pool, nowMs)
        placed.unstarted((request, worker, sinceMs) => {
          const { slot } = request
          const waitedMs = nowMs - sinceMs
          if (waitedMs <= after || taken[slot] === 1 || left === 0 || !allowed.allows()) return
          const isLate = lateness.isLate(slot, forecast, waitedMs)
          const leftMs = isLate ? waitedMs : lateness.predicted(slot, forecast) - waitedMs
          if (soonest > leftMs / 2 || soonestElsewhere(request, worker, pool, nowMs).ttftMs > leftMs / 2)
            return
          if (!requeue(slot)) return
          taken[slot] = 1
          allowed.spend()
          left--
        })
      }
    }
  }
)
