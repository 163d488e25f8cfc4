import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { connect, connectAdmin } from "../../src/client/index.ts"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import { run, spawn } from "../cluster/support/commands.ts"
import { ClusterProcess, eventually } from "../support/ClusterProcess.ts"

const directory = mkdtempSync(join(tmpdir(), "explain-recording-"))
let cluster: ClusterProcess
beforeAll(async () => {
  cluster = await ClusterProcess.start(["--workers", "3", "--record", join(directory, "it's here")], {
    PARALLAX_FAULTS_ENABLED: "true",
    PARALLAX_MODELS_0_ENGINE_TIME_SCALE: "4"
  })
}, 30_000)
afterAll(async () => {
  await cluster.stop()
  rmSync(directory, { recursive: true })
}, 30_000)

/** What a shell makes of a command line whose words may be in single quotes. */
const wordsOf = (line: string): ReadonlyArray<string> =>
  [...line.matchAll(/(?:'[^']*'|\\'|[^\s'])+/g)].map(([word]) =>
    word.replaceAll(/'([^']*)'|\\(')/g, (_, text: string | undefined, quote: string) => text ?? quote)
  )

test("a request that a client was told of is explained by the recording, with what would have become of it elsewhere", async () => {
  const { http, tcp } = cluster.ready
  const client = await connect({ address: tcp })
  const admin = await connectAdmin({ address: tcp })
  const prompts = [300, 700, 1500].map((words, i) => `prompt ${i} `.repeat(words))
  const sent = prompts.map((prompt) => client.generate({ prompt, maxTokens: 60 }))
  // A balancer that has begun anew has taken over those that are under way, and a worker that is gone leaves its own to others.
  await eventually("three requests under way", async () =>
    (await admin.snapshot()).inFlight === 3 ? true : undefined
  )
  await admin.crashBalancer()
  process.kill(cluster.workerPids()[0]!, "SIGKILL")
  const endings = await Promise.all(sent.map((each) => each.collect().then(() => each.ended)))
  await Promise.all([client.close(), admin.close()])
  const printed = spawn(["client", "--address", tcp, "--json", "--max-tokens", "9", "Hello"])
  const posted = await fetch(`http://${http}/generate`, {
    method: "POST",
    body: JSON.stringify({ prompt: "Hello", maxTokens: 2 })
  })
  await posted.text()
  const ids = [
    ...sent.map(({ id }) => id),
    (JSON.parse(printed.out) as { readonly id: string }).id,
    posted.headers.get("x-request-id")!
  ]

  const line = await eventually("the command for what would have been", async () => {
    const { out } = await run(["explain", ids[3]!, "--address", http])
    return /\n {2}bun run (simulate .*)\n$/.exec(out)?.[1]
  })
  expect(await cluster.stop()).toBe(0)
  const [, trace, ...rest] = /^(simulate --trace .*) (--workers .*)$/.exec(line)!
  expect(rest).toEqual([`--workers 3 --policies predicted-completion --explain ${ids[3]}`])
  const command = wordsOf(trace!)
  const file = command.at(-1)!
  const found = parseTrace(await Bun.file(file).text())
  if (!("trace" in found)) throw new Error(found.join("\n"))
  const { requests } = found.trace
  // Each of them once, as whatever attempt it was answered.
  expect([...found.trace.ids!].map((id) => id.toString(16).padStart(16, "0")).toSorted()).toEqual(
    ids.toSorted()
  )

  for (const [i, id] of ids.entries()) {
    const more = ["--workers", "3", "--explain", id.toUpperCase(), "--json"]
    const ran = await run([...command, ...more])
    expect(ran).toMatchObject({ exitCode: 0, err: "" })
    const { elsewhere, explanation, number } = JSON.parse(ran.out)
    expect(explanation).toMatchObject({ id, outcome: { reason: "done" } })
    expect(explanation.request.promptTokens).toBe(requests[number - 1]!.promptTokens)
    if (endings[i]?.outcome === "done") expect(explanation.outcome.outputTokens).toBe(60)
    const workers = elsewhere.map(({ worker }: { readonly worker: string }) => worker)
    expect(workers.toSorted()).toEqual(["worker-1-0", "worker-1-1", "worker-1-2"])
    expect(workers[0]).toBe(explanation.decisions[0].chosen)
  }
}, 60_000)
