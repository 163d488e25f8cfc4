import { expect, test } from "bun:test"
import fc from "fast-check"
import { BLOCK_BYTES, promptChain } from "../../src/client/promptChain.ts"

const hashes = (chain: Uint8Array): ReadonlyArray<string> =>
  Array.from({ length: chain.length / 8 }, (_, i) =>
    Buffer.from(chain.subarray(i * 8, i * 8 + 8)).toString("hex")
  )

/** A text of ASCII blocks, each filled with one letter. */
const text = (letters: ReadonlyArray<string>): string =>
  letters.map((letter) => letter.repeat(BLOCK_BYTES)).join("")
const letters = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 8 })

test("one hash for each full block of UTF-8 bytes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 3_000 }), (prompt) => {
      expect(promptChain(prompt).length).toBe(8 * Math.floor(Buffer.byteLength(prompt) / BLOCK_BYTES))
    })
  )
})

test("two prompts share leading hashes exactly as far as they share leading blocks", () => {
  fc.assert(
    fc.property(
      letters,
      letters,
      fc.string({ maxLength: BLOCK_BYTES - 1, unit: "binary-ascii" }),
      (left, right, tail) => {
        const [one, other] = [hashes(promptChain(text(left) + tail)), hashes(promptChain(text(right)))]
        const differ = left.findIndex((letter, i) => letter !== right[i])
        const shared = differ < 0 ? Math.min(left.length, right.length) : differ
        for (let i = 0; i < Math.min(left.length, right.length); i++)
          expect(one[i] === other[i]).toBe(i < shared)
      }
    )
  )
})

test("one changed bit anywhere in a block changes its hash and all later ones", () => {
  fc.assert(
    fc.property(fc.nat(3 * BLOCK_BYTES - 1), fc.nat(6), (at, bit) => {
      const bytes = Buffer.alloc(3 * BLOCK_BYTES, "m")
      const before = hashes(promptChain(bytes.toString("latin1")))
      bytes[at]! ^= 1 << bit
      const after = hashes(promptChain(bytes.toString("latin1")))
      const block = Math.floor(at / BLOCK_BYTES)
      expect(after.map((hash, i) => hash === before[i])).toEqual([0, 1, 2].map((i) => i < block))
    })
  )
})

test("the same on every machine and in every version", () => {
  expect(hashes(promptChain(text(["a", "b"]) + "rest"))).toMatchInlineSnapshot(`
    [
      "aebc4d8e31615908",
      "040ba5c21fa1c81d",
    ]
  `)
})
