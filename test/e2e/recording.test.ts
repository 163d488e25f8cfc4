import { afterAll, beforeAll, expect, test } from "bun:test"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Client, connect } from "../../src/client/index.ts"
import type { Trace, TraceRequest } from "../../src/domain/Trace.ts"
import { summarize } from "../../src/domain/Traffic.ts"
import { parseTrace } from "../../src/domain/traces/parseTrace.ts"
import { traceWriters } from "../../src/domain/traces/writeTrace.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { run } from "../cluster/support/commands.ts"
import { ClusterProcess, eventually } from "../support/ClusterProcess.ts"

const REQUESTS = 60
const BLOCK = 256
const SECRET = "xyzzy-plugh"

/** Conversations of three tenants that grow, over one prompt that all of a tenant share; in blocks as the cluster counts them. */
const original = (): Trace => {
  const rng = makeRng(11)
  const sessions = Array.from({ length: 9 }, (_, i) => ({
    session: `conversation-${i}`,
    tenant: i % 3 === 0 ? undefined : `customer-${i % 3}`,
    blocks: [100 * (i % 3), 100 * (i % 3) + 1]
  }))
  let next = 1000
  let arrivalMs = 0
  const requests = Array.from({ length: REQUESTS }, (): TraceRequest => {
    arrivalMs += rng.int(30)
    const { blocks, session, tenant } = sessions[rng.int(sessions.length)]!
    for (let more = rng.int(3); more > 0; more--) blocks.push(next++)
    const promptTokens = blocks.length * BLOCK + rng.int(BLOCK)
    return {
      arrivalMs,
      promptTokens,
      outputTokens: 1 + rng.int(30),
      blocks: [...blocks],
      session,
      tenant,
      model: "sim"
    }
  })
  return { header: { name: "original", kind: "synthetic", blockSize: BLOCK, partialTail: false }, requests }
}

const directory = mkdtempSync(join(tmpdir(), "recording-"))
const recordings = join(directory, "deep", "recordings")
const source = join(directory, "original.jsonl")
let cluster: ClusterProcess
let client: Client

beforeAll(async () => {
  await Bun.write(source, traceWriters["llm-trace/1"].lines(original()).join("\n"))
  cluster = await ClusterProcess.start(["--workers", "2", "--record", recordings], {
    PARALLAX_MODELS_0_ENGINE_TIME_SCALE: "50",
    // Its policies do not look at prefixes: chains are kept for the recording alone.
    PARALLAX_PIPELINE_PRESET: "simple"
  })
  client = await connect({ address: cluster.ready.tcp })
}, 30_000)
afterAll(async () => {
  await client.close()
  await cluster.stop()
  rmSync(directory, { recursive: true })
}, 30_000)

const files = (): ReadonlyArray<string> => readdirSync(recordings).map((name) => join(recordings, name))
const recorded = (): Trace | undefined => {
  const [file] = files()
  if (file === undefined) return undefined
  const found = parseTrace(readFileSync(file, "utf8"))
  if (!("trace" in found)) throw new Error(found.join("\n"))
  return found.trace
}
const ofLength = (count: number) =>
  eventually(`${count} recorded requests`, () => {
    const trace = recorded()
    return trace?.requests.length === count ? trace : undefined
  })
/** Which of them are equal, whatever they are called. */
const alike = (names: ReadonlyArray<unknown>): ReadonlyArray<number> =>
  names.map((name) => names.indexOf(name))
const replayed = async (file: string) => {
  const ran = await run(["replay-live", file, "--address", cluster.ready.tcp, "--json"])
  expect(ran.exitCode).toBe(0)
  return JSON.parse(ran.out) as Record<string, number>
}

test("what a cluster serves is recorded, without a word of it, and can be replayed", async () => {
  const given = original()
  const first = await replayed(source)
  const trace = await ofLength(REQUESTS)

  const lengths = ({ requests }: Trace) =>
    requests.map(({ outputTokens, promptTokens }) => [promptTokens, outputTokens])
  expect(lengths(trace)).toEqual(lengths(given))
  for (const field of ["session", "tenant", "model"] as const)
    expect(alike(trace.requests.map((request) => request[field]))).toEqual(
      alike(given.requests.map((request) => request[field]))
    )
  const blocks = ({ requests }: Trace) => requests.map((request) => request.blocks.length)
  expect(blocks(trace)).toEqual(blocks(given))
  expect(alike(trace.requests.flatMap((request) => request.blocks))).toEqual(
    alike(given.requests.flatMap((request) => request.blocks))
  )
  const { largestTenantShare, repeatedShare, tenants } = summarize(trace)
  expect({ largestTenantShare, repeatedShare, tenants }).toEqual({
    largestTenantShare: summarize(given).largestTenantShare,
    repeatedShare: summarize(given).repeatedShare,
    tenants: 3
  })

  const ended = await client.generate({
    prompt: `the password is ${SECRET} `.repeat(300),
    maxTokens: 9,
    tenant: SECRET,
    session: SECRET
  }).ended
  expect(ended.outcome).toBe("done")
  const cancelled = client.generate({ prompt: SECRET, maxTokens: 4000, tenant: '","in":1,"x":"' })
  for await (const _ of cancelled) break
  await cancelled.ended
  const more = await ofLength(REQUESTS + 2)
  const texts = files().map((file) => readFileSync(file, "utf8"))
  expect(texts.join()).not.toContain(SECRET)
  expect(texts.join()).not.toContain("customer-")
  expect(texts.join()).not.toContain("conversation-")
  expect(texts.join().match(/"end":"[a-z_]+"/g)).toEqual(['"end":"cancelled"'])
  expect(more.requests[REQUESTS]).toMatchObject({ outputTokens: 9, model: "sim" })
  expect(more.requests[REQUESTS]!.blocks.length).toBeGreaterThan(0)
  for (const file of files()) expect(statSync(file).mode & 0o777).toBe(0o600)

  // The recording takes the place of the trace: through sockets, and in virtual time.
  const copy = join(directory, "copy.jsonl.gz")
  expect(await run(["trace", "convert", files()[0]!, copy, "--limit", String(REQUESTS)])).toMatchObject({
    exitCode: 0
  })
  const again = await replayed(copy)
  for (const figure of ["sent", "done", "promptTokens", "outputTokens"])
    expect(again[figure]).toBe(first[figure])
  const policies = ["--policies", "round-robin", "--workers", "2", "--warm-up", "0", "--json"]
  const simulated = await run(["simulate", "--trace", copy, ...policies])
  expect(JSON.parse(simulated.out)).toMatchObject({
    requests: REQUESTS,
    repeatedShare: expect.closeTo(summarize(given).repeatedShare, 3)
  })

  const metrics = await fetch(`http://${cluster.ready.http}/metrics`)
  const losses = (await metrics.text()).split("\n").filter((line) => line.startsWith("parallax_recording_"))
  expect(losses).toEqual(
    ["unwritten", "overtaken", "crowded"].map(
      (reason) => `parallax_recording_losses_total{reason="${reason}"} 0`
    )
  )

  // The last lines are written when the cluster stops.
  const before = recorded()!.requests.length
  await client.generate({ prompt: "hello", maxTokens: 3 }).ended
  expect(await cluster.stop()).toBe(0)
  expect(recorded()!.requests.length).toBeGreaterThan(before)
  expect(await cluster.errors).toMatch(/recorded in \S+: \d+ requests, 1 file; missing: 0/)
}, 30_000)
