import { mix } from "./hash.ts"

/**
 * A small seeded random generator (mulberry32): same seed, same sequence, on every machine. Not for secrets.
 * `next` is uniform in [0, 1) with 32 bits; `int(n)` is uniform in [0, n) for 1 ≤ n ≤ 2³². Cost: about 2 ns.
 */
export interface Rng {
  readonly next: () => number
  readonly int: (bound: number) => number
  /** An independent generator for one purpose, so that adding draws in one place changes no other. */
  readonly split: (purpose: number) => Rng
}

/** Makes a generator from any integer seed (taken modulo 2³²). */
export const makeRng = (seed: number): Rng => {
  let state = seed >>> 0
  const bits = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  return {
    next: () => bits() / 4294967296,
    int: (bound) => Math.floor((bits() / 4294967296) * bound),
    split: (purpose) => makeRng(mix(seed >>> 0, 0, purpose))
  }
}
