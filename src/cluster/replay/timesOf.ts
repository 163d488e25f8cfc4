import type { Done } from "../../client/index.ts"

/** Times of an answer in ms of trace time; TPOT is NaN for one token. `decodeMs` is the time on the clock from the first to the last. */
export const timesOf = (
  { e2eMs, tokens, ttftMs = e2eMs }: Done,
  decodeMs: number,
  timeScale: number
): { readonly ttftMs: number; readonly tpotMs: number; readonly e2eMs: number } => ({
  ttftMs: ttftMs * timeScale,
  tpotMs: tokens > 1 ? (decodeMs * timeScale) / (tokens - 1) : Number.NaN,
  e2eMs: e2eMs * timeScale
})
