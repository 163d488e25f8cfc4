import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { Reason } from "../../src/domain/Outcome.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, pipelines } from "../../src/policies/pipelines.ts"
import { type LoopOptions, closedLoop } from "../../src/simulator/replay/Loop.ts"
import { type Outcomes, Replay, type ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { boundsOf } from "../../src/simulator/report/bounds.ts"
import { faster, type Workload, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays } from "../support/replays.ts"
import { root } from "../support/repository.ts"
import { traceOf } from "../support/traceOf.ts"

/** What is replayed, and how. */
interface Subject {
  readonly close: typeof closedLoop
  readonly make: (options: ReplayOptions) => Replay
  readonly bounds: typeof boundsOf
}

const loops = fc.record({
  clientsMax: fc.constantFrom(1, 2, 5, Number.POSITIVE_INFINITY),
  answerMs: fc.constantFrom(0, 100).map((ms) => () => ms)
})

const holds = (check: (options: ReplayOptions, loop: Required<LoopOptions>) => void): void =>
  fc.assert(fc.property(replays, loops, check), { numRuns: 60 })

/** The same requests, of which for every third it is known how long its client thought. */
const partlyKnown = ({ requests, ...rest }: Workload): Workload => ({
  ...rest,
  requests: requests.map((one, i) => (i % 3 === 0 ? { ...one, thinkMs: 70 * (i % 2) } : one))
})

const closed = (
  { close, make }: Pick<Subject, "close" | "make">,
  options: ReplayOptions,
  loop: LoopOptions
): Outcomes => make({ ...options, workload: close(options.workload, loop) }).run().outcomes

/** All requests in two sessions, of which one may overtake the other. */
const inTwoSessions = ({ requests, ...rest }: Workload): Workload => ({
  ...rest,
  requests: requests.map((one, i) => ({ ...one, sessionHigh: 1 + (i % 2), sessionLow: 0 }))
})

/** Numbers by session; those without one alone. */
const clientsOf = ({ requests }: Workload): ReadonlyArray<ReadonlyArray<number>> => {
  const sessions = new Map<string, Array<number>>()
  for (const [number, { sessionHigh, sessionLow }] of requests.entries()) {
    const name = sessionHigh === 0 && sessionLow === 0 ? `alone ${number}` : `${sessionHigh} ${sessionLow}`
    sessions.set(name, [...(sessions.get(name) ?? []), number])
  }
  return [...sessions.values()]
}

const columnsOf = (outcomes: Outcomes) => Object.values(outcomes).map((column) => Array.from<number>(column))

const laws = [
  {
    id: "loop-thinks",
    check: (subject: Subject) =>
      holds((given, loop) => {
        const options = { ...given, workload: partlyKnown(given.workload) }
        const { arrivedMs, endedMs } = closed(subject, options, loop)
        const { requests } = options.workload
        for (const numbers of clientsOf(options.workload))
          for (const [i, number] of numbers.entries()) {
            if (i === 0) continue
            const before = numbers[i - 1]!
            const gapMs = requests[number]!.arrivalMs - requests[before]!.arrivalMs
            const thinkMs = requests[number]!.thinkMs ?? Math.max(0, gapMs - loop.answerMs(before))
            expect(arrivedMs[number]!).toBe(endedMs[before]! + thinkMs)
          }
      })
  },
  {
    id: "loop-clients",
    check: (subject: Subject) =>
      holds((options, loop) => {
        const { arrivedMs, endedMs } = closed(subject, options, loop)
        const { requests } = options.workload
        const clients = clientsOf(options.workload).map((numbers) => ({
          plannedMs: requests[numbers[0]!]!.arrivalMs,
          fromMs: arrivedMs[numbers[0]!]!,
          toMs: endedMs[numbers.at(-1)!]!
        }))
        // In the order of their first requests, each as soon as it is due and there is room.
        for (const [i, { fromMs, plannedMs }] of clients.entries()) {
          const others = clients.slice(0, i)
          const presentUpTo = (ms: number) => others.filter((one) => one.fromMs <= ms && one.toMs > ms).length
          expect(presentUpTo(fromMs)).toBeLessThan(loop.clientsMax)
          if (fromMs === plannedMs) continue
          expect(fromMs).toBeGreaterThan(plannedMs)
          expect(others.some(({ toMs }) => toMs === fromMs)).toBe(true)
          expect(others.every((one) => one.fromMs <= fromMs)).toBe(true)
        }
      })
  },
  {
    id: "loop-bounds",
    check: ({ bounds, ...subject }: Subject) =>
      holds((options, loop) => {
        const workload = subject.close(inTwoSessions(options.workload), loop)
        const { ttftMs } = bounds({ ...options, workload })
        const { arrivedMs, firstMs, reasons } = subject.make({ ...options, workload }).run().outcomes
        for (const [number, reason] of reasons.entries())
          if (reason === Reason.none)
            expect(firstMs[number]! - arrivedMs[number]!).toBeGreaterThan(ttftMs[number]! - 1e-6)
      })
  },
  {
    id: "loop-open",
    check: (subject: Subject) =>
      holds((options) => {
        const requests = options.workload.requests.map((one) => ({ ...one, sessionHigh: 0, sessionLow: 0 }))
        const alone = { ...options, workload: { ...options.workload, requests } }
        const open = subject.make(alone).run().outcomes
        expect(columnsOf(closed(subject, alone, {}))).toEqual(columnsOf(open))
      })
  }
]

const real: Subject = { close: closedLoop, make: (options) => new Replay(options), bounds: boundsOf }

const changedLoop = (change: (workload: Workload) => Workload["loop"]): Subject => ({
  ...real,
  close: (workload, options) => {
    const made = closedLoop(workload, options)
    const loop = change(made)
    return loop === undefined ? workload : { ...made, loop }
  }
})

const defects: ReadonlyArray<Planted<Subject>> = [
  ["does not wait for answers", "loop-thinks", changedLoop(() => undefined)],
  [
    "takes the time of the answer for thinking",
    "loop-thinks",
    { ...real, close: (workload, { clientsMax = Infinity }) => closedLoop(workload, { clientsMax }) }
  ],
  [
    "knows nothing of what was recorded",
    "loop-thinks",
    {
      ...real,
      close: ({ requests, ...rest }, options) =>
        closedLoop({ ...rest, requests: requests.map((one) => ({ ...one, thinkMs: undefined })) }, options)
    }
  ],
  [
    "lets everybody in",
    "loop-clients",
    { ...real, close: (workload, { answerMs = () => 0 }) => closedLoop(workload, { answerMs }) }
  ],
  [
    "has a client leave after each answer",
    "loop-clients",
    {
      ...real,
      make: (options) => {
        const replay = new Replay(options)
        const arrivals = Reflect.get(replay, "arrivals")
        const ended = Reflect.get(arrivals, "ended")
        Reflect.set(arrivals, "ended", (number: number) => {
          Reflect.set(arrivals, "clients", Reflect.get(arrivals, "clients") - 1)
          return ended.call(arrivals, number)
        })
        return replay
      }
    }
  ],
  [
    "takes what comes later in the plan for unknown",
    "loop-bounds",
    {
      ...real,
      bounds: ({ workload: { loop: _loop, ...workload }, ...rest }) => boundsOf({ ...rest, workload })
    }
  ],
  [
    "has those without a session wait for each other",
    "loop-open",
    changedLoop((workload) => ({
      ...workload.loop!,
      clientsMax: 1
    }))
  ]
]

describe("clients that wait for answers", () => keepsAll(laws, real))
describe("planted defects", () => findsAll(laws, defects))

const agents = join(root, "../shared/traces/traces/coding-agents-a.jsonl.gz")
if (!existsSync(agents)) console.log(`${agents} is not here: recorded think times are not replayed`)
test.skipIf(!existsSync(agents))("clients of coding-agents-a think as long as was recorded", async () => {
  const text = new TextDecoder().decode(Bun.gunzipSync(await Bun.file(agents).bytes()))
  const trace = traceOf(text, { limit: 300 })
  const workload = faster(workloadOf([trace]), 2)
  const options: ReplayOptions = {
    workload,
    workers: ["a", "b"].map((name) => ({ name, preset: presets["8b-h100"] })),
    pipeline: choiceOf(pipelines.simple),
    seed: 1
  }
  const unknown = (): number => expect.unreachable("all but the first of a session say it")
  const { arrivedMs, endedMs } = closed(real, options, { answerMs: unknown })
  let followers = 0
  for (const numbers of clientsOf(workload))
    for (const [i, number] of numbers.entries()) {
      if (i === 0) continue
      followers++
      // At twice the speed.
      const thinkMs = trace.requests[number]!.thinkMs! / 2
      expect(arrivedMs[number]!).toBe(endedMs[numbers[i - 1]!]! + thinkMs)
    }
  expect(followers).toBeGreaterThan(200)
})

test("as many clients as one, without sessions, ask one after the other", () => {
  fc.assert(
    fc.property(replays, (options) => {
      const requests = options.workload.requests.map((one) => ({ ...one, sessionHigh: 0, sessionLow: 0 }))
      const workload = { ...options.workload, requests }
      const { arrivedMs, endedMs } = closed(real, { ...options, workload }, { clientsMax: 1 })
      for (const [i, { arrivalMs }] of requests.entries())
        expect(arrivedMs[i]!).toBe(Math.max(arrivalMs, endedMs[i - 1] ?? 0))
    }),
    { numRuns: 30 }
  )
})
