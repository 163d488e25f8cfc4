import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { Reason } from "../../src/domain/Outcome.ts"
import { Role } from "../../src/domain/PoolView.ts"
import { idleLoad } from "../../src/domain/WorkerLoad.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import type { Admission } from "../../src/policies/Admission.ts"
import { adaptive } from "../../src/policies/batching/adaptive.ts"
import type { Batching } from "../../src/policies/Batching.ts"
import type { Pipeline } from "../../src/policies/pipelines.ts"
import type { ConcurrencyLimit, LimitWindow } from "../../src/policies/estimators/ConcurrencyLimit.ts"
import { limitInFlight } from "../../src/policies/limitInFlight.ts"
import type { PolicyEvents } from "../../src/policies/Policy.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import { mix } from "../../src/structures/hash.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { splitting } from "./support/splitting.ts"
import { chainBytes, World } from "./support/World.ts"

type Step =
  | { readonly do: "submit"; readonly timeoutMs: number; readonly sideEffects: boolean }
  | {
      readonly do: "token" | "done" | "cancel" | "refuse" | "send back" | "crash"
      readonly pick: number
      /** Whether it is the copy that speaks, where there is one; and whether the core hears of it only after the next step. */
      readonly last: boolean
      readonly late: boolean
    }
  | { readonly do: "up" | "down" | "lose"; readonly worker: number }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "restart"; readonly isLost: boolean }
  | { readonly do: "settle" | "give up" }

const pick = fc.nat({ max: 1000 })
const worker = fc.nat({ max: 7 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("submit" as const),
      timeoutMs: fc.integer({ min: 1, max: 500 }),
      sideEffects: fc.nat({ max: 7 }).map((number) => number === 7)
    })
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom("token" as const, "done" as const),
      pick,
      last: fc.boolean(),
      late: fc.boolean()
    })
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("cancel" as const, "refuse" as const, "send back" as const, "crash" as const),
      pick,
      last: fc.boolean(),
      late: fc.boolean()
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom("up" as const, "up" as const, "down" as const, "lose" as const),
      worker
    })
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 100 }) })
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("restart" as const), isLost: fc.boolean() }) },
  { weight: 2, arbitrary: fc.constant({ do: "settle" as const }) },
  { weight: 1, arbitrary: fc.constant({ do: "give up" as const }) }
)

const run = (world: World, action: Step): void => {
  world.late = "late" in action && action.late
  act(world, action)
  if (!world.late) world.deliver()
}

const act = (world: World, action: Step): void => {
  switch (action.do) {
    case "submit":
      world.submit(action)
      return
    case "up":
      return world.member(action.worker, true)
    case "down":
      return world.member(action.worker, false)
    case "lose":
      return world.lose(action.worker)
    case "wait":
      world.nowMs += action.ms
      return world.tick()
    case "settle":
      world.settling = false
      return world.core.settle(world.nowMs)
    case "give up":
      return world.core.giveUp(world.nowMs)
    case "restart":
      return world.restart(action.isLost)
    default: {
      const live = world.live()
      const slot = live[action.pick % live.length]
      if (slot === undefined) return
      const holder = world.holderOf(slot, action.last)
      if (action.do === "token") world.token(slot, holder)
      else if (action.do === "done") world.done(slot, holder)
      else if (action.do === "refuse") world.fails(slot, Reason.workerRefused, holder)
      else if (action.do === "send back") world.fails(slot, Reason.draining, holder)
      else if (action.do === "crash") world.fails(slot, Reason.workerFailed, holder)
      else world.cancel(slot)
    }
  }
}

/** Closes after 30 ms, or with 3. */
const windowed: Batching = {
  closesAtMs: ({ count, sinceMs }, nowMs) => (count >= 3 ? nowMs : sinceMs + 30),
  sizeMax: () => 3
}

