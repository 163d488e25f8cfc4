import type { WorkerState } from "../domain/Snapshot.ts"
import type { WorkerLoad } from "../domain/WorkerLoad.ts"

/** Tells from heartbeats whether a worker is alive. */
export interface Detector {
  readonly heartbeat: (nowMs: number) => void
  readonly check: (nowMs: number) => "alive" | "suspect" | "lost"
}

export type PoolMessage =
  /** A worker registered; it is ready with its first heartbeat. `Lost` will say which registration it is about. */
  | { readonly _tag: "Joined"; readonly worker: number; readonly registration: number }
  | { readonly _tag: "Heartbeat"; readonly worker: number; readonly load: WorkerLoad }
  | { readonly _tag: "Draining"; readonly worker: number }
  /** Its connection is gone. */
  | { readonly _tag: "Left"; readonly worker: number }
  /** Time passed. */
  | { readonly _tag: "Check" }

/** What follows for the others. `Lost` asks for that registration's connection to be cut; `Ready` and `NotReady` are for the balancer. */
export type PoolDecision =
  | { readonly _tag: "Ready" | "NotReady"; readonly worker: number }
  | { readonly _tag: "Lost"; readonly worker: number; readonly registration: number }

interface Member {
  readonly worker: number
  readonly registration: number
  readonly detector: Detector
  state: Exclude<WorkerState, "lost" | "stopped">
}

const none: ReadonlyArray<PoolDecision> = []

/**
 * Who belongs to the pool of one model and role, and who of them may get work: `starting → ready → draining`, `suspect` while the
 * heartbeats are late, out when lost. Pure: time comes in with every message. Messages about workers that are no members change nothing.
 */
export class PoolState {
  private readonly members = new Map<number, Member>()
  private readonly detector: (nowMs: number) => Detector

  /** `detector` makes a failure detector that has just heard a sign of life. */
  constructor(detector: (nowMs: number) => Detector) {
    this.detector = detector
  }

  step(message: PoolMessage, nowMs: number): ReadonlyArray<PoolDecision> {
    switch (message._tag) {
      case "Joined":
        this.members.set(message.worker, {
          worker: message.worker,
          registration: message.registration,
          detector: this.detector(nowMs),
          state: "starting"
        })
        return none
      case "Heartbeat":
        return this.heard(message.worker, nowMs)
      case "Draining":
        return this.drain(message.worker)
      case "Left":
        return this.members.delete(message.worker) ? [{ _tag: "NotReady", worker: message.worker }] : none
      case "Check":
        return this.check(nowMs)
    }
  }

  /** The state of a member, or undefined. */
  stateOf(worker: number): WorkerState | undefined {
    return this.members.get(worker)?.state
  }

  /** Every member as a decision: what a new balancer has to be told. */
  all(): ReadonlyArray<PoolDecision> {
    return [...this.members.values()].map(({ worker, state }) => ({
      _tag: state === "ready" ? "Ready" : "NotReady",
      worker
    }))
  }

  private heard(worker: number, nowMs: number): ReadonlyArray<PoolDecision> {
    const member = this.members.get(worker)
    if (member === undefined) return none
    member.detector.heartbeat(nowMs)
    if (member.state !== "starting" && member.state !== "suspect") return none
    member.state = "ready"
    return [{ _tag: "Ready", worker }]
  }

  private drain(worker: number): ReadonlyArray<PoolDecision> {
    const member = this.members.get(worker)
    if (member === undefined) return none
    member.state = "draining"
    return [{ _tag: "NotReady", worker }]
  }

  private check(nowMs: number): ReadonlyArray<PoolDecision> {
    const decisions: Array<PoolDecision> = []
    for (const member of this.members.values()) {
      const { registration, worker } = member
      const verdict = member.detector.check(nowMs)
      if (verdict === "alive") continue
      if (verdict === "lost") {
        this.members.delete(worker)
        decisions.push({ _tag: "NotReady", worker }, { _tag: "Lost", worker, registration })
      } else if (member.state === "ready") {
        member.state = "suspect"
        decisions.push({ _tag: "NotReady", worker })
      }
    }
    return decisions
  }
}
