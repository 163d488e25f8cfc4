import { expect, test } from "bun:test"
import { pages } from "../scripts/generateDocs.ts"
import { sources } from "./support/repository.ts"

test.each(pages)("$path is as the code says; if not: bun scripts/generateDocs.ts", ({ path, render }) => {
  const [page] = sources("", new RegExp(`^${path}$`))
  expect(page?.text).toBe(render())
})
