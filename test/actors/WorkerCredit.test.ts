import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { TOKEN_FRAME_BYTES, WorkerState } from "../../src/actors/WorkerState.ts"
import { TokenSequence } from "../../src/client/TokenSequence.ts"
import { FIRST_CREDIT, FIRST_CREDIT_BYTES, mayFollow } from "../../src/protocol/Limits.ts"
import { holds } from "../support/arbitraries.ts"

interface Frame {
  readonly index: number
  readonly count: number
  readonly text: string
  readonly bytes: number
}

/** One stream from engine to reader, with both directions as slow as the schedule wants: the worker's rules, the balancer's, the client's. */
class Stream {
  readonly state = new WorkerState(1)
  readonly tokens = new TokenSequence()
  readonly arrived: Array<Frame> = []
  told = ""
  read = ""
  /** Tokens and bytes sent that the reader has not read. */
  ahead = 0
  aheadBytes = 0
  private readonly attempt
  private readonly frames: Array<Frame> = []
  private readonly credits: Array<{ readonly upTo: number; readonly upToBytes: number }> = []
  /** What the balancer knows. */
  private relayed = { next: 0, bytes: 0, upTo: FIRST_CREDIT, upToBytes: FIRST_CREDIT_BYTES }

  constructor() {
    const attempt = this.state.assign(1, 1, 1, 0)
    if (typeof attempt === "number") throw new Error("an idle worker takes an attempt")
    this.attempt = attempt
  }

  get isIdle(): boolean {
    return this.frames.length + this.credits.length + this.arrived.length === 0
  }

  tell(text: string): void {
    this.told += text
    expect(this.state.token(this.attempt, text)).toBe(true)
  }

  /** The end of the worker's turn: everything that is ready leaves. */
  turn(): void {
    const { attempt, state } = this
    while (attempt.readyCount > 0) {
      const { sent, readyCount, ready } = attempt
      const bytes = TOKEN_FRAME_BYTES + Buffer.byteLength(ready)
      expect(attempt.readyBytes).toBeGreaterThanOrEqual(bytes)
      this.frames.push({ index: sent, count: readyCount, text: ready, bytes })
      this.ahead += readyCount
      this.aheadBytes += bytes
      state.sent(attempt, bytes)
      this.checkBounds(bytes, readyCount)
    }
  }

  /** A frame passes the balancer and reaches the client. */
  deliver(): void {
    const frame = this.frames.shift()
    if (frame === undefined) return
    const { relayed } = this
    expect(frame.index).toBe(relayed.next)
    expect(frame.index + frame.count).toBeLessThanOrEqual(relayed.upTo)
    expect(mayFollow(relayed.bytes, frame.bytes, relayed.upToBytes)).toBe(true)
    relayed.next += frame.count
    relayed.bytes += frame.bytes
    expect(this.tokens.accept(1, frame.index, frame.count, frame.bytes)).toBeUndefined()
    this.arrived.push(frame)
  }

  /** The reader takes one frame. */
  take(): void {
    const frame = this.arrived.shift()
    if (frame === undefined) return
    this.read += frame.text
    this.ahead -= frame.count
    this.aheadBytes -= frame.bytes
    if (!this.tokens.read(frame.count)) return
    this.credits.push({ upTo: this.tokens.creditUpTo, upToBytes: this.tokens.creditUpToBytes })
  }

  /** A CREDIT passes the balancer and reaches the worker. */
  grant(): void {
    const credit = this.credits.shift()
    if (credit === undefined) return
    Object.assign(this.relayed, credit)
    this.state.credit(1, 1, credit.upTo, credit.upToBytes)
  }

  private checkBounds(frameBytes: number, frameTokens: number): void {
    expect(this.ahead).toBeLessThanOrEqual(FIRST_CREDIT)
    if (this.aheadBytes <= FIRST_CREDIT_BYTES) return
    // Only one token that is itself more than half of the window goes beyond it, and then by no more than itself.
    expect(frameTokens).toBe(1)
    expect(this.aheadBytes - frameBytes).toBeLessThanOrEqual(FIRST_CREDIT_BYTES / 2)
  }
}

const text = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom("a", " word", "\u{e9}\u{20ac}", "\u{1f30d}", "\ud83c", "\udf0d", "")
  },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 3000 }).map((length) => "\u{20ac}".repeat(length)) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 100_000 }).map((length) => "x".repeat(length)) }
)
const moves = ["turn", "deliver", "take", "grant"] as const
const schedule = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("tell" as const), text, times: fc.nat(60) }) },
    { weight: 12, arbitrary: fc.record({ kind: fc.constantFrom(...moves) }) }
  ),
  { maxLength: 100, size: "max" }
)

describe("the credit of a stream, in tokens and in bytes", () => {
  test("whatever the schedule, both bounds hold, nobody breaks a rule, and everything arrives in the end", () => {
    let [stalled, oversized] = [0, 0]
    holds(
      fc.property(schedule, (steps) => {
        const stream = new Stream()
        for (const step of steps) {
          if (step.kind !== "tell") stream[step.kind]()
          else for (let i = 0; i < step.times; i++) stream.tell(step.text)
          if (stream.aheadBytes > FIRST_CREDIT_BYTES) oversized++
        }
        // From here on everyone goes on with what there is, until nothing moves.
        stream.turn()
        if (stream.read.length + stream.ahead < stream.told.length) stalled++
        while (!stream.isIdle) {
          stream.deliver()
          stream.take()
          stream.grant()
          stream.turn()
        }
        expect(stream.read).toBe(stream.told)
        expect([stream.ahead, stream.aheadBytes]).toEqual([0, 0])
      })
    )
    expect(stalled).toBeGreaterThan(100)
    expect(oversized).toBeGreaterThan(20)
  })

  test("256 tokens of ordinary text fit the bytes: only long ones are held by them", () => {
    const stream = new Stream()
    for (let i = 0; i < 300; i++) stream.tell(" and".repeat(60))
    stream.turn()
    expect(stream.ahead).toBe(FIRST_CREDIT)
  })

  test("tokens of 1 KiB leave up to 64 KiB, in frames of any size", () => {
    for (const turns of [1, 10]) {
      const stream = new Stream()
      for (let i = 0; i < 100; i++) {
        stream.tell("x".repeat(1024))
        if (i % turns === 0) stream.turn()
      }
      stream.turn()
      expect(stream.aheadBytes).toBeLessThanOrEqual(FIRST_CREDIT_BYTES)
      expect(stream.aheadBytes).toBeGreaterThan(FIRST_CREDIT_BYTES - 1100)
    }
  })

  test("a token larger than the window leaves once half of it is free, and small ones behind it keep their place", () => {
    const stream = new Stream()
    stream.tell("x".repeat(40_000))
    stream.tell("y".repeat(100_000))
    stream.tell("z")
    stream.turn()
    expect(stream.ahead).toBe(1)
    for (let i = 0; i < 4; i++) {
      stream.deliver()
      stream.take()
      stream.grant()
      stream.turn()
    }
    expect(stream.read).toBe(stream.told)
  })
})