/** Moves whatever is placed. */
const restless: Rescue = {
  review: (_pool, placed, { move, requeue }, nowMs) =>
    placed.unstarted((request, worker) => {
      const to = mix(request.idLow, 0, nowMs) % 8
      if (to === worker) requeue(request.slot)
      else move(request.slot, to)
    })
}

/** Copies whatever is placed, and moves a part of what was not copied. */
const hedging: Rescue = {
  review: (pool, placed, actions, nowMs) => {
    placed.unstarted((request) => void actions.hedge(request.slot, mix(request.idLow, 1, nowMs) % 8))
    if (nowMs % 3 === 0) restless.review(pool, placed, actions, nowMs)
  }
}

const roles = [Role.both, Role.prefill, Role.decode, Role.prefill, Role.decode, Role.both, Role.decode]

const adaptations: Readonly<Record<string, (pipeline: Pipeline) => Pipeline>> = {
  "as it is": (pipeline) => pipeline,
  "with a prefix index and forecasts": (pipeline) => ({
    ...pipeline,
    usesPrefixes: true,
    usesForecast: true
  }),
  "with batches": (pipeline) => ({ ...pipeline, batching: windowed, joint: true }),
  "with batches that are placed together": (pipeline) => ({
    ...pipeline,
    batching: windowed,
    joint: true,
    placement: {
      ...pipeline.placement,
      pickBatch: (requests, pool, nowMs, picked) => {
        for (const [i, request] of requests.entries())
          picked[i] = i === 2 ? -1 : pipeline.placement.pick(request, pool, nowMs)
      }
    }
  }),
  "with a restless rescue": (pipeline) => ({ ...pipeline, rescues: [restless] }),
  "with copies": (pipeline) => ({ ...pipeline, rescues: [hedging], usesPrefixes: true, usesForecast: true }),
  "with split requests": (pipeline) => ({ ...pipeline, placement: splitting(pipeline.placement) }),
  "with split requests and copies": (pipeline) => ({
    ...pipeline,
    placement: splitting(pipeline.placement),
    rescues: [hedging],
    usesPrefixes: true,
    usesForecast: true
  })
}

describe.each([
  ["round-robin", "as it is"],
  ["session-affinity", "as it is"],
  ...Object.keys(adaptations).map((name) => ["least-connections", name] as const)
] as const)("with placement %s, %s", (placement, adaptation) => {
  test("load, life and terminals are conserved under every interleaving, restarts included", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), fc.nat({ max: 8 }), (steps, workers) => {
        const isSplit = adaptation.includes("split")
        const world = new World(placement, 2, adaptations[adaptation], 1, isSplit ? roles : [])
        for (let each = 0; each < workers; each++) world.member(each, true)
        const isHeldBack = adaptation.includes("batches")
        for (const action of steps) {
          run(world, action)
          if (world.isInformed) world.check({ isHeldBack })
        }
        // Faults stop: whatever is left ends by its deadline, and nothing stays charged.
        world.late = false
        world.deliver()
        world.nowMs += 1000
        world.core.tick(world.nowMs)
        world.check()
        expect(world.live()).toEqual([])
        expect(world.table.size).toBe(0)
        expect([...world.workers.inFlight].every((count) => count === 0)).toBe(true)
        for (const column of [
          "prefilling",
          "pendingPrefillTokens",
          "pendingPrefillAttention",
          "contextTokens",
          "answerTokens"
        ] as const)
          expect([...world.workers[column]].every((value) => value === 0)).toBe(true)
        for (const ends of world.terminals) expect(ends).toHaveLength(1)
        if (steps.some((action) => action.do === "restart")) return
        // Of the caches too nothing is expected any more, once the last word of them can have come.
        world.prefixes.expire(world.nowMs + 10_000)
        for (let kind = 0; kind < 3; kind++) {
          world.chain.read(chainBytes(kind), 0, 2)
          expect(world.prefixes.match(world.chain).count).toBe(0)
        }
      }),
      { numRuns: 200 }
    )
  })

  test("what becomes of requests does not depend on their slots", () => {
    const became = (steps: ReadonlyArray<Step>, workers: number, resting: number): ReadonlyArray<string> => {
      const isSplit = adaptation.includes("split")
      const world = new World(placement, 2, adaptations[adaptation], 1, isSplit ? roles : [], resting)
      for (let each = 0; each < workers; each++) world.member(each, true)
      for (const action of steps) run(world, action)
      return world.log
    }
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), fc.nat({ max: 8 }), (steps, workers) =>
        expect(became(steps, workers, 1)).toEqual(became(steps, workers, 2048))
      ),
      { numRuns: 100 }
    )
  })
})

