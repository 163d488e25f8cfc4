import * as fc from "fast-check"
import { closedLoop } from "../../src/simulator/replay/Loop.ts"
import type { ReplayOptions } from "../../src/simulator/replay/Replay.ts"
import { replays, split } from "./replays.ts"

/** Within the time that the traffic of `replays` takes, nearly always. */
const timeMs = fc.integer({ min: 0, max: 8_000 })

const troublesOf = (workers: number) => {
  const worker = fc.nat(workers - 1)
  return fc.record({
    crashes: fc.array(
      fc.record({
        worker,
        atMs: timeMs,
        goneMs: fc.constantFrom(undefined, 0, 50, 3_000),
        silent: fc.boolean()
      }),
      { maxLength: 4 }
    ),
    slowDowns: fc.array(
      fc
        .record({
          worker,
          fromMs: timeMs,
          lastsMs: fc.integer({ min: 1, max: 5_000 }),
          factor: fc.constantFrom(1, 2, 15)
        })
        .map(({ lastsMs, ...rest }) => ({ ...rest, toMs: rest.fromMs + lastsMs })),
      { maxLength: 3 }
    ),
    scaling: fc.option(
      fc.record({
        policy: fc.constantFrom(
          { policy: "queue-driven", options: { drain: 1_000, concurrency: 2, window: 500 } },
          { policy: "target-tracking", options: { concurrency: 1, window: 0 } },
          { policy: "fixed", options: {} }
        ),
        least: fc.integer({ min: 1, max: workers }),
        coldStartMs: fc.constantFrom(0, 700),
        periodMs: fc.constantFrom(250, 1_000)
      }),
      { nil: undefined }
    ),
    clientsMax: fc.constantFrom(undefined, 1, 3, Number.POSITIVE_INFINITY),
    isSplit: fc.boolean()
  })
}

/** Traffic at workers that crash, are slow at times, come and go; of clients that wait for answers, or do not. */
export const troubles: fc.Arbitrary<ReplayOptions> = replays.chain((options) =>
  troublesOf(options.workers.length).map(({ clientsMax, crashes, isSplit, scaling, slowDowns }) => ({
    ...(isSplit ? split(options) : options),
    crashes,
    slowDowns,
    ...(scaling === undefined ? {} : { scaling }),
    workload: clientsMax === undefined ? options.workload : closedLoop(options.workload, { clientsMax })
  }))
)
