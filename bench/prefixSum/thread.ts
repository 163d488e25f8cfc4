import { placeShared, type SharedMemory } from "./SharedBatch.ts"

/** What a thread is to work on, and as which. */
export interface Task {
  readonly memory: SharedMemory
  readonly thread: number
  readonly batches: number
}

declare const self: Worker

self.addEventListener("message", ({ data: { batches, memory, thread } }: MessageEvent<Task>) => {
  const place = placeShared(memory, thread)
  for (let batch = 0; batch < batches; batch++) place()
  self.postMessage("done", [])
})
