import type { Input, Output } from "./config/Option.ts"
import type { PolicyChoice } from "./config/pipeline.ts"
import type { ConfigSchema } from "./config/schema.ts"

/** What `cluster.config.ts` may hold. Everything may be left out; docs/configuration.md lists every option. */
export type ConfigInput = Input<ConfigSchema>

/** A configuration in force: every option decided, durations in ms under a name that ends in `Ms`. */
export interface Config extends Omit<Output<ConfigSchema>, "pipeline"> {
  readonly pipeline: {
    readonly preset: string
    readonly admission: ReadonlyArray<PolicyChoice>
    readonly ordering: PolicyChoice
    readonly batching: PolicyChoice
    readonly placement: PolicyChoice
    readonly rescue: ReadonlyArray<PolicyChoice>
    readonly scaling: PolicyChoice
    readonly pendingTokensMax: number | undefined
  }
}

/** One served model, with its workers and their engine. */
export type ModelConfig = Config["models"][number]
export type EngineConfig = ModelConfig["engine"]

/** States a configuration in `cluster.config.ts`, for the editor's sake: checks happen when the file is loaded. */
export const defineConfig = (config: ConfigInput): ConfigInput => config
