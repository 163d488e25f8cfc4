import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { join, resolve } from "node:path"
import type { BalancerHostOptions } from "../actors/BalancerHost.ts"
import { randomU32 } from "../client/randomU32.ts"
import type { Config } from "../domain/Config.ts"
import { labelPattern } from "../domain/label.ts"
import { type Recorder, startRecorder } from "../observability/Recorder.ts"
import { recordDisk } from "../observability/recordDisk.ts"

/** What a balancer is to record its requests with, and what is missing of them: nothing, unless the configuration names a directory. */
export const startRecording = Effect.fnUntraced(function* ({
  cluster,
  prefixes,
  record
}: Config): Effect.fn.Return<
  Pick<BalancerHostOptions, "recorder"> & Partial<Pick<Recorder, "losses" | "recordedIn">>,
  never,
  Scope.Scope
> {
  if (record.directory === undefined) return {}
  const directory = resolve(record.directory)
  const recorder = yield* startRecorder({
    disk: recordDisk(directory),
    directory,
    name: cluster.name,
    fileBytesMax: record.fileBytesMax,
    filesMax: record.files,
    blockTokens: prefixes.blockTokens,
    share: record.share,
    saltHigh: randomU32(),
    saltLow: randomU32()
  })
  return {
    losses: recorder.losses,
    recordedIn: (arrivedMs) => {
      const name = recorder.recordedIn(arrivedMs)
      return name && join(record.directory!, name)
    },
    recorder: ({ modelName, tenantName }) =>
      recorder.begin({
        tenant: (index) => {
          // The first one is that of requests which name none.
          if (index === 0) return undefined
          const name = tenantName(index)
          return record.tenantNames && labelPattern.test(name) ? name : `t${index}`
        },
        model: (index) => {
          const name = modelName(index)
          return labelPattern.test(name) ? name : `m${index}`
        }
      })
  }
})
