import { describe, expect, test } from "bun:test"
import { Glob } from "bun"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { inner, oneOf, onOff, parseFlags, seconds, someOf, text, usage, whole } from "../../bench/flags.ts"
import { root } from "../support/repository.ts"

const flags = {
  rounds: whole("rounds", 5),
  seed: whole("seed", 1, 0),
  hold: seconds("how long", 1.5),
  cell: someOf("what", ["S/1", "M/1"]),
  preset: oneOf("pipeline", ["default", "simple"], "default"),
  trace: text("file", "FILE", undefined),
  quick: onOff("shorter"),
  row: inner
}
const unsaid = {
  ...{ rounds: 5, seed: 1, hold: 1.5, cell: ["S/1", "M/1"], preset: "default" },
  ...{ trace: undefined, quick: false, row: undefined }
}

describe("flags of a bench", () => {
  test.each([
    ["", {}],
    ["--rounds 2 --quick", { rounds: 2, quick: true }],
    ["--rounds=2 --seed 0", { rounds: 2, seed: 0 }],
    ["--hold 0.5 --cell M/1", { hold: 0.5, cell: ["M/1"] }],
    [
      "--cell M/1,S/1 --preset simple --trace x --row 3",
      { cell: ["M/1", "S/1"], preset: "simple", trace: "x", row: "3" }
    ]
  ])("%s is understood", (line, said) => {
    const args = line === "" ? [] : line.split(" ")
    const values: unknown = parseFlags(flags, args)
    expect(values).toEqual({ ...unsaid, ...said })
  })

  test.each([
    ["--round 2", "--round is no flag of this program. See --help."],
    ["--constructor", "--constructor is no flag of this program. See --help."],
    ["-x", "-x is no flag of this program. See --help."],
    ["S/1", "S/1 is no flag. See --help."],
    ["-- S/1", "-- is no flag. See --help."],
    ["--rounds 0", '--rounds must be a whole number, at least 1, and not "0". See --help.'],
    ["--rounds 1.5", '--rounds must be a whole number, at least 1, and not "1.5". See --help.'],
    ["--rounds --quick", '--rounds must be a whole number, at least 1, and not "--quick". See --help.'],
    ["--rounds", "--rounds must be a whole number, at least 1. See --help."],
    ["--seed -1", '--seed must be a whole number, at least 0, and not "-1". See --help.'],
    ["--hold x", '--hold must be a number above 0, and not "x". See --help.'],
    ["--hold 0", '--hold must be a number above 0, and not "0". See --help.'],
    ["--hold Infinity", '--hold must be a number above 0, and not "Infinity". See --help.'],
    ["--cell S/1,L/1", '--cell must be some of S/1,M/1, and not "S/1,L/1". See --help.'],
    ["--preset fast", '--preset must be one of default, simple, and not "fast". See --help.'],
    ["--trace=", '--trace must not be empty, and not "". See --help.'],
    ["--quick=no", '--quick takes no value, and not "no". See --help.']
  ])("%s is refused", (line, message) => {
    expect(parseFlags(flags, line.split(" "))).toBe(message)
  })

  test("are listed under the comment of the program, without those between its processes", () => {
    expect(usage("/*\n * What?\n *\n * So.\n */\nimport x\n/*\n * No.\n */\n", flags).split("\n")).toEqual([
      "What?",
      "",
      "So.",
      "",
      "--rounds N      rounds, by default 5",
      "--seed N        seed, by default 1",
      "--hold SECONDS  how long, by default 1.5",
      "--cell NAME,…   what",
      "--preset NAME   pipeline, by default default",
      "--trace FILE    file",
      "--quick         shorter",
      "--help          print this",
      ""
    ])
  })
})

const run = (path: string, flag: string) => {
  const { exitCode, stderr, stdout } = Bun.spawnSync([process.execPath, path, flag], { cwd: root })
  return { exitCode, out: stdout.toString(), err: stderr.toString() }
}

describe("a program with flags measures nothing", () => {
  const programs = [
    ...new Glob("bench/*.bench.ts").scanSync(root),
    "scripts/fuzzProtocol.ts",
    "scripts/soak.ts"
  ].toSorted()
  test.each(programs)("%s with --help, and says what it answers", (path) => {
    const { err, exitCode, out } = run(path, "--help")
    const question = /^ \* (.+)$/m.exec(readFileSync(join(root, path), "utf8"))![1]!
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: "" })
    expect(out).toStartWith(`${question}\n`)
    expect(out).toEndWith("  print this\n")
  })

  test("with a flag that is none", () => {
    expect(run("bench/protocol.bench.ts", "--markdwon")).toEqual({
      exitCode: 2,
      out: "",
      err: "--markdwon is no flag of this program. See --help.\n"
    })
  })
})
