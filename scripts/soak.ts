/*
 * Does a live cluster lose anything while its parts fail, for as long as one likes?
 *
 * `bun run soak` · a balancer and workers in processes of their own, as `bun run cluster` starts them, under requests that share prompts; some
 * are called off or due too soon, more come at times than can be served, and clients leave in the midst of answers. Meanwhile workers are
 * killed, stopped for up to 3 s and drained, and the balancer actor crashes. Every 20 s all come to an end, and what must hold is
 * looked at: each request ended once, and for a reason that there was; no token is missing or repeated; the balancer counts what clients
 * saw; nothing is in flight, queued or charged; every worker is back. In the end the cluster stops in order, and no process is left. One
 * line a round; exit code 1 with all that did not hold. The seed decides what befalls whom and when; the machine's clock has its part.
 */
import { oneOf, readFlags, whole } from "../bench/flags.ts"
import { residentBytesOf } from "../bench/hop/process.ts"
import { type Client, connect, connectAdmin, type Ending, type Generation } from "../src/client/index.ts"
import type { BalancerSnapshot } from "../src/domain/Snapshot.ts"
import { pipelines } from "../src/policies/pipelines.ts"
import { systemTimers } from "../src/protocol/Timers.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { ClusterProcess, eventually } from "../test/support/ClusterProcess.ts"
import { elapse } from "../test/support/elapse.ts"

const presets = Object.keys(pipelines)
const { minutes, preset, rate, seed, workers } = readFlags({
  minutes: whole("how long, in minutes", 10),
  rate: whole("requests a second, but for bursts", 60),
  workers: whole("worker processes", 4),
  preset: oneOf(`pipeline: one of ${presets.join(", ")}`, presets, "default"),
  seed: whole("seed of requests and faults", 1, 0)
})

const ROUND_MS = 20_000
/** Between two faults, on average. */
const FAULT_MS = 2_000
/** A balancer that crashes more often is given up, and the cluster with it. */
const CRASH_MS = 10_000
const STOPPED_MS = [300, 1_500, 3_000] as const
/** Until what was asked for must have ended. */
const SETTLED_MS = 30_000
const BURST = 300
const TOKENS_MAX = 60
/** Attempts of a request, by default. */
const ATTEMPTS_MAX = 3
const rng = makeRng(seed)

/** What was asked for, and what was seen of it. */
interface Seen {
  readonly maxTokens: number
  readonly isCancelled: boolean
  readonly isHurried: boolean
  readonly indices: ReadonlyArray<number>
  readonly ending: Ending
}

/** What should not be with one request; undefined where all is well. */
const faultOf = ({ ending, indices, isCancelled, isHurried, maxTokens }: Seen): string | undefined => {
  const told = `${JSON.stringify(ending)} after ${indices.length} tokens`
  if (indices.some((index, i) => index !== i)) return `tokens out of order: ${indices.join(" ")}`
  const given =
    ending.outcome === "done" ? ending.tokens : ending.outcome === "rejected" ? 0 : ending.delivered
  // Who calls off lets go what it has not read.
  if (!isCancelled && given !== indices.length) return `tokens are missing: ${told}`
  switch (ending.outcome) {
    case "done":
      return given === maxTokens ? undefined : `cut short: ${told}`
    case "rejected":
      return undefined
    case "cancelled":
      return isCancelled ? undefined : `called off by nobody: ${told}`
    case "expired":
      return isHurried ? undefined : `had no deadline: ${told}`
    case "error": {
      // What has begun may be lost with its worker; all else is tried again, as often as is allowed.
      const mayBe = ending.reason === "worker_lost" || ending.reason === "draining"
      return mayBe && (given > 0 || ending.attempts >= ATTEMPTS_MAX) ? undefined : `failed: ${told}`
    }
  }
}

const consume = async (generation: Generation): Promise<ReadonlyArray<number>> => {
  const indices: Array<number> = []
  for await (const { count, index } of generation) for (let i = 0; i < count; i++) indices.push(index + i)
  return indices
}

const ask = async (client: Client): Promise<Seen> => {
  const maxTokens = 1 + rng.int(TOKENS_MAX)
  const isCancelled = rng.int(10) === 0
  const isHurried = rng.int(10) === 0
  const generation = client.generate({
    prompt: `text ${rng.int(20)} `.repeat(1 + rng.int(1_000)) + `question ${rng.int(1e9)}`,
    maxTokens,
    ...(isHurried ? { timeoutMs: 1 + rng.int(1_000) } : {})
  })
  if (isCancelled) systemTimers.after(rng.int(1_500), () => generation.cancel())
  const indices = await consume(generation)
  return { maxTokens, isCancelled, isHurried, indices, ending: await generation.ended }
}

/** What must hold of the balancer once all has ended; `left` requests were left by their client. */
const faultsIn = (
  state: BalancerSnapshot,
  endings: ReadonlyMap<string, number>,
  left: number
): ReadonlyArray<string> => {
  const { accepted, cancelled, done, expired, failed, inFlight, queued } = state
  const seen = endings.get("done") ?? 0
  return [
    ...(inFlight + queued === 0 ? [] : [`${inFlight} in flight and ${queued} queued when all had ended`]),
    ...(accepted === done + failed + cancelled + expired ? [] : [`accepted ${accepted}, ended otherwise`]),
    ...(done >= seen && done <= seen + left ? [] : [`${done} done by its count, ${seen} by that of clients`]),
    ...state.workers
      .filter((worker) => worker.inFlight !== 0)
      .map(({ inFlight: charged, name }) => `${charged} charged to ${name} when all had ended`)
  ]
}

