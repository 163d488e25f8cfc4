import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { configuredPipeline, contendersOf } from "../../src/cluster/simulate/contenders.ts"
import { generatedTraffic } from "../../src/cluster/simulate/generated.ts"
import { catalogue } from "../../src/cluster/catalogue.ts"
import type { PolicyDescription } from "../../src/domain/config/pipeline.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { choiceOf, makePipeline, pipelines } from "../../src/policies/pipelines.ts"
import {
  admissions,
  batchings,
  orderings,
  placements,
  rescues,
  rivals,
  scalings
} from "../../src/policies/registry.ts"
import { replay } from "../../src/simulator/replay/Replay.ts"
import { measureNames } from "../../src/simulator/report/measures.ts"
import type { TenantTokens } from "../../src/simulator/report/plots.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { replays } from "../support/replays.ts"
import { root } from "../support/repository.ts"
import { run } from "./support/commands.ts"

/** What is wrong with a preset that is no base. */
const WHOLE =
  "default is a whole pipeline: it comes first, without options, and policies behind it replace what it has, as in default+power-of-two:d=3."

const targets = { ttftMs: 2000, tpotMs: 50 }

/** The measures that are the same whenever they are taken. */
const usualNames = measureNames.filter((name) => name !== "decisionUsMean")

