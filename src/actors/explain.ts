import type { Decision, DecisionWorker, Explanation } from "../domain/Explanation.ts"
import { reasonName } from "../domain/Outcome.ts"
import type { PipelineChoice } from "../policies/pipelines.ts"
import { findPlacement } from "../policies/registry.ts"
import { hex64 } from "../structures/hex64.ts"
import { type DecisionLog, type Note, type SeenWorker, standings } from "./DecisionLog.ts"

/** What numbers stand for. */
export interface Naming {
  readonly workerOf: (worker: number) => string
  readonly tenantOf: (tenant: number) => string
  readonly modelOf: (model: number) => string
  readonly choice: PipelineChoice
  /** What times are counted from. */
  readonly startedMs: number
}

type Choosing = Extract<Note, { readonly producer: unknown }>
type Arrival = Extract<Note, { readonly request: unknown }>

const isArrival = (note: Note): note is Arrival => note.act === "refused" || note.act === "admitted"
const isChoosing = (note: Note): note is Choosing => "producer" in note
const isPlacing = (note: Note): note is Choosing => note.act === "picked" || note.act === "pickedTogether"

/** Sums of the same terms in another order differ by less than this share. */
const ROUNDING = 1e-9

/**
 * Why the request of this id went where it went, from what is kept of it; undefined where that is nothing, or its beginning was forgotten.
 * Of an id that came several times the last.
 */
export const explain = (
  log: DecisionLog,
  idHigh: number,
  idLow: number,
  naming: Naming
): Explanation | undefined => {
  const all = log.about(idHigh, idLow)
  const latest = all.findLast(isArrival)
  if (latest === undefined) return undefined
  // A core that started anew may have let it in once more.
  const first = all.findIndex(
    (note) => isArrival(note) && note.request.arrivedMs === latest.request.arrivedMs
  )
  const notes = all.slice(first)
  const arrival = notes[0] as Arrival
  const { request } = arrival
  const { choice, modelOf, startedMs, tenantOf } = naming
  const { arrivedMs, deadlineMs, sessionHigh, sessionLow } = request
  const entry = findPlacement(choice.placement.policy)
  return {
    id: hex64(idHigh, idLow),
    request: {
      model: modelOf(request.model),
      tenant: tenantOf(request.tenant),
      class: request.class,
      promptTokens: request.promptTokens,
      maxTokens: request.maxTokens,
      session: sessionHigh === 0 && sessionLow === 0 ? null : hex64(sessionHigh, sessionLow),
      arrivedMs: arrivedMs - startedMs,
      timeoutMs: deadlineMs - arrivedMs
    },
    admission: verdictsOf(arrival, choice),
    refused:
      arrival.act === "refused"
        ? { reason: reasonName(arrival.reason), retryAfterMs: arrival.retryAfterMs, ceiling: arrival.ceiling }
        : null,
    queue: queueOf(arrival, notes, choice),
    placement: {
      policy: entry.name,
      options: Object.fromEntries(
        Object.entries(entry.options).map(([name, spec]) => [
          name,
          choice.placement.options[name] ?? spec.default
        ])
      ),
      summary: entry.summary,
      definition: entry.definition,
      unit: entry.unit ?? "seconds"
    },
    decisions: notes.flatMap((note, i) =>
      isChoosing(note) ? [decisionOf(note, notes.slice(i + 1), arrivedMs, naming)] : []
    ),
    outcome: outcomeOf(notes, arrivedMs)
  }
}

const verdictsOf = (arrival: Arrival, { admission }: PipelineChoice): Explanation["admission"] => {
  const { length } = admission
  // None where no policy refused it: then none was asked.
  const refuser = arrival.act === "admitted" ? length : arrival.by === 0 ? -1 : length - arrival.by
  return admission.map(({ policy }, i) => ({
    policy,
    verdict: i < refuser ? "let in" : i === refuser ? "refused" : "not asked"
  }))
}

const queueOf = (
  arrival: Arrival,
  notes: ReadonlyArray<Note>,
  { batching, ordering }: PipelineChoice
): Explanation["queue"] => {
  if (arrival.act === "refused" || (arrival.hadRoom && arrival.queued === 0 && !arrival.joint)) return null
  const { atMs, hadRoom, picks, queued } = arrival
  const picked = notes.find(isPlacing)
  const isJoint = hadRoom && queued === 0
  return {
    why: !hadRoom
      ? "no worker had room"
      : isJoint
        ? "it is placed together with others"
        : "others were waiting",
    policy: isJoint ? batching.policy : ordering.policy,
    ahead: queued,
    waitedMs: picked === undefined ? null : picked.atMs - atMs,
    placedMeanwhile: picked === undefined ? null : picked.picks - picks - 1
  }
}

