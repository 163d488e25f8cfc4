import { describe, expect, test } from "bun:test"
import fc from "fast-check"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { idleOptions } from "../../src/cluster/idleOptions.ts"
import { assign, keysOf } from "../../src/domain/config/assign.ts"
import { formatDuration, parseDuration } from "../../src/domain/config/duration.ts"
import { readEnvironment, variableOf } from "../../src/domain/config/environment.ts"
import { printConfig, printOrigins } from "../../src/domain/config/print.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import type { Layer } from "../../src/domain/config/resolve.ts"
import { suggest } from "../../src/domain/config/suggest.ts"
import { chosen } from "../../src/policies/pipelines.ts"
import { sources } from "../support/repository.ts"
import { accepted, fileWith, isListed, isTag, options, schema } from "./configArbitraries.ts"

const file = (values: unknown): Layer => ({ values, origin: () => "cluster.config.ts" })
const resolve = (...layers: ReadonlyArray<Layer>) => resolveConfig(catalogue, layers, false)
const valid = (...layers: ReadonlyArray<Layer>) => {
  const resolved = resolve(...layers)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join("\n"))
  return resolved
}
const problems = (...layers: ReadonlyArray<Layer>) => {
  const resolved = resolve(...layers)
  return resolved._tag === "Invalid" ? resolved.problems : []
}
const environment = (variables: Record<string, string>) => readEnvironment(schema, variables)

/** What the default configuration holds at a path. */
const inForce = (path: string): unknown => valid().entries.find((entry) => entry.path === path)?.value

describe("an invalid value", () => {
  const SECRET = "hunter2hunter2hunter2"
  const bad = [
    null,
    [],
    {},
    "",
    -1,
    1.5,
    1e12,
    Number.NaN,
    true,
    SECRET,
    `${SECRET} `,
    "5",
    [SECRET, 7],
    () => SECRET
  ]

  test.each(options.map((option) => [option.path, option] as const))(
    "of %s is reported with its exact path",
    (path, option) => {
      for (const value of bad) {
        if (option.leaf.decode(value) !== undefined) continue
        const found = problems(file(fileWith(path, value)))
        expect(found.map((problem) => problem.path)).toContain(path)
        for (const { message } of found) {
          expect(message).toStartWith(path)
          expect(message.length).toBeLessThanOrEqual(300)
          expect(message).not.toContain(SECRET)
        }
      }
    }
  )

  test("anywhere in a valid configuration is reported alone and without the text it holds", () => {
    fc.assert(
      fc.property(fc.constantFrom(...options), fc.anything(), (option, value) => {
        fc.pre(value !== undefined && option.leaf.decode(value) === undefined)
        const found = problems(file(fileWith(option.path, value)))
        expect(found.map(({ path }) => path)).toEqual([option.path])
        expect(found[0]!.message.length).toBeLessThanOrEqual(300)
        if (typeof value === "string" && value.length > 8) expect(found[0]!.message).not.toContain(value)
      }),
      { numRuns: 500 }
    )
  })

  test("in any number of options is reported for each of them", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.constantFrom(...options.filter(({ path }) => !isTag(path))), {
          selector: ({ path }) => path,
          minLength: 1
        }),
        (broken) => {
          const layer = assign(
            broken.map(({ path }) => ({ keys: keysOf(path), value: null, origin: "test" }))
          )
          expect(
            problems(layer)
              .map(({ path }) => path)
              .toSorted()
          ).toEqual(broken.map(({ path }) => path).toSorted())
        }
      ),
      { numRuns: 50 }
    )
  })
})

