import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import type { BalancerPool } from "../../src/actors/BalancerPool.ts"
import {
  DecisionLog,
  type DecisionLogOptions,
  type Note,
  type SeenWorker
} from "../../src/actors/DecisionLog.ts"
import { explain } from "../../src/actors/explain.ts"
import type { Explanation } from "../../src/domain/Explanation.ts"
import { Reason, reasonName } from "../../src/domain/Outcome.ts"
import type { PoolView } from "../../src/domain/PoolView.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { requestState, sessionOrRequestState } from "../../src/policies/affinity.ts"
import { choiceOf, type Pipeline, pipelines } from "../../src/policies/pipelines.ts"
import { findPlacement, placements, rivals } from "../../src/policies/registry.ts"
import { explainReplay } from "../../src/simulator/explain/explainReplay.ts"
import { forced } from "../../src/simulator/explain/forced.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { Replay, replay, type ReplayOptions, type ReplayResult } from "../../src/simulator/replay/Replay.ts"
import { workloadOf } from "../../src/simulator/replay/Workload.ts"
import { hash64, mix } from "../../src/structures/hash.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { replays } from "../support/replays.ts"

/** Who keeps account, and who forces. */
interface Subject {
  readonly makeLog: (options: DecisionLogOptions) => DecisionLog
  readonly forced: typeof forced
}

const names = [...placements, ...rivals].map(({ name }) => name)

/** Any placement, with every rescue at work in some; some with workers that do one part of requests, some with one that crashes. */
const everyReplay: fc.Arbitrary<ReplayOptions> = fc
  .tuple(
    replays,
    fc.constantFrom(...names),
    fc.constantFrom("both", "both", "split"),
    fc.constantFrom<NonNullable<ReplayOptions["crashes"]>>(
      [],
      [],
      [{ worker: 0, atMs: 400, goneMs: 800 }],
      [{ worker: 0, atMs: 300, silent: true }]
    )
  )
  .map(([options, name, roles, crashes]) => ({
    ...options,
    crashes,
    pipeline: { ...options.pipeline, placement: { policy: name, options: {} } },
    workers:
      roles === "both"
        ? options.workers
        : [
            ...options.workers,
            ...(["prefill", "prefill", "decode"] as const).map((role, i) => ({
              ...options.workers[0]!,
              name: `${role}-${i}`,
              role
            }))
          ]
  }))

/** Traffic in which rescues take many requests from where they are to where their prefixes are. Random traffic has that too rarely. */
const rescued = (placement: string, seed: number): ReplayOptions => ({
  workload: workloadOf([
    generateTraffic({
      seed,
      requests: 40,
      requestsPerSecond: 30,
      promptTokens: { mean: 4000, variation: 0.5 },
      outputTokens: { mean: 5, variation: 1 },
      sharedPrefix: { count: 2, tokens: 2048, share: 0.8 }
    })
  ]),
  workers: [1, 8, 1].map((slowFactor, i) => ({
    name: `worker-${i}`,
    preset: presets["8b-h100"],
    slowFactor
  })),
  pipeline: {
    ...choiceOf(pipelines.default),
    placement: { policy: placement, options: {} },
    rescue: [
      { policy: "steal", options: { guard: 0 } },
      { policy: "requeue-stragglers", options: { after: 50, budget: 1 } }
    ]
  },
  seed
})

/** Checks random replays. */
const holdsOften = (check: (options: ReplayOptions) => void): void =>
  fc.assert(fc.property(everyReplay, check), { numRuns: 35 })

/** Checks random replays, and one of every placement there is. */
const holds = (check: (options: ReplayOptions) => void): void => {
  holdsOften(check)
  for (const [seed, name] of names.entries()) check(rescued(name, seed))
}

const bytesOf = ({ outcomes, totals, workers }: ReplayResult): ReadonlyArray<unknown> => [
  ...Object.values(outcomes).map((column: ArrayBufferView) => Buffer.from(column.buffer).toString("base64")),
  JSON.stringify([totals, workers])
]

type Choosing = Extract<Note, { readonly producer: unknown }>

const KEPT = 1000

