import { afterAll, expect } from "bun:test"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { catalogue } from "../../src/cluster/catalogue.ts"
import { startRecording } from "../../src/cluster/recording.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import { resolveConfig } from "../../src/domain/config/resolveConfig.ts"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import { logging } from "../../src/observability/Logging.ts"
import { live } from "../support/effectTest.ts"

const directory = mkdtempSync(join(tmpdir(), "recording-"))
afterAll(() => rmSync(directory, { recursive: true }))

const configOf = (record: object) => {
  const values = { cluster: { name: "a.b-c" }, record }
  const resolved = resolveConfig(catalogue, [{ values, origin: () => "test" }], false)
  if (resolved._tag === "Invalid") throw new Error(resolved.problems.map(({ message }) => message).join())
  return resolved.config
}

const lines: Array<string> = []
const logger = logging({ level: "info", format: "text", write: (line) => void lines.push(line) })

/** Records one request of each tenant and model of these names, the first of which is that of nobody. */
const record = (options: object, names: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { recorder } = yield* startRecording(configOf(options))
    const nameOf = (index: number): string => names[index]!
    const requests = recorder?.({ modelName: nameOf, tenantName: nameOf })
    for (const index of names.keys()) {
      const chain = { count: 0, high: new Uint32Array(0), low: new Uint32Array(0) }
      const tokens = { promptTokens: 1, outputTokens: 1, maxTokens: 1, chain }
      const ids = { sessionHigh: 0, sessionLow: 0, idHigh: 0, idLow: index }
      const request = { slot: index, arrivedMs: index, ...tokens, tenant: index, model: index, ...ids }
      requests?.arrived(request)
      requests?.ended(request, Reason.none)
    }
    return requests
  }).pipe(Effect.scoped, Effect.provide(logger))

const recordedIn = (place: string) => {
  const [name] = readdirSync(place)
  expect(name).toMatch(/^a\.b-c-\d{8}T\d{6}Z-000001\.jsonl$/)
  const found = parseTrace(readFileSync(join(place, name!), "utf8"))
  if (!("trace" in found)) throw new Error(found.join())
  return found.trace
}

live("nothing is recorded unless a directory is named", () =>
  Effect.gen(function* () {
    expect(yield* record({}, ["default"])).toBeUndefined()
  })
)

live(
  "whatever tenants and models are called, the trace can be read; visible names are kept where they are asked for",
  () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.oneof(
              fc.string({ unit: "binary", maxLength: 200 }),
              fc.constantFrom('","in":9,"x":"', "a\nb", "plain")
            ),
            { maxLength: 6 }
          ),
          fc.boolean(),
          async (names, tenantNames) => {
            const place = mkdtempSync(join(directory, "run-"))
            await Effect.runPromise(record({ directory: place, tenantNames }, ["default", ...names]))
            const { requests } = recordedIn(place)
            const isLabel = (name: string): boolean => /^[\x21-\x7e]{1,128}$/.test(name)
            expect(requests.map(({ tenant }) => tenant)).toEqual([
              undefined,
              ...names.map((name, i) => (tenantNames && isLabel(name) ? name : `t${i + 1}`))
            ])
            expect(requests.map(({ model }) => model)).toEqual([
              "default",
              ...names.map((name, i) => (isLabel(name) ? name : `m${i + 1}`))
            ])
          }
        ),
        { numRuns: 40 }
      )
    )
)

live("a place where no directory can be is said once, and nothing else happens", () =>
  Effect.gen(function* () {
    const file = join(directory, "file")
    writeFileSync(file, "")
    chmodSync(file, 0o400)
    lines.length = 0
    yield* record({ directory: join(file, "below") }, ["default"])
    const said = lines.map((line) => /message="([^"]*)"/.exec(line)?.[1] ?? line)
    expect(said).toEqual([
      expect.stringMatching(
        /^requests are not recorded: \S+below cannot be written \(E\w+: .*\); tried again every 30 s$/
      ),
      expect.stringMatching(/^recorded in \S+below: 0 requests, 0 files; missing: 1$/)
    ])
  })
)
