import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import {
  type Attempt,
  HELD_MS_MAX,
  HELD_TOKENS_MAX,
  TOKEN_FRAME_BYTES,
  WorkerState
} from "../../src/actors/WorkerState.ts"
import { KV_KEPT_MS } from "../../src/engines/Engine.ts"
import { FIRST_CREDIT } from "../../src/protocol/Limits.ts"
import { Reason } from "../../src/domain/Outcome.ts"

const CAPACITY = 4
/** More than any answer here has. */
const AMPLE_BYTES = 1 << 30
const finish = {
  reason: "stop",
  outputTokens: 0,
  cachedTokens: 0,
  queueMs: 0,
  prefillMs: 0,
  totalMs: 0
} as const

/** What a test knows of an attempt that was taken in. */
interface Known {
  readonly attempt: Attempt
  /** Tokens told by the engine. Token i has the text "i ". */
  told: number
  creditUpTo: number
  /** Everything sent so far. */
  text: string
  sent: number
  ends: number
  overflowed: boolean
}

/** A worker's rules with the least of a shell around them: everything ready is sent at once when a turn ends. */
class Rig {
  readonly state = new WorkerState(CAPACITY)
  readonly known: Array<Known> = []
  nowMs = 0

  live(stream: number): Known | undefined {
    return this.known.find(({ attempt }) => attempt.stream === stream && !attempt.ended)
  }

  assign(stream: number, attempt: number, epoch: number): Attempt | Reason {
    const taken = this.state.assign(stream, attempt, epoch, this.nowMs)
    if (typeof taken === "number") return taken
    this.known.push({
      attempt: taken,
      told: 0,
      creditUpTo: FIRST_CREDIT,
      text: "",
      sent: 0,
      ends: 0,
      overflowed: false
    })
    return taken
  }

  cancel(stream: number, attempt: number): void {
    const before = this.live(stream)
    const ended = this.state.cancel(stream, attempt, this.nowMs)
    expect(ended).toBe(before?.attempt.attempt === attempt ? before.attempt : undefined)
    if (ended !== undefined) before!.ends++
  }

  credit(stream: number, attempt: number, upTo: number): void {
    const known = this.live(stream)
    if (known?.attempt.attempt === attempt) known.creditUpTo = Math.max(known.creditUpTo, upTo)
    this.state.credit(stream, attempt, upTo, AMPLE_BYTES)
  }

  tokens(stream: number, count: number): void {
    const known = this.live(stream)
    if (known === undefined || known.attempt.finish !== undefined || known.attempt.keptSinceMs >= 0) return
    for (let i = 0; i < count; i++) {
      if (this.state.token(known.attempt, `${known.told++} `)) continue
      known.overflowed = true
      this.end(known)
      return
    }
  }

  finish(stream: number): void {
    const known = this.live(stream)
    if (known !== undefined) known.attempt.finish = finish
  }

  keep(stream: number): void {
    const known = this.live(stream)
    if (known === undefined || known.told > 0 || known.attempt.finish !== undefined) return
    if (known.attempt.keptSinceMs < 0) this.state.keep(known.attempt, this.nowMs)
  }

  /** Live attempts that are kept, or the others. */
  count(isKept: boolean): number {
    return this.known.filter(({ attempt }) => !attempt.ended && attempt.keptSinceMs >= 0 === isKept).length
  }

  turn(): void {
    for (const known of this.known) {
      const { attempt } = known
      if (attempt.ended) continue
      while (attempt.readyCount > 0) {
        expect(attempt.sent).toBe(known.sent)
        expect(attempt.sent + attempt.readyCount).toBeLessThanOrEqual(known.creditUpTo)
        known.sent += attempt.readyCount
        known.text += attempt.ready
        this.state.sent(attempt, TOKEN_FRAME_BYTES + Buffer.byteLength(attempt.ready))
      }
      expect(known.sent).toBe(Math.min(known.told, known.creditUpTo))
      if (attempt.finish !== undefined && attempt.held.length === 0) this.end(known)
    }
  }

