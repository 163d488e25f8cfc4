import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { hash64, type Hash64, mix } from "../../src/structures/hash.ts"
import { hex64 } from "../../src/structures/hex64.ts"
import { holds } from "../support/arbitraries.ts"
import { chiSquareRatio, evennessRatio } from "../support/chiSquare.ts"

const hex = ({ high, low }: Hash64): string => hex64(high, low)

// Workers and sessions keep their places by these values: a change moves all of them at once.
test.each([
  ["", "c329a5b236dd7f57"],
  ["a", "46a56194d8bc7427"],
  ["worker-0", "59452368d01f7fc7"],
  ["worker-1", "09523b9d88e062d4"],
  ["session/4f1c", "81b3bd9b9aa5a24d"],
  ["Größe 模型 🙂", "813efb25e8d19c12"],
  ["x".repeat(1000), "d9182d9ee3204f02"]
])("golden hash of %j", (text, expected) => {
  expect(hex(hash64(text))).toBe(expected)
})

test.each([
  [0, 0, 0, "aa3e5b61"],
  [0, 1, 2, "3136ad6f"],
  [0xffffffff, 0xffffffff, 0xffffffff, "d5ccc256"],
  [123456789, 0x9e3779b9, 0x243f6a88, "ccd06632"]
])("golden mix of %d, %d, %d", (state, high, low, expected) => {
  expect(mix(state, high, low).toString(16)).toBe(expected)
})

test("both halves of a hash and every mix are u32", () => {
  const u32 = fc.integer({ min: 0, max: 0xffffffff })
  holds(
    fc.property(fc.string({ unit: "binary" }), u32, u32, u32, (text, state, high, low) => {
      for (const half of [hash64(text).high, hash64(text).low, mix(state, high, low)])
        expect(half >>> 0).toBe(half)
    })
  )
})

test("the hashes of 200 000 similar texts differ", () => {
  const texts = Array.from({ length: 200_000 }, (_, i) => `worker-${i}`)
  expect(new Set(texts.map((text) => hex(hash64(text)))).size).toBe(texts.length)
})

test("turning one bit of a text turns every bit of the hash in half of the cases", () => {
  const turned = new Float64Array(64)
  const cases = 4000
  for (let i = 0; i < cases; i++) {
    const text = `request ${i}`
    const at = i % text.length
    const other =
      text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << (i % 16))) + text.slice(at + 1)
    const [a, b] = [hash64(text), hash64(other)]
    for (let bit = 0; bit < 32; bit++) {
      turned[bit]! += ((a.low ^ b.low) >>> bit) & 1
      turned[32 + bit]! += ((a.high ^ b.high) >>> bit) & 1
    }
  }
  for (const count of turned)
    expect(chiSquareRatio([count, cases - count], [cases / 2, cases / 2])).toBeLessThan(1)
})

test("for one state and one high half, mix is a bijection of the low half", () => {
  const inputs = Array.from({ length: 100_000 }, (_, i) => i * 42_949)
  expect(new Set(inputs.map((low) => mix(7, 9, low))).size).toBe(inputs.length)
})

test("the highest score falls on each of 7 keys equally often", () => {
  const keys = Array.from({ length: 7 }, (_, i) => hash64(`worker-${i}`))
  const wins = keys.map(() => 0)
  for (let id = 0; id < 70_000; id++) {
    const scores = keys.map(({ high, low }) => mix(mix(0, 0, id), high, low))
    wins[scores.indexOf(Math.max(...scores))]!++
  }
  expect(evennessRatio(wins)).toBeLessThan(1)
})
