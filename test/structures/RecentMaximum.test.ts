import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { RecentMaximum } from "../../src/structures/RecentMaximum.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

interface Subject {
  readonly make: (windowMs: number) => Pick<RecentMaximum, "put">
}

const steps = fc.array(fc.record({ value: fc.nat(9), pauseMs: fc.nat(6) }), { maxLength: 60 })

const laws = [
  {
    id: "recent-maximum",
    check: ({ make }: Subject) =>
      holds(
        fc.property(fc.nat(20), steps, (windowMs, of) => {
          const recent = make(windowMs)
          const seen: Array<{ readonly value: number; readonly atMs: number }> = []
          let nowMs = 0
          for (const { value, pauseMs } of of) {
            nowMs += pauseMs
            seen.push({ value, atMs: nowMs })
            const within = seen.filter(({ atMs }) => atMs >= nowMs - windowMs)
            expect(recent.put(value, nowMs)).toBe(Math.max(...within.map((each) => each.value)))
          }
        })
      )
  }
]

const asItIs: Subject = { make: (windowMs) => new RecentMaximum(windowMs) }

describe("the largest of the last values", () => keepsAll(laws, asItIs))

describe("planted defects of the largest of the last values", () => {
  const defects: ReadonlyArray<Planted<Subject>> = [
    ["forgets nothing", "recent-maximum", { make: () => new RecentMaximum(Infinity) }],
    ["leaves out the end of the window", "recent-maximum", { make: (ms) => new RecentMaximum(ms - 1) }],
    [
      "forgets the second largest with the largest",
      "recent-maximum",
      {
        make: (windowMs) => {
          let [largest, sinceMs] = [0, -Infinity]
          return {
            put: (value, nowMs) => {
              if (value >= largest || sinceMs < nowMs - windowMs) [largest, sinceMs] = [value, nowMs]
              return largest
            }
          }
        }
      }
    ]
  ]
  findsAll(laws, defects)
})