  sweep(ms: number): void {
    this.nowMs += ms
    for (const attempt of this.state.overdue(this.nowMs)) {
      const known = this.known.find((other) => other.attempt === attempt)!
      expect(known.told).toBeGreaterThan(known.creditUpTo)
      this.end(known)
    }
    const late = this.known.filter(
      ({ attempt }) =>
        !attempt.ended && attempt.keptSinceMs >= 0 && this.nowMs - attempt.keptSinceMs > KV_KEPT_MS
    )
    expect(this.state.forgotten(this.nowMs)).toEqual(late.map(({ attempt }) => attempt))
    for (const known of late) this.end(known)
  }

  clear(): void {
    const live = this.known.filter(({ attempt }) => !attempt.ended)
    expect(new Set(this.state.clear())).toEqual(new Set(live.map(({ attempt }) => attempt)))
    for (const known of live) known.ends++
  }

  private end(known: Known): void {
    this.state.end(known.attempt)
    known.ends++
  }
}

const stream = fc.integer({ min: 1, max: 9 })
const number = fc.integer({ min: 1, max: 2 })
const count = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 3000, max: 5000 }))
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("assign" as const),
      stream,
      number,
      epoch: fc.integer({ min: 1, max: 9 }).map((epoch) => Math.ceil(epoch / 8))
    })
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cancel" as const), stream, number }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("tokens" as const), stream, count }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("credit" as const), stream, number, upTo: fc.nat(2000) })
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("finish" as const), stream }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("keep" as const), stream }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("turn" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("sweep" as const), ms: fc.integer({ min: 1, max: 20_000 }) })
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear" as const) }) }
)

