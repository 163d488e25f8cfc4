import type { Catalogue } from "../domain/config/schema.ts"
import { presets } from "../engines/simulated/CostModel.ts"
import { pipelines } from "../policies/pipelines.ts"
import {
  admissions,
  batchings,
  orderings,
  placements,
  rescues,
  rivals,
  scalings
} from "../policies/registry.ts"

/** What a configuration of this build may name. */
export const catalogue: Catalogue = {
  admissions,
  orderings,
  batchings,
  placements: [...placements, ...rivals],
  rescues,
  scalings,
  pipelines,
  enginePresets: Object.keys(presets)
}
