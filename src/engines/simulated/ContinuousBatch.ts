import { assert } from "../../structures/assert.ts"
import { type StepCost, stepMs } from "./CostModel.ts"
import { KvCache, type KvCacheSink } from "./KvCache.ts"
import { type BatchRequest, isDecoding, producedBy, Sequence } from "./Sequence.ts"

/** Where the results of a step go. The sink may submit and cancel from inside these calls. */
export interface BatchSink<R extends BatchRequest> {
  /** Token `index` (from 0) of this sequence. Without `everyToken` only what comes with the end of a prefill. */
  readonly token: (sequence: Sequence<R>, index: number, nowMs: number) => void
  /** After its last token; of a request without an answer, once its prompt is computed. */
  readonly finished: (sequence: Sequence<R>, nowMs: number) => void
}

export interface BatchOptions {
  readonly cost: StepCost
  readonly kvCapacityTokens: number
  /** Tokens of one prefix block: whatever the chains of the requests were made with. */
  readonly blockTokens: number
  /** Most sequences in the batch. */
  readonly maxNumSeqs?: number
  /** Most tokens computed in one step, prefill and decode together. */
  readonly maxBatchedTokens?: number | undefined
  /** How long the KV cache of one token takes from one engine to another. */
  readonly transferTokenMs?: number
  /** How long a KV cache that is handed over is sure to be kept for us. */
  readonly transferWithinMs?: number
  /** Whether the sink is told of every token, which takes a look at every sequence in every step. By default it is. */
  readonly everyToken?: boolean
  /** Told what the prefix cache holds. */
  readonly cacheSink?: KvCacheSink | undefined
}

export const MAX_NUM_SEQS = 128
export const MAX_BATCHED_TOKENS = 2048
/** Tokens of one KV page, where a prefix block is not smaller. As in vLLM. */
const PAGE_TOKENS = 16

/**
 * A continuous-batching engine with chunked prefill and a paged prefix cache, as a pure machine in virtual time.
 *
 * Each step computes one token of every decoding sequence, then prefill chunks in order of arrival up to the token budget: those of the
 * batch first, then those who wait, as long as there is a place and KV space for their whole prompt. A sequence's first token comes out
 * of the step that computes the end of its prompt. When a decoding sequence finds no KV page, the newest sequence leaves the batch, goes
 * back to the head of the queue, and computes everything again. The last token of a prompt is always computed, cached or not.
 *
 * A request without an answer leaves the batch when its prompt is computed, and keeps its KV cache until `cancel`. One that is handed over
 * joins the batch as others do, waits there until what of its prompt is not cached here has come, and computes the last token of its
 * prompt. Where all of it could not come in time, and after a preemption, it computes its prompt itself.
 *
 * The caller is the clock: `step(nowMs)` ends the step under way and begins the next; the returned duration says when to come back.
 * After 0 (idle), come back at the next `submit` or `cancel`, and at `nextArrivalMs`. Same calls, same results. None of it depends on the
 * lengths of prompts. A step with `everyToken` costs O(sequences in the batch). Without it those that decode are looked at when one of
 * them ends or is cancelled, and when there is no room for their next tokens: else what they have in common is counted for all together.
 *
 * Source: vLLM's V1 scheduler (vllm/v1/core/sched/scheduler.py).
 */
