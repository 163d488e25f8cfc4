import { assert } from "./assert.ts"
import { grow, ints } from "./grow.ts"
import { TOTAL_MAX } from "./PrefixSum.ts"

/** Most that all speeds may add up to: twice the product of two such sums is exact. */
export const SPEEDS_MAX = 2 ** 26

/** Columns with a row for each worker; rows from `count` on are ignored. All numbers are whole. */
export interface Vessels {
  readonly count: number
  /** Work a worker has already, ≥ 0. */
  readonly backlog: Float64Array
  /** Work it does in a unit of time, ≥ 1, together at most 2²⁶: thousandths of the pool's norm, say. */
  readonly speed: Int32Array
  /** Most work it may get on top, ≥ 0 or Infinity. */
  readonly headroom: Float64Array
}

/**
 * Shares work out as water fills joined vessels: worker k gets the quota min(headroom, max(0, L·speed − backlog)), where the level L, the
 * time at which all but the full and the overdue finish, is such that the quotas add up to the total. Quotas are fractions and exact:
 * only the edges between them are rounded, in a way that no comparison with a whole number notices.
 * Scratch grows by doubling; nothing else is allocated.
 */
export class WaterLevel {
  /** L, to the precision of a double. Where a range of levels does, one of them. */
  level = 0
  /**
   * edges[k] is twice the sum of the quotas of workers 0 … k, rounded up: the whole numbers below it are those below that sum. Edges never
   * fall; a worker without quota has the edge of the one before it, or 0; the last is twice the total.
   */
  edges = new Float64Array(0)
  /** Workers not yet known to get nothing or all they have room for. */
  private open = new Int32Array(0)
  private openCount = 0
  /** What the open workers do in a unit of time, and what they hold when filled to the level. */
  private speeds = 0
  private volume = 0
  /** The level is whole + rest / speeds, with 0 ≤ rest < speeds. */
  private whole = 0
  private rest = 0

  /**
   * Computes level and edges. `total` is whole, ≥ 0, at most 2⁵² together with all backlogs, and there is headroom for it.
   * Cost O(count) a round; a round settles a worker at least, and usually most of those left.
   *
   * Source: Bitran and Hax, "Disaggregation and resource allocation using convex knapsack problems", 1981.
   */
  fill(total: number, vessels: Vessels): void {
    this.openAll(total, vessels)
    if (vessels.count === 0) return
    for (let excess = this.tryLevel(vessels); excess !== 0; excess = this.tryLevel(vessels))
      this.settle(excess > 0, vessels)
    this.level = this.whole + this.rest / this.speeds
    this.drawEdges(vessels)
  }

  private openAll(total: number, { count, backlog, speed, headroom }: Vessels): void {
    if (count > this.open.length) {
      this.open = grow(this.open, count - 1, ints)
      this.edges = new Float64Array(this.open.length)
    }
    let speeds = 0
    let volume = total
    let room = 0
    let valid = isWhole(total)
    for (let k = 0; k < count; k++) {
      this.open[k] = k
      speeds += speed[k]!
      volume += backlog[k]!
      room += headroom[k]!
      valid &&= speed[k]! >= 1 && isWhole(backlog[k]!) && isWhole(headroom[k]!)
    }
    assert(valid, "work and room are whole and not negative, speeds are at least 1")
    assert(volume <= TOTAL_MAX, "the total and all backlogs are at most 2⁵² together")
    assert(speeds <= SPEEDS_MAX, "all speeds are at most 2²⁶ together")
    assert(total <= room, "there is headroom for the total")
    this.openCount = count
    this.speeds = speeds
    this.volume = volume
  }

  /**
   * Levels the open workers as if each could get any amount, also less than nothing. The answer is above 0 when what some got less than
   * nothing outweighs what others got beyond their headroom: the level is too high then. It is below 0 when the level is too low, and 0
   * when it is right. Its sign is exact.
   */
  private tryLevel({ backlog, speed, headroom }: Vessels): number {
    const { open, openCount, speeds } = this
    const rest = this.volume % speeds
    const whole = (this.volume - rest) / speeds
    // The mistake is unitExcess − rest · speedExcess / speeds.
    let unitExcess = 0
    let speedExcess = 0
    for (let i = 0; i < openCount; i++) {
      const k = open[i]!
      const part = rest * speed[k]!
      const above = backlog[k]! - whole * speed[k]!
      const below = above + headroom[k]!
      if (above * speeds > part) unitExcess += above
      else if (below * speeds < part) unitExcess += below
      else continue
      speedExcess += speed[k]!
    }
    this.rest = rest
    this.whole = whole
    return unitExcess * speeds - rest * speedExcess
  }

  /** Settles the open workers that reach above the level (`dry`), which get nothing at a lower one either, or else those it overfills. */
  private settle(dry: boolean, { backlog, speed, headroom }: Vessels): void {
    const { open, openCount, speeds, whole, rest } = this
    let kept = 0
    for (let i = 0; i < openCount; i++) {
      const k = open[i]!
      const bound = dry ? backlog[k]! : backlog[k]! + headroom[k]!
      const gap = (bound - whole * speed[k]!) * speeds - rest * speed[k]!
      if (dry ? gap > 0 : gap < 0) {
        this.volume -= bound
        this.speeds -= speed[k]!
      } else open[kept++] = k
    }
    assert(kept < openCount, "each round settles a worker")
    this.openCount = kept
  }

  private drawEdges({ count, backlog, speed, headroom }: Vessels): void {
    const { speeds, whole, rest } = this
    // Twice the sum of the quotas is twiceWhole + 2 · rest · partly / speeds.
    let twiceWhole = 0
    let partly = 0
    for (let k = 0; k < count; k++) {
      const part = rest * speed[k]!
      const above = backlog[k]! - whole * speed[k]!
      if (above * speeds < part) {
        if ((above + headroom[k]!) * speeds <= part) twiceWhole += 2 * headroom[k]!
        else {
          twiceWhole -= 2 * above
          partly += speed[k]!
        }
      }
      this.edges[k] = twiceWhole + Math.ceil((2 * rest * partly) / speeds)
    }
  }
}

/** True of Infinity too. */
const isWhole = (value: number): boolean => value >= 0 && Math.floor(value) === value