/** A replay of which account was kept, and its requests' explanations by number. */
const explained = (
  { makeLog }: Subject,
  options: ReplayOptions,
  listedMax = options.workers.length,
  keptCount = KEPT
): {
  readonly result: ReplayResult
  readonly log: DecisionLog
  /** Where not everything is kept, of some there is none. */
  readonly explanations: ReadonlyArray<Explanation>
} => {
  const log = makeLog({ kept: keptCount, listedMax })
  const result = new Replay({ ...options, decisions: () => log }).run()
  const explanations = options.workload.requests.map((_, number) =>
    explain(log, 0, number + 1, {
      workerOf: (worker) => options.workers[worker]!.name,
      tenantOf: String,
      modelOf: String,
      choice: options.pipeline,
      startedMs: 0
    })!
  )
  return { result, log, explanations }
}

const compareNames = (a: string, b: string): number => (a < b ? -1 : 1)

/** What a policy saw at a pick, read from the pool by other means. */
interface Sight {
  readonly request: number
  readonly atMs: number
  readonly picked: number
  readonly workers: ReadonlyMap<number, Omit<SeenWorker, "standing" | "ttftMs">>
}

/** The policies, and who looks over the placement's shoulder. */
const watched =
  (sights: Array<Sight>) =>
  (pipeline: Pipeline): Pipeline => ({
    ...pipeline,
    placement: {
      ...pipeline.placement,
      pick: (request, pool, nowMs) => {
        const eligible = [...pool.eligible.subarray(0, pool.eligibleCount)]
        const cached = [...pool.cachedTokens(request)]
        const picked = pipeline.placement.pick(request, pool, nowMs)
        const { capacity, contextTokens, inFlight, pendingPrefillTokens } = pool.workers
        const seen = eligible.map((worker) => ({
          worker,
          inFlight: inFlight[worker]!,
          capacity: capacity[worker]!,
          pendingTokens: pendingPrefillTokens[worker]!,
          contextTokens: contextTokens[worker]!,
          cachedTokens: cached[worker]!,
          terms: pipeline.placement.terms?.(request, worker, pool, nowMs)
        }))
        sights.push({
          request: request.idLow,
          atMs: nowMs,
          picked,
          workers: new Map(seen.map((each) => [each.worker, each]))
        })
        return picked
      }
    }
  })

/** The rules that settle ties, as the definitions of policies word them: who of `equals`, of all these candidates, is first. */
const ties: ReadonlyArray<{
  readonly says: string
  readonly first: (equals: Array<string>, candidates: Array<string>, state: number) => string
}> = [
  {
    says: "highest rendezvous score",
    first: (equals, _, state) => {
      const scoreOf = (worker: string): number => mix(state, hash64(worker).high, hash64(worker).low)
      return equals.toSorted((a, b) => scoreOf(b) - scoreOf(a))[0]!
    }
  },
  {
    says: "in the order of keys, round the end, from the eligible worker on",
    first: (equals, candidates, state) => {
      const keyOf = (worker: string): bigint =>
        (BigInt(hash64(worker).high) << 32n) | BigInt(hash64(worker).low)
      const byKey = candidates.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
      const from = Math.floor((state / 2 ** 32) * byKey.length)
      return [...byKey.slice(from), ...byKey.slice(0, from)].find((worker) => equals.includes(worker))!
    }
  }
]