export class ContinuousBatch<R extends BatchRequest> {
  readonly cache: KvCache
  /** Sequences waiting for the batch. */
  waiting = 0
  /** Those out of the batch whose KV cache is kept. */
  kept = 0
  /** Tokens to prefill that are not computed: all of a sequence that waits; of one in the batch what nobody gave. One of one handed over. */
  pendingPrefillTokens = 0
  /** Sequences that had to start over. */
  preemptions = 0
  private readonly sink: BatchSink<R>
  private readonly maxNumSeqs: number
  private readonly transferTokenMs: number
  private readonly transferWithinMs: number
  /** In the order they joined; ended ones are taken out when the others are looked at. */
  private readonly decoding: Array<Sequence<R>> = []
  private readonly prefilling: Array<Sequence<R>> = []
  private readonly arriving: Array<Sequence<R>> = []
  private last: Sequence<R> | undefined
  // From here on what every step needs: it lies together in memory, for the engines of a large fleet do not fit into the nearest caches.
  private first: Sequence<R> | undefined
  private readonly cost: StepCost
  private readonly maxBatchedTokens: number
  private readonly everyToken: boolean
  /** By steps ended modulo the length: how many decoding sequences need another page after that step. */
  private readonly hungry: Int32Array
  /** Sequences in the batch. */
  running = 0
  /** Of those that decode: how many, and the sum of their `computed`. */
  private decodes = 0
  private contextTokens = 0
  /** Steps that have ended, and calls that found none: each gave every decoding sequence a token. */
  stepsEnded = 0
  /** No decoding sequence ends with an earlier step. */
  private nextEnd = Number.POSITIVE_INFINITY
  /** Up to which step all that decode have their pages: the one that ended last, or the one under way. */
  private roomUpTo = 0
  /** Of the step being begun: tokens it may still compute, and Σ chunk·(context before it + chunk/2). */
  private budget = 0
  private attention = 0
  /** Tokens of answers so far. */
  producedTokens = 0
  /** Steps begun, and the sums of their durations and of what `stepMs` makes these from; see `WorkerLoad`. */
  steps = 0
  busyMs = 0
  stepPrefillTokens = 0
  stepAttention = 0
  stepDecodes = 0
  stepContextTokens = 0

  constructor(options: BatchOptions, sink: BatchSink<R>) {
    this.maxNumSeqs = options.maxNumSeqs ?? MAX_NUM_SEQS
    this.maxBatchedTokens = options.maxBatchedTokens ?? MAX_BATCHED_TOKENS
    assert(this.maxNumSeqs > 0, "a batch has room for a sequence")
    assert(this.maxBatchedTokens > this.maxNumSeqs, "decodes leave room for prefill")
    this.sink = sink
    this.cost = options.cost
    this.transferTokenMs = options.transferTokenMs ?? 0
    this.transferWithinMs = options.transferWithinMs ?? Number.POSITIVE_INFINITY
    this.everyToken = options.everyToken ?? true
    this.cache = new KvCache({
      capacityTokens: options.kvCapacityTokens,
      pageTokens: Math.min(PAGE_TOKENS, options.blockTokens),
      blockTokens: options.blockTokens,
      sink: options.cacheSink
    })
    this.hungry = new Int32Array(this.cache.pageTokens)
  }

  /** Puts a request into the queue; undefined when it could never fit into the KV cache, whatever else runs. */
  submit(request: R, nowMs: number): Sequence<R> | undefined {
    const { promptTokens, outputTokens } = request
    assert(promptTokens >= 1 && outputTokens >= 0, "a request has a prompt")
    if (this.pagesOf(promptTokens + Math.max(0, outputTokens - 1)) > this.cache.capacityPages)
      return undefined
    const sequence = new Sequence(request, nowMs)
    this.enqueue(sequence, false)
    return sequence
  }

  /** Frees everything the sequence holds; nothing more is told about it. Without effect once it has ended. Cost O(1). */
  cancel(sequence: Sequence<R>): void {
    if (sequence.phase === "waiting") this.dequeue(sequence)
    else if (sequence.phase === "kept") {
      this.kept--
      this.free(sequence)
    } else if (sequence.phase !== "ended") {
      this.vacate(sequence)
      // The next step looks, and takes it out.
      this.nextEnd = 0
    }
    sequence.phase = "ended"
  }

  /** Brings the numbers of a sequence up to date: while it decodes, they need not be. */
  count(sequence: Sequence<R>): void {
    if (!isDecoding(sequence)) return
    const { cache, roomUpTo, stepsEnded } = this
    const tokens = stepsEnded - sequence.countedAt
    sequence.produced += tokens
    sequence.computed += tokens
    sequence.countedAt = stepsEnded
    const pages = this.pagesOf(sequence.computed + roomUpTo - stepsEnded)
    sequence.pages = pages - this.pagesOf(sequence.prefix!.end * cache.blockTokens)
  }

