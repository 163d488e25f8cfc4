import type { RequestView } from "../domain/RequestView.ts"
import { grow } from "../structures/grow.ts"

/** How old the view of what requests have produced may be: a token or two. */
const AGE_MS_MAX = 10

/**
 * The requests on one worker, and the most KV tokens they will hold at one time if each decodes a token a step until its expected end
 * and nothing else joins. One that has outlived its expectation is expected to end with its next token.
 *
 * Of those with the k-th most tokens left or more, all are there when the k-th ends, and hold what they hold at this moment and as many
 * tokens more: the peak is at one of these ends. `add` costs O(1), `remove` O(n), `peakWith` O(log n), and after a change or 10 ms once
 * O(n) when requests come to their ends in the order expected before, O(n²) at worst. n is bounded by the attempts that a worker takes
 * at once. Memory: 48 bytes a request.
 *
 * Source: ModelTC/lightllm, docs/EN/source/framework/router.rst.
 */
export class KvBatch {
  count = 0
  /** Of the requests on the worker. They hold as much at least, now and at the peak. */
  promptTokens = 0
  /** By falling tokens left, as far as they were looked at; later ones behind them. */
  private readonly requests: Array<RequestView> = []
  private ends = new Float64Array(0)
  private lefts = new Float64Array(0)
  /** Held by this request and those before it. */
  private held = new Float64Array(0)
  /** The highest peak at an end up to this one; and at this end or a later one, with one more request there. */
  private peaksTo = new Float64Array(0)
  private peaksFrom = new Float64Array(0)
  private seenMs = Number.NEGATIVE_INFINITY

  /** `outputTokens` ≥ 1 is the length expected of its answer. */
  add(request: RequestView, outputTokens: number): void {
    const at = this.count++
    if (at >= this.ends.length) {
      this.ends = grow(this.ends, at, floats)
      this.lefts = grow(this.lefts, at, floats)
      this.held = grow(this.held, at, floats)
      this.peaksTo = grow(this.peaksTo, at, floats)
      this.peaksFrom = grow(this.peaksFrom, at, floats)
    }
    this.requests[at] = request
    this.ends[at] = outputTokens
    this.promptTokens += request.promptTokens
    this.seenMs = Number.NEGATIVE_INFINITY
  }

  /** Takes the request of a slot out; false when it is not there. */
  remove(slot: number): boolean {
    const { requests } = this
    const at = requests.findIndex((request) => request.slot === slot)
    if (at < 0) return false
    this.promptTokens -= requests[at]!.promptTokens
    requests.splice(at, 1)
    this.ends.copyWithin(at, at + 1, this.count--)
    this.seenMs = Number.NEGATIVE_INFINITY
    return true
  }

  /** The peak with one more request. `nowMs` never decreases. */
  peakWith(promptTokens: number, outputTokens: number, nowMs: number): number {
    if (nowMs - this.seenMs >= AGE_MS_MAX) this.look(nowMs)
    const { lefts, count } = this
    let before = 0
    let to = count
    while (before < to) {
      const middle = (before + to) >>> 1
      if (lefts[middle]! > outputTokens) before = middle + 1
      else to = middle
    }
    const own = promptTokens + (before + 1) * outputTokens
    const earlier = before < count ? promptTokens + this.peaksFrom[before]! : 0
    if (before === 0) return Math.max(own, earlier)
    return Math.max(this.held[before - 1]! + own, earlier, this.peaksTo[before - 1]!)
  }

  private look(nowMs: number): void {
    this.seenMs = nowMs
    this.sort()
    const { requests, lefts, held, peaksTo, peaksFrom, count } = this
    for (let i = 0, sum = 0, peak = 0; i < count; i++) {
      sum += requests[i]!.promptTokens + requests[i]!.outputTokens
      held[i] = sum
      peaksTo[i] = peak = Math.max(peak, sum + (i + 1) * lefts[i]!)
    }
    for (let i = count - 1, peak = 0; i >= 0; i--)
      peaksFrom[i] = peak = Math.max(peak, held[i]! + (i + 2) * lefts[i]!)
  }

  private sort(): void {
    const { requests, ends, lefts, count } = this
    for (let i = 0; i < count; i++) {
      const request = requests[i]!
      const end = ends[i]!
      const left = Math.max(1, end - request.outputTokens)
      let at = i
      for (; at > 0 && lefts[at - 1]! < left; at--) {
        requests[at] = requests[at - 1]!
        ends[at] = ends[at - 1]!
        lefts[at] = lefts[at - 1]!
      }
      requests[at] = request
      ends[at] = end
      lefts[at] = left
    }
  }
}

const floats = (length: number): Float64Array<ArrayBuffer> => new Float64Array(length)