const decisionOf = (
  note: Choosing,
  later: ReadonlyArray<Note>,
  arrivedMs: number,
  { choice, workerOf }: Naming
): Decision => {
  const { act, atMs, attempt, number, outputTokens, producer, worker } = note
  const isPlaced = isPlacing(note)
  const seen = note.workers.toSorted(compareSeen)
  const chosen = seen.find((each) => each.worker === worker)
  const isWeighed = act === "picked" && chosen?.terms !== undefined
  const runnerUp = isWeighed
    ? seen.find((each) => each.standing === "candidate" && each.worker !== worker)
    : undefined
  const margin = runnerUp === undefined ? 0 : marginOf(chosen!, runnerUp)
  const unlisted = later[0]?.act === "unlisted" ? later[0].counts : []
  return {
    afterMs: atMs - arrivedMs,
    act: act === "pickedTogether" ? "picked together" : act,
    policy: isPlaced ? choice.placement.policy : (choice.rescue[number]?.policy ?? "rescue"),
    attempt,
    together: act === "pickedTogether" ? number : 1,
    chosen: worker < 0 ? null : workerOf(worker),
    answers: producer < 0 ? null : workerOf(producer),
    workers: seen.map((each) => named(each, workerOf)),
    unlisted: Object.fromEntries(
      standings.flatMap((standing, i) => ((unlisted[i] ?? 0) > 0 ? [[standing, unlisted[i]!]] : []))
    ),
    runnerUp: runnerUp === undefined ? null : { worker: workerOf(runnerUp.worker), margin },
    tie: runnerUp !== undefined && margin === 0 ? tieRule(choice.placement.policy) : null,
    predicted: chosen === undefined ? null : { ttftMs: chosen.ttftMs, outputTokens },
    actual: actualOf(note, later)
  }
}

const named = (
  { standing, terms, worker, ...seen }: SeenWorker,
  workerOf: Naming["workerOf"]
): DecisionWorker => ({
  worker: workerOf(worker),
  standing,
  ...seen,
  terms: terms ?? null,
  cost: terms === undefined ? null : costOf(terms)
})

const costOf = (terms: Readonly<Record<string, number>>): number =>
  Object.values(terms).reduce((sum, term) => sum + term, 0)

/** Candidates before others, by cost or else as they came. */
const compareSeen = (a: SeenWorker, b: SeenWorker): number =>
  standings.indexOf(a.standing) - standings.indexOf(b.standing) ||
  (a.terms === undefined || b.terms === undefined ? 0 : costOf(a.terms) - costOf(b.terms))

/** 0 where the costs differ by no more than their sums may. */
const marginOf = (chosen: SeenWorker, runnerUp: SeenWorker): number => {
  const [least, next] = [costOf(chosen.terms!), costOf(runnerUp.terms!)]
  return Math.abs(next - least) <= ROUNDING * Math.max(least, next) ? 0 : next - least
}

/** What the definition of a policy says of ties. */
const tieRule = (policy: string): string =>
  /[^.:;]*\b[Tt]ies\b[^.]*/.exec(findPlacement(policy).definition)?.[0].trim() ?? "not stated"

const actualOf = (note: Choosing, later: ReadonlyArray<Note>): Decision["actual"] => {
  if (note.worker < 0) return { result: note.act === "requeued" ? "queued" : "no room", ttftMs: null }
  for (const next of later) {
    const isHere = "worker" in next && (next.worker === note.worker || next.worker === note.producer)
    if (next.act === "started" && isHere) return { result: "started", ttftMs: next.atMs - note.atMs }
    if (next.act === "released" && isHere) return { result: reasonName(next.reason), ttftMs: null }
    if (isChoosing(next) && next.attempt === note.attempt) return { result: "gone", ttftMs: null }
    if (next.act === "ended") return { result: "cancelled", ttftMs: null }
  }
  return { result: "sent", ttftMs: null }
}

const outcomeOf = (notes: ReadonlyArray<Note>, arrivedMs: number): Explanation["outcome"] => {
  const ended = notes.findLast((note) => note.act === "ended")
  if (ended === undefined) return null
  // A core that started anew has noted it once more.
  const started = notes.find((note) => note.act === "started")
  const { atMs, cachedTokens, outputTokens, reason } = ended
  return {
    reason: reason === 0 ? "done" : reasonName(reason),
    ttftMs: started === undefined ? null : started.atMs - arrivedMs,
    e2eMs: atMs - arrivedMs,
    outputTokens,
    cachedTokens: reason === 0 && !Number.isNaN(cachedTokens) ? cachedTokens : null
  }
}
