import type { Counts } from "./Tally.ts"

/** How far a replay is. */
export interface Progress extends Counts {
  readonly total: number
}

const BAR_WIDTH_MAX = 24

/** One line of at most `columns` characters; the bar counts ended requests and is left out where there is no room. */
export const progressLine = ({ total, sent, done, failed, rejected }: Progress, columns: number): string => {
  const ended = done + failed + rejected
  const share = total === 0 ? 1 : ended / total
  const troubles = [
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(rejected > 0 ? [`${rejected} rejected`] : [])
  ]
  const text = [`${Math.floor(share * 100)} %`, `${sent}/${total} sent`, `${done} done`, ...troubles].join(
    "  "
  )
  const width = Math.min(BAR_WIDTH_MAX, columns - text.length - 4)
  if (width < 4) return text.slice(0, columns)
  const filled = Math.floor(share * width)
  return `[${"#".repeat(filled)}${".".repeat(width - filled)}]  ${text}`
}
