import type { Config, ModelConfig } from "../domain/Config.ts"
import { findScaling } from "../policies/registry.ts"

/** Whether the scaling policy looks at what is asked of workers. */
export const isLoadDriven = ({ pipeline }: Config): boolean =>
  findScaling(pipeline.scaling.policy).signals.length > 0

/** Whether the model may have more workers than at first. */
export const hasRange = ({ workers, workersMax = workers }: ModelConfig): boolean => workersMax > workers

/** Whether the number of the model's workers depends on what is asked of them. */
export const followsLoad = (config: Config, model: ModelConfig): boolean =>
  hasRange(model) && isLoadDriven(config)
