import type { Pipeline } from "../../policies/pipelines.ts"

/** How long admission and placement of a replay take, on the clock of the machine: it differs from run to run. */
export class DecisionTime {
  ns = 0

  /** The same policies, under the clock: `adapted` of a replay. What it costs to read the clock counts too. */
  readonly adapted = (made: Pipeline): Pipeline => {
    const { pickBatch } = made.placement
    return {
      ...made,
      admissions: made.admissions.map(({ isOverdue, ...each }) => ({
        ...each,
        decide: this.timed(each.decide),
        ...(isOverdue && { isOverdue: this.timed(isOverdue) })
      })),
      placement: {
        ...made.placement,
        pick: this.timed(made.placement.pick),
        ...(pickBatch && { pickBatch: this.timed(pickBatch) })
      }
    }
  }

  private timed<Given extends ReadonlyArray<unknown>, Answer>(
    ask: (...given: Given) => Answer
  ): (...given: Given) => Answer {
    return (...given) => {
      const beforeNs = Bun.nanoseconds()
      const answer = ask(...given)
      this.ns += Bun.nanoseconds() - beforeNs
      return answer
    }
  }
}
