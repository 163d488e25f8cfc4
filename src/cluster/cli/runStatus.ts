import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { statusText } from "../statusText.ts"
import { attempt } from "./attempt.ts"
import type { CliFailure } from "./CliFailure.ts"
import { jsonLine } from "./jsonLine.ts"
import { type AdminFlags, openAdmin } from "./openAdmin.ts"
import { type Shell, write } from "./Shell.ts"

export interface StatusFlags extends AdminFlags {
  readonly json: boolean
}

/** Asks a balancer for its snapshot and shows it. */
export const runStatus = Effect.fnUntraced(function* (
  flags: StatusFlags
): Effect.fn.Return<void, CliFailure, Shell | Scope.Scope> {
  const admin = yield* openAdmin(flags)
  const snapshot = yield* attempt(() => admin.snapshot())
  yield* write(flags.json ? jsonLine(snapshot) : statusText(admin.balancer, flags.address, snapshot))
}, Effect.scoped)
