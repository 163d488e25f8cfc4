import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { assert } from "../../structures/assert.ts"
import { isNormal, type Process } from "./Process.ts"

/** When a child that ended by itself is started again: always, after a crash only, or never. */
export type Restart = "permanent" | "transient" | "temporary"

/** How to start a child, and what to do when it ends. OTP's child specification. */
export interface ChildSpec<R = never> {
  /** Names the child among its siblings. */
  readonly id: string
  /**
   * Starts the child and succeeds once it is ready. Resources it acquires in its scope are released after the child is down. The
   * supervisor does nothing else meanwhile: a start that may hang needs a timeout of its own.
   */
  readonly start: Effect.Effect<Process, unknown, R | Scope.Scope>
  /** "permanent" unless told. */
  readonly restart?: Restart
  /** How long it may take to end in order before it is killed, in milliseconds; "kill" does so at once. 5,000 unless told. */
  readonly shutdown?: number | "kill" | "infinity"
  /**
   * The delay before each restart; none unless told. Begins anew once the child has stayed up for the supervisor's whole period. When
   * the schedule is done, the supervisor gives up.
   */
  readonly backoff?: Schedule.Schedule<unknown, Exit.Exit<unknown, unknown>>
}

const SHUTDOWN_MS = 5_000

/** Milliseconds, possibly infinite, that a child may take to end in order. */
export const shutdownMs = (spec: ChildSpec<unknown>): number => {
  const { shutdown = SHUTDOWN_MS } = spec
  if (shutdown === "kill") return 0
  return shutdown === "infinity" ? Infinity : shutdown
}

/** Whether a child that ended by itself is to be started again. */
export const isRestarted = (spec: ChildSpec<unknown>, exit: Exit.Exit<unknown, unknown>): boolean => {
  const { restart = "permanent" } = spec
  return restart === "permanent" || (restart === "transient" && !isNormal(exit))
}

/** Fails on what cannot be meant. */
export const assertValid = (spec: ChildSpec<unknown>): void => {
  assert(spec.id !== "", "a child has a name")
  assert(shutdownMs(spec) >= 0, "a shutdown deadline is not negative")
}
