import { LABEL_RULE, labelPattern } from "../label.ts"
import {
  boolean,
  choice,
  duration,
  integer,
  number,
  optional,
  section,
  secrets,
  text,
  type List,
  type Variant
} from "./Option.ts"
import { type NamedPipeline, policyList, policyVariant, type PolicyDescription } from "./pipeline.ts"

/** What the schema must be told, because it lives in layers above: the policies and engine presets there are. */
export interface Catalogue {
  readonly admissions: ReadonlyArray<PolicyDescription>
  readonly orderings: ReadonlyArray<PolicyDescription>
  readonly batchings: ReadonlyArray<PolicyDescription>
  readonly placements: ReadonlyArray<PolicyDescription>
  readonly rescues: ReadonlyArray<PolicyDescription>
  readonly scalings: ReadonlyArray<PolicyDescription>
  readonly pipelines: Readonly<Record<string, NamedPipeline>>
  readonly enginePresets: ReadonlyArray<string>
}

const MIB = 1024 * 1024
const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS

const port = (fallback: number, summary: string, consequence: string) =>
  integer({ fallback, minimum: 0, maximum: 65_535, summary, consequence })

const listen = section("Where the cluster is reached.", {
  host: text({
    fallback: "127.0.0.1",
    pattern: /^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$|^::1?$/,
    rule: "a host name or an IP address",
    summary: "Address to listen on, for TCP and HTTP.",
    consequence:
      "Any address but a loopback one lets other machines in, and is refused while `auth` is not complete."
  }),
  port: port(7420, "TCP port for clients and workers.", "0 takes a free port, which is then printed."),
  httpPort: port(8080, "Port for HTTP.", "0 takes a free port, which is then printed.")
})

const auth = section(
  "Who may connect. An empty list lets everyone in who reaches the port; list two credentials while you change one for the other.",
  {
    clients: secrets({
      summary: "Credentials of clients.",
      consequence: "With at least one, a client without a credential from the list is turned away."
    }),
    workers: secrets({
      summary: "Credentials of workers.",
      consequence:
        "With at least one, a worker without a credential from the list gets no requests. Workers the cluster starts are given one made from the first for each of them."
    }),
    admins: secrets({
      summary: "Credentials of administrators.",
      consequence: "With at least one, snapshots, drains and fault injection need a credential from the list."
    })
  }
)

const engineFaults = section("Faults to inject on purpose. The defaults inject none.", {
  slowFactor: number({
    fallback: 1,
    minimum: 1,
    maximum: 1000,
    summary: "How many times longer every step takes.",
    consequence: "Above 1 the worker is a straggler."
  }),
  failFastShare: number({
    fallback: 0,
    minimum: 0,
    maximum: 1,
    summary: "Share of requests that fail as soon as the engine gets them.",
    consequence: "They are retried on other workers, within the retry budget."
  }),
  loseHeartbeats: boolean({
    fallback: false,
    summary: "Whether the worker keeps its heartbeats to itself.",
    consequence: "It works on, and is suspected and given up like a silent one."
  }),
  stallAfter: optional(
    duration(
      {
        fallback: "10 seconds",
        minimum: 0,
        maximum: HOUR_MS,
        summary: "When the engine stands still, counted from the start of the worker.",
        consequence: "It produces nothing for `stallFor`, while its heartbeats go on."
      },
      "Ms"
    ),
    "never"
  ),
  stallFor: duration(
    {
      fallback: "5 seconds",
      minimum: 1,
      maximum: HOUR_MS,
      summary: "How long the engine stands still.",
      consequence: "Only looked at with `stallAfter`."
    },
    "Ms"
  ),
  crashAfter: optional(
    duration(
      {
        fallback: "10 seconds",
        minimum: 0,
        maximum: HOUR_MS,
        summary: "When the worker process ends as if it had been killed, counted from its start.",
        consequence: "It is started again and crashes again, ever later as the back-off grows."
      },
      "Ms"
    ),
    "never"
  )
})

