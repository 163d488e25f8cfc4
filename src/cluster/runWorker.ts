import * as Effect from "effect/Effect"
import { startWorker, stopped } from "../actors/Worker.ts"
import { randomU32 } from "../client/randomU32.ts"
import { makeCpuBurner } from "../engines/cpuBurner.ts"
import { SimulatedEngine } from "../engines/SimulatedEngine.ts"
import { presets } from "../engines/simulated/CostModel.ts"
import { bunTransport } from "../protocol/BunTransport.ts"
import { type ConnectionContext, isRefusal } from "../protocol/Connection.ts"
import { defaultLimits } from "../protocol/Limits.ts"
import { systemTimers } from "../protocol/Timers.ts"
import { Turn } from "../protocol/Turn.ts"
import { makeRng } from "../structures/Rng.ts"
import { type CliFailure, failed } from "./cli/CliFailure.ts"
import type { WorkerOptions } from "./cli/WorkerOptions.ts"
import { readAddress } from "./readAddress.ts"

/** Runs one worker until it is interrupted, told to drain, loses its name to another one, or, when owned, its standard input ends. */
export const runWorker = (options: WorkerOptions): Effect.Effect<void, CliFailure> =>
  Effect.scoped(
    Effect.gen(function* () {
      const address = yield* readAddress(options.address)
      const turn = new Turn()
      // What answers wrongly is dialled again all the time: it is said once, until a balancer has answered.
      let violation = ""
      const context: ConnectionContext = {
        turn,
        timers: systemTimers,
        limits: defaultLimits,
        violation: (kind, hint) => {
          const line = `heard what breaks the protocol (${kind}): ${hint}`
          if (line !== violation) say(options, line)
          violation = line
        }
      }
      const engine = makeEngine(options, turn)
      let announced = !options.json
      const announceOnce = (): void => {
        if (announced) return
        announced = true
        const { name, model, address } = options
        process.stdout.write(`${JSON.stringify({ ready: true, name, model, address, pid: process.pid })}\n`)
      }
      let wasReplaced = false
      const worker = yield* startWorker({
        name: options.name,
        incarnation: randomU32(),
        engine,
        address,
        transport: bunTransport,
        context,
        credential: options.credential,
        role: options.role,
        rng: makeRng(randomU32()),
        heartbeatMs: options.heartbeatMs,
        lostMs: options.lostMs,
        muted: () => engine.faults.loseHeartbeats,
        onState: (state, why, code) => {
          if (state === "ready") violation = ""
          const balancer = state === "lost" ? ` the balancer at ${options.address}` : ""
          const line = `${state}${balancer}${why === "" ? "" : `: ${why}`}`
          wasReplaced ||= code === "replaced"
          if (isRefusal(code)) complain(options, `${line}${code === "unauthorized" ? REMEDY : ""}`)
          else say(options, line)
          if (state === "ready") announceOnce()
        }
      })
      yield* Effect.addFinalizer(() => {
        worker.drain()
        return Effect.ignore(Effect.timeout(stopped(worker), options.drainTimeoutMs))
      })
      yield* options.owned ? Effect.raceFirst(stopped(worker), orphaned) : stopped(worker)
      if (wasReplaced)
        return yield* failed(`Another worker is called ${options.name}. Give each one a --name of its own.`)
    })
  )

const makeEngine = ({ engine, model }: WorkerOptions, turn: Turn): SimulatedEngine => {
  const { burnCpu, faults, kvCapacityTokens, capacity } = engine
  const simulated = new SimulatedEngine({
    models: [model],
    preset: presets[engine.preset as keyof typeof presets],
    timeScale: engine.timeScale,
    maxNumSeqs: engine.maxSequences,
    maxBatchedTokens: engine.batchTokens,
    transferGbps: engine.transferGbps,
    burn: burnCpu ? makeCpuBurner(systemTimers.nowMs) : undefined,
    ...(kvCapacityTokens === undefined ? {} : { kvCapacityTokens }),
    ...(capacity === undefined ? {} : { capacity }),
    clock: { nowMs: systemTimers.nowMs, after: systemTimers.after, soon: (run) => turn.soon({ run }) },
    rng: makeRng(randomU32()),
    crash: () => process.kill(process.pid, "SIGKILL")
  })
  inject(simulated.faults, faults)
  return simulated
}

/** Faults that were asked for: from the start, or once after a while. */
const inject = (live: SimulatedEngine["faults"], wanted: WorkerOptions["engine"]["faults"]): void => {
  live.slowFactor = wanted.slowFactor
  live.failFastShare = wanted.failFastShare
  live.loseHeartbeats = wanted.loseHeartbeats
  if (wanted.stallAfterMs !== undefined)
    systemTimers.after(wanted.stallAfterMs, () => live.stall(wanted.stallForMs))
  if (wanted.crashAfterMs !== undefined) systemTimers.after(wanted.crashAfterMs, live.crash)
}

/** Our parent holds the other end of our standard input: its end says that the parent is gone, so we leave at once. */
const orphaned = Effect.callback<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.sync(() => process.exit(1))))
  process.stdin.resume()
})

const REMEDY = "; the first credential of auth.workers (PARALLAX_AUTH_WORKERS) must be one of that balancer"

/** A worker is quiet: its parent, or the person who started it, hears when its state changes. */
const say = (options: WorkerOptions, line: string): void => {
  const { log, owned } = options
  if (log.level === "debug" || !owned) complain(options, line)
}

/** What nobody else would say. */
const complain = ({ name, log }: WorkerOptions, line: string): void => {
  if (log.level !== "none") process.stderr.write(`worker ${name} ${line}\n`)
}