describe("precedence", () => {
  test("a later layer wins for every option, and is named as its origin", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...options).chain((option) => fc.tuple(fc.constant(option), accepted(option))),
        ([{ path }, value]) => {
          fc.pre(value !== undefined)
          const flag = assign([{ keys: keysOf(path), value, origin: "--flag" }])
          const resolved = resolve(
            file(fileWith(path, null)),
            environment({ [variableOf(path)]: "no such value" }).layer,
            flag
          )
          if (resolved._tag === "Valid") {
            const entry = resolved.entries.find((entry) => entry.path === path)
            expect(entry?.value).toEqual(value)
            expect(entry?.origin).toBe("--flag")
          } else {
            // Alone it is right; it may still break a rule between options, which then names the same flag or a default.
            for (const { message } of resolved.problems) expect(message).not.toContain("cluster.config.ts")
          }
        }
      )
    )
  })

  test("default, file, environment, flag", () => {
    const variables = environment({ PARALLAX_LISTEN_PORT: "3", PARALLAX_LISTEN_HTTP_PORT: "4" }).layer
    const flags = assign([{ keys: ["listen", "httpPort"], value: 5, origin: "--http-port" }])
    const { config, entries } = valid(
      file({ listen: { host: "::1", port: 1, httpPort: 2 } }),
      variables,
      flags
    )
    expect(config.listen).toEqual({ host: "::1", port: 3, httpPort: 5 })
    expect(
      printOrigins(entries)
        .split("\n")
        .filter((line) => /^listen|^drain/.test(line))
    ).toEqual([
      expect.stringMatching(/^listen.host = "::1" +# cluster.config.ts$/),
      expect.stringMatching(/^listen.port = 3 +# PARALLAX_LISTEN_PORT$/),
      expect.stringMatching(/^listen.httpPort = 5 +# --http-port$/),
      expect.stringMatching(/^drain.timeout = "30 seconds" +# default$/)
    ])
  })

  test("a variable changes one model of the file, and keeps the others", () => {
    const models = [{ name: "a" }, { name: "b", workers: 7 }]
    const { config } = valid(
      file({ models }),
      environment({ PARALLAX_MODELS_1_ENGINE_TIME_SCALE: "30" }).layer
    )
    expect(config.models.map(({ name, workers, engine }) => [name, workers, engine.timeScale])).toEqual([
      ["a", 4, 1],
      ["b", 7, 30]
    ])
    expect(
      problems(file({ models }), environment({ PARALLAX_MODELS_2_NAME: "c" }).layer)[0]?.message
    ).toStartWith("models[2] does not exist, the list has 2 (PARALLAX_MODELS_2_NAME)")
  })

  test("options of a policy do not outlive the choice of another policy", () => {
    const placement = { policy: "power-of-two", d: 3 }
    const named = (policy: string) =>
      assign([{ keys: ["pipeline", "placement", "policy"], value: policy, origin: "--placement" }])
    expect(valid(file({ pipeline: { placement } })).config.pipeline.placement).toEqual({
      policy: "power-of-two",
      options: { d: 3 }
    })
    const d = (value: number) => assign([{ keys: ["pipeline", "placement", "d"], value, origin: "" }])
    const placed = (...layers: ReadonlyArray<Layer>) => valid(...layers).config.pipeline.placement
    expect(placed(file({ pipeline: { placement } }), named("power-of-two"))).toEqual({
      policy: "power-of-two",
      options: { d: 3 }
    })
    expect(placed(d(3), named("round-robin"))).toEqual({ policy: "round-robin", options: {} })
    expect(placed(named("round-robin"), named("power-of-two"), d(4))).toEqual({
      policy: "power-of-two",
      options: { d: 4 }
    })
    expect(valid(file({ pipeline: { placement } }), named("round-robin")).config.pipeline.placement).toEqual({
      policy: "round-robin",
      options: {}
    })
  })

  test("every preset fills every decision point", () => {
    for (const [preset, points] of Object.entries(catalogue.pipelines)) {
      const { pipeline } = valid(file({ pipeline: { preset } })).config
      expect(pipeline.preset).toBe(preset)
      for (const point of ["admission", "ordering", "batching", "placement", "rescue", "scaling"] as const)
        expect([pipeline[point]].flat()).toMatchObject([points[point]].flat().map(chosen))
    }
  })
})

describe("a list of policies", () => {
  const admission = (...layers: ReadonlyArray<Layer>) => valid(...layers).config.pipeline.admission
  const named = (values: unknown) => file({ pipeline: { admission: values } })

  test("is replaced by the one in the file, in its order", () => {
    const chosen = admission(named([{ policy: "queue-bounds", maxQueued: 7 }, { policy: "always" }]))
    expect(chosen.map(({ policy }) => policy)).toEqual(["queue-bounds", "always"])
    expect(chosen[0]!.options["maxQueued"]).toBe(7)
  })

  test("may be empty, and is printed so", () => {
    const { config, entries } = valid(named([]))
    expect(config.pipeline.admission).toEqual([])
    expect(valid(file(JSON.parse(printConfig(entries)))).config).toEqual(config)
  })

  test("of the preset has options that a variable or a flag can set", () => {
    const { layer } = environment({ PARALLAX_PIPELINE_ADMISSION_0_MAX_QUEUED: "7" })
    expect(admission(layer)[0]!.options["maxQueued"]).toBe(7)
  })

  test.each([
    [[{ policy: "no-such" }], "pipeline.admission[0].policy"],
    [[{ policy: "always" }, { policy: "queue-bounds", maxQueued: -1 }], "pipeline.admission[1].maxQueued"],
    [[{ policy: "always", maxQueued: 1 }], "pipeline.admission[0].maxQueued"],
    [[{}], "pipeline.admission[0].policy"],
    [{ policy: "always" }, "pipeline.admission"],
    ["always", "pipeline.admission"],
    [["always"], "pipeline.admission[0]"],
    [Array.from({ length: 9 }, () => ({ policy: "always" })), "pipeline.admission"]
  ])("%j is wrong at %s", (values, path) => {
    expect(problems(named(values)).map((each) => each.path)).toContain(path)
  })
})

describe("environment", () => {
  test("each option has a variable of its own that sets it and nothing else", () => {
    expect(new Set(options.map(({ path }) => variableOf(path))).size).toBe(options.length)
    for (const { path, leaf } of options) {
      const value =
        leaf.kind === "secrets"
          ? "0123456789abcdef"
          : (inForce(path) ??
            (leaf.kind === "duration" ? "5 seconds" : path.endsWith("workersMax") ? 16 : 4096))
      const text = typeof value === "string" ? value : JSON.stringify(value)
      const { layer, problems: unknown } = environment({ [variableOf(path)]: text })
      expect(unknown).toEqual([])
      const { entries } = valid(layer)
      expect(entries.filter(({ origin }) => origin === variableOf(path)).map((entry) => entry.path)).toEqual([
        path
      ])
    }
  })

  test.each([
    [
      "PARALLAX_LISTEN_PROT",
      "1",
      'PARALLAX_LISTEN_PROT is not an option (environment). Did you mean "PARALLAX_LISTEN_PORT"?'
    ],
    [
      "PARALLAX_PORT",
      "1",
      "PARALLAX_PORT is not an option (environment). Unset it; `config docs` lists those there are."
    ],
    [
      "PARALLAX_PIPELINE_PLACEMENT",
      "random",
      'PARALLAX_PIPELINE_PLACEMENT is not an option (environment). Did you mean "PARALLAX_PIPELINE_PLACEMENT_POLICY"?'
    ],
    ["PARALLAX_LISTEN", "1", expect.stringMatching(/^PARALLAX_LISTEN is not an option/)],
    [
      "PARALLAX_MODELS_00_NAME",
      "a",
      'PARALLAX_MODELS_00_NAME is not an option (environment). Did you mean "PARALLAX_MODELS_0_NAME"?'
    ]
  ])("%s=%s is a slip", (name, text, message) => {
    expect(environment({ [name]: text }).problems.map((problem) => problem.message)).toEqual([message])
  })

  test.each([
    ["PARALLAX_SERVICE_HOST", "10.0.0.1"],
    ["PARALLAX_SERVICE_PORT_HTTP", "80"],
    ["PARALLAX_PORT", "tcp://10.0.0.1:80"],
    ["PARALLAX_PORT_80_TCP_ADDR", "10.0.0.1"],
    ["PARALLAX_CONFIG", "other.config.ts"],
    ["PATH", "/bin"]
  ])("%s=%s is none of ours", (name, text) => {
    expect(environment({ [name]: text })).toMatchObject({ problems: [], layer: { values: {} } })
  })
})

describe("messages", () => {
  test.each([
    [{ lisen: {} }, "lisen is not an option (cluster.config.ts). Did you mean listen?"],
    [{ listen: { prot: 1 } }, "listen.prot is not an option (cluster.config.ts). Did you mean listen.port?"],
    [{ drain: { x: 1 } }, "drain.x is not an option (cluster.config.ts). Known here: timeout."],
    [
      { listen: 7420 },
      "listen must be a group of options, got the number 7420 (cluster.config.ts). Write { … }."
    ],
    [{ models: [] }, "models must have 1 to 64 entries, got 0 (cluster.config.ts). Change the list."],
    [
      { models: { "1": { name: "a" } } },
      "models[1] does not exist, the list has 1 (cluster.config.ts). Add it in the file."
    ],
    [
      { models: { "00": { name: "a" } } },
      "models must be a list, got a group of options (cluster.config.ts). Write [ … ], also around a single entry."
    ],
    [
      { tenants: { chat: { weight: 3 } } },
      "tenants must be a list, got a group of options (cluster.config.ts). Write [ … ], also around a single entry."
    ],
    [
      { pipeline: { placement: "random" } },
      'pipeline.placement must be a group of options, got a text (cluster.config.ts). Write { policy: "…" }.'
    ],
    [7, "the configuration must be a group of options, got the number 7 (cluster.config.ts). Write { … }."],
    [
      { failure: { heartbeat: 250 } },
      'failure.heartbeat must be a time with its unit from "30 millis" to "1 minute", got the number 250 (cluster.config.ts). Say which unit: "250 millis" or "250 seconds".'
    ],
    [
      { drain: { timeout: "5" } },
      'drain.timeout must be a time with its unit from "0 millis" to "1 hour", got a text (cluster.config.ts). Say which unit: "5 millis" or "5 seconds".'
    ],
    [
      { log: { level: "wran" } },
      'log.level must be one of debug, info, warn, error, none, got a text (cluster.config.ts). Did you mean "warn"?'
    ],
    [
      { faults: { enabled: "yes" } },
      "faults.enabled must be true or false, got a text (cluster.config.ts). Use true or false."
    ],
    [
      { faults: { enabled: "true" } },
      "faults.enabled must be true or false, got a text (cluster.config.ts). Write it without quotes."
    ],
    [
      { auth: { clients: ["short"] } },
      "auth.clients must be a list of different texts of 16 to 512 visible ASCII characters without commas, got a list (cluster.config.ts). Make one with: openssl rand -hex 24"
    ],
    [
      { pipeline: { placement: { policy: "power-of-two", e: 3 } } },
      "pipeline.placement.e is not an option (cluster.config.ts). Did you mean pipeline.placement.d?"
    ]
  ])("%j", (values, message) => {
    expect(problems(file(values)).map((problem) => problem.message)).toEqual([message])
  })

  test("a very long key is shown in part", () => {
    const [found] = problems(file({ listen: { ["k".repeat(1000)]: 1 } }))
    expect(found!.message).toStartWith(`listen.${"k".repeat(60)} is not an option`)
    expect(found!.message.length).toBeLessThanOrEqual(300)
  })
})

describe("rules between options", () => {
  const credentials = ["0123456789abcdef"]
  test.each([
    [{ failure: { heartbeat: "1 second", suspectAfter: "1 second" } }, ["failure.suspectAfter"]],
    [{ failure: { suspectAfter: "2 seconds" } }, ["failure.lostAfter"]],
    [{ failure: { heartbeat: "3 seconds" } }, ["failure.suspectAfter"]],
    [{ scaling: { restartAfter: "30 seconds" } }, ["scaling.restartAtMost"]],
    [{ limits: { outboxBytes: 2_097_151 } }, ["limits.outboxBytes"]],
    [{ limits: { outboxBytes: 2_097_152 } }, []],
    [
      { models: [{}, { name: "b", engine: { maxSequences: 64, batchTokens: 64 } }] },
      ["models[1].engine.batchTokens"]
    ],
    [{ models: [{}, { name: "b", workers: 4, workersMax: 3 }] }, ["models[1].workersMax"]],
    [{ models: [{ workers: 4, workersMax: 4 }] }, []],
    [{ models: [{ workers: 0, workersMax: 8 }] }, ["models[0].workers"]],
    [{ models: [{ workers: 0 }] }, []],
    [{ listen: { port: 8080 } }, ["listen.httpPort"]],
    [{ listen: { port: 0, httpPort: 0 } }, []],
    [{ models: [{}, {}] }, ["models"]],
    [{ models: [{}, { name: "other" }] }, []],
    [{ models: [{ name: "meta/llama-3:8b@q4" }, { name: "base+lora" }] }, ["models[1].name"]],
    [{ models: [{ name: "m".repeat(115) }, { name: "n".repeat(116) }] }, ["models[1].name"]],
    [{ models: [{ name: "base+lora", workers: 0, decodeWorkers: 1 }] }, ["models[0].name"]],
    [{ models: [{ name: "base+lora", workers: 0 }] }, []],
    [{ tenants: [{ name: "a" }, { name: "b" }, { name: "a", weight: 2 }] }, ["tenants"]],
    [{ tenants: [{ name: "a" }, { name: "b" }] }, []],
    [{ listen: { host: "0.0.0.0" } }, ["listen.host"]],
    [{ listen: { host: "0.0.0.0" }, auth: { clients: credentials, workers: credentials } }, ["listen.host"]],
    [{ listen: { host: "0.0.0.0" }, auth: { clients: credentials, admins: credentials } }, ["listen.host"]],
    [{ listen: { host: "0.0.0.0" }, auth: { workers: credentials, admins: credentials } }, ["listen.host"]],
    [
      {
        listen: { host: "0.0.0.0" },
        auth: { clients: credentials, workers: credentials, admins: credentials }
      },
      []
    ],
    [{ listen: { host: "127.1.2.3" } }, []],
    [{ listen: { host: "127.0.0.1.example.org" } }, ["listen.host"]]
  ])("%j", (values, paths) => {
    expect(problems(file(values)).map(({ path }) => path)).toEqual(paths)
  })

  test("an open address without credentials needs --insecure to be typed", () => {
    expect(resolveConfig(catalogue, [file({ listen: { host: "0.0.0.0" } })], true)._tag).toBe("Valid")
  })
})

describe("options without effect", () => {
  const elastic = { workers: 2, workersMax: 4 }
  const scaling = { policy: "queue-driven" }
  test.each<readonly [values: object, paths: Array<string>]>([
    [{}, []],
    [{ models: [{}, { name: "b", ...elastic }] }, ["models[1].workersMax"]],
    [{ models: [{ workers: 4, workersMax: 4 }] }, []],
    [{ models: [elastic], pipeline: { scaling }, scaling: { period: "5 seconds" } }, []],
    [{ pipeline: { scaling } }, ["pipeline.scaling.policy"]],
    [{ pipeline: { scaling: { policy: "fixed" } } }, []],
    [{ scaling: { period: "5 seconds" } }, ["scaling.period"]],
    [{ scaling: { restartAfter: "5 seconds" } }, []],
    [{ models: [{ engine: { faults: { stallFor: "1 second" } } }] }, ["models[0].engine.faults.stallFor"]],
    [{ models: [{ engine: { faults: { stallFor: "1 second", stallAfter: "1 second" } } }] }, []],
    [
      { pipeline: { rescue: [{ policy: "steal" }, { policy: "migrate", above: 0.5 }] } },
      ["pipeline.rescue[1].policy"]
    ],
    [{ pipeline: { rescue: [{ policy: "hedge" }] }, retry: { attempts: 1 } }, ["pipeline.rescue[0].policy"]],
    [{ pipeline: { rescue: [{ policy: "hedge" }] }, retry: { attempts: 2 } }, []],
    [{ pipeline: { preset: "slo" }, retry: { attempts: 1 } }, ["pipeline.rescue[2].policy"]],
    [{ record: { share: 0.5, tenantNames: true } }, ["record.share", "record.tenantNames"]],
    [{ record: { share: 0.5, directory: "recordings" } }, []]
  ])("%j", (values, paths) => {
    const { config, entries } = valid(file(values))
    expect(idleOptions(config, entries).map(({ path }) => path)).toEqual(paths)
    // What is printed states every option: those at their defaults are nobody's wish.
    const printed = valid(file(JSON.parse(printConfig(entries))))
    expect(idleOptions(printed.config, printed.entries).map(({ path }) => path)).toEqual(paths)
  })
})

describe("print", () => {
  test("what is printed, read again, is the same configuration", () => {
    fc.assert(
      fc.property(fc.tuple(...options.map((option) => accepted(option))), (values) => {
        const printed = options.filter(({ leaf }) => leaf.kind !== "secrets")
        const flags = assign(
          printed.map(({ path }) => ({
            keys: keysOf(path),
            value: values[options.findIndex((o) => o.path === path)],
            origin: ""
          }))
        )
        const resolved = resolve(flags)
        fc.pre(resolved._tag === "Valid")
        expect(valid(file(JSON.parse(printConfig(resolved.entries)))).config).toEqual(resolved.config)
      }),
      { numRuns: 30 }
    )
  })

  test("every option is printed, with no credential", () => {
    const { entries, config } = valid(
      environment({ PARALLAX_AUTH_CLIENTS: "0123456789abcdef,fedcba9876543210" }).layer
    )
    const single = entries.map(({ path }) => path).filter((path) => !isListed(path))
    expect(single.toSorted()).toEqual(options.map(({ path }) => path).toSorted())
    for (const text of [
      printConfig(entries),
      printOrigins(entries),
      JSON.stringify(config),
      Bun.inspect(config)
    ]) {
      expect(text).not.toContain("0123456789abcdef")
      expect(text).not.toContain("fedcba9876543210")
    }
    expect(JSON.parse(printConfig(entries)).auth.clients).toEqual(["<redacted>", "<redacted>"])
  })
})

describe("words", () => {
  test("a duration's text is read back as the same time", () => {
    fc.assert(fc.property(fc.nat(1e9), (ms) => expect(parseDuration(formatDuration(ms))).toBe(ms)))
  })

  test.each([
    ["250ms", 250],
    ["1.5s", 1_500],
    ["2m", 120_000],
    ["1h", 3_600_000]
  ])("%p is short for %p ms", (text, ms) => expect(parseDuration(text)).toBe(ms))

  test.each([
    "5",
    "5 s",
    "5 Seconds",
    "5seconds",
    "5ss",
    "-5 seconds",
    "5  seconds",
    "five seconds",
    "5 seconds ",
    "1e3 millis",
    "5 days"
  ])("%p is not a duration", (text) => expect(parseDuration(text)).toBeUndefined())

  test("one slip in a word of four letters or more is understood", () => {
    const words = ["timeout", "requests", "connections", "frameBytes", "httpPort"]
    fc.assert(
      fc.property(
        fc.constantFrom(...words),
        fc.nat(),
        fc.constantFrom("drop", "double", "swap"),
        (word, at, slip) => {
          const i = at % (word.length - 1)
          const [a, b] = [word[i]!, word[i + 1]!]
          const put = { drop: b, double: a + a + b, swap: b + a }[slip]
          expect(suggest(word.slice(0, i) + put + word.slice(i + 2), words)).toBe(word)
        }
      )
    )
    expect(suggest("quantum", words)).toBeUndefined()
  })
})

describe("every option", () => {
  const code = sources("src", /^src\/(?!domain\/config\/).*\.ts$/)

  test.each(options.map(({ path, leaf }) => [path, `${keysOf(path).at(-1)!}${leaf.suffix}`] as const))(
    "%s is read by code, as %s",
    (_, name) => {
      const taken = `\\{[^{}]*\\b${name}\\b[^{}]*\\}`
      const read = new RegExp(`\\.${name}\\b|\\(${taken}|${taken}(?:: [^={]+)? =`)
      expect(code.filter(({ text }) => read.test(text)).map(({ path }) => path)).not.toEqual([])
    }
  )

  /** Those of lists and policies are read by whoever is given an item of the list, or the policy. */
  const single = options.filter(({ path }) => !/\[|^pipeline\./.test(path))

  test.each(single.map(({ path, leaf }) => [path, `${keysOf(path).join(".")}${leaf.suffix}`] as const))(
    "%s is read where there is a configuration, as config.%s",
    (_, path) => {
      const [, section, name] = /^(.*)\.(.*)$/.exec(path)!
      const read = [
        String.raw`\bconfig\.${section}\.${name}\b`,
        String.raw`\b${section}: \{[^{}]*\b${name}\b[^{}]*\}[^()]*\}: Config\b`,
        String.raw`\{[^{}]*\b${name}\b[^{}]*\} = config\.${section}\b`,
        // The whole section is handed on.
        String.raw`\bconfig\.${section}[,)\n]`,
        String.raw`\{[^{}:]*\b${section}\b[^{}:]*\}: Config\b[^;]*\b${section}\.${name}\b`
      ]
      expect(code.some(({ text }) => new RegExp(read.join("|")).test(text))).toBe(true)
    }
  )
})