  /**
   * How many steps, the one under way first, are going to end with nothing to tell and nothing to decide, as long as nobody submits or
   * cancels: in each the same sequences decode, and find free pages. Each of these steps takes at least as long as the one before.
   */
  get quietSteps(): number {
    const { decodes, hungry, nextEnd, stepsEnded } = this
    if (this.everyToken || decodes === 0 || this.running > decodes || this.first !== undefined) return 0
    const stepsMax = nextEnd - stepsEnded - 1
    const { freePages } = this.cache
    // In as many steps as a page has tokens each sequence needs one.
    const rounds = Math.floor(freePages / decodes)
    let steps = rounds * hungry.length
    let pages = freePages - rounds * decodes
    while (steps < stepsMax) {
      pages -= hungry[(stepsEnded + steps + 1) % hungry.length]!
      if (pages < 0) break
      steps++
    }
    return Math.min(steps, stepsMax)
  }

  /** When the first KV cache under way is there; infinite while none is. */
  get nextArrivalMs(): number {
    let nextMs = Number.POSITIVE_INFINITY
    for (const { phase, arrivesMs } of this.arriving)
      if (phase === "arriving" && arrivesMs < nextMs) nextMs = arrivesMs
    return nextMs
  }

  /**
   * Ends the step under way, tells its results, and begins the next one: its duration in ms, or 0 when there is nothing to do. It takes
   * `slowFactor` times as long as it should.
   */
  step(nowMs: number, slowFactor = 1): number {
    this.endDecodes(nowMs)
    // Most steps only decode.
    if (this.running > this.decodes) {
      this.endPrefills(nowMs)
      this.endArrivals(nowMs)
    }
    const preempted = this.makeRoomToDecode()
    this.budget = this.maxBatchedTokens - this.decodes
    this.attention = 0
    if (this.running > this.decodes) this.beginChunks()
    if (!preempted) this.admitWaiting(nowMs)
    const prefill = this.maxBatchedTokens - this.budget - this.decodes
    if (prefill === 0 && this.decodes === 0) {
      const isEmpty = this.arriving.length === 0 && this.kept === 0
      assert(!isEmpty || this.first === undefined, "an empty engine has room for any request in the queue")
      return 0
    }
    this.steps++
    this.stepPrefillTokens += prefill
    this.stepAttention += this.attention
    this.stepDecodes += this.decodes
    this.stepContextTokens += this.contextTokens
    const durationMs =
      stepMs(this.cost, prefill, this.attention, this.decodes, this.contextTokens) * slowFactor
    this.busyMs += durationMs
    return durationMs
  }

  private endDecodes(nowMs: number): void {
    this.stepsEnded++
    this.contextTokens += this.decodes
    this.producedTokens += this.decodes
    const { decoding, everyToken, stepsEnded } = this
    if (!everyToken && stepsEnded < this.nextEnd) return
    let nextEnd = Number.POSITIVE_INFINITY
    let kept = 0
    for (const sequence of decoding) {
      if (everyToken && sequence.phase === "running")
        this.sink.token(sequence, producedBy(sequence, stepsEnded) - 1, nowMs)
      if (sequence.phase !== "running") continue
      if (sequence.endsWith === stepsEnded) this.finish(sequence, nowMs)
      else {
        decoding[kept++] = sequence
        if (sequence.endsWith < nextEnd) nextEnd = sequence.endsWith
      }
    }
    decoding.length = kept
    this.nextEnd = nextEnd
  }

  private endPrefills(nowMs: number): void {
    const { prefilling } = this
    let kept = 0
    for (const sequence of prefilling) {
      if (sequence.phase !== "running") continue
      sequence.computed += sequence.chunk
      this.pendingPrefillTokens -= sequence.chunk
      sequence.chunk = 0
      if (sequence.computed < sequence.prefillTokens) {
        prefilling[kept++] = sequence
        continue
      }
      if (sequence.request.outputTokens === 0) {
        this.keep(sequence, nowMs)
        continue
      }
      this.decode(sequence, nowMs)
    }
    prefilling.length = kept
  }

