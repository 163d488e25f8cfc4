import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { Quarantine } from "../../src/protocol/Quarantine.ts"

describe("Quarantine", () => {
  test("refuses for 10 s × 2ⁿ, and never for more than 10 min", () => {
    const quarantine = new Quarantine()
    let nowMs = 5
    const lengths: Array<number> = []
    for (let i = 0; i < 9; i++) {
      quarantine.add("a", nowMs)
      lengths.push(quarantine.leftMs("a", nowMs))
      nowMs += lengths[i]!
      expect(quarantine.leftMs("a", nowMs)).toBe(0)
    }
    expect(lengths).toEqual([10, 20, 40, 80, 160, 320, 600, 600, 600].map((seconds) => seconds * 1000))
  })

  test("forgets who behaves for 10 min", () => {
    const quarantine = new Quarantine()
    quarantine.add("a", 0)
    quarantine.add("a", 10_000)
    quarantine.add("a", 10_000 + 20_000 + 600_001)
    expect(quarantine.leftMs("a", 630_001)).toBe(10_000)
  })

  test("is about nobody else", () => {
    const quarantine = new Quarantine()
    quarantine.add("a", 0)
    expect(quarantine.leftMs("b", 0)).toBe(0)
  })

  test("remembers the 1 024 latest offenders, however many there are", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1025, max: 3000 }), (count) => {
        const quarantine = new Quarantine()
        for (let i = 0; i < count; i++) quarantine.add(`peer-${i}`, 0)
        const held = Array.from({ length: count }, (_, i) => quarantine.leftMs(`peer-${i}`, 0) > 0)
        expect(held.filter(Boolean).length).toBe(1024)
        expect(held.slice(-1024).every(Boolean)).toBe(true)
      }),
      { numRuns: 5 }
    )
  })
})
