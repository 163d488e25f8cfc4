/*
 * What does a tenant get when another one sends too much?
 *
 * `bun run bench:fairness` · virtual time, seed 1: the same figures on every machine. For two minutes tenants send prompts of
 * 2,000 tokens on average, for answers of 200, with nothing shared, to two workers 8b-h100, which serve some 30 such requests a second. Each
 * case runs under every preset, and under `fair` with a longer queue. The first 20 seconds, in which caches and estimates fill, do not
 * count. Nobody asks again after a refusal.
 */
import { Reason, reasonName } from "../src/domain/Outcome.ts"
import { presets } from "../src/engines/simulated/CostModel.ts"
import { choiceOf, type Preset, pipelines } from "../src/policies/pipelines.ts"
import { generateTraffic } from "../src/simulator/replay/generate.ts"
import { replay } from "../src/simulator/replay/Replay.ts"
import { workloadOf } from "../src/simulator/replay/Workload.ts"
import { isMet, ttftMsOf } from "../src/simulator/report/figuresOf.ts"
import { mean, sum } from "../src/structures/mean.ts"
import { onOff, readFlags } from "./flags.ts"
import { aligned, markdown, type Table } from "./table.ts"

const flags = readFlags({ markdown: onOff("print the table in Markdown") })

const SECONDS = 120
const FROM_MS = 20_000
const WORKERS = 2
const targets = { ttftMs: 5000, tpotMs: 100 }

/** Every preset, and `fair` for callers who wait for long. */
const contenders: ReadonlyArray<readonly [name: string, preset: Preset]> = [
  ...Object.entries(pipelines),
  [
    "fair, maxWait 30 s",
    {
      ...pipelines.fair,
      admission: [{ policy: "queue-bounds", options: { maxWait: 30_000 } }, "kv-headroom"]
    }
  ]
]

/** One who sends requests, under one name or several in turn. */
interface Sender {
  readonly sender: string
  readonly requestsPerSecond: number
  readonly weight?: number
  readonly nameCount?: number
}

const cases: ReadonlyArray<readonly [title: string, senders: ReadonlyArray<Sender>]> = [
  ["small alone", [{ sender: "small", requestsPerSecond: 2 }]],
  ["flood alone", [{ sender: "flood", requestsPerSecond: 150 }]],
  [
    "small beside flood",
    [
      { sender: "small", requestsPerSecond: 2 },
      { sender: "flood", requestsPerSecond: 150 }
    ]
  ],
  [
    "both too much",
    [
      { sender: "one", requestsPerSecond: 30 },
      { sender: "other", requestsPerSecond: 120 }
    ]
  ],
  [
    "weights 3 and 1",
    [
      { sender: "heavy", requestsPerSecond: 60, weight: 3 },
      { sender: "light", requestsPerSecond: 60 }
    ]
  ],
  [
    "ten names",
    [
      { sender: "honest", requestsPerSecond: 60 },
      { sender: "ten names", requestsPerSecond: 60, nameCount: 10 }
    ]
  ]
]

const nameOf = ({ nameCount = 1, sender }: Sender, number: number): string =>
  nameCount === 1 ? sender : `${sender} ${number % nameCount}`

const trafficOf = (sender: Sender, seed: number) => {
  const { header, requests } = generateTraffic({
    seed,
    requests: sender.requestsPerSecond * SECONDS,
    requestsPerSecond: sender.requestsPerSecond,
    promptTokens: { mean: 2000, variation: 1 },
    outputTokens: { mean: 200, variation: 1 }
  })
  return {
    header: { ...header, name: sender.sender },
    requests: requests.map((each, number) => ({ ...each, tenant: nameOf(sender, number) }))
  }
}

/** What became of the requests of each sender. */
const measured = (senders: ReadonlyArray<Sender>, preset: Preset) => {
  const workload = workloadOf(senders.map((sender, i) => trafficOf(sender, i + 1)))
  const senderOf = workload.tenants.map((name) => senders.findIndex(({ sender }) => name.includes(sender)))
  const { outcomes } = replay({
    workload,
    workers: Array.from({ length: WORKERS }, (_, i) => ({ name: `worker-${i}`, preset: presets["8b-h100"] })),
    pipeline: choiceOf(preset),
    seed: 1,
    weightOf: (tenant) => senders.find(({ sender }) => tenant.includes(sender))?.weight ?? 1
  })
  const counts = senders.map(() => ({
    asked: 0,
    inTime: 0,
    tokens: 0,
    ttftMs: new Array<number>(),
    refusals: new Map<string, number>()
  }))
  for (const [number, request] of workload.requests.entries()) {
    if (request.arrivalMs < FROM_MS) continue
    const count = counts[senderOf[request.tenant]!]!
    count.asked++
    const reason = outcomes.reasons[number]!
    if (reason === Reason.none) {
      count.tokens += request.promptTokens + 2 * request.outputTokens
      count.ttftMs.push(ttftMsOf(outcomes, number))
      if (isMet(outcomes, number, request, targets)) count.inTime++
    } else count.refusals.set(reasonName(reason), (count.refusals.get(reasonName(reason)) ?? 0) + 1)
  }
  return counts
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`

const rowsOf = (title: string, senders: ReadonlyArray<Sender>): Table =>
  contenders.flatMap(([name, preset]) => {
    const counts = measured(senders, preset)
    const all = sum(counts.map(({ tokens }) => tokens))
    return counts.map(({ asked, inTime, refusals, tokens, ttftMs }, i) => [
      title,
      name,
      senders[i]!.sender,
      percent(ttftMs.length / asked),
      percent(inTime / asked),
      mean(ttftMs).toFixed(0),
      percent(tokens / all),
      (all / (SECONDS - FROM_MS / 1000) / 1000).toFixed(1),
      [...refusals].toSorted(([, a], [, b]) => b - a)[0]?.[0] ?? ""
    ])
  })

const head = [
  "case",
  "preset",
  "sender",
  "done",
  "in time",
  "TTFT ms",
  "of tokens",
  "all k/s",
  "mostly refused as"
]
const table: Table = [head, ...cases.flatMap(([title, senders]) => rowsOf(title, senders))]
process.stdout.write(`${(flags.markdown ? markdown : aligned)(table, 3)}\n`)
