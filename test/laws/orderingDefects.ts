import { Reason } from "../../src/domain/Outcome.ts"
import type { RequestView } from "../../src/domain/RequestView.ts"
import { findOrdering } from "../../src/policies/registry.ts"
import { TokenLedger } from "../../src/policies/TokenLedger.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import type { Planted } from "../support/planted.ts"
import type { FairSubject } from "./fairnessLaws.ts"
import { fairSubjects } from "./fairSubjects.ts"
import type { LedgerSubject } from "./ledgerLaws.ts"
import type { OrderingSubject } from "./orderingLaws.ts"
import {
  plainArrival,
  plainByKey,
  plainCounters,
  plainDeficits,
  plainTags,
  plainTurns,
  type Row
} from "./plainOrderings.ts"
import type { SequencingSubject } from "./sequencingLaws.ts"

const usual = { inputPrice: 1, outputPrice: 2, quantum: 16_384 }

/** State that outlives a policy, as a module-level counter does. */
let shared = 0

const arrival = (defect: Parameters<typeof plainArrival>[0]): OrderingSubject => ({
  make: () => plainArrival(defect)
})

export const orderingDefects: ReadonlyArray<Planted<OrderingSubject>> = [
  ["forgets a requeued request", "ordering-conserves", arrival(() => ({ requeue: () => {} }))],
  [
    "gives a request out without taking it",
    "ordering-conserves",
    arrival((queue) => ({ next: () => queue[0]?.slot ?? -1 }))
  ],
  ["says it removed what it does not hold", "ordering-conserves", arrival(() => ({ remove: () => true }))],
  [
    "gives out slot 0 when it is empty",
    "ordering-conserves",
    arrival((queue) => ({ next: () => queue.shift()?.slot ?? 0 }))
  ],
  [
    "holds a request back until it has waited",
    "ordering-work-conserving",
    arrival((queue) => ({
      next: (_, nowMs) => (queue.length > 0 && queue[0]!.arrivedMs < nowMs ? queue.shift()!.slot : -1)
    }))
  ],
  [
    "picks by a variable of the module",
    "ordering-deterministic",
    arrival((queue) => ({
      next: () => queue.splice(shared++ % Math.max(1, queue.length), 1)[0]?.slot ?? -1
    }))
  ],
  [
    "goes on with the tenant of the request that ended, whose object is another's by then",
    "ordering-forgets",
    arrival((queue) => {
      let ended: RequestView | undefined
      return {
        ended: (request) => void (ended = request),
        next: () => {
          const at = queue.findIndex(({ tenant }) => tenant === ended?.tenant)
          return queue.splice(Math.max(0, at), 1)[0]?.slot ?? -1
        }
      }
    })
  ],
  ["breaks ties by slot", "ordering-equivariant", { make: () => plainByKey(({ slot }) => slot) }],
  [
    "breaks ties by the number of the tenant",
    "ordering-equivariant",
    { make: () => plainCounters(usual, { tie: (tenant) => tenant }) }
  ],
  [
    "rounds weights to whole numbers",
    "ordering-weights",
    { make: () => plainTags(usual, { perWeight: (cost, weight) => cost / Math.ceil(weight) }) }
  ],
  [
    "puts a requeued request behind all others",
    "ordering-requeue",
    arrival((queue) => ({ requeue: (request) => void queue.push({ ...request }) }))
  ],
  ["takes any slot, any number of times", "ordering-bounds", { make: () => plainByKey(() => 0) }],
  [
    "serves the newest first",
    "ordering-arrival",
    arrival((queue) => ({ next: () => queue.pop()?.slot ?? -1 }))
  ],
  [
    "puts a requeued request at the end",
    "ordering-arrival",
    arrival((queue) => ({ requeue: (request) => void queue.push({ ...request }) }))
  ]
]

const counters = (parts: Parameters<typeof plainCounters>[1] = {}): FairSubject => ({
  ...fairSubjects["virtual-token-counter"],
  make: (tariff) => plainCounters(tariff, parts)
})

const tags = (parts: Parameters<typeof plainTags>[1] = {}): FairSubject => ({
  ...fairSubjects["start-time-fair"],
  make: (tariff) => plainTags(tariff, parts)
})

const turns = (parts: Parameters<typeof plainTurns>[1] = {}): FairSubject => ({
  ...fairSubjects["deficit-round-robin"],
  make: (tariff) => plainTurns(tariff, parts)
})

const deficits = (parts: Parameters<typeof plainDeficits>[1] = {}): FairSubject => ({
  ...fairSubjects["prefix-fair"],
  make: (tariff) => plainDeficits(tariff, parts)
})

const byArrival: FairSubject = {
  ...fairSubjects["virtual-token-counter"],
  make: () => findOrdering("arrival").make({}, makeRng(1))
}

