import { formatDuration } from "../domain/config/duration.ts"
import type { Decision, DecisionWorker, Explanation, LiveExplanation } from "../domain/Explanation.ts"
import { placements, rivals } from "../policies/registry.ts"
import type { Counterfactual } from "../simulator/explain/explainReplay.ts"
import { aligned } from "../structures/aligned.ts"

/** Why a request went where it went, to be read by people. */
export const explanationText = (explanation: Explanation): string => {
  const { decisions, placement } = explanation
  return [
    ...requestLines(explanation),
    "",
    `Admission: ${admissionText(explanation)}`,
    `Queue: ${queueText(explanation)}`,
    ...decisions.flatMap((decision, i) => ["", ...decisionLines(decision, i + 1, placement)]),
    "",
    `Outcome: ${outcomeText(explanation)}`,
    ...predictionLines(explanation),
    ""
  ].join("\n")
}

/** The same of a running cluster; and of a request that it recorded, how to see what would have become of it elsewhere. */
export const liveExplanationText = (explanation: LiveExplanation): string => {
  const { decisions, id, outcome, placement, recording } = explanation
  const first = decisions.find(({ chosen }) => chosen !== null)
  const text = explanationText(explanation)
  // What goes on is not recorded yet.
  if (recording === null || outcome === null || first === undefined) return text
  const workers = Object.values(first.unlisted).reduce((sum, count) => sum + count, first.workers.length)
  return `${text}
What would have become of it elsewhere, by the recording:
  bun run simulate --trace ${quoted(recording)} --workers ${workers} --policies ${placement.policy} --explain ${id}
`
}