const laws = [
  {
    id: "explain-silent",
    check: (subject: Subject) =>
      holds((options) => {
        const plain = bytesOf(new Replay(options).run())
        expect(bytesOf(explained(subject, options, 1 + (options.seed % 4)).result)).toEqual(plain)
      })
  },
  {
    id: "explain-complete",
    check: (subject: Subject) =>
      holds((options) => {
        const everyone = options.workers.map(({ name }) => name).toSorted(compareNames)
        for (const { decisions } of explained(subject, options).explanations)
          for (const { chosen, unlisted, workers } of decisions) {
            expect(unlisted).toEqual({})
            expect(workers.map(({ worker }) => worker).toSorted(compareNames)).toEqual(everyone)
            if (chosen === null) continue
            expect(workers.find(({ worker }) => worker === chosen)!.standing).toBe("candidate")
          }
        for (const { decisions } of explained(subject, options, 2).explanations)
          for (const { chosen, unlisted, workers } of decisions) {
            const listed = new Set(workers.map(({ worker }) => worker))
            const left = Object.values(unlisted).reduce((sum, count) => sum + count, 0)
            expect(listed.size).toBe(workers.length)
            expect(listed.size + left).toBe(everyone.length)
            if (chosen !== null) expect(listed).toContain(chosen)
          }
      })
  },
  {
    id: "explain-faithful",
    check: (subject: Subject) =>
      holds((options) => {
        const sights: Array<Sight> = []
        const { log } = explained(subject, { ...options, adapted: watched(sights) })
        for (const number of options.workload.requests.keys()) {
          const notes = log.about(0, number + 1)
          const picks = notes.filter((note): note is Choosing => note.act === "picked")
          const seen = sights.filter(({ request }) => request === number + 1)
          expect(picks.map(({ atMs, worker }) => [atMs, worker])).toEqual(
            seen.map(({ atMs, picked }) => [atMs, picked])
          )
          for (const [i, { workers }] of picks.entries()) {
            const candidates = workers.filter(
              ({ standing, worker }) =>
                (standing === "candidate" || standing === "not-compared") &&
                (options.workers[worker]!.role ?? "both") === "both"
            )
            const sight = seen[i]!.workers
            expect(candidates.length).toBe(sight.size)
            for (const { standing: _standing, ttftMs: _ttftMs, ...facts } of candidates)
              expect(facts).toEqual(sight.get(facts.worker)!)
          }
        }
      })
  },
  {
    id: "explain-least",
    check: (subject: Subject) =>
      holds((options) => {
        const entry = findPlacement(options.pipeline.placement.policy)
        if (entry.family !== "argmin") return
        const keyOf = entry.definition.includes("(session or") ? sessionOrRequestState : requestState
        for (const [number, { decisions }] of explained(subject, options).explanations.entries())
          for (const { act, chosen, runnerUp, tie, workers } of decisions) {
            const least = workers[0]!
            if (act !== "picked" || least.terms === null) continue
            const taken = workers.find(({ worker }) => worker === chosen)!
            const candidates = workers.filter(({ standing }) => standing === "candidate")
            // Sums of the same terms in another order may differ in their last digits.
            expect(taken.cost!).toBeLessThanOrEqual(least.cost! * (1 + 1e-9))
            expect(runnerUp === null).toBe(candidates.length === 1)
            if (runnerUp === null) continue
            const next = Math.min(...candidates.filter((each) => each !== taken).map(({ cost }) => cost!))
            expect(runnerUp.margin).toBeCloseTo(Math.max(0, next - taken.cost!), 9)
            expect(tie !== null).toBe(runnerUp.margin === 0)
            const { sessionHigh, sessionLow } = options.workload.requests[number]!
            const request = { idHigh: 0, idLow: number + 1, sessionHigh, sessionLow } as RequestView
            const equals = candidates.filter(({ terms }) => Bun.deepEquals(terms, taken.terms))
            const byRule = ties.find(({ says }) => entry.definition.includes(says))!
            const namesOf = (those: typeof candidates) => those.map(({ worker }) => worker)
            expect(taken.worker).toBe(byRule.first(namesOf(equals), namesOf(candidates), keyOf(request)))
          }
      })
  },
  {
    id: "explain-true",
    check: (subject: Subject) =>
      holds((options) => {
        const { explanations, result } = explained(subject, options)
        const { arrivedMs, endedMs, firstMs, placedMs, reasons, workers } = result.outcomes
        for (const [number, { admission, decisions, outcome, queue, refused }] of explanations.entries()) {
          const reason = reasons[number]!
          const e2eMs = endedMs[number]! - arrivedMs[number]!
          const ttftMs = firstMs[number]! - arrivedMs[number]!
          if (refused !== null) {
            expect(refused.reason).toBe(reasonName(reason))
            const isShared = options.workload.tenants.length > 1
            expect(refused.ceiling).toBeWithin(isShared ? 0.7 : 1, 1 + 1e-9)
            expect([decisions, outcome]).toEqual([[], null])
            const isAsked = reason !== Reason.noWorker
            expect(admission.filter(({ verdict }) => verdict === "refused").length).toBe(isAsked ? 1 : 0)
            continue
          }
          expect(admission.every(({ verdict }) => verdict === "let in")).toBe(true)
          expect(outcome).toMatchObject({
            reason: reason === Reason.none ? "done" : reasonName(reason),
            e2eMs,
            ttftMs: Number.isNaN(ttftMs) ? null : ttftMs
          })
          if (queue === null) expect(decisions[0]!.afterMs).toBe(0)
          const served = decisions.filter(({ actual }) => actual.result === "started")
          expect(served.length).toBe(Number.isNaN(ttftMs) ? 0 : 1)
          if (served[0] === undefined) continue
          const { actual, afterMs, answers, chosen } = served[0]
          expect(answers ?? chosen).toBe(options.workers[workers[number]!]!.name)
          expect(afterMs + actual.ttftMs!).toBeCloseTo(ttftMs, 6)
          if (result.totals.retries === 0 && options.pipeline.rescue.length === 0)
            expect(afterMs).toBeCloseTo(placedMs[number]! - arrivedMs[number]!, 9)
        }
      })
  },
  {
    id: "explain-forgets",
    check: (subject: Subject) =>
      holdsOften((few) => {
        // So many workers that there is room for fewer decisions than requests.
        const workers = Array.from({ length: 24 }, (_, i) => ({
          ...few.workers[i % few.workers.length]!,
          name: `worker-${i}`
        }))
        const options = { ...few, workers }
        const { explanations } = explained(subject, options)
        const kept = 1 + (few.seed % 20)
        for (const [number, one] of explained(subject, options, 24, kept).explanations.entries()) {
          const whole = explanations[number]!
          const decisions = one?.decisions.map((decision, i) =>
            decision.workers.length === 0 ? whole.decisions[i]! : decision
          )
          const filled: Explanation | undefined = decisions && { ...one, decisions }
          if (filled !== undefined) expect(filled).toEqual(whole)
        }
      })
  },
  {
    id: "explain-sampled",
    check: ({ makeLog }: Subject) =>
      holdsOften((options) => {
        const perSecond = 1 + (options.seed % 20)
        const whole = makeLog({ kept: KEPT })
        const sample = makeLog({ kept: KEPT, perSecond })
        for (const log of [whole, sample]) new Replay({ ...options, decisions: () => log }).run()
        const begun: Array<number> = []
        for (const number of options.workload.requests.keys()) {
          const notes = sample.about(0, number + 1)
          if (notes.length === 0) continue
          expect(notes.map(({ act }) => act)).toEqual(whole.about(0, number + 1).map(({ act }) => act))
          begun.push(notes[0]!.atMs)
        }
        for (const [i, fromMs] of begun.entries())
          for (const [k, toMs] of begun.entries())
            if (k > i) expect(k - i + 1).toBeLessThanOrEqual(perSecond * (1 + (toMs - fromMs) / 1000) + 1e-6)
        // The first ones, as many as there may be at once.
        expect(begun.length).toBeGreaterThanOrEqual(Math.min(perSecond, options.workload.requests.length))
      })
  },
  {
    id: "explain-forced",
    check: ({ forced }: Subject) =>
      holdsOften((options) => {
        const plain = new Replay(options).run()
        const { workers } = plain.outcomes
        const number = options.workload.requests.findIndex(
          (_, i) => workers[i]! >= 0 && (options.workers[workers[i]!]!.role ?? "both") === "both"
        )
        if (number < 0) return
        const isMeant = ({ idLow }: RequestView): boolean => idLow === number + 1
        const firstPicks = (worker: number | undefined) => {
          const log = new DecisionLog({ kept: KEPT, about: isMeant })
          const adapted = (made: Pipeline) => (worker === undefined ? made : forced(made, isMeant, worker))
          const result = new Replay({ ...options, adapted, decisions: () => log }).run()
          const pick = log
            .about(0, number + 1)
            .find((note): note is Choosing => "producer" in note && note.worker >= 0)
          return { result, pick }
        }
        const { pick } = firstPicks(undefined)
        if (pick === undefined || pick.worker < 0) return
        const isSplit = pick.producer >= 0
        const candidates = pick.workers.filter(
          ({ standing, worker }) =>
            standing === "candidate" && (options.workers[worker]!.role ?? "both") === "both"
        )
        // To where it went anyway: nothing changes. Anywhere else: it goes there, and what came before is as it was.
        if (!isSplit) expect(bytesOf(firstPicks(pick.worker).result)).toEqual(bytesOf(plain))
        for (const { worker } of candidates) {
          const other = firstPicks(worker)
          expect(other.pick).toMatchObject({ worker, producer: -1, atMs: pick.atMs })
          for (let i = 0; i < workers.length; i++)
            if (plain.outcomes.placedMs[i]! < pick.atMs)
              expect(other.result.outcomes.placedMs[i]! <= pick.atMs).toBe(true)
        }
      })
  }
]

