import type { WorkerSnapshot } from "../domain/Snapshot.ts"

/** Workers told apart. */
const WORKERS_MAX = 64

/**
 * Which workers go by their own names, the others being summed up. A worker keeps its name for as long as it is there, and one that is
 * summed up gets its own when there is room. Memory: 64 names.
 */
export class NamedWorkers {
  private readonly names = new Set<string>()

  update(workers: ReadonlyArray<WorkerSnapshot>): void {
    const present = new Set(workers.map(({ name }) => name))
    for (const name of this.names) if (!present.has(name)) this.names.delete(name)
    for (const name of present) {
      if (this.names.size === WORKERS_MAX) return
      this.names.add(name)
    }
  }

  readonly has = ({ name }: WorkerSnapshot): boolean => this.names.has(name)
}

/** What a worker was last seen to have counted, and in which of its lives. */
interface Count {
  readonly value: number
  readonly incarnation: number
}

/** The sum of what workers count, which keeps what those counted who left or began anew. Memory: one entry a worker. */
export class LastingSum {
  private readonly read: (worker: WorkerSnapshot) => number
  private counts: ReadonlyMap<string, Count> = new Map()
  private sum = 0

  constructor(read: (worker: WorkerSnapshot) => number) {
    this.read = read
  }

  /** The sum with what these workers have counted since it was asked for last; those who were among them then have left. */
  of(workers: ReadonlyArray<WorkerSnapshot>): number {
    const counts = new Map<string, Count>()
    for (const worker of workers) {
      const { incarnation, name } = worker
      const value = this.read(worker)
      const before = this.counts.get(name)
      // One that has connected again says nothing before its first heartbeat.
      if (before?.incarnation === incarnation && value < before.value) {
        counts.set(name, before)
        continue
      }
      this.sum += before === undefined || value < before.value ? value : value - before.value
      counts.set(name, { value, incarnation })
    }
    this.counts = counts
    return this.sum
  }
}
