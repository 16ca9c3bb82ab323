/** Whether an element is on the screen, or nearly: what is not can be drawn later. */
export class Sight {
    seen = $state(false)

    /** For `{@attach}`. */
    watch = (element: Element): (() => void) => {
        const observer = new IntersectionObserver((entries) => (this.seen = entries.at(-1)!.isIntersecting), {
            rootMargin: '80px',
        })
        observer.observe(element)
        return () => observer.disconnect()
    }
}
