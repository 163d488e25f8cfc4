import type { BalancerSnapshot, WorkerSnapshot } from "../domain/Snapshot.ts"
import { aligned } from "../structures/aligned.ts"

/** What the balancer at `address` does now, on one screen, to be read by people. */
export const statusText = (balancer: string, address: string, snapshot: BalancerSnapshot): string => {
  const { accepted, cancelled, done, expired, failed, inFlight, models, queued, rejected } = snapshot
  const workers = snapshot.workers.toSorted((a, b) => byName.compare(a.name, b.name))
  const modelRows = models.map((model) => [model.name, shown(model.inFlight), shown(model.queued)])
  return [
    `${balancer} at ${address}: up ${lasting(snapshot.uptimeMs)}`,
    `${shown(accepted)} accepted: ${shown(done)} done, ${shown(failed)} failed, ${shown(cancelled)} cancelled, ${shown(expired)} expired, ` +
      `${shown(inFlight)} in flight, ${shown(queued)} queued; ${shown(rejected)} rejected`,
    "",
    ...aligned([["model", "in flight", "queued"], ...modelRows], "  "),
    "",
    ...aligned([workerHeads, ...workers.map(workerRow)], "  ", 4),
    ""
  ].join("\n")
}

/** sim-2 before sim-10. */
const byName = new Intl.Collator("en", { numeric: true })

const workerHeads = [
  "worker",
  "models",
  "role",
  "state",
  "in flight",
  "running",
  "waiting",
  "KV used",
  "speed"
]

const workerRow = ({
  capacity,
  inFlight,
  load,
  models,
  name,
  role,
  speed,
  state
}: WorkerSnapshot): ReadonlyArray<string> => {
  const { kvCapacityTokens, kvUsedTokens, running, waiting } = load
  return [
    name,
    models.join(", "),
    role,
    state,
    `${shown(inFlight)} of ${shown(capacity)}`,
    shown(running),
    shown(waiting),
    kvCapacityTokens === 0 ? "-" : `${((100 * kvUsedTokens) / kvCapacityTokens).toFixed(0)} %`,
    speed.toFixed(2)
  ]
}

/** In the largest unit of which there are two, rounded down. */
const lasting = (ms: number): string => {
  const [unit, unitMs] = units.find(([, size]) => ms >= 2 * size) ?? ["s", 1000]
  return `${shown(Math.floor(ms / unitMs))} ${unit}`
}
const units = [
  ["days", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000]
] as const

const shown = (count: number): string => count.toLocaleString("en-US")