  private keep(sequence: Sequence<R>, nowMs: number): void {
    this.running--
    this.kept++
    sequence.phase = "kept"
    sequence.firstTokenMs = nowMs
    this.sink.finished(sequence, nowMs)
  }

  /** What has arrived is like a prompt of which all but the last token is cached. */
  private endArrivals(nowMs: number): void {
    const { arriving } = this
    let left = 0
    for (const sequence of arriving) {
      if (sequence.phase !== "arriving") continue
      if (sequence.arrivesMs > nowMs) {
        arriving[left++] = sequence
        continue
      }
      sequence.phase = "running"
      this.prefilling.push(sequence)
    }
    arriving.length = left
  }

  /** Tells the token that comes with the end of a prefill; the next ones are decoded. */
  private decode(sequence: Sequence<R>, nowMs: number): void {
    const { stepsEnded } = this
    const index = sequence.produced++
    if (index === 0) sequence.firstTokenMs = nowMs
    this.decodes++
    this.contextTokens += sequence.computed
    this.producedTokens++
    sequence.countedAt = stepsEnded
    sequence.endsWith = stepsEnded + sequence.request.outputTokens - sequence.produced
    this.hungry[this.hungerOf(sequence)]!++
    this.sink.token(sequence, index, nowMs)
    if (sequence.phase !== "running") return
    if (sequence.endsWith === stepsEnded) return this.finish(sequence, nowMs)
    this.decoding.push(sequence)
    if (sequence.endsWith < this.nextEnd) this.nextEnd = sequence.endsWith
  }

  private finish(sequence: Sequence<R>, nowMs: number): void {
    this.vacate(sequence)
    sequence.phase = "ended"
    this.sink.finished(sequence, nowMs)
  }

  /** Gives every decoding sequence the page its next token needs. Whether a sequence had to leave the batch for it. */
  private makeRoomToDecode(): boolean {
    const { hungry, stepsEnded } = this
    const pages = hungry[stepsEnded % hungry.length]!
    const isShort = pages > 0 && !this.cache.take(pages)
    if (isShort) this.makeRoomInTurn()
    this.roomUpTo = stepsEnded + 1
    return isShort
  }

  /** There are not as many pages as needed: those who joined first get theirs, at the cost of the newest. */
  private makeRoomInTurn(): void {
    const { cache, decoding, hungry, stepsEnded } = this
    for (let i = 0; i < decoding.length; i++) {
      const sequence = decoding[i]!
      if (this.hungerOf(sequence) !== stepsEnded % hungry.length) continue
      while (sequence.phase === "running" && !cache.take(1)) this.preemptNewest()
    }
  }

  /** A decoding sequence needs another page after the steps that leave this modulo the length of `hungry`. */
  private hungerOf({ computed, countedAt }: Sequence<R>): number {
    const { length } = this.hungry
    return (((countedAt - computed) % length) + length) % length
  }

  private preemptNewest(): void {
    const sequence = this.prefilling.pop() ?? this.decoding.pop()
    assert(sequence !== undefined, "who lacks a page is in the batch")
    if (sequence.phase !== "running") return
    this.vacate(sequence)
    this.preemptions++
    this.enqueue(sequence, true)
  }

  private beginChunks(): void {
    for (const sequence of this.prefilling) {
      if (this.budget === 0) return
      this.beginChunk(sequence)
    }
  }

  /** Prefills as much of the sequence as the budget allows in this step. */
  private beginChunk(sequence: Sequence<R>): void {
    const chunk = Math.min(sequence.prefillTokens - sequence.computed, this.budget)
    sequence.chunk = chunk
    this.budget -= chunk
    this.attention += chunk * (sequence.computed + chunk / 2)
    // Blocks can be shared from the step on that computes them: attention reads them layer by layer.
    const upTo = Math.min(
      this.fullBlocks(sequence),
      Math.floor((sequence.computed + chunk) / this.cache.blockTokens)
    )
    const shared = sequence.prefix!.end
    if (upTo > shared) {
      const prefix = this.cache.extend(sequence.prefix!, sequence.request.chain, upTo)
      sequence.pages -= this.pagesOf((prefix.end - shared) * this.cache.blockTokens)
      sequence.prefix = prefix
    }
  }

