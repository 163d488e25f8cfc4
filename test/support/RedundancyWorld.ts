import { expect } from "bun:test"
import { type BalancerEffects, BalancerState } from "../../src/actors/BalancerState.ts"
import { RequestTable } from "../../src/actors/RequestTable.ts"
import { makeTotals } from "../../src/actors/Totals.ts"
import { WorkerTable } from "../../src/actors/WorkerTable.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { choiceOf, makePipeline, pipelines } from "../../src/policies/pipelines.ts"
import type { Rescue } from "../../src/policies/Rescue.ts"
import { EventCalendar } from "../../src/simulator/replay/EventCalendar.ts"
import { PrefixIndex } from "../../src/structures/PrefixIndex.ts"
import { makeRng, type Rng } from "../../src/structures/Rng.ts"

const ARRIVAL = 0
const START = 1

/**
 * Workers that serve one request after the other, for times of their own drawing: exponential with mean 1. What is served is over with
 * its first token. Every request is sent to two different random workers at once, and the first to be served calls the other off.
 */
export class RedundancyWorld implements BalancerEffects {
  private readonly table = new RequestTable<unknown, number>(4096)
  private sojourns = 0
  private readonly workers: WorkerTable
  private readonly core: BalancerState
  private readonly rng: Rng
  private readonly events = new EventCalendar()
  /** By worker: streams of the attempts that wait there, the one that is served first. */
  private readonly lines: Array<Array<number>>
  /** By worker: counts what began to be served, so that the end of what was called off is known as such. */
  private readonly turns: Array<number>
  private nowMs = 0

  constructor(workers: number, seed: number) {
    this.rng = makeRng(seed)
    this.lines = Array.from({ length: workers }, () => [])
    this.turns = this.lines.map(() => 0)
    this.workers = new WorkerTable(workers)
    const twice: Rescue = {
      review: ({ eligibleCount }, placed, { hedge }) =>
        placed.unstarted(({ slot }, worker) => {
          const other = this.rng.int(eligibleCount - 1)
          expect(hedge(slot, other < worker ? other : other + 1)).toBe(true)
        })
    }
    const pipeline = makePipeline(
      { ...choiceOf(pipelines.simple), admission: [], placement: { policy: "random", options: {} } },
      makeRng(seed + 1)
    )
    this.core = new BalancerState({
      table: this.table,
      workers: this.workers,
      totals: makeTotals(),
      effects: this,
      settleSoon: () => undefined,
      wakeAt: () => undefined,
      pipeline: () => ({ ...pipeline, rescues: [twice] }),
      prefixes: () => new PrefixIndex({ workersMax: workers, bytesMax: 1 << 20 }),
      blockTokens: 256,
      attemptsMax: 3,
      retryBudget: 1,
      nowMs: 0
    })
    for (let worker = 0; worker < workers; worker++) {
      this.workers.join(worker, { name: `w${worker}`, capacity: 1 << 20 }, 0)
      this.core.member(0, worker, true, 0)
    }
  }

  /** The mean time in the system of `requests` that come at random, `rate` of them in the mean service time. */
  run(requests: number, rate: number): number {
    this.events.add(0, ARRIVAL)
    let left = requests
    while (this.events.take()) {
      this.nowMs = this.events.timeMs
      if (this.events.kind === START) this.start(this.events.a, this.events.b)
      else if (left-- > 0) {
        this.arrive()
        this.events.add(this.nowMs + this.exponential() / rate, ARRIVAL)
      }
    }
    expect(this.table.size).toBe(0)
    expect([...this.workers.inFlight].every((count) => count === 0)).toBe(true)
    return this.sojourns / requests
  }

  private exponential(): number {
    return -Math.log(1 - this.rng.next())
  }

  private arrive(): void {
    const request = this.table.allocate()!
    request.model = 0
    request.promptTokens = 1
    request.maxTokens = 1
    request.arrivedMs = this.nowMs
    request.deadlineMs = Number.MAX_SAFE_INTEGER
    this.core.submit(request.slot, this.nowMs)
    this.core.tick(this.nowMs)
  }

  /** The next in line is served. */
  private serve(worker: number): void {
    if (this.lines[worker]!.length > 0)
      this.events.add(this.nowMs + this.exponential(), START, worker, ++this.turns[worker]!)
  }

  private start(worker: number, turn: number): void {
    if (turn !== this.turns[worker]) return
    const slot = this.lines[worker]!.shift()!
    const request = this.table.at(slot)
    this.sojourns += this.nowMs - request.arrivedMs
    this.cancelAttempt(slot, worker === request.tied ? request.holder! : request.tied!)
    this.core.untied(slot, this.nowMs)
    request.nextIndex = 1
    this.core.first(slot, this.nowMs)
    request.ended()
    this.core.done(slot, this.nowMs)
    this.serve(worker)
  }

  readonly accept = (): void => undefined
  readonly reject = (): void => expect.unreachable()
  readonly fail = (): void => expect.unreachable()

  readonly assign = (slot: number, worker: number): boolean => {
    this.table.at(slot).assigned(worker)
    const line = this.lines[worker]!
    if (line.push(slot) === 1) this.serve(worker)
    return true
  }

  readonly cancelAttempt = (slot: number, worker: number): void => {
    this.table.at(slot).left(worker, Reason.cancelled)
    const line = this.lines[worker]!
    const place = line.indexOf(slot)
    line.splice(place, 1)
    if (place > 0) return
    this.turns[worker]!++
    this.serve(worker)
  }
}
