import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { TokenSequence } from "../../src/client/TokenSequence.ts"
import { FIRST_CREDIT, FIRST_CREDIT_BYTES, mayFollow } from "../../src/protocol/Limits.ts"
import { holds } from "../support/arbitraries.ts"

describe("TokenSequence", () => {
  test.each([
    [
      "a gap",
      [
        [1, 0, 1],
        [1, 2, 1]
      ],
      "token 2 came where 1 was due"
    ],
    [
      "a repetition",
      [
        [1, 0, 2],
        [1, 1, 1]
      ],
      "token 1 came where 2 was due"
    ],
    ["a start beyond 0", [[1, 1, 1]], "token 1 came where 0 was due"],
    [
      "another attempt",
      [
        [1, 0, 1],
        [2, 1, 1]
      ],
      "tokens of attempt 2 follow some of attempt 1"
    ],
    ["an empty frame", [[1, 0, 0]], "a TOKEN frame holds no token"],
    ["more than the credit", [[1, 0, FIRST_CREDIT + 1]], "token 256 came with credit up to 256"]
  ] as const)("refuses %s", (_name, frames, broken) => {
    const tokens = new TokenSequence()
    const answers = frames.map(([attempt, index, count]) => tokens.accept(attempt, index, count, 40))
    expect(answers.at(-1)).toBe(broken)
    expect(answers.slice(0, -1).every((answer) => answer === undefined)).toBe(true)
  })

  test("a refused frame changes nothing", () => {
    const tokens = new TokenSequence()
    tokens.accept(3, 0, 2, 40)
    tokens.accept(3, 5, 1, 40)
    expect(tokens.accept(3, 2, 1, 40)).toBeUndefined()
    expect(tokens.next).toBe(3)
  })

  test("refuses bytes beyond the credit, but for one frame while half of it is left", () => {
    const tokens = new TokenSequence()
    expect(tokens.accept(1, 0, 1, 32_768)).toBeUndefined()
    expect(tokens.accept(1, 1, 1, 100_000)).toBeUndefined()
    expect(tokens.accept(1, 2, 1, 39)).toBe("byte 132807 came with credit up to 65536")
    const filled = new TokenSequence()
    expect(filled.accept(1, 0, 1, 32_769)).toBeUndefined()
    expect(filled.accept(1, 1, 1, 32_768)).toBe("byte 65537 came with credit up to 65536")
    expect(filled.accept(1, 1, 1, 32_767)).toBeUndefined()
  })

  test("a frame beyond the credit is granted for with all others when they are read at once", () => {
    const tokens = new TokenSequence()
    tokens.accept(1, 0, 1, FIRST_CREDIT_BYTES / 2)
    tokens.accept(1, 1, 1, 500_000)
    expect(tokens.read(2)).toBe(true)
    expect(tokens.creditUpToBytes).toBe(500_000 + 1.5 * FIRST_CREDIT_BYTES)
  })

  /** Frames under way to a reader who reads tokens, whole frames or not. */
  const frame = fc.record({
    count: fc.integer({ min: 1, max: 40 }),
    bytes: fc.oneof(fc.integer({ min: 39, max: 500 }), fc.integer({ min: 39, max: 200_000 }))
  })
  const steps = fc.array(fc.tuple(frame, fc.integer({ min: 0, max: 60 })), { maxLength: 60 })

  test("the sender is never more than a window ahead of the reader, in tokens and in bytes", () => {
    holds(
      fc.property(steps, (all) => {
        const tokens = new TokenSequence()
        /** Of frames sent: the token after each, and its bytes. */
        const sent: Array<{ readonly next: number; readonly bytes: number }> = []
        let sentBytes = 0
        let read = 0
        for (const [{ count, bytes }, use] of all) {
          if (
            tokens.next + count <= tokens.creditUpTo &&
            mayFollow(sentBytes, bytes, tokens.creditUpToBytes)
          ) {
            expect(tokens.accept(1, tokens.next, count, bytes)).toBeUndefined()
            sent.push({ next: tokens.next, bytes })
            sentBytes += bytes
          }
          const unread = sent.filter(({ next }) => next > read).map((each) => each.bytes)
          const largest = Math.max(0, ...unread)
          expect(tokens.next - read).toBeLessThanOrEqual(FIRST_CREDIT)
          expect(unread.reduce((sum, each) => sum + each, 0)).toBeLessThanOrEqual(
            Math.max(FIRST_CREDIT_BYTES, FIRST_CREDIT_BYTES / 2 + largest)
          )
          const used = Math.min(use, tokens.next - read)
          read += used
          if (used > 0) tokens.read(used)
        }
      })
    )
  })

  test("a reader that has read everything has granted half a window of each, so that any frame may come", () => {
    holds(
      fc.property(steps, (all) => {
        const tokens = new TokenSequence()
        let credit = { upTo: tokens.creditUpTo, upToBytes: tokens.creditUpToBytes }
        let sentBytes = 0
        let read = 0
        for (const [{ count, bytes }, use] of all) {
          if (tokens.accept(1, tokens.next, count, bytes) === undefined) sentBytes += bytes
          const used = Math.min(use, tokens.next - read)
          read += used
          if (used > 0 && tokens.read(used))
            credit = { upTo: tokens.creditUpTo, upToBytes: tokens.creditUpToBytes }
          if (read < tokens.next) continue
          expect(credit.upTo - read).toBeGreaterThan(FIRST_CREDIT / 2)
          expect(credit.upToBytes - sentBytes).toBeGreaterThan(FIRST_CREDIT_BYTES / 2)
        }
      })
    )
  })

  test("a steady reader costs a CREDIT for every 128 tokens or 32 KiB, whichever comes first", () => {
    const creditsOf = (bytes: number): number => {
      const tokens = new TokenSequence()
      let credits = 0
      for (let index = 0; index < 12_800; index++) {
        expect(tokens.accept(1, index, 1, bytes)).toBeUndefined()
        if (tokens.read(1)) credits++
      }
      return credits
    }
    expect(creditsOf(40)).toBe(100)
    expect(creditsOf(1024)).toBe(400)
  })

  test("a reader half a window behind keeps the sender going: it grants before it has read all", () => {
    const tokens = new TokenSequence()
    let grants = 0
    const send = () => {
      if (mayFollow(tokens.next * 1024, 1024, tokens.creditUpToBytes))
        expect(tokens.accept(1, tokens.next, 1, 1024)).toBeUndefined()
    }
    for (let i = 0; i < 64; i++) send()
    for (let read = 1; read <= 1024; read++) {
      if (tokens.read(1)) grants++
      send()
      // What is left to read when a grant is under way.
      expect(tokens.next - read).toBeGreaterThanOrEqual(32)
    }
    // 33 frames are the first to be more than half of the window.
    expect(grants).toBe(31)
  })

  test("beyond 4 GiB nothing is granted", () => {
    const tokens = new TokenSequence()
    for (let index = 0; index < 70_000; index++) {
      tokens.accept(1, index, 1, 65_536)
      tokens.read(1)
    }
    expect(tokens.creditUpToBytes).toBe(0xffff_ffff)
  })
})
