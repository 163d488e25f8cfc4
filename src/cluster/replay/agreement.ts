import type { BalancerSnapshot } from "../../domain/Snapshot.ts"
import type { Figures, WorkerWork } from "./Tally.ts"

const counters = ["requestsDone", "outputTokens", "promptTokens", "cachedTokens"] as const
type Counter = (typeof counters)[number]

export interface Difference {
  readonly worker: string
  readonly counter: Counter
  /** By the answers that reached us, and by the worker's own count. */
  readonly ours: number
  readonly theirs: number
}

/** Whether what the client saw is what the workers say they did. */
export interface Agreement {
  readonly equal: boolean
  readonly differences: ReadonlyArray<Difference>
}

/** What each worker did between two snapshots, by its own count. One that was started anew in between began at zero. */
export const workDone = (
  before: BalancerSnapshot,
  after: BalancerSnapshot
): Readonly<Record<string, WorkerWork>> =>
  Object.fromEntries(
    after.workers.map(({ name, incarnation, load }) => {
      const old = before.workers.find(
        (worker) => worker.name === name && worker.incarnation === incarnation
      )?.load
      return [
        name,
        {
          requestsDone: load.requestsDone - (old?.requestsDone ?? 0),
          outputTokens: load.outputTokens - (old?.outputTokens ?? 0),
          promptTokens: load.promptTokens - (old?.promptTokens ?? 0),
          cachedTokens: load.cachedPromptTokens - (old?.cachedPromptTokens ?? 0)
        }
      ]
    })
  )

/** Compares both counts, worker by worker and counter by counter. */
export const agreement = (figures: Figures, theirs: Readonly<Record<string, WorkerWork>>): Agreement => {
  const names = new Set([...Object.keys(figures.workers), ...Object.keys(theirs)])
  const differences = [...names].flatMap((worker) =>
    counters.flatMap((counter): ReadonlyArray<Difference> => {
      const [our, their] = [figures.workers[worker]?.[counter] ?? 0, theirs[worker]?.[counter] ?? 0]
      return our === their ? [] : [{ worker, counter, ours: our, theirs: their }]
    })
  )
  return { equal: differences.length === 0, differences }
}
