import type { WorkerLoad } from "../../domain/WorkerLoad.ts"
import { assert } from "../../structures/assert.ts"

/** What a step of an engine costs, as `CostColumns` has it by worker. */
export interface StepPrices {
  readonly baseMs: number
  readonly prefillTokenMs: number
  readonly prefillAttentionMs: number
  readonly decodeSequenceMs: number
  readonly decodeContextMs: number
}

/** The columns that hold the fitted prices by worker; `WorkerColumns` has them. */
export type CostColumns = { readonly [Price in keyof StepPrices]: Float64Array }

/** What a worker's engine has done since it started, as its heartbeats say. */
export type StepTotals = Pick<
  WorkerLoad,
  "steps" | "busyMs" | "stepPrefillTokens" | "stepAttention" | "stepDecodes" | "stepContextTokens"
>

/** About an 8B model on one H100: of the right order for what is likely to be served, until heartbeats say better. */
const usualPrices: StepPrices = {
  baseMs: 8,
  prefillTokenMs: 0.04,
  prefillAttentionMs: 2e-6,
  decodeSequenceMs: 0.03,
  decodeContextMs: 6e-5
}

/** A price that the fleet shows has to move by this share before its workers are taken for it: until then they stay equal. */
const SHOWN = 0.01
/** By how much better a worker's own prices must predict its heartbeats than the fleet's do, for it to be taken for them. */
const DISTINCT = 0.02
/** Weight of the newest heartbeat in how far predictions were off. */
const ERROR_WEIGHT = 1 / 16

/**
 * Fits the step costs of the workers of one model to their heartbeats, and writes them into the columns.
 *
 * What a worker did between two heartbeats, priced, is compared with how long it took. One fit, over all workers with their times
 * multiplied by their speeds, says what a worker of speed 1 costs; every worker has a fit of its own beside it. A worker is taken for
 * what the fleet shows unless its own prices predict its heartbeats better by 2 %: so workers that are equal have equal prices, to the
 * last bit, whoever of them has worked, as long as noise is no reason to tell them apart. `expectedMs` measures a worker by the fleet.
 * Cost of a heartbeat: O(1), under a microsecond; O(N) where the fleet's prices have moved by 1 %. Memory: 0.5 KB a worker.
 */
export class StepCosts {
  /** Of the last `observe` that said true: how long the work took, and how long the prices of the fleet say at the worker's speed. */
  actualMs = 0
  expectedMs = 0
  private readonly columns: CostColumns
  private readonly fleet: StepFit
  /** Prices of the fleet that its workers are taken for. */
  private readonly shown: Float64Array
  private readonly members: Array<Member | undefined> = []
  /** Done since the heartbeat before, in the order of the terms. */
  private readonly work = new Float64Array(TERMS)

  /** `prior` says what a worker of speed 1 costs before any was heard; all of it > 0. */
  constructor(columns: CostColumns, prior: StepPrices = usualPrices) {
    this.columns = columns
    this.fleet = new StepFit(listOf(prior), 1)
    this.shown = this.fleet.prices.slice()
  }

  /** `worker` registered, or did so anew: what was known of its slot is forgotten. `speed` > 0. */
  joined(worker: number, speed: number): void {
    assert(speed > 0 && Number.isFinite(speed), "a speed is positive")
    this.members[worker] = {
      worker,
      speed,
      fit: new StepFit(this.fleet.prices, speed),
      heard: new Float64Array(TERMS).fill(Number.NaN),
      heardBusyMs: Number.NaN,
      fleetError: 0,
      ownError: 0
    }
    this.write(worker, this.shown, speed)
  }

  /**
   * A heartbeat of a worker that joined; whether it did any work since the one before. Totals that shrank are those of an engine that
   * started anew: the next heartbeat is compared with them.
   */
  observe(worker: number, totals: StepTotals): boolean {
    const member = this.members[worker]
    if (member === undefined) return false
    const { fit, speed } = member
    const { work } = this
    const actualMs = totals.busyMs - member.heardBusyMs
    member.heardBusyMs = totals.busyMs
    if (!sinceHeard(totals, member.heard, work) || !(actualMs > 0 && actualMs < Infinity)) return false
    this.actualMs = actualMs
    this.expectedMs = this.fleet.priceOf(work) / speed
    member.fleetError += ERROR_WEIGHT * (Math.abs(Math.log(actualMs / this.expectedMs)) - member.fleetError)
    member.ownError += ERROR_WEIGHT * (Math.abs(Math.log(actualMs / fit.priceOf(work))) - member.ownError)
    this.fleet.learn(work, actualMs * speed)
    fit.learn(work, actualMs)
    if (isDistinct(member)) this.write(worker, fit.prices, 1)
    else this.write(worker, this.shown, speed)
    this.show()
    return true
  }

