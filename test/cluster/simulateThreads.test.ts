import { describe, expect, test } from "bun:test"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { commandLine } from "../../src/cluster/cli/commandLine.ts"
import { Thread } from "../../src/cluster/simulate/Thread.ts"
import type { Job } from "../../src/simulator/report/Study.ts"
import { root } from "../support/repository.ts"
import { noInput, run } from "./support/commands.ts"

const traffic = ["--generate", "rate=40,requests=120,prompt=800,shared=0.5,tenants=2", "--workers", "2"]
const policies = ["--policies", "simple,random"]

/** Does something with an empty directory. */
const inDirectory = async (doing: (directory: string) => Promise<void>): Promise<void> => {
  const directory = await mkdtemp(join(tmpdir(), "simulate-"))
  try {
    await doing(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

describe("however many replays there are at a time", () => {
  test.each([
    ["simulate", ["1", "2", "3"], ["simulate", ...traffic, ...policies, "--seeds", "2", "--json"]],
    [
      "simulate sweep",
      ["1", "3"],
      ["simulate", "sweep", ...traffic, "--policies", "random", "--goal", "0.8", "--json"]
    ]
  ])("%s prints the same and writes the same page", (_, counts, args) =>
    inDirectory(async (directory) => {
      const results = []
      for (const jobs of counts) {
        const page = join(directory, `${jobs}.html`)
        const { err, exitCode, out } = await run([...args, "--jobs", jobs, "--report", page])
        expect({ exitCode, err }).toEqual({
          exitCode: 0,
          err: expect.stringMatching(/ events\/s\n.*\.html is written\.\n$/)
        })
        results.push({ out, page: await Bun.file(page).text() })
      }
      expect(results[0]!.out).toContain('"policy":"random"')
      for (const result of results) expect(result).toEqual(results[0]!)
    })
  )

  test("a trace is read by each thread, and what is wrong with it said once", async () => {
    const args = ["simulate", ...policies, "--jobs", "2", "--workers", "2", "--json"]
    const alone = await run([...args.with(4, "1"), "--trace", "test/fixtures/small.jsonl"])
    const { out } = await run([...args, "--trace", "test/fixtures/small.jsonl"])
    expect(out).toBe(alone.out)
    expect(await run([...args, "--trace", "test/fixtures/broken.jsonl"])).toMatchObject({
      exitCode: 1,
      out: "",
      err: "test/fixtures/broken.jsonl:2:in: must be a whole number from 1 to 4294967295\n"
    })
  })
})

describe("a page", () => {
  test("says where it comes from", () =>
    inDirectory(async (directory) => {
      const path = join(directory, "out.html")
      const trace = "test/fixtures/small.jsonl"
      const args = [
        "simulate",
        "--trace",
        trace,
        "--workers",
        "2",
        "--jobs",
        "1",
        "--policies",
        "random",
        "--json"
      ]
      const { out } = await run([...args, "--report", path])
      const page = await Bun.file(path).text()
      const bytes = await Bun.file(join(root, trace)).bytes()
      expect(page).toContain(new Bun.CryptoHasher("sha256").update(bytes).digest("hex"))
      expect(page).toContain(`<dt>Bun</dt><dd>${Bun.version}</dd>`)
      expect(page).toContain("<dt>seed</dt><dd>1</dd>")
      expect(page).not.toContain(directory)
      const document = JSON.parse(/<script [^>]*>(.*?)<\/script>/.exec(page)![1]!)
      expect(document).toMatchObject(JSON.parse(out))
      expect(document.plots.random.ttftMs.length).toBeGreaterThan(100)
    }))

  test.each(["absent/out.html", "", "out.html/within"])(
    "that cannot be written, at %j, is refused before anything is replayed",
    (name) =>
      inDirectory(async (directory) => {
        await Bun.write(join(directory, "out.html"), "")
        const path = join(directory, name)
        const { err, exitCode, out } = await run(["simulate", ...traffic, "--report", path])
        expect({ exitCode, out }).toEqual({ exitCode: 2, out: "" })
        expect(err).toStartWith(`--report: ${path} cannot be written: `)
        expect(err).not.toContain("replays")
      })
  )
})

test("standard input is replayed in threads as in none, and is one of several traces at most", async () => {
  const bytes = await Bun.file(join(root, "test/fixtures/small.jsonl")).bytes()
  const simulated = (trace: string, jobs: string, ...more: ReadonlyArray<string>) => {
    const args = ["simulate", "--trace", trace, "--policies", "random", "--jobs", jobs, ...more]
    return run(args, {}, () => Promise.resolve(bytes))
  }
  await inDirectory(async (directory) => {
    const page = join(directory, "out.html")
    const { err, exitCode, out } = await simulated("-", "2", "--report", page)
    expect({ err, exitCode }).toMatchObject({ err: expect.stringContaining("replays"), exitCode: 0 })
    expect(out).toStartWith("standard input at speed 1: ")
    expect(out).toBe((await simulated("-", "1")).out)
    const file = (await simulated("test/fixtures/small.jsonl", "1")).out
    expect(out.replace("standard input", "test/fixtures/small.jsonl")).toBe(file)
    expect(await Bun.file(page).text()).toContain(new Bun.CryptoHasher("sha256").update(bytes).digest("hex"))
  })
  expect((await simulated("test/fixtures/conversations.jsonl.gz,-", "2", "--limit", "50")).exitCode).toBe(0)
  expect(await simulated("small,-, -", "2")).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining("- once at most")
  })
})

test("a pipe is not read by several threads, nor to be read again for a page", async () => {
  await inDirectory(async (directory) => {
    const trace = join(directory, "pipe")
    Bun.spawnSync(["mkfifo", trace])
    const args = ["simulate", "--trace", trace, "--policies", "random", "--jobs"]
    for (const more of [["2"], ["1", "--report", join(directory, "out.html")]])
      expect(await run([...args, ...more])).toEqual({
        exitCode: 2,
        out: "",
        err: expect.stringMatching(/^--trace: .*\/pipe is a pipe, .* \| bun run simulate --trace -\n$/)
      })
    // Whoever opens it waits for a reader.
    Bun.spawn(["sh", "-c", `cat test/fixtures/small.jsonl > ${trace}`], { cwd: root })
    expect((await run([...args, "1"])).exitCode).toBe(0)
  })
})

test("a signal ends a command that replays in no thread, at once", async () => {
  await inDirectory(async (directory) => {
    const trace = join(directory, "long.jsonl")
    // The heartbeats of thirty years, between two requests.
    const lines = ["{}", '{"t":0,"in":1,"out":1}', '{"t":1e12,"in":1,"out":1}']
    await Bun.write(trace, ['{"format":"llm-trace/1","blockSize":null}', ...lines].join("\n"))
    const args = ["simulate", "--trace", trace, "--skip-bad", "--policies", "random", "--jobs", "1"]
    const child = Bun.spawn([process.execPath, "src/cluster/main.ts", ...args], {
      cwd: root,
      stderr: "pipe",
      stdout: "ignore"
    })
    const { value } = await child.stderr.getReader().read()
    expect(new TextDecoder().decode(value)).toContain("skipped 1 line that")
    child.kill("SIGTERM")
    await child.exited
    expect(child.signalCode).toBe("SIGTERM")
  })
})

describe("a thread", () => {
  const options = { flags: {} as never, directory: root, input: undefined }
  const job: Job = { contender: undefined, seed: 1, speed: 1, plots: false }
  /** A thread that is ready at once, and does this when there is a job. */
  const doing = (program: string) => {
    const text = `import { parentPort } from "node:worker_threads"
      let asked = 0
      parentPort.on("message", () => { if (asked++ === 0) parentPort.postMessage({ said: "" }); else { ${program} } })`
    return Thread.open(options, new URL(`data:text/javascript,${encodeURIComponent(text)}`))
  }
  const doneBy = (program: string): Promise<Exit.Exit<unknown, unknown>> =>
    Effect.runPromiseExit(Effect.scoped(Effect.flatMap(doing(program), (thread) => thread.run(job))))

  test("that ends on its own is a failure", async () => {
    const exit = await doneBy("process.exit(7)")
    expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({
      message: "A thread that replays ended on its own, with exit code 7.",
      exitCode: 1
    })
  })

  test("that throws is a defect, with its message", async () => {
    const exit = await doneBy('throw new Error("planted")')
    expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
    expect(Exit.isFailure(exit) && String(Cause.squash(exit.cause))).toContain("planted")
  })

  test("that never answers ends with its scope", async () => {
    const begun = Effect.tap(doing("for (;;);"), (thread) => Effect.forkChild(thread.run(job)))
    const thread = await Effect.runPromise(Effect.scoped(Effect.tap(begun, () => Effect.yieldNow)))
    const exit = await Effect.runPromiseExit(thread.run(job))
    expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({ exitCode: 1 })
  })

  test("that replays does not keep a command that is interrupted", async () => {
    const started = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<Exit.Exit<unknown, unknown>>()
    const shell = {
      environment: {},
      directory: root,
      input: noInput,
      out: async () => true,
      err: () => started.resolve(),
      errColumns: 80
    }
    // Each replay takes longer than this test.
    const endless = ["--generate", "rate=40,requests=100000,prompt=4000", "--workers", "8", "--jobs", "2"]
    const fiber = Effect.runFork(commandLine(["simulate", ...endless, "--seeds", "2"], shell))
    await started.promise
    fiber.interruptUnsafe()
    fiber.addObserver(ended.resolve)
    const exit = await ended.promise
    expect(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)).toBe(true)
  })
})
