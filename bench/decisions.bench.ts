/*
 * What does it cost to keep account of decisions, so that each can be explained?
 *
 * `bun run bench:decisions` · one core, seed 1. A request's way through one pool of the default pipeline: let in, picked for, charged,
 * started, ended; 4 N of them in flight, with prompts of 64 blocks of which 8 workers each hold a part. With the account and without take turns,
 * nine rounds of them, and each figure is that of the quietest round.
 */
import { BalancerPool } from "../src/actors/BalancerPool.ts"
import { DecisionLog } from "../src/actors/DecisionLog.ts"
import { Charge, WorkerTable } from "../src/actors/WorkerTable.ts"
import { Reason } from "../src/domain/Outcome.ts"
import { choiceOf, makePipeline, pipelines } from "../src/policies/pipelines.ts"
import { PrefixIndex } from "../src/structures/PrefixIndex.ts"
import { makeRng } from "../src/structures/Rng.ts"
import { json, readFlags } from "./flags.ts"
import { machine, machineText } from "./machine.ts"
import { benchRequests, BLOCK_TOKENS, familyChains, joinWorkers, REQUESTS } from "./pool.ts"

const flags = readFlags({ json })

const workerCounts = [4, 64, 1000]
const placements = ["predicted-completion", "power-of-two"]
const KEPT = 4096
const BLOCKS = 64
const ROUNDS = 9

const chains = familyChains(BLOCKS)
const requests = benchRequests(chains, BLOCKS, BLOCKS * BLOCK_TOKENS + 100)

/** A pool through which one request after the other goes. */
class Life {
  private readonly pool: BalancerPool
  private readonly workers: WorkerTable
  private readonly charges: Array<Charge>
  private readonly picked: Int32Array
  private count = 0

  constructor(placement: string, workerCount: number, decisions: DecisionLog | undefined) {
    this.workers = new WorkerTable(workerCount)
    const prefixes = new PrefixIndex({ workersMax: workerCount, bytesMax: 2 ** 28 })
    const choice = { ...choiceOf(pipelines.default), placement: { policy: placement, options: {} } }
    const policies = makePipeline(choice, makeRng(1))
    const { workers } = this
    this.pool = new BalancerPool({ workers, policies, prefixes, blockTokens: BLOCK_TOKENS, decisions })
    this.charges = Array.from({ length: 4 * workerCount }, () => new Charge())
    this.picked = new Int32Array(this.charges.length)
    joinWorkers(workers, workerCount, prefixes, chains, (worker) => {
      this.pool.members.push(worker)
      this.pool.setReady(worker, true, 0)
    })
  }

  /** The next request; the one that has been there for longest ends. Returns how long deciding on it took, in ns. */
  step(): number {
    const { charges, picked, pool, workers } = this
    const nowMs = this.count / 10
    const at = this.count++ % charges.length
    const request = requests[this.count % REQUESTS]!
    const charge = charges[at]!
    const startNs = Bun.nanoseconds()
    if (charge.worker >= 0) {
      const ended = requests[(this.count - charges.length + REQUESTS * charges.length) % REQUESTS]!
      workers.release(charge)
      pool.refresh(picked[at]!)
      pool.tellReleased(ended, picked[at]!, Reason.none, nowMs)
      pool.tellEnded(ended, Reason.none, nowMs)
    }
    pool.unmatch()
    pool.tellAdmitted(request, nowMs)
    const worker = pool.pick(request, -1, nowMs)
    picked[at] = worker
    const cached = pool.cachedTokens(request)[worker]!
    workers.charge(charge, worker, request.promptTokens, cached, 100, nowMs)
    pool.refresh(worker)
    pool.tellPlaced(request, worker, nowMs)
    workers.started(charge, nowMs)
    pool.tellStarted(request, worker, nowMs)
    return Bun.nanoseconds() - startNs
  }
}

/** The median of so many steps. */
const medianNs = (life: Life, steps: number): number => {
  const times = new Float64Array(steps)
  for (let i = 0; i < steps; i++) times[i] = life.step()
  return times.toSorted()[steps >> 1]!
}

const rows = placements.flatMap((placement) =>
  workerCounts.map((workers) => {
    const steps = workers > 100 ? 2000 : 20_000
    const lives = [undefined, new DecisionLog({ kept: KEPT })].map((log) => new Life(placement, workers, log))
    const quietest = lives.map(() => Number.POSITIVE_INFINITY)
    for (let round = 0; round < ROUNDS; round++)
      for (const [i, life] of lives.entries()) quietest[i] = Math.min(quietest[i]!, medianNs(life, steps))
    const [offNs, onNs] = quietest as [number, number]
    return { placement, workers, offNs, onNs, addedNs: onNs - offNs }
  })
)

const on = machine()
const { bytes } = new DecisionLog({ kept: KEPT })
if (flags.json) console.log(JSON.stringify({ ...on, kept: KEPT, bytes, rows }))
else {
  console.log(`${machineText(on)} · ${KEPT} requests kept in ${(bytes / 1e6).toFixed(1)} MB`)
  console.table(rows)
}
