import { DecisionLog } from "../../actors/DecisionLog.ts"
import { explain } from "../../actors/explain.ts"
import type { Explanation } from "../../domain/Explanation.ts"
import { Reason, reasonName } from "../../domain/Outcome.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { assert } from "../../structures/assert.ts"
import { type Outcomes, replay, type ReplayOptions } from "../replay/Replay.ts"
import { ttftMsOf } from "../report/figuresOf.ts"
import { forced } from "./forced.ts"

/** What would have become of the request, and of the others, had it been placed elsewhere at first. Times in ms. */
export interface Counterfactual {
  readonly worker: string
  /** Where the answer came from in the end: a rescue may have acted. Null where there was none. */
  readonly servedBy: string | null
  readonly outcome: string
  /** Since its arrival; null where it never came so far. */
  readonly ttftMs: number | null
  readonly e2eMs: number
  /** By how much the mean TTFT of all others is larger than it was, of those that were done both times; and how many others ended otherwise. */
  readonly othersTtftMs: number
  readonly othersEndedOtherwise: number
}

export interface ReplayExplanation {
  readonly explanation: Explanation
  /** Of where it was placed, and of every other worker that was a candidate. */
  readonly elsewhere: ReadonlyArray<Counterfactual>
}

/** One replay that is done. */
export interface ExplainProgress {
  readonly done: number
  readonly total: number
}

/** More than anything does to one request. */
const KEPT = 100

/**
 * Explains what was decided about the request of this number in a replay, from 0 on; and replays the same with the request forced onto each
 * other worker that was a candidate when it was first placed, everything else decided anew. Says after each replay how far it is.
 */
export function* explainReplay(
  options: ReplayOptions,
  number: number
): Generator<ExplainProgress, ReplayExplanation> {
  const { pipeline, workers, workload } = options
  const request = workload.requests[number]
  assert(request !== undefined, "the request is one of the workload")
  const { high, low } = request.id ?? { high: 0, low: number + 1 }
  const isMeant = ({ idHigh, idLow }: RequestView): boolean => idHigh === high && idLow === low
  let log: DecisionLog | undefined
  const { outcomes } = replay({
    ...options,
    decisions: (stateOf) =>
      (log = new DecisionLog({ kept: KEPT, listedMax: workers.length, about: isMeant, stateOf }))
  })
  const explanation = explain(log!, high, low, {
    workerOf: (worker) => workers[worker]!.name,
    tenantOf: (tenant) => workload.tenants[tenant]!,
    modelOf: () => workload.name,
    choice: pipeline,
    startedMs: 0
  })
  assert(explanation !== undefined, "what was replayed was decided")
  const first = explanation.decisions.find(({ chosen }) => chosen !== null)
  const others =
    first === undefined
      ? []
      : first.workers.filter(
          ({ standing, worker }) =>
            worker !== first.chosen && (standing === "candidate" || standing === "not-compared")
        )
  const slots = new Map(workers.map(({ name }, slot) => [name, slot]))
  const whole = others
    .map(({ worker }) => slots.get(worker)!)
    .filter((slot) => (workers[slot]!.role ?? "both") === "both")
  const total = 1 + whole.length
  yield { done: 1, total }
  const elsewhere: Array<Counterfactual> = []
  if (first !== undefined)
    elsewhere.push(counterfactual(options, number, slots.get(first.chosen!)!, outcomes, outcomes))
  for (const [i, slot] of whole.entries()) {
    const other = replay({ ...options, adapted: (made) => forced(made, isMeant, slot) })
    elsewhere.push(counterfactual(options, number, slot, outcomes, other.outcomes))
    yield { done: 2 + i, total }
  }
  return { explanation, elsewhere }
}

const counterfactual = (
  { workers }: ReplayOptions,
  number: number,
  slot: number,
  before: Outcomes,
  after: Outcomes
): Counterfactual => {
  const ttftMs = ttftMsOf(after, number)
  const reason = after.reasons[number]!
  const servedBy = after.workers[number]!
  let count = 0
  let changeMs = 0
  let othersEndedOtherwise = 0
  for (let i = 0; i < before.reasons.length; i++) {
    if (i === number) continue
    if (before.reasons[i] !== after.reasons[i]) othersEndedOtherwise++
    else if (after.reasons[i] === Reason.none) {
      count++
      changeMs += ttftMsOf(after, i) - ttftMsOf(before, i)
    }
  }
  return {
    worker: workers[slot]!.name,
    servedBy: Number.isNaN(ttftMs) || servedBy < 0 ? null : workers[servedBy]!.name,
    outcome: reason === Reason.none ? "done" : reasonName(reason),
    ttftMs: Number.isNaN(ttftMs) ? null : ttftMs,
    e2eMs: after.endedMs[number]! - after.arrivedMs[number]!,
    othersTtftMs: count === 0 ? 0 : changeMs / count,
    othersEndedOtherwise
  }
}
