import { afterAll, describe, expect, test } from "bun:test"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { root } from "../support/repository.ts"
import { run, spawn } from "./support/commands.ts"

const directory = mkdtempSync(join(tmpdir(), "trace-"))
afterAll(() => rmSync(directory, { recursive: true }))
const small = "test/fixtures/small.jsonl"
const at = (name: string): string => join(directory, name)

describe("trace convert", () => {
  test("writes the same requests, compressed or not, and keeps where they come from", async () => {
    const once = await run(["trace", "convert", small, at("a.jsonl.gz"), "--limit", "50"])
    expect(once).toEqual({
      exitCode: 0,
      out: "",
      err: `${at("a.jsonl.gz")}: 50 requests in the format llm-trace/1.\n`
    })
    await run(["trace", "convert", at("a.jsonl.gz"), at("b.jsonl")])
    const [header, ...lines] = readFileSync(at("b.jsonl"), "utf8").trimEnd().split("\n")
    const [given, ...all] = readFileSync(join(root, small), "utf8").trimEnd().split("\n")
    expect(lines).toEqual(all.slice(0, 50))
    expect(JSON.parse(header!)).toMatchObject({ ...(JSON.parse(given!) as object), requests: 50 })
  })

  const agents = join(root, "../shared/traces/traces/coding-agents-a.jsonl.gz")
  if (!existsSync(agents)) console.log(`${agents} is not here: recorded think times are not converted`)
  test.skipIf(!existsSync(agents))("keeps turns and think times as they were recorded", async () => {
    await run(["trace", "convert", agents, at("agents.jsonl"), "--limit", "1000"])
    const linesOf = (text: string) => text.trimEnd().split("\n").slice(1, 1001)
    const given = linesOf(new TextDecoder().decode(Bun.gunzipSync(readFileSync(agents))))
    expect(given.filter((line) => line.includes('"think":')).length).toBeGreaterThan(900)
    expect(linesOf(readFileSync(at("agents.jsonl"), "utf8"))).toEqual(given)
    const { err } = await run(["trace", "convert", at("agents.jsonl"), at("m.jsonl"), "--format", "mooncake"])
    for (const loss of ["the turn of", "the think time of"]) expect(err).toContain(loss)
  })

  test("says what Mooncake's format has no place for", async () => {
    const { err, exitCode } = await run(["trace", "convert", small, at("m.jsonl"), "--format", "mooncake"])
    expect(exitCode).toBe(0)
    for (const loss of ["licence", "session", "tenant", "model", "blocks of 64 tokens"])
      expect(err).toContain(loss)
    expect((await run(["trace", "summary", at("m.jsonl"), "--json"])).out).toContain('"requests":80')
  })

  test("names line and field of what is wrong, or counts it when it is to be skipped", async () => {
    const bad = "test/fixtures/broken.jsonl"
    const refused = await run(["trace", "convert", bad, at("c.jsonl")])
    expect(refused).toMatchObject({ exitCode: 1, out: "" })
    expect(refused.err).toMatch(/^test\/fixtures\/broken\.jsonl:\d+:\w+: must /)
    const { err, exitCode } = await run(["trace", "convert", bad, at("c.jsonl"), "--skip-bad"])
    expect(exitCode).toBe(0)
    expect(err).toContain("skipped 1 line that did not keep to the format")
  })

  test("says when a file cannot be written", async () => {
    writeFileSync(at("file"), "")
    for (const name of [at("file/b.jsonl"), directory, "-"]) {
      const { err, exitCode } = await run(["trace", "convert", small, name])
      expect(exitCode).toBe(2)
      expect(err).toContain(`${name} cannot be written: `)
    }
  })
})

describe("a file", () => {
  const summary = (name: string) => run(["trace", "summary", at(name), "--json"])

  test("is compressed or not, whatever its name says", async () => {
    const bytes = readFileSync(join(root, small))
    writeFileSync(at("plain.jsonl.gz"), bytes)
    writeFileSync(at("packed.jsonl"), Bun.gzipSync(bytes))
    for (const name of ["plain.jsonl.gz", "packed.jsonl"])
      expect((await summary(name)).out).toContain('"requests":80')
  })

  test("that is cut short is refused with what to do", async () => {
    const packed = Bun.gzipSync(readFileSync(join(root, small)))
    writeFileSync(at("cut.jsonl.gz"), packed.subarray(0, packed.length / 2))
    expect(await summary("cut.jsonl.gz")).toMatchObject({
      exitCode: 2,
      err: `${at("cut.jsonl.gz")} is compressed, and damaged or cut short. Copy or compress it again.\n`
    })
  })

  test("without a name is refused", async () => {
    expect(await run(["trace", "summary", ""])).toMatchObject({
      exitCode: 2,
      err: "The name of a trace is empty. Give the path of a file.\n"
    })
  })

  test("with more problems than are shown says so", async () => {
    writeFileSync(at("many.jsonl"), `{"format":"llm-trace/1","blockSize":null}\n${"{}\n".repeat(9)}`)
    const { err, exitCode } = await summary("many.jsonl")
    expect(exitCode).toBe(1)
    expect(err.trimEnd().split("\n")).toHaveLength(6)
    expect(err).toEndWith("\nProblems after the first 5 are not shown.\n")
  })

  test.each([["policies recommend --trace"], ["replay-live"], ["simulate --jobs 1 --trace"]])(
    "without a request is refused by %s",
    async (command) => {
      writeFileSync(at("empty.jsonl"), '{"format":"llm-trace/1","blockSize":null}\n')
      expect(await run([...command.split(" "), at("empty.jsonl")])).toMatchObject({
        exitCode: 2,
        out: "",
        err: `${at("empty.jsonl")} has no requests.\n`
      })
    }
  )
})

