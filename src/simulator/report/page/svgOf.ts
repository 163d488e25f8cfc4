import { parse, View } from "vega"
import { compile } from "vega-lite"
import type { Chart } from "./charts.ts"
import { escaped, printable } from "./html.ts"

/** A chart as an element of a page, which a screen reader knows by its title and caption. Same chart, same text. */
export const svgOf = async ({ caption, spec, title }: Chart): Promise<string> => {
  const view = new View(parse(compile(spec).spec), { renderer: "none" })
  const svg = await view.toSVG()
  view.finalize()
  // Inside a page namespaces are known.
  return printable(svg).replace(
    / xmlns="[^"]*" xmlns:xlink="[^"]*" version="1.1" class="marks"/,
    ` role="img" aria-label="${escaped(`${title}. ${caption}`)}"`
  )
}