/** As one word of a shell. */
const quoted = (path: string): string =>
  /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`

/** What would have become of it elsewhere; the first row is what did. */
export const counterfactualText = (elsewhere: ReadonlyArray<Counterfactual>): string => {
  if (elsewhere.length === 0) return ""
  const rows = elsewhere.map(
    ({ e2eMs, othersEndedOtherwise, othersTtftMs, outcome, servedBy, ttftMs, worker }, i) => [
      `${worker}${i === 0 ? " *" : ""}`,
      ttftMs === null ? "-" : shown(ttftMs),
      shown(e2eMs),
      i === 0 ? "" : signed(othersTtftMs),
      i === 0 ? "" : shown(othersEndedOtherwise),
      `  ${outcome}${servedBy !== null && servedBy !== worker ? `, served by ${servedBy}` : ""}`
    ]
  )
  const heads = [
    "worker",
    "TTFT ms",
    "E2E ms",
    "mean TTFT of others ms",
    "others ended otherwise",
    "  outcome"
  ]
  const width = Math.max(...[heads, ...rows].map((row) => row.at(-1)!.length))
  return [
    "",
    "The same traffic, with this request placed elsewhere at first:",
    ...aligned([heads, ...rows].map((row) => [...row.slice(0, -1), row.at(-1)!.padEnd(width)])).map(
      (line) => `  ${line}`
    ),
    ""
  ].join("\n")
}

const requestLines = ({ id, request }: Explanation): ReadonlyArray<string> => {
  const { arrivedMs, maxTokens, model, promptTokens, session, tenant, timeoutMs } = request
  return [
    `Request ${id}, ${shown(arrivedMs / 1000)} s after the start`,
    `${shown(promptTokens)} prompt ${promptTokens === 1 ? "token" : "tokens"}, at most ${shown(maxTokens)} to produce within ${shown(timeoutMs / 1000)} s; ` +
      `model ${model}, tenant ${tenant}, class ${request.class}, ${session === null ? "no session" : `session ${session}`}`
  ]
}

const admissionText = ({ admission, refused }: Explanation): string => {
  const verdicts = admission.map(({ policy, verdict }) => `${policy} ${verdictTexts[verdict]}`).join(", ")
  const asked = verdicts === "" ? "nobody is asked" : verdicts
  if (refused === null) return asked
  const { ceiling, reason, retryAfterMs } = refused
  const kept = ceiling < 1 ? `; it might fill ${shown(100 * ceiling)} % of each bound, the rest is kept` : ""
  return `refused with ${reason}, to come back in ${shown(retryAfterMs)} ms; ${asked}${kept}`
}

const verdictTexts = { "let in": "let it in", refused: "refused it", "not asked": "was not asked" } as const

const queueText = ({ outcome, queue, refused }: Explanation): string => {
  if (refused !== null) return "not reached"
  if (queue === null) return "none, it was placed at once"
  const { ahead, placedMeanwhile, policy, waitedMs, why } = queue
  const behind = ahead === 0 ? "nobody else waited" : `${ahead} waited already`
  const waited =
    waitedMs === null
      ? outcome === null
        ? "it waits"
        : "it was never placed"
      : `placed after ${shown(waitedMs)} ms, ${placedMeanwhile} others before it`
  return `${why}, ${behind}; ${waited} (${policy})`
}

const decisionLines = (
  decision: Decision,
  number: number,
  { options, policy: placement, summary, unit }: Explanation["placement"]
): ReadonlyArray<string> => {
  const { actual, afterMs, answers, attempt, chosen, policy, together, unlisted, workers } = decision
  const isPlaced = decision.act.startsWith("picked")
  const settings = Object.entries(options).map(
    ([name, value]) => `${name} ${settingText(placement, name, value)}`
  )
  const title = `Decision ${number}, ${shown(afterMs)} ms after it arrived, for attempt ${attempt}: ${policy}`
  const what =
    chosen === null ? "" : ` ${chosen}${answers === null ? "" : `, with the answer from ${answers}`}`
  const candidates = workers.filter(({ standing }) => standing === "candidate" || standing === "not-compared")
  const others = workers.filter((worker) => !candidates.includes(worker))
  const left = Object.entries(unlisted).map(
    ([standing, count]) => `${count} ${standingTexts[standing] ?? standing}`
  )
  return [
    `${title} ${decision.act}${what}`,
    ...(isPlaced ? [`  ${summary}${settings.length > 0 ? ` (${settings.join(", ")})` : ""}`] : []),
    ...(together > 1
      ? [`  Placed with ${together - 1} others in one go: the cost of it alone did not decide.`]
      : []),
    ...candidateLines(candidates, chosen, unit),
    ...others.map((worker) => `  ${worker.worker}: ${exclusionText(worker)}`),
    ...(left.length > 0 ? [`  Not listed: ${left.join(", ")}`] : []),
    ...marginLines(decision, unit),
    `  What came of it: ${resultTexts[actual.result] ?? actual.result}${actual.ttftMs === null ? "" : ` after ${shown(actual.ttftMs)} ms`}`
  ]
}

/** As a config has it. Of a policy that is not known here, which one of another version is, as it came. */
const settingText = (placement: string, option: string, value: number | boolean | string): string => {
  const entry = [...placements, ...rivals].find(({ name }) => name === placement)
  const isDuration = typeof value === "number" && entry?.options[option]?.kind === "duration"
  return isDuration ? formatDuration(value) : `${value}`
}

const candidateLines = (
  candidates: ReadonlyArray<DecisionWorker>,
  chosen: string | null,
  unit: string
): ReadonlyArray<string> => {
  if (candidates.length === 0) return []
  const names = [...new Set(candidates.flatMap(({ terms }) => Object.keys(terms ?? {})))]
  const isWeighed = names.length > 0
  const heads = [
    "worker",
    "in flight",
    "pending tokens",
    "cached tokens",
    "TTFT ms",
    ...names.map(words),
    ...(isWeighed ? [`sum, ${unit}`] : []),
    ""
  ]
  const rows = candidates.map(
    ({ cachedTokens, cost, inFlight, pendingTokens, standing, terms, ttftMs, worker }) => [
      `${worker}${worker === chosen ? " *" : ""}`,
      shown(inFlight),
      shown(pendingTokens),
      shown(cachedTokens),
      shown(ttftMs),
      ...names.map((name) => (terms?.[name] === undefined ? "" : fine(terms[name]))),
      ...(isWeighed ? [cost === null ? "" : fine(cost)] : []),
      standing === "not-compared" ? "  not compared" : ""
    ]
  )
  return aligned([heads, ...rows]).map((line) => `  ${line}`)
}

const marginLines = ({ runnerUp, tie }: Decision, unit: string): ReadonlyArray<string> => {
  if (runnerUp === null) return []
  return tie === null
    ? [`  The runner-up was ${runnerUp.worker}, by ${fine(runnerUp.margin)} ${unit}.`]
    : [`  A tie with ${runnerUp.worker}. ${tie}.`]
}

/** Why a worker was no candidate. */
const exclusionText = ({ capacity, inFlight, pendingTokens, standing }: DecisionWorker): string => {
  const text = standingTexts[standing] ?? standing
  if (standing === "at-capacity") return `${text}, ${inFlight} of ${capacity} in flight`
  return standing === "pending-tokens" ? `${text}, ${shown(pendingTokens)} of them` : text
}

const standingTexts: Readonly<Record<string, string>> = {
  candidate: "candidates",
  "not-compared": "not compared",
  "not-ready": "not ready",
  starting: "not ready yet",
  suspect: "suspected: its heartbeats are late",
  draining: "draining",
  lost: "lost",
  "wrong-role": "does one part of requests only, and the policy splits none",
  "answers-only": "only produces answers",
  "not-split": "only reads prompts, and this request is not split",
  "at-capacity": "at its capacity",
  "pending-tokens": "as many uncached prompt tokens pending as are allowed",
  "failed-before": "avoided, for it had just failed the request"
}

const resultTexts: Readonly<Record<string, string>> = {
  started: "the first token",
  sent: "sent, no token yet",
  gone: "the worker was gone",
  queued: "back in the queue",
  cancelled: "called off"
}

const outcomeText = ({ outcome, refused }: Explanation): string => {
  if (refused !== null) return `refused with ${refused.reason}`
  if (outcome === null) return "under way"
  const { e2eMs, outputTokens, reason, ttftMs } = outcome
  const first = ttftMs === null ? "no token" : `first token after ${shown(ttftMs)} ms`
  return `${reason} after ${shown(e2eMs)} ms, ${first}, ${shown(outputTokens)} tokens`
}

/** What was predicted where it was served, against what came. */
const predictionLines = ({ decisions, outcome }: Explanation): ReadonlyArray<string> => {
  const served = decisions.findLast(({ actual }) => actual.result === "started")
  if (served?.predicted == null || served.actual.ttftMs === null) return []
  const { predicted } = served
  const at = served.workers.find(({ worker }) => worker === served.chosen)
  const rows = [
    ["", "predicted", "actual"],
    ["from decision to first token, ms", shown(predicted.ttftMs), shown(served.actual.ttftMs)],
    ...(outcome?.reason === "done"
      ? [
          ["output tokens", shown(predicted.outputTokens), shown(outcome.outputTokens)],
          ...(outcome.cachedTokens === null || at === undefined
            ? []
            : [["cached tokens", shown(at.cachedTokens), shown(outcome.cachedTokens)]])
        ]
      : [])
  ]
  return [
    ...aligned(rows).map((line) => `  ${line}`),
    ...(served.answers === null
      ? []
      : [
          `  Predicted is when ${served.chosen} has read the prompt: the hand-over to ${served.answers}, which sends the first token, is not in it.`
        ])
  ]
}

/** `waitingPrompts` as «waiting prompts». */
const words = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)

const shown = (value: number): string =>
  value.toLocaleString("en-US", { maximumFractionDigits: Math.abs(value) < 100 ? 1 : 0 })

const fine = (value: number): string => value.toLocaleString("en-US", fourDigits)
/** What rounds to 0 has no sign. */
const fourDigits = {
  minimumFractionDigits: 4,
  maximumFractionDigits: 4,
  signDisplay: "negative"
} as const

const signed = (value: number): string => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`