describe("a list of policies", () => {
  const named = (list: string) => {
    const found = contendersOf(list, "default", targets)
    if (typeof found === "string") throw new Error(found)
    return found
  }

  test("stands for what it names, each once, and all of it can be made", () => {
    const all = named("all,random")
    const names = all.map(({ name }) => name)
    expect(new Set(names).size).toBe(names.length)
    expect(names).toEqual(
      expect.arrayContaining([...Object.keys(pipelines), ...placements.map(({ name }) => name)])
    )
    for (const { pipeline } of all) makePipeline(pipeline, makeRng(1))
  })

  test("names rivals with each of their sets of parameters", () => {
    const names = named("rivals").map(({ name }) => name)
    for (const rival of rivals) expect(names.some((name) => name.split(":")[0] === rival.name)).toBe(true)
    expect(names).toEqual(expect.arrayContaining(["dynamo-kv:form=linear", "dynamo-kv:form=lmetric"]))
  })

  test("gives a placement the pipeline of the preset, which knows the targets", () => {
    const [one] = named("power-of-two:d=3")
    expect(one!.pipeline.placement).toEqual({ policy: "power-of-two", options: { d: 3 } })
    const [preset] = named("default")
    expect({ ...one!.pipeline, placement: preset!.pipeline.placement }).toEqual(preset!.pipeline)
    expect(preset!.pipeline.admission.map(({ policy }) => policy)).toEqual(
      choiceOf(pipelines.default).admission.map(({ policy }) => policy)
    )
    expect(preset!.pipeline.admission).toContainEqual({
      policy: "slo-feasible",
      options: { ttft: 2000, itl: 50 }
    })
  })

  test.each(["90s", "90000ms", "1.5m", "1.5 minutes", "90000"])("takes %j for a length of time", (length) => {
    const [one] = named(`sticky-rehoming:returnAfter=${length}`)
    expect(one!.pipeline.placement.options).toEqual({ returnAfter: 90_000 })
  })

  /** The names of policies as a pipeline has them, with nothing said but the names. */
  const choices = (names: ReadonlyArray<string>) => names.map((policy) => ({ policy, options: {} }))

  test("replaces what the base has of a kind by what is named of it", () => {
    const { batching, rescue } = choiceOf(pipelines.slo)
    const [one, other] = named(
      "slo + shortest-job+queue-bounds:maxQueued=64+least-work+kv-headroom,steal+arrival"
    )
    expect(one).toEqual({
      name: "slo+shortest-job+queue-bounds:maxQueued=64+least-work+kv-headroom",
      pipeline: {
        admission: [{ policy: "queue-bounds", options: { maxQueued: 64 } }, ...choices(["kv-headroom"])],
        ordering: { policy: "shortest-job", options: {} },
        batching,
        placement: { policy: "least-work", options: {} },
        rescue,
        pendingTokensMax: 32_768
      }
    })
    const [base] = named("default")
    expect(other!.pipeline).toEqual({
      ...base!.pipeline,
      ordering: { policy: "arrival", options: {} },
      rescue: choices(["steal"])
    })
  })

  test("may have a + in a number", () => {
    const [one] = named("power-of-two:d=0.2e+1+steal")
    expect(one!.pipeline.placement.options).toEqual({ d: 2 })
    expect(one!.pipeline.rescue).toEqual(choices(["steal"]))
  })

  test("has groups, which stand for each of their members, and are multiplied", () => {
    const namesOf = (list: string) => named(list).map(({ name }) => name)
    const groups = { admissions, batchings, orderings, placements, rescues }
    for (const [group, entries] of Object.entries(groups))
      expect(namesOf(group)).toEqual(entries.map(({ name }) => name))
    expect(namesOf("presets")).toEqual(Object.keys(pipelines))
    expect(namesOf("all")).toEqual(namesOf("presets,placements,rivals"))
    expect(namesOf("slo+rescues")).toEqual(rescues.map(({ name }) => `slo+${name}`))
    expect(named("orderings+batchings")).toHaveLength(orderings.length * batchings.length)
  })

  test("has one name for each policy, preset and group", () => {
    const policies = [admissions, orderings, batchings, placements, rivals, rescues, scalings]
    const groups = ["admissions", "orderings", "batchings", "placements", "rivals", "rescues", "all"]
    const names = [
      ...policies.flat().map(({ name }) => name),
      ...[...groups, "presets", "config", ...Object.keys(pipelines)]
    ]
    expect(names.filter((name, i) => names.indexOf(name) < i)).toEqual([])
  })

  test("of any policies is the pipeline that they name, which replays with nothing broken", () => {
    const anyOf = (entries: ReadonlyArray<PolicyDescription>) =>
      fc.constantFrom(...entries.map(({ name }) => name))
    const someOf = (entries: ReadonlyArray<PolicyDescription>, maxLength = 1) =>
      fc.uniqueArray(anyOf(entries), { maxLength })
    const parts = fc.record({
      base: fc.constantFrom(undefined, ...(Object.keys(pipelines) as ReadonlyArray<keyof typeof pipelines>)),
      admission: someOf(admissions, 4),
      ordering: someOf(orderings),
      batching: someOf(batchings),
      placement: someOf([...placements, ...rivals]),
      rescue: someOf(rescues, 5),
      from: fc.nat(10)
    })
    fc.assert(
      fc.property(parts, replays, ({ base, from, ...kinds }, options) => {
        const all = Object.values(kinds).flat()
        const policies = [...all.slice(from), ...all.slice(0, from)]
        fc.pre(base !== undefined || policies.length > 0)
        const name = [...(base === undefined ? [] : [base]), ...policies].join("+")
        const [one] = named(name)
        const preset = choiceOf(pipelines[base ?? "default"])
        const isOf = (kind: keyof typeof kinds) => policies.filter((policy) => kinds[kind].includes(policy))
        const namesOf = (choice: ReadonlyArray<{ readonly policy: string }>) =>
          choice.map(({ policy }) => policy)
        for (const kind of ["admission", "ordering", "batching", "placement", "rescue"] as const) {
          const wanted = isOf(kind).length > 0 ? isOf(kind) : namesOf([preset[kind]].flat())
          expect(namesOf([one!.pipeline[kind]].flat())).toEqual(wanted)
        }
        expect(one!.pipeline.pendingTokensMax).toBe(preset.pendingTokensMax)
        replay({ ...options, pipeline: one!.pipeline })
      }),
      { numRuns: 150 }
    )
  })

  test("takes the pipeline of a configuration, whose admissions are told what nobody wrote", () => {
    const layer = {
      values: {
        pipeline: {
          preset: "fair",
          admission: [
            { policy: "slo-feasible", itl: "70ms" },
            { policy: "queue-bounds", maxQueued: 9 }
          ],
          rescue: []
        }
      },
      origin: () => "file"
    }
    const resolved = resolveConfig(catalogue, [layer], true)
    if (resolved._tag === "Invalid") throw new Error(JSON.stringify(resolved.problems))
    const config = configuredPipeline({ ...resolved, file: "file" })
    const found = contendersOf("config,config+least-work", "default", targets, config)
    const { ordering, batching, placement, pendingTokensMax } = choiceOf(pipelines.fair)
    const pipeline = {
      admission: [
        { policy: "slo-feasible", options: { ttft: 2000, itl: 70 } },
        { policy: "queue-bounds", options: { maxQueued: 9 } }
      ],
      ordering,
      batching,
      placement,
      rescue: [],
      pendingTokensMax
    }
    expect(found).toMatchObject([
      { name: "config", pipeline },
      { name: "config+least-work", pipeline: { ...pipeline, placement: { policy: "least-work" } } }
    ])
  })

  test.each([
    ["leest-work", '"leest-work" is no policy, preset or group. Did you mean "least-work"?'],
    ["xyzzy", '"xyzzy" is no policy, preset or group. `bun run policies list` shows them all.'],
    ["", '"" is no policy, preset or group. `bun run policies list` shows them all.'],
    [
      "power-of-two:d=2,d=3",
      '"d=3" is no policy, preset or group. An option follows the name of its policy behind a colon, as in power-of-two:d=3.'
    ],
    ["default:d=2", WHOLE],
    ["steal+default", WHOLE],
    ["default+default", WHOLE],
    ["constructor", '"constructor" is no policy, preset or group. `bun run policies list` shows them all.'],
    ["config+steal", "config is the pipeline of a configuration file: name the file with --config."],
    ["steal+queue-driven", "queue-driven says how many workers there are: give it to --scale."],
    [
      "steal+random+hedge+dynamo-kv",
      "dynamo-kv is a second placement beside random, and a pipeline has one: put a comma between what is to be compared."
    ],
    [
      "slo+arrival+priority",
      "priority is a second ordering beside arrival, and a pipeline has one: put a comma between what is to be compared."
    ],
    [
      "none+window",
      "window is a second batching beside none, and a pipeline has one: put a comma between what is to be compared."
    ],
    ["random+", '"" is no policy, preset or group. `bun run policies list` shows them all.'],
    ["random+hegde", '"hegde" is no policy, preset or group. Did you mean "hedge"?'],
    ["random+2", '"random+2" is no policy, preset or group. Did you mean "random"?'],
    ["placements+orderings+admissions", "More than 1000 pipelines are named: leave out a group."],
    ["random:d=2", 'random has no option "d". It has none.'],
    ["power-of-two:e=2", 'power-of-two has no option "e". Did you mean "d"?'],
    ["power-of-two:d=99", "Option d of power-of-two must be at most 16."],
    ["power-of-two:d=", "Option d of power-of-two must be a finite number."],
    ["dynamo-kv:form=cube", "Option form of dynamo-kv must be one of linear, lmetric."],
    [
      "sticky-rehoming:returnAfter=soon",
      "Option returnAfter of sticky-rehoming must be a length of time, as in 30s, 500ms or 2m."
    ],
    ["random,,random", '"" is no policy, preset or group. `bun run policies list` shows them all.']
  ])("%j is refused with what to do", (list, problem) => {
    expect(contendersOf(list, "default", targets)).toBe(problem)
  })
})

