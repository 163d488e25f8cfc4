import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { EventHeap } from "../../src/simulator/replay/EventHeap.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Maker = () => EventHeap

/** Adds an event this long after the last one taken, or takes one. */
type Step = number | "take"

/** Few different times, so that many events share one. */
const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(
  fc.oneof({ weight: 3, arbitrary: fc.nat(4) }, { weight: 2, arbitrary: fc.constant("take" as const) }),
  { maxLength: 200 }
)

const laws = [
  {
    id: "replay-events",
    check: (make: Maker) =>
      holds(
        fc.property(steps, (steps) => {
          const heap = make()
          let waiting: ReadonlyArray<readonly [timeMs: number, number: number]> = []
          let number = 0
          const take = (): void => {
            // A stable sort: of those at one time the one added first.
            const [next, ...rest] = waiting.toSorted(([a], [b]) => a - b)
            expect(heap.nextMs).toBe(next?.[0] ?? Number.POSITIVE_INFINITY)
            expect(heap.take()).toBe(next !== undefined)
            if (next === undefined) return
            waiting = rest
            const [timeMs, added] = next
            expect([heap.timeMs, heap.kind, heap.a, heap.b]).toEqual([timeMs, added % 256, added, 1 - added])
          }
          for (const step of steps) {
            if (step === "take") take()
            else {
              const timeMs = heap.timeMs + step
              waiting = [...waiting, [timeMs, number]]
              heap.add(timeMs, number % 256, number, 1 - number)
              number++
            }
            expect(heap.size).toBe(waiting.length)
          }
          while (heap.size > 0) take()
          take()
        })
      )
  }
]

/** Knows nothing of the order of addition. */
class Unordered extends EventHeap {
  override add(timeMs: number, kind: number, a = 0, b = 0): void {
    super.add(timeMs, kind, a, b)
    Reflect.set(this, "added", 0)
  }
}

/** Gives the last of those at one time first. */
class Reversed extends EventHeap {
  private count = 0
  override add(timeMs: number, kind: number, a = 0, b = 0): void {
    Reflect.set(this, "added", -this.count++)
    super.add(timeMs, kind, a, b)
  }
}

/** A time that is rounded orders wrongly. */
class Coarse extends EventHeap {
  override add(timeMs: number, kind: number, a = 0, b = 0): void {
    super.add(2 * Math.floor(timeMs / 2), kind, a, b)
  }
}

const defects: ReadonlyArray<Planted<Maker>> = [
  ["forgets the order of addition", "replay-events", () => new Unordered()],
  ["last in, first out at one time", "replay-events", () => new Reversed()],
  ["rounds times", "replay-events", () => new Coarse()]
]

describe("events", () => {
  keepsAll(laws, () => new EventHeap())

  test("of any number are kept while the columns grow", () => {
    const heap = new EventHeap()
    const count = 5000
    for (let i = 0; i < count; i++) heap.add((i * 7919) % count, 0, i)
    const taken: Array<number> = []
    while (heap.take()) taken.push(heap.timeMs)
    expect(taken).toEqual(Array.from({ length: count }, (_, i) => i))
  })
})

describe("planted defects", () => findsAll(laws, defects))
