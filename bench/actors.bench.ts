/*
 * What do an actor, a message to it and a question to it cost, beside Effect's own queue with a fiber, and beside a bare loop?
 *
 * `bun run bench:actors` · one process, all contenders interleaved in every round, the first round thrown away. CPU time of the whole
 * process (compiler and collector included) for each operation; heap after a full collection.
 */
import { gc } from "bun"
import { heapStats } from "bun:jsc"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import packageJson from "effect/package.json" with { type: "json" }
import type { ActorRef } from "../src/actors/runtime/ActorRef.ts"
import { ask } from "../src/actors/runtime/ask.ts"
import { spawn } from "../src/actors/runtime/Cell.ts"
import { DeadlineWheel } from "../src/actors/runtime/DeadlineWheel.ts"
import { Dispatcher } from "../src/actors/runtime/Dispatcher.ts"
import { systemTimers } from "../src/protocol/Timers.ts"
import { Turn } from "../src/protocol/Turn.ts"
import { json, readFlags, whole } from "./flags.ts"
import { spread } from "./hop/report.ts"
import { machine, machineText } from "./machine.ts"
import { aligned } from "./table.ts"

const flags = readFlags({ rounds: whole("rounds that count", 7), json })
const { rounds } = flags

/** Idle actors that are made, and looked at. */
const SPAWNED = 20_000
/** Messages told before the event loop gets a turn. */
const BURST = 1_000
const ACTORS = 1_000
const TELLS = 400_000
const ASKS = 100_000
/** Far away, as in a system in good health. */
const TIMEOUT_MS = 5_000

interface Question {
  readonly ask: (answer: number) => void
}

/** Counts what arrived, and says when it is all there. */
class Arrivals {
  private missing = 0
  private arrived: () => void = () => {}

  expect(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.missing = count
    this.arrived = resolve
    return promise
  }

  readonly note = (): void => {
    if (--this.missing === 0) this.arrived()
  }
}

const arrivals = new Arrivals()
const dispatcher = new Dispatcher(new Turn(), systemTimers.nowMs)

/** One way to build an actor that takes numbers and counts them. */
interface Design {
  readonly name: string
  /** Makes idle actors; what comes back keeps them alive. */
  readonly spawn: (count: number) => ReadonlyArray<(message: number) => unknown>
}

const cell = (receive: (message: number) => void | Effect.Effect<void>): ActorRef<number> =>
  spawn<number>({ id: "actor", capacity: BURST, dispatcher, receive })

const tellOf =
  (ref: ActorRef<number>) =>
  (message: number): unknown =>
    ref.tell(message)

/** The usual way: a queue, and a fiber that waits for it. `drain` handles what there is, and waits when there is nothing. */
const queueWithFiber =
  (drain: (queue: Queue.Queue<number>) => Effect.Effect<void>): Design["spawn"] =>
  (count) =>
    Array.from({ length: count }, () => {
      const queue = Effect.runSync(Queue.bounded<number>(BURST))
      const step = drain(queue)
      const loop = Effect.gen(function* () {
        while (true) yield* step
      })
      Effect.runFork(loop)
      return (message: number) => Queue.offerUnsafe(queue, message)
    })

const designs: ReadonlyArray<Design> = [
  {
    name: "bare loop",
    spawn: (count) => Array.from({ length: count }, () => () => arrivals.note())
  },
  {
    name: "actor",
    spawn: (count) => Array.from({ length: count }, () => tellOf(cell(() => arrivals.note())))
  },
  {
    name: "actor, handler returns an effect",
    spawn: (count) => Array.from({ length: count }, () => tellOf(cell(() => Effect.sync(arrivals.note))))
  },
  {
    name: "queue and fiber, take",
    spawn: queueWithFiber((queue) => Effect.map(Queue.take(queue), arrivals.note))
  },
  {
    name: "queue and fiber, takeAll",
    spawn: queueWithFiber((queue) =>
      Effect.map(Queue.takeAll(queue), (messages) => {
        for (let index = 0; index < messages.length; index++) arrivals.note()
      })
    )
  }
]

/** Operations done, and the CPU time they took. */
const timed = async (work: () => Promise<number> | number): Promise<number> => {
  gc(true)
  const before = process.cpuUsage()
  const count = await work()
  const { system, user } = process.cpuUsage(before)
  return ((user + system) * 1_000) / count
}

/** Tells every actor in turn, a burst at a time, and waits until the burst has arrived. */
const tellAll = async (actors: ReadonlyArray<(message: number) => unknown>): Promise<number> => {
  for (let told = 0; told < TELLS; told += BURST) {
    const burst = arrivals.expect(BURST)
    for (let index = 0; index < BURST; index++) actors[index % actors.length]!(index)
    await burst
  }
  return TELLS
}

const heapBytes = (): number => {
  gc(true)
  return heapStats().heapSize
}

interface Row {
  readonly measure: string
  readonly unit: "ns" | "bytes"
  readonly contender: string
  readonly run: () => Promise<number>
}

