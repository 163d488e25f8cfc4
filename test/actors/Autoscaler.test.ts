import { describe, expect, test } from "bun:test"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { findScaling } from "../../src/policies/registry.ts"
import { logging } from "../../src/observability/Logging.ts"
import { Type } from "../../src/protocol/Header.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { it } from "../support/effectTest.ts"
import { virtual } from "./runtime/virtualTime.ts"
import { heartbeat } from "./support/VirtualNode.ts"
import {
  BOOT_MS,
  type FleetOptions,
  PERIOD_MS,
  START_WITHIN_MS,
  VirtualFleet
} from "./support/VirtualFleet.ts"

const policy =
  (name: string, options: Readonly<Record<string, number>> = {}) =>
  () =>
    findScaling(name).make(options, makeRng(1))

/** A policy that wants what the test says. */
const puppet = (first: number) => {
  const strings = { count: first, broken: false, made: 0 }
  const scaling = () => {
    strings.made++
    return {
      desired: () => {
        if (strings.broken) throw new Error("the policy is broken")
        return strings.count
      }
    }
  }
  return { strings, scaling }
}

const started = Effect.fnUntraced(function* (options: FleetOptions) {
  const fleet = new VirtualFleet(options)
  yield* fleet.start()
  yield* fleet.advance(BOOT_MS + 500)
  return fleet
})

