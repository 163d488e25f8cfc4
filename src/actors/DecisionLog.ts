import type { DecisionWorker } from "../domain/Explanation.ts"
import type { Reason } from "../domain/Outcome.ts"
import { Role } from "../domain/PoolView.ts"
import type { RequestView } from "../domain/RequestView.ts"
import type { WorkerState } from "../domain/Snapshot.ts"
import { CompletionCosts } from "../policies/CompletionCosts.ts"
import { CHUNK_TOKENS, ttftMs } from "../policies/costs.ts"
import type { PolicyEvents } from "../policies/Policy.ts"
import { assert } from "../structures/assert.ts"
import { bytes, grow } from "../structures/grow.ts"
import type { BalancerPool } from "./BalancerPool.ts"
import { Request } from "./RequestTable.ts"

/** What is taken down of a request. */
export const Act = {
  refused: 0,
  admitted: 1,
  /** A worker was picked for it: for it alone, or together with others. */
  picked: 2,
  pickedTogether: 3,
  /** A rescue sent a copy to another worker, took it to another, or back into the queue. */
  hedged: 4,
  moved: 5,
  requeued: 6,
  /** The first token came; an attempt was over; the request was. */
  started: 7,
  released: 8,
  ended: 9,
  /** Belongs to the decision before it: the workers that it does not list. */
  unlisted: 10
} as const

/** What a worker was to a decision: a candidate, or why it was none. */
const Standing = {
  candidate: 0,
  /** It could be picked, and was not compared: it was not in the policy's sample, or a rule of the policy ruled it out. */
  "not-compared": 1,
  "not-ready": 2,
  starting: 3,
  suspect: 4,
  draining: 5,
  lost: 6,
  "wrong-role": 7,
  /** It only produces answers: that is the other half of the decision. */
  "answers-only": 8,
  /** It only reads prompts, and this request is not split. */
  "not-split": 9,
  "at-capacity": 10,
  "pending-tokens": 11,
  "failed-before": 12
} as const

export type Standing = keyof typeof Standing

export const standings = Object.keys(Standing) as ReadonlyArray<Standing>

/** One worker, as a decision saw it. */
export interface SeenWorker extends Omit<DecisionWorker, "worker" | "terms" | "cost"> {
  readonly worker: number
  readonly standing: Standing
  /** Of candidates, where the policy has terms. */
  readonly terms: Readonly<Record<string, number>> | undefined
}

export interface SeenRequest {
  readonly model: number
  readonly tenant: number
  readonly class: number
  readonly promptTokens: number
  readonly maxTokens: number
  readonly sessionHigh: number
  readonly sessionLow: number
  readonly arrivedMs: number
  readonly deadlineMs: number
}

/** What was taken down at one moment. */
export type Note = { readonly atMs: number } & (
  | {
      readonly act: "refused"
      readonly request: SeenRequest
      /** The place of the admission policy that refused, counted from the last, which is 1; 0 for none of them. */
      readonly by: number
      readonly reason: number
      readonly retryAfterMs: number
      /** Share of every bound that it might fill. */
      readonly ceiling: number
    }
  | {
      readonly act: "admitted"
      readonly request: SeenRequest
      /** Requests in the queue, whether a worker had room, and whether arrivals are placed together. */
      readonly queued: number
      readonly hadRoom: boolean
      readonly joint: boolean
      /** Requests of the pool that were picked for so far. */
      readonly picks: number
    }
  | {
      readonly act: "picked" | "pickedTogether" | "hedged" | "moved" | "requeued"
      /** -1 where none was chosen. */
      readonly worker: number
      /** Who produces the answer, where that is another worker; else -1. */
      readonly producer: number
      readonly attempt: number
      readonly picks: number
      /** Index of the rescue that acted, or how many were picked for together. */
      readonly number: number
      /** Answer that was expected. */
      readonly outputTokens: number
      /** None when they are forgotten. */
      readonly workers: ReadonlyArray<SeenWorker>
    }
  /** Of the decision before: how many workers it does not list, in the order of `standings`. */
  | { readonly act: "unlisted"; readonly counts: ReadonlyArray<number> }
  | { readonly act: "started"; readonly worker: number }
  | { readonly act: "released"; readonly worker: number; readonly reason: number }
  | {
      readonly act: "ended"
      readonly reason: number
      readonly outputTokens: number
      /** NaN where it is not known. */
      readonly cachedTokens: number
    }
)

