import { describe, expect, test } from "bun:test"
import { flaw, released } from "../scripts/changelog.ts"
import { sources } from "./support/repository.ts"

const head = "# Changelog\n\nNewest first.\n"
const added = { name: "added-a.md", text: "A new\nthing.\n" }
const fixed = { name: "fixed-b.md", text: "B works.\n" }

test("a version groups its fragments by kind, one line each", () => {
  expect(released(head, [fixed, added], "1.0.0", "2026-01-02")).toBe(
    `${head}\n## 1.0.0 (2026-01-02)\n\n### Added\n\n- A new thing.\n\n### Fixed\n\n- B works.\n`
  )
})

test("a later version stands before the earlier ones", () => {
  const first = released(head, [added], "1.0.0", "2026-01-02")
  const second = released(first, [fixed], "1.1.0", "2026-02-03")
  expect(second.match(/^## .*/gm)).toEqual(["## 1.1.0 (2026-02-03)", "## 1.0.0 (2026-01-02)"])
  expect(second.endsWith(first.slice(first.indexOf("## 1.0.0")))).toBe(true)
})

test("nothing to release is an error", () => {
  expect(() => released(head, [], "1.0.0", "2026-01-02")).toThrow("no fragment")
})

describe("fragments", () => {
  test("of this repository are well formed", () => {
    const fragments = sources("changelog.d", /\.md$/).map(({ path, text }) => ({
      name: path.slice("changelog.d/".length),
      text
    }))
    expect(fragments.map((fragment) => [fragment.name, flaw(fragment)])).toEqual(
      fragments.map(({ name }) => [name, undefined])
    )
  })

  test.each([
    ["new-a.md", "A thing.", "name it"],
    ["added-a.md", "a thing.", "capital"],
    ["added-a.md", "A thing", "full stop"],
    ["added-a.md", "A thing. Another one. A third.", "two sentences"],
    ["added-a.md", "A thing.\n\nMore.", "one paragraph"],
    ["added-a.md", "A:\n- thing.", "one paragraph"]
  ])("%s with %j is refused: %s", (name, text, why) => {
    expect(flaw({ name, text })).toContain(why)
    expect(() => released(head, [{ name, text }], "1.0.0", "2026-01-02")).toThrow(why)
  })
})
