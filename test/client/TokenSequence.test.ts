import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { TokenSequence } from "../../src/client/TokenSequence.ts"
import { FIRST_CREDIT } from "../../src/protocol/Limits.ts"

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
    const answers = frames.map(([attempt, index, count]) => tokens.accept(attempt, index, count))
    expect(answers.at(-1)).toBe(broken)
    expect(answers.slice(0, -1).every((answer) => answer === undefined)).toBe(true)
  })

  test("a refused frame changes nothing", () => {
    const tokens = new TokenSequence()
    tokens.accept(3, 0, 2)
    tokens.accept(3, 5, 1)
    expect(tokens.accept(3, 2, 1)).toBeUndefined()
    expect(tokens.next).toBe(3)
  })

  test("the sender is never more than a window ahead of the reader, and a reader that keeps up never stalls it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 40 }))),
        (steps) => {
          const tokens = new TokenSequence()
          let credit = FIRST_CREDIT
          let read = 0
          for (const [send, use] of steps) {
            const count = Math.min(send, credit - tokens.next)
            if (count > 0) expect(tokens.accept(1, tokens.next, count)).toBeUndefined()
            const used = Math.min(use, tokens.next - read)
            read += used
            if (used > 0) credit = tokens.read(used) || credit
            expect(credit).toBe(tokens.creditUpTo)
            expect(credit - read).toBeLessThanOrEqual(FIRST_CREDIT)
            expect(credit - read).toBeGreaterThan(FIRST_CREDIT / 2)
          }
        }
      )
    )
  })
})
