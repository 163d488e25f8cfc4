import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ActorRef } from "./ActorRef.ts"
import type { DeadlineWheel } from "./DeadlineWheel.ts"

/** No reply came in time. The message may have been handled, or may be yet. */
export class AskTimeout extends Schema.TaggedError<AskTimeout>()("AskTimeout", {
  actor: Schema.String,
  timeoutMs: Schema.Finite
}) {}

/** The actor is dead, or died before it replied. The message may have been handled. */
export class Terminated extends Schema.TaggedError<Terminated>()("Terminated", { actor: Schema.String }) {}

/** The mailbox is full: the message was not taken. */
export class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", { actor: Schema.String }) {}

/**
 * Tells an actor something and waits for its reply.
 *
 * `make` puts the reply function, or a number it is found by, into the message. Only the first reply counts; one that comes after the
 * deadline, or after the asker was interrupted, does nothing. Needs no fiber of its own.
 */
export const ask = <M, A>(
  ref: ActorRef<M>,
  make: (reply: (answer: A) => void) => M,
  timeoutMs: number,
  wheel: DeadlineWheel
): Effect.Effect<A, AskTimeout | Terminated | MailboxFull> =>
  Effect.callback((resume) => {
    let open = true
    const cleanups: Array<() => void> = []
    const close = () => {
      open = false
      for (const cleanup of cleanups) cleanup()
    }
    const settle = (answer: Effect.Effect<A, AskTimeout | Terminated | MailboxFull>) => {
      if (!open) return
      close()
      resume(answer)
    }
    const told = ref.tell(make((answer) => settle(Effect.succeed(answer))))
    if (told === "full") settle(Effect.fail(new MailboxFull({ actor: ref.id })))
    else if (told === "dead") settle(Effect.fail(new Terminated({ actor: ref.id })))
    else if (open) {
      cleanups.push(
        wheel.add(timeoutMs, () => settle(Effect.fail(new AskTimeout({ actor: ref.id, timeoutMs }))))
      )
      cleanups.push(ref.watch(() => settle(Effect.fail(new Terminated({ actor: ref.id })))))
    }
    return Effect.sync(close)
  })
