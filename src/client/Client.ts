import { Reason } from "../domain/Outcome.ts"
import { bunTransport } from "../protocol/BunTransport.ts"
import { defaultLimits, type Limits } from "../protocol/Limits.ts"
import { systemTimers, type Timers } from "../protocol/Timers.ts"
import type { Transport } from "../protocol/Transport.ts"
import { Turn } from "../protocol/Turn.ts"
import { hex64 } from "../structures/hex64.ts"
import { type Address, addressIn, formatAddress } from "./address.ts"
import { ConnectFailed } from "./ConnectFailed.ts"
import { credentialIn } from "./credentialIn.ts"
import { factsOf, type GenerateRequest, label } from "./GenerateRequest.ts"
import { type Control, Generation } from "./Generation.ts"
import type { FailedDial } from "./greet.ts"
import { identityIn } from "./identityIn.ts"
import { Link } from "./Link.ts"
import { OpenRequest, type RequestListener } from "./OpenRequest.ts"
import { type RandomU32, randomU32 } from "./randomU32.ts"
import type { Reconnect } from "./Redial.ts"

/** Each is a file descriptor of this process, and of the balancer's. */
const CONNECTIONS_MAX = 1024
/** How often deadlines are checked while requests are open. */
const SWEEP_MS = 50

/** What a connection counts when its peer has stood still or cannot be reached: no rule is broken by who is gone. */
const outages = new Set(["greeting_timeout", "frame_timeout", "silent", "slow_consumer"])

export interface ClientOptions {
  /** Of the balancer. */
  readonly address: string | Address
  /** Used for requests that name none. */
  readonly tenant?: string | undefined
  readonly credential?: string | undefined
  /** How this client calls itself; left out, a name with a random part. A credential of `config key` is for one name. */
  readonly identity?: string | undefined
  /** TCP connections, used in turn, 1,024 at most; 1 is the default and enough for most. */
  readonly connections?: number | undefined
  /** Most requests held at once, 65,536 by default; one more is rejected with `limit`. */
  readonly requestsMax?: number | undefined
  /** How long a connection may take to be made, greeting included; 5 s by default. */
  readonly connectMs?: number | undefined
  /** By default 8 attempts, 25 ms doubling to 2 s. */
  readonly reconnect?: Partial<Reconnect> | undefined
  readonly limits?: Limits | undefined
  readonly transport?: Transport | undefined
  readonly timers?: Timers | undefined
  readonly turn?: Turn | undefined
  readonly randomU32?: RandomU32 | undefined
}

const reconnectDefault: Reconnect = { attemptsMax: 8, baseMs: 25, capMs: 2_000 }

/** A timer that is set for longer goes off at once. */
const TIMER_MS_MAX = 2 ** 31 - 1

/**
 * Connects to a balancer. Rejects with `ConnectFailed` when the first try fails, and with a `RangeError` for options that cannot be meant;
 * later losses are made good by themselves.
 */
export const connect = async (options: ClientOptions): Promise<Client> => {
  const client = new Client(options)
  await client.open()
  return client
}

/**
 * Sends requests to a balancer over a few TCP connections, each shared by many requests.
 *
 * Every request ends exactly once: nothing is thrown for what can happen in operation. What the balancer may send is checked, token by
 * token; a broken rule is counted and ends the request it concerns.
 */
export class Client {
  /** Rules the balancer broke. Anything but 0 is a defect of the cluster. */
  protocolViolations = 0
  /** The last one, for a log line. */
  lastViolation = ""
  private readonly address: Address
  private readonly tenant: string | undefined
  private readonly requestsMax: number
  private readonly timers: Timers
  private readonly turn: Turn
  private readonly randomU32: RandomU32
  private readonly links: ReadonlyArray<Link>
  private nextLink = 0
  private openCount = 0
  private stopSweeping: (() => void) | undefined
  private closing: Promise<void> | undefined

  /** Makes a client that is not connected yet; `connect` does both. */
  constructor(options: ClientOptions) {
    this.address = addressIn(options)
    this.tenant = label("tenant", options.tenant)
    this.requestsMax = within("requestsMax", options.requestsMax ?? 65_536, 1)
    this.timers = options.timers ?? systemTimers
    this.turn = options.turn ?? new Turn()
    this.randomU32 = options.randomU32 ?? randomU32
    const incarnation = this.randomU32()
    const identity = identityIn(options, `client-${incarnation.toString(16)}`)
    const violation = (hint: string) => {
      this.protocolViolations++
      this.lastViolation = hint
    }
    const greeting = {
      transport: options.transport ?? bunTransport,
      context: {
        turn: this.turn,
        timers: this.timers,
        limits: options.limits ?? defaultLimits,
        violation: (kind: string, hint: string) => {
          if (!outages.has(kind)) violation(`${kind}: ${hint}`)
        }
      },
      address: this.address,
      connectMs: within("connectMs", options.connectMs ?? 5_000, 1, TIMER_MS_MAX),
      hello: { role: "client" as const, identity, incarnation },
      credential: credentialIn(options)
    }
    const reconnect = reconnectOf(options.reconnect)
    const count = within("connections", options.connections ?? 1, 1, CONNECTIONS_MAX)
    if (!Number.isInteger(count)) throw new RangeError("connections must be an integer")
    this.links = Array.from(
      { length: count },
      () => new Link({ greeting, reconnect, randomU32: this.randomU32, violation })
    )
  }

