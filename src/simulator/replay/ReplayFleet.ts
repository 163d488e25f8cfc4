import { FleetState, RECONNECT_MS, type Sighting } from "../../actors/FleetState.ts"
import { scalingView } from "../../actors/scalingView.ts"
import type { PolicyChoice } from "../../domain/config/pipeline.ts"
import type { WorkerColumns } from "../../domain/PoolView.ts"
import { DemandMeter } from "../../policies/DemandMeter.ts"
import { findScaling } from "../../policies/registry.ts"
import type { Scaling } from "../../policies/Scaling.ts"
import { chooseVictim } from "../../policies/scaling/victim.ts"
import type { PrefixIndex } from "../../structures/PrefixIndex.ts"
import type { Rng } from "../../structures/Rng.ts"

/** How the number of workers follows the load. */
export interface ReplayScaling {
  readonly policy: PolicyChoice
  /**
   * Workers there are at first and at least. At most there are those of the replay. As live, those that come and go do all of a request;
   * those that do one part of it are there from the start, and stay.
   */
  readonly least: number
  /** From the order to start a worker until it dials. */
  readonly coldStartMs: number
  /** How often the policy is asked. */
  readonly periodMs?: number | undefined
}

/** What the fleet sees and orders, by place among the workers of the replay. */
export interface FleetPort {
  /** Those that may come and go, in order. */
  readonly slots: ReadonlyArray<number>
  readonly columns: WorkerColumns
  /** The index, where a policy asks for it. */
  readonly prefixes: PrefixIndex | undefined
  /** Undefined while there is no such process. */
  readonly seen: (slot: number) => Omit<Sighting, "index"> | undefined
  readonly start: (slot: number) => void
  /** Take no new work, finish, and leave. */
  readonly drain: (slot: number) => void
  readonly stop: (slot: number) => void
}

/** As the live autoscaler has it: how often it looks, and what a configuration says where it says nothing. */
export const LOOK_MS = 250
const PERIOD_MS = 15_000

/** As many workers as a scaling policy wants: the decisions of the live autoscaler over workers in virtual time. */
export class ReplayFleet {
  /** To stand first among the admissions of the pool. */
  readonly demand = new DemandMeter(0)
  private readonly port: FleetPort
  private readonly least: number
  private readonly state: FleetState
  private readonly scaling: Scaling
  private readonly periodMs: number
  private sampleAtMs: number

  constructor(options: ReplayScaling, port: FleetPort, drainMs: number, rng: Rng) {
    const { least, periodMs = PERIOD_MS, policy } = options
    this.port = port
    this.least = port.slots.filter((slot) => slot < least).length
    this.state = new FleetState({
      least: this.least,
      most: port.slots.length,
      drainMs,
      retryMs: 0,
      // What was ordered does come, after its cold start.
      connectMs: Number.POSITIVE_INFINITY,
      reconnectMs: RECONNECT_MS
    })
    this.scaling = findScaling(policy.policy).make(policy.options, rng)
    this.periodMs = periodMs
    this.sampleAtMs = periodMs
  }

  /** Asks the policy when a period is over, and does what is to be done about the workers there are. */
  look(nowMs: number): void {
    const { port, state } = this
    const seen = port.slots.flatMap((slot, index) => {
      const sighting = port.seen(slot)
      return sighting === undefined ? [] : [{ index, ...sighting }]
    })
    if (nowMs >= this.sampleAtMs) {
      this.sampleAtMs = nowMs + this.periodMs
      state.wanted = this.desired(seen, nowMs)
    }
    for (const { _tag, index } of state.look(seen, this.victim, nowMs)) {
      const slot = port.slots[index]!
      if (_tag === "Start") port.start(slot)
      else if (_tag === "Drain") port.drain(slot)
      else port.stop(slot)
    }
  }

  private desired(seen: ReadonlyArray<Sighting>, nowMs: number): number {
    const { demand, least, port, state } = this
    const ready = seen.filter((sighting) => sighting.state === "ready").map(({ index }) => port.slots[index]!)
    const crew = {
      ready,
      starting: state.starting(seen),
      min: least,
      max: port.slots.length,
      coldStartMs: state.coldStartMs
    }
    return this.scaling.desired(scalingView(demand.take(nowMs), crew, port.columns), nowMs)
  }

  private readonly victim = (among: ReadonlyArray<number>): number => {
    const { columns, prefixes, slots } = this.port
    const values = new Float64Array(columns.inFlight.length)
    if (prefixes !== undefined) this.demand.addCachedValue(prefixes, values)
    const candidates = among.map((index) => slots[index]!)
    return slots.indexOf(chooseVictim(columns, candidates, values))
  }
}