export interface DecisionLogOptions {
  /** Requests whose decisions are kept, about; older ones make room. */
  readonly kept: number
  /** Workers listed of each decision: of a larger pool those with the soonest first tokens, and the one chosen. */
  readonly listedMax?: number
  /** Which requests are taken down; all where nothing is said. */
  readonly about?: (request: RequestView) => boolean
  /** How many requests a second are taken down at most, and at once; all where nothing is said. Of more, those that come first. */
  readonly perSecond?: number
  /** Why a worker that may get no work may not. */
  readonly stateOf?: (worker: number, model: number) => WorkerState | undefined
}

/** Numbers of one note and of one listed worker. */
const NOTE = 16
/** More than there are reasons: a place and a reason go into one number. */
const REASONS = 256
const SEEN = 17
/** Where the terms of a listed worker begin. */
const TERMS_AT = 9
const TERMS_MAX = SEEN - TERMS_AT
/** Admitted, picked, started, released, ended; and now and then another attempt. */
const NOTES_PER_REQUEST = 6
/** Where the counts by standing begin in a note of them: in the place of its time. */
const COUNTS_AT = 3
/** Workers listed of a decision, and that there is room for, for each request. */
const LISTED_MAX = 16

/**
 * Keeps account of every decision about a request, of the last `kept` requests or so: made from the state that the decision saw, at that
 * moment, by the terms of the policy that decided. It reads, and changes nothing.
 *
 * Numbers in two rings that are there from the start. A note costs nothing but its writing; of a decision besides what the terms of the
 * workers listed cost, and of pools with more than `listedMax` workers a prediction for each of them.
 */
export class DecisionLog implements PolicyEvents {
  private readonly options: DecisionLogOptions
  private readonly listedMax: number
  private readonly notes: Float64Array
  private readonly seen: Float64Array
  private readonly noteCount: number
  private readonly seenCount: number
  /** Written so far. */
  private noted = 0
  private listed = 0
  /** By model: requests picked for. */
  private readonly picks: Array<number> = []
  /** The sets of names that terms came with. */
  private readonly names: Array<ReadonlyArray<string>> = []
  /** By slot: whether the request is taken down. */
  private chosen = new Uint8Array(0)
  /** Requests that may be taken down at `savedMs`. */
  private saved: number
  private savedMs = Number.NEGATIVE_INFINITY
  /** Of the set that terms came with last. */
  private namesUsed = 0
  /** Of one decision: the workers to list, what they are ordered by, and how many others there are by standing. */
  private readonly shortlist: Int32Array
  private readonly ranks: Float64Array
  private shortCount = 0
  private readonly unlisted = new Float64Array(standings.length)
  /** Times to first token, of whole requests and of prompts that are to be read. */
  private readonly wholeCosts = new CompletionCosts(CHUNK_TOKENS)
  private readonly readCosts = new CompletionCosts(CHUNK_TOKENS)

  constructor(options: DecisionLogOptions) {
    const { kept, listedMax = LISTED_MAX } = options
    assert(kept >= 1, "at least one request is kept")
    this.options = options
    this.listedMax = listedMax
    this.saved = options.perSecond ?? Number.POSITIVE_INFINITY
    this.noteCount = NOTES_PER_REQUEST * kept
    this.seenCount = Math.max(LISTED_MAX * kept, listedMax)
    this.notes = new Float64Array(NOTE * this.noteCount)
    this.seen = new Float64Array(SEEN * this.seenCount)
    this.shortlist = new Int32Array(listedMax)
    this.ranks = new Float64Array(listedMax)
  }

  get bytes(): number {
    return this.notes.byteLength + this.seen.byteLength
  }

  refused(
    request: RequestView,
    pool: BalancerPool,
    by: number,
    reason: Reason,
    retryAfterMs: number,
    nowMs: number
  ): void {
    if (!this.choose(request, nowMs)) return
    const at = this.noteRequest(Act.refused, request, nowMs)
    // From the last on: before those that were chosen there may be others.
    const place = by < 0 ? 0 : pool.policies.admissions.length - by
    this.notes[at + 13] = place * REASONS + reason
    this.notes[at + 14] = pool.ceiling(request)
    this.notes[at + 15] = retryAfterMs
  }

  /** One that an earlier core had sent to a worker is admitted once more, and was taken down before. */
  letIn(request: RequestView, pool: BalancerPool, nowMs: number): void {
    if (request.attempt > 1 || !this.choose(request, nowMs)) return
    const at = this.noteRequest(Act.admitted, request, nowMs)
    this.notes[at + 13] = pool.queuedCount
    this.notes[at + 14] = (pool.hasRoom ? 1 : 0) + (pool.policies.joint ? 2 : 0)
    this.notes[at + 15] = this.picks[request.model] ?? 0
  }

