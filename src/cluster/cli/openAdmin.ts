import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type AdminConnection, connectAdmin } from "../../client/index.ts"
import { readAddress } from "../readAddress.ts"
import { opened } from "./attempt.ts"
import type { CliFailure } from "./CliFailure.ts"
import { credentialIn } from "./credentialIn.ts"
import { Shell } from "./Shell.ts"

/** What `adminFlags` give. */
export interface AdminFlags {
  readonly address: string
  readonly name: string | undefined
  readonly credential: string | undefined
}

/** Connects to a balancer as an operator, until the scope ends. */
export const openAdmin = Effect.fnUntraced(function* ({
  address,
  credential,
  name
}: AdminFlags): Effect.fn.Return<AdminConnection, CliFailure, Shell | Scope.Scope> {
  const shell = yield* Shell
  yield* readAddress(address)
  const secret = credential ?? credentialIn(shell, "ADMINS")
  return yield* opened(() => connectAdmin({ address, identity: name, credential: secret }))
})