describe("the rules of a worker", () => {
  test("tokens leave in order, without a gap, within the credit; every attempt ends once", () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 20, maxLength: 120 }), (operations) => {
        const rig = new Rig()
        let epoch = 0
        const early = new Map<string, number>()
        for (const step of operations) {
          const key = "stream" in step && "number" in step ? `${step.stream}/${step.number}` : ""
          if (step.kind === "assign") {
            const busy = rig.live(step.stream) !== undefined
            const full = rig.count(false) === CAPACITY || rig.count(true) === CAPACITY
            const taken = rig.assign(step.stream, step.number, step.epoch)
            const cancelled = rig.nowMs - (early.get(key) ?? -Infinity) <= 30_000
            if (step.epoch < epoch) expect(taken).toBe(Reason.staleEpoch)
            else if (cancelled) expect(taken).toBe(Reason.cancelled)
            else if (busy) expect(taken).toBe(Reason.duplicateRequest)
            else if (full) expect(taken).toBe(Reason.workerRefused)
            else
              expect(taken).toMatchObject({
                stream: step.stream,
                attempt: step.number,
                epoch: step.epoch,
                sent: 0
              })
            if (step.epoch >= epoch) early.delete(key)
            epoch = Math.max(epoch, step.epoch)
          } else if (step.kind === "cancel") {
            if (rig.live(step.stream)?.attempt.attempt !== step.number) early.set(key, rig.nowMs)
            rig.cancel(step.stream, step.number)
          } else if (step.kind === "tokens") rig.tokens(step.stream, step.count)
          else if (step.kind === "credit") rig.credit(step.stream, step.number, step.upTo)
          else if (step.kind === "finish") rig.finish(step.stream)
          else if (step.kind === "keep") rig.keep(step.stream)
          else if (step.kind === "turn") rig.turn()
          else if (step.kind === "sweep") rig.sweep(step.ms)
          else {
            rig.clear()
            early.clear()
            epoch = 0
          }
          expect(rig.state.size).toBe(rig.known.filter(({ attempt }) => !attempt.ended).length)
          expect(rig.count(false)).toBeLessThanOrEqual(CAPACITY)
          for (const { attempt } of rig.known)
            expect(attempt.held.length).toBeLessThanOrEqual(HELD_TOKENS_MAX + 1)
        }
        rig.clear()
        for (const { attempt, text, sent, ends } of rig.known) {
          expect(attempt.ended).toBe(true)
          expect(ends).toBe(1)
          expect(text).toBe(Array.from({ length: sent }, (_, index) => `${index} `).join(""))
        }
      }),
      { numRuns: 300 }
    )
  })

  test("a finished answer ends only when all of it was sent", () => {
    const rig = new Rig()
    rig.assign(1, 1, 1)
    rig.tokens(1, FIRST_CREDIT + 10)
    rig.finish(1)
    rig.turn()
    expect(rig.known[0]).toMatchObject({ sent: FIRST_CREDIT, ends: 0 })
    rig.credit(1, 1, FIRST_CREDIT + 9)
    rig.turn()
    expect(rig.known[0]).toMatchObject({ sent: FIRST_CREDIT + 9, ends: 0 })
    rig.credit(1, 1, FIRST_CREDIT + 10)
    rig.turn()
    expect(rig.known[0]).toMatchObject({ sent: FIRST_CREDIT + 10, ends: 1 })
  })

  test("a cancel before the assignment, after it, and again: the attempt does not run, others do", () => {
    const steps = fc.shuffledSubarray(["assign", "cancel", "cancel", "other"] as const, { minLength: 4 })
    fc.assert(
      fc.property(steps, (order) => {
        const rig = new Rig()
        for (const step of order) {
          if (step === "assign") rig.assign(7, 2, 1)
          else if (step === "cancel") rig.cancel(7, 2)
          else rig.assign(8, 2, 1)
        }
        expect(rig.live(7)).toBeUndefined()
        expect(rig.live(8)).toBeDefined()
        rig.tokens(7, 5)
        rig.turn()
        expect(rig.known.filter(({ attempt, sent }) => attempt.stream === 7 && sent > 0)).toEqual([])
      })
    )
  })

  test("an early cancel is forgotten after a while, and only so many are kept", () => {
    const rig = new Rig()
    rig.cancel(1, 1)
    rig.nowMs = 30_001
    expect(rig.assign(1, 1, 1)).toMatchObject({ stream: 1 })
    for (let stream = 100; stream <= 100 + 65_536; stream++) rig.cancel(stream, 1)
    expect(rig.assign(100, 1, 1)).toMatchObject({ stream: 100 })
    expect(rig.assign(101, 1, 1)).toBe(Reason.cancelled)
  })

  test("a client that does not read is given up, by count and by time; one that reads in between is not", () => {
    const rig = new Rig()
    rig.assign(1, 1, 1)
    rig.assign(2, 1, 1)
    rig.assign(3, 1, 1)
    rig.tokens(1, FIRST_CREDIT + HELD_TOKENS_MAX)
    expect(rig.known[0]!.overflowed).toBe(false)
    rig.tokens(1, 1)
    expect(rig.known[0]!.overflowed).toBe(true)

    rig.tokens(2, FIRST_CREDIT + 1)
    rig.tokens(3, FIRST_CREDIT + 1)
    rig.sweep(1)
    rig.sweep(HELD_MS_MAX / 2)
    rig.credit(3, 1, FIRST_CREDIT + 1)
    rig.tokens(3, 1)
    rig.sweep(HELD_MS_MAX / 2)
    expect(rig.live(2)).toBeDefined()
    rig.sweep(1)
    expect(rig.live(2)).toBeUndefined()
    expect(rig.live(3)).toBeDefined()
  })

  test("a client that reads slowly, and never all there is, is not given up", () => {
    const rig = new Rig()
    rig.assign(1, 1, 1)
    rig.tokens(1, FIRST_CREDIT + 1000)
    for (let read = 100; read < 1000; read += 100) {
      rig.sweep(HELD_MS_MAX / 2)
      rig.sweep(HELD_MS_MAX / 4)
      rig.credit(1, 1, FIRST_CREDIT + read)
      rig.turn()
    }
    expect(rig.live(1)).toMatchObject({ sent: FIRST_CREDIT + 900 })
    rig.sweep(1)
    rig.sweep(HELD_MS_MAX + 1)
    expect(rig.live(1)).toBeUndefined()
  })

  test("a draining worker takes nothing; a newer epoch shuts out the older, for as long as the connection lasts", () => {
    const rig = new Rig()
    rig.assign(1, 1, 5)
    rig.state.draining = true
    expect(rig.assign(2, 1, 5)).toBe(Reason.draining)
    expect(rig.assign(2, 1, 4)).toBe(Reason.staleEpoch)
    rig.state.draining = false
    expect(rig.assign(2, 1, 6)).toMatchObject({ epoch: 6 })
    expect(rig.assign(3, 1, 5)).toBe(Reason.staleEpoch)
    rig.clear()
    expect(rig.assign(3, 1, 4)).toMatchObject({ epoch: 4 })
  })
})
