import { describe, expect, test } from "bun:test"
import { type Detector, PoolState } from "../../src/actors/PoolState.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"

/** Suspect after 1 s of silence, lost after 2 s. */
const detector = (nowMs: number): Detector => {
  let heardMs = nowMs
  return {
    heartbeat: (at) => {
      heardMs = at
    },
    check: (at) => (at - heardMs >= 2000 ? "lost" : at - heardMs >= 1000 ? "suspect" : "alive")
  }
}
const join = (worker: number, registration = 7) => ({ _tag: "Joined", worker, registration }) as const
const beat = (worker: number) => ({ _tag: "Heartbeat", worker, load: idleLoad }) as const
const joined = () => {
  const pool = new PoolState(detector)
  pool.step(join(1), 0)
  pool.step(beat(1), 10)
  return pool
}

describe("a worker", () => {
  test("is ready with its first heartbeat, and not before", () => {
    const pool = new PoolState(detector)
    expect(pool.step(join(1), 0)).toEqual([])
    expect(pool.stateOf(1)).toBe("starting")
    expect(pool.step(beat(1), 10)).toEqual([{ _tag: "Ready", worker: 1 }])
    expect(pool.step(beat(1), 20)).toEqual([])
  })

  test("is suspect while late, ready again with the next heartbeat, and lost after that", () => {
    const pool = joined()
    expect(pool.step({ _tag: "Check" }, 500)).toEqual([])
    expect(pool.step({ _tag: "Check" }, 1100)).toEqual([{ _tag: "NotReady", worker: 1 }])
    expect(pool.step({ _tag: "Check" }, 1200)).toEqual([])
    expect(pool.step(beat(1), 1300)).toEqual([{ _tag: "Ready", worker: 1 }])
    expect(pool.step({ _tag: "Check" }, 3400)).toEqual([
      { _tag: "NotReady", worker: 1 },
      { _tag: "Lost", worker: 1, registration: 7 }
    ])
    expect(pool.stateOf(1)).toBeUndefined()
  })

  test("that never sends a heartbeat is lost without having been ready", () => {
    const pool = new PoolState(detector)
    pool.step(join(1), 0)
    expect(pool.step({ _tag: "Check" }, 1500)).toEqual([])
    expect(pool.step({ _tag: "Check" }, 2500).map(({ _tag }) => _tag)).toEqual(["NotReady", "Lost"])
  })

  test("that drains stays out, whatever it sends", () => {
    const pool = joined()
    expect(pool.step({ _tag: "Draining", worker: 1 }, 20)).toEqual([{ _tag: "NotReady", worker: 1 }])
    expect(pool.step(beat(1), 30)).toEqual([])
    expect(pool.stateOf(1)).toBe("draining")
  })

  test("that joins again begins anew", () => {
    const pool = joined()
    pool.step({ _tag: "Draining", worker: 1 }, 20)
    pool.step(join(1), 30)
    expect(pool.step(beat(1), 40)).toEqual([{ _tag: "Ready", worker: 1 }])
  })

  test("that is no member changes nothing", () => {
    const pool = joined()
    expect(pool.step(beat(9), 20)).toEqual([])
    expect(pool.step({ _tag: "Draining", worker: 9 }, 20)).toEqual([])
    expect(pool.step({ _tag: "Left", worker: 9 }, 20)).toEqual([])
  })
})

test("a new balancer is told of every member", () => {
  const pool = joined()
  pool.step(join(2), 20)
  expect(pool.all()).toEqual([
    { _tag: "Ready", worker: 1 },
    { _tag: "NotReady", worker: 2 }
  ])
})
