import { Reason } from "../../domain/Outcome.ts"
import type { Forecast, PoolView } from "../../domain/PoolView.ts"
import type { RequestView } from "../../domain/RequestView.ts"
import { floats, grow } from "../../structures/grow.ts"
import { chargedTtftMs } from "../costs.ts"
import type { PolicyEvents } from "../Policy.ts"
import { OutputLengths } from "./OutputLengths.ts"
import { TtftRatio } from "./TtftRatio.ts"

/** What one pool learns from its requests. 16 bytes for each slot up to the largest seen. */
export class Estimates implements Forecast, PolicyEvents {
  private readonly lengths = new OutputLengths()
  private readonly ratio = new TtftRatio()
  /** By request slot, of the live attempt. */
  private predictedMs = new Float64Array(0)
  private placedAtMs = new Float64Array(0)
  /** The last mean, which several policies ask for in turn; nobody's once another length is known. */
  private meanTenant = -1
  private meanMaxTokens = 0
  private meanTokens = 0

  readonly outputTokens = ({ maxTokens, tenant }: RequestView, quantile: number): number =>
    this.lengths.quantile(tenant, quantile, maxTokens)

  readonly meanOutputTokens = ({ maxTokens, tenant }: RequestView): number => {
    if (tenant !== this.meanTenant || maxTokens !== this.meanMaxTokens) {
      this.meanTokens = this.lengths.mean(tenant, maxTokens)
      this.meanTenant = tenant
      this.meanMaxTokens = maxTokens
    }
    return this.meanTokens
  }

  get ttftRatio(): number {
    return this.ratio.value
  }

  readonly placedMs = (slot: number): number => this.placedAtMs[slot]!

  readonly placedTtftMs = (slot: number): number => this.predictedMs[slot]!

  /** The columns count the attempt already. */
  readonly placed = ({ slot }: RequestView, worker: number, pool: PoolView, nowMs: number): void => {
    if (slot >= this.placedAtMs.length) {
      this.placedAtMs = grow(this.placedAtMs, slot, floats)
      this.predictedMs = grow(this.predictedMs, slot, floats)
    }
    this.placedAtMs[slot] = nowMs
    this.predictedMs[slot] = chargedTtftMs(pool.workers, worker, nowMs)
  }

  readonly timed = ({ slot }: RequestView, _worker: number, _pool: PoolView, nowMs: number): void =>
    this.ratio.record(this.predictedMs[slot]!, nowMs - this.placedAtMs[slot]!, nowMs)

  readonly ended = (
    { outputTokens, tenant }: RequestView,
    reason: Reason,
    _pool: PoolView,
    nowMs: number
  ): void => {
    if (reason !== Reason.none || outputTokens <= 0) return
    this.lengths.record(tenant, outputTokens, nowMs)
    this.meanTenant = -1
  }

  readonly observed = (_worker: number, _pool: PoolView, nowMs: number): void => this.ratio.review(nowMs)
}
