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
  chunkSteps: (tokens: number, chunk: number): number => Math.max(1, Math.ceil(tokens / chunk)),
  waitingMs: (row: Candidate): number =>
    row.prefillTokenMs * row.pendingPrefillTokens + row.prefillAttentionMs * row.pendingPrefillAttention,
  /** Whatever was done of the prompts was done between two moments, and no prompt was there that is not pending. */
  waitMs: (row: Candidate, chunk: number, nowMs: number): number => {
    if (row.pendingPrefillTokens === 0) return 0
    const allMs =
      naiveCosts.waitingMs(row) +
      naiveCosts.chunkSteps(row.pendingPrefillTokens, chunk) * naiveCosts.stepMs(row)
    const doneMs =
      nowMs < row.prefillDueMs ? nowMs - row.prefillSinceMs : row.prefillDueMs - row.prefillSinceMs
    return doneMs > allMs ? 0 : allMs - doneMs
  },
  roomMs: (row: Candidate, prompt: number, cached: number, answer: number): number => {
    const apart = row.contextTokens + cached
    const seen = row.kvUsedTokens + row.pendingPrefillTokens + row.answerTokens
    const there = apart < seen ? apart : seen
    const tooMuch = row.kvCapacityTokens === 0 ? 0 : there + prompt - cached + answer - row.kvCapacityTokens
    const tooMany = row.inFlight + 1 - row.maxSequences
    const shares = [tooMuch > 0 ? tooMuch / there : 0, tooMany > 0 ? tooMany / row.inFlight : 0]
    return answer * naiveCosts.stepMs(row) * Math.min(1, Math.max(...shares))
  },
  ttftMs: (
    row: Candidate,
    prompt: number,
    cached: number,
    answer: number,
    chunk: number,
    nowMs: number
  ): number =>
    naiveCosts.waitMs(row, chunk, nowMs) +
    naiveCosts.ownMs(row, prompt, cached) +
    (naiveCosts.chunkSteps(prompt - cached, chunk) + (row.inFlight === 0 ? 0 : 1)) * naiveCosts.stepMs(row) +
    naiveCosts.roomMs(row, prompt, cached, answer),
  longerMs: (row: Candidate, prompt: number, answer: number): number =>
    answer * (row.decodeSequenceMs + row.decodeContextMs * (prompt + answer / 2)),
  occupancyMs: (row: Candidate, prompt: number, cached: number, answer: number): number =>
    naiveCosts.ownMs(row, prompt, cached) + naiveCosts.longerMs(row, prompt, answer),
  /** Twelve seconds of prefill would cost an eighth of them. */
  lastingMs: (ownMs: number): number => ownMs * (ownMs / (12_000 + ownMs)) ** 3,
  externalityMs: (row: Candidate, prompt: number, cached: number, most: number, again: number): number => {
    const ownMs = naiveCosts.ownMs(row, prompt, cached)
    const againMs = ownMs - naiveCosts.ownMs(row, prompt, most)
    return row.inFlight * (again * againMs + naiveCosts.lastingMs(ownMs))
  },
  spacedMs: (row: Candidate, answer: number, spacing: number): number => {
    const apart = naiveCosts.stepMs(row) - row.baseMs
    return answer * apart * (apart / spacing) ** 2
  }
}

/** Rendezvous score of a worker for the session of a request, or for the request itself. */
export const tieScore = (row: Candidate, one: RequestView): number => {
  const hasSession = one.sessionHigh !== 0 || one.sessionLow !== 0
  const state = hasSession ? mix(0, one.sessionHigh, one.sessionLow) : mix(0, one.idHigh, one.idLow)
  return mix(state, row.keyHigh, row.keyLow)
}
