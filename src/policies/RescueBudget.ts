/** Rescues saved up for a burst at most, and at first. */
const SAVED_MAX = 10
const SAVED_FIRST = 3

/**
 * What rescues may cost: a share of what all placements cost, with a few saved up. So a sick pool is not made sicker by its own repairs.
 * In any span of time no more is spent than `savedMax` and the share of what was placed within it; of no share, nothing. By default rescues are counted.
 */
export class RescueBudget {
  private readonly share: number
  private readonly savedMax: number
  private saved: number

  constructor(share: number, savedMax = SAVED_MAX, savedFirst = SAVED_FIRST) {
    this.share = share
    this.savedMax = savedMax
    this.saved = share > 0 ? savedFirst : 0
  }

  /** A request was placed. */
  earn(cost = 1): void {
    this.saved = Math.min(this.savedMax, this.saved + this.share * cost)
  }

  allows(cost = 1): boolean {
    return this.saved >= cost
  }

  spend(cost = 1): void {
    this.saved -= cost
  }
}