const good: Subject = { makeLog: (options) => new DecisionLog(options), forced }

/** An account that is kept otherwise. */
const kept = (change: (log: DecisionLog) => void): Subject => ({
  forced,
  makeLog: (options) => {
    const log = new DecisionLog(options)
    change(log)
    return log
  }
})

type Picked = DecisionLog["picked"]

/** What is done about a pick. */
const picking = (change: (picked: Picked, ...args: Parameters<Picked>) => void): Subject =>
  kept((log) => {
    const picked = log.picked.bind(log)
    log.picked = (...args) => change(picked, ...args)
  })

/** What is read of a decision. */
const reading = (change: (workers: ReadonlyArray<SeenWorker>) => ReadonlyArray<SeenWorker>): Subject =>
  kept((log) => {
    const about = log.about.bind(log)
    log.about = (high, low) =>
      about(high, low).map((note) => ("workers" in note ? { ...note, workers: change(note.workers) } : note))
  })

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "asks the policy again to see what it would say",
    "explain-silent",
    picking((picked, request, pool, ...rest) => {
      pool.policies.placement.pick(request, pool, rest[2])
      picked(request, pool, ...rest)
    })
  ],
  [
    "leaves its matches behind where a rescue acts",
    "explain-silent",
    kept((log) => {
      const rescued = log.rescued.bind(log)
      log.rescued = (act, request, pool, worker, rescue, nowMs) => {
        const aside = pool.aside.bind(pool)
        const other = { ...request, chain: { ...request.chain, count: 0 } } as RequestView
        pool.aside = (look) => {
          look()
          pool.match(other)
          Reflect.set(pool, "matched", request)
        }
        rescued(act, request, pool, worker, rescue, nowMs)
        pool.aside = aside
      }
    })
  ],
  [
    "forgets workers at their capacity",
    "explain-complete",
    reading((workers) => workers.filter(({ standing }) => standing !== "at-capacity"))
  ],
  ["lists a worker twice", "explain-complete", reading((workers) => [...workers, ...workers.slice(0, 1)])],
  [
    "writes down what is there after the request was charged",
    "explain-faithful",
    picking((picked, request, pool, worker, ...rest) => {
      const { inFlight } = pool.workers
      inFlight[worker]!++
      picked(request, pool, worker, ...rest)
      inFlight[worker]!--
    })
  ],
  [
    "takes terms for those of the next worker",
    "explain-least",
    reading((workers) => {
      const weighed = workers.filter(({ terms }) => terms !== undefined)
      const next = new Map(weighed.map((one, i) => [one, weighed[(i + 1) % weighed.length]!.terms]))
      return workers.map((one) => ({ ...one, terms: next.get(one) }))
    })
  ],
  [
    "says that another worker was chosen where several are as good",
    "explain-least",
    kept((log) => {
      const about = log.about.bind(log)
      log.about = (high, low) =>
        about(high, low).map((note) => {
          if (note.act !== "picked") return note
          const terms = note.workers.find(({ worker }) => worker === note.worker)?.terms
          const equal = note.workers.filter((each) => Bun.deepEquals(each.terms, terms))
          return { ...note, worker: equal.at(-1)?.worker ?? note.worker }
        })
    })
  ],
  [
    "takes a token for one of the attempt before",
    "explain-true",
    kept((log) => {
      const about = log.about.bind(log)
      log.about = (high, low) => about(high, low).filter(({ act }) => act !== "released")
    })
  ],
  [
    "does not know who refused",
    "explain-true",
    kept((log) => {
      const refused = log.refused.bind(log)
      log.refused = (request, pool: BalancerPool, _by, ...rest) => refused(request, pool, -1, ...rest)
    })
  ],
  [
    "takes the workers of a later decision for those it has forgotten",
    "explain-forgets",
    kept((log) => {
      const seenFrom = Reflect.get(log, "seenFrom")
      Reflect.set(log, "seenFrom", (from: number, count: number) => {
        const listed: number = Reflect.get(log, "listed")
        Reflect.set(log, "listed", from)
        const seen: unknown = seenFrom.call(log, from, count)
        Reflect.set(log, "listed", listed)
        return seen
      })
    })
  ],
  [
    "takes down the beginning of every request",
    "explain-sampled",
    kept((log) => Reflect.set(log, "spend", () => true))
  ],
  [
    "loses sight of every request as it starts",
    "explain-sampled",
    {
      ...good,
      makeLog: (options) => {
        const log = new DecisionLog(options)
        if (options.perSecond !== undefined) Reflect.set(log, "started", () => undefined)
        return log
      }
    }
  ],
  [
    "does not ask the policy about a request that is forced",
    "explain-forced",
    {
      ...good,
      forced: (pipeline, isMeant, worker) => ({
        ...pipeline,
        placement: {
          ...pipeline.placement,
          pick: (request, pool, nowMs) =>
            request.attempt === 1 && isMeant(request) ? worker : pipeline.placement.pick(request, pool, nowMs)
        }
      })
    }
  ]
]