const faults: Array<string> = []
const befallen = new Map<string, number>()
const endings = new Map<string, number>()
const count = (counts: Map<string, number>, what: string): void =>
  void counts.set(what, (counts.get(what) ?? 0) + 1)
const text = (counts: ReadonlyMap<string, number>): string =>
  [...counts].map(([what, times]) => `${times} ${what}`).join(", ")

const cluster = await ClusterProcess.start(["--workers", `${workers}`], {
  PARALLAX_PIPELINE_PRESET: preset,
  PARALLAX_FAULTS_ENABLED: "true",
  PARALLAX_MODELS_0_ENGINE_TIME_SCALE: "4"
})
const { pid, tcp: address } = cluster.ready
const client = await connect({ address })
const admin = await connectAdmin({ address })
const isUp = (): boolean => cluster.child.exitCode === null && cluster.child.signalCode === null
let left = 0

const signal = (worker: number | undefined, name: NodeJS.Signals): void => {
  try {
    if (worker !== undefined) process.kill(worker, name)
  } catch {
    // It has ended meanwhile.
  }
}

/** One client asks, and is gone before it has its answers. */
const leave = async (): Promise<void> => {
  const leaver = await connect({ address })
  const asked = Array.from({ length: 20 }, () => ask(leaver))
  left += asked.length
  await elapse(rng.int(1_000))
  await leaver.close()
  await Promise.all(asked)
}

let crashedMs = Number.NEGATIVE_INFINITY
const befall = async (): Promise<void> => {
  const nowMs = systemTimers.nowMs()
  const drawn = ["kill", "stop", "drain", "crash", "leave"][rng.int(5)]!
  const what = drawn === "crash" && nowMs - crashedMs < CRASH_MS ? "kill" : drawn
  if (what === "crash") crashedMs = nowMs
  count(befallen, what)
  const pids = cluster.workerPids()
  const worker = pids[rng.int(pids.length)]
  if (what === "kill") signal(worker, "SIGKILL")
  else if (what === "crash") await admin.crashBalancer()
  else if (what === "leave") await leave()
  else if (what === "drain") {
    const { name } = (await admin.snapshot()).workers[rng.int(workers)] ?? { name: "sim-0" }
    // Who is gone cannot be drained.
    await admin.drainWorker(name).catch(() => undefined)
  } else {
    signal(worker, "SIGSTOP")
    await elapse(STOPPED_MS[rng.int(STOPPED_MS.length)]!)
    signal(worker, "SIGCONT")
  }
}

const round = async (): Promise<void> => {
  const untilMs = systemTimers.nowMs() + ROUND_MS
  const under: Array<Promise<unknown>> = []
  const asked: Array<Promise<Seen>> = []
  let faultMs = systemTimers.nowMs()
  while (systemTimers.nowMs() < untilMs && isUp()) {
    const isBurst = rng.int(rate * 10) === 0
    for (let i = 0; i < (isBurst ? BURST : 1); i++) asked.push(ask(client))
    if (systemTimers.nowMs() >= faultMs) {
      under.push(befall().catch((cause: unknown) => faults.push(String(cause))))
      faultMs += 2 * FAULT_MS * rng.next()
    }
    await elapse(1_000 / rate)
  }
  await Promise.all(under)
  const ended: Array<Seen> = []
  const all = Promise.all(asked.map(async (seen) => ended.push(await seen)))
  await Promise.race([all, elapse(SETTLED_MS)])
  if (ended.length < asked.length) faults.push(`${asked.length - ended.length} requests did not end`)
  for (const seen of ended) {
    count(endings, seen.ending.outcome)
    const fault = faultOf(seen)
    if (fault !== undefined) faults.push(fault)
  }
  // What it said is told in the end.
  if (!isUp()) return void faults.push("the cluster ended by itself")
  const quiet = async () => {
    const state = await admin.snapshot()
    const ready = state.workers.filter((worker) => worker.state === "ready")
    return ready.length === workers && faultsIn(state, endings, left).length === 0 ? state : undefined
  }
  await eventually("that all is quiet", quiet).catch(async () => {
    const state = await admin.snapshot()
    const states = state.workers.map(({ name, state: of }) => `${name} ${of}`).join(", ")
    faults.push(...faultsIn(state, endings, left), `not quiet after 30 s: ${states}`)
  })
  if (client.protocolViolations > 0) faults.push(`${client.protocolViolations} violations of the protocol`)
}

const rounds = Math.ceil((minutes * 60_000) / ROUND_MS)
console.log(`seed ${seed}, preset ${preset}, ${workers} workers, ${rate} requests/s, ${minutes} minutes`)
for (let i = 1; i <= rounds && faults.length === 0; i++) {
  await round()
  if (!isUp()) break
  const megabytes = (residentBytesOf(pid) / 1e6).toFixed(0)
  console.log(
    `round ${i}/${rounds}: ${text(endings)}; ${text(befallen)}; ${left} left by clients; ${megabytes} MB`
  )
}
const last = isUp() ? cluster.workerPids() : []
await admin.close()
await client.close()
const exitCode = await cluster.stop()
if (exitCode !== 0) faults.push(`the cluster ended with ${exitCode}: ${await cluster.errors}`)
const isAlive = (worker: number): boolean => {
  try {
    return process.kill(worker, 0)
  } catch {
    return false
  }
}
if (last.some(isAlive)) faults.push("processes of workers are left over")
for (const fault of faults) console.log(fault)
if (faults.length > 0) {
  console.log(
    `failed: bun run soak --minutes ${minutes} --rate ${rate} --workers ${workers} --preset ${preset} --seed ${seed}`
  )
  process.exit(1)
}
console.log("all of it held")
process.exit(0)
