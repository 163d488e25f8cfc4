import { Derating } from "./Derating.ts"
import { SlowStart } from "./SlowStart.ts"
import { type CostColumns, StepCosts, type StepTotals } from "./StepCosts.ts"

/** The columns it keeps. */
export interface EstimateColumns extends CostColumns {
  readonly speed: Float64Array
  readonly ratedSpeed: Float64Array
}

/** What is learned of workers from their heartbeats: the cost of a step, and how much slower than registered they are to be taken for. */
export class WorkerEstimates {
  private readonly columns: EstimateColumns
  private readonly costs: StepCosts
  private readonly derating = new Derating()
  private readonly slowStart = new SlowStart()

  constructor(columns: EstimateColumns) {
    this.columns = columns
    this.costs = new StepCosts(columns)
  }

  /** A worker registered, with its speed in `ratedSpeed`. */
  joined(worker: number, nowMs: number): void {
    this.costs.joined(worker, this.columns.ratedSpeed[worker]!)
    this.derating.left(worker)
    this.slowStart.joined(worker, nowMs)
    this.rate(worker, nowMs)
  }

  observe(worker: number, totals: StepTotals, nowMs: number): void {
    const { costs, derating } = this
    if (costs.observe(worker, totals)) derating.record(worker, costs.actualMs, costs.expectedMs)
    derating.review(nowMs)
    this.rate(worker, nowMs)
  }

  private rate(worker: number, nowMs: number): void {
    const { ratedSpeed, speed } = this.columns
    speed[worker] = ratedSpeed[worker]! * this.derating.factor(worker) * this.slowStart.factor(worker, nowMs)
  }
}
