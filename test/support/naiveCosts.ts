import type { RequestView } from "../../src/domain/RequestView.ts"
import { mix } from "../../src/structures/hash.ts"
import { BLOCK_TOKENS, type Candidate } from "./pools.ts"

/** What a worker holds of a request in the pools of `poolOf`. */
export const cachedOf = ({ cachedTokens }: Candidate, { chain, promptTokens }: RequestView): number =>
  Math.min(
    Math.min(Math.floor(cachedTokens / BLOCK_TOKENS), chain.count) * BLOCK_TOKENS,
    Math.max(0, promptTokens - 1)
  )

/** The mean answer that `quietForecast` expects. */
export const answerOf = ({ maxTokens }: RequestView): number => Math.max(1, Math.ceil(maxTokens / 2))

/** The costs of `src/policies/costs.ts` once more, as formulas over a row. In ms. */
export const naiveCosts = {
  stepMs: (row: Candidate): number =>
    row.baseMs +
    row.decodeSequenceMs * (row.inFlight - row.prefilling) +
    row.decodeContextMs * row.contextTokens,
  ownMs: (row: Candidate, prompt: number, cached: number): number =>
    row.prefillTokenMs * (prompt - cached) +
    (row.prefillAttentionMs * (prompt - cached) * (prompt + cached)) / 2,
  waitingMs: (row: Candidate): number =>
    row.prefillTokenMs * row.pendingPrefillTokens + row.prefillAttentionMs * row.pendingPrefillAttention,
  kvWaitMs: (row: Candidate, prompt: number, answer: number): number => {
    const tooMuch = row.contextTokens + prompt + answer - row.kvCapacityTokens
    if (row.kvCapacityTokens === 0 || tooMuch <= 0) return 0
    return answer * naiveCosts.stepMs(row) * Math.min(1, tooMuch / row.contextTokens)
  },
  ttftMs: (row: Candidate, prompt: number, cached: number, answer: number, chunk: number): number =>
    naiveCosts.waitingMs(row) +
    naiveCosts.ownMs(row, prompt, cached) +
    Math.max(1, Math.ceil((row.pendingPrefillTokens + prompt - cached) / chunk)) * naiveCosts.stepMs(row) +
    naiveCosts.kvWaitMs(row, prompt, answer),
  longerMs: (row: Candidate, prompt: number, answer: number): number =>
    answer * (row.decodeSequenceMs + row.decodeContextMs * (prompt + answer / 2)),
  occupancyMs: (row: Candidate, prompt: number, cached: number, answer: number): number =>
    naiveCosts.ownMs(row, prompt, cached) + naiveCosts.longerMs(row, prompt, answer),
  /** Five minutes of prefill would cost half of them. */
  lastingMs: (ownMs: number): number => ownMs * (ownMs / (300_000 + ownMs)),
  externalityMs: (row: Candidate, prompt: number, cached: number, most: number): number => {
    const ownMs = naiveCosts.ownMs(row, prompt, cached)
    return row.inFlight * (ownMs - naiveCosts.ownMs(row, prompt, most) + naiveCosts.lastingMs(ownMs))
  }
}

/** Rendezvous score of a worker for the session of a request, or for the request itself. */
export const tieScore = (row: Candidate, one: RequestView): number => {
  const hasSession = one.sessionHigh !== 0 || one.sessionLow !== 0
  const state = hasSession ? mix(0, one.sessionHigh, one.sessionLow) : mix(0, one.idHigh, one.idLow)
  return mix(state, row.keyHigh, row.keyLow)
}