  /** The placement policy has picked `worker`, -1 for none; not `avoided`, unless that was alone. The columns are as it saw them. */
  picked(request: RequestView, pool: BalancerPool, worker: number, avoided: number, nowMs: number): void {
    this.countPick(request)
    if (this.ignores(request)) return
    this.decide(Act.picked, request, pool, worker, avoided, -1, nowMs)
  }

  /** The same of several requests at once. */
  pickedTogether(
    requests: ReadonlyArray<RequestView>,
    picked: Int32Array,
    pool: BalancerPool,
    nowMs: number
  ): void {
    for (const [i, request] of requests.entries()) {
      this.countPick(request)
      if (!this.ignores(request))
        this.decide(Act.pickedTogether, request, pool, picked[i]!, -1, requests.length, nowMs)
    }
  }

  /** A rescue is about to act on a request; `worker` is where to, -1 for the queue. */
  rescued(
    act: number,
    request: RequestView,
    pool: BalancerPool,
    worker: number,
    rescue: number,
    nowMs: number
  ): void {
    if (this.ignores(request)) return
    pool.aside(() => this.decide(act, request, pool, worker, -1, rescue, nowMs))
  }

  readonly started = (request: RequestView, worker: number, _pool: unknown, nowMs: number): void => {
    if (this.ignores(request)) return
    const at = this.note(Act.started, request, nowMs)
    this.notes[at + 4] = worker
  }

  readonly released = (
    request: RequestView,
    worker: number,
    reason: Reason,
    _pool: unknown,
    nowMs: number
  ): void => {
    if (this.ignores(request)) return
    const at = this.note(Act.released, request, nowMs)
    this.notes[at + 4] = worker
    this.notes[at + 5] = reason
  }

  readonly ended = (request: RequestView, reason: Reason, _pool: unknown, nowMs: number): void => {
    if (this.ignores(request)) return
    const at = this.note(Act.ended, request, nowMs)
    this.notes[at + 4] = reason
    this.notes[at + 5] = request.outputTokens
    this.notes[at + 6] = request instanceof Request ? request.cachedTokens : Number.NaN
  }

  /** What is kept about the request of this id, oldest first. O(notes kept). */
  about(idHigh: number, idLow: number): ReadonlyArray<Note> {
    const { noteCount, noted, notes } = this
    const found: Array<Note> = []
    for (let n = Math.max(0, noted - noteCount); n < noted; n++) {
      const at = (n % noteCount) * NOTE
      if (notes[at + 1] === idHigh && notes[at + 2] === idLow)
        found.push(this.read(notes.subarray(at, at + NOTE)))
    }
    return found
  }

  private countPick({ model }: RequestView): void {
    this.picks[model] = (this.picks[model] ?? 0) + 1
  }

  /** Decides whether a new request is taken down, from now until it ends. */
  private choose(request: RequestView, nowMs: number): boolean {
    const { slot } = request
    if (slot >= this.chosen.length) this.chosen = grow(this.chosen, slot, bytes)
    const isMeant = this.options.about?.(request) !== false && this.spend(nowMs)
    this.chosen[slot] = isMeant ? 1 : 0
    return isMeant
  }

  private spend(nowMs: number): boolean {
    const { perSecond } = this.options
    if (perSecond === undefined) return true
    if (nowMs > this.savedMs)
      this.saved = Math.min(perSecond, this.saved + ((nowMs - this.savedMs) * perSecond) / 1000)
    this.savedMs = nowMs
    if (this.saved < 1) return false
    this.saved--
    return true
  }

  private ignores({ slot }: RequestView): boolean {
    return this.chosen[slot] !== 1
  }

  /** Begins a note; returns where it lies. */
  private note(act: number, { idHigh, idLow }: RequestView, nowMs: number): number {
    const { notes } = this
    const at = (this.noted++ % this.noteCount) * NOTE
    notes[at] = act
    notes[at + 1] = idHigh
    notes[at + 2] = idLow
    notes[at + 3] = nowMs
    return at
  }

  private noteRequest(act: number, request: RequestView, nowMs: number): number {
    const { notes } = this
    const at = this.note(act, request, nowMs)
    notes[at + 4] = request.model
    notes[at + 5] = request.tenant
    notes[at + 6] = request.class
    notes[at + 7] = request.promptTokens
    notes[at + 8] = request.maxTokens
    notes[at + 9] = request.sessionHigh
    notes[at + 10] = request.sessionLow
    notes[at + 11] = request.arrivedMs
    notes[at + 12] = request.deadlineMs
    return at
  }