describe("standard input", () => {
  const bytes = readFileSync(join(root, small))
  const packed = Bun.gzipSync(bytes)
  const given = (bytes: Uint8Array<ArrayBuffer>, args: ReadonlyArray<string>) =>
    run(args, {}, () => Promise.resolve(bytes))

  test("is a trace named -, compressed or not", async () => {
    const whole = await run(["trace", "summary", small])
    for (const input of [bytes, packed]) expect(spawn(["trace", "summary", "-"], {}, input)).toEqual(whole)
    expect(await given(packed, ["trace", "convert", "-", at("input.jsonl")])).toMatchObject({ exitCode: 0 })
    expect((await run(["trace", "summary", at("input.jsonl")])).out).toBe(whole.out)
    expect((await given(packed, ["policies", "recommend", "--trace=-"])).out).toStartWith("fixture: ")
  })

  test("has a name where it says none", async () => {
    const line = '{"timestamp":0,"input_length":1,"output_length":1}'
    expect((await given(Buffer.from(line), ["trace", "summary", "-"])).out).toStartWith(
      "standard-input (real)\n"
    )
  })

  test("of 2 GiB is refused, as no text is so long", async () => {
    expect(await given(new Uint8Array(2 ** 31), ["trace", "summary", "-"])).toMatchObject({
      exitCode: 2,
      err: expect.stringMatching(/^standard input has 2 GiB of text or more/)
    })
  })

  test.each([
    ["", 1, "standard input:1: there is nothing to read\n"],
    ['{"format":"llm-trace/1","blockSize":null}\n{"t":0}\n', 1, /^standard input:2:in: must be /],
    [
      "\u001f\u008b",
      2,
      "standard input is compressed, and damaged or cut short. Copy or compress it again.\n"
    ],
    ['{"format":"llm-trace/1","blockSize":null}\n', 2, "standard input has no requests.\n"]
  ])("of %j is refused as a file would be", async (text, exitCode, said) => {
    const ran = await given(Buffer.from(text, "latin1"), ["replay-live", "-"])
    expect(ran).toMatchObject({ exitCode, out: "" })
    expect(ran.err).toMatch(said)
  })

  test("that is no file is refused", () => {
    const { exitCode, stderr } = Bun.spawnSync(
      ["sh", "-c", 'exec "$0" src/cluster/main.ts trace summary - < test', process.execPath],
      { cwd: root }
    )
    expect(stderr.toString()).toStartWith("standard input cannot be read: ")
    expect(exitCode).toBe(2)
  })

  test("is not waited for at a terminal", async () => {
    let shown = ""
    const decoder = new TextDecoder()
    const told = Promise.withResolvers<void>()
    const child = Bun.spawn([process.execPath, "src/cluster/main.ts", "trace", "summary", "-"], {
      cwd: root,
      terminal: {
        cols: 200,
        data: (_, bytes) => {
          shown += decoder.decode(bytes, { stream: true })
          if (shown.includes("\n")) told.resolve()
        }
      }
    })
    await Promise.all([child.exited, told.promise])
    child.terminal?.close()
    expect(shown).toStartWith("Standard input is a terminal. Give the path of a file, or send one: ")
    expect(child.exitCode).toBe(2)
  })
})

describe("trace summary", () => {
  test("shows what a trace holds", async () => {
    const { exitCode, out } = await run(["trace", "summary", small])
    expect(exitCode).toBe(0)
    expect(out).toMatchInlineSnapshot(`
      "fixture (synthetic-by-authors)
      requests       80 in 35.8 s, 2.209 a second
      arrivals       CV of gaps 0.92, dispersion of minutes - (both 1 for a Poisson process)
      prompt tokens  mean 826, p50 718, p90 1470, p99 2127, max 2127
      output tokens  mean 30, p50 29, p90 57, p99 60, max 60
      shared         69.3 % of the prompt tokens came before, in blocks of 64
      sessions       24, of 3.3 requests on average
      tenants        3, the largest with 50.9 % of the tokens
      models         2
      "
    `)
  })

  test("has every figure of its document explained", async () => {
    const { out } = await run(["trace", "summary", small, "--json"])
    const page = readFileSync(join(root, "docs/traces.md"), "utf8")
    const keys = Object.keys(JSON.parse(out) as object)
    expect(keys.length).toBeGreaterThan(10)
    expect(keys.filter((key) => !page.includes(`\`${key}\``))).toEqual([])
  })
})
