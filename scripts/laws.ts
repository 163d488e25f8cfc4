import { readFileSync } from "node:fs"
import { join } from "node:path"
import { aligned } from "../src/structures/aligned.ts"
import type { LawRecord } from "../test/support/lawRecord.ts"

/*
 * `bun run laws`: runs the laws of structures and policies, and shows that they can fail: every planted defect, the law that found it, and
 * after how many runs (– where a law does not count them). Ends with 1 when a law does not hold, a defect is not found, or one of the
 * defects or laws that docs/invariants.md names is missing.
 */

/** The family of a law that is in no table. */
const UNLISTED = "not listed"

const root = join(import.meta.dir, "..")
const page = readFileSync(join(root, "docs/invariants.md"), "utf8")

interface Row {
  readonly section: string
  readonly cells: ReadonlyArray<string>
}

/** The rows of the page's tables, each with the heading above it. */
const rowsOf = (text: string): ReadonlyArray<Row> => {
  let section = ""
  return text.split("\n").flatMap((line): ReadonlyArray<Row> => {
    if (line.startsWith("#")) section = line.replace(/^#+ /, "")
    if (!line.startsWith("| ") || line.startsWith("| --")) return []
    const cells = line.split("|").slice(1, -1)
    return [{ section, cells: cells.map((cell) => cell.trim()) }]
  })
}

const tests = Bun.spawnSync(
  [process.execPath, "test", "--timeout", "60000", "--preload", "./scripts/recordLaws.ts"].concat(
    ["laws", "policies", "structures"].map((folder) => `test/${folder}/`)
  ),
  { cwd: root, stdout: "pipe", stderr: "pipe" }
)
const output = `${tests.stdout.toString()}\n${tests.stderr.toString()}`
const recorded = /^records (.*)$/m.exec(output)?.[1]
if (recorded === undefined) throw new Error(`the tests did not end\n${output.slice(-4000)}`)
const records = JSON.parse(recorded) as ReadonlyArray<LawRecord>

/** Rows that name a test: not the heads, and not what laws together show. */
const lawRows = rowsOf(page).filter(({ cells }) => cells[2]?.includes(".test.ts"))
const familyOf = new Map(lawRows.map(({ section, cells: [id] }) => [id, section]))
const found = records.flatMap((record) => ("defect" in record ? [record] : []))
const held = records.flatMap((record) => ("defect" in record ? [] : [record]))
const families = [...new Set([...lawRows.map(({ section }) => section), UNLISTED])]

const table = families.flatMap((family) =>
  found
    .filter(({ law }) => (familyOf.get(law) ?? UNLISTED) === family)
    .toSorted((a, b) => a.law.localeCompare(b.law) || a.defect.localeCompare(b.defect))
    .map(({ defect, law, runs }) => [family, defect, law, runs?.toString() ?? "–"])
)
console.log(aligned([["family", "planted defect", "found by", "runs"], ...table], "  ", 4).join("\n"))

const failed = [...new Set(output.match(/^\(fail\) .*$/gm) ?? [])]
const missing = [...page.matchAll(/^ {2}- \w+: (.+) → `([\w-]+)`$/gm)].filter(
  ([, defect, law]) => !found.some((one) => one.defect === defect && one.law === law)
)
const unlisted = [...new Set(found.map(({ law }) => law).filter((law) => !familyOf.has(law)))]
for (const line of failed) console.log(line)
for (const [line] of missing) console.log(`not found: ${line.trim()}`)
for (const law of unlisted) console.log(`not in docs/invariants.md: ${law}`)

const sum = (of: (record: (typeof held)[number]) => number): string =>
  held.reduce((total, record) => total + of(record), 0).toLocaleString("en")
const isWell = tests.exitCode === 0 && missing.length === 0 && unlisted.length === 0
console.log(
  `\n${isWell ? "✓" : "✗"} ${sum(({ properties }) => properties)} properties held in ${sum(({ runs }) => runs)} runs · ` +
    `${lawRows.length} laws in docs/invariants.md · ${found.length} planted defects found · ${failed.length} tests failed`
)
process.exit(isWell ? 0 : 1)
