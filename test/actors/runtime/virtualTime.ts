import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

/** Runs an effect with a scope of its own, on a clock that only `TestClock.adjust` moves: for many runs inside one test. */
export const virtual = (body: Effect.Effect<unknown, unknown, Scope.Scope>): Promise<void> =>
  Effect.runPromise(Effect.asVoid(Effect.scoped(body)).pipe(Effect.provide(TestClock.layer())))

/** Lets every fiber run until it waits for something; time stands still. */
export const settle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 20 })

/** Counts the fibers that run inside an effect, which is given how to ask. */
export const counted = <A, E, R>(body: (fiberCount: () => number) => Effect.Effect<A, E, R>) => {
  let count = 0
  return Effect.provideService(
    body(() => count),
    Metric.FiberRuntimeMetrics,
    { recordFiberStart: () => void count++, recordFiberEnd: () => void count-- }
  )
}