const twoWorkers = (capacity = 2): World => {
  const world = new World("least-connections", capacity)
  world.member(0, true)
  world.member(1, true)
  return world
}

describe("a request", () => {
  test("is refused with noWorker while nobody is ready", () => {
    const world = new World("round-robin")
    world.submit()
    expect(world.terminals[0]).toEqual([`rejected ${Reason.noWorker}`])
  })

  test("waits while all are full, and is placed when one ends", () => {
    const world = twoWorkers(1)
    const first = world.submit()
    world.submit()
    const third = world.submit()
    expect(world.holders.has(third)).toBe(false)
    world.done(first)
    expect(world.holders.has(third)).toBe(true)
  })

  test("whose policy finds it overdue is dropped when its turn comes, and the next one has it", () => {
    const world = new World("least-connections", 1, (pipeline) => ({
      ...pipeline,
      admissions: [
        ...pipeline.admissions,
        { decide: () => null, isOverdue: ({ arrivedMs }, nowMs) => nowMs - arrivedMs > 50 }
      ]
    }))
    world.member(0, true)
    const first = world.submit()
    world.submit()
    world.nowMs = 60
    const third = world.submit()
    world.done(first)
    expect(world.terminals[1]).toEqual([`error ${Reason.shed}`])
    expect(world.holders.has(third)).toBe(true)
    world.check()
  })

  test("is queued in order of arrival, and a retried one goes first", () => {
    const world = twoWorkers(1)
    const [a, b, c, d] = [world.submit(), world.submit(), world.submit(), world.submit()]
    world.fails(a, Reason.workerLost)
    // The freed place went to `a` again: it came before `c`.
    expect(world.holders.has(a)).toBe(false)
    expect(world.holders.has(c)).toBe(true)
    world.done(b)
    expect(world.holders.has(a)).toBe(true)
    expect(world.holders.has(d)).toBe(false)
  })

  test("that streams is told of to policies ten times a second, and of the rest as it ends", () => {
    const told: Array<readonly [number, number]> = []
    const world = new World("least-connections", 2, (pipeline) => ({
      ...pipeline,
      admissions: [
        ...pipeline.admissions,
        {
          decide: () => null,
          produced: (_request, tokens, _pool, nowMs) => void told.push([nowMs, tokens])
        }
      ]
    }))
    world.member(0, true)
    world.tick()
    const slot = world.submit()
    for (let tick = 1; tick <= 12; tick++) {
      world.nowMs = 20 * tick
      world.token(slot)
      world.tick()
    }
    world.done(slot)
    expect(told).toEqual([
      [100, 5],
      [200, 5],
      [240, 2]
    ])
  })

  test("with further tokens than the first counts with the time for each of them", () => {
    const world = twoWorkers()
    const slots = [world.submit(), world.submit(), world.submit()]
    const at = (nowMs: number, slot: number, tokens: number): void => {
      world.nowMs = nowMs
      for (let token = 0; token < tokens; token++) world.token(slot)
    }
    at(100, slots[0]!, 1)
    at(120, slots[1]!, 1)
    at(150, slots[0]!, 4)
    // One token and none are not further ones.
    for (const slot of slots) world.done(slot)
    const { tpotMs } = world.totals
    expect(world.totals.done).toBe(3)
    expect([tpotMs.count, tpotMs.sum]).toEqual([1, 50 / 4])
  })

  test("is in time, or late by a target of admission, or by both", () => {
    const targets = { ttftMs: 100, tpotMs: 10 }
    const world = new World("least-connections", 8, (pipeline) => ({ ...pipeline, targets }))
    world.member(0, true)
    const last = (ttftMs: number, tpotMs: number, tokens = 3): void => {
      const slot = world.submit()
      world.nowMs += ttftMs
      world.token(slot)
      for (let token = 1; token < tokens; token++) {
        world.nowMs += tpotMs
        world.token(slot)
      }
      world.done(slot)
    }
    for (const [ttftMs, tpotMs] of [
      [100, 10],
      [101, 10],
      [100, 11],
      [500, 50],
      [0, 0]
    ] as const)
      last(ttftMs, tpotMs)
    last(100, 0, 1)
    const { inTime, late } = world.totals
    expect([inTime, late]).toEqual([3, { ttft: 2, tpot: 2 }])
  })

  test("has its time to first token compared with what was predicted, where that is", () => {
    for (const usesForecast of [true, false]) {
      let predictedMs = 0
      const world = new World("least-connections", 8, (pipeline) => ({
        ...pipeline,
        usesForecast,
        placement: {
          ...pipeline.placement,
          started: ({ slot }, _worker, { forecast }) => (predictedMs = forecast.placedTtftMs(slot))
        }
      }))
      world.member(0, true)
      const slot = world.submit()
      world.nowMs = 40
      world.token(slot)
      const { ttftOverPredicted } = world.totals
      expect(ttftOverPredicted.count).toBe(usesForecast ? 1 : 0)
      if (usesForecast) expect(ttftOverPredicted.sum).toBeCloseTo(40 / predictedMs, 9)
    }
  })

  test("whose end an earlier core did not hear of counts with its tokens", () => {
    const world = twoWorkers()
    const slot = world.submit()
    world.token(slot)
    world.late = true
    world.nowMs = 30
    for (let token = 0; token < 3; token++) world.token(slot)
    world.done(slot)
    world.restart()
    const { done, e2eMs, outputTokens, promptTokens, tpotMs, ttftMs } = world.totals
    expect([done, outputTokens, e2eMs.count, ttftMs.count]).toEqual([1, 4, 1, 1])
    expect([tpotMs.count, tpotMs.sum]).toEqual([1, 10])
    expect(promptTokens).toBeGreaterThan(0)
  })

  test("of whose first token an earlier core did not hear counts with the time at which another one takes over", () => {
    const world = twoWorkers()
    const slots = [world.submit(), world.submit()]
    world.late = true
    world.nowMs = 10
    for (const slot of slots) for (let token = 0; token < 3; token++) world.token(slot)
    world.done(slots[0]!)
    world.nowMs = 12
    world.restart()
    world.late = false
    const { done, tpotMs, ttftMs } = world.totals
    expect([done, ttftMs.count, ttftMs.sum, tpotMs.count]).toEqual([1, 2, 24, 0])
    world.restart()
    expect(ttftMs.count).toBe(2)
    world.nowMs = 16
    world.done(slots[1]!)
    expect([ttftMs.count, tpotMs.count, tpotMs.sum]).toEqual([2, 1, 2])
  })

  test("that streams across a restart keeps the time of its first token; the next in its slot has its own", () => {
    const world = twoWorkers()
    const [streaming, waiting] = [world.submit(), world.submit()]
    world.token(streaming)
    world.nowMs = 10
    world.restart()
    const { tpotMs } = world.totals
    const finish = (slot: number): void => {
      for (let token = 0; token < 3; token++) {
        world.nowMs += 20
        world.token(slot)
      }
      world.done(slot)
    }
    finish(streaming)
    expect([world.totals.done, tpotMs.count, tpotMs.sum]).toEqual([1, 1, 70 / 3])
    finish(waiting)
    expect([tpotMs.count, tpotMs.sum]).toEqual([2, 70 / 3 + 20])
    // Each slot comes again.
    let slot = world.submit()
    while (slot !== streaming) {
      world.done(slot)
      slot = world.submit()
    }
    finish(slot)
    expect([tpotMs.count, tpotMs.sum]).toEqual([3, 70 / 3 + 40])
  })

  test("that streams across a restart teaches nothing of the time to a first token", () => {
    let ttftRatio = (): number => Number.NaN
    const watching: Admission = {
      decide: () => null,
      changed: (_worker, _ready, { forecast }) => {
        ttftRatio = () => forecast.ttftRatio
      }
    }
    const world = new World("least-connections", 200, (pipeline) => ({
      ...pipeline,
      usesForecast: true,
      admissions: [...pipeline.admissions, watching]
    }))
    world.member(0, true)
    for (let i = 0; i < 200; i++) world.token(world.submit())
    world.nowMs = 100
    world.restart()
    world.core.observe(0, idleLoad, world.nowMs)
    expect(ttftRatio()).toBe(1)
  })

  describe("that was placed before a restart teaches nothing of times:", () => {
    /** A world in which a policy listens that is made anew for each core, and the one of the core that lives. */
    const taught = <Learner extends PolicyEvents>(make: () => Learner) => {
      let learner: Learner | undefined
      const world = new World("least-connections", 200, (pipeline) => {
        learner = make()
        return { ...pipeline, admissions: [...pipeline.admissions, { ...learner, decide: () => null }] }
      })
      world.member(0, true)
      return { world, learner: () => learner! }
    }

    test("adaptive batches grow, though it arrived long ago", () => {
      const { world, learner } = taught(() => adaptive.make({}, makeRng(1)))
      world.token(world.submit())
      world.nowMs = 60_000
      world.restart()
      learner().closesAtMs({ count: 1, sinceMs: world.nowMs, idle: false }, world.nowMs)
      expect([learner().sizeMax(), learner().sizeMax()]).toEqual([1, 2])
    })

    test("least-latency does not take its worker for fast", () => {
      const world = new World("least-latency", 200)
      for (const worker of [0, 1]) world.member(worker, true)
      const first = world.submit()
      world.nowMs = 60_000
      world.restart()
      world.nowMs++
      world.token(first)
      for (let i = 0; i < 9; i++) world.submit()
      expect([...world.workers.inFlight.subarray(0, 2)]).toEqual([5, 5])
    })

    test("measured limits reckon with all of its time", () => {
      const windows: Array<LimitWindow> = []
      const limit: ConcurrencyLimit = { limit: 200, update: (window) => void windows.push(window) }
      const { world } = taught(() => limitInFlight({ limit, windowMs: 1, timeoutMs: 1_000 }, makeRng(1)))
      const slots = Array.from({ length: 10 }, () => world.submit())
      for (const slot of slots) world.token(slot)
      world.nowMs = 40_000
      world.restart()
      world.nowMs = 60_000
      for (const slot of slots) world.done(slot)
      const msPerToken = 60_000 / world.table.at(slots[0]!).outputTokens
      expect(windows).toMatchObject([{ msPerToken, dropped: false }])
    })

    test("what is timed was placed since, and tokens that came before are told of at once", () => {
      const { world, learner } = taught(() => {
        const timed: Array<number> = []
        const produced: Array<number> = []
        return {
          heard: { timed, produced },
          timed: ({ slot }: RequestView) => void timed.push(slot),
          produced: (_request: RequestView, tokens: number) => void produced.push(tokens)
        }
      })
      world.member(1, true)
      const [streaming, placed, retried] = [world.submit(), world.submit(), world.submit()]
      for (let token = 0; token < 3; token++) world.token(streaming)
      world.restart()
      expect(learner().heard).toEqual({ timed: [], produced: [3] })
      world.fails(retried, Reason.workerLost)
      for (const slot of [streaming, placed, retried]) world.token(slot)
      expect(learner().heard.timed).toEqual([retried])
    })
  })

  test("whose worker is lost before the first token goes to another one", () => {
    const world = twoWorkers()
    const slot = world.submit()
    const first = world.holderOf(slot)!
    world.lose(first)
    expect(world.holderOf(slot)).toBe(1 - first)
    expect(world.totals.retries).toBe(1)
  })

  test("whose worker is lost while it streams ends with workerLost", () => {
    const world = twoWorkers()
    const slot = world.submit()
    world.token(slot)
    world.lose(world.holderOf(slot)!)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerLost}`])
  })

  test("with side effects is not sent to a second worker", () => {
    const world = twoWorkers()
    const slot = world.submit({ sideEffects: true })
    world.lose(world.holderOf(slot)!)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerLost}`])
  })

  test.each([
    ["has refused it", Reason.workerRefused],
    ["leaves", Reason.draining]
  ])("with side effects is sent to a second worker where the first one %s", (_, reason) => {
    const world = twoWorkers()
    const slot = world.submit({ sideEffects: true })
    const first = world.holderOf(slot)!
    world.fails(slot, reason)
    expect(world.holderOf(slot)).toBe(1 - first)
  })

  test("that is wrong is not retried", () => {
    const world = twoWorkers()
    world.fails(world.submit(), Reason.badRequest)
    expect(world.terminals[0]).toEqual([`error ${Reason.badRequest}`])
  })

  test("is not retried past its deadline, though nobody has looked at that yet", () => {
    const world = twoWorkers()
    const slot = world.submit({ timeoutMs: 50 })
    world.nowMs = 50
    world.fails(slot, Reason.workerLost)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerLost}`])
    expect(world.totals.retries).toBe(0)
  })

  test("ends at its deadline, queued or running", () => {
    const world = twoWorkers(1)
    world.submit({ timeoutMs: 50 })
    world.submit({ timeoutMs: 5_000 })
    world.submit({ timeoutMs: 60 })
    world.nowMs = 100
    world.core.tick(100)
    expect(world.terminals.map((ends) => ends[0])).toEqual([
      `error ${Reason.expired}`,
      undefined,
      `error ${Reason.expired}`
    ])
  })
})

test("failures answered by workers are retried within a budget, so that a broken pool is not flooded", () => {
  const world = twoWorkers(64)
  for (let i = 0; i < 100; i++) {
    let slot = world.submit()
    while (world.holders.has(slot)) world.fails(slot, Reason.workerFailed)
    slot = -1
  }
  expect(world.totals.retries).toBeLessThanOrEqual(3 + 0.1 * 100)
  expect(world.totals.failed).toBe(100)
})

test("requests that workers send back as they leave cost no retry of the budget", () => {
  const world = twoWorkers(64)
  for (let i = 0; i < 100; i++) {
    const slot = world.submit()
    world.fails(slot, Reason.draining)
    world.done(slot)
  }
  expect(world.totals).toMatchObject({ retries: 100, failed: 0, done: 100 })
})

const rescued = (rescue: Rescue, retryBudget = 1, capacity = 8): World => {
  const world = new World(
    "least-connections",
    capacity,
    (pipeline) => ({ ...pipeline, rescues: [rescue], rescueNames: ["test"] }),
    retryBudget
  )
  for (let worker = 0; worker < 3; worker++) world.member(worker, true)
  return world
}

/** Copies every request that may be copied, to the worker after its own. */
const copying: Rescue = {
  review: (_pool, placed, { hedge }) =>
    placed.unstarted(({ slot }, worker) => void hedge(slot, (worker + 1) % 3))
}

describe("a copied request", () => {
  const copied = (retryBudget?: number) => {
    const world = rescued(copying, retryBudget)
    const slot = world.submit()
    world.tick()
    const [first, second] = world.holders.get(slot)!
    return { world, slot, first: first!, second: second! }
  }

  test.each([
    ["the first", 0],
    ["the copy", 1]
  ])("goes on at %s, when that starts first, and the other is called off", (_, index) => {
    const { world, slot, first, second } = copied()
    expect(first).not.toBe(second)
    const winner = index === 0 ? first : second
    world.token(slot, winner)
    expect(world.holders.get(slot)).toEqual([winner])
    world.check()
    world.done(slot, winner)
    expect(world.terminals[0]).toEqual(["done"])
    expect([...world.workers.inFlight].some((count) => count > 0)).toBe(false)
  })

  test("is told of to policies as one attempt after the other, the copy with the time at which it was sent", () => {
    const told: Array<readonly [string, number, number]> = []
    const world = rescued({
      ...copying,
      placed: (_request, worker, _pool, nowMs) => void told.push(["placed", worker, nowMs]),
      started: (_request, worker, _pool, nowMs) => void told.push(["started", worker, nowMs]),
      released: (_request, worker, _reason, _pool, nowMs) => void told.push(["released", worker, nowMs])
    })
    const slot = world.submit()
    world.nowMs = 10
    world.tick()
    const [first, second] = world.holders.get(slot)!
    world.nowMs = 30
    world.token(slot, second)
    world.done(slot, second)
    expect(told).toEqual([
      ["placed", first!, 0],
      ["released", first!, 30],
      ["placed", second!, 10],
      ["started", second!, 30],
      ["released", second!, 30]
    ])
  })

  test("leaves the place of the loser to who waits", () => {
    const world = rescued(copying, 1, 1)
    const slot = world.submit()
    world.tick()
    const [first, second] = world.holders.get(slot)!
    const others = [world.submit(), world.submit()]
    expect(others.map((other) => world.holders.has(other))).toEqual([true, false])
    world.token(slot, first)
    expect(world.holders.get(others[1]!)).toEqual([second!])
  })

  test("goes on at the other one when one fails, and is retried when both do", () => {
    const { world, slot, first, second } = copied()
    world.fails(slot, Reason.workerFailed, first)
    expect(world.holders.get(slot)).toEqual([second])
    world.tick()
    const [, third] = world.holders.get(slot)!
    world.fails(slot, Reason.workerFailed, third)
    expect(world.holders.get(slot)).toEqual([second])
    // Three attempts were made: there is none to follow.
    world.fails(slot, Reason.workerFailed, second)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerFailed}`])
    world.check()
  })

  test("costs a retry of the budget, and is not made where none is left", () => {
    const { world } = copied(0)
    for (let i = 0; i < 5; i++) world.submit()
    world.tick()
    const copies = [...world.holders.values()].filter((workers) => workers.length === 2)
    expect(copies).toHaveLength(3)
  })

  test("ends in both places with its deadline, or when it is cancelled", () => {
    const { world, slot } = copied()
    world.core.cancel(slot, world.nowMs)
    expect(world.terminals[0]).toEqual([`error ${Reason.cancelled}`])
    const other = world.submit({ timeoutMs: 10 })
    world.tick()
    expect(world.holders.get(other)).toHaveLength(2)
    world.nowMs += 20
    world.tick()
    expect(world.terminals[1]).toEqual([`error ${Reason.expired}`])
    world.check()
  })

  test("has both its attempts after a restart", () => {
    const { world, slot, second } = copied()
    world.restart()
    expect(world.core.inFlight).toBe(1)
    expect([...world.workers.inFlight].reduce((sum, count) => sum + count, 0)).toBe(2)
    world.token(slot, second)
    world.check()
    expect(world.holders.get(slot)).toEqual([second])
  })

  test("is not copied again, moved or taken back while it has two attempts, nor when it has side effects", () => {
    const done: Array<boolean> = []
    const world = rescued({
      review: (_pool, placed, { hedge, move, requeue }) =>
        placed.unstarted(({ slot }, worker) => {
          done.push(hedge(slot, (worker + 1) % 3))
          done.push(hedge(slot, (worker + 2) % 3), move(slot, (worker + 2) % 3), requeue(slot))
        })
    })
    world.submit({ sideEffects: true })
    world.submit()
    world.tick()
    expect(done).toEqual([true, false, false, false])
    world.check()
  })
})

