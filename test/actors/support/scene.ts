import { VirtualNode } from "./VirtualNode.ts"

/** A balancer with one worker and one client. */
export const scene = () => {
  const node = new VirtualNode()
  const worker = node.worker("w0")
  const client = node.client()
  return { node, worker, client }
}

/** Fills the mailbox of the pool's manager. */
export const overload = (node: VirtualNode): void => {
  const manager = node.managers.get("sim")!
  while (manager.tell({ _tag: "Check" }) === "accepted");
}