  private decide(
    act: number,
    request: RequestView,
    pool: BalancerPool,
    worker: number,
    avoided: number,
    number: number,
    nowMs: number
  ): void {
    const from = this.listed
    const outputTokens = pool.forecast.meanOutputTokens(request)
    const isLarge = this.list(act, request, pool, worker, avoided, outputTokens, nowMs)
    const { notes } = this
    const at = this.note(act, request, nowMs)
    notes[at + 4] = worker
    notes[at + 5] = act === Act.picked ? pool.producer : -1
    notes[at + 6] = request.attempt
    notes[at + 7] = this.picks[request.model] ?? 0
    notes[at + 8] = number
    notes[at + 9] = outputTokens
    notes[at + 10] = from
    notes[at + 11] = this.listed - from
    if (isLarge) notes.set(this.unlisted, this.note(Act.unlisted, request, nowMs) + COUNTS_AT)
  }

  /** Writes down the workers of the pool, as far as they are listed. Says whether some are not, and then counts those. */
  private list(
    act: number,
    request: RequestView,
    pool: BalancerPool,
    chosen: number,
    avoided: number,
    outputTokens: number,
    nowMs: number
  ): boolean {
    const { listedMax, unlisted } = this
    const { eligible, eligibleCount, members, policies, prefill, prefillCount, workers } = pool
    const { promptTokens } = request
    const cachedTokens = pool.cachedTokens(request)
    const compared = act === Act.picked ? policies.placement.compared : undefined
    const isSplit = policies.placement.decodeOn !== undefined && pool.decodeCount > 0
    const readerCount = isSplit ? prefillCount : 0
    const wholeMs = this.wholeCosts.of(request, pool, eligible, eligibleCount, outputTokens, nowMs)
    const readMs = this.readCosts.of(request, pool, prefill, readerCount, 1, nowMs)
    const isLarge = members.length > listedMax
    unlisted.fill(0)
    this.shortCount = 0
    for (let i = 0; i < eligibleCount; i++) this.offer(eligible[i]!, wholeMs, chosen)
    for (let i = 0; i < readerCount; i++) this.offer(prefill[i]!, readMs, chosen)
    const { shortCount, shortlist } = this
    for (let i = 0; i < shortCount; i++) {
      const worker = shortlist[i]!
      const isReader = workers.role[worker] === Role.prefill
      const standing = compared?.(worker, pool) === false ? Standing["not-compared"] : Standing.candidate
      this.see(request, pool, worker, standing, cachedTokens, (isReader ? readMs : wholeMs)[worker]!, nowMs)
    }
    unlisted[Standing.candidate] = eligibleCount + readerCount - shortCount
    if (eligibleCount + readerCount === members.length) return isLarge
    for (let i = 0; i < members.length; i++) {
      const worker = members[i]!
      if (pool.mayPick(worker)) continue
      const standing = this.standingOf(worker, pool, request.model, avoided)
      if (isLarge && worker !== chosen) unlisted[standing]!++
      else {
        const firstMs = ttftMs(workers, worker, promptTokens, cachedTokens[worker]!, outputTokens, nowMs)
        this.see(request, pool, worker, standing, cachedTokens, firstMs, nowMs)
      }
    }
    return isLarge
  }

  /** Keeps the chosen worker and those with the soonest first token. */
  private offer(worker: number, firstMs: Float64Array, chosen: number): void {
    const { listedMax, ranks, shortlist } = this
    const rank = worker === chosen ? -1 : firstMs[worker]!
    if (this.shortCount === listedMax && rank >= ranks[listedMax - 1]!) return
    let at = this.shortCount < listedMax ? this.shortCount++ : listedMax - 1
    for (; at > 0 && ranks[at - 1]! > rank; at--) {
      ranks[at] = ranks[at - 1]!
      shortlist[at] = shortlist[at - 1]!
    }
    ranks[at] = rank
    shortlist[at] = worker
  }

  /** Why a worker could not be picked. */
  private standingOf(worker: number, pool: BalancerPool, model: number, avoided: number): number {
    const { policies, workers } = pool
    if (!pool.isReady(worker)) {
      const state = this.options.stateOf?.(worker, model)
      return Math.max(
        Standing["not-ready"],
        standings.findIndex((standing) => standing === state)
      )
    }
    const role = workers.role[worker]!
    if (role !== Role.both) {
      if (policies.placement.decodeOn === undefined) return Standing["wrong-role"]
      if (role === Role.decode) return Standing["answers-only"]
      if (pool.decodeCount === 0) return Standing["not-split"]
    }
    if (!workers.hasRoom(worker)) return Standing["at-capacity"]
    const isBehind = workers.pendingPrefillTokens[worker]! >= policies.pendingTokensMax
    // Who failed the request is set aside while it is picked for.
    return isBehind || worker !== avoided ? Standing["pending-tokens"] : Standing["failed-before"]
  }

