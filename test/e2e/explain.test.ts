import { afterAll, beforeAll, describe, expect, test } from "bun:test"
import { type Client, connect, connectAdmin } from "../../src/client/index.ts"
import type { Explanation } from "../../src/domain/Explanation.ts"
import { spawn } from "../cluster/support/commands.ts"
import { ClusterProcess } from "../support/ClusterProcess.ts"

const secret = "a-secret-for-explaining"

let cluster: ClusterProcess
let client: Client
beforeAll(async () => {
  cluster = await ClusterProcess.start(["--workers", "3"], {
    PARALLAX_AUTH_CLIENTS: secret,
    PARALLAX_FAULTS_ENABLED: "true"
  })
  client = await connect({ address: cluster.ready.tcp, credential: secret })
}, 30_000)
afterAll(async () => {
  await client.close()
  await cluster.stop()
}, 30_000)

const explain = (id: string, ...more: ReadonlyArray<string>) =>
  spawn(["explain", id, "--address", cluster.ready.http, ...more], { PARALLAX_AUTH_CLIENTS: secret })

const decisionsOf = async (id: string): Promise<Explanation> => {
  const response = await fetch(`http://${cluster.ready.http}/admin/decisions/${id}`, {
    headers: { authorization: `Bearer ${secret}` }
  })
  expect(response.status).toBe(200)
  return (await response.json()) as Explanation
}

describe("a live cluster", () => {
  test("says of every request of a burst why it went where it was answered", async () => {
    const generations = Array.from({ length: 40 }, (_, i) =>
      client.generate({ prompt: `request ${i} `.repeat(50), maxTokens: 4, session: `s${i % 7}` })
    )
    const endings = await Promise.all(
      generations.map(({ ended }, i) => generations[i]!.collect().then(() => ended))
    )
    for (const [i, { id }] of generations.entries()) {
      const ending = endings[i]!
      expect(ending.outcome).toBe("done")
      if (ending.outcome !== "done") continue
      const { decisions, outcome, refused, request } = await decisionsOf(id)
      const last = decisions.at(-1)!
      expect([refused, request.maxTokens, last.chosen]).toEqual([null, 4, ending.worker])
      expect(decisions).toHaveLength(ending.attempts)
      expect(outcome).toMatchObject({ reason: "done", outputTokens: 4, cachedTokens: ending.cachedTokens })
      // The client sees what the balancer sees, and the way there and back.
      expect(outcome!.ttftMs!).toBeLessThanOrEqual(ending.ttftMs! + 1)
      expect(last.workers.map(({ worker }) => worker).toSorted()).toEqual(["sim-0", "sim-1", "sim-2"])
      const candidates = last.workers.filter(({ standing }) => standing === "candidate")
      expect(candidates[0]!.cost).toBeCloseTo(Math.min(...candidates.map(({ cost }) => cost!)), 9)
    }
  }, 30_000)

  test("is asked from the command line with the id that the client printed", async () => {
    const address = ["--address", cluster.ready.tcp]
    const sent = spawn(["client", ...address, "--json", "--max-tokens", "4", "Hello"], {
      PARALLAX_AUTH_CLIENTS: secret
    })
    const { id, worker } = JSON.parse(sent.out) as { readonly id: string; readonly worker: string }
    const { exitCode, out } = explain(id)
    expect(exitCode).toBe(0)
    expect(out).toStartWith(`Request ${id}, `)
    expect(out).toContain(`: predicted-completion picked ${worker}\n`)
    expect(JSON.parse(explain(id, "--json").out)).toMatchObject({ id, outcome: { reason: "done" } })
  }, 30_000)

  test("is asked with the id in the header of POST /generate", async () => {
    const response = await fetch(`http://${cluster.ready.http}/generate`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}` },
      body: JSON.stringify({ prompt: "Hello", maxTokens: 2 })
    })
    const { decisions } = await decisionsOf(response.headers.get("x-request-id")!)
    expect(decisions.at(-1)!.chosen).toBe(response.headers.get("x-parallax-worker"))
  })

  test("remembers after a crash of the balancer actor", async () => {
    const before = client.generate({ prompt: "before", maxTokens: 2 })
    await before.collect()
    const admin = await connectAdmin({ address: cluster.ready.tcp })
    const { restarts } = await admin.snapshot()
    await admin.crashBalancer()
    const after = client.generate({ prompt: "after", maxTokens: 2, retryRejected: 5 })
    await after.collect()
    expect((await admin.snapshot()).restarts).toBe(restarts + 1)
    await admin.close()
    for (const { id } of [before, after])
      expect(await decisionsOf(id)).toMatchObject({ id, outcome: { reason: "done", outputTokens: 2 } })
  })

  test("tells nobody without a credential, and says when nothing is kept", async () => {
    const url = `http://${cluster.ready.http}/admin/decisions/0123456789abcdef`
    expect((await fetch(url)).status).toBe(401)
    expect(explain("0123456789abcdef")).toMatchObject({
      exitCode: 1,
      out: "",
      err: expect.stringMatching(/^Nothing is kept about a request of this id: /)
    })
  })
})
