import { Reason } from "../../domain/Outcome.ts"
import { assert } from "../../structures/assert.ts"
import { sum } from "../../structures/mean.ts"
import type { ReplayResult } from "./Replay.ts"

/** Sums of many numbers in another order differ by less than this share. */
const ROUNDING = 1e-6

/**
 * Checks what holds of every replay, whatever the traffic and the policies: each request has one end, in order and counted once; mean
 * time in the system × arrivals = mean number in the system × time (Little's law); and each engine was busy for exactly as long as the
 * steps it counts take. What does not hold is a broken assertion. O(requests + workers).
 */
export const audit = ({ options, outcomes, presentMs, spells, totals, workers }: ReplayResult): void => {
  const { requests } = options.workload
  const { arrivedMs, endedMs, firstMs, placedMs, reasons } = outcomes
  let sojournMs = 0
  let done = 0
  let outputTokens = 0
  for (const [number, request] of requests.entries()) {
    assert(endedMs[number]! >= arrivedMs[number]!, "a request ends after it has come")
    sojournMs += endedMs[number]! - arrivedMs[number]!
    if (reasons[number] !== Reason.none) continue
    assert(placedMs[number]! >= arrivedMs[number]!, "a request is placed after it has come")
    assert(firstMs[number]! >= placedMs[number]!, "a token comes from where its request was placed last")
    assert(endedMs[number]! >= firstMs[number]!, "the last token does not come before the first")
    done++
    outputTokens += request.outputTokens
  }
  assert(totals.done === done, "what is done is counted as done, once")
  const { accepted, rejected, failed, cancelled, expired } = totals
  assert(accepted === done + failed + cancelled + expired, "what was accepted has one end")
  assert(accepted + rejected === requests.length, "what came was accepted or rejected")
  assert(isNear(sojournMs, presentMs), "Little's law")
  let enginesBusyMs = 0
  for (const { cost, from, slowFactor, to } of spells) {
    const busyMs = to.busyMs - from.busyMs
    enginesBusyMs += busyMs
    const stepsMs =
      cost.baseMs * (to.steps - from.steps) +
      cost.prefillTokenMs * (to.stepPrefillTokens - from.stepPrefillTokens) +
      cost.prefillAttentionMs * (to.stepAttention - from.stepAttention) +
      cost.decodeSequenceMs * (to.stepDecodes - from.stepDecodes) +
      cost.decodeContextMs * (to.stepContextTokens - from.stepContextTokens)
    assert(isNear(busyMs, stepsMs * slowFactor), "an engine is busy with its steps, and with nothing else")
  }
  const busyMs = sum(workers.map((load) => load.busyMs))
  assert(isNear(enginesBusyMs, busyMs), "workers were busy for as long as their engines")
  const producedTokens = sum(workers.map((load) => load.outputTokens))
  assert(producedTokens >= outputTokens, "every token that came was produced")
}

const isNear = (a: number, b: number): boolean => Math.abs(a - b) <= ROUNDING * Math.max(1, a, b)
