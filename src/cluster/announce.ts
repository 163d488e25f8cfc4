import type * as Effect from "effect/Effect"
import type { Config } from "../domain/Config.ts"
import type { PolicyChoice } from "../domain/config/pipeline.ts"
import { counted } from "../structures/counted.ts"
import type { CliFailure } from "./cli/CliFailure.ts"
import { write, type Shell } from "./cli/Shell.ts"
import type { RunningBalancer } from "./startBalancer.ts"

/** Says on standard output that everything is up: one line for programs, or what a person wants to know first. */
export const announce = (
  config: Config,
  { http, tcp, workers }: RunningBalancer,
  json: boolean
): Effect.Effect<void, CliFailure, Shell> => {
  const { admission, ordering, placement, preset } = config.pipeline
  const models = config.models.map(({ name }) => name)
  const text = json
    ? JSON.stringify({
        ready: true,
        tcp,
        http,
        workers,
        models,
        placement: placement.policy,
        pid: process.pid
      })
    : [
        `${config.cluster.name} is ready: ${counted(workers, "worker")}, serving ${models.join(", ")}`,
        `  pipeline   ${preset}: ${[placement, ordering, admission].map(namesOf).join(" · ")}`,
        `  TCP        ${tcp}`,
        `  HTTP       http://${http}    /generate /metrics /livez /readyz`,
        "",
        `  Try: bun run client --address ${tcp} --max-tokens 32 "Hello"`,
        `       curl -sN http://${http}/generate -d '{"model":"${models[0]}","prompt":"Hello","maxTokens":32,"stream":true}'`,
        "  Ctrl-C drains and stops; a second Ctrl-C stops at once."
      ].join("\n")
  return write(`${text}\n`)
}

const namesOf = (chosen: PolicyChoice | ReadonlyArray<PolicyChoice>): string =>
  "policy" in chosen ? chosen.policy : chosen.map(({ policy }) => policy).join(" + ") || "none"
