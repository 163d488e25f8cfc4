import { Reason, reasonName } from "../domain/Outcome.ts"
import type { PrefixChain } from "../domain/PrefixChain.ts"
import { mix } from "../structures/hash.ts"
import { hex64 } from "../structures/hex64.ts"
import { Numbering } from "../structures/Numbering.ts"

/** What a recording looks at in a request. */
export interface RecordedRequest {
  /** Unique among live requests. */
  readonly slot: number
  readonly arrivedMs: number
  readonly promptTokens: number
  /** Delivered so far. */
  readonly outputTokens: number
  readonly maxTokens: number
  readonly chain: PrefixChain
  readonly tenant: number
  readonly model: number
  readonly sessionHigh: number
  readonly sessionLow: number
  readonly idHigh: number
  readonly idLow: number
}

/** Who is told of every request that is let into the table. Must not keep the request, nor take long. */
export interface RequestRecorder {
  /** In order of arrival. */
  readonly arrived: (request: RecordedRequest) => void
  /** Once for each that arrived; `reason` is none where it was answered in full. */
  readonly ended: (request: RecordedRequest, reason: Reason) => void
}

/** How tenants and models are called in a recording. Indexes are small, and keep their labels. */
export interface RecordLabels {
  /** Nothing for a request of nobody in particular. */
  readonly tenant: (index: number) => string | undefined
  readonly model: (index: number) => string
}

export interface RecordingOptions {
  readonly labels: RecordLabels
  /** Prompt tokens that one block of a chain stands for. */
  readonly blockTokens: number
  /** Share of the sessions that are recorded, and of the requests that have none, above 0 to 1. */
  readonly share: number
  /** A secret: decides which sessions are recorded, and keeps clients from choosing where the index holds their blocks. */
  readonly saltHigh: number
  readonly saltLow: number
  readonly bounds?: RecordingBounds
}

/** How much is held in memory. */
export interface RecordingBounds {
  /** Of requests that have ended or not, from the earliest one that has not. */
  readonly waitingLines: number
  readonly waitingBytes: number
  /** Of those that can be written. */
  readonly readyBytes: number
  /** Different blocks and sessions whose numbers are kept for sure, powers of two. */
  readonly blocks: number
  readonly sessions: number
}

const defaultBounds: RecordingBounds = {
  waitingLines: 262_144,
  waitingBytes: 32 * 1024 * 1024,
  readyBytes: 16 * 1024 * 1024,
  // 64 million prompt tokens in blocks of 256: more than the caches of a hundred workers hold.
  blocks: 262_144,
  sessions: 65_536
}

/** A request of the recording: when it arrived, and what comes behind the time on its line. */
export interface RecordedLine {
  readonly arrivedMs: number
  readonly text: string
}

/** One that may not have ended: then it has no text. */
class Entry {
  readonly slot: number
  readonly arrivedMs: number
  text: string | undefined
  /** The one that arrived next. */
  next: Entry | undefined

  constructor(slot: number, arrivedMs: number) {
    this.slot = slot
    this.arrivedMs = arrivedMs
  }
}

/**
 * Makes lines of llm-trace/1 from the requests it is told of, in order of arrival: a line waits until every earlier request has ended.
 * Pure: no IO, no clock. When too much waits, the earliest request is given up, and counted in `overtaken`; when too much is ready and not
 * taken, lines are dropped and counted in `crowded`.
 *
 * No hash of a prompt, a session or a name of a tenant comes out: blocks and sessions are numbered in the order in which they come up.
 * The length that an answer would have had is not known of a request that was not answered in full: it borrows that of the last request of
 * its model that was, within what it got and what it asked for. A client that gives up an answer that has begun has had what it wanted.
 */
export class Recording implements RequestRecorder {
  overtaken = 0
  crowded = 0
  private readonly options: RecordingOptions
  private readonly bounds: RecordingBounds
  private readonly blocks: Numbering
  private readonly sessions: Numbering
  /** What a line says of a tenant and of a model, by index. */
  private readonly tenants: Array<string> = []
  private readonly models: Array<string> = []
  /** Output tokens of the last full answer, by model. */
  private readonly answers: Array<number | undefined> = []
  /** By slot: those that have not ended. */
  private readonly open: Array<Entry | undefined> = []
  /** In order of arrival; the first one has not ended. */
  private first: Entry | undefined
  private last: Entry | undefined
  private latestMs = Number.NEGATIVE_INFINITY
  private waitingLines = 0
  private waitingBytes = 0
  private ready: Array<RecordedLine> = []
  private readyBytes = 0