test("an attempt that a rescue ended is no failure: the request has as many retries as before", () => {
  const world = rescued({
    review: (_pool, placed, { move }) =>
      placed.unstarted(({ slot }, worker) => void move(slot, (worker + 1) % 3))
  })
  const slot = world.submit()
  for (let i = 0; i < 5; i++) world.tick()
  for (let i = 0; i < 3; i++) {
    expect(world.terminals[0]).toEqual([])
    world.fails(slot, Reason.workerFailed)
  }
  expect(world.terminals[0]).toEqual([`error ${Reason.workerFailed}`])
  expect(world.table.at(slot).attempts).toBe(8)
  expect(world.totals.rescues).toEqual(new Map([["test", 5]]))
})

test("decisions are timed now and then, those about several requests as one", () => {
  const counts = ({ stopwatches: { admission, placement } }: World) => [
    admission.ms.count,
    placement.ms.count
  ]
  const world = twoWorkers(64)
  for (let i = 0; i < 122; i++) world.submit()
  expect(counts(world)).toEqual([2, 2])
  const together = new World("least-connections", 8, (pipeline) => ({
    ...pipeline,
    batching: { closesAtMs: (_view, nowMs) => nowMs, sizeMax: () => 2 },
    joint: true,
    placement: {
      ...pipeline.placement,
      pickBatch: (requests, _pool, _nowMs, picked) => void picked.fill(0, 0, requests.length)
    }
  }))
  together.member(0, true)
  for (let turn = 0; turn < 61; turn++) {
    const slots = [together.submit(), together.submit()]
    together.core.settle(together.nowMs)
    for (const slot of slots) together.done(slot)
  }
  expect(counts(together)).toEqual([2, 1])
})

