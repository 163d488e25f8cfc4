import type { Ending } from "../../client/index.ts"
import type { TraceRequest } from "../../domain/Trace.ts"
import type { Hash64 } from "../../structures/hash.ts"
import { timesOf } from "./timesOf.ts"

/** What became of one request. Times in ms of trace time; NaN, and no worker, where it was not done. */
export interface Seen {
  /** Who answered. */
  readonly worker: string | undefined
  readonly ttftMs: number
  /** NaN for an answer of one token. */
  readonly tpotMs: number
  readonly e2eMs: number
  readonly promptTokens: number
  readonly cachedTokens: number
}

/** One request as it really left: when, counted from the first one, and under which id. */
export interface Sent {
  readonly atMs: number
  readonly id: Hash64
}

/** Writes down each request of a replay, in the order in which they leave. Wall-clock times go in, `timeScale` times as much comes out. */
export class Journal {
  readonly sent: Array<Sent> = []
  readonly seen: Array<Seen> = []
  /** Of each request that one worker did alone: what its first token took beyond the engine's own time. */
  readonly pathsMs: Array<number> = []
  private readonly timeScale: number
  private startMs = Number.NaN

  constructor(timeScale: number) {
    this.timeScale = timeScale
  }

  /** Request number `index` left at `nowMs`; `id` is what the client calls it. */
  left(index: number, id: string, nowMs: number): void {
    if (Number.isNaN(this.startMs)) this.startMs = nowMs
    const [high, low] = [id.slice(0, 8), id.slice(8)].map((digits) => Number.parseInt(digits, 16))
    this.sent[index] = { atMs: (nowMs - this.startMs) * this.timeScale, id: { high: high!, low: low! } }
  }

  /** It ended; `decodeMs` is the time from the first to the last token. */
  ended(index: number, { promptTokens }: TraceRequest, ending: Ending, decodeMs: number): void {
    if (ending.outcome !== "done") {
      this.seen[index] = { ...unanswered, promptTokens }
      return
    }
    const { attempts, cachedTokens, prefillMs, queueMs, worker } = ending
    const times = timesOf(ending, decodeMs, this.timeScale)
    this.seen[index] = { worker, ...times, promptTokens, cachedTokens }
    if (attempts === 1) this.pathsMs.push(times.ttftMs - queueMs - prefillMs)
  }
}

/** Of a request that was not done. */
export const unanswered: Omit<Seen, "promptTokens"> = {
  worker: undefined,
  ttftMs: Number.NaN,
  tpotMs: Number.NaN,
  e2eMs: Number.NaN,
  cachedTokens: 0
}