const spawnRows = designs.map(({ name, spawn }): Row => ({
  measure: "spawn",
  unit: "ns",
  contender: name,
  run: () => timed(() => spawn(SPAWNED).length)
}))
const heapRows = designs.map(({ name, spawn }): Row => ({
  measure: "heap of an idle actor",
  unit: "bytes",
  contender: name,
  run: async () => {
    const before = heapBytes()
    const actors = spawn(SPAWNED)
    // Fibers run up to their first wait.
    await Effect.runPromise(Effect.yieldNow)
    return (heapBytes() - before) / actors.length
  }
}))
const tellRows = [1, ACTORS].flatMap((count) =>
  designs.map((design): Row => {
    const actors = design.spawn(count)
    return {
      measure: count === 1 ? "tell, one actor" : `tell, ${count} idle actors in turn`,
      unit: "ns",
      contender: design.name,
      run: () => timed(() => tellAll(actors))
    }
  })
)

const wheel = Effect.runSync(Scope.provide(DeadlineWheel.make, Scope.makeUnsafe()))
const answering = spawn<Question>({ id: "answering", capacity: BURST, dispatcher, receive: (q) => q.ask(1) })
const asked = await Effect.runPromise(Queue.unbounded<Deferred.Deferred<number>>())
const answerOne = Effect.flatMap(Queue.take(asked), (reply) => Deferred.succeed(reply, 1))
const answerAll = Effect.gen(function* () {
  while (true) yield* answerOne
})
Effect.runFork(answerAll)
const askQueue = Effect.suspend(() => {
  const reply = Deferred.makeUnsafe<number>()
  Queue.offerUnsafe(asked, reply)
  return Deferred.await(reply)
})
const answerNow = (question: Question): void => question.ask(1)

const askers: ReadonlyArray<readonly [string, Effect.Effect<number, unknown>]> = [
  [
    "Effect.callback, answered at once",
    Effect.callback((resume) => answerNow({ ask: (answer) => resume(Effect.succeed(answer)) }))
  ],
  [
    "actor, with deadline",
    ask(answering, (reply: (answer: number) => void): Question => ({ ask: reply }), TIMEOUT_MS, wheel)
  ],
  ["queue and fiber, no deadline", askQueue],
  ["queue and fiber, Effect.timeout", Effect.timeout(askQueue, TIMEOUT_MS)]
]

const askAll = (question: Effect.Effect<number, unknown>, inFlight: number): Promise<number> => {
  const each = Effect.gen(function* () {
    for (let left = ASKS / inFlight; left > 0; left--) yield* question
  })
  const all = Effect.gen(function* () {
    const fibers = yield* Effect.forEach(Array.from({ length: inFlight }), () => Effect.forkChild(each))
    yield* Fiber.joinAll(fibers)
    return ASKS
  })
  return Effect.runPromise(all)
}
const askRows = [1, BURST].flatMap((inFlight) =>
  askers.map(([contender, question]): Row => ({
    measure: `ask, ${inFlight} in flight`,
    unit: "ns",
    contender,
    run: () => timed(() => askAll(question, inFlight))
  }))
)

/** Bytes of garbage that telling numbers leaves: read without a collection in between. */
const garbageRow: Row = {
  measure: "garbage of a tell of a number",
  unit: "bytes",
  contender: "actor",
  run: async () => {
    const turns: Array<() => void> = []
    const own = new Dispatcher(new Turn((run) => turns.push(run)), systemTimers.nowMs)
    const ref = spawn<number>({ id: "actor", capacity: BURST, dispatcher: own, receive: () => {} })
    const burst = () => {
      for (let index = 0; index < BURST; index++) ref.tell(index)
      for (let turn = turns.pop(); turn !== undefined; turn = turns.pop()) turn()
    }
    for (let warm = 0; warm < 100; warm++) burst()
    gc(true)
    const before = heapStats().heapSize
    for (let count = 0; count < 100; count++) burst()
    return (heapStats().heapSize - before) / (100 * BURST)
  }
}

const rows = [...spawnRows, ...heapRows, ...tellRows, garbageRow, ...askRows]
const before = machine()
const samples = new Map<Row, Array<number>>(rows.map((row) => [row, []]))
for (let round = 0; round <= rounds; round++) {
  process.stderr.write(`\rround ${round} of ${rounds}`)
  for (const row of rows) {
    const value = await row.run()
    if (round > 0) samples.get(row)!.push(value)
  }
}
process.stderr.write("\n")

const results = rows.map((row) => ({
  measure: row.measure,
  contender: row.contender,
  unit: row.unit,
  ...spread(samples.get(row)!)
}))
if (flags.json) {
  console.log(JSON.stringify({ ...before, effect: packageJson.version, rounds, results }))
} else {
  console.log(`${machineText(before)} · Effect ${packageJson.version} · ${rounds} rounds\n`)
  const figure = (value: number) => value.toFixed(value < 100 ? 1 : 0)
  console.log(
    aligned([
      ["measure", "contender", "unit", "median", "min", "max", "a second"],
      ...results.map(({ contender, max, measure, median, min, unit }) => [
        measure,
        contender,
        unit,
        figure(median),
        figure(min),
        figure(max),
        unit === "ns" ? `${figure(1e3 / median)} M` : ""
      ])
    ])
  )
}
process.exit(0)