describe("the autoscaler", () => {
  it(
    "starts the least, more for a burst but never beyond the most, and drains them when it is over",
    () =>
      Effect.gen(function* () {
        const scaling = policy("queue-driven", { window: 10_000, drain: 2_000 })
        const fleet = new VirtualFleet({ least: 1, most: 5, scaling })
        yield* fleet.start()
        yield* fleet.advance(50)
        expect(fleet.launched).toEqual(["sim-0"])
        yield* fleet.advance(BOOT_MS)
        expect(fleet.states()).toEqual(["sim-0 ready"])
        // Forty requests a second, of which one worker serves eight.
        yield* fleet.advance(8_000, () => fleet.send(2))
        expect(fleet.ready()).toBe(5)
        yield* fleet.advance(30_000)
        expect(fleet.ready()).toBe(1)
        expect(fleet.processesMax).toBe(5)
        expect(fleet.launched).toHaveLength(5)
        expect(fleet.ends()).toEqual({ done: fleet.sent, failed: 0, rejected: 0 })
      }),
    20_000
  )

  it("a draining worker finishes every request it has, and gets no new one", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(2)
      const fleet = yield* started({ least: 1, most: 2, serviceMs: 5_000, scaling })
      yield* fleet.advance(2 * PERIOD_MS)
      expect(fleet.ready()).toBe(2)
      expect(fleet.node.host.desiredWorkers).toEqual(new Map([["sim", 2]]))
      expect(fleet.node.host.actualWorkers).toEqual(new Map([["sim", 2]]))
      fleet.send(6)
      yield* fleet.advance(100)
      strings.count = 1
      yield* fleet.advance(PERIOD_MS)
      const leaving = fleet
        .states()
        .find((state) => state.endsWith("draining"))!
        .split(" ")[0]!
      const assigned = (): number => fleet.processes.get(leaving)!.peer!.of(Type.assign).length
      const before = assigned()
      expect(before).toBeGreaterThan(0)
      fleet.send(1)
      yield* fleet.advance(100)
      expect(assigned()).toBe(before)
      expect(fleet.node.host.desiredWorkers).toEqual(new Map([["sim", 1]]))
      expect(fleet.node.host.actualWorkers).toEqual(new Map([["sim", 1]]))
      yield* fleet.advance(12_000)
      expect([...fleet.processes.keys()]).toHaveLength(1)
      expect(fleet.ends()).toEqual({ done: 7, failed: 0, rejected: 0 })
    }))

  it("drains the worker whose cached prompts are worth least", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(3)
      const fleet = yield* started({ least: 1, most: 3, capacity: 1, scaling })
      yield* fleet.advance(2 * PERIOD_MS)
      // One prompt at each, by least connections; then two of them are used again and again.
      for (const family of [1, 2, 3]) fleet.send(1, family)
      yield* fleet.advance(2_000)
      const index = fleet.node.host.prefixesOf(0)
      const held = fleet.node.host.membersOf("sim").map(({ worker }) => index.heldCount(worker))
      expect(held).toEqual([4, 4, 4])
      const unloved = fleet.node.host.membersOf("sim").find(({ worker }) => {
        const values = new Float64Array(16)
        fleet.demand.addCachedValue(index, values)
        return values[worker] === Math.min(...[0, 1, 2].map((slot) => values[slot]!))
      })!
      strings.count = 2
      yield* fleet.advance(PERIOD_MS + 500)
      expect(fleet.states().map((state) => state.split(" ")[0])).not.toContain(unloved.name)
      expect(fleet.ready()).toBe(2)
    }))

  it("a crash of its own changes no worker; what is wanted is had as soon as it is well again", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(3)
      const fleet = yield* started({ least: 1, most: 4, scaling })
      yield* fleet.advance(2 * PERIOD_MS)
      const before = [...fleet.processes.values()]
      expect(before).toHaveLength(3)
      strings.broken = true
      yield* fleet.advance(5 * PERIOD_MS)
      expect([...fleet.processes.values()]).toEqual(before)
      expect(strings.made).toBeGreaterThan(3)
      expect(fleet.timersCount).toBe(1)
      strings.broken = false
      strings.count = 4
      yield* fleet.advance(3 * PERIOD_MS)
      expect(fleet.ready()).toBe(4)
    }))

  it("a crash of its own while a worker drains brings nobody back", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(2)
      const fleet = yield* started({ least: 1, most: 3, serviceMs: 4_000, scaling })
      yield* fleet.advance(2 * PERIOD_MS)
      fleet.send(4)
      yield* fleet.advance(100)
      strings.count = 1
      yield* fleet.advance(PERIOD_MS)
      expect(fleet.states().filter((state) => state.endsWith("draining"))).toHaveLength(1)
      strings.broken = true
      yield* fleet.advance(PERIOD_MS)
      strings.broken = false
      yield* fleet.advance(6 * PERIOD_MS)
      expect(fleet.launched).toHaveLength(2)
      expect(fleet.ready()).toBe(1)
      expect(fleet.ends()).toEqual({ done: 4, failed: 0, rejected: 0 })
    }))

  it("a worker that is killed is started again; one that is killed while it drains is not", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(3)
      const fleet = yield* started({ least: 1, most: 3, serviceMs: 60_000, scaling })
      yield* fleet.advance(2 * PERIOD_MS)
      fleet.processes.get("sim-1")!.kill()
      yield* fleet.advance(2 * PERIOD_MS)
      expect(fleet.ready()).toBe(3)
      expect(fleet.launched.filter((name) => name === "sim-1")).toHaveLength(2)
      fleet.send(6)
      yield* fleet.advance(100)
      strings.count = 2
      yield* fleet.advance(PERIOD_MS + 300)
      const leaving = fleet
        .states()
        .find((state) => state.endsWith("draining"))!
        .split(" ")[0]!
      fleet.processes.get(leaving)!.kill()
      yield* fleet.advance(4 * PERIOD_MS)
      expect(fleet.states()).toHaveLength(2)
      expect(fleet.ready()).toBe(2)
      expect(fleet.processes.has(leaving)).toBe(false)
    }))

  it("a worker that is killed again and again is started later each time, up to the longest wait", () =>
    Effect.gen(function* () {
      const { scaling } = puppet(1)
      const fleet = new VirtualFleet({ least: 1, most: 1, scaling })
      const startedMs: Array<number> = []
      yield* fleet.start()
      yield* fleet.advance(8_000, () => {
        const [process] = fleet.processes.values()
        if (process === undefined) return
        startedMs.push(fleet.node.nowMs)
        process.kill()
      })
      const waits = startedMs.slice(1).map((startMs, i) => startMs - startedMs[i]!)
      expect(waits).toEqual([100, 200, 400, 800, 1_600, 2_000, 2_000])
    }))

  it("workers that are stopped with the cluster finish every request they have", () =>
    Effect.gen(function* () {
      const { scaling } = puppet(2)
      const fleet = yield* started({ least: 2, most: 2, serviceMs: 2_000, scaling })
      fleet.send(8)
      fleet.workers!.process.interrupt()
      yield* fleet.advance(2_500)
      expect(fleet.processes.size).toBe(0)
      expect(fleet.ends()).toEqual({ done: 8, failed: 0, rejected: 0 })
    }))

  it(
    "workers killed while they start get no request, and the number is had in the end",
    () =>
      Effect.gen(function* () {
        const { scaling } = puppet(4)
        const fleet = yield* started({ least: 1, most: 4, scaling })
        let kills = 0
        yield* fleet.advance(4_000, () => {
          fleet.send(1)
          for (const process of fleet.processes.values())
            if (process.peer === undefined && kills < 20) {
              kills++
              process.kill()
            }
        })
        expect(kills).toBeGreaterThan(5)
        yield* fleet.advance(20_000)
        expect(fleet.ready()).toBe(4)
        expect(fleet.processesMax).toBe(4)
        expect(fleet.ends()).toEqual({ done: fleet.sent, failed: 0, rejected: 0 })
      }),
    20_000
  )

  it(
    "a load that comes and goes every 30 s moves the number once in 30 s at most",
    () =>
      Effect.gen(function* () {
        const fleet = yield* started({
          least: 1,
          most: 4,
          scaling: policy("queue-driven", { window: 60_000, drain: 2_000 })
        })
        const sizes: Array<number> = []
        for (let second = 0; second < 120; second++) {
          const busy = second % 60 < 30
          yield* fleet.advance(1_000, () => fleet.send(busy && fleet.node.nowMs % 100 === 0 ? 2 : 0))
          sizes.push(fleet.processes.size)
        }
        const moves = sizes.flatMap((size, second) =>
          second > 0 && size !== sizes[second - 1] ? [second] : []
        )
        expect(moves.length).toBeGreaterThan(0)
        // The steps up belong to one burst, and nothing goes down in the pauses.
        expect(Math.max(...moves)).toBeLessThan(30)
        expect(sizes.toSorted((a, b) => a - b)).toEqual(sizes)
        expect(fleet.ends()).toEqual({ done: fleet.sent, failed: 0, rejected: 0 })
      }),
    30_000
  )

  it("processes that cannot be started are tried again, now and then", () =>
    Effect.gen(function* () {
      const { scaling } = puppet(2)
      const fleet = new VirtualFleet({ least: 1, most: 2, scaling })
      fleet.launchesFail = true
      yield* fleet.start()
      yield* fleet.advance(9_900)
      const failures = fleet.events.filter(({ _tag }) => _tag === "StartFailed").length
      expect(failures).toBeGreaterThanOrEqual(5)
      expect(failures).toBeLessThanOrEqual(10)
      fleet.launchesFail = false
      yield* fleet.advance(4_000)
      expect(fleet.ready()).toBe(2)
    }))

  it("a worker that hangs while it starts is ended and started anew, and the log names it", () =>
    Effect.gen(function* () {
      const { scaling } = puppet(1)
      const fleet = new VirtualFleet({ least: 1, most: 2, scaling })
      fleet.launchesHang = true
      const lines: Array<string> = []
      const write = (line: string): void => void lines.push(line)
      yield* fleet.start().pipe(Effect.provide(logging({ level: "warn", format: "text", write })))
      yield* fleet.advance(START_WITHIN_MS)
      expect(fleet.launched).toEqual(["sim-0"])
      fleet.launchesHang = false
      yield* fleet.advance(BOOT_MS + 1_000)
      expect(fleet.launched).toEqual(["sim-0", "sim-0"])
      expect(fleet.ready()).toBe(1)
      expect(lines.join("")).toContain('"sim-0 has not been connected for 20 s: ended, to be started anew"')
    }))

  it(
    "a worker that hangs while it drains is killed when no request of it can live any more",
    () =>
      Effect.gen(function* () {
        const { strings, scaling } = puppet(2)
        const fleet = yield* started({ least: 1, most: 2, scaling })
        yield* fleet.advance(2 * PERIOD_MS)
        fleet.send(4)
        for (const process of fleet.processes.values()) process.stalled = true
        yield* fleet.advance(100)
        strings.count = 1
        yield* fleet.advance(50_000)
        expect(fleet.processes.size).toBe(2)
        yield* fleet.advance(15_000)
        expect(fleet.processes.size).toBe(1)
        expect(fleet.launched).toHaveLength(2)
        expect(fleet.ends().failed).toBe(4)
      }),
    20_000
  )

  it("workers that were started elsewhere count, and are never stopped", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(3)
      const fleet = yield* started({ least: 1, most: 4, scaling })
      const stranger = fleet.node.worker("elsewhere", { capacity: 4 })
      fleet.node.context.timers.every(250, () => stranger.send(heartbeat))
      yield* fleet.advance(3 * PERIOD_MS)
      expect(fleet.processes.size).toBe(2)
      expect(fleet.views.at(-1)).toMatchObject({ ready: 3, min: 2, max: 5 })
      strings.count = 2
      yield* fleet.advance(3 * PERIOD_MS)
      expect(stranger.of(Type.drain)).toEqual([])
      expect(fleet.processes.size).toBe(1)
    }))

  it("workers that were started elsewhere and leave are not replaced where nothing was asked of them", () =>
    Effect.gen(function* () {
      const scaling = policy("queue-driven", { window: 3_000 })
      const fleet = yield* started({ least: 1, most: 4, scaling })
      // Longer than the window, so that nobody is kept in doubt.
      yield* fleet.advance(5_000)
      const strangers = ["elsewhere", "there"].map((name) => fleet.node.worker(name, { capacity: 4 }))
      const beats = fleet.node.context.timers.every(250, () => {
        for (const stranger of strangers) stranger.send(heartbeat)
      })
      yield* fleet.advance(5_000)
      expect(fleet.views.at(-1)).toMatchObject({ ready: 3, min: 3, max: 6 })
      beats()
      for (const stranger of strangers) stranger.drop()
      yield* fleet.advance(3_000)
      expect(fleet.launched).toEqual(["sim-0"])
    }))

  it("a policy's first period is as long as any other, however long nobody looked before", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(1)
      const fleet = new VirtualFleet({ least: 1, most: 2, scaling })
      fleet.node.advance(10_000)
      yield* fleet.start()
      yield* fleet.advance(3 * PERIOD_MS)
      strings.broken = true
      yield* fleet.advance(PERIOD_MS + 500)
      strings.broken = false
      yield* fleet.advance(3 * PERIOD_MS)
      expect(fleet.views.length).toBeGreaterThan(4)
      for (const { periodMs } of fleet.views) {
        expect(periodMs).toBeGreaterThanOrEqual(PERIOD_MS)
        expect(periodMs).toBeLessThanOrEqual(PERIOD_MS + 250)
      }
    }))

  it("sees arrivals, waits and service as they are, and measures how long workers take to start", () =>
    Effect.gen(function* () {
      const { strings, scaling } = puppet(1)
      const fleet = yield* started({ least: 1, most: 3, serviceMs: 500, scaling })
      yield* fleet.advance(6_000, () => fleet.send(fleet.node.nowMs % 250 === 0 ? 1 : 0))
      expect(fleet.views.at(-1)).toMatchObject({
        ready: 1,
        starting: 0,
        min: 1,
        max: 3,
        capacity: 4,
        arrivalsPerSecond: expect.closeTo(4, 0),
        queued: 0
      })
      const { serviceMs, inFlight, ttftMsP95 } = fleet.views.at(-1)!
      for (const ms of [serviceMs, ttftMsP95]) expect([500, 550, 600]).toContain(50 * Math.round(ms / 50))
      expect(inFlight).toBeGreaterThan(1.5)
      expect(inFlight).toBeLessThan(3)
      strings.count = 3
      yield* fleet.advance(4 * PERIOD_MS)
      const { coldStartMs } = fleet.views.at(-1)!
      expect(coldStartMs).toBeGreaterThanOrEqual(BOOT_MS)
      expect(coldStartMs).toBeLessThanOrEqual(BOOT_MS + 400)
    }))
})