const simulated = (presets: ReadonlyArray<string>) =>
  section("An engine that takes as long as a real one and answers with made-up words.", {
    preset: choice({
      fallback: presets[0] ?? "",
      words: presets,
      summary: "Which model and accelerator to imitate.",
      consequence: "Sets the cost of a step and the size of the KV cache."
    }),
    timeScale: number({
      fallback: 1,
      minimum: 0.01,
      maximum: 10_000,
      unit: "simulated seconds per second",
      summary: "How much faster than the imitated hardware the engine runs.",
      consequence: "With 30, half an hour of work takes a minute; latencies shrink by the same factor."
    }),
    burnCpu: boolean({
      fallback: false,
      summary: "Whether a step uses the processor for as long as it takes, in place of sleeping.",
      consequence: "Shows how workers compete for cores; needs a core per worker."
    }),
    maxSequences: integer({
      fallback: 128,
      minimum: 1,
      maximum: 65_536,
      unit: "sequences",
      summary: "Most sequences in the running batch.",
      consequence: "More raises throughput and makes every token slower."
    }),
    batchTokens: integer({
      fallback: 2048,
      minimum: 16,
      maximum: MIB,
      unit: "tokens",
      summary: "Most tokens computed in one step: one per running sequence, the rest for prompts.",
      consequence: "More reads prompts faster and holds up the sequences that are producing."
    }),
    kvCapacityTokens: optional(
      integer({
        fallback: 467_000,
        minimum: 1024,
        maximum: 1_000_000_000,
        unit: "tokens",
        summary: "Size of the KV cache.",
        consequence:
          "Less keeps fewer prefixes and preempts sooner; a request that needs more than all of it is refused."
      }),
      "that of the preset"
    ),
    transferGbps: number({
      fallback: 100,
      minimum: 0.001,
      maximum: 1_000_000,
      unit: "Gbit/s",
      summary:
        "What the KV cache of one split request gets of the network on its way from who has read the prompt.",
      consequence:
        "Less delays the first token of split requests. `bandwidth` of `disaggregated` is what the policy takes it for."
    }),
    capacity: optional(
      integer({
        fallback: 512,
        minimum: 1,
        maximum: 65_536,
        unit: "requests",
        summary: "Most requests the worker holds at once, running and waiting together.",
        consequence: "More moves the queue from the balancer to the worker, where it cannot be reordered."
      }),
      "256"
    ),
    faults: engineFaults
  })

/** Splitting takes two: a policy that does it, and a worker of either part. */
const partWorkers = (summary: string, consequence: string) =>
  integer({
    fallback: 0,
    minimum: 0,
    maximum: 256,
    unit: "processes",
    summary,
    consequence: `${consequence} They get nothing from a placement policy that does not split requests, as \`disaggregated\` does, nor while there are none of the other kind.`
  })

const model = (presets: ReadonlyArray<string>) =>
  section("A model and the workers that serve it.", {
    name: text({
      fallback: "sim",
      pattern: labelPattern,
      rule: LABEL_RULE,
      summary: "What clients ask for.",
      consequence:
        "Requests for a model that is not listed are rejected with `unknown_model`. Workers of this machine are called by it: with any, it is at most 115 letters, digits and `. _ : @ / -`, beginning with a letter or digit."
    }),
    workers: integer({
      fallback: 4,
      minimum: 0,
      maximum: 256,
      unit: "processes",
      summary: "Worker processes to keep alive on this machine.",
      consequence: "0 leaves the model to workers started elsewhere with `bun run worker`."
    }),
    workersMax: optional(
      integer({
        fallback: 8,
        minimum: 1,
        maximum: 256,
        unit: "processes",
        summary: "Most worker processes that a scaling policy may start on this machine.",
        consequence:
          "With more than `workers`, the number follows the load between the two, if `pipeline.scaling` names a policy other than `fixed`, which all presets have."
      }),
      "that of `workers`"
    ),
    prefillWorkers: partWorkers(
      "Worker processes beside these that only read prompts, for `decodeWorkers` to answer.",
      "More take long prompts off the workers that are producing."
    ),
    decodeWorkers: partWorkers(
      "Worker processes that only produce answers to prompts that `prefillWorkers` have read.",
      "More produce more answers at once."
    ),
    engine: {
      node: "variant",
      tag: "kind",
      name: choice({
        fallback: "simulated",
        words: ["simulated"],
        summary: "What the workers run.",
        consequence: "Decides which other engine options there are."
      }),
      cases: { simulated: simulated(presets) }
    } satisfies Variant<"kind", { readonly simulated: ReturnType<typeof simulated> }>
  })

