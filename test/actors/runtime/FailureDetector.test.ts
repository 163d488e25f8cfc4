import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { FailureDetector, type Liveness } from "../../../src/actors/runtime/FailureDetector.ts"
import { PhiAccrual } from "../../../src/structures/PhiAccrual.ts"
import { makeRng, type Rng } from "../../../src/structures/Rng.ts"

const options = { intervalMs: 250, pauseMs: 0, deviationMinMs: 1, samplesMax: 256 }
const interval = fc.double({ min: 0, max: 5_000, noNaN: true })

const normal = (rng: Rng, mean: number, deviation: number): number =>
  mean + deviation * Math.sqrt(-2 * Math.log(1 - rng.next())) * Math.cos(2 * Math.PI * rng.next())

describe("phi accrual", () => {
  test("never negative, never decreasing in the silence, finite for any finite silence", () => {
    fc.assert(
      fc.property(fc.array(interval, { maxLength: 300 }), fc.array(interval), (intervals, silences) => {
        const detector = new PhiAccrual(options)
        for (const each of intervals) detector.learn(each)
        let before = 0
        for (const silence of [...silences.toSorted((a, b) => a - b), 1e9]) {
          const phi = detector.phi(silence)
          expect(phi).toBeGreaterThanOrEqual(before)
          expect(phi).toBeLessThan(Infinity)
          before = phi
        }
      })
    )
  })

  test("near 0 right after a heartbeat, log₁₀ 2 at the mean plus the pause", () => {
    const detector = new PhiAccrual({ ...options, pauseMs: 500 })
    expect(detector.phi(0)).toBeLessThan(1e-9)
    expect(detector.phi(750)).toBeCloseTo(Math.log10(2), 12)
  })

  test("depends on the last `samplesMax` intervals only, however long it has run and whatever came before", () => {
    const last = fc.array(interval, { minLength: 16, maxLength: 16 })
    fc.assert(
      fc.property(last, fc.array(fc.double({ min: 0, max: 1e9, noNaN: true })), (last, first) => {
        const [old, fresh] = [0, 1].map(() => new PhiAccrual({ ...options, samplesMax: 16 }))
        for (const each of [...first, ...last, ...last]) old!.learn(each)
        for (const each of last) fresh!.learn(each)
        // Relative: φ of so long a silence is in the ten thousands, and the sums are rounded differently.
        expect(old!.phi(3_000) / fresh!.phi(3_000)).toBeCloseTo(1, 6)
      })
    )
  })

  test.each([1, 2, 3])("suspects one of 10^%i normal intervals wrongly", (threshold) => {
    const rng = makeRng(7)
    const detector = new PhiAccrual({ ...options, samplesMax: 1_000 })
    for (let index = 0; index < 1_000; index++) detector.learn(normal(rng, 250, 40))
    const trials = 400_000
    let wrong = 0
    for (let trial = 0; trial < trials; trial++) {
      if (detector.phi(normal(rng, 250, 40)) >= threshold) wrong++
    }
    const expected = trials * 10 ** -threshold
    expect(wrong).toBeGreaterThan(expected * 0.6)
    expect(wrong).toBeLessThan(expected * 1.6)
  })
})

/** When a detector fed with heartbeats at `beats` first says so, looking every 50 ms. */
const firstTime = (beats: ReadonlyArray<number>, wanted: Liveness, untilMs: number): number => {
  const detector = new FailureDetector(0)
  for (let now = 0, next = 0; now <= untilMs; now += 50) {
    for (; next < beats.length && beats[next]! <= now; next++) detector.heartbeat(beats[next]!)
    if (detector.check(now) === wanted) return now
  }
  return Infinity
}

const regular = Array.from({ length: 40 }, (_, index) => (index + 1) * 250)
const lastMs = regular.at(-1)!

describe("failure detector", () => {
  test("a silent peer is suspect within 1 s and lost after 2 s", () => {
    expect(firstTime(regular, "suspect", 20_000) - lastMs).toBeLessThanOrEqual(1_000)
    expect(firstTime(regular, "suspect", 20_000) - lastMs).toBeGreaterThan(750)
    expect(firstTime(regular, "lost", 20_000) - lastMs).toBe(2_000)
  })

  test("regular heartbeats and pauses of 500 ms raise no suspicion", () => {
    let pause = 0
    const pausing = regular.map((at, index) => at + (index % 5 === 4 ? (pause += 500) : pause))
    expect(firstTime(pausing, "suspect", pausing.at(-1)!)).toBe(Infinity)
  })

  test("the hard bounds hold whatever was learned", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 60 }), (gaps) => {
        let at = 0
        const beats = gaps.map((gap) => (at += gap))
        const detector = new FailureDetector(0)
        for (const beat of beats) detector.heartbeat(beat)
        for (let silence = 50; silence <= 3_000; silence += 50) {
          const state = detector.check(at + silence)
          if (silence >= 2_000) expect(state).toBe("lost")
          else if (silence >= 1_000) expect(state).toBe("suspect")
          else expect(state).not.toBe("lost")
        }
      })
    )
  })

  test("any heartbeat makes the peer alive again", () => {
    const detector = new FailureDetector(0)
    for (let now = 0; now <= 5_000; now += 100) detector.check(now)
    expect(detector.check(5_000)).toBe("lost")
    detector.heartbeat(5_000)
    expect(detector.check(5_000)).toBe("alive")
  })

  test("an outage is not learned: the next one is found as early as the first", () => {
    const again = regular.map((at) => at + lastMs + 1_900)
    const first = firstTime(regular, "suspect", lastMs + 1_900) - lastMs
    const detector = new FailureDetector(0)
    let second = Infinity
    const beats = [...regular, ...again]
    for (let now = 0, next = 0; now < again.at(-1)! + 2_000; now += 50) {
      for (; next < beats.length && beats[next]! <= now; next++) detector.heartbeat(beats[next]!)
      if (now > again.at(-1)! && detector.check(now) === "suspect")
        second = Math.min(second, now - again.at(-1)!)
      else detector.check(now)
    }
    expect(second).toBe(first)
  })

  test("a pause of our own is not held against the peer", () => {
    const detector = new FailureDetector(0)
    for (const beat of regular) detector.heartbeat(beat)
    expect(detector.check(lastMs + 60_000)).toBe("alive")
    for (let late = 0; late < 2_000; late += 100) detector.check(lastMs + 60_000 + late)
    expect(detector.check(lastMs + 62_000)).toBe("lost")
  })
})
