import { Reason } from "../../domain/Outcome.ts"
import { assert } from "../../structures/assert.ts"
import type { ReplayResult } from "./Replay.ts"

/** Sums of many numbers in another order differ by less than this share. */
const ROUNDING = 1e-6

/**
 * Checks what holds of every replay, whatever the traffic and the policies: each request has one end, in order and counted once; mean
 * time in the system × arrivals = mean number in the system × time (Little's law); and each engine was busy for exactly as long as the
 * steps it counts take. What does not hold is a broken assertion. O(requests + workers).
 */
export const audit = ({ options, outcomes, presentMs, totals, workers }: ReplayResult): void => {
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
  let produced = 0
  for (const [slot, worker] of workers.entries()) {
    const { preset, slowFactor = 1 } = options.workers[slot]!
    const { cost } = preset
    const stepsMs =
      cost.baseMs * worker.steps +
      cost.prefillTokenMs * worker.stepPrefillTokens +
      cost.prefillAttentionMs * worker.stepAttention +
      cost.decodeSequenceMs * worker.stepDecodes +
      cost.decodeContextMs * worker.stepContextTokens
    assert(
      isNear(worker.busyMs, stepsMs * slowFactor),
      "an engine is busy with its steps, and with nothing else"
    )
    produced += worker.outputTokens
  }
  assert(produced >= outputTokens, "every token that came was produced")
}

const isNear = (a: number, b: number): boolean => Math.abs(a - b) <= ROUNDING * Math.max(1, a, b)
