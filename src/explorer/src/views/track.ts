// The part of a view that stays above its text while that scrolls.
import { useLayoutEffect, useRef } from "preact/hooks";

/** The height of the part that stays above the text, so that what is scrolled to lies below it. */
export function useTrackHeight(): { current: HTMLDivElement | null } {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const track = ref.current, root = document.documentElement;
    if (!track) return;
    const measure = () => root.style.setProperty("--track", `${getComputedStyle(track).position === "sticky" ? track.offsetHeight : 0}px`);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(track);
    return () => { observer.disconnect(); root.style.removeProperty("--track"); };
  }, []);
  return ref;
}
