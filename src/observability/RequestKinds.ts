import { type RequestView, TENANTS_MAX } from "../domain/RequestView.ts"

/** What requests are told apart by. */
type Traits = Pick<RequestView, "model" | "tenant" | "class">

/** Kinds told apart. */
const KINDS_MAX = 32
/** More than there are. */
const CLASSES = 256

/** The requests of one kind since the start of the process: how they ended. */
export class RequestKind {
  /** Undefined for all that are not told apart. */
  readonly traits: Traits | undefined
  done = 0
  failed = 0
  cancelled = 0
  expired = 0
  rejected = 0
  /** Tokens of those that were done, as shares are reckoned: see docs/fairness.md. */
  served = 0

  constructor(traits?: Traits) {
    this.traits = traits
  }

  /** Requests that ended, however. */
  get ended(): number {
    return this.done + this.failed + this.cancelled + this.expired + this.rejected
  }
}

/**
 * Requests by model, tenant and class. The first 32 kinds that come up are told apart for as long as the process runs, because no counter
 * may fall; all others are one kind. A look-up costs one in a map.
 */
export class RequestKinds {
  /** All others, first; then those told apart, in the order in which they came up. */
  readonly all: Array<RequestKind> = [new RequestKind()]
  private readonly known = new Map<number, RequestKind>()

  get others(): RequestKind {
    return this.all[0]!
  }

  of({ class: priority, model, tenant }: Traits): RequestKind {
    const key = (model * TENANTS_MAX + tenant) * CLASSES + priority
    const known = this.known.get(key)
    if (known !== undefined) return known
    if (this.known.size === KINDS_MAX) return this.others
    const kind = new RequestKind({ model, tenant, class: priority })
    this.known.set(key, kind)
    this.all.push(kind)
    return kind
  }
}
