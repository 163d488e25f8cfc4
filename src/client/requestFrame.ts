import { encodeFrame, pack } from "../protocol/Codec.ts"
import { Flag, Type } from "../protocol/Header.ts"
import { packExtras } from "../protocol/Message.ts"
import { NameTable } from "./NameTable.ts"
import type { OpenRequest } from "./OpenRequest.ts"

/** The names one connection has numbers for. */
export class ConnectionNames {
  readonly models = new NameTable()
  readonly tenants = new NameTable()
}

/** The REQUEST frame of a request that leaves now. Gives numbers to names that had none, so it must be sent, or they be forgotten. */
export const requestFrame = (
  request: OpenRequest,
  { models, tenants }: ConnectionNames,
  model: string,
  stream: number,
  nowMs: number
): Buffer => {
  const { facts } = request
  const { tenant, prompt, outputTokens } = facts
  const knownModel = models.known(model)
  const knownTenant = tenant === undefined ? 0 : tenants.known(tenant)
  const extras = {
    modelName: knownModel === undefined ? model : null,
    tenantName: knownTenant === undefined ? tenant! : null,
    idempotencyKey: null
  }
  const hasExtras = Object.values(extras).some((extra) => extra !== null)
  const routing = {
    ...facts,
    idHigh: request.idHigh,
    idLow: request.idLow,
    model: knownModel ?? models.define(model),
    tenant: knownTenant ?? tenants.define(tenant!),
    timeoutMs: request.deadlineMs === Infinity ? 0 : Math.max(1, Math.ceil(request.deadlineMs - nowMs))
  }
  const body = {
    chain: facts.chain,
    extras: hasExtras ? packExtras(extras) : undefined,
    payload: pack(outputTokens === undefined ? { prompt } : { prompt, outputTokens })
  }
  const flags = (hasExtras ? Flag.extras : 0) | (facts.retry === "none" ? Flag.sideEffects : 0)
  return encodeFrame(Type.request, { stream, flags }, body, routing)
}
