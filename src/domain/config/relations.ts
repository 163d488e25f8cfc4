import type { Config } from "../Config.ts"
import { identityPattern } from "../identity.ts"

/** A rule between options. */
interface Relation {
  /** Paths to change, none while the rule holds. */
  readonly broken: (config: Config) => ReadonlyArray<string>
  readonly rule: string
  readonly fix: string
}

const unless = (holds: boolean, path: string): ReadonlyArray<string> => (holds ? [] : [path])

/** The end of the longest name that a cluster gives to a worker of its own; the beginning is its model's. */
const LONGEST_END = "-prefill:9999"

/** Whether nobody but this machine can reach the address. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host)

const isComplete = ({ auth }: Config): boolean =>
  auth.clients.length > 0 && auth.workers.length > 0 && auth.admins.length > 0

const relations: ReadonlyArray<Relation> = [
  {
    broken: ({ failure }) => unless(failure.heartbeatMs < failure.suspectAfterMs, "failure.suspectAfter"),
    rule: "must be longer than failure.heartbeat, or every worker is suspected between two heartbeats",
    fix: "Make it at least three heartbeats long."
  },
  {
    broken: ({ failure }) => unless(failure.suspectAfterMs < failure.lostAfterMs, "failure.lostAfter"),
    rule: "must be longer than failure.suspectAfter, or a worker is given up before it is suspected",
    fix: "Twice failure.suspectAfter is usual."
  },
  {
    broken: ({ scaling }) =>
      unless(scaling.restartAfterMs <= scaling.restartAtMostMs, "scaling.restartAtMost"),
    rule: "must not be shorter than scaling.restartAfter, which grows up to it",
    fix: "Make it longer, or scaling.restartAfter shorter."
  },
  {
    broken: ({ limits }) => unless(2 * limits.frameBytes <= limits.outboxBytes, "limits.outboxBytes"),
    rule: "must be at least twice limits.frameBytes, or two of the largest frames cut off a worker that is slow to read",
    fix: "Eight times limits.frameBytes is usual."
  },
  {
    broken: ({ listen }) =>
      unless(listen.httpPort === 0 || listen.httpPort !== listen.port, "listen.httpPort"),
    rule: "must differ from listen.port",
    fix: "Use another port, or 0 for a free one."
  },
  {
    broken: ({ models }) =>
      models.flatMap(({ engine }, index) =>
        unless(engine.maxSequences < engine.batchTokens, `models[${index}].engine.batchTokens`)
      ),
    rule: "must be more than maxSequences, or no room is left for prompts in a step",
    fix: "2048 is usual."
  },
  {
    broken: ({ models }) =>
      models.flatMap(({ workers, workersMax = workers }, index) =>
        unless(workersMax >= workers, `models[${index}].workersMax`)
      ),
    rule: "must not be less than workers, which is the least number of workers of the model",
    fix: "Make it larger, or workers smaller."
  },
  {
    broken: ({ models }) =>
      models.flatMap(({ workers, workersMax }, index) =>
        unless(workersMax === undefined || workers > 0, `models[${index}].workers`)
      ),
    rule: "must be at least 1 with workersMax: a model without workers refuses requests, so that none would start",
    fix: "Use 1, or leave workersMax out where workers are started elsewhere."
  },
  {
    broken: ({ models }) => unless(new Set(models.map(({ name }) => name)).size === models.length, "models"),
    rule: "must have different names",
    fix: "Rename one of the models with equal names."
  },
  {
    broken: ({ models }) =>
      models.flatMap(({ name, workers, prefillWorkers, decodeWorkers }, index) =>
        unless(
          workers + prefillWorkers + decodeWorkers === 0 || identityPattern.test(name + LONGEST_END),
          `models[${index}].name`
        )
      ),
    rule: "must be letters, digits and . _ : @ / -, at most 115, beginning with a letter or digit: workers are called by it",
    fix: "Rename the model, or make workers 0 and start them elsewhere, under names of their own."
  },
  {
    broken: ({ tenants }) =>
      unless(new Set(tenants.map(({ name }) => name)).size === tenants.length, "tenants"),
    rule: "must have different names, or only the first weight of a name would count",
    fix: "Leave out one of the tenants with equal names."
  }
]

/** Holds unless `--insecure` was typed. */
const closed: Relation = {
  broken: (config) => unless(isLoopback(config.listen.host) || isComplete(config), "listen.host"),
  rule: "lets other machines in, yet auth.clients, auth.workers and auth.admins do not all have a credential",
  fix: 'Set them, or listen.host to "127.0.0.1", or type --insecure.'
}

/** The rules between options that this configuration breaks, with the option to change. */
export const brokenRelations = (
  config: Config,
  insecure: boolean
): ReadonlyArray<{ readonly path: string; readonly rule: string; readonly fix: string }> =>
  [...relations, ...(insecure ? [] : [closed])].flatMap(({ broken, rule, fix }) =>
    broken(config).map((path) => ({ path, rule, fix }))
  )
