import type { Ending } from "./Ending.ts"
import type { RequestListener } from "./OpenRequest.ts"

/** One or more tokens of an answer. */
export interface Token {
  /** 0-based, of the first token in `text`. */
  readonly index: number
  readonly text: string
  /** How many tokens `text` holds; nearly always 1. */
  readonly count: number
}

/** What a generation needs of its request. */
export interface Control {
  readonly id: string
  readonly cancel: () => void
  /** The reader used `count` tokens. */
  readonly read: (count: number) => void
}

/**
 * One answer as it is produced: an async iterable of its tokens, for one reader, and one ending.
 *
 * Read it to the end or `collect` it: a worker is at most 256 tokens and 64 KiB ahead of its reader, and an answer of which nothing more is
 * read for 30 s, or that is 4,096 tokens behind the worker, ends with `slow_consumer`. The iteration ends without throwing whatever the
 * outcome; `ended` tells it. Leaving the loop early cancels.
 */
export class Generation implements AsyncIterable<Token>, AsyncIterator<Token, undefined> {
  /** Of the request, 16 hexadecimal digits. */
  readonly id: string
  /** True once the balancer has taken the request in, false when it ended without. Never rejects. */
  readonly admitted: Promise<boolean>
  /** How it ended. Resolves for every outcome and never rejects. */
  readonly ended: Promise<Ending>
  private readonly control: Control
  /** Tokens not read yet, the next one last; bounded by the credit. */
  private unread: Array<Token> = []
  private arrived: Array<Token> = []
  private waiter: ((result: IteratorResult<Token, undefined>) => void) | undefined
  private over = false

  constructor(start: (listener: RequestListener) => Control) {
    const admitted = Promise.withResolvers<boolean>()
    const ended = Promise.withResolvers<Ending>()
    this.admitted = admitted.promise
    this.ended = ended.promise
    this.control = start({
      text: true,
      admitted: () => admitted.resolve(true),
      token: (index, count, text) => this.arrive({ index, text, count }),
      ended: (ending) => {
        admitted.resolve(false)
        ended.resolve(ending)
        this.finish()
      }
    })
    this.id = this.control.id
  }

  /** Gives the answer up. The iteration ends at once; `ended` follows when the balancer has confirmed, with what really happened. */
  cancel(): void {
    this.unread = []
    this.arrived = []
    this.control.cancel()
    this.finish()
  }

  /** Reads everything there is to come. */
  async collect(): Promise<{ readonly text: string; readonly ending: Ending }> {
    let text = ""
    for await (const token of this) text += token.text
    return { text, ending: await this.ended }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** The next token. One call at a time: throws a `TypeError` while another one waits. */
  next(): Promise<IteratorResult<Token, undefined>> {
    if (this.waiter !== undefined)
      throw new TypeError("an answer has one reader: ask for the next token when the one before has come")
    if (this.unread.length === 0 && this.arrived.length > 0) {
      this.unread = this.arrived.toReversed()
      this.arrived = []
    }
    const token = this.unread.pop()
    if (token !== undefined) return Promise.resolve(this.hand(token))
    if (this.over) return Promise.resolve(finished)
    const { promise, resolve } = Promise.withResolvers<IteratorResult<Token, undefined>>()
    this.waiter = resolve
    return promise
  }

  /** Called by the language when a loop is left early. */
  return(): Promise<IteratorResult<Token, undefined>> {
    this.cancel()
    return Promise.resolve(finished)
  }

  private arrive(token: Token): void {
    if (this.over) return
    const waiter = this.waiter
    if (waiter === undefined) this.arrived.push(token)
    else {
      this.waiter = undefined
      waiter(this.hand(token))
    }
  }

  private hand(token: Token): IteratorResult<Token, undefined> {
    this.control.read(token.count)
    return { done: false, value: token }
  }

  private finish(): void {
    this.over = true
    const waiter = this.waiter
    this.waiter = undefined
    waiter?.(finished)
  }
}

const finished: IteratorResult<Token, undefined> = { done: true, value: undefined }