describe("traffic to make up", () => {
  test("has defaults for all but its rate", () => {
    expect(generatedTraffic("rate=5, dispersion=2,tenants=3,sessions=0.5")).toEqual({
      requests: 5000,
      requestsPerSecond: 5,
      dispersion: 2,
      promptTokens: { mean: 1000, variation: 1 },
      outputTokens: { mean: 200, variation: 1 },
      tenants: { count: 3, skew: 1 },
      sessions: { share: 0.5, turns: 6, thinkMs: 10_000 }
    })
  })

  test.each([
    ["prompt=100", "rate must be given, as in rate=20."],
    ["rte=5", '"rte" is no setting. Did you mean "rate"?'],
    ["rate=0", "rate must be a number of at least 0.001 and at most 1000000, as in rate=20."],
    ["rate=1,prompt=many", "prompt must be a number of at least 1 and at most 1000000, as in prompt=1000."],
    ["rate=1,shared=2", "shared must be a number of at least 0 and at most 1, as in shared=0."],
    [
      "rate=1,requests=Infinity",
      "requests must be a whole number of at least 1 and at most 10000000, as in requests=5000."
    ],
    [
      "rate=1,requests=1e12",
      "requests must be a whole number of at least 1 and at most 10000000, as in requests=5000."
    ],
    ["rate=1,turns=1.5", "turns must be a whole number of at least 1 and at most 1000, as in turns=6."],
    // Each of them took for ever or all the memory there is.
    [
      "rate=1,sessions=1,turns=1e9",
      "turns must be a whole number of at least 1 and at most 1000, as in turns=6."
    ],
    [
      "rate=1,shared=1,sharedTokens=1e12",
      "sharedTokens must be a whole number of at least 256 and at most 1000000, as in sharedTokens=2048."
    ],
    [
      "rate=1,shared=1,sharedTexts=1e15",
      "sharedTexts must be a whole number of at least 1 and at most 100000, as in sharedTexts=10."
    ],
    ["rate=5,rate=6", "rate is given twice."]
  ])("%j is refused with what to do", (list, problem) => {
    expect(generatedTraffic(list)).toBe(problem)
  })
})

