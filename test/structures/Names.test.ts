import { expect, test } from "bun:test"
import { Names } from "../../src/structures/Names.ts"

test("gives each name one number, in order, up to the bound", () => {
  const names = new Names(2)
  expect([names.add("a"), names.add("b"), names.add("a"), names.add("c")]).toEqual([0, 1, 0, -1])
  expect([names.find("b"), names.find("c")]).toEqual([1, -1])
  expect([names.nameOf(1), names.size, names.all()]).toEqual(["b", 2, ["a", "b"]])
})

test("a number that gets another name is not found by the old one", () => {
  const names = new Names(1)
  names.add("a")
  names.rename(0, "b")
  expect([names.find("a"), names.find("b"), names.nameOf(0), names.add("b"), names.add("c")]).toEqual([
    -1,
    0,
    "b",
    0,
    -1
  ])
})
