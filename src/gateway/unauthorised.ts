import { type HttpError, httpError } from "./HttpError.ts"

/** What to say to a request whose bearer credential, or the lack of one, lets nobody in; undefined where it does. */
export const unauthorised = (
  headers: Headers,
  authorised: (credential: string | undefined) => boolean
): HttpError | undefined => {
  const credential = /^Bearer +([\x21-\x7e]+)$/i.exec(headers.get("authorization") ?? "")?.[1]
  if (authorised(credential)) return undefined
  return httpError(401, "unauthorized", "a valid bearer credential is needed", {
    headers: { "www-authenticate": "Bearer" }
  })
}
