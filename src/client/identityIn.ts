import { IDENTITY_RULE, identityPattern } from "../domain/identity.ts"

/** The name that options give, or else `otherwise`. Throws a `RangeError` for what is none. */
export const identityIn = (
  options: { readonly identity?: string | undefined },
  otherwise: string
): string => {
  const identity = options.identity ?? otherwise
  if (typeof identity !== "string" || !identityPattern.test(identity))
    throw new RangeError(`identity must be ${IDENTITY_RULE}`)
  return identity
}
