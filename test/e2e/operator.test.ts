import { afterAll, beforeAll, expect, test } from "bun:test"
import { type Client, connect } from "../../src/client/index.ts"
import type { BalancerSnapshot } from "../../src/domain/Snapshot.ts"
import { run } from "../cluster/support/commands.ts"
import { ClusterProcess, eventually } from "../support/ClusterProcess.ts"

const secret = "a-secret-for-operators"

let cluster: ClusterProcess
let client: Client
beforeAll(async () => {
  cluster = await ClusterProcess.start(["--workers", "2"], { PARALLAX_AUTH_ADMINS: secret })
  client = await connect({ address: cluster.ready.tcp })
}, 30_000)
afterAll(async () => {
  await client.close()
  await cluster.stop()
}, 30_000)

const operate = (...args: ReadonlyArray<string>) =>
  run([...args, "--address", cluster.ready.tcp], { PARALLAX_AUTH_ADMINS: secret })

const status = async (): Promise<BalancerSnapshot> => JSON.parse((await operate("status", "--json")).out)

test("the status of a cluster is for those with a credential", async () => {
  const { tcp } = cluster.ready
  const shown = await operate("status")
  expect(shown).toMatchObject({ exitCode: 0, err: "" })
  expect(shown.out).toStartWith(`parallax at ${tcp}: up `)
  expect(shown.out).toMatch(/^sim-1 +sim .*ready +0 of 256 /m)
  const given = await run(["status", "--json", "--address", tcp, "--credential", secret])
  expect(JSON.parse(given.out)).toMatchObject({ models: [{ name: "sim" }] })
  expect(await run(["status", "--address", tcp])).toMatchObject({
    exitCode: 1,
    out: "",
    err: expect.stringMatching(
      /goodbye: unauthorized \(.*\)\. Set .* PARALLAX_AUTH_ADMINS, to a credential that it knows\.\n$/
    )
  })
}, 30_000)

test("a credential that config key has written lets in the one name that it is for", async () => {
  const key = (await run(["config", "key", "admin", "ops"], { PARALLAX_AUTH_ADMINS: secret })).out.trim()
  const as = (...name: ReadonlyArray<string>) =>
    run(["status", "--address", cluster.ready.tcp, "--credential", key, ...name])
  expect(await as("--name", "ops")).toMatchObject({ exitCode: 0, err: "" })
  for (const name of [["--name", "others"], []])
    expect(await as(...name)).toMatchObject({ exitCode: 1, err: expect.stringContaining("unauthorized") })
  expect(await as("--name", "o p s")).toMatchObject({
    exitCode: 2,
    err: expect.stringContaining("--name")
  })
}, 30_000)

test("a worker that is drained finishes what it has, and is started anew", async () => {
  const before = (await status()).workers.find(({ name }) => name === "sim-1")!
  const generations = Array.from({ length: 20 }, (_, i) =>
    client.generate({ prompt: `request ${i}`, maxTokens: 300 })
  )
  const seen = generations.map((generation) => generation.collect())
  await Promise.all(generations.map(({ admitted }) => admitted))
  const ran = await operate("drain", "sim-1", "--wait")
  expect(ran).toMatchObject({ exitCode: 0, err: "" })
  expect(ran.out).toMatch(/^sim-1 drains: \d+ requests? to finish\.\nsim-1 has finished\.\n$/)
  for (const { ending } of await Promise.all(seen))
    expect(ending).toMatchObject({ outcome: "done", tokens: 300 })
  await eventually("a new sim-1", async () =>
    (await status()).workers.find(
      ({ incarnation, name, state }) =>
        name === "sim-1" && state === "ready" && incarnation !== before.incarnation
    )
  )
}, 60_000)

test("of two workers with one name the later one stays, and the other ends and says why", async () => {
  const { tcp } = cluster.ready
  const named = () => run(["worker", "--address", tcp, "--name", "by-hand"], {})
  const started = async () => (await status()).workers.find(({ name }) => name === "by-hand")
  const first = named()
  const { incarnation } = await eventually("the first one", started)
  const second = named()
  expect(await first).toMatchObject({
    exitCode: 1,
    out: "",
    err: expect.stringContaining("Another worker is called by-hand. Give each one a --name of its own.\n")
  })
  const left = await eventually("the second one", started)
  expect(left).toMatchObject({ state: "ready" })
  expect(left.incarnation).not.toBe(incarnation)
  expect(await operate("drain", "by-hand")).toMatchObject({ exitCode: 0 })
  expect(await second).toMatchObject({ exitCode: 0 })
}, 30_000)

test("a cluster on an IPv6 address is reached under the addresses it prints", async () => {
  await using other = await ClusterProcess.start(["--workers", "1"], { PARALLAX_LISTEN_HOST: "::1" })
  const { http, tcp } = other.ready
  expect([tcp, http]).toEqual([
    expect.stringMatching(/^\[::1\]:\d+$/),
    expect.stringMatching(/^\[::1\]:\d+$/)
  ])
  expect(await run(["client", "--address", tcp, "--max-tokens", "1", "Hello"])).toMatchObject({
    exitCode: 0,
    err: expect.stringMatching(/^\n1 token in /)
  })
  expect((await fetch(`http://${http}/readyz`)).status).toBe(200)
  expect(await other.stop()).toBe(0)
}, 30_000)
