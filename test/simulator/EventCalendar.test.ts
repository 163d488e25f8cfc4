import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { EventCalendar } from "../../src/simulator/replay/EventCalendar.ts"
import { holds } from "../support/arbitraries.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"

type Maker = () => EventCalendar

/** Adds an event this long after the present, takes one, or lets half of the time until then pass. */
type Step = number | "take" | "pass"

/** Few different times, so that many events share one, and some that are years away or nearly. */
const steps: fc.Arbitrary<ReadonlyArray<Step>> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.nat(4) },
    { weight: 1, arbitrary: fc.constantFrom(255, 256, 257, 512, 10_000) },
    { weight: 5, arbitrary: fc.constant("take" as const) },
    { weight: 1, arbitrary: fc.constant("pass" as const) }
  ),
  { maxLength: 200 }
)

/** Kinds of events, and one of them. */
const KINDS = 4
const LEFT_OUT = 0

/** What so many events, each so long after the other, make of the length of a day. */
const pasts = fc.record({
  events: fc.constantFrom(0, 1023, 1024, 3000),
  gapMs: fc.constantFrom(0, 0.001, 3, 1000)
})

const laws = [
  {
    id: "replay-events",
    check: (make: Maker) =>
      holds(
        fc.property(pasts, steps, ({ events, gapMs }, steps) => {
          const calendar = make()
          for (let i = 0; i < events; i++) {
            calendar.add(calendar.timeMs + gapMs, 0)
            calendar.take()
          }
          let waiting: ReadonlyArray<readonly [timeMs: number, number: number]> = []
          let number = 0
          const take = (): void => {
            // A stable sort: of those at one time the one added first.
            const [next, ...rest] = waiting.toSorted(([a], [b]) => a - b)
            expect(calendar.nextMs).toBe(next?.[0] ?? Number.POSITIVE_INFINITY)
            expect(calendar.take()).toBe(next !== undefined)
            if (next === undefined) return
            waiting = rest
            const [timeMs, added] = next
            expect([calendar.timeMs, calendar.kind, calendar.a, calendar.b]).toEqual([
              timeMs,
              added % KINDS,
              added,
              1 - added
            ])
          }
          for (const step of steps) {
            if (step === "take") take()
            else if (step === "pass") {
              const { nextMs, timeMs } = calendar
              if (calendar.size > 0) calendar.pass((timeMs + nextMs) / 2)
            } else {
              const timeMs = calendar.timeMs + step
              waiting = [...waiting, [timeMs, number]]
              calendar.after(step, number % KINDS, number, 1 - number)
              number++
            }
            expect(calendar.size).toBe(waiting.length)
            const others = waiting.filter(([, added]) => added % KINDS !== LEFT_OUT).map(([timeMs]) => timeMs)
            expect(calendar.nextBut(1 << LEFT_OUT)).toBe(Math.min(...others))
          }
          while (calendar.size > 0) take()
          take()
        })
      )
  }
]

/** Puts an event before another one of the same time. */
class Reversed extends EventCalendar {
  override add(timeMs: number, kind: number, a = 0, b = 0): void {
    super.add(timeMs, kind, a, b)
    const place: number = this["places"][this.size - 1]!
    const other: number = this["before"][place]!
    if (this["times"][other] !== timeMs) return
    for (const column of [this["kinds"], this["as"], this["bs"]])
      [column[place], column[other]] = [column[other]!, column[place]!]
  }
}

/** Takes what falls on a day of a later year for one of this year. */
class Yearless extends EventCalendar {
  override take(): boolean {
    const daysPerMs = Reflect.get(this, "daysPerMs")
    const find = Reflect.get(EventCalendar.prototype, "find")
    Reflect.set(this, "find", () => {
      Reflect.set(this, "daysPerMs", 0)
      find.call(this)
      Reflect.set(this, "daysPerMs", daysPerMs)
    })
    return super.take()
  }
}

/** Looks for an event on days on which it is no longer, once their length has changed. */
class Unarranged extends EventCalendar {
  override take(): boolean {
    Reflect.set(this, "arrange", (_days: number, daysPerMs: number) =>
      Reflect.set(this, "daysPerMs", daysPerMs)
    )
    const taken = super.take()
    Reflect.deleteProperty(this, "arrange")
    return taken
  }
}

/** A time that is rounded orders wrongly. */
class Coarse extends EventCalendar {
  override add(timeMs: number, kind: number, a = 0, b = 0): void {
    super.add(2 * Math.floor(timeMs / 2), kind, a, b)
  }
}

/** Takes every kind for one that is asked about. */
class Inclusive extends EventCalendar {
  override nextBut(): number {
    return this.nextMs
  }
}

const defects: ReadonlyArray<Planted<Maker>> = [
  ["last in, first out at one time", "replay-events", () => new Reversed()],
  ["does not tell years apart", "replay-events", () => new Yearless()],
  ["leaves events where they were when days get longer", "replay-events", () => new Unarranged()],
  ["rounds times", "replay-events", () => new Coarse()],
  ["leaves out no kind", "replay-events", () => new Inclusive()]
]

describe("events", () => {
  keepsAll(laws, () => new EventCalendar())

  test("of any number are kept while the columns grow", () => {
    const calendar = new EventCalendar()
    const count = 5000
    for (let i = 0; i < count; i++) calendar.add((i * 7919) % count, 0, i)
    const taken: Array<number> = []
    while (calendar.take()) taken.push(calendar.timeMs)
    expect(taken).toEqual(Array.from({ length: count }, (_, i) => i))
  })
})

describe("planted defects", () => findsAll(laws, defects))
