import { contendersOf } from "../../src/cluster/simulate/contenders.ts"
import type { Trace } from "../../src/domain/Trace.ts"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { faster, workloadOf } from "../../src/simulator/replay/Workload.ts"
import type { Targets } from "../../src/policies/pipelines.ts"
import { workersNeeded } from "../../src/simulator/report/bounds.ts"
import { contend, type Contender, goodputBounds, groundOf } from "../../src/simulator/report/ground.ts"
import { assert } from "../../src/structures/assert.ts"
import type { Cell, Extent } from "./cells.ts"
import { windowOf } from "./traffic.ts"

export const targets: Targets = { ttftMs: 5000, tpotMs: 100 }
export const WARM_UP = 0.2

/** What is kept of a replay, by seed. */
export interface Row {
  readonly goodput: ReadonlyArray<number>
  readonly ttftMs: ReadonlyArray<number>
  readonly tpotMs: ReadonlyArray<number>
  readonly refused: ReadonlyArray<number>
  readonly hit: ReadonlyArray<number>
}

export interface CellResult {
  /** By which factor arrivals are closer together than recorded, and the goodput nobody exceeds, by seed. */
  readonly speed: ReadonlyArray<number>
  readonly bound: ReadonlyArray<number>
  readonly rows: Readonly<Record<string, Row>>
}

/** Behind the name of a rival without our admission, queue and rescues. */
export const BARE = " bare"

/** The default pipeline, and every rival in it and with nothing but bounds on the queue. */
export const rivalry = (): ReadonlyArray<Contender> => [
  ...contendersIn("default,rivals", "default"),
  ...contendersIn("rivals", "simple").map((contender) => ({ ...contender, name: `${contender.name}${BARE}` }))
]

/** Our other presets, and our other placements in the default pipeline. */
export const others = (): ReadonlyArray<Contender> =>
  contendersIn("presets,placements", "default").filter(
    ({ name }) => name !== "default" && name !== "predicted-completion"
  )

const contendersIn = (list: string, preset: "default" | "simple"): ReadonlyArray<Contender> => {
  const contenders = contendersOf(list, preset, targets)
  assert(typeof contenders !== "string", "these groups exist")
  return contenders
}

/** Replays a cell under each of some contenders: the first once for each seed, the others once. */
export const runCell = (
  { engine, load, workers }: Cell,
  trace: Trace,
  { extent, seeds }: { readonly extent: Extent; readonly seeds: number },
  [first, others]: readonly [ReadonlyArray<Contender>, ReadonlyArray<Contender>]
): CellResult => {
  const speeds: Array<number> = []
  const bounds: Array<number> = []
  const rows: Record<string, { readonly [Name in keyof Row]: Array<number> }> = {}
  for (let seed = 1; seed <= seeds; seed++) {
    const contenders = seed === 1 ? [...first, ...others] : first
    const recorded = workloadOf([windowOf(trace, extent, seed)])
    const setting = { world: {}, workers, preset: presets[engine], targets, warmUp: WARM_UP }
    const ground = groundOf(setting, seed, recorded)
    const speed = (load * workers) / workersNeeded(ground.bounds, recorded)
    const workload = faster(recorded, speed)
    const { alone, capacity } = goodputBounds(ground, workload)
    const bound = Math.min(alone, capacity)
    speeds.push(round(speed))
    bounds.push(round(bound))
    for (const contender of contenders) {
      const { figures } = contend(ground, workload, contender, bound)
      const row = (rows[contender.name] ??= { goodput: [], ttftMs: [], tpotMs: [], refused: [], hit: [] })
      row.goodput.push(round(figures.goodput))
      row.ttftMs.push(round(figures.ttftMsMean))
      row.tpotMs.push(round(figures.tpotMsMean))
      row.refused.push(round(figures.rejectedShare))
      row.hit.push(round(figures.prefixHitRate))
    }
  }
  return { speed: speeds, bound: bounds, rows }
}

const round = (value: number): number => Number(value.toPrecision(4))