  private admitWaiting(nowMs: number): void {
    while (this.first !== undefined && this.budget > 0 && this.running < this.maxNumSeqs) {
      const sequence = this.first
      if (!this.admit(sequence, nowMs)) return
      if (sequence.phase === "running") this.beginChunk(sequence)
    }
  }

  /** Moves the head of the queue into the batch, if the KV cache has room for all it must prefill. */
  private admit(sequence: Sequence<R>, nowMs: number): boolean {
    const { cache } = this
    const prefillTokens = toPrefill(sequence)
    const cachable = Math.min(this.fullBlocks(sequence), Math.floor((prefillTokens - 1) / cache.blockTokens))
    const prefix = cache.pin(sequence.request.chain, cachable)
    const cached = prefix.end * cache.blockTokens
    const pages = this.pagesOf(prefillTokens) - this.pagesOf(cached)
    if (!cache.take(pages)) {
      cache.unpin(prefix)
      return false
    }
    this.dequeue(sequence)
    this.running++
    sequence.prefix = prefix
    sequence.pages = pages
    sequence.prefillTokens = prefillTokens
    const arrivesMs = nowMs + this.transferTokenMs * (prefillTokens - cached)
    if (sequence.awaited && arrivesMs <= sequence.submittedMs + this.transferWithinMs) {
      sequence.phase = "arriving"
      sequence.arrivesMs = arrivesMs
      sequence.computed = prefillTokens - 1
      this.arriving.push(sequence)
    } else {
      sequence.phase = "running"
      sequence.computed = cached
      this.prefilling.push(sequence)
    }
    sequence.awaited = false
    this.pendingPrefillTokens += prefillTokens - sequence.computed
    if (sequence.admittedMs < 0) {
      sequence.admittedMs = nowMs
      sequence.cachedTokens = sequence.computed
    }
    return true
  }

  /** Takes a sequence's resources back. Its place in the arrays is the caller's business. */
  private vacate(sequence: Sequence<R>): void {
    this.running--
    if (isDecoding(sequence)) {
      this.count(sequence)
      this.decodes--
      this.contextTokens -= sequence.computed
      this.hungry[this.hungerOf(sequence)]!--
    } else this.pendingPrefillTokens -= sequence.prefillTokens - sequence.computed
    this.free(sequence)
  }

  private free(sequence: Sequence<R>): void {
    this.cache.give(sequence.pages)
    this.cache.unpin(sequence.prefix!)
    sequence.prefix = undefined
    sequence.pages = 0
    sequence.chunk = 0
  }

  private enqueue(sequence: Sequence<R>, ahead: boolean): void {
    this.waiting++
    this.pendingPrefillTokens += toCompute(sequence)
    sequence.phase = "waiting"
    const before = ahead ? undefined : this.last
    const behind = ahead ? this.first : undefined
    sequence.before = before
    sequence.behind = behind
    if (before === undefined) this.first = sequence
    else before.behind = sequence
    if (behind === undefined) this.last = sequence
    else behind.before = sequence
  }

  private dequeue(sequence: Sequence<R>): void {
    const { before, behind } = sequence
    this.waiting--
    this.pendingPrefillTokens -= toCompute(sequence)
    if (before === undefined) this.first = behind
    else before.behind = behind
    if (behind === undefined) this.last = before
    else behind.before = before
    sequence.before = sequence.behind = undefined
  }

  private fullBlocks(sequence: Sequence<R>): number {
    const { chain, promptTokens } = sequence.request
    return Math.min(chain.length, Math.floor(promptTokens / this.cache.blockTokens))
  }

  private pagesOf(tokens: number): number {
    return Math.ceil(tokens / this.cache.pageTokens)
  }
}

/** Of a sequence outside the batch: its prompt, and what it said before it was preempted. */
const toPrefill = ({ request, produced }: Sequence<BatchRequest>): number => request.promptTokens + produced

const toCompute = (sequence: Sequence<BatchRequest>): number => (sequence.awaited ? 1 : toPrefill(sequence))
