import { expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { TestClock } from "effect/testing"
import { it, live, run } from "./support/effectTest.ts"

it("an hour on the virtual clock passes when the test says so", () =>
  Effect.gen(function* () {
    const sleeper = yield* Effect.forkScoped(Effect.as(Effect.sleep("1 hour"), "awake"))
    yield* TestClock.adjust("59 minutes")
    expect(sleeper.pollUnsafe()).toBeUndefined()
    yield* TestClock.adjust("1 minute")
    expect(yield* Fiber.join(sleeper)).toBe("awake")
  }))

live("the real clock goes on by itself", () => Effect.sleep("1 millis"))

test("past its time a body is interrupted, and cleans up", async () => {
  const log: Array<string> = []
  const body = Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => log.push("cleaned up"))))
  await expect(run(body, 1)).rejects.toThrow("interrupted after 1 ms")
  expect(log).toEqual(["cleaned up"])
})

test("a failure and a defect reach the test runner as they are", async () => {
  await expect(run(Effect.fail("refused"), 1_000)).rejects.toBe("refused")
  await expect(run(Effect.die(new RangeError("broken")), 1_000)).rejects.toThrow(RangeError)
})
