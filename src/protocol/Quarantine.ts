/** First refusal, and the longest: each further offence doubles it. */
const FIRST_MS = 10_000
const LONGEST_MS = 600_000
/** Identities remembered. The one whose last offence is oldest makes room for a new one. */
const IDENTITIES_MAX = 1024

interface Offender {
  readonly offences: number
  readonly untilMs: number
}

/**
 * Who broke the rules of its role, and until when it is refused: 10 s × 2ⁿ, at most 10 min. An identity that then behaves for 10 min is
 * forgotten. Memory: at most 1 024 identities. Cost O(1).
 */
export class Quarantine {
  /** In the order of their last offence. */
  private readonly offenders = new Map<string, Offender>()

  /** Notes an offence. */
  add(identity: string, nowMs: number): void {
    const offences = this.recall(identity, nowMs)?.offences ?? 0
    this.offenders.delete(identity)
    if (this.offenders.size >= IDENTITIES_MAX) this.offenders.delete(this.offenders.keys().next().value!)
    this.offenders.set(identity, {
      offences: offences + 1,
      untilMs: nowMs + Math.min(LONGEST_MS, FIRST_MS * 2 ** offences)
    })
  }

  /** How long this identity is refused, in milliseconds from `nowMs`; 0 when it is welcome. */
  leftMs(identity: string, nowMs: number): number {
    return Math.max(0, (this.recall(identity, nowMs)?.untilMs ?? 0) - nowMs)
  }

  private recall(identity: string, nowMs: number): Offender | undefined {
    const offender = this.offenders.get(identity)
    if (offender === undefined || nowMs <= offender.untilMs + LONGEST_MS) return offender
    this.offenders.delete(identity)
    return undefined
  }
}