const tenant = section("A tenant whose share differs from that of others.", {
  name: text({
    fallback: "default",
    pattern: labelPattern,
    rule: LABEL_RULE,
    summary: "As clients name it.",
    consequence: "Requests without a tenant belong to `default`."
  }),
  weight: number({
    fallback: 1,
    minimum: 0.001,
    maximum: 1000,
    summary: "Share relative to other tenants.",
    consequence:
      "Twice the weight gets about twice the tokens while both ask for more than there is, in admission and in a queue with a fair ordering. See docs/fairness.md."
  })
})

const prefixes = section(
  "What the balancer knows of the workers' prefix caches. Kept only for pipelines that ask for it.",
  {
    blockTokens: integer({
      fallback: 256,
      minimum: 1,
      maximum: 65_536,
      unit: "tokens",
      summary: "Prompt tokens that one block hash of a request stands for.",
      consequence:
        "Must be what clients make their chains with; another number makes predictions of cached tokens wrong."
    }),
    bytes: integer({
      fallback: 256 * MIB,
      minimum: MIB,
      maximum: 16 * 1024 * MIB,
      unit: "bytes",
      summary: "Memory of the prefix index of each model.",
      consequence:
        "When it is full the least recently used blocks are forgotten, though workers may hold them."
    }),
    salt: secrets({
      summary:
        "Secret that keeps the prefixes of tenants apart, so that none can probe what another has sent; the first of the list counts.",
      consequence:
        "Without one it is drawn anew at each start, and what workers have cached by then is not found again."
    })
  }
)

const limits = section("Bounds. Whatever goes beyond one is refused with the name of the limit.", {
  requests: integer({
    fallback: 65_536,
    minimum: 16,
    maximum: 65_536,
    unit: "requests",
    summary: "Most requests the balancer holds, queued and in flight together.",
    consequence:
      "One more is rejected with `limit`. Each takes about 1 KiB, and memory that was needed once is kept."
  }),
  connections: integer({
    fallback: 16_384,
    minimum: 8,
    maximum: 1_048_576,
    unit: "connections",
    summary: "Most TCP connections, clients and workers together.",
    consequence: "The operating system's limit on open files must be higher."
  }),
  frameBytes: integer({
    fallback: MIB,
    minimum: 4096,
    maximum: 64 * MIB,
    unit: "bytes",
    summary: "Largest frame a peer may send.",
    consequence: "Bounds the prompt. A larger frame ends the connection."
  }),
  outboxBytes: integer({
    fallback: 8 * MIB,
    minimum: 8192,
    maximum: 1024 * MIB,
    unit: "bytes",
    summary: "Most bytes held for a peer that does not read, and as many of CANCEL and CREDIT frames.",
    consequence:
      "A peer with more is cut off as a slow consumer. Memory can grow to this for every connection. From half of it on, requests for a worker that is slow to read wait in the balancer, so it is at least twice `limits.frameBytes`."
  }),
  requestTimeout: duration(
    {
      fallback: "10 minutes",
      minimum: 10,
      maximum: 24 * HOUR_MS,
      summary: "Deadline of a request that states none, and the longest one it may state.",
      consequence: "A request that is not done by then ends as `expired`."
    },
    "Ms"
  )
})

const failure = section("When a silent worker is given up.", {
  heartbeat: duration(
    {
      fallback: "250 millis",
      minimum: 30,
      maximum: MINUTE_MS,
      summary: "How often a worker reports its load.",
      consequence: "Shorter gives placement fresher figures and costs a frame per worker each time."
    },
    "Ms"
  ),
  suspectAfter: duration(
    {
      fallback: "1 second",
      minimum: 20,
      maximum: HOUR_MS,
      summary: "Silence after which a worker gets no new requests.",
      consequence: "Shorter avoids a stalled worker sooner and idles a busy one by mistake more often."
    },
    "Ms"
  ),
  lostAfter: duration(
    {
      fallback: "2 seconds",
      minimum: 30,
      maximum: HOUR_MS,
      summary: "Silence after which a worker is given up and its requests are retried or fail.",
      consequence:
        "Shorter frees its requests sooner; too short kills answers of a worker that was only paused."
    },
    "Ms"
  )
})

