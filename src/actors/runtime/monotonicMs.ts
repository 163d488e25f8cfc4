import type * as Clock from "effect/Clock"

/** Milliseconds that never go back, from an arbitrary origin; for differences only. Cost: about 50 ns. */
export const monotonicMs = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
