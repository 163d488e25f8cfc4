import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { BalancerState, makeTotals, type BalancerEffects } from "../../src/actors/BalancerState.ts"
import { Phase, RequestTable } from "../../src/actors/RequestTable.ts"
import { WorkerTable } from "../../src/actors/WorkerTable.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { findAdmission, findOrdering, findPlacement } from "../../src/policies/registry.ts"
import { hash64 } from "../../src/structures/hash.ts"
import { makeRng } from "../../src/structures/Rng.ts"

/**
 * A world around the core: clients, links and workers reduced to their facts. It performs the effects as the links do and counts what
 * every request got, so that the laws can be checked after every step.
 */
class World implements BalancerEffects {
  readonly table = new RequestTable(2048)
  readonly workers = new WorkerTable(8)
  readonly totals = makeTotals()
  nowMs = 0
  /** By slot: the worker that holds its live attempt, -1 for none. */
  readonly holders = new Map<number, number>()
  /** By request, in the order of submission. */
  readonly terminals: Array<Array<string>> = []
  readonly accepted: Array<number> = []
  readonly assigned: Array<Array<number>> = []
  readonly requestOf = new Map<number, number>()
  readonly ready = new Set<number>()
  /** Workers whose connection is gone before the pool manager knows. */
  readonly dead = new Set<number>()
  core: BalancerState
  private readonly placement: string

  constructor(placement: string, capacity = 2) {
    this.placement = placement
    for (let worker = 0; worker < 8; worker++) {
      const key = hash64(`w${worker}`)
      this.workers.keyHigh[worker] = key.high
      this.workers.keyLow[worker] = key.low
      this.workers.capacity[worker] = capacity
      this.workers.speed[worker] = 1
    }
    this.core = this.newCore()
  }

  newCore(): BalancerState {
    const rng = makeRng(7)
    return new BalancerState({
      table: this.table,
      workers: this.workers,
      totals: this.totals,
      effects: this,
      pipeline: () => ({
        admission: findAdmission("queue-bounds")!.make({ maxQueued: 8 }, rng),
        ordering: findOrdering("arrival")!.make({}, rng),
        placement: findPlacement(this.placement)!.make({}, rng)
      }),
      attemptsMax: 3,
      retryBudget: 0.1,
      nowMs: this.nowMs
    })
  }

  readonly accept = (slot: number): void => void this.accepted.push(this.requestOf.get(slot)!)
  readonly reject = (slot: number, reason: number): void => this.end(slot, `rejected ${reason}`)
  readonly fail = (slot: number, reason: number): void => this.end(slot, `error ${reason}`)
  readonly cancelAttempt = (slot: number): void => void this.holders.delete(slot)
  readonly assign = (slot: number, worker: number): boolean => {
    if (this.dead.has(worker)) return false
    expect(this.ready.has(worker)).toBe(true)
    expect(this.table.at(slot).phase).toBe(Phase.open)
    expect(this.workers.inFlight[worker]).toBeLessThanOrEqual(this.workers.capacity[worker]!)
    this.table.at(slot).attempts++
    this.holders.set(slot, worker)
    this.assigned[this.requestOf.get(slot)!]!.push(worker)
    return true
  }

  submit(options: { readonly timeoutMs?: number; readonly sideEffects?: boolean } = {}): number {
    const facts = this.table.allocate()!
    const { slot } = facts
    const request = this.terminals.push([]) - 1
    this.assigned.push([])
    this.requestOf.set(slot, request)
    facts.model = 0
    facts.promptTokens = 10
    facts.maxTokens = 5
    facts.idLow = request
    facts.arrivedMs = this.nowMs
    facts.deadlineMs = this.nowMs + (options.timeoutMs ?? 60_000)
    facts.flags = options.sideEffects === true ? 2 : 0
    this.core.submit(slot, this.nowMs)
    return slot
  }

  token(slot: number): void {
    if (!this.holders.has(slot)) return
    if (this.table.at(slot).nextIndex++ === 0) this.core.first(slot, this.nowMs)
  }

  done(slot: number): void {
    if (!this.holders.has(slot)) return
    this.end(slot, "done")
    this.core.done(slot, this.nowMs)
  }

  fails(slot: number, reason: number): void {
    if (!this.holders.delete(slot)) return
    this.table.at(slot).failure = reason
    this.core.failed(slot, this.nowMs)
  }

  member(worker: number, ready: boolean): void {
    if (ready) {
      this.ready.add(worker)
      this.dead.delete(worker)
    } else this.ready.delete(worker)
    this.core.member(0, worker, ready, this.nowMs)
  }

  /** The process dies: the balancer hears of its attempts first, of its membership later or never. */
  lose(worker: number): void {
    this.dead.add(worker)
    for (const [slot, holder] of this.holders) if (holder === worker) this.fails(slot, Reason.workerLost)
  }

  /** The balancer actor is restarted: a new core learns who is there. */
  restart(): void {
    this.workers.inFlight.fill(0)
    this.workers.pendingPromptTokens.fill(0)
    this.core = this.newCore()
    for (const worker of this.ready) if (!this.dead.has(worker)) this.core.member(0, worker, true, this.nowMs)
    for (let slot = 0; slot < this.table.capacity; slot++) {
      if (this.table.at(slot).phase !== Phase.free)
        this.core.announce(slot, this.holders.get(slot) ?? -1, this.nowMs)
    }
  }