describe("an explanation", () => keepsAll(laws, good))
describe("planted defects", () => findsAll(laws, defects))

describe("what would have been", () => {
  const run = (options: ReplayOptions, number: number) => {
    const running = explainReplay(options, number)
    let step = running.next()
    while (step.done !== true) step = running.next()
    return step.value
  }

  test("stands beside what was, for every other candidate, and changes nobody where nothing changes", () => {
    fc.assert(
      fc.property(everyReplay, fc.nat(), (options, which) => {
        const number = which % options.workload.requests.length
        const { elsewhere, explanation } = run(options, number)
        const first = explanation.decisions.find(({ chosen }) => chosen !== null)
        if (first === undefined) return expect(elsewhere).toEqual([])
        const [own, ...others] = elsewhere
        expect(own).toMatchObject({ worker: first.chosen, othersTtftMs: 0, othersEndedOtherwise: 0 })
        expect(own!.ttftMs).toBe(explanation.outcome!.ttftMs)
        const roleOf = new Map(options.workers.map(({ name, role = "both" }) => [name, role]))
        const candidates = first.workers.filter(
          ({ standing, worker }) =>
            (standing === "candidate" || standing === "not-compared") &&
            worker !== first.chosen &&
            roleOf.get(worker) === "both"
        )
        expect(others.map(({ worker }) => worker)).toEqual(candidates.map(({ worker }) => worker))
        for (const { outcome, ttftMs } of others) expect(ttftMs !== null || outcome !== "done").toBe(true)
        const isMeant = ({ idLow }: RequestView): boolean => idLow === number + 1
        const before = replay(options).outcomes
        for (const { othersEndedOtherwise, othersTtftMs, worker } of others) {
          const slot = options.workers.findIndex(({ name }) => name === worker)
          const after = replay({ ...options, adapted: (made) => forced(made, isMeant, slot) }).outcomes
          const rest = [...options.workload.requests.keys()].filter((i) => i !== number)
          const same = rest.filter((i) => before.reasons[i] === after.reasons[i])
          const laterMs = same
            .filter((i) => before.reasons[i] === 0)
            .map((i) => after.firstMs[i]! - after.arrivedMs[i]! - (before.firstMs[i]! - before.arrivedMs[i]!))
          expect(othersEndedOtherwise).toBe(rest.length - same.length)
          const meanMs = laterMs.reduce((sum, ms) => sum + ms, 0) / Math.max(1, laterMs.length)
          expect(othersTtftMs).toBeCloseTo(meanMs, 6)
        }
      }),
      { numRuns: 20 }
    )
  })

  test("is about the first worker that is picked for the request, and leaves to the policy whatever comes after", () => {
    const made = { placement: { pick: () => 0 } } as unknown as Pipeline
    const { placement } = forced(made, ({ idLow }) => idLow === 7, 1)
    const workers = { keyHigh: Uint32Array.of(1, 2), keyLow: new Uint32Array(2) }
    const pool = { eligible: Int32Array.of(0, 1), eligibleCount: 2, workers } as unknown as PoolView
    const picked = (idLow: number, attempt: number) =>
      placement.pick({ idLow, attempt } as RequestView, pool, 0)
    expect([picked(6, 1), picked(7, 2), picked(7, 1), picked(7, 1), picked(7, 2)]).toEqual([0, 0, 1, 0, 0])
  })
})
