import { describe, expect, test } from "bun:test"
import { connectAdmin } from "../../src/client/index.ts"
import type { ReplayReport } from "../../src/cluster/replay/report.ts"
import { ClusterProcess, eventually } from "../support/ClusterProcess.ts"
import { root } from "../support/repository.ts"

const conversations = "test/fixtures/conversations.jsonl.gz"
/** A machine that stands still for a second is not taken for a lost worker. */
const patient = { PARALLAX_FAILURE_SUSPECT_AFTER: "20 seconds", PARALLAX_FAILURE_LOST_AFTER: "30 seconds" }

const replayLive = async (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Promise<{ readonly report: ReplayReport; readonly exitCode: number }> => {
  const child = Bun.spawn([process.execPath, "src/cluster/main.ts", "replay-live", ...args, "--json"], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
    env: { ...process.env, ...patient, ...env }
  })
  const report = (await new Response(child.stdout).json()) as ReplayReport
  return { report, exitCode: await child.exited }
}

describe("the same 1,000 requests, live and replayed", () => {
  const compared = (timeScale: number, args: ReadonlyArray<string>, env = {}) =>
    replayLive(
      [
        conversations,
        ...["--workers", "8", "--preset", "70b-4xa100", "--time-scale", String(timeScale)],
        ...["--slo-ttft", "5000", "--against-replay", ...args]
      ],
      env
    )

  test.each(["round-robin", "session-affinity", "rendezvous"])(
    "go to the same workers under %s, however busy the machine is",
    async (placement) => {
      const { report, exitCode } = await compared(50, ["--placement", placement], {
        PARALLAX_PIPELINE_PRESET: "simple"
      })
      expect(exitCode).toBe(0)
      expect(report.againstReplay).toMatchObject({ samePlacements: 1, live: { done: 1000 } })
    },
    60_000
  )

  /** Share of the mean TTFT that a machine may be late by for a difference of 5 % to mean something. */
  const LATE_MAX = 0.03
  test.each(["default", "least-connections"])(
    "have a mean TTFT within 5 percent of what replays give by chance under %s, where the machine keeps up",
    async (policy) => {
      for (const timeScale of [20, 10]) {
        const { report } = await compared(timeScale, policy === "default" ? [] : ["--placement", policy])
        const { hopMs, lateMs, live, nudgedTtftMs, samePlacements } = report.againstReplay!
        const [here, there] = [live.ttftMsMean!, nudgedTtftMs.mean!]
        console.log(
          `  ${policy} at time scale ${timeScale}: mean TTFT ${here.toFixed(1)} ms live, ${there.toFixed(1)} ms replayed ` +
            `(${(100 * (here / there - 1)).toFixed(1)} %), ${nudgedTtftMs.low!.toFixed(1)} to ${nudgedTtftMs.high!.toFixed(1)} by chance, ` +
            `same worker ${(100 * samePlacements).toFixed(0)} %; hop ${hopMs.toFixed(1)} ms, late by ${lateMs.toFixed(1)} ms`
        )
        if (lateMs > LATE_MAX * there) continue
        expect(here).toBeWithin(0.95 * nudgedTtftMs.low!, 1.05 * nudgedTtftMs.high!)
        return
      }
      console.log(`  ${policy}: this machine is too busy for the figure to mean anything; it was not checked`)
    },
    120_000
  )
})

describe("the workers' own counters", () => {
  test("are those of the answers where requests are split", async () => {
    const { report, exitCode } = await replayLive(
      [conversations, "--limit", "200", "--time-scale", "50", "--placement", "disaggregated"],
      {
        PARALLAX_MODELS_0_WORKERS: "1",
        PARALLAX_MODELS_0_PREFILL_WORKERS: "2",
        PARALLAX_MODELS_0_DECODE_WORKERS: "2",
        PARALLAX_PIPELINE_PRESET: "simple"
      }
    )
    const { agreement, done, workers } = report
    expect({ exitCode, done, agreement }).toEqual({
      exitCode: 0,
      done: 200,
      agreement: { equal: true, differences: [], abandoned: 0, surplus: [], lost: [] }
    })
    const parts = (role: string, counter: "promptTokens" | "outputTokens"): number =>
      Object.entries(workers).reduce(
        (sum, [name, work]) => sum + (name.startsWith(`sim-${role}:`) ? work[counter] : 0),
        0
      )
    expect(parts("prefill", "promptTokens")).toBeGreaterThan(0)
    expect(parts("decode", "outputTokens")).toBeGreaterThan(0)
    expect([parts("prefill", "outputTokens"), parts("decode", "promptTokens")]).toEqual([0, 0])
  }, 60_000)

  test("of a worker that was killed on the way are said to be lost, and the others still agree", async () => {
    await using cluster = await ClusterProcess.start(["--workers", "3"], {
      ...patient,
      PARALLAX_CLUSTER_TIME_SCALE: "10",
      PARALLAX_MODELS_0_ENGINE_TIME_SCALE: "10"
    })
    const replaying = replayLive([
      ...[conversations, "--limit", "300", "--time-scale", "10"],
      ...["--address", cluster.ready.tcp]
    ])
    const admin = await connectAdmin({ address: cluster.ready.tcp })
    const killing = eventually("work for everyone", async () => {
      const { workers } = await admin.snapshot()
      return workers.every(({ load }) => load.requestsDone >= 5) || undefined
    }).then(() => process.kill(cluster.workerPids()[1]!, "SIGKILL"))
    const [{ report, exitCode }] = await Promise.all([replaying, killing])
    await admin.close()
    await cluster.stop()
    const { agreement, done, failed, rejected } = report
    expect(exitCode).toBe(0)
    expect(done + failed + rejected).toBe(300)
    expect(agreement).toMatchObject({ equal: true, lost: [expect.stringMatching(/^sim-[0-2]$/)] })
  }, 60_000)
})
