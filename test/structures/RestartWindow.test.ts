import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { RestartWindow } from "../../src/structures/RestartWindow.ts"

const times = fc
  .array(fc.integer({ min: 0, max: 40 }), { maxLength: 60, size: "max" })
  .map((gaps) => gaps.map((_, index) => gaps.slice(0, index + 1).reduce((sum, gap) => sum + gap, 0)))

describe("restart window", () => {
  test("allows at most `intensity` restarts in any period, and no fewer than it may", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 6 }),
        fc.integer({ min: 1, max: 100 }),
        times,
        (intensity, period, times) => {
          const window = new RestartWindow(intensity, period)
          const allowed: Array<number> = []
          for (const now of times) {
            const recent = allowed.filter((at) => now - at <= period).length
            expect(window.allow(now)).toBe(recent < intensity)
            if (recent < intensity) allowed.push(now)
          }
        }
      )
    )
  })

  test.each([
    ["just inside the period", 100, false],
    ["just outside", 101, true]
  ])("the period includes both its ends: %s", (_, nowMs, allowed) => {
    const window = new RestartWindow(1, 100)
    expect(window.allow(0)).toBe(true)
    expect(window.allow(nowMs)).toBe(allowed)
  })
})
