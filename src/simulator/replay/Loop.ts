import type { PlannedRequest, Workload } from "./Workload.ts"

/** Clients that wait for an answer before they ask again. */
export interface Loop {
  /** By number: the next request of the same session; -1 for none. */
  readonly followers: Int32Array
  /** By number, of one that follows another: from the end of that until it comes. NaN of one that follows none. */
  readonly thinkMs: Float64Array
  /** Most clients at a time: sessions under way, and requests without one. */
  readonly clientsMax: number
}

export interface LoopOptions {
  readonly clientsMax?: number
  /**
   * What of the time between two requests of a session went by before the answer to the first, given by its number, was there. It is not
   * asked where the think time of the second was recorded.
   */
  readonly answerMs?: (number: number) => number
}

/**
 * The same requests, of clients who wait: each but the first of a session comes so long after the one before has ended, however it
 * ended, as was recorded, or else as was left of the time between them when that had its answer.
 */
export const closedLoop = (
  workload: Workload,
  { answerMs = () => 0, clientsMax = Number.POSITIVE_INFINITY }: LoopOptions
): Workload => {
  const { requests } = workload
  const followers = new Int32Array(requests.length).fill(-1)
  const thinkMs = new Float64Array(requests.length).fill(Number.NaN)
  const latest = new Map<string, number>()
  for (const [number, { arrivalMs, sessionHigh, sessionLow, thinkMs: recordedMs }] of requests.entries()) {
    if (sessionHigh === 0 && sessionLow === 0) continue
    const session = `${sessionHigh}/${sessionLow}`
    const before = latest.get(session)
    latest.set(session, number)
    if (before === undefined) continue
    followers[before] = number
    thinkMs[number] = recordedMs ?? Math.max(0, arrivalMs - requests[before]!.arrivalMs - answerMs(before))
  }
  return { ...workload, loop: { followers, thinkMs, clientsMax } }
}

/** The requests of a workload that wait for no answer, in order, as far as there are clients for them. */
export class Arrivals {
  /** When the next of them may come; infinite where none may before another client has left. */
  nextMs = 0
  private readonly requests: ReadonlyArray<PlannedRequest>
  private readonly loop: Loop | undefined
  private next = -1
  private clients = 0

  constructor({ loop, requests }: Pick<Workload, "loop" | "requests">) {
    this.requests = requests
    this.loop = loop
    this.find()
  }

  /** The number of the next one: its client has come. */
  take(): number {
    const number = this.next
    this.clients++
    this.find()
    return number
  }

  /** A request has ended: the number of the one that its client thinks of then, -1 when the client leaves. */
  ended(number: number): number {
    const follower = this.loop?.followers[number] ?? -1
    if (follower < 0) {
      this.clients--
      this.look()
    }
    return follower
  }

  /** Goes on to the next one that follows none. */
  private find(): void {
    do this.next++
    while (this.isFollower(this.next))
    this.look()
  }

  private isFollower(number: number): boolean {
    const thinkMs = this.loop?.thinkMs[number]
    return thinkMs !== undefined && !Number.isNaN(thinkMs)
  }

  private look(): void {
    const isFull = this.loop !== undefined && this.clients >= this.loop.clientsMax
    this.nextMs = (isFull ? undefined : this.requests[this.next])?.arrivalMs ?? Number.POSITIVE_INFINITY
  }
}
