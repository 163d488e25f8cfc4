import { expect } from "bun:test"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import { DeadlineWheel } from "../../../src/actors/runtime/DeadlineWheel.ts"
import { it } from "../../support/effectTest.ts"
import { counted, settle, virtual } from "./virtualTime.ts"

it("a deadline comes once, never early and at most one tick late, wherever it lies on the wheel", () =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            delayMs: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 40_000 })),
            atMs: fc.integer({ min: 0, max: 2_000 }),
            cancelled: fc.boolean()
          }),
          { maxLength: 30, size: "max" }
        ),
        (deadlines) =>
          virtual(
            Effect.gen(function* () {
              const wheel = yield* DeadlineWheel.make
              const clock = yield* Clock.Clock
              const expired: Array<number> = []
              for (const { atMs, cancelled, delayMs } of deadlines.toSorted((a, b) => a.atMs - b.atMs)) {
                yield* TestClock.setTime(atMs)
                const cancel = wheel.add(delayMs, () => {
                  expect(cancelled && delayMs > 0).toBe(false)
                  const lateMs = clock.currentTimeMillisUnsafe() - atMs - delayMs
                  expect(lateMs).toBeGreaterThanOrEqual(0)
                  expect(lateMs).toBeLessThanOrEqual(11)
                  expired.push(delayMs)
                })
                if (cancelled) cancel()
              }
              yield* TestClock.setTime(60_000)
              const kept = deadlines.filter(({ cancelled }) => !cancelled).map(({ delayMs }) => delayMs)
              expect(expired.toSorted((a, b) => a - b)).toEqual(kept.toSorted((a, b) => a - b))
            })
          )
      ),
      { numRuns: 50 }
    )
  ))

it("sleeps over empty slots: an hour costs a few wake-ups a round, none when nothing waits", () =>
  Effect.gen(function* () {
    let sleeps = 0
    const clock = yield* Clock.Clock
    const counting: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
      sleep: (duration: Parameters<Clock.Clock["sleep"]>[0]) => {
        sleeps++
        return clock.sleep(duration)
      }
    })
    const wheel = yield* Effect.provideService(DeadlineWheel.make, Clock.Clock, counting)
    const cancel = wheel.add(3_600_000, () => {})
    yield* TestClock.adjust("50 minutes")
    expect(sleeps).toBeLessThan(400)
    cancel()
    yield* TestClock.adjust("1 minute")
    const after = sleeps
    yield* TestClock.adjust("1 hour")
    expect(sleeps).toBe(after)
  }))

it("a deadline set while another one expires is kept", () =>
  Effect.gen(function* () {
    const wheel = yield* DeadlineWheel.make
    const log: Array<string> = []
    wheel.add(10, () => {
      log.push("first")
      wheel.add(10, () => log.push("second"))
      wheel.add(10_240, () => log.push("same slot, next round"))
    })
    yield* TestClock.adjust(100)
    expect(log).toEqual(["first", "second"])
    yield* TestClock.adjust(11_000)
    expect(log).toEqual(["first", "second", "same slot, next round"])
  }))

it("closing its scope ends its fiber; nothing expires afterwards", () =>
  counted((fiberCount) =>
    Effect.gen(function* () {
      let expired = 0
      const before = fiberCount()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const wheel = yield* DeadlineWheel.make
          wheel.add(20, () => expired++)
          wheel.add(10, () => expired++)
          expect(fiberCount()).toBe(before + 1)
        })
      )
      yield* settle
      expect(fiberCount()).toBe(before)
      yield* TestClock.adjust(1_000)
      expect(expired).toBe(0)
    })
  ))