test("a batch that closes is placed as a whole, also by a policy that picks for one request at a time", () => {
  const world = new World("least-connections", 64, adaptations["with batches"])
  world.member(0, true)
  const [first, second] = [world.submit(), world.submit()]
  world.core.settle(world.nowMs)
  expect(world.core.queued).toBe(2)
  world.nowMs = 30
  world.tick()
  expect(new Set(world.holders.keys())).toEqual(new Set([first, second]))
})

test("a batch that waits asks for one tick, however many come and go before that", () => {
  const world = new World("least-connections", 64, adaptations["with batches"])
  world.member(0, true)
  for (; world.nowMs < 50; world.nowMs++) {
    world.submit()
    world.core.settle(world.nowMs)
  }
  expect(world.wakes).toEqual([30])
  world.tick()
  expect([world.core.queued, ...world.wakes]).toEqual([2, 30, 78])
  world.nowMs = 78
  world.tick()
  expect([world.core.queued, ...world.wakes]).toEqual([0, 30, 78])
})

test("a draining balancer refuses new requests and finishes the others", () => {
  const world = twoWorkers()
  const slot = world.submit()
  world.core.draining = true
  world.submit()
  world.done(slot)
  expect(world.terminals).toEqual([["done"], [`rejected ${Reason.draining}`]])
})

test("a request survives a restart on a worker that nobody announced to the new core", () => {
  const world = twoWorkers()
  const slot = world.submit()
  world.member(world.holderOf(slot)!, false)
  world.restart()
  world.done(slot)
  world.check()
  expect(world.terminals[0]).toEqual(["done"])
})