/** What befalls a cluster within half a second or so. */
const mishap = fc.record({
  do: fc.constantFrom("burst", "burst", "burst", "kill", "drain", "crash", "calm"),
  count: fc.nat(30)
})

/** Runs a cluster through what befalls it, and then leaves it alone until the least number of workers is enough. */
const survives = (
  mishaps: ReadonlyArray<{ readonly do: string; readonly count: number }>,
  scaled: typeof policy
) =>
  virtual(
    Effect.gen(function* () {
      let broken = false
      const scaling = () => {
        const { desired } = scaled("queue-driven", { window: 3_000, drain: 1_000 })()
        return {
          desired: (...seen: Parameters<typeof desired>) => {
            if (!broken) return desired(...seen)
            broken = false
            throw new Error("the policy is broken")
          }
        }
      }
      const fleet = new VirtualFleet({ least: 1, most: 4, scaling })
      yield* fleet.start()
      yield* fleet.advance(1_500)
      let killed = false
      for (const { do: what, count } of mishaps) {
        const named = `sim-${count % 4}`
        if (what === "burst") fleet.send(count)
        else if (what === "drain") fleet.node.host.drainWorker(named)
        else if (what === "crash") broken = true
        else if (what === "kill" && fleet.processes.has(named)) {
          killed = true
          fleet.processes.get(named)!.kill()
        }
        yield* fleet.advance(100 + 20 * count)
        expect(fleet.processesMax).toBeLessThanOrEqual(4)
      }
      yield* fleet.advance(25_000)
      const { done, failed, rejected } = fleet.ends()
      expect(done + failed + rejected).toBe(fleet.sent)
      // A worker that leaves in order costs no request.
      if (!killed) expect(failed).toBe(0)
      expect(fleet.states()).toHaveLength(1)
      expect(fleet.processes.size).toBe(1)
      expect(fleet.ready()).toBe(1)
    })
  )

describe("whatever befalls workers and autoscaler", () => {
  const lives = fc.array(mishap, { maxLength: 15, size: "max" })

  test("there are never too many workers, no request is lost in a drain, and in the end there are as many as are wanted", async () => {
    await fc.assert(
      fc.asyncProperty(lives, (mishaps) => survives(mishaps, policy)),
      { numRuns: 15 }
    )
  }, 60_000)
})