  /** Takes the workers of the fleet for its prices once those have moved. */
  private show(): void {
    const { shown, fleet } = this
    if (!areApart(fleet.prices, shown)) return
    shown.set(fleet.prices)
    for (const member of this.members)
      if (member !== undefined && !isDistinct(member)) this.write(member.worker, shown, member.speed)
  }

  private write(worker: number, prices: Float64Array, speed: number): void {
    const { columns } = this
    columns.baseMs[worker] = prices[0]! / speed
    columns.prefillTokenMs[worker] = prices[1]! / speed
    columns.prefillAttentionMs[worker] = prices[2]! / speed
    columns.decodeSequenceMs[worker] = prices[3]! / speed
    columns.decodeContextMs[worker] = prices[4]! / speed
  }
}

interface Member {
  readonly worker: number
  readonly speed: number
  /** Its own prices. */
  readonly fit: StepFit
  /** Of the last heartbeat: its totals, in the order of the terms, and how long all steps took. NaN before there was one. */
  readonly heard: Float64Array
  heardBusyMs: number
  /** How far its heartbeats were off the fleet's prices and its own lately, as the logarithm of a ratio. */
  fleetError: number
  ownError: number
}

/** Whether a worker is to be taken for its own prices. */
const isDistinct = ({ fleetError, ownError }: Member): boolean => fleetError > ownError + DISTINCT

const TERMS = 5

const listOf = (prices: StepPrices): Float64Array =>
  Float64Array.of(
    prices.baseMs,
    prices.prefillTokenMs,
    prices.prefillAttentionMs,
    prices.decodeSequenceMs,
    prices.decodeContextMs
  )

/** Writes into `work` what was done since `heard`, and the totals into that. Whether there was a step, and no total has shrunk. */
const sinceHeard = (totals: StepTotals, heard: Float64Array, work: Float64Array): boolean => {
  work[0] = totals.steps
  work[1] = totals.stepPrefillTokens
  work[2] = totals.stepAttention
  work[3] = totals.stepDecodes
  work[4] = totals.stepContextTokens
  let areAmounts = true
  for (let i = 0; i < TERMS; i++) {
    const total = work[i]!
    const done = total - heard[i]!
    heard[i] = total
    work[i] = done
    if (!(done >= 0 && done < Infinity)) areAmounts = false
  }
  return areAmounts && work[0] > 0
}

/** Whether some price is further from the one shown than workers are to be kept from. */
const areApart = (prices: Float64Array, shown: Float64Array): boolean => {
  for (let i = 0; i < TERMS; i++) if (Math.abs(prices[i]! / shown[i]! - 1) > SHOWN) return true
  return false
}

/** Share of what is known in the direction of an observation that the observation replaces: when predictions hold, and at most. */
const FORGETTING = 0.005
const FORGETTING_MAX = 0.1
/** What the prior counts, in observations that show one term alone: a price off by half is as likely as a prediction off by 1/50. */
const PRIOR_WEIGHT = 0.002
/** A residual counts in full up to so many times the median one, which is tracked in steps of this size and starts wide. */
const RESIDUALS_MAX = 1.5
const RESIDUAL_STEP = 1.08
const RESIDUAL_START = 0.5
const RESIDUAL_MIN = 0.01
const RESIDUAL_MAX = 100
/** Of its prior, so that nothing is ever free. */
const FACTOR_MIN = 0.001
/** Of coordinate descent; it starts from the last solution, and what is left over is done with the next observation. */
const SWEEPS = 24

/** What is only needed within a call of a fit, by term: shares of the observation, and what was known of its direction. */
const shares = new Float64Array(TERMS)
const known = new Float64Array(TERMS)
/** Of the normal equations: what each factor is where the others are 0, and, row by row, how much of each other one is taken off. */
const alone = new Float64Array(TERMS)
const pulls = new Float64Array(TERMS * TERMS)

/**
 * Recursive least squares with forgetting, on work priced in shares: a term counts by the share it has in the predicted time, and the
 * unknowns are factors on the prior prices. So every observation weighs the same whatever its length, and no unit matters.
 *
 * Forgetting goes in the direction of the observation alone: what a worker that only decodes has shown of prefill is kept. A residual
 * beyond 1.5 times the median one counts in inverse proportion, so a stalled step moves little, and slow workers that are few move the
 * fleet's prices little. A lasting change is believed after some dozens of observations, as it becomes usual; then the more is
 * forgotten the further off predictions are. No price falls to 0: the solution is the least square over prices above that.
 *
 * Source: Cao and Schwartz, A directional forgetting algorithm based on the decomposition of the information matrix, Automatica 36(11),
 * 2000; Huber, Annals of Mathematical Statistics 35(1), 1964, for the weights.
 */