const retry = section("Second chances of a request whose worker fails before the first token.", {
  attempts: integer({
    fallback: 3,
    minimum: 1,
    maximum: 16,
    unit: "attempts",
    summary: "Most workers a request is tried on.",
    consequence:
      "1 switches retries off. More spreads a request that crashes workers over more of them. For every ten requests of a model that are let in, one may be tried again after a failure that its worker answered with, or copied by `hedge`: 3 more at first, and up to 50 that were saved up. A worker that is lost or leaves takes nothing of that."
  })
})

const scaling = section(
  "How the worker processes of this machine are kept alive, and their number decided.",
  {
    period: duration(
      {
        fallback: "15 seconds",
        minimum: SECOND_MS,
        maximum: HOUR_MS,
        summary: "How often the scaling policy of a model with `workersMax` is asked.",
        consequence: "Shorter follows the load sooner, from figures of fewer requests."
      },
      "Ms"
    ),
    restartAfter: duration(
      {
        fallback: "100 millis",
        minimum: 1,
        maximum: MINUTE_MS,
        summary:
          "Wait before a worker that crashed is started again; it doubles each time it crashes soon after.",
        consequence: "Shorter brings capacity back sooner and restarts a broken worker more often."
      },
      "Ms"
    ),
    restartAtMost: duration(
      {
        fallback: "10 seconds",
        minimum: 1,
        maximum: HOUR_MS,
        summary: "Longest wait between two starts.",
        consequence: "Longer spares the machine while a worker cannot start."
      },
      "Ms"
    ),
    startWithin: duration(
      {
        fallback: "10 minutes",
        minimum: SECOND_MS,
        maximum: 24 * HOUR_MS,
        summary: "How long a worker process may take to connect before it is ended and another one started.",
        consequence:
          "Shorter replaces one that hangs sooner; too short never lets an engine load that takes longer."
      },
      "Ms"
    )
  }
)

const drain = section("How the cluster stops.", {
  timeout: duration(
    {
      fallback: "30 seconds",
      minimum: 0,
      maximum: HOUR_MS,
      summary: "How long requests in flight may take to finish after Ctrl-C.",
      consequence: "Those that have not finished by then end in an error."
    },
    "Ms"
  )
})

const faults = section("Fault injection.", {
  enabled: boolean({
    fallback: false,
    summary: "Whether administrators may crash the balancer actor on purpose.",
    consequence: "For tests. Leave it off where others depend on the cluster."
  })
})

const log = section("Log lines, on the error output.", {
  level: choice({
    fallback: "info",
    words: ["debug", "info", "warn", "error", "none"],
    summary: "Least important lines that are written.",
    consequence:
      "`debug` also tells when actors and worker processes start and stop, and which workers come and leave. A worker that is lost is a warning; suspicions and clients' connections are in the metrics alone. No level shows prompts or credentials."
  }),
  format: choice({
    fallback: "text",
    words: ["text", "json"],
    summary: "How a line is written.",
    consequence: "`json` writes one object per line, for log collectors."
  })
})

const record = section(
  "Recording what is served as traces (docs/traces.md): times, token counts, ids of requests and numbered prefix blocks, never text.",
  {
    directory: optional(
      text({
        fallback: "recordings",
        pattern: /^\P{Cc}{1,1024}$/u,
        rule: "1 to 1024 characters without control characters",
        summary:
          "Directory that recordings are written to, from the working directory. It is made if it is not there.",
        consequence:
          "Files of the cluster's name are begun and removed there: clusters of one name need directories of their own."
      }),
      "nothing is recorded"
    ),
    fileBytesMax: integer({
      fallback: 64 * MIB,
      minimum: MIB,
      maximum: 16 * 1024 * MIB,
      unit: "bytes",
      summary: "Size at which the next file is begun, which is a trace by itself.",
      consequence: "Larger files hold longer stretches of time that can be replayed in one piece."
    }),
    files: integer({
      fallback: 16,
      minimum: 1,
      maximum: 10_000,
      unit: "files",
      summary: "Files to keep, the one that is written included.",
      consequence:
        "The oldest are removed before another is begun; together they never take more than `files` times `fileBytesMax`."
    }),
    share: number({
      fallback: 1,
      minimum: 0.0001,
      maximum: 1,
      summary: "Share of the sessions to record, and of the requests without one.",
      consequence: "Less takes less room and shows less load; a session is recorded as a whole or not at all."
    }),
    tenantNames: boolean({
      fallback: false,
      summary: "Whether tenants are recorded by name.",
      consequence:
        "Without, they are numbered. With, `bun run replay-live` sends requests under these names, so that the weights of its cluster count."
    })
  }
)

