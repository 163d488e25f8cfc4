import type { BalancerSnapshot } from "../../domain/Snapshot.ts"
import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import { sum } from "../../structures/mean.ts"
import type { Figures } from "./Tally.ts"

/** What we count from the answers, and what the workers call it. */
const counters = {
  requestsDone: "requestsDone",
  outputTokens: "outputTokens",
  promptTokens: "promptTokens",
  cachedTokens: "cachedPromptTokens"
} as const satisfies Readonly<Record<string, keyof WorkerLoad>>

type Counter = keyof typeof counters

const names = Object.keys(counters) as ReadonlyArray<Counter>

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
  /** Attempts that did not end in an answer: rescued, retried, called off or failed. Workers count what they did for these too. */
  readonly abandoned: number
  /** By how much more workers did, where such attempts may be why. */
  readonly surplus: ReadonlyArray<Difference>
  /** Workers that went, or came anew: what they had counted went with them, so only what is too much can be told. */
  readonly lost: ReadonlyArray<string>
}

/** A snapshot without the workers that were gone in the first one: a balancer shows them for a while. Those that have come back are there. */
export const without = (first: BalancerSnapshot, snapshot: BalancerSnapshot): BalancerSnapshot => {
  const gone = new Map(
    first.workers.flatMap(({ incarnation, name, state }) => (state === "lost" ? [[name, incarnation]] : []))
  )
  const workers = snapshot.workers.filter(({ incarnation, name }) => gone.get(name) !== incarnation)
  return { ...snapshot, workers }
}

/** Compares what the answers tell with what the workers counted between two snapshots, worker by worker and counter by counter. */
export const agreement = (figures: Figures, before: BalancerSnapshot, after: BalancerSnapshot): Agreement => {
  const abandoned = attemptsAbandoned(after) - attemptsAbandoned(before)
  const workers = new Set([
    ...Object.keys(figures.workers),
    ...[before, after].flatMap((snapshot) => snapshot.workers.map(({ name }) => name))
  ])
  const lost = new Set<string>()
  const apart = [...workers].flatMap((worker) => {
    const [old, now] = [before, after].map((snapshot) => snapshot.workers.find(({ name }) => name === worker))
    const isAnew = old?.incarnation !== now?.incarnation
    const isGone = now === undefined || now.state === "lost" || now.state === "stopped"
    if (old !== undefined && (isAnew || isGone)) lost.add(worker)
    return names.flatMap((counter): ReadonlyArray<Difference> => {
      const name = counters[counter]
      const ours = figures.workers[worker]?.[counter] ?? 0
      const theirs = (now?.load[name] ?? 0) - (isAnew ? 0 : (old?.load[name] ?? 0))
      return ours === theirs || (lost.has(worker) && theirs < ours) ? [] : [{ worker, counter, ours, theirs }]
    })
  })
  const isExplained = ({ ours, theirs }: Difference): boolean => theirs > ours && abandoned > 0
  const differences = apart.filter((each) => !isExplained(each))
  return {
    equal: differences.length === 0,
    differences,
    abandoned,
    surplus: apart.filter(isExplained),
    lost: [...lost]
  }
}

const attemptsAbandoned = ({ cancelled, expired, failed, rescues, retries }: BalancerSnapshot): number =>
  retries + failed + cancelled + expired + sum(Object.values(rescues))
