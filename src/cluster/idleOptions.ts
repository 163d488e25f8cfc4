import type { Config } from "../domain/Config.ts"
import { type Entry, problem, type Problem } from "../domain/config/resolve.ts"
import { findRescue } from "../policies/registry.ts"
import type { RescueActions } from "../policies/Rescue.ts"
import { followsLoad, hasRange, isLoadDriven } from "./followsLoad.ts"

/** How options come to nothing. */
interface Idleness {
  /** Their paths, none while they count. */
  readonly idle: (config: Config) => ReadonlyArray<string>
  readonly why: string
  readonly fix: string
}

/** Where the rescue policies stand that do nothing but this. */
const rescuesBy = ({ pipeline }: Config, action: keyof RescueActions): ReadonlyArray<string> =>
  pipeline.rescue.flatMap(({ policy }, index) =>
    findRescue(policy).action === action ? `pipeline.rescue[${index}].policy` : []
  )

const idlenesses: ReadonlyArray<Idleness> = [
  {
    idle: (config) =>
      isLoadDriven(config)
        ? []
        : config.models.flatMap((model, index) => (hasRange(model) ? `models[${index}].workersMax` : [])),
    why: "has no effect: the policy of pipeline.scaling does not follow the load",
    fix: "Name one there that does (`bun run policies list`), or leave this out."
  },
  {
    idle: (config) =>
      isLoadDriven(config) && !config.models.some(hasRange) ? ["pipeline.scaling.policy"] : [],
    why: "has no effect: no model has a workersMax above its workers",
    fix: "Give one to a model, or leave this out."
  },
  {
    idle: (config) => (config.models.some((model) => followsLoad(config, model)) ? [] : ["scaling.period"]),
    why: "has no effect: the number of workers follows the load of no model",
    fix: "Give a model workersMax, and pipeline.scaling a policy that follows the load, or leave this out."
  },
  {
    idle: ({ models }) =>
      models.flatMap(({ engine }, index) =>
        engine.faults.stallAfterMs === undefined ? `models[${index}].engine.faults.stallFor` : []
      ),
    why: "has no effect without stallAfter",
    fix: "Set that too, or leave this out."
  },
  {
    idle: (config) => rescuesBy(config, "migrate"),
    why: "has no effect: no engine can hand a request that streams to another worker",
    fix: "Leave the policy out."
  },
  {
    idle: (config) => (config.retry.attempts > 1 ? [] : rescuesBy(config, "hedge")),
    why: "has no effect: a copy is an attempt, and retry.attempts allows one alone",
    fix: "Set that to 2 or more, or leave the policy out."
  },
  {
    idle: ({ record }) =>
      record.directory === undefined
        ? ["record.fileBytesMax", "record.files", "record.share", "record.tenantNames"]
        : [],
    why: "has no effect without record.directory",
    fix: "Set that too, start the cluster with --record, or leave this out."
  }
]

/** Options of a valid configuration that differ from their defaults and change nothing, because of what others are, each with why. */
export const idleOptions = (config: Config, entries: ReadonlyArray<Entry>): ReadonlyArray<Problem> =>
  idlenesses.flatMap(({ fix, idle, why }) => {
    const paths = idle(config)
    return entries
      .filter(({ leaf, path, value }) => paths.includes(path) && value !== leaf.fallback)
      .map(({ origin, path }) => problem(path, why, origin, fix))
  })