  private see(
    request: RequestView,
    pool: BalancerPool,
    worker: number,
    standing: number,
    cachedTokens: Float64Array,
    firstMs: number,
    nowMs: number
  ): void {
    const { seen } = this
    const { workers } = pool
    const at = (this.listed++ % this.seenCount) * SEEN
    seen[at] = worker
    seen[at + 1] = standing
    seen[at + 2] = workers.inFlight[worker]!
    seen[at + 3] = workers.capacity[worker]!
    seen[at + 4] = workers.pendingPrefillTokens[worker]!
    seen[at + 5] = workers.contextTokens[worker]!
    seen[at + 6] = cachedTokens[worker]!
    seen[at + 7] = firstMs
    const { terms } = pool.policies.placement
    const isWeighed = terms !== undefined && standing <= Standing["not-compared"]
    seen[at + 8] = isWeighed ? this.writeTerms(terms(request, worker, pool, nowMs), at + TERMS_AT) : -1
  }

  /** Writes the values of terms; returns the number of the set of their names. */
  private writeTerms(terms: Readonly<Record<string, number>>, at: number): number {
    const { seen } = this
    const names = this.names[this.namesUsed]
    let count = 0
    let isUsual = names !== undefined
    for (const name in terms) {
      isUsual &&= names![count] === name
      assert(count < TERMS_MAX, "a cost has at most eight terms")
      seen[at + count++] = terms[name]!
    }
    if (!isUsual || names!.length !== count) this.namesUsed = this.numberOf(Object.keys(terms))
    return this.namesUsed
  }

  private numberOf(names: ReadonlyArray<string>): number {
    const known = this.names.findIndex((each) => each.join() === names.join())
    return known < 0 ? this.names.push(names) - 1 : known
  }

  private read(note: Float64Array): Note {
    const act = acts[note[0]!]!
    const atMs = note[3]!
    switch (act) {
      case "refused":
        return {
          act,
          atMs,
          request: requestIn(note),
          by: Math.floor(note[13]! / REASONS),
          reason: note[13]! % REASONS,
          retryAfterMs: note[15]!,
          ceiling: note[14]!
        }
      case "admitted":
        return {
          act,
          atMs,
          request: requestIn(note),
          queued: note[13]!,
          hadRoom: (note[14]! & 1) !== 0,
          joint: (note[14]! & 2) !== 0,
          picks: note[15]!
        }
      case "started":
        return { act, atMs, worker: note[4]! }
      case "released":
        return { act, atMs, worker: note[4]!, reason: note[5]! }
      case "unlisted":
        return { act, atMs, counts: [...note.subarray(COUNTS_AT)] }
      case "ended":
        return { act, atMs, reason: note[4]!, outputTokens: note[5]!, cachedTokens: note[6]! }
      default:
        return {
          act,
          atMs,
          worker: note[4]!,
          producer: note[5]!,
          attempt: note[6]!,
          picks: note[7]!,
          number: note[8]!,
          outputTokens: note[9]!,
          workers: this.seenFrom(note[10]!, note[11]!)
        }
    }
  }

  private seenFrom(from: number, count: number): ReadonlyArray<SeenWorker> {
    if (from < this.listed - this.seenCount) return []
    return Array.from({ length: count }, (_, i) => {
      const at = ((from + i) % this.seenCount) * SEEN
      const one = this.seen.subarray(at, at + SEEN)
      const names = this.names[one[8]!]
      return {
        worker: one[0]!,
        standing: standings[one[1]!]!,
        inFlight: one[2]!,
        capacity: one[3]!,
        pendingTokens: one[4]!,
        contextTokens: one[5]!,
        cachedTokens: one[6]!,
        ttftMs: one[7]!,
        terms: names && Object.fromEntries(names.map((name, i) => [name, one[TERMS_AT + i]!]))
      }
    })
  }
}

assert(COUNTS_AT + standings.length === NOTE, "the counts by standing fit into a note")

const acts = Object.keys(Act) as ReadonlyArray<Note["act"]>

const requestIn = (note: Float64Array): SeenRequest => ({
  model: note[4]!,
  tenant: note[5]!,
  class: note[6]!,
  promptTokens: note[7]!,
  maxTokens: note[8]!,
  sessionHigh: note[9]!,
  sessionLow: note[10]!,
  arrivedMs: note[11]!,
  deadlineMs: note[12]!
})
