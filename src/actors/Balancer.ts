import * as Effect from "effect/Effect"
import type { BalancerHost } from "./BalancerHost.ts"
import { type BalancerMessage, type BalancerOrder, isAbout, kindOf, News, slotOf } from "./BalancerMessage.ts"
import { BalancerState } from "./BalancerState.ts"
import { Phase } from "./RequestTable.ts"
import { spawn } from "./runtime/Cell.ts"
import type { Dispatcher } from "./runtime/Dispatcher.ts"

export interface BalancerOptions {
  readonly host: BalancerHost
  readonly dispatcher: Dispatcher
}

/** A request is submitted, starts, ends, and is announced, read, cancelled, untied or failed at most once each: no more news can wait. */
const NEWS_PER_REQUEST = 8
const ORDERS_MAX = 4096
/** How late a deadline may be noticed. */
const TICK_MS = 20

/**
 * The balancer actor: feeds news to the decision core, one message at a time. A new one begins by learning who is there: until the
 * workers have been announced it drops all other news, because the announcement of the requests, which follows, tells them again.
 */
export const startBalancer = (options: BalancerOptions) =>
  Effect.gen(function* () {
    const { dispatcher, host } = options
    const { links, timeScale } = host
    const { timers } = host.options.context
    const { table } = links
    const core = new BalancerState({
      table,
      workers: host.workers,
      totals: host.totals,
      effects: links,
      settleSoon: () => balancer.tell(settle),
      // Rounded up, for timers cut off what is less than a millisecond.
      wakeAt: (atMs) =>
        timers.after(Math.ceil(atMs / timeScale - dispatcher.lookedMs), () => balancer.tell(tick)),
      pipeline: (model) => host.options.pipeline(host.models.nameOf(model)),
      prefixes: (model) => host.prefixesOf(model),
      blockTokens: host.options.blockTokens,
      attemptsMax: host.options.attemptsMax,
      retryBudget: host.options.retryBudget,
      decisions: host.decisions,
      stopwatches: host.stopwatches,
      nowMs: timers.nowMs() * timeScale
    })
    core.draining = host.draining
    let informed = false

    const obey = (order: BalancerOrder, nowMs: number): void => {
      switch (order._tag) {
        case "Tick":
          return core.tick(nowMs)
        case "Settle":
          return core.settle(nowMs)
        case "Load":
          return core.observe(order.worker, order.load, nowMs)
        case "Member":
          return core.member(order.model, order.worker, order.ready, nowMs)
        case "Informed":
          informed = true
          return
        case "Announced":
          return host.coreInformed()
        case "Drain":
          core.draining = true
          return
        case "GiveUp":
          return core.giveUp(nowMs)
        case "Crash":
          throw new Error("crashed on request (fault injection)")
      }
    }
    const learn = (message: number, nowMs: number): void => {
      const slot = slotOf(message)
      const request = table.at(slot)
      if (!informed || request.phase === Phase.free || !isAbout(message, request.stream)) return
      switch (kindOf(message)) {
        case News.submitted:
          return core.submit(slot, nowMs)
        case News.first:
          return core.first(slot, nowMs)
        case News.done:
          return core.done(slot, nowMs)
        case News.failed:
          return core.failed(slot, nowMs)
        case News.cancelled:
          return core.cancel(slot, nowMs)
        case News.announced:
          return core.announce(slot, request.holder?.worker ?? -1, request.tied?.worker ?? -1, nowMs)
        case News.untied:
          return core.untied(slot, nowMs)
        case News.read:
          return core.read(slot, nowMs)
      }
    }
    const balancer = spawn<BalancerMessage>({
      id: "balancer",
      capacity: NEWS_PER_REQUEST * host.options.requestsMax + ORDERS_MAX,
      dispatcher,
      receive: (message) => {
        const nowMs = dispatcher.lookedMs * timeScale
        if (typeof message === "number") learn(message, nowMs)
        else obey(message, nowMs)
      }
    })
    host.coreStarted(core)
    links.balancer = balancer
    host.announceWorkers(() => {
      // The answers to one that has crashed since are no news for its successor, which asks for itself.
      if (links.balancer !== balancer) return
      // Behind the members, which the pool managers have told by now.
      balancer.tell(informedNow)
      links.announce()
      balancer.tell(announced)
    })
    const cancel = timers.every(TICK_MS / timeScale, () => {
      if (table.size > 0) balancer.tell(tick)
    })
    yield* Effect.addFinalizer(() => Effect.sync(cancel))
    return balancer
  })

const tick: BalancerOrder = { _tag: "Tick" }
const informedNow: BalancerOrder = { _tag: "Informed" }
const announced: BalancerOrder = { _tag: "Announced" }
const settle: BalancerOrder = { _tag: "Settle" }
