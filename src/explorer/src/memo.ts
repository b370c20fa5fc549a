// A component that is drawn again only when one of its properties changes.
import { Component, type ComponentChildren, type FunctionComponent } from "preact";

export function memo<P extends object>(draw: (props: P) => ComponentChildren): FunctionComponent<P> {
  class Kept extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const keys = new Set([...Object.keys(next), ...Object.keys(this.props)]) as Set<keyof P>;
      return [...keys].some((key) => next[key as keyof typeof next] !== this.props[key as keyof typeof this.props]);
    }
    override render(): ComponentChildren { return draw(this.props as P); }
  }
  return Kept as unknown as FunctionComponent<P>;
}
