import { test } from "bun:test"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { TestClock, TestConsole } from "effect/testing"

type Body = () => Effect.Effect<unknown, unknown, Scope.Scope>

/** How long a test may take, in real milliseconds, when it does not say. */
const TIMEOUT_MS = 5_000
/** How long finalizers may take after a timeout, before the test runner gives up on them. */
const GRACE_MS = 1_000

/**
 * A test whose body is an Effect on virtual time: it runs in a Scope of its own, with a TestClock that stands still until adjusted.
 *
 * Past `timeoutMs` of real time the body is interrupted, so that its finalizers still run, and the test fails.
 */
export const it = (name: string, body: Body, timeoutMs = TIMEOUT_MS): void =>
  test(
    name,
    () => run(Effect.suspend(body).pipe(Effect.scoped, Effect.provide(virtual)), timeoutMs),
    timeoutMs + GRACE_MS
  )

/** As `it`, on the machine's own clock: for sockets and processes. */
export const live = (name: string, body: Body, timeoutMs = TIMEOUT_MS): void =>
  test(name, () => run(Effect.scoped(Effect.suspend(body)), timeoutMs), timeoutMs + GRACE_MS)

const virtual = Layer.mergeAll(TestClock.layer(), TestConsole.layer)

/** Runs to the end or to the deadline. Rejects with the first failure of the cause, as the test runner shows it best. */
export const run = async (effect: Effect.Effect<unknown, unknown>, timeoutMs: number): Promise<void> => {
  const deadline = AbortSignal.timeout(timeoutMs)
  const exit = await Effect.runPromiseExit(effect, { signal: deadline })
  if (Exit.isSuccess(exit)) return
  if (deadline.aborted && Cause.hasInterruptsOnly(exit.cause))
    throw new Error(`interrupted after ${timeoutMs} ms`)
  throw Cause.squash(exit.cause)
}