  live(): Array<number> {
    const slots: Array<number> = []
    for (let slot = 0; slot < this.table.capacity; slot++)
      if (this.table.at(slot).phase === Phase.open) slots.push(slot)
    return slots
  }

  /** What must hold after every step. */
  check(): void {
    const perWorker = new Array<number>(8).fill(0)
    for (const worker of this.holders.values()) perWorker[worker]!++
    expect([...this.workers.inFlight]).toEqual(perWorker)
    expect(this.core.inFlight).toBe(this.holders.size)
    expect(this.core.inFlight + this.core.queued).toBe(this.live().length)
    expect(this.core.queuedOf(0)).toBe(this.core.queued)
    const { totals } = this
    expect(totals.accepted).toBe(
      totals.done + totals.failed + totals.cancelled + totals.expired + this.live().length
    )
    for (const [request, ends] of this.terminals.entries()) {
      expect(ends.length).toBeLessThanOrEqual(1)
      expect(this.assigned[request]!.length).toBeLessThanOrEqual(3)
    }
  }

  private end(slot: number, how: string): void {
    this.terminals[this.requestOf.get(slot)!]!.push(how)
    this.holders.delete(slot)
    this.table.at(slot).phase = Phase.ended
  }
}

type Step =
  | { readonly do: "submit"; readonly timeoutMs: number }
  | { readonly do: "token" | "done" | "cancel" | "refuse" | "crash"; readonly pick: number }
  | { readonly do: "up" | "down" | "lose"; readonly worker: number }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "restart" }

const pick = fc.nat({ max: 1000 })
const worker = fc.nat({ max: 7 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("submit" as const), timeoutMs: fc.integer({ min: 1, max: 500 }) })
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constantFrom("token" as const, "done" as const), pick }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("cancel" as const, "refuse" as const, "crash" as const),
      pick
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
  { weight: 1, arbitrary: fc.constant({ do: "restart" as const }) }
)

const run = (world: World, action: Step): void => {
  const live = world.live()
  const chosen = "pick" in action ? live[action.pick % live.length] : undefined
  switch (action.do) {
    case "submit":
      world.submit({ timeoutMs: action.timeoutMs })
      return
    case "up":
      return world.member(action.worker, true)
    case "down":
      return world.member(action.worker, false)
    case "lose":
      return world.lose(action.worker)
    case "wait":
      world.nowMs += action.ms
      return world.core.tick(world.nowMs)
    case "restart":
      return world.restart()
    default: {
      if (chosen === undefined) return
      if (action.do === "token") world.token(chosen)
      else if (action.do === "done") world.done(chosen)
      else if (action.do === "refuse") world.fails(chosen, Reason.workerRefused)
      else if (action.do === "crash") world.fails(chosen, Reason.workerFailed)
      else world.core.cancel(chosen, Reason.cancelled, world.nowMs)
    }
  }
}

describe.each(["round-robin", "least-connections", "power-of-two", "session-affinity"])(
  "with placement %s",
  (placement) => {
    test("load, life and terminals are conserved under every interleaving, restarts included", () => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
          const world = new World(placement)
          for (const action of steps) {
            run(world, action)
            world.check()
          }
          // Faults stop: whatever is left ends by its deadline, and nothing stays charged.
          world.nowMs += 1000
          world.core.tick(world.nowMs)
          world.check()
          expect(world.live()).toEqual([])
          expect(world.table.size).toBe(0)
          expect([...world.workers.inFlight].every((count) => count === 0)).toBe(true)
          expect([...world.workers.pendingPromptTokens].every((tokens) => tokens === 0)).toBe(true)
          for (const ends of world.terminals) expect(ends).toHaveLength(1)
        }),
        { numRuns: 2000 }
      )
    })
  }
)

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

  test("whose worker is lost before the first token goes to another one", () => {
    const world = twoWorkers()
    const slot = world.submit()
    const first = world.holders.get(slot)!
    world.lose(first)
    expect(world.holders.get(slot)).toBe(1 - first)
    expect(world.totals.retries).toBe(1)
  })

  test("whose worker is lost while it streams ends with workerLost", () => {
    const world = twoWorkers()
    const slot = world.submit()
    world.token(slot)
    world.lose(world.holders.get(slot)!)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerLost}`])
  })

  test("with side effects is not sent to a second worker", () => {
    const world = twoWorkers()
    const slot = world.submit({ sideEffects: true })
    world.lose(world.holders.get(slot)!)
    expect(world.terminals[0]).toEqual([`error ${Reason.workerLost}`])
  })

  test("that is wrong is not retried", () => {
    const world = twoWorkers()
    world.fails(world.submit(), Reason.badRequest)
    expect(world.terminals[0]).toEqual([`error ${Reason.badRequest}`])
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
  world.member(world.holders.get(slot)!, false)
  world.restart()
  world.done(slot)
  world.check()
  expect(world.terminals[0]).toEqual(["done"])
})
