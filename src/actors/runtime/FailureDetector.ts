import { assert } from "../../structures/assert.ts"
import { PhiAccrual, type PhiAccrualOptions } from "../../structures/PhiAccrual.ts"

/** What is thought of a peer: `suspect` gets no new work, `lost` is given up. */
export type Liveness = "alive" | "suspect" | "lost"

export interface FailureDetectorOptions extends PhiAccrualOptions {
  /** Silence after which a peer is suspect whatever was learned, and after which it is lost. */
  readonly suspectMs: number
  readonly lostMs: number
  /** Suspect already earlier, once φ reaches this. */
  readonly suspectPhi: number
  /** Longest time between two looks that still counts in full: what lies beyond was our own pause, not the peer's silence. */
  readonly blindMs: number
}

/** Heartbeats every 250 ms; pauses of 500 ms raise no suspicion; a dead peer is suspect within 1 s and lost after 2 s. */
const failureDetectorDefaults: FailureDetectorOptions = {
  intervalMs: 250,
  pauseMs: 500,
  deviationMinMs: 25,
  samplesMax: 128,
  suspectMs: 1_000,
  lostMs: 2_000,
  suspectPhi: 8,
  blindMs: 500
}

/**
 * Judges one peer by its heartbeats: φ accrual between two hard bounds.
 *
 * Whoever owns it calls `heartbeat` for each heartbeat and `check` a few times a second; `nowMs` never decreases. Any heartbeat makes
 * the peer alive again. The interval that ended a suspicion is not learned: an outage says nothing about the rhythm.
 * When this process itself stood still for longer than `blindMs`, the rest of that gap is not held against the peer.
 */
export class FailureDetector {
  private readonly options: FailureDetectorOptions
  private readonly rhythm: PhiAccrual
  private heardMs: number
  private lookedMs: number

  constructor(nowMs: number, options: Partial<FailureDetectorOptions> = {}) {
    this.options = { ...failureDetectorDefaults, ...options }
    assert(this.options.suspectMs < this.options.lostMs, "a peer is suspect before it is lost")
    this.rhythm = new PhiAccrual(this.options)
    this.heardMs = nowMs
    this.lookedMs = nowMs
  }

  heartbeat(nowMs: number): void {
    if (this.check(nowMs) === "alive") this.rhythm.learn(nowMs - this.heardMs)
    this.heardMs = nowMs
  }

  check(nowMs: number): Liveness {
    const { blindMs, lostMs, suspectMs, suspectPhi } = this.options
    this.heardMs += Math.max(0, nowMs - this.lookedMs - blindMs)
    this.lookedMs = nowMs
    const silenceMs = nowMs - this.heardMs
    if (silenceMs >= lostMs) return "lost"
    if (silenceMs >= suspectMs || this.rhythm.phi(silenceMs) >= suspectPhi) return "suspect"
    return "alive"
  }
}