const observability = section("What is kept, to be looked at afterwards.", {
  decisions: integer({
    fallback: 4096,
    minimum: 0,
    maximum: 1_000_000,
    unit: "requests",
    summary:
      "The decisions about so many requests, more or less, are kept for `bun run explain`; the oldest make room.",
    consequence:
      "With more, a request can be explained for longer; each takes 3 KB. 0 keeps none, and saves what that costs: see docs/explain.md."
  })
})

const pipeline = (catalogue: Catalogue) =>
  section(
    "The policies that decide. A preset names one for each decision point; each can be replaced and given options.",
    {
      preset: choice({
        fallback: Object.keys(catalogue.pipelines)[0] ?? "",
        words: Object.keys(catalogue.pipelines),
        summary: "Named pipeline to start from.",
        consequence: "Sets every decision point that is not stated."
      }),
      admission: policyList(
        "Which requests are let in? A request must pass every policy of the list, in this order; an empty list lets all in.",
        catalogue.admissions
      ),
      ordering: policyVariant("Which queued request is next?", catalogue.orderings),
      batching: policyVariant("Is it placed at once, or together with others?", catalogue.batchings),
      placement: policyVariant("Which worker serves it?", catalogue.placements),
      rescue: policyList(
        "What is done about a request that was placed? Every policy of the list acts; an empty list leaves it alone.",
        catalogue.rescues
      ),
      scaling: policyVariant("How many workers has a model?", catalogue.scalings),
      pendingTokensMax: optional(
        integer({
          fallback: 8192,
          minimum: 1,
          maximum: 1_000_000_000,
          unit: "tokens",
          summary:
            "Uncached prompt tokens that may be pending at a worker: one that has as many gets nothing more until it has computed some.",
          consequence:
            "Less keeps more requests in the balancer's queue, where ordering decides; more lets placement choose freely, and binds early."
        }),
        "that of the preset, or no limit"
      )
    }
  )

/** The whole schema: the one place that says which options exist and what they mean. */
export const makeSchema = (catalogue: Catalogue) =>
  section("", {
    cluster: section("The cluster as a whole.", {
      name: text({
        fallback: "parallax",
        pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
        rule: "1 to 63 letters, digits, dots, dashes or underscores, beginning with a letter or digit",
        summary: "Name of the cluster.",
        consequence: "The balancer introduces itself with it, and recordings are named after it."
      }),
      timeScale: number({
        fallback: 1,
        minimum: 0.01,
        maximum: 10_000,
        summary:
          "How many times faster than on the clock time passes for the balancer: its policies, deadlines, heartbeats and scaling.",
        consequence:
          "With engines of the same `timeScale` the whole cluster runs so much faster, and decides as it would at its own pace. Only the suspicion of silent workers and the starts and restarts of their processes keep to the clock, and it brings heartbeats no closer together than 40 ms."
      }),
      seed: optional(
        integer({
          fallback: 1,
          minimum: 0,
          maximum: 0xffff_ffff,
          summary: "Seed of what policies draw at random.",
          consequence:
            "With one, policies draw the same after each start; balancers that share workers are better off with different ones."
        }),
        "drawn anew at each start"
      )
    }),
    listen,
    auth,
    models: {
      node: "list",
      summary: "The models served here, each with its workers.",
      item: model(catalogue.enginePresets),
      countMax: 64
    } satisfies List<ReturnType<typeof model>>,
    pipeline: pipeline(catalogue),
    tenants: {
      node: "list",
      summary:
        "Tenants with a weight of their own; all others weigh 1. Clients say whose a request is, and nobody checks it: see docs/fairness.md.",
      item: tenant,
      countMin: 0,
      countMax: 1024
    } satisfies List<typeof tenant>,
    prefixes,
    limits,
    failure,
    retry,
    scaling,
    drain,
    faults,
    record,
    observability,
    log
  })

export type ConfigSchema = ReturnType<typeof makeSchema>
