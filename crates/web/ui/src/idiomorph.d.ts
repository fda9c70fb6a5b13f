// idiomorph comes without types of its own; these are the parts that are used.
declare module "idiomorph" {
  interface Callbacks {
    beforeNodeAdded?(node: Node): boolean;
    beforeNodeMorphed?(old: Node, fresh: Node): boolean;
    beforeNodeRemoved?(node: Node): boolean;
    beforeAttributeUpdated?(name: string, element: Element, change: "update" | "remove"): boolean;
  }
  interface Config {
    morphStyle?: "innerHTML" | "outerHTML";
    ignoreActiveValue?: boolean;
    restoreFocus?: boolean;
    callbacks?: Callbacks;
  }
  export const Idiomorph: { morph(old: Element, fresh: Node[], config?: Config): Node[] | undefined };
}
