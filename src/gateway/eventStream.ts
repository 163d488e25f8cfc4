import type { Ending, Generation, Token } from "../client/index.ts"
import { rounding } from "../structures/rounding.ts"
import { errorBody, errorOf } from "./HttpError.ts"

/**
 * A generation as server-sent events: a comment at once, because the response's headers do not leave before its first bytes; one event for
 * each TOKEN; `event: done` or `event: error` last, so that a stream cut short is told from a complete one.
 *
 * Tokens are read as the HTTP client takes them, so its pace reaches the worker. Cancelling the stream cancels the request.
 */
export const eventStream = (generation: Generation): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(": accepted\n\n")),
    pull: async (controller) => {
      const { done, value } = await generation.next()
      controller.enqueue(
        encoder.encode(done === true ? lastEvent(await generation.ended) : tokenEvent(value))
      )
      if (done === true) controller.close()
    },
    cancel: () => generation.cancel()
  })

const encoder = new TextEncoder()

/** JSON has no line breaks, so nothing in a token can end its event. */
const tokenEvent = (token: Token): string => `data: ${JSON.stringify(token)}\n\n`

const lastEvent = (ending: Ending): string =>
  ending.outcome === "done"
    ? `event: done\ndata: ${JSON.stringify(ending, rounding)}\n\n`
    : `event: error\ndata: ${JSON.stringify(errorBody(errorOf(ending)))}\n\n`