  /** Makes all connections that do not stand, at once. Rejects with `ConnectFailed` when one cannot be made: then the client is closed. */
  async open(): Promise<void> {
    const failures = await Promise.all(
      this.links.map((link) => {
        const { promise, resolve } = Promise.withResolvers<FailedDial | undefined>()
        link.open(resolve)
        return promise
      })
    )
    const failure = failures.find((each) => each !== undefined)
    if (failure === undefined) return
    await this.close()
    throw new ConnectFailed({ address: formatAddress(this.address), ...failure })
  }

  /** Models the balancer served when it was last greeted. */
  get models(): ReadonlyArray<string> {
    return this.links[0]!.models
  }

  /** Whether some connection stands. A lost one is made again when a request needs it. */
  get isConnected(): boolean {
    return this.links.some((link) => link.isOpen)
  }

  /** Requests that have not ended. */
  get inFlight(): number {
    return this.openCount
  }

  /** Sends a request whose tokens are read one by one. Throws a `RangeError` for a request that cannot be meant. */
  generate(request: GenerateRequest): Generation {
    const { signal } = request
    const generation = new Generation((listener) => this.begin(request, undefined, listener, true))
    if (signal !== undefined) cancelWith(signal, generation)
    return generation
  }

  /**
   * Sends a request and calls `listener` as things happen, with no promise and no object per token: for load generators and gateways.
   * Tokens count as read when they are handed over. Throws as `generate` does.
   */
  start(request: GenerateRequest, listener: RequestListener): Pick<Control, "id" | "cancel"> {
    return this.begin(request, request.signal, listener, false)
  }

  /** Ends every request as cancelled, also those that come later, says GOODBYE, and waits until the sockets are gone (5 s at most). */
  close(): Promise<void> {
    if (this.closing === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>()
      // First of all: who hears that a request has ended may make another one.
      this.closing = promise
      let open = this.links.length
      const gone = () => {
        if (--open === 0) resolve()
      }
      for (const link of this.links) link.close(gone)
    }
    return this.closing
  }

  private begin(
    request: GenerateRequest,
    signal: AbortSignal | undefined,
    listener: RequestListener,
    paced: boolean
  ): Control {
    const link = this.pickLink()
    const open = new OpenRequest({
      idHigh: this.randomU32(),
      idLow: this.randomU32(),
      facts: factsOf(request, this.tenant),
      listener,
      paced,
      nowMs: this.timers.nowMs(),
      release: () => {
        signal?.removeEventListener("abort", cancel)
        this.release()
      }
    })
    const cancel = () => link.cancel(open)
    this.hold()
    if (this.closing !== undefined)
      this.later(() => open.fail(Reason.cancelled, "the client is closed", this.timers.nowMs()))
    else if (this.links.reduce((sum, each) => sum + each.size, 0) >= this.requestsMax) {
      this.later(() =>
        open.reject(Reason.limit, 100, `${this.requestsMax} requests are held`, this.timers.nowMs())
      )
    } else if (signal?.aborted === true) this.later(cancel)
    else {
      signal?.addEventListener("abort", cancel)
      link.submit(open)
    }
    return { id: hex64(open.idHigh, open.idLow), cancel, read: (count) => link.read(open, count) }
  }

  /** After the call that asked for it, and in the order of asking. */
  private later(run: () => void): void {
    this.turn.soon({ run })
  }

  /** The next link in turn. If it has lost its connection and another one has not, that one, while this one's is made again. */
  private pickLink(): Link {
    const { links } = this
    const first = this.nextLink
    const due = links[first]!
    this.nextLink = (first + 1) % links.length
    for (let i = 0; i < links.length; i++) {
      const link = links[(first + i) % links.length]!
      if (!link.isOpen) continue
      due.reopen()
      return link
    }
    return due
  }

  private hold(): void {
    this.openCount++
    this.stopSweeping ??= this.timers.every(SWEEP_MS, () => {
      const nowMs = this.timers.nowMs()
      for (const link of this.links) link.sweep(nowMs)
    })
  }

  private release(): void {
    this.openCount--
    if (this.openCount > 0) return
    this.stopSweeping?.()
    this.stopSweeping = undefined
  }
}

/** Not only its request: the iteration ends with it. */
const cancelWith = (signal: AbortSignal, generation: Generation): void => {
  if (signal.aborted) return generation.cancel()
  const cancel = () => generation.cancel()
  signal.addEventListener("abort", cancel)
  void generation.ended.then(() => signal.removeEventListener("abort", cancel))
}

const reconnectOf = (given: Partial<Reconnect> | undefined): Reconnect => {
  const { attemptsMax, baseMs, capMs } = { ...reconnectDefault, ...given }
  return {
    attemptsMax: within("reconnect.attemptsMax", attemptsMax, 1),
    baseMs: within("reconnect.baseMs", baseMs, 0, TIMER_MS_MAX),
    capMs: within("reconnect.capMs", capMs, 0, TIMER_MS_MAX)
  }
}

/** The value itself. NaN is in no range. */
const within = (option: string, value: number, min: number, max = Infinity): number => {
  if (value >= min && value <= max) return value
  throw new RangeError(`${option} must be ${max === Infinity ? `at least ${min}` : `from ${min} to ${max}`}`)
}
