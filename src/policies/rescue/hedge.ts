import type { WorkerColumns } from "../../domain/PoolView.ts"
import { bytes, grow } from "../../structures/grow.ts"
import { soonestElsewhere, soonestMs } from "../elsewhere.ts"
import { Lateness } from "../Lateness.ts"
import { ACTIONS_MAX, defineRescue } from "../Rescue.ts"
import { RescueBudget } from "../RescueBudget.ts"

/** Tokens that may be saved up: a prompt with more of them is never copied. */
const TOKENS_SAVED_MAX = 65_536

/** A started request is never copied: its work so far would be thrown away. The copies are tied: one start cancels the other. */
export const hedge = defineRescue(
  {
    name: "hedge",
    summary:
      "Sends a second copy of a request that is late against its own prediction; the first to start cancels the other.",
    definition:
      "A request without a token that has waited for `after`, and is later against the time to first token that was predicted when it was " +
      "placed (at least 10 ms) than 95 % of the last one to two thousand requests were (of a hundred at least), gets a copy at the worker " +
      "that is predicted to start it soonest, if that is within half the time it has waited. One copy for each request; at most `budget` of all " +
      "placements, of which ten may be saved up, and `tokenBudget` of all uncached prompt tokens, of which 65 536 may; and none while " +
      "more than `saturation` of the ready workers' places are taken. Of several, those that were placed first come first.",
    action: "hedge",
    cost: "O(N)",
    source: "tied requests; Dean and Barroso, The Tail at Scale, CACM 56(2), 2013",
    stability: "stable",
    uses: ["prefixes", "forecast"]
  },
  {
    after: {
      kind: "duration",
      default: 1000,
      minimum: 0,
      unit: "ms",
      summary: "Shortest wait before a copy is sent. Lower shortens the tail and sends more copies."
    },
    budget: {
      kind: "number",
      default: 0.02,
      minimum: 0,
      maximum: 1,
      summary: "Share of placements that may be copies. More cuts a longer tail and adds as much load."
    },
    tokenBudget: {
      kind: "number",
      default: 0.05,
      minimum: 0,
      maximum: 1,
      summary:
        "Share of uncached prompt tokens that copies may bring. Lower keeps long prompts from being copied."
    },
    saturation: {
      kind: "number",
      default: 0.8,
      minimum: 0,
      maximum: 1,
      summary:
        "Share of places in use above which no copies are sent. Higher hedges under overload, where copies hurt."
    }
  },
  ({ after, budget, tokenBudget, saturation }) => {
    const allowed = new RescueBudget(budget)
    const allowedTokens = new RescueBudget(tokenBudget, TOKENS_SAVED_MAX, 0)
    const lateness = new Lateness()
    let copied = new Uint8Array(0)
    /** By worker. */
    let ready = new Uint8Array(0)
    return {
      changed: (worker, isReady) => {
        if (worker >= ready.length) ready = grow(ready, worker, bytes)
        ready[worker] = isReady ? 1 : 0
      },
      admitted: ({ slot }) => {
        if (slot >= copied.length) copied = grow(copied, slot, bytes)
        copied[slot] = 0
      },
      placed: ({ uncachedTokens }) => {
        allowed.earn()
        allowedTokens.earn(uncachedTokens)
      },
      timed: ({ slot }, _worker, { forecast }, nowMs) => lateness.started(slot, forecast, nowMs),
      review: (pool, placed, actions, nowMs) => {
        if (!allowed.allows() || usedShare(pool.workers, ready) > saturation) return
        const patienceMs = Math.max(after, 2 * soonestMs(pool, nowMs))
        let left = ACTIONS_MAX
        placed.unstarted((request, worker, sinceMs) => {
          const { slot } = request
          const waitedMs = nowMs - sinceMs
          if (waitedMs <= patienceMs || !lateness.isLate(slot, pool.forecast, waitedMs)) return
          if (copied[slot] === 1 || left === 0 || !allowed.allows()) return
          const other = soonestElsewhere(request, worker, pool, nowMs)
          if (other.ttftMs > waitedMs / 2) return
          const tokens = request.promptTokens - pool.cachedTokens(request)[other.worker]!
          if (!allowedTokens.allows(tokens) || !actions.hedge(slot, other.worker)) return
          copied[slot] = 1
          allowed.spend()
          allowedTokens.spend(tokens)
          left--
        })
      }
    }
  }
)

/** Share of the places of these workers that are taken; 1 where there are none. */
const usedShare = ({ capacity, inFlight }: WorkerColumns, workers: Uint8Array): number => {
  let used = 0
  let all = 0
  for (let worker = 0; worker < workers.length; worker++) {
    if (workers[worker] === 0) continue
    used += inFlight[worker]!
    all += capacity[worker]!
  }
  return all === 0 ? 1 : used / all
}