describe("simulate", () => {
  const traffic = [
    "--generate",
    "rate=40,requests=150,prompt=800,shared=0.5,tenants=2",
    ...["--workers", "2", "--jobs", "1"]
  ]
  /** How fast it was, and nothing else. */
  const speed = /^\d+ replays with [\d,]+ events in \d+\.\d s: [\d,]+ events\/s\n$/

  test("prints a table, and the same one again", async () => {
    const args = ["simulate", ...traffic, "--policies", "simple,random"]
    const first = await run(args)
    expect(first).toMatchObject({ exitCode: 0, err: expect.stringMatching(speed) })
    expect(first.out).toMatch(/^policy +goodput %/m)
    expect(first.out).toMatch(/^simple +\d/m)
    expect(first.out).toMatch(/^bound: each alone +\d/m)
    expect((await run(args)).out).toEqual(first.out)
  })

  test("writes one document with every figure, all of them explained", async () => {
    const { exitCode, err, out } = await run([
      "simulate",
      ...traffic,
      "--policies",
      "simple,random",
      "--seeds",
      "2",
      "--json"
    ])
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: expect.stringMatching(speed) })
    expect(out.trimEnd()).not.toContain("\n")
    const report = JSON.parse(out)
    expect(report).toMatchObject({ workers: 2, engine: "8b-h100", seeds: [1, 2], requests: 135 })
    expect(report.results.map(({ policy }: { policy: string }) => policy)).toEqual(["simple", "random"])
    for (const result of report.results) {
      expect(Object.keys(result)).toEqual(["policy", ...usualNames])
      expect(result.goodput.low).toBeLessThanOrEqual(result.goodput.mean)
      expect(result.goodput.high).toBeGreaterThanOrEqual(result.goodput.mean)
    }
    const page = await Bun.file(join(root, "docs/simulation.md")).text()
    const keys = [...measureNames, ...Object.keys(report), ...Object.keys(report.bounds)]
    expect(keys.filter((key) => !page.includes(`\`${key}\``))).toEqual([])
  })

  test("writes CSV", async () => {
    const { exitCode, out } = await run(["simulate", ...traffic, "--policies", "random", "--csv"])
    expect(exitCode).toBe(0)
    expect(out).toMatch(/^kind,policy,goodput\.mean,/)
    expect(out).toMatch(/^policy,random,/m)
  })

  test("times decisions where that is asked for, and all else stays as it is", async () => {
    const args = ["simulate", ...traffic, "--policies", "simple,random", "--seeds", "2"]
    const timed = [...args.with(args.indexOf("--jobs") + 1, "2"), "--time-decisions"]
    const usual = JSON.parse((await run([...args, "--json"])).out)
    const document = JSON.parse((await run([...timed, "--json"])).out)
    for (const measured of [...document.results, document.bounds.sharedCache]) {
      expect(measured.decisionUsMean.low).toBeGreaterThan(0)
      expect(measured.decisionUsMean.high).toBeGreaterThanOrEqual(measured.decisionUsMean.low)
      delete measured.decisionUsMean
    }
    expect(document).toEqual(usual)
    const [table, timedTable] = [(await run(args)).out, (await run(timed)).out]
    expect(timedTable).toMatch(/ decide µs$/m)
    expect(table).not.toContain("decide")
    const [csv, timedCsv] = [(await run([...args, "--csv"])).out, (await run([...timed, "--csv"])).out]
    expect(timedCsv).toMatch(/,decisionUsMean\.mean,decisionUsMean\.low,decisionUsMean\.high$/m)
    expect(csv).not.toContain("decision")
  })

  test("sweep prints rates, and writes them as one document", async () => {
    const args = ["simulate", "sweep", ...traffic, "--policies", "simple,random", "--goal", "0.8"]
    const table = await run(args)
    expect(table).toMatchObject({ exitCode: 0, err: expect.stringMatching(speed) })
    expect(table.out).toMatch(/^policy +requests\/s/m)
    expect(table.out).toMatch(/^bound +\d/m)
    const report = JSON.parse((await run([...args, "--json"])).out)
    expect(report).toMatchObject({ workers: 2, goal: 0.8, bounds: { sharedCache: { policy: "default" } } })
    expect(report.results.map(({ policy }: { policy: string }) => policy)).toEqual(["simple", "random"])
    for (const { goodput, requestsPerSecond, speed } of report.results) {
      expect(goodput).toBeGreaterThanOrEqual(0.8)
      expect(requestsPerSecond).toBeGreaterThan(0)
      expect(speed).toBeGreaterThan(0)
    }
  })

  test("sweep says which rates are those of a burst", async () => {
    const args = ["simulate", "sweep", "--generate", "rate=20,requests=50", "--policies", "random"]
    const { out } = await run(args)
    expect(out).toMatch(/^random: the rate of a burst, .* at least 450 requests that count\.$/m)
    const { notes, results } = JSON.parse((await run([...args, "--json"])).out)
    expect(out).toContain(`\n\n${notes[0]}\n`)
    expect(results[0].spanMs).toBeLessThan(1)
  })

  test("tells the world: what fails in it, who comes and goes, and who waits", async () => {
    const args = ["simulate", ...traffic, "--policies", "round-robin", "--warm-up", "0"]
    const usual = await run([...args, "--json"])
    expect(JSON.parse(usual.out).world).toEqual({})
    const figuresOf = ({ out }: { readonly out: string }) => JSON.parse(out).results[0]
    const nothing = ["--crash", "1@9000", "--slow", "0@1-9*1", "--network-ms", "0.5", "--heartbeat-ms", "250"]
    expect(figuresOf(await run([...args, "--json", ...nothing]))).toEqual(figuresOf(usual))
    const worlds = [
      ["--crash", "1@1+1"],
      ["--lose", "0@1"],
      ["--slow", "0@0-3*5"],
      ["--network-ms", "20"],
      ["--kv-tokens", "4096"],
      ["--limit", "40"],
      ["--clients", "3"]
    ]
    for (const world of worlds) {
      const ran = await run([...args, ...world])
      expect(ran.exitCode).toBe(0)
      expect(ran.out).toContain(`8b-h100; ${world[0]} ${world[1]}`)
      const document = await run([...args, "--json", ...world])
      expect(Object.values(JSON.parse(document.out).world).map(String)).toEqual([world[1]!])
      expect(figuresOf(document).ttftMsMean).not.toEqual(figuresOf(usual).ttftMsMean)
    }
  })

  test("has some workers read and others write, under the policies that split", async () => {
    const long = ["--generate", "rate=10,requests=200,prompt=6000", "--workers", "4", "--warm-up", "0"]
    const policies = ["--policies", "disaggregated,round-robin"]
    const roles = ["--roles", "prefill=2,decode=2"]
    const documentOf = async (...more: ReadonlyArray<string>) =>
      JSON.parse((await run(["simulate", ...long, ...policies, "--json", ...more])).out)
    const whole = await documentOf()
    const parted = await documentOf(...roles, "--jobs", "2")
    expect(await documentOf(...roles, "--jobs", "1")).toEqual(parted)
    expect(parted.world).toEqual({ roles: "prefill=2,decode=2", transferGbps: 100 })
    expect(parted.bounds).toEqual(whole.bounds)
    expect(parted.results[1]).toEqual(whole.results[1])
    expect(parted.results[0].failedShare.mean).toBe(0)
    expect(parted.results[0].tpotMsP99.mean).toBeLessThan(whole.results[0].tpotMsP99.mean / 2)
    const slow = await documentOf(...roles, "--transfer-gbps", "5")
    expect(slow.results[0].ttftMsMean.mean).toBeGreaterThan(1.5 * parted.results[0].ttftMsMean.mean)
    const swept = await run(["simulate", "sweep", ...long, ...policies, ...roles])
    expect(swept.out).toContain("; --roles prefill=2,decode=2; --transfer-gbps 100; ")
    const explained = await run(["simulate", ...long, ...policies, ...roles, "--explain", "9"])
    expect(explained.out).toMatch(/disaggregated picked worker-1-[01], with the answer from worker-1-[23]\n/)
  })

  test("says whether a split helps, as its page shows", async () => {
    const page = await Bun.file(join(root, "docs/simulation.md")).text()
    const [, command, shown] = /^bun run (simulate .* --roles .*)\n```\n\n```text\n([^]*?)```$/m.exec(page)!
    const { out } = await run(command!.split(" "))
    expect(out).toContain(shown!)
  })

  test("weighs tenants as it is told, in what is decided and in what is reported", async () => {
    const flood = ["--generate", "rate=60,requests=1500,prompt=2000,tenants=2,skew=0", "--workers", "1"]
    const path = join(tmpdir(), `weights-${process.pid}.html`)
    const args = ["simulate", ...flood, "--policies", "fair", "--report", path]
    const reported = async (...more: ReadonlyArray<string>) => {
      expect(await run([...args, ...more])).toMatchObject({ exitCode: 0 })
      return JSON.parse(/<script [^>]*>(.*?)<\/script>/.exec(await Bun.file(path).text())![1]!)
    }
    const alike = await reported("--jobs", "1")
    expect((await reported("--jobs", "1", "--weights", "tenant-2=1")).results).toEqual(alike.results)
    const weighed = await reported("--jobs", "2", "--weights", "tenant-1=4")
    await Bun.file(path).delete()
    expect(weighed.world).toEqual({ weights: "tenant-1=4" })
    const ratioOf = ({ plots }: typeof weighed, what: keyof TenantTokens): number => {
      const [one, other] = ["tenant-1", "tenant-2"].map((name) =>
        plots.fair.tenants.find(({ tenant }: TenantTokens) => tenant === name)
      )
      return one[what] / other[what]
    }
    expect(ratioOf(alike, "served")).toBeWithin(0.8, 1.25)
    expect(ratioOf(weighed, "served")).toBeGreaterThan(2)
    expect(ratioOf(weighed, "weight")).toBe(4)
    expect(ratioOf(weighed, "fair")).toBeCloseTo(4, 3)
  })

  test("takes weights wherever it replays", async () => {
    const weights = ["--policies", "simple", "--weights", "tenant-1=3"]
    const swept = await run(["simulate", "sweep", ...traffic, ...weights])
    expect(swept).toMatchObject({ exitCode: 0, out: expect.stringContaining("; --weights tenant-1=3; ") })
    const explained = await run(["simulate", ...traffic, ...weights, "--explain", "9", "--json"])
    expect(JSON.parse(explained.out).world).toEqual({ weights: "tenant-1=3" })
    const unknown = [...traffic, "--weights", "tenant-2=3,tenant-3=1"]
    const threads = unknown.with(unknown.indexOf("--jobs") + 1, "2")
    for (const args of [unknown, threads, ["sweep", ...unknown], [...unknown, "--explain", "9"]])
      expect(await run(["simulate", ...args])).toEqual({
        exitCode: 2,
        out: "",
        err: expect.stringMatching(
          /^--weights: no request is of a tenant "tenant-3"\. The tenants are tenant-[12], tenant-[12]\.\n$/
        )
      })
  })

  test("counts the hours of workers where their number follows the load", async () => {
    const slow = ["--generate", "rate=4,requests=150,prompt=800", "--workers", "1", "--policies", "random"]
    const scale = [
      "--scale",
      "queue-driven:concurrency=1:drain=10s",
      "--workers-max",
      "4",
      "--cold-start",
      "500ms"
    ]
    const scaled = await run(["simulate", ...slow, ...scale])
    expect(scaled.out).toMatch(/^1 to 4 workers 8b-h100; --scale queue-driven:concurrency=1:drain=10s;/m)
    expect(scaled.out).toMatch(/ worker h$/m)
    const { results } = JSON.parse((await run(["simulate", ...slow, ...scale, "--json"])).out)
    const lastsHours = 150 / 4 / 3600
    expect(results[0].workerHours.mean).toBeWithin(1.1 * lastsHours, 4 * lastsHours)
    expect((await run(["simulate", ...slow])).out).not.toContain("worker h")
  })

  test("takes the pipeline of a configuration wherever it replays", async () => {
    const config = ["--config", "test/fixtures/pipeline.json"]
    const mine = [...traffic, ...config, "--policies", "config,config+random"]
    const threads = mine.with(mine.indexOf("--jobs") + 1, "2")
    const [table, other] = [await run(["simulate", ...mine]), await run(["simulate", ...threads])]
    expect(table.out).toMatch(
      /; base pipeline "default"; --config test\/fixtures\/pipeline\.json; one seed\n/
    )
    expect(other.out).toBe(table.out)
    const { config: file, results } = JSON.parse((await run(["simulate", ...mine, "--json"])).out)
    expect(file).toBe("test/fixtures/pipeline.json")
    const same = "simple+shortest-job+hedge:after=30ms,simple+shortest-job+hedge:after=30ms+random"
    const parts = JSON.parse((await run(["simulate", ...traffic, "--policies", same, "--json"])).out)
    expect(results).toEqual(
      parts.results.map((result: object, i: number) => ({
        ...result,
        policy: ["config", "config+random"][i]
      }))
    )
    const environment = { PARALLAX_PIPELINE_PLACEMENT_POLICY: "random" }
    const random = JSON.parse((await run(["simulate", ...mine, "--json"], environment)).out)
    expect(random.results[0]).toEqual({ ...results[1], policy: "config" })
    expect((await run(["simulate", ...mine, "--csv"])).out).toMatch(/^policy,config\+random,/m)
    expect((await run(["simulate", "sweep", ...mine])).out).toMatch(/^config\+random +\d/m)
    expect((await run(["simulate", ...mine, "--explain", "9"])).out).toMatch(
      /^Request 9 of .*, under "config"\n/
    )
  })

  test("has clients of recorded traffic wait, who come on time where nobody is slow", async () => {
    const args = ["simulate", "--trace", "test/fixtures/small.jsonl", "--workers", "8", "--warm-up", "0"]
    const both = [[], ["--closed-loop"]].map((more) =>
      run([...args, "--policies", "default", "--json", ...more])
    )
    const [open, closed] = (await Promise.all(both)).map(({ out }) => JSON.parse(out).results[0])
    expect(closed.goodputRps.mean / open.goodputRps.mean).toBeWithin(0.95, 1.0001)
  })

  test("has clients of recorded traffic wait, who come on time however far the workers are", async () => {
    const header = { format: "llm-trace/1", name: "steady", kind: "real", blockSize: null }
    const requests = Array.from({ length: 20 }, (_, i) => ({ t: 10_000 * i, in: 500, out: 50, session: "s" }))
    const path = join(tmpdir(), `steady-${process.pid}.jsonl`)
    await Bun.write(path, [header, ...requests].map((line) => JSON.stringify(line)).join("\n"))
    const { out } = await run([
      ...["simulate", "--trace", path, "--workers", "1", "--warm-up", "0", "--policies", "random", "--json"],
      ...["--closed-loop", "--network-ms", "200"]
    ])
    await Bun.file(path).delete()
    expect(JSON.parse(out).results[0].goodputRps.mean).toBeCloseTo(20 / 190, 4)
  })

  test("has clients of recorded traffic think so many times faster, whether or not that was recorded", async () => {
    const header = { format: "llm-trace/1", name: "steady", kind: "real", blockSize: null }
    const path = join(tmpdir(), `faster-${process.pid}.jsonl`)
    const replayed = async (speed: number, think?: number) => {
      const requests = Array.from({ length: 20 }, (_, i) => ({
        ...{ t: 10_000 * i, in: 500, out: 50, session: "s" },
        ...(i > 0 && { think })
      }))
      await Bun.write(path, [header, ...requests].map((line) => JSON.stringify(line)).join("\n"))
      const { out } = await run([
        ...[
          "simulate",
          "--trace",
          path,
          "--workers",
          "1",
          "--warm-up",
          "0",
          "--policies",
          "random",
          "--json"
        ],
        ...["--closed-loop", "--speed", String(speed)]
      ])
      await Bun.file(path).delete()
      return JSON.parse(out).results[0]
    }
    // So fast that requests would come closer together than answers take.
    const [usual, fast] = [await replayed(1), await replayed(40)]
    const thinkMs = 10_000 - usual.e2eMsMean.mean
    expect(fast.e2eMsMean.mean).toBe(usual.e2eMsMean.mean)
    expect(1 / fast.goodputRps.mean).toBeCloseTo((19 * (usual.e2eMsMean.mean + thinkMs / 40)) / 20_000, 4)
    expect(fast.goodputRps.mean).toBeCloseTo((await replayed(40, Math.round(thinkMs))).goodputRps.mean, 3)
  })

  test("lays traces over each other", async () => {
    const file = "test/fixtures/small.jsonl"
    const args = ["simulate", "--warm-up", "0", "--policies", "random", "--json"]
    const one = JSON.parse((await run([...args, "--trace", file])).out)
    const two = JSON.parse((await run([...args, "--trace", `${file}, ${file}`])).out)
    expect([one.requests, two.requests]).toEqual([80, 160])
  })

  test("has no rate, and no workers that are busy, of traffic that takes no time, and rates of a year", async () => {
    const path = join(tmpdir(), `rates-${process.pid}.jsonl`)
    const replayed = async (...times: ReadonlyArray<number>) => {
      const header = { format: "llm-trace/1", name: "rare", kind: "real", blockSize: null }
      const requests = times.map((t) => ({ t, in: 500, out: 50 }))
      await Bun.write(path, [header, ...requests].map((line) => JSON.stringify(line)).join("\n"))
      const args = ["simulate", "--trace", path, "--warm-up", "0", "--policies", "random"]
      const documents = [await run([...args, "--json"]), await run(["trace", "summary", path, "--json"])]
      const texts = [await run(args), await run(["policies", "recommend", "--trace", path])]
      return {
        documents: documents.map(({ out }) => JSON.parse(out)),
        text: texts.map(({ out }) => out).join("")
      }
    }
    const once = await replayed(7)
    expect(once.documents).toMatchObject([
      { bounds: { capacity: { workersNeeded: null } } },
      { requestsPerSecond: null }
    ])
    expect(once.text).toMatch(/^bound: time +100\.0/m)
    expect(once.text).toContain("rare: all at one moment, ")
    const yearMs = 365 * 86_400_000
    const rare = await replayed(0, yearMs)
    await Bun.file(path).delete()
    expect(rare.documents[0].results[0].goodputRps.mean).toBe(6.342e-8)
    expect(rare.documents[1].requestsPerSecond).toBe(3.171e-8)
    expect(rare.text).toContain("rare: 3.17e-8 requests/s, ")
  })

  test.each([
    ["", /^What is the traffic\? Give --trace FILE, or --generate rate=20/],
    ["--generate rate=1 --trace x", /^--trace and --generate both say what the traffic is/],
    ["--generate rate=1 --json --csv", /^--json and --csv are two formats/],
    ["--trace absent.jsonl", /^absent\.jsonl cannot be read: /],
    ["--generate rate=1 --policies nearest", /^--policies: "nearest" is no policy, preset or group/],
    ["--generate rate=1 --policies config", /^--policies: config is .*: name the file with --config\.\n$/],
    [
      "--generate rate=1 --config x.json --policies config",
      /^x\.json does not exist\. Give --config the path/
    ],
    [
      "--generate rate=1 --config test/fixtures/pipeline.json",
      /^--config is for --policies: name config there, as in --policies config,default\.\n$/
    ],
    ["--generate speed=1", /^--generate: "speed" is no setting/],
    ["--generate rate=1 --engine 9b", /^Invalid value for flag --engine: "9b"\. Expected: .*8b-h100/],
    [
      "--generate rate=1 --warm-up 1",
      /^Invalid value for flag --warm-up: "1"\. Expected: a number from 0 to 0\.9/
    ],
    [
      "sweep --generate rate=1 --goal 2",
      /^Invalid value for flag --goal: "2"\. Expected: a number above 0 and at most 1\n/
    ],
    ["sweep --generate rate=1 --goal 0", /^Invalid value for flag --goal: "0"\. Expected: a number above 0/],
    [
      "--generate rate=1 --slo-ttft 0.5",
      /^Invalid value for flag --slo-ttft: "0\.5"\. .* of at least 1 ms, as in 5s/
    ],
    ["--generate rate=1 --slo-tpot 0.05", /^Invalid value for flag --slo-tpot: .* of at least 1 ms/],
    ["sweep --generate rate=1 --speed 2", /^Unrecognized flag: --speed/],
    ["--generate rate=1 --workers 0", /^Invalid value for flag --workers: "0"\. Expected: at least 1/],
    ["--generate rate=1 --seeds 0", /^Invalid value for flag --seeds: "0"\. Expected: at least 1/],
    ["--generate rate=1 --crash 8@3", /^--crash: "8@3" must be worker@second, .* from 0 to 7\.\n$/],
    ["--generate rate=1 --lose 1@2,x", /^--lose: "x" must be worker@second, .* as in 7@60\+30\./],
    ["--generate rate=1 --slow 0@5-3*2", /^--slow: "0@5-3\*2" must be .* as in 7@30-90\*4\./],
    ["--generate rate=1 --slow 0@3-5*0.5", /^--slow: .* the factor at least 1/],
    ["--generate rate=1 --scale fixed", /^--scale: give --workers-max as well/],
    [
      "--generate rate=1 --policies disaggregated --roles prefill=8,decode=1",
      /^--roles: "prefill=8,decode=1" must be .* at most 8, as in prefill=1,decode=7: --workers is 8\.\n$/
    ],
    [
      "--generate rate=1 --policies disaggregated --roles prefill=4,decode=4 --scale fixed --workers-max 9",
      /^--roles: .* together at most 7, .*: --workers is 8, and --scale needs one that does both\.\n$/
    ],
    [
      "--generate rate=1 --policies disaggregated --roles decode=4",
      /^--roles: "decode=4" must be prefill=count/
    ],
    ["--generate rate=1 --policies disaggregated --roles decode=1,decode=1", /^--roles: .* each at least 1/],
    ["--generate rate=1 --policies rivals --roles prefill=4,decode=4", /^--roles: none of --policies splits/],
    ["--generate rate=1 --transfer-gbps 10", /^--transfer-gbps is for --roles/],
    [
      "--generate rate=1 --roles prefill=4,decode=4 --transfer-gbps 0",
      /--transfer-gbps.* from 0\.001 to 1000000/
    ],
    ["--generate rate=1 --workers-max 9", /^--workers-max is for --scale/],
    ["--generate rate=1 --cold-start 5s", /^--cold-start is for --scale/],
    ["--generate rate=1 --workers 99999999", /--workers.* Expected: at least 1 and at most 10000\n/],
    ["--generate rate=1 --speed 1e-9", /--speed.* Expected: at least 0\.001 and at most 1000\n/],
    [
      "--generate rate=1 --scale queue-drive --workers-max 9",
      /^--scale: "queue-drive" is no scaling policy\. Did you mean .*queue-driven/
    ],
    [
      "--generate rate=1 --scale queue-driven:drian=1 --workers-max 9",
      /^--scale: queue-driven has no option "drian"\. Did you mean/
    ],
    [
      "--generate rate=1 --scale fixed --workers-max 9 --cold-start soon",
      /^--cold-start: "soon" must be a length of time, as in 30s/
    ],
    [
      "--generate rate=1 --weights chat",
      /^--weights: "chat" must be tenant=weight, the weight a number from 0\.001 to 1000, as in chat=3\.\n$/
    ],
    ["--generate rate=1 --weights default=0", /^--weights: "default=0" must be /],
    ["--generate rate=1 --weights default=1,default=2", /^--weights: default is given twice\.\n$/],
    ["--generate rate=1 --network-ms -1", /^Invalid value for flag --network-ms/],
    ["sweep --generate rate=1 --closed-loop", /^Unrecognized flag: --closed-loop/],
    ["sweep --generate rate=1 --time-decisions", /^Unrecognized flag: --time-decisions/],
    [
      "sweep --generate rate=1,requests=1 --jobs 1",
      /^simulate sweep looks for a rate: give traffic of at least two requests, not all at one moment\.\n$/
    ],
    ["sweep --generate rate=1,requests=3,sessions=1,think=0 --jobs 2", /^simulate sweep looks for a rate/],
    [
      "--generate rate=1 --scale queue-driven:drain=soon --workers-max 9",
      /^--scale: Option drain of queue-driven must be a length of time, as in 30s, 500ms or 2m\.\n$/
    ]
  ])("%s is refused with exit code 2", async (args, err) => {
    const ran = await run(["simulate", ...args.split(" ").filter((arg) => arg !== "")])
    expect(ran).toMatchObject({ exitCode: 2, out: "" })
    expect(ran.err).toMatch(err)
  })

  test("a trace that breaks its format fails with line and field", async () => {
    expect(await run(["simulate", "--trace", "test/fixtures/broken.jsonl"])).toMatchObject({
      exitCode: 1,
      out: "",
      err: expect.stringMatching(
        /^test\/fixtures\/broken\.jsonl:2:in: must be a whole number from 1 to 4294967295\n$/
      )
    })
  })
})

describe("policies recommend", () => {
  const args = ["policies", "recommend", "--trace", "test/fixtures/small.jsonl", "--workers", "4"]

  test("says what and why", async () => {
    const { exitCode, err, out } = await run(args)
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" })
    expect(out).toMatch(/^Start from the preset "default":$/m)
    expect(out).toMatch(/^ {2}placement {2}predicted-completion/m)
    expect(out).toMatch(/^Because:\n {2}69 % of the prompt tokens came before/m)
  })

  test("with --json is one document", async () => {
    const report = JSON.parse((await run([...args, "--latency-target", "--speed", "2", "--json"])).out)
    expect(report).toMatchObject({
      trace: "fixture",
      fleet: { workers: 4, speedRatio: 1, latencyTarget: true },
      preset: "default",
      pipeline: { placement: { policy: "predicted-completion" } }
    })
    const once = JSON.parse((await run([...args, "--json"])).out)
    expect(report.traffic.requestsPerSecond / once.traffic.requestsPerSecond).toBeCloseTo(2, 3)
  })

  test.each([
    [["--trace", "absent.jsonl"], 2, /^absent\.jsonl cannot be read/],
    [["--trace", "test/fixtures/broken.jsonl"], 1, /^test\/fixtures\/broken\.jsonl:2:in: /],
    [[], 2, /^Missing required flag: --trace/]
  ])("%j fails", async (flags, exitCode, err) => {
    const ran = await run(["policies", "recommend", ...flags])
    expect(ran).toMatchObject({ exitCode, out: "" })
    expect(ran.err).toMatch(err)
  })
})