export const fairnessDefects: ReadonlyArray<Planted<FairSubject>> = [
  ["breaks ties by the number of the tenant", "fair-definition", counters({ tie: (tenant) => tenant })],
  [
    "brings down the counters of those that wait alone",
    "fair-prices",
    counters({
      rebase: (all, waiting) => {
        if (waiting.some((tenant) => all.get(tenant)! < 2 ** 20)) return
        for (const tenant of waiting) all.set(tenant, all.get(tenant)! - 2 ** 20)
      }
    })
  ],
  ["charges no output", "fair-bound", counters({ outputs: 0 })],
  ["does not look at weights", "fair-bound", counters({ perWeight: (cost) => cost })],
  ["gives back twice what a request had paid that found no room", "fair-bound", counters({ refunds: 2 })],
  ["gives nothing back for a request that found no room", "fair-bound", counters({ refunds: 0 })],
  ["moves tags by cost, whatever the weight", "fair-bound", tags({ perWeight: (cost) => cost })],
  ["serves a request in each turn, whatever it costs", "fair-bound", turns({ costOf: () => 1 })],
  ["forgets to raise the counter of who begins to wait", "fair-no-banking", counters({ lift: (own) => own })],
  ["raises no counter of who does not have to wait", "fair-no-banking", counters({ liftAtOnce: false })],
  ["starts everybody at the last own finish tag", "fair-no-banking", tags({ lift: (own) => own })],
  ["keeps the quantum of a tenant that has nothing left", "fair-no-banking", turns({ kept: (rest) => rest })],
  ["gives idle tenants every round", "fair-no-banking", deficits({ cap: (filled) => filled })],
  ["serves by arrival", "fair-jain", byArrival],
  ["serves by arrival", "fair-isolation", byArrival],
  ["serves a request in each turn, whatever it costs", "fair-fluid", turns({ costOf: () => 1 })],
  ["moves tags by cost, whatever the weight", "fair-fluid", tags({ perWeight: (cost) => cost })],
  ["leaves virtual time behind once all have ended", "fair-reserved", tags({ atRest: (time) => time })],
  ["starts everybody at the last own finish tag", "fair-reserved", tags({ lift: (own) => own })]
]

const byKey = (key: (row: Row, options: Readonly<Record<string, number>>) => number): SequencingSubject => ({
  make: (options) => plainByKey((row) => key(row, options as Readonly<Record<string, number>>))
})

export const sequencingDefects: ReadonlyArray<Planted<SequencingSubject>> = [
  [
    "ages with the wrong sign",
    "priority-aging",
    byKey((row, { aging = 0 }) => row.arrivedMs - row.class * aging)
  ],
  ["does not age", "priority-aging", byKey((row) => row.class)],
  [
    "ages with the wrong sign",
    "shortest-aging",
    byKey((row, { aging = 0 }) => row.class * 1e12 + row.promptTokens - (aging / 1000) * row.arrivedMs)
  ],
  ["does not age", "shortest-aging", byKey((row) => row.class * 1e12 + row.promptTokens)],
  ["takes the longest first", "shortest-mean-flow", byKey((row) => -row.promptTokens)],
  ["serves by arrival", "shortest-mean-flow", byKey((row) => row.arrivedMs)],
  ["serves the shortest first", "deadline-feasible", byKey((row) => row.promptTokens)],
  ["takes what is late for most urgent", "deadline-late-last", byKey((row) => row.deadlineMs)]
]

/** A ledger of which some word is misheard. */
const misheard = (
  change: (ledger: TokenLedger) => Partial<ReturnType<LedgerSubject["make"]>>,
  charge: (cost: number) => number = (cost) => cost
): LedgerSubject => ({
  make: (options, pay) => {
    const ledger = new TokenLedger(options, (request, cost) => pay(request, charge(cost)))
    return {
      take: (request, pool) => ledger.take(request, pool),
      place: (request, pool) => ledger.place(request, pool),
      start: (request) => ledger.start(request),
      produce: (request, tokens) => ledger.produce(request, tokens),
      putBack: (request) => ledger.putBack(request),
      end: (request, reason) => ledger.end(request, reason),
      ...change(ledger)
    }
  }
})

export const ledgerDefects: ReadonlyArray<Planted<LedgerSubject>> = [
  [
    "refunds twice",
    "ledger-exact",
    misheard(
      () => ({}),
      (cost) => (cost < 0 ? 2 * cost : cost)
    )
  ],
  [
    "refunds nothing",
    "ledger-exact",
    misheard(
      () => ({}),
      (cost) => Math.max(0, cost)
    )
  ],
  ["keeps what was charged ahead", "ledger-exact", misheard(() => ({ end: () => {} }))],
  [
    "refunds what a tenant cancelled",
    "ledger-exact",
    misheard((ledger) => ({ end: (request) => ledger.end(request, Reason.workerLost) }))
  ],
  [
    "charges a second copy",
    "ledger-exact",
    misheard((ledger) => ({
      place: (request, pool) => {
        ledger.end(request, Reason.cancelled)
        ledger.place(request, pool)
      }
    }))
  ]
]
