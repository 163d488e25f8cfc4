import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** Kinds of change, in the order the changelog lists them. A fragment's file name begins with its kind in lower case. */
const kinds = ["Added", "Changed", "Fixed", "Removed"] as const

/** One file of `changelog.d`: `<kind>-<slug>.md`, one or two sentences from the user's side. */
export interface Fragment {
  readonly name: string
  readonly text: string
}

/** Why this is no fragment, or undefined when it is one. */
export const flaw = ({ name, text }: Fragment): string | undefined => {
  if (!/^(added|changed|fixed|removed)-[a-z0-9-]+\.md$/.test(name))
    return "name it <added|changed|fixed|removed>-<slug>.md"
  if (!/^[A-Z`]/.test(text)) return "begin with a capital"
  if (!text.trimEnd().endsWith(".")) return "end with a full stop"
  if (text.trimEnd().includes("\n\n") || /^[#*-]/m.test(text))
    return "write one paragraph, without headings or lists"
  if ((text.match(/[.!?](?=\s|$)/g) ?? []).length > 2) return "write at most two sentences"
  return undefined
}

/** The changelog with a section for this version put before the older ones. Throws when there are no fragments, or one is flawed. */
export const released = (
  changelog: string,
  fragments: ReadonlyArray<Fragment>,
  version: string,
  date: string
): string => {
  if (fragments.length === 0) throw new Error("changelog.d holds no fragment")
  for (const fragment of fragments) {
    const why = flaw(fragment)
    if (why !== undefined) throw new Error(`changelog.d/${fragment.name}: ${why}`)
  }
  const groups = kinds.flatMap((kind) => {
    const entries = fragments.filter(({ name }) => name.startsWith(`${kind.toLowerCase()}-`)).map(entry)
    return entries.length === 0 ? [] : [`### ${kind}\n\n${entries.join("\n")}\n`]
  })
  const section = [`## ${version} (${date})\n`, ...groups].join("\n")
  const older = changelog.search(/^## /m)
  if (older < 0) return `${changelog.trimEnd()}\n\n${section}`
  return `${changelog.slice(0, older)}${section}\n${changelog.slice(older)}`
}

const entry = ({ text }: Fragment): string => `- ${text.trim().replaceAll(/\s*\n\s*/g, " ")}`

if (import.meta.main) {
  const [version = "", date = ""] = Bun.argv.slice(2)
  if (!/^\d+\.\d+\.\d+$/.test(version) || !/^\d{4}-\d{2}-\d{2}$/.test(date)) {
    console.error("usage: bun run changelog <version> <yyyy-mm-dd>")
    process.exit(2)
  }
  const root = join(import.meta.dir, "..")
  const folder = join(root, "changelog.d")
  const names = readdirSync(folder)
    .filter((name) => name !== "README.md")
    .toSorted()
  const fragments = names.map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }))
  const path = join(root, "CHANGELOG.md")
  writeFileSync(path, released(readFileSync(path, "utf8"), fragments, version, date))
  for (const name of names) rmSync(join(folder, name))
}
