/** The loop is timed in parts, and the fastest counts: the first ones run before it is compiled, others are disturbed. */
const CALIBRATION_PARTS = 40
const CALIBRATION_MS = 0.5
const ROUNDS = 1 << 11

/** Opaque to the compiler: the result is kept. */
let ash = 1
const spin = (rounds: number): void => {
  let value = ash
  for (let i = 0; i < rounds; i++) value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d) + i
  ash = value
}

/**
 * A function that burns as many CPU cycles as this core runs in `cpuMs` when it has nothing else to do. Under contention it takes longer,
 * as work does. Calibrates itself on the spot, which takes 20 ms. Blocks while it burns: give it small pieces.
 */
export const makeCpuBurner = (nowMs: () => number): ((cpuMs: number) => void) => {
  let roundsPerMs = 0
  for (let part = 0; part < CALIBRATION_PARTS; part++) {
    const startMs = nowMs()
    let rounds = 0
    let tookMs = 0
    while (tookMs < CALIBRATION_MS) {
      spin(ROUNDS)
      rounds += ROUNDS
      tookMs = nowMs() - startMs
    }
    roundsPerMs = Math.max(roundsPerMs, rounds / tookMs)
  }
  return (cpuMs) => spin(Math.round(cpuMs * roundsPerMs))
}
