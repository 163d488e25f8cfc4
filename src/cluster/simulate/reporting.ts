import * as Effect from "effect/Effect"
import { resolve } from "node:path"
import type * as Pages from "../../simulator/report/page/pages.ts"
import manifest from "../../../package.json" with { type: "json" }
import { type CliFailure, failed } from "../cli/CliFailure.ts"
import { messageOf } from "../../structures/messageOf.ts"
import { jsonLine } from "../cli/jsonLine.ts"
import { Shell } from "../cli/Shell.ts"
import { checkWritable } from "../checkWritable.ts"
import { rawTrace } from "../readTrace.ts"
import type { SettingFlags } from "./setting.ts"
import { tracesOf } from "./traffic.ts"

/** Finds out whether a page can be written, before there is one. Nothing is written yet. */
export const openReport = ({ report }: SettingFlags): Effect.Effect<void, CliFailure, Shell> =>
  report === undefined ? Effect.void : checkWritable(report, `--report: ${report}`)

/** What a page tells of a run. */
export interface Told {
  readonly title: string
  readonly lead: ReadonlyArray<string>
  /** What `--json` writes. */
  readonly document: object
}

/** Writes a page that is asked for, and says so. What makes it is loaded then. */
export const writeReport = Effect.fnUntraced(function* (
  flags: SettingFlags,
  told: Told,
  pageOf: (pages: typeof Pages, provenance: Pages.Provenance) => Promise<string>
): Effect.fn.Return<void, CliFailure, Shell> {
  const { report } = flags
  if (report === undefined) return
  const { directory, err } = yield* Shell
  const traces = yield* Effect.forEach(tracesOf(flags), (name) =>
    Effect.map(rawTrace(name), (bytes) => [name, sha256Of(bytes)] as const)
  )
  const page = yield* Effect.promise(async () => {
    const pages = await import("../../simulator/report/page/pages.ts")
    return pageOf(pages, provenanceOf(flags, told, traces))
  })
  yield* Effect.tryPromise({
    try: () => Bun.write(resolve(directory, report), page),
    catch: (cause) => failed(`${report} cannot be written: ${messageOf(cause)}`)
  })
  err(`${report} is written.\n`)
})

/** Flags that change nothing in what comes out. */
const FORM = new Set(["jobs", "report", "json", "csv"])

const provenanceOf = (
  flags: SettingFlags,
  { document, lead, title }: Told,
  traces: ReadonlyArray<readonly [name: string, sha256: string]>
): Pages.Provenance => {
  const asked = Object.entries(flags)
    .filter(([name, value]) => !FORM.has(name) && value !== undefined && value !== Infinity)
    .map(([name, value]) => [name, String(value)] as const)
  const versions = [
    ["Parallax", manifest.version],
    ["commit", commit()],
    ["Bun", Bun.version]
  ] as const
  return {
    title,
    lead,
    sections: [
      { title: "What was asked for", facts: asked },
      ...(traces.length > 0 ? [{ title: "SHA-256 of the traces", facts: traces }] : []),
      { title: "Versions", facts: versions }
    ],
    facts: {
      ...(JSON.parse(jsonLine(document)) as object),
      asked: Object.fromEntries(asked),
      traces: Object.fromEntries(traces),
      versions: Object.fromEntries(versions)
    }
  }
}

const sha256Of = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex")

/** Of the program, where it runs from a checkout. */
const commit = (): string => {
  try {
    const { exitCode, stdout } = Bun.spawnSync(["git", "describe", "--always", "--dirty", "--abbrev=12"], {
      cwd: import.meta.dir,
      stderr: "ignore"
    })
    return exitCode === 0 ? stdout.toString().trim() : "unknown"
  } catch {
    return "unknown"
  }
}
