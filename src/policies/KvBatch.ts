import type { RequestView } from "../domain/RequestView.ts"
import { bytes, floats, grow, ints } from "../structures/grow.ts"

/** How old the view of what requests have produced may be: a token or two. */
const AGE_MS_MAX = 10

/**
 * The requests on one worker, and the most KV tokens they will hold at one time if each decodes a token a step until its expected end
 * and nothing else joins. One that has outlived its expectation is expected to end with its next token.
 *
 * Of those with the k-th most tokens left or more, all are there when the k-th ends, and hold what they hold at this moment and as many
 * tokens more: the peak is at one of these ends. An engine keeps a prefix that several prompts share once: the prompts of some of the
 * requests take no more than those of all of them do, which is their sum less `sharedTokens`.
 *
 * `add` costs O(1), `remove` and `started` a scan of 4 n bytes, `observed` O(n), `peakWith` O(log n), and after a change or 10 ms once O(n)
 * when requests come to their ends in the order expected before, O(n²) at worst. `fits` is O(1) as long as there is room for all that came
 * since to be at its longest at the peak. n is bounded by the attempts that a worker takes at once. Memory: 53 bytes a request.
 *
 * Source: ModelTC/lightllm, docs/EN/source/framework/router.rst.
 */
export class KvBatch {
  count = 0
  private promptTokens = 0
  /** Of these what several requests share, counted for all of them but one: that much, or less. */
  private sharedTokens = 0
  /** By falling tokens left, as far as they were looked at; later ones behind them. */
  private readonly requests: Array<RequestView> = []
  private slots = new Int32Array(0)
  private begun = new Uint8Array(0)
  private ends = new Float64Array(0)
  private lefts = new Float64Array(0)
  /** Held by this request and those before it. */
  private held = new Float64Array(0)
  /** The highest peak at an end up to this one; and at this end or a later one, with one more request there. */
  private peaksTo = new Float64Array(0)
  private peaksFrom = new Float64Array(0)
  private seenMs = Number.NEGATIVE_INFINITY
  private stale = false
  /** The peak when it was last looked for, with the whole of each request that came since: no peak is higher. */
  private peakMost = 0

  /** `outputTokens` ≥ 1 is the length expected of its answer. */
  add(request: RequestView, outputTokens: number): void {
    const at = this.count++
    if (at >= this.ends.length) {
      this.slots = grow(this.slots, at, ints)
      this.begun = grow(this.begun, at, bytes)
      this.ends = grow(this.ends, at, floats)
      this.lefts = grow(this.lefts, at, floats)
      this.held = grow(this.held, at, floats)
      this.peaksTo = grow(this.peaksTo, at, floats)
      this.peaksFrom = grow(this.peaksFrom, at, floats)
    }
    this.requests[at] = request
    this.slots[at] = request.slot
    this.begun[at] = 0
    this.ends[at] = outputTokens
    this.promptTokens += request.promptTokens
    this.peakMost += request.promptTokens + outputTokens
    this.stale = true
  }

  /** Takes the request of a slot out; false when it is not there. */
  remove(slot: number): boolean {
    const { begun, ends, requests, slots } = this
    const at = slots.indexOf(slot)
    if (at < 0 || at >= this.count) return false
    const { promptTokens } = requests[at]!
    this.promptTokens -= promptTokens
    // It shared all of its prompt at most.
    this.sharedTokens = Math.max(0, this.sharedTokens - promptTokens)
    requests.splice(at, 1)
    slots.copyWithin(at, at + 1, this.count)
    begun.copyWithin(at, at + 1, this.count)
    ends.copyWithin(at, at + 1, this.count--)
    this.stale = true
    return true
  }

  /** The request of a slot has its first token: from now on it holds its whole prompt. */
  started(slot: number): void {
    const at = this.slots.indexOf(slot)
    if (at >= 0 && at < this.count) this.begun[at] = 1
  }

  /**
   * The engine runs so many sequences, which use so many KV tokens: those that have started share what they would hold more, each for
   * itself. Nothing is learned where fewer run than have started, since some of these were thrown out.
   */
  observed(running: number, usedTokens: number): void {
    const { begun, count, requests } = this
    let [begunCount, heldTokens] = [0, 0]
    for (let i = 0; i < count; i++) {
      if (begun[i] === 0) continue
      begunCount++
      heldTokens += requests[i]!.promptTokens + requests[i]!.outputTokens
    }
    const sharedTokens = Math.max(0, heldTokens - usedTokens)
    if (running < begunCount || sharedTokens === this.sharedTokens) return
    this.sharedTokens = sharedTokens
    this.seenMs = Number.NEGATIVE_INFINITY
  }

  /** Whether one more request fits into `roomTokens` at the peak. `nowMs` never decreases. */
  fits(promptTokens: number, outputTokens: number, roomTokens: number, nowMs: number): boolean {
    if (this.promptTokens - this.sharedTokens + promptTokens > roomTokens) return false
    const isRecent = nowMs - this.seenMs < AGE_MS_MAX
    if (isRecent && this.peakMost + promptTokens + outputTokens <= roomTokens) return true
    return this.peakWith(promptTokens, outputTokens, nowMs) <= roomTokens
  }

  /** The peak with one more request. `nowMs` never decreases. */
  peakWith(promptTokens: number, outputTokens: number, nowMs: number): number {
    if (this.stale || nowMs - this.seenMs >= AGE_MS_MAX) this.look(nowMs)
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
    this.stale = false
    this.sort()
    const { requests, lefts, held, peaksTo, peaksFrom, count } = this
    const distinctTokens = this.promptTokens - this.sharedTokens
    let peak = 0
    for (let i = 0, prompts = 0, outputs = 0; i < count; i++) {
      prompts += requests[i]!.promptTokens
      outputs += requests[i]!.outputTokens
      held[i] = Math.min(prompts, distinctTokens) + outputs
      peaksTo[i] = peak = Math.max(peak, held[i]! + (i + 1) * lefts[i]!)
    }
    this.peakMost = peak
    for (let i = count - 1, peak = 0; i >= 0; i--)
      peaksFrom[i] = peak = Math.max(peak, held[i]! + (i + 2) * lefts[i]!)
  }

  private sort(): void {
    const { requests, slots, begun, ends, lefts, count } = this
    for (let i = 0; i < count; i++) {
      const request = requests[i]!
      const isBegun = begun[i]!
      const end = ends[i]!
      const left = Math.max(1, end - request.outputTokens)
      let at = i
      for (; at > 0 && lefts[at - 1]! < left; at--) {
        requests[at] = requests[at - 1]!
        slots[at] = slots[at - 1]!
        begun[at] = begun[at - 1]!
        ends[at] = ends[at - 1]!
        lefts[at] = lefts[at - 1]!
      }
      requests[at] = request
      slots[at] = request.slot
      begun[at] = isBegun
      ends[at] = end
      lefts[at] = left
    }
  }
}