  constructor(options: RecordingOptions) {
    const { bounds = defaultBounds, saltHigh, saltLow } = options
    this.options = options
    this.bounds = bounds
    this.blocks = new Numbering(bounds.blocks, saltHigh, saltLow)
    this.sessions = new Numbering(bounds.sessions, saltHigh, saltLow)
  }

  readonly arrived = (request: RecordedRequest): void => {
    const { slot } = request
    this.open[slot] = undefined
    if (!this.isTaken(request)) return
    // Connections are heard one after the other, and what one of them said may be read a turn later.
    this.latestMs = Math.max(this.latestMs, request.arrivedMs)
    const entry = new Entry(slot, this.latestMs)
    if (this.last === undefined) this.first = entry
    else this.last.next = entry
    this.last = entry
    this.open[slot] = entry
    this.waitingLines++
    this.bound()
  }

  readonly ended = (request: RecordedRequest, reason: Reason): void => {
    const entry = this.open[request.slot]
    if (entry === undefined) return
    this.open[request.slot] = undefined
    entry.text = this.textOf(request, reason)
    this.waitingBytes += entry.text.length
    this.release()
    this.bound()
  }

  /** The lines that can be written, which are given out once. */
  take(): ReadonlyArray<RecordedLine> {
    const { ready } = this
    this.ready = []
    this.readyBytes = 0
    return ready
  }

  /** Gives up every request that has not ended, so that all the others can be taken. */
  giveUpOpen(): void {
    while (this.first !== undefined) this.giveUpFirst()
  }

  private isTaken({ idHigh, idLow, sessionHigh, sessionLow }: RecordedRequest): boolean {
    const { saltHigh, share } = this.options
    if (share >= 1) return true
    const hasSession = sessionHigh !== 0 || sessionLow !== 0
    const key = hasSession ? mix(saltHigh, sessionHigh, sessionLow) : mix(saltHigh, idHigh, idLow)
    return key < share * 2 ** 32
  }

  /** Moves on what waits for nobody. */
  private release(): void {
    for (let entry = this.first; entry?.text !== undefined; entry = this.first) {
      const { arrivedMs, text } = entry
      this.waitingBytes -= text.length
      this.dropFirst()
      if (this.readyBytes + text.length > this.bounds.readyBytes) this.crowded++
      else {
        this.readyBytes += text.length
        this.ready.push({ arrivedMs, text })
      }
    }
  }

  private bound(): void {
    const { waitingBytes, waitingLines } = this.bounds
    while (this.waitingLines > waitingLines || this.waitingBytes > waitingBytes) this.giveUpFirst()
  }

  private giveUpFirst(): void {
    this.open[this.first!.slot] = undefined
    this.overtaken++
    this.dropFirst()
    this.release()
  }

  private dropFirst(): void {
    this.first = this.first!.next
    if (this.first === undefined) this.last = undefined
    this.waitingLines--
  }

  private textOf(request: RecordedRequest, reason: Reason): string {
    const { blockTokens, labels } = this.options
    const { chain, idHigh, idLow, model, promptTokens, sessionHigh, sessionLow, tenant } = request
    let text = idHigh === 0 && idLow === 0 ? "" : `"id":"${hex64(idHigh, idLow)}",`
    text += `"in":${promptTokens},"out":${this.outputTokens(request, reason)}`
    const count = Math.min(chain.count, Math.floor(promptTokens / blockTokens))
    if (count > 0) {
      const numbers = new Array<number>(count)
      for (let i = 0; i < count; i++) numbers[i] = this.blocks.of(chain.high[i]!, chain.low[i]!)
      text += `,"blocks":[${numbers.join(",")}]`
    }
    if (sessionHigh !== 0 || sessionLow !== 0)
      text += `,"session":"s${this.sessions.of(mix(tenant, sessionHigh, sessionLow), sessionLow)}"`
    text += this.tenants[tenant] ??= field("tenant", labels.tenant(tenant))
    text += this.models[model] ??= field("model", labels.model(model))
    return reason === Reason.none ? text : `${text},"end":"${reasonName(reason)}"`
  }

  private outputTokens({ maxTokens, model, outputTokens }: RecordedRequest, reason: Reason): number {
    const got = Math.max(1, outputTokens)
    if (reason === Reason.none) {
      this.answers[model] = got
      return got
    }
    if (outputTokens > 0 && clientsChoice.has(reason)) return got
    return Math.max(got, Math.min(maxTokens, this.answers[model] ?? maxTokens))
  }
}

/** Behind another field of a line; nothing where there is no label. */
const field = (name: string, label: string | undefined): string =>
  label === undefined ? "" : `,${JSON.stringify(name)}:${JSON.stringify(label)}`

const clientsChoice: ReadonlySet<Reason> = new Set([
  Reason.cancelled,
  Reason.connectionLost,
  Reason.slowConsumer
])