class StepFit {
  readonly prices: Float64Array
  private readonly priors: Float64Array
  private readonly factors = new Float64Array(TERMS).fill(1)
  /** The normal equations: `information · factors = evidence`. */
  private readonly information = new Float64Array(TERMS * TERMS)
  private readonly evidence = new Float64Array(TERMS).fill(PRIOR_WEIGHT)
  private residual = RESIDUAL_START

  constructor(priors: Float64Array, speed: number) {
    for (const price of priors) assert(price > 0 && Number.isFinite(price), "a prior price is positive")
    this.priors = priors.map((price) => price / speed)
    this.prices = this.priors.slice()
    for (let i = 0; i < TERMS; i++) this.information[i * TERMS + i] = PRIOR_WEIGHT
  }

  /** What the work of some steps costs. Finite, > 0 for one step or more. */
  priceOf(work: Float64Array): number {
    let sum = 0
    for (let i = 0; i < TERMS; i++) sum += this.prices[i]! * work[i]!
    return sum
  }

  learn(work: Float64Array, actualMs: number): void {
    const predictedMs = this.priceOf(work)
    if (!Number.isFinite(predictedMs + actualMs)) return
    for (let i = 0; i < TERMS; i++) shares[i] = (this.priors[i]! * work[i]!) / predictedMs
    const ratio = actualMs / predictedMs
    const away = Math.abs(ratio - 1)
    const limit = RESIDUALS_MAX * this.residual
    this.residual *= away > this.residual ? RESIDUAL_STEP : 1 / RESIDUAL_STEP
    this.residual = Math.min(Math.max(this.residual, RESIDUAL_MIN), RESIDUAL_MAX)
    const weight = Math.min(1, limit / away)
    this.forget(Math.min(FORGETTING_MAX, FORGETTING * weight + FORGETTING_MAX * (weight * away) ** 2))
    for (let i = 0; i < TERMS; i++) {
      const share = shares[i]! * weight
      this.evidence[i]! += share * ratio
      for (let j = 0; j < TERMS; j++) this.information[i * TERMS + j]! += share * shares[j]!
    }
    this.solve()
  }

  /** Takes off a share of what is known in the direction of `shares`, and leaves the solution as it is. */
  private forget(share: number): void {
    const { information, evidence } = this
    let total = 0
    let seen = 0
    for (let i = 0; i < TERMS; i++) {
      known[i] = 0
      for (let j = 0; j < TERMS; j++) known[i]! += information[i * TERMS + j]! * shares[j]!
      total += shares[i]! * known[i]!
      seen += shares[i]! * evidence[i]!
    }
    for (let i = 0; i < TERMS; i++) {
      const part = (share * known[i]!) / total
      evidence[i]! -= part * seen
      for (let j = 0; j < TERMS; j++) information[i * TERMS + j]! -= part * known[j]!
    }
  }

  /** Coordinate descent to the factors of least squared residuals, none below its minimum. */
  private solve(): void {
    const { information, evidence, factors } = this
    for (let i = 0, at = 0; i < TERMS; i++) {
      const own = information[i * TERMS + i]!
      alone[i] = evidence[i]! / own
      for (let j = 0; j < TERMS; j++, at++) pulls[at] = information[at]! / own
    }
    let a = factors[0]!
    let b = factors[1]!
    let c = factors[2]!
    let d = factors[3]!
    let e = factors[4]!
    // Written out, for this is most of what a heartbeat costs. The factor found last comes last: nothing else in its row waits for it.
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      a = Math.max(FACTOR_MIN, alone[0]! - pulls[1]! * b - pulls[2]! * c - pulls[3]! * d - pulls[4]! * e)
      b = Math.max(FACTOR_MIN, alone[1]! - pulls[7]! * c - pulls[8]! * d - pulls[9]! * e - pulls[5]! * a)
      c = Math.max(FACTOR_MIN, alone[2]! - pulls[13]! * d - pulls[14]! * e - pulls[10]! * a - pulls[11]! * b)
      d = Math.max(FACTOR_MIN, alone[3]! - pulls[19]! * e - pulls[15]! * a - pulls[16]! * b - pulls[17]! * c)
      e = Math.max(FACTOR_MIN, alone[4]! - pulls[20]! * a - pulls[21]! * b - pulls[22]! * c - pulls[23]! * d)
    }
    factors[0] = a
    factors[1] = b
    factors[2] = c
    factors[3] = d
    factors[4] = e
    for (let i = 0; i < TERMS; i++) this.prices[i] = this.priors[i]! * factors[i]!
  }
}
